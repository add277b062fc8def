//! Clients with an enrolment secret.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)] // Helpers of tests.

use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::cmp::{MacLimits, protect_mac, verify_message_mac};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_store::issuer::{CmpAnswer, Issuer};
use tegata_store::role::Role;
use tegata_store::secret::{self, NewSecret};
use tegata_wire::cmp::{
    MessageToProtect, PkiBody, PkiFailureInfo, PkiHeader, ProtectionAlg, RawBody,
    UnverifiedPkiMessage, null_dn,
};
use tegata_wire::ids::Ueid;

use super::kur::reread;
use super::{SECS, Seeded, World};

/// Profiles that take secrets, one of them with an operator's word.
pub const PROFILES: &str = r#"
[profile.open]
key_algorithms = ["P-256"]
subject = [{ O = "Example" }, { serialNumber = "{serial}" }]
key_usage = ["digitalSignature"]
validity = "365d"
renewal_window = "30d"
authentication = ["secret", "certificate"]

[profile.open.san]
permanent_identifier = "{ueid}"

[profile.other]
key_algorithms = ["P-256"]
subject = [{ serialNumber = "{serial}" }]
key_usage = ["digitalSignature"]
validity = "365d"
renewal_window = "30d"
authentication = ["secret"]

[profile.guarded]
key_algorithms = ["P-256"]
subject = [{ serialNumber = "{serial}" }]
key_usage = ["digitalSignature"]
validity = "365d"
renewal_window = "30d"
authentication = ["secret"]
approval = "operator"
"#;

/// A client with an enrolment secret.
pub struct Client {
    pub id: String,
    pub text: Vec<u8>,
    pub profile: &'static str,
    pub alg: ProtectionAlg,
}

impl Client {
    pub fn new(
        role: &Role,
        rng: &mut Seeded,
        ueid: Ueid,
        profile: &'static str,
        uses: u32,
    ) -> Self {
        let made = secret::make(role, &new_secret(ueid, profile, uses), rng, SECS).unwrap();
        assert_eq!((made.id.len(), made.text.expose_secret().len()), (12, 32));
        Self {
            id: made.id,
            text: made.text.expose_secret().as_bytes().to_vec(),
            profile,
            alg: ProtectionAlg::HMAC_SHA256,
        }
    }

    /// A message under the secret's MAC.
    pub fn message(&self, body: &RawBody, transaction: u8, recip_nonce: Option<&[u8]>) -> Vec<u8> {
        let mut header = PkiHeader::new(null_dn(), null_dn())
            .with_transaction_id(&[transaction; 16])
            .and_then(|h| h.with_sender_nonce(&[transaction ^ 0x55; 16]))
            .and_then(|h| h.with_sender_kid(self.id.as_bytes()))
            .and_then(|h| h.with_protection(&self.alg))
            .unwrap();
        if let Some(nonce) = recip_nonce {
            header = header.with_recip_nonce(nonce).unwrap();
        }
        let message = MessageToProtect::new(&header, body).unwrap();
        let part = message.protected_part().unwrap();
        let mac = protect_mac(&RustCrypto, &self.alg, &self.text, &part).unwrap();
        message.into_der(Some(&mac), &[]).unwrap()
    }

    /// What is in an answer, its MAC verified.
    pub fn verified(&self, answer: &[u8]) -> UnverifiedPkiMessage {
        let message = reread(answer);
        verify_mac(&message, &self.text);
        message
    }

    pub fn send(&self, world: &mut World, message: &[u8], now: UnixMs) -> CmpAnswer {
        world.ca.cmp(self.profile, message, &mut world.rng, now)
    }

    /// What is [`told`] to a message.
    pub fn ask(&self, world: &mut World, message: &[u8], now: UnixMs) -> Result<Vec<u8>, String> {
        let answer = self.send(world, message, now);
        told(&answer.body, Some(&self.text), &world.ca)
    }
}

pub fn new_secret(ueid: Ueid, profile: &str, uses: u32) -> NewSecret {
    NewSecret {
        ueid,
        profile: profile.into(),
        uses,
        expires: UnixSecs(SECS.0 + 1_000_000),
    }
}

/// The certificate in an answer whose MAC or signature was verified, or what it says instead.
pub fn told(answer: &[u8], text: Option<&[u8]>, ca: &Issuer) -> Result<Vec<u8>, String> {
    let message = reread(answer);
    let by_mac = message.header().protection().unwrap().unwrap().is_mac();
    match text.filter(|_| by_mac) {
        Some(text) => {
            verify_mac(&message, text);
        }
        None => {
            let issuer =
                tegata_authority::ca::authority_cert::Issuer::from_cert(ca.issuing_certificate());
            let key = issuer.unwrap().public_key;
            let _proof =
                tegata_crypto::cmp::verify_message_signature(&RustCrypto, &message, &key).unwrap();
        }
    }
    let names = |info: Option<PkiFailureInfo>| {
        info.map(|i| i.names().collect::<Vec<_>>().join("|"))
            .unwrap_or_default()
    };
    match message.body().decode().unwrap() {
        PkiBody::Ip(rep) | PkiBody::Cp(rep) | PkiBody::Kup(rep) => {
            let response = &rep.response[0];
            if by_mac && response.certificate().is_some() {
                let root = ca.root_certificate();
                assert_eq!(rep.ca_pubs.as_ref().unwrap()[0].as_bytes(), root);
            }
            match response.certificate() {
                Some(der) => Ok(der.to_vec()),
                None if response.status.is_waiting() => {
                    Err(format!("{:?} waiting", message.kind()))
                }
                None => Err(format!(
                    "{:?} {}",
                    message.kind(),
                    names(response.status.fail_info)
                )),
            }
        }
        PkiBody::Rp(rep) => {
            let status = &rep.status[0];
            match status.is_granted() {
                true => Ok(rep.rev_certs.unwrap()[0].serial().to_vec()),
                false => Err(format!("Rp {}", names(status.fail_info))),
            }
        }
        PkiBody::Error(content) => Err(format!("Error {}", names(content.status.fail_info))),
        other => Err(format!("{other:?}").chars().take(40).collect()),
    }
}

fn verify_mac(message: &UnverifiedPkiMessage, text: &[u8]) {
    let limits = MacLimits::default();
    let _proof = verify_message_mac(&RustCrypto, message, text, &limits).unwrap();
}
