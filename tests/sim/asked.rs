//! What a request of the TA asks for, read as the CA reads it.

use der::Encode as _;
use tegata_crypto::Provider as _;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_wire::cmp::{PkiBody, UnverifiedPkiMessage};
use tegata_wire::enrolment::{RenewalToken, SenderKid};
use tegata_wire::x509::AllegedCsr;

/// A request.
pub struct Asked {
    /// SHA-256 of the CSR, or of the CertRequest: its name at the CA.
    pub digest: [u8; 32],
    /// The key that it asks a certificate for, DER.
    pub spki: Vec<u8>,
    /// Whose `CsrAuthKey` speaks: in the MAC of a p10cr, or in the token of a kur.
    pub kid: SenderKid,
}

impl Asked {
    pub fn of(message: &[u8]) -> Self {
        let parsed = UnverifiedPkiMessage::from_der(message).unwrap();
        match parsed.body().decode().unwrap() {
            PkiBody::P10cr(csr) => {
                let kid = parsed.header().sender_kid().unwrap_or_default();
                Self {
                    digest: RustCrypto.sha256(csr.as_bytes()),
                    spki: AllegedCsr::from_der(csr.as_bytes()).unwrap().spki_der,
                    kid: SenderKid::parse(kid).unwrap(),
                }
            }
            PkiBody::Kur(requests) => {
                let [one] = &requests.into_vec()[..] else {
                    panic!("one request")
                };
                let request = one.request().unwrap();
                let token = request.reg_token().unwrap().unwrap();
                let key = request.cert_template.public_key.unwrap();
                Self {
                    digest: RustCrypto.sha256(one.cert_req.as_bytes()),
                    spki: key.to_der().unwrap(),
                    kid: RenewalToken::parse(&token).unwrap().kid,
                }
            }
            other => panic!("the TA sent {other:?}"),
        }
    }
}
