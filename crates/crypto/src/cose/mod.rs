//! COSE_Sign1 made and verified, and COSE_Mac0 verified.
//!
//! Invariants: the algorithm counts only from the protected header and must be the key's own; a
//! critical header that is not understood refuses the message; a header label occurs once. What
//! was verified is a [`VerifiedSign1`], which nothing else can make.
//!
//! Spec: RFC 9052, RFC 9053, RFC 9864 (fully specified algorithms), RFC 9679 (kid).

use alloc::vec;
use alloc::vec::Vec;

use tegata_wire::cbor::{self, MapBuilder, Pieces, Value};

use crate::{CryptoError, Provider, PublicKey, Signer, ct_eq};

mod headers;

pub use headers::ContentType;
pub(crate) use headers::{ALG, Headers, IV, KID, integer, open_array};

/// Largest message, in bytes: a TEEP Update with a whole TA inside stays far below.
pub const COSE_LEN_BYTES_MAX: usize = 8 << 20;

/// Most keys tried for one message, which bounds the signatures verified for a stranger.
pub const CANDIDATES_MAX: usize = 8;

const TAG_SIGN1: u64 = 18;
const TAG_MAC0: u64 = 17;
const TAG_CWT: u64 = 61;

/// Headers whose meaning is processed here, so that `crit` may name them.
const UNDERSTOOD: [i64; 3] = [headers::ALG, headers::CONTENT_TYPE, headers::KID];

/// HMAC 256/256. Spec: RFC 9053 section 3.1.
const HMAC_256_256: i64 = 5;

/// Headers beyond `alg` (protected) and `kid` (protected, the key's thumbprint).
#[derive(Debug, Clone, Default)]
pub struct Sign1Headers {
    /// Protected content type.
    pub content_type: Option<ContentType>,
    /// Unprotected x5chain, leaf first, DER (RFC 9360).
    pub x5chain: Vec<Vec<u8>>,
    /// Leave out CBOR tag 18.
    pub untagged: bool,
    /// Leave out `kid`.
    pub no_kid: bool,
}

/// A COSE_Sign1 whose signature was verified.
#[derive(Debug)]
#[must_use]
pub struct VerifiedSign1 {
    payload: Vec<u8>,
    kid: Option<Vec<u8>>,
    alg: i64,
    key: PublicKey,
    content_type: Option<ContentType>,
}

impl VerifiedSign1 {
    /// The signed payload (attached, or the detached one that was given).
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// The signed payload, by value.
    pub fn into_payload(self) -> Vec<u8> {
        self.payload
    }

    /// Key identifier of the message, if it has one.
    pub fn kid(&self) -> Option<&[u8]> {
        self.kid.as_deref()
    }

    /// Algorithm number of the message.
    pub fn alg(&self) -> i64 {
        self.alg
    }

    /// The key that verified.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// Protected content type.
    pub fn content_type(&self) -> Option<&ContentType> {
        self.content_type.as_ref()
    }
}

/// What a COSE_Sign1 says of itself, before any check: to look up its key, for nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnverifiedHeaders {
    /// Key identifier.
    pub kid: Option<Vec<u8>>,
    /// Algorithm number.
    pub alg: i64,
    /// Certificates, leaf first, DER.
    pub x5chain: Vec<Vec<u8>>,
}

/// Where the key of a message is looked up. Implemented for collections of keys (by thumbprint)
/// and for closures from `kid`.
pub trait Keys {
    /// The keys to try for this `kid`; at most [`CANDIDATES_MAX`] are.
    fn candidates(&self, kid: Option<&[u8]>) -> Vec<PublicKey>;
}

impl Keys for [PublicKey] {
    fn candidates(&self, kid: Option<&[u8]>) -> Vec<PublicKey> {
        let matches = |key: &&PublicKey| kid.is_none_or(|kid| kid == key.thumbprint());
        self.iter().filter(matches).cloned().collect()
    }
}

impl<const N: usize> Keys for [PublicKey; N] {
    fn candidates(&self, kid: Option<&[u8]>) -> Vec<PublicKey> {
        self.as_slice().candidates(kid)
    }
}

impl Keys for Vec<PublicKey> {
    fn candidates(&self, kid: Option<&[u8]>) -> Vec<PublicKey> {
        self.as_slice().candidates(kid)
    }
}

impl Keys for PublicKey {
    fn candidates(&self, kid: Option<&[u8]>) -> Vec<PublicKey> {
        core::slice::from_ref(self).candidates(kid)
    }
}

impl<F: Fn(Option<&[u8]>) -> Option<PublicKey>> Keys for F {
    fn candidates(&self, kid: Option<&[u8]>) -> Vec<PublicKey> {
        self(kid).into_iter().collect()
    }
}

/// Why a COSE message is refused or cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoseError {
    /// Not the structure that was expected.
    #[error("malformed COSE message")]
    Malformed,
    /// Not CBOR that we accept.
    #[error("COSE message is not acceptable CBOR")]
    Cbor(#[from] cbor::CborError),
    /// Above the limit on size.
    #[error("COSE message has {got} bytes, above the limit of {limit}")]
    TooLarge {
        /// Limit, in bytes.
        limit: usize,
        /// Length found, in bytes.
        got: usize,
    },
    /// No `alg` in the protected header.
    #[error("no algorithm in the protected header")]
    NoAlgorithm,
    /// An algorithm that we do not implement, or that is not the key's.
    #[error("algorithm {alg} is not acceptable here")]
    Algorithm {
        /// COSE algorithm number.
        alg: i64,
    },
    /// A critical header that we do not process, or a broken `crit`.
    #[error("critical header not understood")]
    Critical,
    /// No key for this `kid`.
    #[error("no key for this kid")]
    UnknownKey,
    /// A detached payload was given for an attached one, or none for a detached one.
    #[error("payload attached or detached against expectation")]
    Detached,
    /// Key or signature refused.
    #[error("refused key or signature")]
    Crypto(#[from] CryptoError),
}

/// Makes a COSE_Sign1 with the payload inside, or left out if `detached`.
///
/// # Errors
/// What the signer reports.
///
/// Spec: RFC 9052 section 4.2 and 4.4; kid: RFC 9679.
pub fn sign1(
    signer: &dyn Signer,
    payload: &[u8],
    headers: &Sign1Headers,
    external_aad: &[u8],
    detached: bool,
) -> Result<Vec<u8>, CoseError> {
    sign1_pieces(
        signer,
        &Pieces::raw(payload),
        headers,
        external_aad,
        detached,
    )
}

/// The same with a payload in pieces, which is copied into the message alone, where the signer hashes it here.
///
/// # Errors
/// As [`sign1`].
pub fn sign1_pieces(
    signer: &dyn Signer,
    payload: &Pieces<'_>,
    headers: &Sign1Headers,
    external_aad: &[u8],
    detached: bool,
) -> Result<Vec<u8>, CoseError> {
    let key = signer.public_key();
    let mut protected = MapBuilder::new().put(headers::ALG, key.alg().cose_alg());
    match &headers.content_type {
        Some(ContentType::Number(number)) => {
            protected = protected.put(headers::CONTENT_TYPE, *number);
        }
        Some(ContentType::Text(text)) => {
            protected = protected.put(headers::CONTENT_TYPE, text.as_str());
        }
        None => {}
    }
    if !headers.no_kid {
        protected = protected.put(headers::KID, Value::Bytes(key.thumbprint().to_vec()));
    }
    let protected = protected.encode()?;
    let mut unprotected = MapBuilder::new();
    let mut chain = headers.x5chain.iter().cloned().map(Value::Bytes);
    match chain.len() {
        0 => {}
        1 => unprotected = unprotected.put_opt(headers::X5CHAIN, chain.next()),
        _ => unprotected = unprotected.put(headers::X5CHAIN, Value::Array(chain.collect())),
    }
    let payload = payload.clone().into_bytes()?;
    let signed = in_pieces(
        "Signature1",
        &protected,
        [Pieces::bytes(external_aad)?, payload.clone()],
    )?;
    let signature = signer.sign_pieces(&signed.iter().collect::<Vec<_>>())?;
    let message = Pieces::array(vec![
        Pieces::bytes(protected)?,
        Pieces::value(&unprotected.finish()?)?,
        if detached {
            Pieces::value(&Value::Null)?
        } else {
            payload
        },
        Pieces::bytes(signature)?,
    ])?;
    let message = if headers.untagged {
        message
    } else {
        message.tagged(TAG_SIGN1)?
    };
    Ok(message.to_vec())
}

/// Verifies a COSE_Sign1, tagged (18, also within 61) or not, with a key from `keys`.
///
/// # Errors
/// [`CoseError`].
///
/// Spec: RFC 9052 section 4.4.
pub fn verify_sign1(
    provider: &dyn Provider,
    bytes: &[u8],
    keys: &(impl Keys + ?Sized),
    external_aad: &[u8],
    detached_payload: Option<&[u8]>,
) -> Result<VerifiedSign1, CoseError> {
    let message = Parsed::new(bytes, &[TAG_CWT, TAG_SIGN1])?;
    message.headers.check_crit(&UNDERSTOOD)?;
    let alg = message.headers.alg()?;
    if crate::KeyAlg::from_cose_alg(alg).is_none() {
        return Err(CoseError::Algorithm { alg });
    }
    let kid = message.headers.kid()?.map(<[u8]>::to_vec);
    let content_type = message.headers.content_type()?;
    let payload = message.payload(detached_payload)?;
    let signed = sig_structure(&message.headers.protected_bytes, external_aad, &payload)?;
    let mut refused = CoseError::UnknownKey;
    for key in keys
        .candidates(kid.as_deref())
        .into_iter()
        .take(CANDIDATES_MAX)
    {
        if !key.alg().cose_alg_matches(alg) {
            refused = CoseError::Algorithm { alg };
            continue;
        }
        match provider.verify(&key, &signed, &message.tag) {
            Ok(()) => {
                return Ok(VerifiedSign1 {
                    payload,
                    kid,
                    alg,
                    key,
                    content_type,
                });
            }
            Err(error) => refused = error.into(),
        }
    }
    Err(refused)
}

/// Reads the headers of a COSE_Sign1 without any check of its signature.
///
/// # Errors
/// [`CoseError`] if it would be refused for its form.
pub fn unverified_headers(bytes: &[u8]) -> Result<UnverifiedHeaders, CoseError> {
    let message = Parsed::new(bytes, &[TAG_CWT, TAG_SIGN1])?;
    Ok(UnverifiedHeaders {
        kid: message.headers.kid()?.map(<[u8]>::to_vec),
        alg: message.headers.alg()?,
        x5chain: message.headers.x5chain()?,
    })
}

/// The payload of a COSE_Sign1 without any check of its signature: to look up its key, for nothing else.
///
/// # Errors
/// [`CoseError`] if it would be refused for its form; `Detached` if the payload is elsewhere.
pub fn unverified_payload(bytes: &[u8]) -> Result<Vec<u8>, CoseError> {
    Parsed::new(bytes, &[TAG_CWT, TAG_SIGN1])?.payload(None)
}

/// Verifies a COSE_Mac0 with HMAC 256/256 and returns its payload.
///
/// # Errors
/// [`CoseError`].
///
/// Spec: RFC 9052 section 6.2.
pub fn verify_mac0(
    provider: &dyn Provider,
    bytes: &[u8],
    key: &[u8],
    external_aad: &[u8],
    detached_payload: Option<&[u8]>,
) -> Result<Vec<u8>, CoseError> {
    let message = Parsed::new(bytes, &[TAG_CWT, TAG_MAC0])?;
    message.headers.check_crit(&UNDERSTOOD)?;
    let alg = message.headers.alg()?;
    if alg != HMAC_256_256 {
        return Err(CoseError::Algorithm { alg });
    }
    let payload = message.payload(detached_payload)?;
    let protected = &message.headers.protected_bytes;
    let maced = structure("MAC0", protected, &[external_aad, &payload])?;
    if !ct_eq(&provider.hmac_sha256(key, &maced), &message.tag) {
        return Err(CryptoError::BadMac.into());
    }
    Ok(payload)
}

/// COSE_Sign1 or COSE_Mac0: headers, payload, and signature or tag.
struct Parsed {
    headers: Headers,
    payload: Option<Vec<u8>>,
    tag: Vec<u8>,
}

impl Parsed {
    fn new(bytes: &[u8], tags: &[u64]) -> Result<Self, CoseError> {
        let items: [Value; 4] = open_array(bytes, tags, 4)?
            .try_into()
            .map_err(|_| CoseError::Malformed)?;
        let [protected, unprotected, payload, tag] = items;
        let payload = match payload {
            Value::Bytes(payload) => Some(payload),
            Value::Null => None,
            _ => return Err(CoseError::Malformed),
        };
        Ok(Self {
            headers: Headers::new(protected, unprotected)?,
            payload,
            tag: tag.into_bytes().map_err(|_| CoseError::Malformed)?,
        })
    }

    fn payload(&self, detached: Option<&[u8]>) -> Result<Vec<u8>, CoseError> {
        match (&self.payload, detached) {
            (Some(payload), None) => Ok(payload.clone()),
            (None, Some(payload)) => Ok(payload.to_vec()),
            _ => Err(CoseError::Detached),
        }
    }
}

fn sig_structure(protected: &[u8], aad: &[u8], payload: &[u8]) -> Result<Vec<u8>, CoseError> {
    structure("Signature1", protected, &[aad, payload])
}

/// The bytes that are signed, MACed or authenticated: context, protected header, then `parts`.
///
/// An empty protected map counts as zero bytes, however it was sent. Spec: RFC 9052 section 4.4.
pub(crate) fn structure(
    context: &str,
    protected: &[u8],
    parts: &[&[u8]],
) -> Result<Vec<u8>, CoseError> {
    let parts = parts.iter().map(|part| Pieces::bytes(*part));
    let parts = parts.collect::<Result<Vec<_>, _>>()?;
    Ok(in_pieces(context, protected, parts)?.to_vec())
}

/// The same of encoded parts.
fn in_pieces<'a>(
    context: &str,
    protected: &'a [u8],
    parts: impl IntoIterator<Item = Pieces<'a>>,
) -> Result<Pieces<'a>, CoseError> {
    let protected = if protected == [0xa0] { &[] } else { protected };
    let mut items = vec![Pieces::value(&context.into())?, Pieces::bytes(protected)?];
    items.extend(parts);
    Ok(Pieces::array(items)?)
}
