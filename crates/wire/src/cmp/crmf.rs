//! Certificate Request Message Format: what ir, cr, kur and rr carry.
//!
//! Spec: RFC 4211. Its module has IMPLICIT TAGS; Name is a CHOICE and therefore always EXPLICIT.

use super::{CertId, MAX_ENTRIES, oid};
use crate::x509::{List, MAX_EXTENSIONS, RawDer};
use alloc::string::String;
use der::{
    Choice, Sequence,
    asn1::{BitString, Int, Null, ObjectIdentifier},
};
use x509_cert::{ext::Extension, name::Name, time::Time};

/// CertReqMsg.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct CertReqMsg {
    /// DER of CertRequest: without poposkInput, the bytes the proof of possession signs.
    pub cert_req: RawDer,
    /// Proof that the asker has the private key.
    pub popo: Option<ProofOfPossession>,
    /// Information for registration.
    pub reg_info: Option<List<RegInfo, MAX_ENTRIES>>,
}

impl CertReqMsg {
    /// The certificate request.
    ///
    /// # Errors
    /// If the bytes are not a CertRequest.
    pub fn request(&self) -> der::Result<CertRequest> {
        self.cert_req.decode_as()
    }
}

/// AttributeTypeAndValue of CRMF: a control or registration information.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct RegInfo {
    /// What it is.
    pub oid: ObjectIdentifier,
    /// Its value.
    pub value: RawDer,
}

/// CertRequest.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct CertRequest {
    /// Ties a response to this request; 0 in practice.
    pub cert_req_id: i64,
    /// What the certificate should say.
    pub cert_template: CertTemplate,
    /// Attributes affecting issuance.
    pub controls: Option<List<RegInfo, MAX_ENTRIES>>,
}

impl CertRequest {
    /// The value of the control of a type; the first, if a peer sends several.
    pub fn control(&self, oid: &ObjectIdentifier) -> Option<&RawDer> {
        let control = self.controls.as_ref()?.iter().find(|c| c.oid == *oid)?;
        Some(&control.value)
    }

    /// The certificate that the request is to replace, if it says one.
    ///
    /// # Errors
    /// If the control is not a CertId.
    pub fn old_cert_id(&self) -> der::Result<Option<CertId>> {
        let control = self.control(&oid::REG_CTRL_OLD_CERT_ID);
        control.map(RawDer::decode_as).transpose()
    }

    /// The text of regToken, if there is one.
    ///
    /// # Errors
    /// If the control is not a UTF8String.
    pub fn reg_token(&self) -> der::Result<Option<String>> {
        let control = self.control(&oid::REG_CTRL_REG_TOKEN);
        control.map(RawDer::decode_as).transpose()
    }
}

/// CertTemplate: a certificate with every field optional.
#[derive(Debug, Clone, PartialEq, Eq, Default, Sequence)]
pub struct CertTemplate {
    /// Version; v3 is 2.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub version: Option<u8>,
    /// Serial number; in rr the one to revoke.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", optional = "true")]
    pub serial_number: Option<Int>,
    /// Signature algorithm.
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT", optional = "true")]
    pub signing_alg: Option<spki::AlgorithmIdentifierOwned>,
    /// Issuer.
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    pub issuer: Option<Name>,
    /// Validity.
    #[asn1(context_specific = "4", tag_mode = "IMPLICIT", optional = "true")]
    pub validity: Option<OptionalValidity>,
    /// Subject.
    #[asn1(context_specific = "5", tag_mode = "EXPLICIT", optional = "true")]
    pub subject: Option<Name>,
    /// Public key.
    #[asn1(context_specific = "6", tag_mode = "IMPLICIT", optional = "true")]
    pub public_key: Option<spki::SubjectPublicKeyInfoOwned>,
    /// issuerUID.
    #[asn1(context_specific = "7", tag_mode = "IMPLICIT", optional = "true")]
    pub issuer_uid: Option<BitString>,
    /// subjectUID.
    #[asn1(context_specific = "8", tag_mode = "IMPLICIT", optional = "true")]
    pub subject_uid: Option<BitString>,
    /// Extensions.
    #[asn1(context_specific = "9", tag_mode = "IMPLICIT", optional = "true")]
    pub extensions: Option<List<Extension, MAX_EXTENSIONS>>,
}

/// OptionalValidity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Sequence)]
pub struct OptionalValidity {
    /// notBefore.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub not_before: Option<Time>,
    /// notAfter.
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    pub not_after: Option<Time>,
}

/// ProofOfPossession.
#[derive(Debug, Clone, PartialEq, Eq, Choice)]
#[allow(clippy::large_enum_variant)] // Short-lived, at most a few per message.
pub enum ProofOfPossession {
    /// A registration authority vouches for it.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    RaVerified(Null),
    /// A signature with the key.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", constructed = "true")]
    Signature(PopoSigningKey),
    /// For keys that only encipher; uninterpreted.
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", constructed = "true")]
    KeyEncipherment(RawDer),
    /// For keys that only agree on keys; uninterpreted.
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", constructed = "true")]
    KeyAgreement(RawDer),
}

/// POPOSigningKey.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct PopoSigningKey {
    /// What is signed, if the template lacks subject or public key; uninterpreted.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT", optional = "true")]
    pub popo_sk_input: Option<List<RawDer, 4>>,
    /// Algorithm.
    pub alg: spki::AlgorithmIdentifierOwned,
    /// Signature.
    pub signature: BitString,
}
