//! `tegata bench issue --tls`: certificates over TLS, beside an echo of the same stack.
//!
//! CMP is served in clear: its messages protect themselves. TLS is EST's, so a device renews over EST here: it
//! shows its certificate in the handshake (TLS 1.3, both sides authenticated, no resumption) and posts a CSR for a
//! new key to simplereenroll. With a new connection for each request every certificate costs a handshake; the
//! echo is the server that does nothing behind the same TLS, the same checks of the client's path and the same HTTP.

use std::sync::Arc;

use axum::body::Bytes;
use const_oid::ObjectIdentifier;
use der::asn1::AnyRef;
use der::{Decode as _, Encode as _, Sequence};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tegata_crypto::aws_lc::AwsLc;
use tegata_wire::est;
use tegata_wire::x509::{AllegedCsr, CsrBuilder, NameBuilder, SignatureAlg, assemble_csr};

use super::bed::{Bed, Found, zeros};
use super::bound::{self, Signed};
use super::check::{self, Certificates, refused};
use super::figures::Measured;
use super::issue::target;
use super::load::{Clients, Driven, Refusals, Target};
use super::odd;
use super::plant::{self, Nursery, PROFILE, Plant, key};
use super::report::{Aim, Goal, beside, within};
use super::requests::{BOUND_MAX, Current, Spool, Spooler, issue_to};
use super::served::Served;
use super::subject::Subject;
use crate::fault::Outcome;
use crate::files::{self, Readers};

/// Media type of requests. Spec: RFC 5967
const PKCS10: &str = "application/pkcs10";
/// Length of the answers of the server that does nothing, bytes: that of a certs-only answer.
const ANSWER_LEN_BYTES: usize = 1_060;
/// By which name the server's certificate is verified.
const SERVER: &str = "localhost";
/// What stands in the configuration beside the rest: the EST port.
const CONFIG: &str = "\n[ca.est]\nlisten = \"127.0.0.1:0\"\nnames = [\"localhost\"]\n";
/// Length of the bytes that are signed in a certificate.
const TBS_LEN_BYTES: usize = 640;

/// ContentInfo of a certs-only message. Spec: RFC 5652 section 3.
#[derive(Sequence)]
struct ContentInfoSeq<'a> {
    kind: ObjectIdentifier,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    content: SignedDataSeq<'a>,
}

/// SignedData without signers. Spec: RFC 5652 section 5.1.
#[derive(Sequence)]
struct SignedDataSeq<'a> {
    version: u8,
    digests: AnyRef<'a>,
    content: AnyRef<'a>,
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", constructed = "true")]
    certificates: Vec<AnyRef<'a>>,
    signers: AnyRef<'a>,
}

/// Measures and keeps.
///
/// # Errors
/// An answer that is no certificate; files, processes, processors.
pub fn run(bed: &Bed<'_>) -> Outcome<()> {
    let mut over = OverTls::open(bed, bed.all())?;
    let subjects = [
        Subject::CryptoBound,
        Subject::NothingTlsNew,
        Subject::NothingTlsKept,
        Subject::EstNew,
        Subject::EstKept,
    ];
    let rounds = bed.rounds(&subjects, |subject| Ok(vec![over.measure(subject)?]))?;
    let ratio = |of, to| {
        within(&rounds, |round| {
            Some(round.of(of)?.cpu_us / round.of(to)?.cpu_us)
        })
    };
    let pairs = [
        (Subject::EstNew, Subject::NothingTlsNew),
        (Subject::EstKept, Subject::NothingTlsKept),
    ];
    let found = Found {
        ratio_to_crypto_bound: ratio(Subject::CryptoBound, Subject::EstKept),
        beside: beside(&rounds, &pairs),
        targets: vec![Goal::new(
            "CPU of an echo ÷ CPU of a certificate, a new TLS connection for each",
            Aim::AtLeast(0.75),
            ratio(Subject::NothingTlsNew, Subject::EstNew),
        )],
        verified_with_openssl: check::with_openssl(&over.plant, &over.sample, &bed.path("sample"))?,
        notes: vec![
            "EST simplereenroll with the device's certificate in the handshake: CMP is served in clear. Alone: one \
             signature verified, one made; no handshake."
                .to_owned(),
        ],
        ..Found::default()
    };
    bed.keep(&bed.results("issue-tls", rounds, found), None)
}

/// CSRs, each for another key, without names: the CA knows them. Also what of the first of them the cryptography
/// alone needs.
fn requests(bed: &Bed<'_>, count: usize) -> Outcome<(Spool, Vec<Signed>)> {
    bed.bar.set_message("requests");
    bed.bar.set_length(u64::try_from(count).unwrap_or(0));
    let mut spool = Spooler::new(&bed.path("csrs"))?;
    let mut some = Vec::new();
    for _ in 0..count {
        let key = key()?;
        let builder = CsrBuilder {
            subject: NameBuilder::new().build().map_err(odd)?,
            spki_der: key.public_key().to_spki_der().map_err(odd)?,
            san: Vec::new(),
            extensions: Vec::new(),
        };
        let bytes = builder.to_tbs().map_err(odd)?;
        let signer = AwsLc.signer(&key).map_err(odd)?;
        let signature = signer.sign(&bytes).map_err(odd)?;
        let csr = assemble_csr(&bytes, SignatureAlg::EcdsaSha256, &signature).map_err(odd)?;
        spool.put(&est::to_body(&csr))?;
        if some.len() < BOUND_MAX.min(bed.count()) {
            some.push(Signed {
                key: key.public_key().clone(),
                bytes,
                signature,
            });
        }
        bed.bar.inc(1);
    }
    Ok((spool.close()?, some))
}

/// A device as a TLS client: its certificate, its key, the CA's root.
fn config(plant: &Plant, client: &Current) -> Outcome<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from(plant.root.clone()))
        .map_err(odd)?;
    let chain = [client.der.clone(), plant.issuing.clone()].map(CertificateDer::from);
    let pkcs8 = client.key.to_pkcs8_der().map_err(odd)?;
    let key = PrivatePkcs8KeyDer::from(pkcs8.expose_secret().clone());
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(odd)?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain.to_vec(), PrivateKeyDer::Pkcs8(key))
        .map_err(odd)?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

/// What one run needs.
pub struct OverTls<'a> {
    bed: &'a Bed<'a>,
    /// The installation, whose devices have a certificate each.
    pub plant: Plant,
    /// One for each device.
    configs: Vec<Arc<ClientConfig>>,
    /// The requests, of no device in particular.
    pub spool: Spool,
    some: Vec<Signed>,
    /// A few certificates of each server, for another implementation to verify.
    sample: Vec<Vec<u8>>,
}

impl<'a> OverTls<'a> {
    /// Makes the installation, the devices' certificates and so many requests.
    ///
    /// # Errors
    /// Files, keys, stores.
    pub fn open(bed: &'a Bed<'a>, count: usize) -> Outcome<Self> {
        let nursery = Nursery::open(&bed.path("plant"), CONFIG)?;
        let devices = nursery.devices(bed.devices(), &bed.bar)?;
        bed.bar.set_message("certificates of the clients");
        let clients = devices.iter().map(|device| issue_to(&nursery, device));
        let clients = clients.collect::<Outcome<Vec<_>>>()?;
        let (spool, some) = requests(bed, count)?;
        let plant = nursery.close(devices.iter().map(|device| &device.identity));
        let profile = plant::profiles("365d", "30d").replace(
            "daily_limit",
            "authentication = [\"ta\", \"certificate\"]\ndaily_limit",
        );
        let path = plant.dir.join("profiles.toml");
        files::replace(&path, profile.as_bytes(), Readers::Everyone)?;
        let configs = clients.iter().map(|client| config(&plant, client));
        Ok(Self {
            bed,
            configs: configs.collect::<Outcome<_>>()?,
            plant,
            spool,
            some,
            sample: Vec::new(),
        })
    }

    fn measure(&mut self, subject: Subject) -> Outcome<Measured> {
        let (bed, cpu, dir) = (self.bed, self.bed.cpus.server, self.bed.path("run"));
        let fresh = matches!(subject, Subject::NothingTlsNew | Subject::EstNew);
        let mut asks = self.spool.read()?;
        match subject {
            Subject::CryptoBound => {
                let took = bound::verify_and_sign(cpu, &self.some, TBS_LEN_BYTES)?;
                Ok(Measured::alone(subject, took, self.some.len()))
            }
            Subject::NothingTlsNew | Subject::NothingTlsKept => {
                let server = Served::nothing_tls(&self.plant.dir, dir, cpu, ANSWER_LEN_BYTES)?;
                let target = self.target(&server, "/", fresh)?;
                bed.loops(subject, &server, &target, &mut asks, &mut zeros)
            }
            _ => {
                let server = Served::ca(&self.plant.dir, dir, cpu)?;
                let target = self.est(&server, fresh)?;
                let every = bed.all().div_ceil(4);
                let mut seen = Certificates::default();
                let mut keys = asks.keys(key_in)?;
                let sample = &mut self.sample;
                let mut check = |from: usize, driven: &Driven| {
                    let all = seen.each(driven.bodies().map(certificate_in), &mut keys)?;
                    for (number, der) in (from..).zip(all) {
                        if number.is_multiple_of(every) {
                            sample.push(der);
                        }
                    }
                    Ok(())
                };
                bed.loops(subject, &server, &target, &mut asks, &mut check)
            }
        }
    }

    /// Where a device renews.
    ///
    /// # Errors
    /// The server has no EST port.
    pub fn est(&self, server: &Served, fresh: bool) -> Outcome<Target> {
        let path = format!("/.well-known/est/{PROFILE}/simplereenroll");
        Ok(Target {
            address: server.address_of("est")?,
            ..self.target(server, &path, fresh)?
        })
    }

    fn target(&self, server: &Served, path: &str, fresh: bool) -> Outcome<Target> {
        Ok(Target {
            tls: Some(Arc::new(Clients {
                configs: self.configs.clone(),
                server: ServerName::try_from(SERVER).map_err(odd)?,
                fresh,
            })),
            ..target(server, path, PKCS10, Refusals::Fault)
        })
    }
}

/// The key (SubjectPublicKeyInfo) of a CSR as it is posted.
///
/// # Errors
/// It has none.
pub fn key_in(request: &[u8]) -> Outcome<Vec<u8>> {
    let csr = est::from_body(request).map_err(odd)?;
    Ok(AllegedCsr::from_der(&csr).map_err(odd)?.spki_der)
}

/// The one certificate in a certs-only answer.
///
/// # Errors
/// There is none, or another number of them.
pub fn certificate_in(answer: &Bytes) -> Outcome<Vec<u8>> {
    let none = |why: String| refused(format!("an EST answer is no certificate: {why}"));
    let der = est::from_body(answer).map_err(|e| none(e.to_string()))?;
    let message = ContentInfoSeq::from_der(&der).map_err(|e| none(e.to_string()))?;
    let certificates = message.content.certificates;
    match certificates.as_slice() {
        [one] => one.to_der().map_err(odd),
        all => Err(none(format!("{} certificates", all.len()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_certificate_comes_out() {
        let cert: &[u8] = &[0x30, 3, 2, 1, 9];
        let answer = |certs: &[&[u8]]| Bytes::from(est::to_body(&est::certs_only(certs).unwrap()));
        assert_eq!(certificate_in(&answer(&[cert])).unwrap(), cert);
        assert!(certificate_in(&answer(&[cert, &[0x30, 3, 2, 1, 7]])).is_err());
        assert!(certificate_in(&Bytes::from_static(b"MAA=")).is_err());
    }
}
