//! How a message is protected: algorithms and their parameters.
//!
//! Spec: RFC 9481 section 6 (MAC algorithms), RFC 9810 section 5.1.3, RFC 9579.

use super::{CmpError, oid};
use crate::x509::SignatureAlg;
use alloc::vec::Vec;
use der::{
    Any, AnyRef, Decode, Encode, Sequence,
    asn1::{ObjectIdentifier, OctetString},
};
use spki::AlgorithmIdentifierOwned;

/// Longest salt accepted, in bytes.
const MAX_SALT_BYTES: usize = 64;
/// Fewest iterations of PasswordBasedMac accepted. Spec: RFC 9810 section 5.1.3.1.
const PBM_ITERATIONS_MIN: u32 = 100;
/// Most iterations accepted: a peer must not buy seconds of our time with one message.
const ITERATIONS_MAX: u32 = 100_000;

/// A hash function, or the HMAC with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum HashAlg {
    /// SHA-1; only where a peer's PasswordBasedMac or PBKDF2 names it.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl HashAlg {
    /// Every function.
    const ALL: [Self; 4] = [Self::Sha1, Self::Sha256, Self::Sha384, Self::Sha512];

    /// Output length in bytes.
    pub const fn len(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Never: every function has output. Present because `len` is.
    pub const fn is_empty(self) -> bool {
        false
    }

    /// Object identifier of the hash.
    pub const fn hash_oid(self) -> ObjectIdentifier {
        match self {
            Self::Sha1 => oid::SHA1,
            Self::Sha256 => oid::SHA256,
            Self::Sha384 => oid::SHA384,
            Self::Sha512 => oid::SHA512,
        }
    }

    /// Object identifier of the HMAC with this hash.
    pub const fn hmac_oid(self) -> ObjectIdentifier {
        match self {
            Self::Sha1 => oid::HMAC_WITH_SHA1,
            Self::Sha256 => oid::HMAC_WITH_SHA256,
            Self::Sha384 => oid::HMAC_WITH_SHA384,
            Self::Sha512 => oid::HMAC_WITH_SHA512,
        }
    }

    /// The hash an AlgorithmIdentifier names. Parameters: absent or NULL.
    pub fn from_hash_identifier(id: &AlgorithmIdentifierOwned) -> Option<Self> {
        if !plain(id) {
            return None;
        }
        Self::ALL.into_iter().find(|h| h.hash_oid() == id.oid)
    }

    /// The HMAC an AlgorithmIdentifier names. Parameters: absent or NULL.
    pub fn from_hmac_identifier(id: &AlgorithmIdentifierOwned) -> Option<Self> {
        if !plain(id) {
            return None;
        }
        if id.oid == oid::HMAC_SHA1_IPSEC {
            return Some(Self::Sha1);
        }
        Self::ALL.into_iter().find(|h| h.hmac_oid() == id.oid)
    }

    /// AlgorithmIdentifier of the hash, parameters absent. Spec: RFC 5754 section 2.
    pub const fn hash_identifier(self) -> AlgorithmIdentifierOwned {
        AlgorithmIdentifierOwned {
            oid: self.hash_oid(),
            parameters: None,
        }
    }

    /// AlgorithmIdentifier of the HMAC, parameters NULL. Spec: RFC 8018 appendix B.1.2.
    pub fn hmac_identifier(self) -> AlgorithmIdentifierOwned {
        AlgorithmIdentifierOwned {
            oid: self.hmac_oid(),
            parameters: Some(Any::null()),
        }
    }
}

/// Whether the parameters are absent or NULL.
fn plain(id: &AlgorithmIdentifierOwned) -> bool {
    id.parameters.as_ref().is_none_or(|p| p.to_ref().is_null())
}

/// Parameters of PasswordBasedMac, checked.
///
/// Key = OWF applied `iterations` times to (secret ‖ salt); MAC = HMAC with that key.
///
/// Spec: RFC 9810 section 5.1.3.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PbmParameter {
    /// Salt, at most 64 bytes.
    pub salt: Vec<u8>,
    /// One-way function.
    pub owf: HashAlg,
    /// 100 to 100,000.
    pub iterations: u32,
    /// Hash of the HMAC.
    pub mac: HashAlg,
}

/// PBMParameter on the wire.
#[derive(Sequence)]
struct PbmSeq {
    /// salt.
    salt: OctetString,
    /// owf.
    owf: AlgorithmIdentifierOwned,
    /// iterationCount.
    iterations: u32,
    /// mac.
    mac: AlgorithmIdentifierOwned,
}

/// Parameters of PBMAC1 with PBKDF2, checked.
///
/// Key = PBKDF2(secret, salt, iterations, key_len, prf); MAC = HMAC with that key.
///
/// Spec: RFC 8018 appendix A.5, RFC 9481 section 6.1.2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pbmac1Parameter {
    /// Salt, at most 64 bytes.
    pub salt: Vec<u8>,
    /// 1 to 100,000.
    pub iterations: u32,
    /// Length of the derived key in bytes; the MAC's output length if the peer left it out.
    pub key_len: usize,
    /// Hash of PBKDF2's HMAC.
    pub prf: HashAlg,
    /// Hash of the HMAC.
    pub mac: HashAlg,
}

/// PBMAC1-params on the wire.
#[derive(Sequence)]
struct Pbmac1Seq {
    /// keyDerivationFunc.
    kdf: AlgorithmIdentifierOwned,
    /// messageAuthScheme.
    mac: AlgorithmIdentifierOwned,
}

/// PBKDF2-params on the wire; salt only in its `specified` form.
#[derive(Sequence)]
struct Pbkdf2Seq {
    /// salt.
    salt: OctetString,
    /// iterationCount.
    iterations: u32,
    /// keyLength.
    key_len: Option<u16>,
    /// prf, by default HMAC-SHA1.
    prf: Option<AlgorithmIdentifierOwned>,
}

/// The algorithm of protectionAlg.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProtectionAlg {
    /// HMAC directly with the shared secret as key. What our devices use, with SHA-256.
    Hmac(HashAlg),
    /// PasswordBasedMac.
    PasswordBasedMac(PbmParameter),
    /// PBMAC1.
    Pbmac1(Pbmac1Parameter),
    /// A signature.
    Signature(SignatureAlg),
    /// Something else; cannot be verified.
    Other(ObjectIdentifier),
}

impl ProtectionAlg {
    /// HMAC-SHA256 directly with the shared secret. Spec: RFC 9481 section 6.2.1.
    pub const HMAC_SHA256: Self = Self::Hmac(HashAlg::Sha256);

    /// Reads an AlgorithmIdentifier.
    ///
    /// # Errors
    /// [`CmpError::ProtectionParameters`] if the parameters are malformed or out of range.
    pub fn from_identifier(id: &AlgorithmIdentifierOwned) -> Result<Self, CmpError> {
        if id.oid == oid::PASSWORD_BASED_MAC {
            return read_pbm(id).map(Self::PasswordBasedMac);
        }
        if id.oid == oid::PBMAC1 {
            return read_pbmac1(id).map(Self::Pbmac1);
        }
        if let Some(hash) = HashAlg::from_hmac_identifier(id) {
            return Ok(Self::Hmac(hash));
        }
        Ok(SignatureAlg::from_identifier(id).map_or(Self::Other(id.oid), Self::Signature))
    }

    /// Writes an AlgorithmIdentifier.
    ///
    /// # Errors
    /// If a salt is too long to encode.
    pub fn to_identifier(&self) -> Result<AlgorithmIdentifierOwned, CmpError> {
        Ok(match self {
            Self::Hmac(hash) => hash.hmac_identifier(),
            Self::Signature(alg) => alg.identifier(),
            Self::Other(oid) => AlgorithmIdentifierOwned {
                oid: *oid,
                parameters: None,
            },
            Self::PasswordBasedMac(p) => {
                let params = PbmSeq {
                    salt: OctetString::new(p.salt.as_slice())?,
                    owf: p.owf.hash_identifier(),
                    iterations: p.iterations,
                    mac: p.mac.hmac_identifier(),
                };
                with_parameters(oid::PASSWORD_BASED_MAC, &params)?
            }
            Self::Pbmac1(p) => {
                let kdf = Pbkdf2Seq {
                    salt: OctetString::new(p.salt.as_slice())?,
                    iterations: p.iterations,
                    key_len: Some(
                        u16::try_from(p.key_len).map_err(|_| CmpError::ProtectionParameters)?,
                    ),
                    prf: match p.prf {
                        // DER leaves a DEFAULT out.
                        HashAlg::Sha1 => None,
                        other => Some(other.hmac_identifier()),
                    },
                };
                let params = Pbmac1Seq {
                    kdf: with_parameters(oid::PBKDF2, &kdf)?,
                    mac: p.mac.hmac_identifier(),
                };
                with_parameters(oid::PBMAC1, &params)?
            }
        })
    }

    /// Whether this is a MAC with a shared secret.
    pub fn is_mac(&self) -> bool {
        matches!(
            self,
            Self::Hmac(_) | Self::PasswordBasedMac(_) | Self::Pbmac1(_)
        )
    }
}

/// An AlgorithmIdentifier with parameters.
fn with_parameters(
    oid: ObjectIdentifier,
    params: &impl Encode,
) -> Result<AlgorithmIdentifierOwned, CmpError> {
    Ok(AlgorithmIdentifierOwned {
        oid,
        parameters: Some(Any::from_der(&params.to_der()?)?),
    })
}

/// Decodes an AlgorithmIdentifier's parameters.
fn parameters<'a, T>(id: &'a AlgorithmIdentifierOwned) -> Result<T, CmpError>
where
    T: der::Choice<'a> + der::DecodeValue<'a, Error = der::Error>,
{
    let any: AnyRef<'a> = id
        .parameters
        .as_ref()
        .map(Any::to_ref)
        .ok_or(CmpError::ProtectionParameters)?;
    any.decode_as().map_err(|_| CmpError::ProtectionParameters)
}

/// A salt within its limit.
fn salt(octets: &OctetString) -> Result<Vec<u8>, CmpError> {
    if octets.as_bytes().len() > MAX_SALT_BYTES {
        return Err(CmpError::ProtectionParameters);
    }
    Ok(octets.as_bytes().to_vec())
}

/// Reads PBMParameter.
fn read_pbm(id: &AlgorithmIdentifierOwned) -> Result<PbmParameter, CmpError> {
    let seq: PbmSeq = parameters(id)?;
    if !(PBM_ITERATIONS_MIN..=ITERATIONS_MAX).contains(&seq.iterations) {
        return Err(CmpError::ProtectionParameters);
    }
    Ok(PbmParameter {
        salt: salt(&seq.salt)?,
        owf: HashAlg::from_hash_identifier(&seq.owf).ok_or(CmpError::ProtectionParameters)?,
        iterations: seq.iterations,
        mac: HashAlg::from_hmac_identifier(&seq.mac).ok_or(CmpError::ProtectionParameters)?,
    })
}

/// Reads PBMAC1-params.
fn read_pbmac1(id: &AlgorithmIdentifierOwned) -> Result<Pbmac1Parameter, CmpError> {
    let seq: Pbmac1Seq = parameters(id)?;
    if seq.kdf.oid != oid::PBKDF2 {
        return Err(CmpError::ProtectionParameters);
    }
    let kdf: Pbkdf2Seq = parameters(&seq.kdf)?;
    if !(1..=ITERATIONS_MAX).contains(&kdf.iterations) {
        return Err(CmpError::ProtectionParameters);
    }
    let mac = HashAlg::from_hmac_identifier(&seq.mac).ok_or(CmpError::ProtectionParameters)?;
    let prf = match &kdf.prf {
        None => HashAlg::Sha1,
        Some(id) => HashAlg::from_hmac_identifier(id).ok_or(CmpError::ProtectionParameters)?,
    };
    let key_len = kdf.key_len.map_or(mac.len(), usize::from);
    if !(16..=64).contains(&key_len) {
        return Err(CmpError::ProtectionParameters);
    }
    Ok(Pbmac1Parameter {
        salt: salt(&kdf.salt)?,
        iterations: kdf.iterations,
        key_len,
        prf,
        mac,
    })
}
