//! PKIHeader.
//!
//! Spec: RFC 9810 section 5.1.1, RFC 9483 section 3.1.

use super::{
    CmpError, FreeText, MAX_INFO_VALUES, MAX_KID_BYTES, MAX_NONCE_BYTES, ProtectionAlg, at_most,
    oid, status::free_text,
};
use crate::x509::{DistinguishedName, List, RawDer};
use alloc::{string::String, vec::Vec};
use core::time::Duration;
use der::{
    Decode, Encode, Sequence,
    asn1::{GeneralizedTime, ObjectIdentifier, OctetString},
};
use x509_cert::name::Name;

pub use x509_cert::ext::pkix::name::GeneralName;

/// InfoTypeAndValue: one item of generalInfo or of a general message.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct InfoTypeAndValue {
    /// What it is.
    pub info_type: ObjectIdentifier,
    /// Its value.
    pub info_value: Option<RawDer>,
}

/// PKIHeader.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct PkiHeader {
    /// Protocol version: 2 (RFC 4210) or 3 (RFC 9480).
    pub pvno: u8,
    /// Who sent it; a NULL-DN if only senderKID names the sender.
    pub sender: GeneralName,
    /// Who it is for.
    pub recipient: GeneralName,
    /// When it was made.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    pub message_time: Option<GeneralizedTime>,
    /// Algorithm of the protection.
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    pub protection_alg: Option<spki::AlgorithmIdentifierOwned>,
    /// Identifies the sender's key.
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    pub sender_kid: Option<OctetString>,
    /// Identifies the recipient's key.
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT", optional = "true")]
    pub recip_kid: Option<OctetString>,
    /// The same in all messages of a transaction.
    #[asn1(context_specific = "4", tag_mode = "EXPLICIT", optional = "true")]
    pub transaction_id: Option<OctetString>,
    /// Fresh for each message.
    #[asn1(context_specific = "5", tag_mode = "EXPLICIT", optional = "true")]
    pub sender_nonce: Option<OctetString>,
    /// The senderNonce of the message answered.
    #[asn1(context_specific = "6", tag_mode = "EXPLICIT", optional = "true")]
    pub recip_nonce: Option<OctetString>,
    /// Texts for people.
    #[asn1(context_specific = "7", tag_mode = "EXPLICIT", optional = "true")]
    pub free_text: Option<FreeText>,
    /// Further information.
    #[asn1(context_specific = "8", tag_mode = "EXPLICIT", optional = "true")]
    pub general_info: Option<List<InfoTypeAndValue, MAX_INFO_VALUES>>,
}

/// The empty directory name: "known only by its key identifier".
///
/// Spec: RFC 9810 section 5.1.1.
pub fn null_dn() -> GeneralName {
    GeneralName::DirectoryName(Name::default())
}

/// A directory name.
///
/// # Errors
/// Not for a value made by [`DistinguishedName::from_der`] or its builder.
pub fn directory_name(name: &DistinguishedName) -> Result<GeneralName, CmpError> {
    Ok(GeneralName::DirectoryName(name.to_name()?))
}

impl PkiHeader {
    /// A header of version 2 with nothing but its two names.
    pub fn new(sender: GeneralName, recipient: GeneralName) -> Self {
        Self {
            pvno: 2,
            sender,
            recipient,
            message_time: None,
            protection_alg: None,
            sender_kid: None,
            recip_kid: None,
            transaction_id: None,
            sender_nonce: None,
            recip_nonce: None,
            free_text: None,
            general_info: None,
        }
    }

    /// The header of an answer: the asker's version, name, transaction and nonce.
    ///
    /// A version we do not know is answered with 3. Protection, time and senderNonce are added by
    /// the caller.
    pub fn reply_to(request: &Self, sender: GeneralName) -> Self {
        Self {
            pvno: if request.pvno == 2 { 2 } else { 3 },
            transaction_id: request.transaction_id.clone(),
            recip_nonce: request.sender_nonce.clone(),
            ..Self::new(sender, request.sender.clone())
        }
    }

    /// Sets messageTime, in seconds since 1970.
    ///
    /// # Errors
    /// If the time is after year 9999.
    pub fn with_message_time(mut self, unix_secs: u64) -> Result<Self, CmpError> {
        self.message_time = Some(GeneralizedTime::from_unix_duration(Duration::from_secs(
            unix_secs,
        ))?);
        Ok(self)
    }

    /// Sets protectionAlg.
    ///
    /// # Errors
    /// If the parameters cannot be encoded.
    pub fn with_protection(mut self, alg: &ProtectionAlg) -> Result<Self, CmpError> {
        self.protection_alg = Some(alg.to_identifier()?);
        Ok(self)
    }

    /// Sets senderKID.
    ///
    /// # Errors
    /// If it is longer than [`MAX_KID_BYTES`].
    pub fn with_sender_kid(mut self, kid: &[u8]) -> Result<Self, CmpError> {
        self.sender_kid = Some(octets("senderKID", kid, MAX_KID_BYTES)?);
        Ok(self)
    }

    /// Sets recipKID.
    ///
    /// # Errors
    /// If it is longer than [`MAX_KID_BYTES`].
    pub fn with_recip_kid(mut self, kid: &[u8]) -> Result<Self, CmpError> {
        self.recip_kid = Some(octets("recipKID", kid, MAX_KID_BYTES)?);
        Ok(self)
    }

    /// Sets transactionID.
    ///
    /// # Errors
    /// If it is longer than [`MAX_NONCE_BYTES`].
    pub fn with_transaction_id(mut self, id: &[u8]) -> Result<Self, CmpError> {
        self.transaction_id = Some(octets("transactionID", id, MAX_NONCE_BYTES)?);
        Ok(self)
    }

    /// Sets senderNonce.
    ///
    /// # Errors
    /// If it is longer than [`MAX_NONCE_BYTES`].
    pub fn with_sender_nonce(mut self, nonce: &[u8]) -> Result<Self, CmpError> {
        self.sender_nonce = Some(octets("senderNonce", nonce, MAX_NONCE_BYTES)?);
        Ok(self)
    }

    /// Sets recipNonce.
    ///
    /// # Errors
    /// If it is longer than [`MAX_NONCE_BYTES`].
    pub fn with_recip_nonce(mut self, nonce: &[u8]) -> Result<Self, CmpError> {
        self.recip_nonce = Some(octets("recipNonce", nonce, MAX_NONCE_BYTES)?);
        Ok(self)
    }

    /// Sets a text for people; an empty one is left out.
    pub fn with_free_text(mut self, text: &str) -> Self {
        self.free_text = free_text(text);
        self
    }

    /// Asks for, or grants, that no certConf is needed.
    ///
    /// # Errors
    /// If generalInfo is full.
    pub fn with_implicit_confirm(self) -> Result<Self, CmpError> {
        self.with_info(
            oid::IT_IMPLICIT_CONFIRM,
            Some(RawDer::from_bytes(&[0x05, 0x00])?),
        )
    }

    /// Says until when certConf is awaited, in seconds since 1970.
    ///
    /// # Errors
    /// If the time is after year 9999, or generalInfo is full.
    pub fn with_confirm_wait_time(self, unix_secs: u64) -> Result<Self, CmpError> {
        let time = GeneralizedTime::from_unix_duration(Duration::from_secs(unix_secs))?;
        self.with_info(
            oid::IT_CONFIRM_WAIT_TIME,
            Some(RawDer::from_bytes(&time.to_der()?)?),
        )
    }

    /// Names the certificate profile asked for.
    ///
    /// # Errors
    /// If generalInfo is full.
    pub fn with_cert_profile(self, profile: &str) -> Result<Self, CmpError> {
        let value = FreeText::one(String::from(profile)).to_der()?;
        self.with_info(oid::IT_CERT_PROFILE, Some(RawDer::from_bytes(&value)?))
    }

    /// Appends an item to generalInfo.
    fn with_info(
        mut self,
        info_type: ObjectIdentifier,
        info_value: Option<RawDer>,
    ) -> Result<Self, CmpError> {
        let mut items = self
            .general_info
            .take()
            .map(List::into_vec)
            .unwrap_or_default();
        items.push(InfoTypeAndValue {
            info_type,
            info_value,
        });
        self.general_info = Some(List::new(items)?);
        Ok(self)
    }

    /// The item of generalInfo of a type.
    pub fn info(&self, info_type: &ObjectIdentifier) -> Option<&InfoTypeAndValue> {
        self.general_info
            .as_ref()?
            .iter()
            .find(|i| i.info_type == *info_type)
    }

    /// Whether implicitConfirm is set.
    pub fn implicit_confirm(&self) -> bool {
        self.info(&oid::IT_IMPLICIT_CONFIRM).is_some()
    }

    /// confirmWaitTime in seconds since 1970, if present.
    ///
    /// # Errors
    /// If its value is not a GeneralizedTime.
    pub fn confirm_wait_time(&self) -> Result<Option<u64>, CmpError> {
        let Some(value) = self
            .info(&oid::IT_CONFIRM_WAIT_TIME)
            .and_then(|i| i.info_value.as_ref())
        else {
            return Ok(None);
        };
        let time = GeneralizedTime::from_der(value.as_bytes())?;
        Ok(Some(time.to_unix_duration().as_secs()))
    }

    /// The certificate profile asked for, if present: the first name.
    ///
    /// # Errors
    /// If its value is not a list of texts.
    pub fn cert_profile(&self) -> Result<Option<String>, CmpError> {
        let Some(value) = self
            .info(&oid::IT_CERT_PROFILE)
            .and_then(|i| i.info_value.as_ref())
        else {
            return Ok(None);
        };
        let names: Vec<String> = FreeText::from_der(value.as_bytes())?.into_vec();
        Ok(names.into_iter().next())
    }

    /// messageTime in seconds since 1970, if present.
    pub fn message_time_secs(&self) -> Option<u64> {
        self.message_time.map(|t| t.to_unix_duration().as_secs())
    }

    /// The protection algorithm, if present.
    ///
    /// # Errors
    /// [`CmpError::ProtectionParameters`] if its parameters are malformed or out of range.
    pub fn protection(&self) -> Result<Option<ProtectionAlg>, CmpError> {
        self.protection_alg
            .as_ref()
            .map(ProtectionAlg::from_identifier)
            .transpose()
    }

    /// senderKID, if present.
    pub fn sender_kid(&self) -> Option<&[u8]> {
        self.sender_kid.as_ref().map(OctetString::as_bytes)
    }

    /// recipKID, if present.
    pub fn recip_kid(&self) -> Option<&[u8]> {
        self.recip_kid.as_ref().map(OctetString::as_bytes)
    }

    /// transactionID, if present.
    pub fn transaction_id(&self) -> Option<&[u8]> {
        self.transaction_id.as_ref().map(OctetString::as_bytes)
    }

    /// senderNonce, if present.
    pub fn sender_nonce(&self) -> Option<&[u8]> {
        self.sender_nonce.as_ref().map(OctetString::as_bytes)
    }

    /// recipNonce, if present.
    pub fn recip_nonce(&self) -> Option<&[u8]> {
        self.recip_nonce.as_ref().map(OctetString::as_bytes)
    }

    /// The sender, if it is a directory name; empty for a NULL-DN.
    pub fn sender_name(&self) -> Option<DistinguishedName> {
        name_of(&self.sender)
    }

    /// The recipient, if it is a directory name; empty for a NULL-DN.
    pub fn recipient_name(&self) -> Option<DistinguishedName> {
        name_of(&self.recipient)
    }

    /// Checks version and sizes after decoding.
    pub(super) fn check(&self) -> Result<(), CmpError> {
        if !matches!(self.pvno, 2 | 3) {
            return Err(CmpError::Version { got: self.pvno });
        }
        at_most(
            "senderKID",
            self.sender_kid().map_or(0, <[u8]>::len),
            MAX_KID_BYTES,
        )?;
        at_most(
            "recipKID",
            self.recip_kid().map_or(0, <[u8]>::len),
            MAX_KID_BYTES,
        )?;
        at_most(
            "transactionID",
            self.transaction_id().map_or(0, <[u8]>::len),
            MAX_NONCE_BYTES,
        )?;
        at_most(
            "senderNonce",
            self.sender_nonce().map_or(0, <[u8]>::len),
            MAX_NONCE_BYTES,
        )?;
        at_most(
            "recipNonce",
            self.recip_nonce().map_or(0, <[u8]>::len),
            MAX_NONCE_BYTES,
        )
    }
}

/// The distinguished name of a directory name.
fn name_of(name: &GeneralName) -> Option<DistinguishedName> {
    match name {
        GeneralName::DirectoryName(name) => DistinguishedName::from_der(&name.to_der().ok()?).ok(),
        _ => None,
    }
}

/// An OCTET STRING within a limit.
fn octets(what: &'static str, bytes: &[u8], max: usize) -> Result<OctetString, CmpError> {
    at_most(what, bytes.len(), max)?;
    Ok(OctetString::new(bytes)?)
}
