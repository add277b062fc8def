//! Key update: the request for a certificate with the same names and another key.
//!
//! Written element by element, as everything is that a device sends; a CA reads it as
//! [`super::CertReqMsg`].
//!
//! Spec: RFC 9483 section 4.1.3, RFC 4211 sections 3, 4.1, 6.1 and 6.5.

use alloc::vec::Vec;

use der::{Encode, Tag, asn1::ObjectIdentifier};

use super::{BodyKind, CmpError, RawBody, oid};
use crate::x509::{
    CertView, DistinguishedName, RawDer, SanEntry, SignatureAlg, cert_id, san_extension,
    walk::{Element, Flaw, context, put, put_algorithm, put_bits, put_oid, put_sequence, wrap},
};

/// certReqId of the one request in a message that carries CertReqMsg.
///
/// Spec: RFC 9483 section 4.1.1.
pub const CERT_REQ_ID: i64 = 0;

/// What a key update asks for.
#[derive(Debug, Clone)]
pub struct KeyUpdate<'a> {
    /// Subject of the new certificate; may be empty if there are alternative names.
    pub subject: DistinguishedName,
    /// Alternative names.
    pub san: Vec<SanEntry>,
    /// DER of the new key's SubjectPublicKeyInfo.
    pub spki_der: &'a [u8],
    /// Who vouches for the new key: the control regToken.
    pub reg_token: &'a str,
    /// The certificate that is to be followed.
    pub old: &'a CertView<'a>,
}

impl KeyUpdate<'_> {
    /// DER of the CertRequest: what the new key signs to prove that it is there.
    ///
    /// # Errors
    /// If a part is not what its name says.
    pub fn to_request(&self) -> Result<Vec<u8>, CmpError> {
        let mut template = Vec::new();
        put(&mut template, context(5), self.subject.as_der())?;
        let spki = Element::only(self.spki_der)?.expect(Tag::Sequence)?;
        put(&mut template, context(6), spki)?;
        if !self.san.is_empty() {
            let mut list = Vec::new();
            san_extension(&self.san, self.subject.is_empty())?.write(&mut list)?;
            put(&mut template, context(9), &list)?;
        }
        let mut request = Vec::new();
        CERT_REQ_ID.encode_to_vec(&mut request)?;
        put_sequence(&mut request, &template)?;
        let mut controls = Vec::new();
        put_control(
            &mut controls,
            &oid::REG_CTRL_OLD_CERT_ID,
            &cert_id(self.old)?,
        )?;
        let token = wrap(Tag::Utf8String, self.reg_token.as_bytes())?;
        put_control(&mut controls, &oid::REG_CTRL_REG_TOKEN, &token)?;
        put_sequence(&mut request, &controls)?;
        Ok(wrap(Tag::Sequence, &request)?)
    }
}

/// Appends a control; `value` is DER.
fn put_control(out: &mut Vec<u8>, oid: &ObjectIdentifier, value: &[u8]) -> Result<(), Flaw> {
    let mut control = Vec::new();
    put_oid(&mut control, oid)?;
    control.extend_from_slice(value);
    put_sequence(out, &control)
}

/// DER of CertReqMessages with one request, and the new key's signature over it as proof.
fn messages(request_der: &[u8], alg: SignatureAlg, bits: &[u8]) -> Result<Vec<u8>, Flaw> {
    let mut popo = Vec::new();
    put_algorithm(&mut popo, &alg.identifier())?;
    put_bits(&mut popo, bits)?;
    let mut message = request_der.to_vec();
    put(&mut message, context(1), &popo)?;
    wrap(Tag::Sequence, &wrap(Tag::Sequence, &message)?)
}

impl RawBody {
    /// A kur body: the bytes of [`KeyUpdate::to_request`] and the new key's signature over them, as
    /// the octets of a BIT STRING ([`SignatureAlg::signature_to_bits`]).
    ///
    /// # Errors
    /// If the request is too long to encode.
    pub fn kur(request_der: &[u8], alg: SignatureAlg, bits: &[u8]) -> Result<Self, CmpError> {
        Ok(Self {
            kind: BodyKind::Kur,
            content: RawDer::from_bytes(&messages(request_der, alg, bits)?)?,
        })
    }
}
