//! `tegata bench renew`: a device follows its certificate with another one, as its TA does it.
//!
//! A kur, signed by the key that serves, with the new key's proof and the release's token over both; the
//! answer is confirmed by certConf. Certificates are due: they were issued under a profile of thirty days and are
//! renewed under one of a year with a window of thirty days, so nothing else has to be revoked and no daily limit
//! counts. Both requests of a renewal are measured, each in a closed loop and an open one of its own; what a renewal
//! costs is their sum.

use axum::body::Bytes;
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::{OsRng, PrivateKey, Provider as _, Rng as _};
use tegata_wire::cmp::{
    BodyKind, CERT_REQ_ID, KeyUpdate, MessageToProtect, PkiHeader, ProtectionAlg, RawBody,
    UnverifiedPkiMessage, directory_name, null_dn,
};
use tegata_wire::enrolment::{CertificateOrder, Identity, RenewalToken, SenderKid, token_input};
use tegata_wire::x509::{CertView, DistinguishedName, RawDer, SignatureAlg};

use super::bed::{Bed, Check, Found, OPEN, OPEN_SHARE, WARM_UP, zeros};
use super::bound::{self, Renewal};
use super::check::{self, Certificates, refused};
use super::figures::{self, Measured, Tally};
use super::issue::target;
use super::load::{Ask, Driven, Pace, Refusals, Target};
use super::plant::{self, Device, Nursery, Plant, key};
use super::report::{beside, within};
use super::requests::{Current, certificate_in, issue_to};
use super::served::Served;
use super::subject::Subject;
use super::{PKIXCMP, odd};
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};

/// Length of the answers of the server that does nothing, bytes: the mean of kup and pkiConf.
const ANSWER_LEN_BYTES: usize = 850;
/// Most renewals of a round: keys and requests of all of them are in memory.
const RENEWALS_MAX: u32 = 100_000;

/// Measures and keeps.
///
/// # Errors
/// An answer that is not what it must be; files, processes, processors.
pub fn run(bed: &Bed<'_>) -> Outcome<()> {
    if bed.args.requests > RENEWALS_MAX {
        return Err(Fault::usage(
            "too-many-requests",
            format!("a round has at most {RENEWALS_MAX} renewals"),
            format!("Give --requests {RENEWALS_MAX} or less, and more --rounds."),
        ));
    }
    let many = [1, WARM_UP, OPEN].map(|part| bed.count().div_ceil(part));
    let many = many.iter().sum();
    let nursery = Nursery::with_profile(&bed.path("plant"), "", ("30d", "29d"))?;
    let devices = nursery.devices(bed.devices(), &bed.bar)?;
    bed.bar.set_message("certificates to renew");
    bed.bar.set_length(u64::try_from(many).unwrap_or(0));
    let of = devices.iter().cycle().take(many);
    let kurs = of.map(|device| {
        bed.bar.inc(1);
        let current = issue_to(&nursery, device)?;
        Kur::new(device, &nursery.order, current)
    });
    let kurs = kurs.collect::<Outcome<Vec<_>>>()?;
    let profiles = nursery.dir.join("profiles.toml");
    let plant = nursery.close(devices.iter().map(|device| &device.identity));
    let text = plant::profiles("365d", "30d");
    files::replace(&profiles, text.as_bytes(), Readers::Everyone)?;
    let mut renew = Renew {
        bed,
        plant,
        kurs,
        sample: Vec::new(),
    };
    let subjects = [Subject::CryptoBound, Subject::Nothing, Subject::Renewal];
    let rounds = bed.rounds(&subjects, |subject| renew.measure(subject))?;
    let found = Found {
        ratio_to_crypto_bound: within(&rounds, |round| {
            Some(round.of(Subject::CryptoBound)?.cpu_us / round.of(Subject::Renewal)?.cpu_us)
        }),
        beside: beside(&rounds, &[(Subject::Renewal, Subject::Nothing)]),
        verified_with_openssl: check::with_openssl(
            &renew.plant,
            &renew.sample,
            &bed.path("sample"),
        )?,
        notes: vec![
            "A renewal is two requests, and so is one of the server that does nothing. Alone: two \
             signatures verified (the request's, the new key's), one HMAC, one signature."
                .to_owned(),
        ],
        ..Found::default()
    };
    bed.keep(&bed.results("renew", rounds, found), None)
}

/// A renewal that is to be: everything of it that does not depend on the CA's answer.
struct Kur {
    /// The certificate that serves, and its key.
    current: Current,
    /// The whole message (DER).
    body: Bytes,
    /// What of it the cryptography alone needs.
    bound: Renewal,
}

impl Kur {
    /// The request of a device's TA for a certificate of a new key in place of one that serves.
    ///
    /// Spec: RFC 9483 section 4.1.3
    fn new(device: &Device, order: &CertificateOrder, current: Current) -> Outcome<Self> {
        let new = key()?;
        let alg = SignatureAlg::EcdsaSha256;
        let identity = Identity::from(&device.identity);
        let spki_der = new.public_key().to_spki_der().map_err(odd)?;
        let input = token_input(&AwsLc.sha256(&spki_der), &AwsLc.sha256(&current.der));
        let token = RenewalToken {
            kid: SenderKid::parse(&device.kid).map_err(odd)?,
            mac: AwsLc.hmac_sha256(&device.mac_key, &input),
        };
        let update = KeyUpdate {
            subject: order.subject(&identity).map_err(odd)?,
            san: order.san(&identity).map_err(odd)?,
            spki_der: &spki_der,
            reg_token: &token.to_text(),
            old: &CertView::from_der(&current.der).map_err(odd)?,
        };
        let request = update.to_request().map_err(odd)?;
        let popo = sign(&new, &request)?;
        let bits = alg.signature_to_bits(&popo).map_err(odd)?;
        let body = RawBody::kur(&request, alg, &bits).map_err(odd)?;
        let (message, part) = message(&current, &body, None)?;
        let signature = sign(&current.key, &part)?;
        let body = seal(&current, message, &signature)?;
        Ok(Self {
            body,
            bound: Renewal {
                old: current.key.public_key().clone(),
                part,
                signature,
                new: new.public_key().clone(),
                request,
                popo,
                mac_key: device.mac_key,
                token_input: input,
            },
            current,
        })
    }

    /// The confirmation of the certificate in an answer, and that certificate.
    fn confirmation(&self, answer: &[u8]) -> Outcome<(Bytes, Vec<u8>)> {
        let der = certificate_in(answer).map_err(refused)?;
        let received = UnverifiedPkiMessage::from_der(answer).map_err(odd)?;
        let nonce = received.header().sender_nonce();
        let nonce = nonce.ok_or_else(|| refused("an answer has no nonce".to_owned()))?;
        let transaction = received.header().transaction_id();
        let transaction =
            transaction.ok_or_else(|| refused("an answer has no transaction".to_owned()))?;
        let hash = AwsLc.sha256(&der);
        let body = RawBody::cert_conf(CERT_REQ_ID, &hash, None).map_err(odd)?;
        let (message, part) = message(&self.current, &body, Some((transaction, nonce)))?;
        let signature = sign(&self.current.key, &part)?;
        Ok((seal(&self.current, message, &signature)?, der))
    }
}

fn sign(key: &PrivateKey, bytes: &[u8]) -> Outcome<Vec<u8>> {
    let signer = AwsLc.signer(key).map_err(odd)?;
    signer.sign(bytes).map_err(odd)
}

/// A message of whom a certificate names, and the bytes that its signature is over: of a new transaction, or of
/// one that the CA answered with a nonce.
fn message(
    current: &Current,
    body: &RawBody,
    answered: Option<(&[u8], &[u8])>,
) -> Outcome<(MessageToProtect, Vec<u8>)> {
    let view = CertView::from_der(&current.der).map_err(odd)?;
    let sender = DistinguishedName::from_der(view.subject_der).map_err(odd)?;
    let mut random = [0; 32];
    OsRng.fill(&mut random).map_err(odd)?;
    let (fresh, nonce) = random.split_at(16);
    let transaction = answered.map_or(fresh, |(transaction, _)| transaction);
    let protection = ProtectionAlg::Signature(SignatureAlg::EcdsaSha256);
    let mut header = PkiHeader::new(directory_name(&sender).map_err(odd)?, null_dn())
        .with_transaction_id(transaction)
        .and_then(|h| h.with_sender_nonce(nonce))
        .and_then(|h| h.with_protection(&protection))
        .map_err(odd)?;
    if let Some(kid) = view.subject_key_id().map_err(odd)? {
        header = header.with_sender_kid(kid).map_err(odd)?;
    }
    if let Some((_, nonce)) = answered {
        header = header.with_recip_nonce(nonce).map_err(odd)?;
    }
    let message = MessageToProtect::new(&header, body).map_err(odd)?;
    let part = message.protected_part().map_err(odd)?;
    Ok((message, part))
}

/// The message with its signature and the certificate of the key that made it.
fn seal(current: &Current, message: MessageToProtect, signature: &[u8]) -> Outcome<Bytes> {
    let bits = SignatureAlg::EcdsaSha256.signature_to_bits(signature);
    let extra = [RawDer::from_bytes(&current.der).map_err(odd)?];
    let der = message.into_der(Some(&bits.map_err(odd)?), &extra);
    Ok(Bytes::from(der.map_err(odd)?))
}

/// What one run needs.
struct Renew<'a> {
    bed: &'a Bed<'a>,
    plant: Plant,
    kurs: Vec<Kur>,
    /// A few certificates of each round, for another implementation to verify.
    sample: Vec<Vec<u8>>,
}

impl Renew<'_> {
    fn measure(&mut self, subject: Subject) -> Outcome<Vec<Measured>> {
        let (cpu, dir) = (self.bed.cpus.server, self.bed.path("run"));
        match subject {
            Subject::CryptoBound => {
                let all = self.kurs.iter().map(|kur| &kur.bound);
                let all: Vec<&Renewal> = all.take(self.bed.count()).collect();
                let took = bound::renewals(cpu, &all)?;
                Ok(vec![Measured::alone(subject, took, all.len())])
            }
            Subject::Nothing => {
                let server = Served::nothing(&self.plant.dir, dir, cpu, ANSWER_LEN_BYTES)?;
                let target = target(&server, "/", PKIXCMP, Refusals::Fault);
                let bodies = self.kurs.iter().map(|kur| kur.body.clone());
                let bodies: Vec<Bytes> = bodies.collect();
                let first = self.leg(&server, &target, &bodies, &mut zeros)?;
                let second = self.leg(&server, &target, &bodies, &mut zeros)?;
                Ok(vec![first.then(&second)?.measured(subject)])
            }
            _ => {
                let server = Served::ca(&self.plant.dir, dir, cpu)?;
                self.renewals(&server)
            }
        }
    }

    /// All renewals at a fresh CA: first every kur, then every certConf.
    fn renewals(&mut self, server: &Served) -> Outcome<Vec<Measured>> {
        let path = format!("/.well-known/cmp/p/{}", plant::PROFILE);
        let target = target(server, &path, PKIXCMP, Refusals::Fault);
        let bodies = self.kurs.iter().map(|kur| kur.body.clone());
        let bodies: Vec<Bytes> = bodies.collect();
        let (mut confirmations, mut new) = (Vec::new(), Vec::new());
        let mut check = |_: usize, driven: &Driven| {
            for answer in driven.bodies() {
                let kur = self.kurs.get(confirmations.len());
                let kur = kur.ok_or_else(|| odd("more answers than requests"))?;
                let (confirmation, der) = kur.confirmation(answer)?;
                confirmations.push(confirmation);
                new.push(der);
            }
            Ok(())
        };
        let kur = self.leg(server, &target, &bodies, &mut check)?;
        let mut check = |_: usize, driven: &Driven| {
            driven.bodies().try_for_each(|answer| {
                let message = UnverifiedPkiMessage::from_der(answer).map_err(odd)?;
                match message.kind() {
                    BodyKind::PkiConf => Ok(()),
                    kind => Err(refused(format!(
                        "a confirmation was answered with {kind:?}"
                    ))),
                }
            })
        };
        let conf = self.leg(server, &target, &confirmations, &mut check)?;
        let every = new.len().div_ceil(4).max(1);
        let mut seen = Certificates::default();
        for kur in &self.kurs {
            seen.add(&CertView::from_der(&kur.current.der).map_err(odd)?)?;
        }
        let keys = self.kurs.iter().map(|kur| kur.bound.new.to_spki_der());
        let mut keys = keys.map(|key| key.map_err(odd));
        let new = seen.each(new.into_iter().map(Ok), &mut keys)?;
        self.sample.extend(new.into_iter().step_by(every));
        let mut whole = kur.then(&conf)?.measured(Subject::Renewal);
        whole.rss_bytes_max = Some(server.usage()?.rss_bytes_max);
        Ok(vec![
            kur.measured(Subject::Kur),
            conf.measured(Subject::CertConf),
            whole,
        ])
    }

    /// One request of each renewal: the first to warm up, then those of the closed loop, then those of the open one.
    fn leg(
        &self,
        server: &Served,
        target: &Target,
        bodies: &[Bytes],
        check: Check<'_>,
    ) -> Outcome<Loops> {
        let mut asks = bodies.iter().cloned().map(Ask::Post);
        let count = self.bed.count();
        let closed = Pace::Closed(self.bed.clients());
        let mut from = 0;
        let mut some = |count: usize, pace| {
            let some = (from, count, pace);
            from += count;
            self.bed.sent(server, target, &mut asks, some, check)
        };
        some(count.div_ceil(WARM_UP), closed)?;
        let closed = some(count, closed)?;
        let rate = figures::per_second(count, closed.wall) * OPEN_SHARE;
        let open = some(count.div_ceil(OPEN), Pace::Open(rate))?;
        Ok(Loops { closed, open })
    }
}

/// What came of the requests of one kind, or of both.
struct Loops {
    closed: Tally,
    open: Tally,
}

impl Loops {
    fn then(&self, second: &Self) -> Outcome<Self> {
        let missing = || odd("a request of a renewal is missing");
        Ok(Self {
            closed: self.closed.then(&second.closed).ok_or_else(missing)?,
            open: self.open.then(&second.open).ok_or_else(missing)?,
        })
    }

    /// Both requests one after the other, each at its share of its own rate, are renewals at that share of theirs.
    fn measured(&self, subject: Subject) -> Measured {
        let mut measured = Measured::closed(subject, &self.closed);
        measured.open = figures::open(measured.per_second * OPEN_SHARE, &self.open);
        measured
    }
}
