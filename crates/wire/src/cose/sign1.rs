//! COSE_Sign1 as bytes: what came, what is signed, what goes out.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::{
    CoseError, HEADER_ALG, HEADER_CONTENT_TYPE, HEADER_CRIT, HEADER_KID, HEADER_X5CHAIN, LIMITS,
    MAX_CHAIN, MAX_HEADER_LEN, MAX_KID_LEN, TAG_CWT, TAG_SIGN1,
};
use crate::cbor::{self, MapBuilder, MapReader, Value};

/// A COSE_Sign1 as it came: the signature has not been verified.
///
/// Spec: RFC 9052 section 4.2
#[derive(Debug, Clone, PartialEq)]
pub struct UnverifiedSign1 {
    protected: Vec<u8>,
    alg: i64,
    kid: Option<Vec<u8>>,
    content_type: Option<Value>,
    x5chain: Vec<Vec<u8>>,
    payload: Option<Vec<u8>>,
    signature: Vec<u8>,
}

impl UnverifiedSign1 {
    /// Decodes a COSE_Sign1, tagged or not, also as the content of the CWT tag.
    ///
    /// # Errors
    /// `CoseError` if the bytes are none, or have a critical header.
    pub fn decode(bytes: &[u8]) -> Result<Self, CoseError> {
        let value = cbor::strip_tag(cbor::decode_limited(bytes, LIMITS)?, TAG_CWT);
        let value = cbor::strip_tag(value, TAG_SIGN1);
        let mut items = cbor::into_array(value, "COSE_Sign1", 4, 4)?.into_iter();
        let mut next = || {
            items.next().ok_or(CoseError::Missing {
                what: "COSE_Sign1 element",
            })
        };
        let protected = cbor::into_bytes_sized(next()?, "protected header", 0, MAX_HEADER_LEN)?;
        let mut headers = Headers::read(&protected, next()?)?;
        let payload = match next()? {
            Value::Null => None,
            other => Some(cbor::into_bytes(other, "payload")?),
        };
        let alg = headers.protected.require(HEADER_ALG, "alg")?;
        let content_type = headers.take(HEADER_CONTENT_TYPE)?;
        let x5chain = headers
            .take(HEADER_X5CHAIN)?
            .map(chain)
            .transpose()?
            .unwrap_or_default();
        Ok(Self {
            alg: cbor::int(&alg, "alg")?,
            kid: headers.kid()?,
            content_type,
            x5chain,
            payload,
            signature: cbor::into_bytes_sized(next()?, "signature", 0, MAX_HEADER_LEN)?,
            protected,
        })
    }

    /// The algorithm's number, from the protected header.
    #[must_use]
    pub const fn alg(&self) -> i64 {
        self.alg
    }

    /// The alleged signer's key identifier.
    #[must_use]
    pub fn kid(&self) -> Option<&[u8]> {
        self.kid.as_deref()
    }

    /// The content type: a media type, or a CoAP content format's number.
    #[must_use]
    pub const fn content_type(&self) -> Option<&Value> {
        self.content_type.as_ref()
    }

    /// DER certificates, the signer's first.
    #[must_use]
    pub fn x5chain(&self) -> &[Vec<u8>] {
        &self.x5chain
    }

    /// The payload, not yet authentic; none where it is detached.
    #[must_use]
    pub fn unverified_payload(&self) -> Option<&[u8]> {
        self.payload.as_deref()
    }

    /// The payload, out of the structure, for the code that has verified the signature.
    #[must_use]
    pub fn into_unverified_payload(self) -> Option<Vec<u8>> {
        self.payload
    }

    /// The signature: r and s, or 64 bytes of Ed25519.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// The bytes that are signed (Sig_structure).
    ///
    /// # Errors
    /// `CoseError::Payload` if the payload is detached and `detached` is `None`, or the reverse.
    pub fn to_be_signed(
        &self,
        external_aad: &[u8],
        detached: Option<&[u8]>,
    ) -> Result<Vec<u8>, CoseError> {
        let payload = match (&self.payload, detached) {
            (Some(payload), None) => payload,
            (None, Some(payload)) => payload,
            (None, None) => return Err(CoseError::Payload("detached, and was not given")),
            (Some(_), Some(_)) => return Err(CoseError::Payload("given, and not detached")),
        };
        sig_structure(&self.protected, external_aad, payload)
    }
}

/// Makes a COSE_Sign1: headers in, bytes to sign out, signature in, structure out.
#[derive(Debug, Clone)]
pub struct Sign1Builder {
    protected: MapBuilder,
    unprotected: MapBuilder,
}

impl Sign1Builder {
    /// Begins with the algorithm in the protected header.
    #[must_use]
    pub fn new(alg: i64) -> Self {
        Self {
            protected: MapBuilder::new().put(HEADER_ALG, alg),
            unprotected: MapBuilder::new(),
        }
    }

    /// Names the key in the protected header.
    #[must_use]
    pub fn kid(mut self, kid: &[u8]) -> Self {
        self.protected = self.protected.put(HEADER_KID, Value::Bytes(kid.to_vec()));
        self
    }

    /// Names the payload's media type in the protected header.
    #[must_use]
    pub fn content_type(mut self, media_type: &str) -> Self {
        self.protected = self
            .protected
            .put(HEADER_CONTENT_TYPE, String::from(media_type));
        self
    }

    /// Adds DER certificates, the signer's first, to the unprotected header.
    #[must_use]
    pub fn x5chain(mut self, chain: &[Vec<u8>]) -> Self {
        let mut certificates: Vec<Value> = chain.iter().cloned().map(Value::Bytes).collect();
        let value = match certificates.len() {
            0 => return self,
            1 => certificates.remove(0),
            _ => Value::Array(certificates),
        };
        self.unprotected = self.unprotected.put(HEADER_X5CHAIN, value);
        self
    }

    /// The bytes to sign (Sig_structure).
    ///
    /// # Errors
    /// `CoseError::Cbor` if a header was given twice.
    pub fn to_be_signed(&self, external_aad: &[u8], payload: &[u8]) -> Result<Vec<u8>, CoseError> {
        sig_structure(&self.protected.clone().encode()?, external_aad, payload)
    }

    /// The encoded, tagged structure; `payload` is `None` where it is detached.
    ///
    /// # Errors
    /// `CoseError::Cbor` if a header was given twice.
    pub fn finish(self, payload: Option<&[u8]>, signature: &[u8]) -> Result<Vec<u8>, CoseError> {
        let items = vec![
            Value::Bytes(self.protected.encode()?),
            self.unprotected.finish()?,
            payload.map_or(Value::Null, |payload| Value::Bytes(payload.to_vec())),
            Value::Bytes(signature.to_vec()),
        ];
        Ok(cbor::encode(&cbor::tagged(TAG_SIGN1, Value::Array(items)))?)
    }
}

/// Protected and unprotected headers that are being read.
pub(super) struct Headers {
    pub(super) protected: MapReader,
    unprotected: MapReader,
}

impl Headers {
    pub(super) fn read(protected: &[u8], unprotected: Value) -> Result<Self, CoseError> {
        let protected = match protected {
            [] => Value::Map(Vec::new()),
            bytes => cbor::decode_limited(bytes, LIMITS)?,
        };
        let mut protected = MapReader::new(protected, "protected header")?;
        if protected.take(HEADER_CRIT).is_some() {
            return Err(CoseError::Critical);
        }
        Ok(Self {
            protected,
            unprotected: MapReader::new(unprotected, "unprotected header")?,
        })
    }

    /// A header from either map.
    pub(super) fn take(&mut self, label: i64) -> Result<Option<Value>, CoseError> {
        match (self.protected.take(label), self.unprotected.take(label)) {
            (Some(_), Some(_)) => Err(CoseError::HeaderTwice { label }),
            (protected, unprotected) => Ok(protected.or(unprotected)),
        }
    }

    pub(super) fn kid(&mut self) -> Result<Option<Vec<u8>>, CoseError> {
        let kid = self.take(HEADER_KID)?;
        Ok(kid
            .map(|kid| cbor::into_bytes_sized(kid, "kid", 0, MAX_KID_LEN))
            .transpose()?)
    }
}

fn chain(value: Value) -> Result<Vec<Vec<u8>>, CoseError> {
    let items = match value {
        Value::Array(items) => items,
        single => vec![single],
    };
    cbor::check_len(items.len(), "x5chain", 1, MAX_CHAIN)?;
    Ok(items
        .into_iter()
        .map(|item| cbor::into_bytes_sized(item, "x5chain", 1, MAX_HEADER_LEN))
        .collect::<Result<_, _>>()?)
}

fn sig_structure(
    protected: &[u8],
    external_aad: &[u8],
    payload: &[u8],
) -> Result<Vec<u8>, CoseError> {
    // A protected header that is an empty map is signed as a byte string of zero length.
    let protected = if protected == [0xa0] { &[] } else { protected };
    let bytes = |b: &[u8]| Value::Bytes(b.to_vec());
    Ok(cbor::encode(&Value::Array(vec![
        "Signature1".into(),
        bytes(protected),
        bytes(external_aad),
        bytes(payload),
    ]))?)
}
