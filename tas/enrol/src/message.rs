//! A CMP message of the CA, or one of ours, read without copying: only what this TA looks at.
//!
//! `tegata_wire::cmp` reads whole messages into owned types; here that would be half of the module.
//! This is a view over the same DER, as `CertView` is of a certificate: strict DER by the `der`
//! crate, every length bounded by the message, nothing believed yet.
//!
//! Spec: RFC 9810 sections 5.1 and 5.3.4.

use alloc::vec::Vec;

use der::asn1::{AnyRef, BitStringRef, GeneralizedTime, ObjectIdentifier, OctetStringRef};
use der::{Decode, Encode, Reader, SliceReader, Tag, Tagged};
use tegata_ta_sdk::consts::{TEE_ERROR_BAD_FORMAT, TEE_ERROR_SECURITY};
use tegata_ta_sdk::{Error, Result};
use tegata_wire::cmp::{MAX_EXTRA_CERTS, MAX_MESSAGE_BYTES};
use tegata_wire::x509::SignatureAlg;

/// id-it-implicitConfirm.
const IMPLICIT_CONFIRM: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.4.13");

/// Tag number of a cp body.
pub const CP: u32 = 3;
/// Tag number of a p10cr body.
pub const P10CR: u32 = 4;
/// Tag number of a kur body.
pub const KUR: u32 = 7;
/// Tag number of a kup body.
pub const KUP: u32 = 8;
/// Tag number of a pkiConf body.
pub const PKI_CONF: u32 = 19;
/// Tag number of an error body.
pub const ERROR: u32 = 23;

/// What the CA says to a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The certificate.
    Granted(&'a [u8]),
    /// It gives none to this request.
    Refused,
    /// It took back what the request is about: the certificate that it got, or the one that asked.
    Revoked,
    /// It gives none now: it failed, or has not decided. The same request may be answered later.
    NotNow,
}

/// A message as received: well-formed where it was looked at.
pub struct MessageView<'a> {
    /// DER of the sender's name, if it is a directory name and not empty.
    pub sender_der: Option<&'a [u8]>,
    /// messageTime in seconds since 1970.
    pub time_secs: Option<u64>,
    /// Algorithm of a signature; `None` for any other protection.
    pub signature_alg: Option<SignatureAlg>,
    /// transactionID.
    pub transaction_id: &'a [u8],
    /// senderNonce.
    pub sender_nonce: &'a [u8],
    /// recipNonce.
    pub recip_nonce: &'a [u8],
    /// Whether implicit confirmation is granted.
    pub implicit_confirm: bool,
    /// Tag number of the body.
    pub kind: u32,
    /// DER inside the body's tag.
    pub content: &'a [u8],
    /// Octets of the protection.
    pub protection: &'a [u8],
    /// Certificates sent along, DER each.
    pub extra_certs: Vec<&'a [u8]>,
    header_der: &'a [u8],
    body_der: &'a [u8],
}

fn bad<E>(_: E) -> Error {
    Error(TEE_ERROR_BAD_FORMAT)
}

/// The element `tlv`, whose tag must be `[n]` constructed: number and content.
fn context(tlv: &[u8]) -> der::Result<(u32, &[u8])> {
    let any = AnyRef::from_der(tlv)?;
    match any.tag() {
        Tag::ContextSpecific {
            constructed: true,
            number,
        } => Ok((number.value(), any.value())),
        other => Err(other.value_error().into()),
    }
}

/// The elements inside the SEQUENCE `tlv`.
fn elements(tlv: &[u8], max: usize) -> der::Result<Vec<&[u8]>> {
    let any = AnyRef::from_der(tlv)?;
    any.tag().assert_eq(Tag::Sequence)?;
    let mut reader = SliceReader::new(any.value())?;
    let mut out = Vec::new();
    while !reader.is_finished() {
        if out.len() >= max {
            return Err(Tag::Sequence.length_error().into());
        }
        out.push(reader.tlv_bytes()?);
    }
    Ok(out)
}

fn octets(tlv: &[u8]) -> der::Result<&[u8]> {
    <&OctetStringRef>::from_der(tlv).map(OctetStringRef::as_bytes)
}

impl<'a> MessageView<'a> {
    /// Reads a message.
    ///
    /// # Errors
    /// `TEE_ERROR_BAD_FORMAT` if it is not one in DER.
    pub fn from_der(bytes: &'a [u8]) -> Result<Self> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(Error(TEE_ERROR_BAD_FORMAT));
        }
        let parts = elements(bytes, 4).map_err(bad)?;
        let (Some(header_der), Some(body_der)) = (parts.first(), parts.get(1)) else {
            return Err(Error(TEE_ERROR_BAD_FORMAT));
        };
        let (kind, content) = context(body_der).map_err(bad)?;
        let mut view = Self {
            sender_der: None,
            time_secs: None,
            signature_alg: None,
            transaction_id: &[],
            sender_nonce: &[],
            recip_nonce: &[],
            implicit_confirm: false,
            kind,
            content,
            protection: &[],
            extra_certs: Vec::new(),
            header_der,
            body_der,
        };
        view.read_header().map_err(bad)?;
        for part in parts.iter().skip(2) {
            match context(part).map_err(bad)? {
                (0, inner) => {
                    let bits = BitStringRef::from_der(inner).map_err(bad)?;
                    view.protection = bits.as_bytes().ok_or(Error(TEE_ERROR_BAD_FORMAT))?;
                }
                (1, inner) => {
                    view.extra_certs = elements(inner, MAX_EXTRA_CERTS).map_err(bad)?;
                }
                _ => return Err(Error(TEE_ERROR_BAD_FORMAT)),
            }
        }
        Ok(view)
    }

    fn read_header(&mut self) -> der::Result<()> {
        let fields = elements(self.header_der, 12)?;
        let mut fields = fields.into_iter();
        let mut required = || fields.next().ok_or(Tag::Sequence.length_error());
        let version = u8::from_der(required()?)?;
        if !matches!(version, 2 | 3) {
            return Err(Tag::Integer.value_error().into());
        }
        // GeneralName: directoryName is [4], explicit because Name is a choice.
        let sender = required()?;
        if let Ok((4, name)) = context(sender) {
            self.sender_der = (name.len() > 2).then_some(name);
        }
        required()?;
        let mut last = None;
        for field in fields {
            let (number, inner) = context(field)?;
            if last.is_some_and(|last| last >= number) {
                return Err(Tag::Sequence.value_error().into());
            }
            last = Some(number);
            match number {
                0 => {
                    let time = GeneralizedTime::from_der(inner)?;
                    self.time_secs = Some(time.to_unix_duration().as_secs());
                }
                1 => {
                    let id = spki::AlgorithmIdentifierRef::from_der(inner)?;
                    let plain = id.parameters.is_none();
                    self.signature_alg = if plain {
                        SignatureAlg::from_oid(&id.oid)
                    } else {
                        None
                    };
                }
                4 => self.transaction_id = octets(inner)?,
                5 => self.sender_nonce = octets(inner)?,
                6 => self.recip_nonce = octets(inner)?,
                8 => {
                    for info in elements(inner, 16)? {
                        let found = elements(info, 2)?;
                        let Some(oid) = found.first() else { continue };
                        self.implicit_confirm |=
                            ObjectIdentifier::from_der(oid)? == IMPLICIT_CONFIRM;
                    }
                }
                2 | 3 | 7 => {}
                _ => return Err(Tag::Sequence.value_error().into()),
            }
        }
        Ok(())
    }

    /// The bytes that are signed: DER of ProtectedPart over the bytes received.
    ///
    /// # Errors
    /// Not for a value made by [`Self::from_der`].
    pub fn protected_part(&self) -> Result<Vec<u8>> {
        let both = [self.header_der, self.body_der].concat();
        AnyRef::new(Tag::Sequence, &both)
            .and_then(|any| any.to_der())
            .map_err(bad)
    }

    /// Of a cp or kup: what it says to the request of that certReqId.
    ///
    /// # Errors
    /// `TEE_ERROR_BAD_FORMAT` if the content is not a cp's, `TEE_ERROR_SECURITY` if it does not
    /// hold exactly one answer, to our request.
    pub fn certificate(&self, cert_req_id: i64) -> Result<Answer<'a>> {
        let content = elements(self.content, 2).map_err(bad)?;
        // caPubs, if there, comes first; it is never trusted for being there.
        let responses = content.last().ok_or(Error(TEE_ERROR_BAD_FORMAT))?;
        let [response] = elements(responses, 2).map_err(bad)?[..] else {
            return Err(Error(TEE_ERROR_SECURITY));
        };
        let fields = elements(response, 4).map_err(bad)?;
        let (Some(id), Some(status)) = (fields.first(), fields.get(1)) else {
            return Err(Error(TEE_ERROR_BAD_FORMAT));
        };
        if i64::from_der(id).map_err(bad)? != cert_req_id {
            return Err(Error(TEE_ERROR_SECURITY));
        }
        let info = elements(status, 3).map_err(bad)?;
        let status = info.first().ok_or(Error(TEE_ERROR_BAD_FORMAT))?;
        match u8::from_der(status) {
            Ok(ACCEPTED | GRANTED_WITH_MODS) => {}
            Ok(REJECTION) => return Ok(refusal(&info)),
            _ => return Ok(Answer::NotNow),
        }
        let pair = fields.get(2).ok_or(Error(TEE_ERROR_SECURITY))?;
        let pair = elements(pair, 3).map_err(bad)?;
        match context(pair.first().ok_or(Error(TEE_ERROR_BAD_FORMAT))?).map_err(bad)? {
            (0, certificate) => Ok(Answer::Granted(certificate)),
            _ => Err(Error(TEE_ERROR_SECURITY)),
        }
    }
}

/// PKIStatus of a granted request.
const ACCEPTED: u8 = 0;
/// PKIStatus of a granted request whose certificate is not quite as asked for.
const GRANTED_WITH_MODS: u8 = 1;
/// PKIStatus of a refused request.
const REJECTION: u8 = 2;
/// certRevoked in the second octet of PKIFailureInfo.
const REVOKED_BIT: u8 = 0x20;
/// systemUnavail and systemFailure in the fourth octet of PKIFailureInfo.
const SYSTEM_BITS: u8 = 0xc0;

/// What a PKIStatusInfo of a rejection says. That the CA itself failed passes.
fn refusal<'a>(info: &[&[u8]]) -> Answer<'a> {
    let failure = info.last().and_then(|der| BitStringRef::from_der(der).ok());
    let octets = failure.as_ref().map(BitStringRef::raw_bytes);
    let has = |n: usize, bits: u8| {
        let octet = octets.and_then(|octets| octets.get(n));
        octet.is_some_and(|octet| octet & bits != 0)
    };
    if has(3, SYSTEM_BITS) {
        Answer::NotNow
    } else if has(1, REVOKED_BIT) {
        Answer::Revoked
    } else {
        Answer::Refused
    }
}
