//! PKIHeader.
//!
//! Spec: RFC 9810 section 5.1.1, RFC 9483 section 3.1.

use super::{
    CmpError, FreeText, MAX_INFO_VALUES, MAX_KID_BYTES, MAX_NONCE_BYTES, ProtectionAlg, at_most,
    oid, status::free_text,
};
use crate::x509::{
    DistinguishedName, List, RawDer,
    walk::{Element, Flaw, Walk, context, put, put_algorithm, put_oid, put_sequence, wrap},
};
use alloc::{string::String, vec::Vec};
use core::time::Duration;
use der::{
    Decode, DecodeValue, Encode, EncodeValue, FixedTag, Header, Length, Reader, Sequence, Tag,
    Writer,
    asn1::{GeneralizedTime, ObjectIdentifier, OctetString},
};

/// InfoTypeAndValue: one item of generalInfo or of a general message.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
pub struct InfoTypeAndValue {
    /// What it is.
    pub info_type: ObjectIdentifier,
    /// Its value.
    pub info_value: Option<RawDer>,
}

/// GeneralName as a name of a party: kept as bytes, interpreted only if it is a directory name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GeneralName {
    /// The whole element, with a context-specific tag of 0 to 8.
    raw: RawDer,
}

impl GeneralName {
    /// Takes the DER of a GeneralName.
    ///
    /// # Errors
    /// If it is not one element with a tag of GeneralName, or a directory name that is no name.
    pub fn from_der_bytes(bytes: &[u8]) -> Result<Self, CmpError> {
        let raw = RawDer::from_bytes(bytes)?;
        let tag = der::Tagged::tag(&raw);
        if !tag.is_context_specific() || tag.number().value() > 8 {
            return Err(CmpError::Der(tag.unexpected_error(None).into()));
        }
        if tag == context(4) {
            DistinguishedName::from_der(raw.contents())?;
        }
        Ok(Self { raw })
    }

    /// The DER of the name.
    pub fn as_der(&self) -> &[u8] {
        self.raw.as_bytes()
    }

    /// The distinguished name, if it is a directory name; empty for a NULL-DN.
    pub fn directory_name(&self) -> Option<DistinguishedName> {
        if der::Tagged::tag(&self.raw) != context(4) {
            return None;
        }
        DistinguishedName::from_der(self.raw.contents()).ok()
    }
}

/// PKIHeader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PkiHeader {
    /// Protocol version: 2 (RFC 4210) or 3 (RFC 9480).
    pub pvno: u8,
    /// Who sent it; a NULL-DN if only senderKID names the sender.
    pub sender: GeneralName,
    /// Who it is for.
    pub recipient: GeneralName,
    /// When it was made.
    pub message_time: Option<GeneralizedTime>,
    /// Algorithm of the protection.
    pub protection_alg: Option<spki::AlgorithmIdentifierOwned>,
    /// Identifies the sender's key.
    pub sender_kid: Option<OctetString>,
    /// Identifies the recipient's key.
    pub recip_kid: Option<OctetString>,
    /// The same in all messages of a transaction.
    pub transaction_id: Option<OctetString>,
    /// Fresh for each message.
    pub sender_nonce: Option<OctetString>,
    /// The senderNonce of the message answered.
    pub recip_nonce: Option<OctetString>,
    /// Texts for people.
    pub free_text: Option<FreeText>,
    /// Further information.
    pub general_info: Option<List<InfoTypeAndValue, MAX_INFO_VALUES>>,
}

impl FixedTag for PkiHeader {
    const TAG: Tag = Tag::Sequence;
}

impl<'a> DecodeValue<'a> for PkiHeader {
    type Error = der::Error;

    fn decode_value<R: Reader<'a>>(reader: &mut R, header: Header) -> der::Result<Self> {
        Self::from_contents(reader.read_slice(header.length())?)
    }
}

impl EncodeValue for PkiHeader {
    fn value_len(&self) -> der::Result<Length> {
        Length::try_from(self.contents()?.len())
    }

    fn encode_value(&self, writer: &mut impl Writer) -> der::Result<()> {
        writer.write(&self.contents()?)
    }
}

/// The empty directory name: "known only by its key identifier".
///
/// Spec: RFC 9810 section 5.1.1.
pub fn null_dn() -> GeneralName {
    GeneralName {
        raw: RawDer::null_dn(),
    }
}

/// A directory name.
///
/// # Errors
/// Not for a value made by [`DistinguishedName::from_der`] or its builder.
pub fn directory_name(name: &DistinguishedName) -> Result<GeneralName, CmpError> {
    directory_name_der(name.as_der())
}

/// A directory name of bytes that are a name already, as of a certificate that was read: without
/// the code that looks into it.
///
/// # Errors
/// If they are not one element.
pub fn directory_name_der(name_der: &[u8]) -> Result<GeneralName, CmpError> {
    Element::only(name_der)?;
    let mut bytes = Vec::new();
    put(&mut bytes, context(4), name_der)?;
    Ok(GeneralName {
        raw: RawDer::from_bytes(&bytes)?,
    })
}

impl PkiHeader {
    /// Reads the contents of the SEQUENCE.
    fn from_contents(bytes: &[u8]) -> der::Result<Self> {
        let mut walk = Walk::new(bytes);
        let name = |element: Element<'_>| -> der::Result<GeneralName> {
            GeneralName::from_der_bytes(element.der).map_err(|_| Tag::Sequence.value_error().into())
        };
        let pvno = u8::from_der(walk.next()?.der)?;
        let sender = name(walk.next()?)?;
        let recipient = name(walk.next()?)?;
        let message_time = walk
            .explicit(0)?
            .map(|element| GeneralizedTime::from_der(element.der))
            .transpose()?;
        let protection_alg = walk
            .explicit(1)?
            .map(|element| spki::AlgorithmIdentifierOwned::from_der(element.der))
            .transpose()?;
        let mut octets: [Option<OctetString>; 5] = Default::default();
        for (number, field) in (2u32..).zip(octets.iter_mut()) {
            if let Some(element) = walk.explicit(number)? {
                *field = Some(OctetString::new(element.expect(Tag::OctetString)?)?);
            }
        }
        let [
            sender_kid,
            recip_kid,
            transaction_id,
            sender_nonce,
            recip_nonce,
        ] = octets;
        let free_text = walk
            .explicit(7)?
            .map(|element| FreeText::from_der(element.der))
            .transpose()?;
        let general_info = walk
            .explicit(8)?
            .map(|element| List::from_der(element.der))
            .transpose()?;
        walk.finish()?;
        Ok(Self {
            pvno,
            sender,
            recipient,
            message_time,
            protection_alg,
            sender_kid,
            recip_kid,
            transaction_id,
            sender_nonce,
            recip_nonce,
            free_text,
            general_info,
        })
    }

    /// Writes the contents of the SEQUENCE.
    fn contents(&self) -> Result<Vec<u8>, Flaw> {
        let mut out = Vec::new();
        self.pvno.encode_to_vec(&mut out)?;
        out.extend_from_slice(self.sender.as_der());
        out.extend_from_slice(self.recipient.as_der());
        if let Some(time) = &self.message_time {
            put(&mut out, context(0), &time.to_der()?)?;
        }
        if let Some(alg) = &self.protection_alg {
            let mut element = Vec::new();
            put_algorithm(&mut element, alg)?;
            put(&mut out, context(1), &element)?;
        }
        let octets = [
            &self.sender_kid,
            &self.recip_kid,
            &self.transaction_id,
            &self.sender_nonce,
            &self.recip_nonce,
        ];
        for (number, field) in (2u32..).zip(octets) {
            if let Some(field) = field {
                let mut element = Vec::new();
                put(&mut element, Tag::OctetString, field.as_bytes())?;
                put(&mut out, context(number), &element)?;
            }
        }
        if let Some(texts) = &self.free_text {
            let mut items = Vec::new();
            for text in texts.iter() {
                put(&mut items, Tag::Utf8String, text.as_bytes())?;
            }
            put_list(&mut out, 7, &items)?;
        }
        if let Some(infos) = &self.general_info {
            let mut items = Vec::new();
            for info in infos.iter() {
                let mut item = Vec::new();
                put_oid(&mut item, &info.info_type)?;
                if let Some(value) = &info.info_value {
                    item.extend_from_slice(value.as_bytes());
                }
                put_sequence(&mut items, &item)?;
            }
            put_list(&mut out, 8, &items)?;
        }
        Ok(out)
    }

    /// DER of the header.
    pub(super) fn write(&self) -> Result<Vec<u8>, Flaw> {
        wrap(Tag::Sequence, &self.contents()?)
    }

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
        self.sender.directory_name()
    }

    /// The recipient, if it is a directory name; empty for a NULL-DN.
    pub fn recipient_name(&self) -> Option<DistinguishedName> {
        self.recipient.directory_name()
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

/// Appends a SEQUENCE OF under an explicit tag.
fn put_list(out: &mut Vec<u8>, number: u32, items: &[u8]) -> Result<(), Flaw> {
    put(out, context(number), &wrap(Tag::Sequence, items)?)
}

/// An OCTET STRING within a limit.
fn octets(what: &'static str, bytes: &[u8], max: usize) -> Result<OctetString, CmpError> {
    at_most(what, bytes.len(), max)?;
    Ok(OctetString::new(bytes)?)
}
