//! PKIMessage: as received, and as built.
//!
//! Spec: RFC 9810 sections 5.1 and 5.1.3.

use super::{
    BodyKind, CmpError, MAX_EXTRA_CERTS, MAX_HEADER_BYTES, MAX_MESSAGE_BYTES, PkiBody, PkiHeader,
    RawBody, at_most,
};
use crate::x509::{
    List, RawDer,
    walk::{context, put, put_bits, wrap},
};
use alloc::vec::Vec;
use der::{
    Decode, Encode, Sequence, Tag,
    asn1::{AnyRef, BitStringRef},
};

/// PKIMessage on the wire, header and body left as bytes.
#[derive(Sequence)]
struct MessageSeq<'a> {
    /// PKIHeader.
    header: AnyRef<'a>,
    /// PKIBody.
    body: AnyRef<'a>,
    /// PKIProtection.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    protection: Option<BitStringRef<'a>>,
    /// extraCerts.
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    extra_certs: Option<List<RawDer, MAX_EXTRA_CERTS>>,
}

/// DER of ProtectedPart from the DER of its parts. Spec: RFC 9810 section 5.1.3.
fn protected_part(header_der: &[u8], body_der: &[u8]) -> Result<Vec<u8>, CmpError> {
    Ok(wrap(Tag::Sequence, &[header_der, body_der].concat())?)
}

/// A message as a peer sent it: well-formed, nothing in it believed yet.
///
/// The caller must check [`Self::protection`] over [`Self::protected_part`] with the key found by
/// the header's senderKID or sender before it acts on the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnverifiedPkiMessage {
    /// DER of the header as received.
    header_der: Vec<u8>,
    /// DER of the body as received, with its tag.
    body_der: Vec<u8>,
    /// The decoded header.
    header: PkiHeader,
    /// The body, not decoded.
    body: RawBody,
    /// Octets of the protection BIT STRING.
    protection: Option<Vec<u8>>,
    /// Certificates sent along, as received.
    extra_certs: Vec<RawDer>,
}

impl UnverifiedPkiMessage {
    /// Reads a message.
    ///
    /// # Errors
    /// If the bytes are not a PKIMessage of version 2 or 3 in DER, exceed a limit, or have
    /// protection without protectionAlg or the reverse.
    pub fn from_der(bytes: &[u8]) -> Result<Self, CmpError> {
        at_most("PKIMessage", bytes.len(), MAX_MESSAGE_BYTES)?;
        let seq = MessageSeq::from_der(bytes)?;
        let header_der = seq.header.to_der()?;
        at_most("PKIHeader", header_der.len(), MAX_HEADER_BYTES)?;
        let header = PkiHeader::from_der(&header_der)?;
        header.check()?;
        let body_der = seq.body.to_der()?;
        let body = read_body(&body_der)?;
        let protection = match seq.protection {
            // A protection value is whole octets for every algorithm there is.
            Some(bits) => Some(
                bits.as_bytes()
                    .ok_or(CmpError::ProtectionMismatch)?
                    .to_vec(),
            ),
            None => None,
        };
        if protection.is_some() != header.protection_alg.is_some() {
            return Err(CmpError::ProtectionMismatch);
        }
        let extra_certs = seq.extra_certs.map(List::into_vec).unwrap_or_default();
        Ok(Self {
            header_der,
            body_der,
            header,
            body,
            protection,
            extra_certs,
        })
    }

    /// The header.
    pub fn header(&self) -> &PkiHeader {
        &self.header
    }

    /// DER of the header as received.
    pub fn header_der(&self) -> &[u8] {
        &self.header_der
    }

    /// The kind of the body.
    pub fn kind(&self) -> BodyKind {
        self.body.kind
    }

    /// The body; decode it by the kind expected.
    pub fn body(&self) -> &RawBody {
        &self.body
    }

    /// DER of the body as received, with its tag.
    pub fn body_der(&self) -> &[u8] {
        &self.body_der
    }

    /// Octets of the protection, if the message is protected.
    pub fn protection(&self) -> Option<&[u8]> {
        self.protection.as_deref()
    }

    /// Certificates sent along; untrusted.
    pub fn extra_certs(&self) -> &[RawDer] {
        &self.extra_certs
    }

    /// The bytes that are MACed or signed: DER of ProtectedPart over the bytes received.
    ///
    /// # Errors
    /// Not for a value made by [`Self::from_der`].
    pub fn protected_part(&self) -> Result<Vec<u8>, CmpError> {
        protected_part(&self.header_der, &self.body_der)
    }

    /// Decodes header and body and encodes the whole message anew.
    ///
    /// For tests and tools: equal to the bytes received if the peer encoded in DER.
    ///
    /// # Errors
    /// If the body's content is not of its kind.
    pub fn reencode(&self) -> Result<Vec<u8>, CmpError> {
        let body: PkiBody = self.body.decode()?;
        MessageToProtect::new(&self.header, &body.to_raw()?)?
            .into_der(self.protection.as_deref(), &self.extra_certs)
    }
}

/// Reads a body and names an unknown tag.
fn read_body(body_der: &[u8]) -> Result<RawBody, CmpError> {
    let tag = AnyRef::from_der(body_der).map(|any| der::Tagged::tag(&any))?;
    if tag.is_context_specific() && BodyKind::from_tag(tag.number().value()).is_none() {
        return Err(CmpError::UnknownBody {
            tag: tag.number().value(),
        });
    }
    Ok(RawBody::from_der(body_der)?)
}

/// A message built and not protected yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageToProtect {
    /// DER of the header.
    header_der: Vec<u8>,
    /// DER of the body, with its tag.
    body_der: Vec<u8>,
    /// Whether the header names a protection algorithm.
    protected: bool,
}

impl MessageToProtect {
    /// Encodes header and body.
    ///
    /// # Errors
    /// If a part cannot be encoded or a limit is exceeded.
    pub fn new(header: &PkiHeader, body: &RawBody) -> Result<Self, CmpError> {
        header.check()?;
        let header_der = header.write()?;
        at_most("PKIHeader", header_der.len(), MAX_HEADER_BYTES)?;
        let body_der = body.write()?;
        Ok(Self {
            header_der,
            body_der,
            protected: header.protection_alg.is_some(),
        })
    }

    /// The bytes to MAC or sign: DER of ProtectedPart.
    ///
    /// # Errors
    /// Not for a value made by [`Self::new`].
    pub fn protected_part(&self) -> Result<Vec<u8>, CmpError> {
        protected_part(&self.header_der, &self.body_der)
    }

    /// The message with its protection: the MAC, or the octets of the signature BIT STRING
    /// ([`crate::x509::SignatureAlg::signature_to_bits`]).
    ///
    /// # Errors
    /// [`CmpError::ProtectionMismatch`] if `protection` is given and the header names no algorithm
    /// or the reverse; or the message exceeds a limit.
    pub fn into_der(
        self,
        protection: Option<&[u8]>,
        extra_certs: &[RawDer],
    ) -> Result<Vec<u8>, CmpError> {
        if protection.is_some() != self.protected {
            return Err(CmpError::ProtectionMismatch);
        }
        at_most("extraCerts", extra_certs.len(), MAX_EXTRA_CERTS)?;
        let mut contents = [self.header_der, self.body_der].concat();
        if let Some(octets) = protection {
            let mut element = Vec::new();
            put_bits(&mut element, octets)?;
            put(&mut contents, context(0), &element)?;
        }
        if !extra_certs.is_empty() {
            let mut list = Vec::new();
            for cert in extra_certs {
                list.extend_from_slice(cert.as_bytes());
            }
            put(&mut contents, context(1), &wrap(Tag::Sequence, &list)?)?;
        }
        let der = wrap(Tag::Sequence, &contents)?;
        at_most("PKIMessage", der.len(), MAX_MESSAGE_BYTES)?;
        Ok(der)
    }
}
