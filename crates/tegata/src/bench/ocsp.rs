//! `tegata bench ocsp`: the status of certificates, asked for over HTTP.
//!
//! Each device of a CA has a certificate, one in ten of them revoked. What was signed ahead and what is signed
//! for each request are measured apart: a request with a nonce cannot be answered from what is kept. Every
//! answer is looked at: its status octet, and whether what follows the serial number is what the CA said of
//! that certificate, and its request's nonce if that had one; a sample goes to `openssl ocsp`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use axum::body::Bytes;
use base64ct::{Base64, Encoding as _};
use const_oid::ObjectIdentifier;
use der::asn1::{AnyRef, OctetString, OctetStringRef};
use der::{Decode as _, Encode as _, Sequence};
use tegata_authority::UnixSecs;
use tegata_authority::ca::revocation::{FinalReason, Word};
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::ocsp::name_hash_sha1;
use tegata_crypto::{OsRng, Provider as _, PublicKey, Rng as _};
use tegata_store::revocation;
use tegata_wire::ocsp::CertId;
use tegata_wire::x509::CertView;

use super::bed::{Asks, Bed, Found, zeros};
use super::check::refused;
use super::figures::Measured;
use super::issue::target;
use super::load::{Ask, Driven, Pace, Refusals};
use super::plant::{Device, Nursery, Plant};
use super::report::beside;
use super::requests::issue_to;
use super::served::Served;
use super::subject::Subject;
use super::{PROGRAM_LIMIT, odd};
use crate::certificate::to_pem;
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};
use crate::stores::now_secs;
use crate::supervise;

/// Media type of requests. Spec: RFC 6960 appendix C.
pub const OCSP_REQUEST: &str = "application/ocsp-request";
/// Length of the answers of the server that does nothing, bytes: that of a real one.
const ANSWER_LEN_BYTES: usize = 770;
/// One certificate in so many is revoked.
const REVOKED: usize = 10;
/// Most certificates: of so many the CA keeps what it signed.
const CERTIFICATES_MAX: usize = tegata_store::status::KEPT_RESPONSES_MAX;
/// id-pkix-ocsp-nonce. Spec: RFC 9654 section 2.1.
const NONCE: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.48.1.2");
/// Length of a nonce, bytes. Spec: RFC 9654 section 2.1.
const NONCE_LEN_BYTES: usize = 32;

/// OCSPRequest. Spec: RFC 6960 section 4.1.1.
#[derive(Sequence)]
struct RequestSeq<'a> {
    tbs: TbsRequestSeq<'a>,
}

/// TBSRequest.
#[derive(Sequence)]
struct TbsRequestSeq<'a> {
    list: Vec<SingleRequestSeq<'a>>,
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Vec<ExtensionSeq>>,
}

/// Request: one certificate.
#[derive(Sequence)]
struct SingleRequestSeq<'a> {
    cert: AnyRef<'a>,
}

/// Extension, not critical.
#[derive(Sequence)]
struct ExtensionSeq {
    id: ObjectIdentifier,
    value: OctetString,
}

/// OCSPResponse of a success. Spec: RFC 6960 section 4.2.1.
#[derive(Sequence)]
struct ResponseSeq<'a> {
    status: AnyRef<'a>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    bytes: ResponseBytesSeq<'a>,
}

/// ResponseBytes.
#[derive(Sequence)]
struct ResponseBytesSeq<'a> {
    kind: ObjectIdentifier,
    /// DER of BasicOCSPResponse.
    response: &'a OctetStringRef,
}

/// BasicOCSPResponse.
#[derive(Sequence)]
struct BasicResponseSeq<'a> {
    tbs: ResponseDataSeq<'a>,
    algorithm: AnyRef<'a>,
    signature: AnyRef<'a>,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    certs: Option<AnyRef<'a>>,
}

/// ResponseData.
#[derive(Sequence)]
struct ResponseDataSeq<'a> {
    responder: AnyRef<'a>,
    produced_at: AnyRef<'a>,
    responses: AnyRef<'a>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Vec<ExtensionSeq>>,
}

/// A certificate that is asked for.
struct Asked {
    serial: Vec<u8>,
    id: CertId,
    revoked: bool,
    /// The request without a nonce, as a path.
    path: String,
    /// The same, to be posted.
    body: Bytes,
}

/// Measures and keeps.
///
/// # Errors
/// An answer that is wrong; files, processes, processors.
pub fn run(bed: &Bed<'_>) -> Outcome<()> {
    if bed.devices() > CERTIFICATES_MAX {
        return Err(Fault::usage(
            "too-many-devices",
            format!("what is signed ahead is kept for {CERTIFICATES_MAX} certificates"),
            format!("Give --devices {CERTIFICATES_MAX} or less."),
        ));
    }
    let presign = format!("\n[ca.status]\npresign = {}\n", bed.devices());
    let nursery = Nursery::open(&bed.path("plant"), &presign)?;
    let devices = nursery.devices(bed.devices(), &bed.bar)?;
    bed.bar.set_message("certificates");
    let asked: Arc<[Asked]> = devices
        .iter()
        .enumerate()
        .map(|(number, device)| issued(&nursery, device, number.is_multiple_of(REVOKED)))
        .collect::<Outcome<_>>()?;
    let plant = nursery.close(devices.iter().map(|device| &device.identity));
    let mut ocsp = Ocsp {
        bed,
        plant,
        asked,
        sample: Vec::new(),
    };
    let subjects = [
        Subject::Nothing,
        Subject::OcspGet,
        Subject::OcspPost,
        Subject::OcspSigned,
    ];
    let rounds = bed.rounds(&subjects, |subject| Ok(vec![ocsp.measure(subject)?]))?;
    let pairs = [Subject::OcspGet, Subject::OcspPost, Subject::OcspSigned];
    let len_bytes = ocsp
        .sample
        .first()
        .map_or(0, |(_, response)| response.len());
    let found = Found {
        beside: beside(&rounds, &pairs.map(|ours| (ours, Subject::Nothing))),
        verified_with_openssl: ocsp.with_openssl()?,
        notes: vec![format!(
            "{} certificates, one in {REVOKED} revoked; every answer, of some {len_bytes} bytes, told of its \
             certificate what the CA had said.",
            ocsp.asked.len()
        )],
        ..Found::default()
    };
    bed.keep(&bed.results("ocsp", rounds, found), None)
}

/// Has a certificate issued to a device, and revokes it if it is to be.
fn issued(nursery: &Nursery, device: &Device, revoked: bool) -> Outcome<Asked> {
    let issuer = &nursery.issuer;
    let current = issue_to(nursery, device)?;
    let view = CertView::from_der(&current.der).map_err(odd)?;
    let serial = view.serial.to_vec();
    if revoked {
        let word = Word::Revoke(FinalReason::KeyCompromise);
        let what = revocation::Target::Certificate(serial.clone());
        revocation::say(&issuer.role().store, &what, word, UnixSecs(now_secs())).map_err(odd)?;
    }
    let id = cert_id(issuer.issuing_certificate(), &serial)?;
    let body = request_for(&id, None)?;
    Ok(Asked {
        serial,
        revoked,
        path: format!("/ocsp/{}", Base64::encode_string(&body).replace('/', "%2F")),
        body: Bytes::from(body),
        id,
    })
}

/// How a certificate of that issuing CA (DER) is asked for.
fn cert_id(issuing: &[u8], serial: &[u8]) -> Outcome<CertId> {
    let issuing = CertView::from_der(issuing).map_err(odd)?;
    let key = PublicKey::from_spki_der(issuing.spki_der).map_err(odd)?;
    let name = name_hash_sha1(issuing.subject_der);
    CertId::with_sha1(&name, &name_hash_sha1(key.bytes()), serial).map_err(odd)
}

/// A request without a nonce (DER) for a certificate of that issuing CA (DER).
///
/// # Errors
/// A certificate that cannot be read.
pub fn plain_request(issuing: &[u8], serial: &[u8]) -> Outcome<Vec<u8>> {
    request_for(&cert_id(issuing, serial)?, None)
}

/// A request for one certificate (DER).
fn request_for(id: &CertId, nonce: Option<&[u8]>) -> Outcome<Vec<u8>> {
    let extension = |nonce: &[u8]| {
        let inner = OctetString::new(nonce)?.to_der()?;
        Ok::<_, der::Error>(ExtensionSeq {
            id: NONCE,
            value: OctetString::new(inner)?,
        })
    };
    let extension = nonce.map(extension).transpose().map_err(odd)?;
    let cert = AnyRef::from_der(id.der.as_bytes()).map_err(odd)?;
    let request = RequestSeq {
        tbs: TbsRequestSeq {
            list: vec![SingleRequestSeq { cert }],
            extensions: extension.map(|one| vec![one]),
        },
    };
    request.to_der().map_err(odd)
}

/// What one run needs.
struct Ocsp<'a> {
    bed: &'a Bed<'a>,
    plant: Plant,
    asked: Arc<[Asked]>,
    /// A few responses of each subject, and which certificate each is of.
    sample: Vec<(usize, Bytes)>,
}

impl Ocsp<'_> {
    fn measure(&mut self, subject: Subject) -> Outcome<Measured> {
        let (bed, asked) = (self.bed, Arc::clone(&self.asked));
        let (cpu, dir) = (bed.cpus.server, bed.path("run"));
        let many = asked.len();
        let of = |number: usize| asked.get(number % many.max(1));
        if subject == Subject::Nothing {
            let server = Served::nothing(&self.plant.dir, dir, cpu, ANSWER_LEN_BYTES)?;
            let target = target(&server, "/", super::PKIXCMP, Refusals::Fault);
            let mut asks = (0..).map_while(|n| Some(Ask::Post(of(n)?.body.clone())));
            return bed.loops(subject, &server, &target, &mut asks, &mut zeros);
        }
        let server = Served::ca(&self.plant.dir, dir, cpu)?;
        let target = target(&server, "/ocsp", OCSP_REQUEST, Refusals::Fault);
        let every = bed.all().div_ceil(4);
        let sample = &mut self.sample;
        let mut check = |from: usize, driven: &Driven| {
            for answered in &driven.answered {
                let number = from + answered.number;
                let one = of(number).ok_or_else(|| odd("an answer to no request"))?;
                judge(&answered.body, &one.serial, one.revoked)?;
                if number.is_multiple_of(every) {
                    sample.push((number % many.max(1), answered.body.clone()));
                }
            }
            Ok(())
        };
        // What is to be kept is kept before the clock runs: each certificate is asked for once.
        let mut all = asked.iter().map(|one| Ask::Post(one.body.clone()));
        let first = (0, many, Pace::Closed(bed.clients()));
        bed.sent(&server, &target, &mut all, first, &mut check)?;
        match subject {
            Subject::OcspGet => {
                let mut asks = (0..).map_while(|n| Some(Ask::Get(of(n)?.path.clone())));
                bed.loops(subject, &server, &target, &mut asks, &mut check)
            }
            Subject::OcspPost => {
                let mut asks = (0..).map_while(|n| Some(Ask::Post(of(n)?.body.clone())));
                bed.loops(subject, &server, &target, &mut asks, &mut check)
            }
            _ => {
                let nonces = Nonces::new()?;
                let mut asks = WithNonces {
                    asked: Arc::clone(&asked),
                    nonces,
                    number: 0,
                };
                let mut check = |from: usize, driven: &Driven| {
                    for answered in &driven.answered {
                        let nonce = nonces.of(from + answered.number);
                        judge_nonce(&answered.body, &nonce)?;
                    }
                    check(from, driven)
                };
                bed.loops(subject, &server, &target, &mut asks, &mut check)
            }
        }
    }

    /// Has `openssl ocsp` verify the sample; gives how many, or `None` if it is not installed.
    fn with_openssl(&self) -> Outcome<Option<usize>> {
        let dir = self.bed.path("sample");
        files::make_dir(&dir)?;
        let write = |name: &str, bytes: &[u8]| {
            let path = dir.join(name);
            files::replace(&path, bytes, Readers::Everyone)?;
            Ok::<_, Fault>(path)
        };
        let (root, issuing) = (to_pem(&self.plant.root)?, to_pem(&self.plant.issuing)?);
        let anchors = write("anchors.pem", format!("{root}{issuing}").as_bytes())?;
        let issuing = write("issuing.pem", issuing.as_bytes())?;
        let mut good = 0;
        for (number, (of, response)) in self.sample.iter().enumerate() {
            let one = self
                .asked
                .get(*of)
                .ok_or_else(|| odd("a sample of nothing"))?;
            let path = write(&format!("{number}.der"), response)?;
            match openssl(&path, &issuing, &anchors, one)? {
                Some(()) => good += 1,
                None => return Ok(None),
            }
        }
        Ok(Some(good))
    }
}

/// The nonce of each request, made anew when its answer has come: none has to be kept.
#[derive(Clone, Copy)]
struct Nonces {
    key: [u8; 32],
}

impl Nonces {
    fn new() -> Outcome<Self> {
        let mut key = [0; 32];
        OsRng.fill(&mut key).map_err(odd)?;
        Ok(Self { key })
    }

    fn of(&self, number: usize) -> [u8; NONCE_LEN_BYTES] {
        AwsLc.hmac_sha256(&self.key, &number.to_be_bytes())
    }
}

/// Requests for the certificates by turns, each with a nonce of its own.
struct WithNonces {
    asked: Arc<[Asked]>,
    nonces: Nonces,
    number: usize,
}

impl Asks for WithNonces {
    fn take_some(&mut self, at_most: usize) -> Outcome<Vec<Ask>> {
        let mut some = Vec::with_capacity(at_most);
        for _ in 0..at_most {
            let of = self.number % self.asked.len().max(1);
            let one = self.asked.get(of).ok_or_else(|| odd("no certificates"))?;
            let nonce = self.nonces.of(self.number);
            self.number += 1;
            some.push(Ask::Post(Bytes::from(request_for(&one.id, Some(&nonce))?)));
        }
        Ok(some)
    }
}

/// Whether a response is one, and tells of its certificate what the CA said.
///
/// Spec: RFC 6960 section 4.2.1: the status octet comes first; certStatus follows CertID, which ends with the
/// serial number.
///
/// # Errors
/// It is none, or tells something else.
pub fn judge(response: &[u8], serial: &[u8], revoked: bool) -> Outcome<()> {
    let wrong = |what: &str| {
        Err(refused(format!(
            "an OCSP answer {what}: {}",
            hex::encode(response)
        )))
    };
    let outer = AnyRef::from_der(response).ok();
    let inner = outer.as_ref().map(|outer| outer.value());
    let Some([0x0a, 0x01, status, ..]) = inner else {
        return wrong("is no response");
    };
    if *status != 0 {
        return wrong("is not successful");
    }
    let len = serial.len().max(1);
    let at = response.windows(len).position(|some| some == serial);
    let tag = at.and_then(|at| response.get(at + len));
    match (tag, revoked) {
        (Some(0x80), false) | (Some(0xa1), true) => Ok(()),
        (Some(0x80 | 0xa1), _) => wrong("tells another status than the CA said"),
        _ => wrong("tells no status of its certificate"),
    }
}

/// Whether a response has its request's nonce: a signed answer to somebody else has another one, or none.
fn judge_nonce(response: &[u8], nonce: &[u8]) -> Outcome<()> {
    let found = nonce_in(response).map_err(odd)?;
    if found.is_some_and(|found| found.as_bytes() == nonce) {
        return Ok(());
    }
    Err(refused(format!(
        "an OCSP answer has not its request's nonce: {}",
        hex::encode(response)
    )))
}

/// The nonce of a successful response.
fn nonce_in(response: &[u8]) -> der::Result<Option<OctetString>> {
    let outer = ResponseSeq::from_der(response)?;
    let basic = BasicResponseSeq::from_der(outer.bytes.response.as_bytes())?;
    let extensions = basic.tbs.extensions.unwrap_or_default();
    let nonce = extensions.iter().find(|one| one.id == NONCE);
    let inner = nonce.map(|one| OctetString::from_der(one.value.as_bytes()));
    inner.transpose()
}

/// Has openssl verify a response; `None` if it is not installed or does not answer.
fn openssl(path: &Path, issuing: &PathBuf, anchors: &PathBuf, one: &Asked) -> Outcome<Option<()>> {
    let serial = format!("0x{}", hex::encode_upper(&one.serial));
    let mut command = Command::new("openssl");
    command
        .arg("ocsp")
        .arg("-no_nonce")
        .arg("-respin")
        .arg(path);
    command
        .arg("-issuer")
        .arg(issuing)
        .arg("-CAfile")
        .arg(anchors);
    command.args(["-serial", &serial]);
    let output = match supervise::output(command, None, PROGRAM_LIMIT) {
        Ok(output) => output,
        // It is not there, or it hangs: what was measured is worth no less.
        Err(_) => return Ok(None),
    };
    let (said, why) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    let status = if one.revoked { "revoked" } else { "good" };
    let told = said
        .lines()
        .any(|line| line == format!("{serial}: {status}"));
    if output.status.success() && told && why.contains("Response verify OK") {
        return Ok(Some(()));
    }
    Err(refused(format!(
        "openssl refuses an OCSP response, or reads another status in it: {} {}",
        said.trim(),
        why.trim()
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tegata_wire::ocsp::{
        CertStatus, OcspRequest, ResponseBuilder, SingleStatus, assemble_response,
    };
    use tegata_wire::x509::SignatureAlg;

    fn asked() -> Asked {
        let serial = vec![7; 16];
        let id = CertId::with_sha1(&[1; 20], &[2; 20], &serial).unwrap();
        Asked {
            body: Bytes::from(request_for(&id, None).unwrap()),
            path: String::new(),
            serial,
            id,
            revoked: false,
        }
    }

    #[test]
    fn requests_are_what_the_responder_reads() {
        let one = asked();
        let plain = OcspRequest::from_der(&one.body).unwrap();
        assert_eq!(
            (plain.certificates.as_slice(), plain.nonce),
            (&[one.id.clone()][..], None)
        );
        let with = request_for(&one.id, Some(&[9; NONCE_LEN_BYTES])).unwrap();
        let with = OcspRequest::from_der(&with).unwrap();
        assert_eq!(with.nonce.as_deref(), Some([9; NONCE_LEN_BYTES].as_slice()));
    }

    #[test]
    fn another_requests_nonce_is_found() {
        let one = asked();
        let answer = |nonce: Option<&[u8]>| {
            let status = SingleStatus {
                cert: &one.id,
                status: CertStatus::Good,
            };
            let said = ResponseBuilder {
                responder_key_hash: &[3; 20],
                this_update_secs: 1,
                next_update_secs: 2,
                statuses: &[status],
                nonce,
            };
            let (tbs, alg) = (said.to_tbs().unwrap(), SignatureAlg::EcdsaSha256);
            assemble_response(&tbs, alg, &[1; 64], &[0x30, 0]).unwrap()
        };
        let nonces = Nonces::new().unwrap();
        let (mine, other) = (nonces.of(0), nonces.of(1));
        assert!(judge(&answer(Some(&mine)), &one.serial, false).is_ok());
        assert!(judge_nonce(&answer(Some(&mine)), &mine).is_ok());
        for wrong in [Some(&other[..]), Some(&mine[..31]), None] {
            let fault = judge_nonce(&answer(wrong), &mine).unwrap_err();
            assert_eq!(fault.code, "bench-refused", "{wrong:?}");
        }
        assert!(judge_nonce(&[0x30, 3, 0x0a, 1, 6], &mine).is_err());
    }

    #[test]
    fn wrong_answers_are_found() {
        let one = asked();
        let answer = |status: u8, tag: u8| {
            let mut inner = vec![0x0a, 0x01, status, 0x04, 18];
            inner.extend(&one.serial);
            inner.extend([tag, 0]);
            let mut outer = vec![0x30, u8::try_from(inner.len()).unwrap()];
            outer.extend(inner);
            outer
        };
        assert!(judge(&answer(0, 0x80), &one.serial, false).is_ok());
        assert!(judge(&answer(0, 0xa1), &one.serial, true).is_ok());
        for (status, tag) in [(0, 0xa1), (0, 0x82), (1, 0x80), (6, 0x80)] {
            assert!(
                judge(&answer(status, tag), &one.serial, false).is_err(),
                "{status} {tag}"
            );
        }
        assert!(judge(&answer(0, 0x80), &one.serial, true).is_err());
        assert!(judge(b"", &one.serial, false).is_err());
        assert!(judge(&[0; 900], &one.serial, false).is_err());
    }
}
