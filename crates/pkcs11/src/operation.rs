//! Mechanisms, and the operations that a session has under way: digest, sign, verify.

use std::sync::Arc;

use cryptoki_sys as ck;
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::Zeroizing;

use crate::key::{Key, Kind};
use crate::rv::{Result, rv};

/// Every mechanism, with what can be done by it.
pub(crate) const MECHANISMS: &[(ck::CK_MECHANISM_TYPE, ck::CK_MECHANISM_INFO)] = &[
    (ck::CKM_ECDSA, ec(SIGNS, 256, 384)),
    (ck::CKM_ECDSA_SHA256, ec(SIGNS, 256, 384)),
    (ck::CKM_ECDSA_SHA384, ec(SIGNS, 256, 384)),
    (ck::CKM_ECDSA_SHA512, ec(SIGNS, 256, 384)),
    (ck::CKM_ECDH1_DERIVE, ec(ck::CKF_DERIVE, 256, 384)),
    (
        ck::CKM_EDDSA,
        ck::CK_MECHANISM_INFO {
            ulMinKeySize: 255,
            ulMaxKeySize: 255,
            flags: SIGNS | ck::CKF_EC_NAMEDCURVE,
        },
    ),
    (ck::CKM_SHA256, DIGESTS),
    (ck::CKM_SHA384, DIGESTS),
    (ck::CKM_SHA512, DIGESTS),
];

const SIGNS: ck::CK_FLAGS = ck::CKF_SIGN | ck::CKF_VERIFY;
const DIGESTS: ck::CK_MECHANISM_INFO = ck::CK_MECHANISM_INFO {
    ulMinKeySize: 0,
    ulMaxKeySize: 0,
    flags: ck::CKF_DIGEST,
};

const fn ec(
    does: ck::CK_FLAGS,
    min_bits: ck::CK_ULONG,
    max_bits: ck::CK_ULONG,
) -> ck::CK_MECHANISM_INFO {
    ck::CK_MECHANISM_INFO {
        ulMinKeySize: min_bits,
        ulMaxKeySize: max_bits,
        flags: does | ck::CKF_EC_F_P | ck::CKF_EC_NAMEDCURVE | ck::CKF_EC_UNCOMPRESS,
    }
}

/// A mechanism of the caller, its parameter copied.
pub(crate) struct Mechanism {
    pub kind: ck::CK_MECHANISM_TYPE,
    pub parameter: Parameter,
}

/// The parameters there are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    None,
    /// `CK_EDDSA_PARAMS`: prehash flag and whether there is a context.
    Eddsa {
        prehash: bool,
        context: bool,
    },
    /// `CK_ECDH1_DERIVE_PARAMS`.
    Ecdh {
        kdf: ck::CK_EC_KDF_TYPE,
        shared_data: bool,
        public: Vec<u8>,
    },
    /// Bytes that mean nothing to any mechanism here.
    Unknown,
}

/// Takes data in, piece by piece.
pub(crate) enum Intake {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
    /// Kept as it is, up to so many bytes.
    Whole(Zeroizing<Vec<u8>>, usize),
}

impl Intake {
    /// Of a digest mechanism.
    pub(crate) fn digest(mechanism: &Mechanism) -> Result<Self> {
        let intake = match mechanism.kind {
            ck::CKM_SHA256 => Self::Sha256(Sha256::new()),
            ck::CKM_SHA384 => Self::Sha384(Sha384::new()),
            ck::CKM_SHA512 => Self::Sha512(Sha512::new()),
            _ => return Err(rv!(CKR_MECHANISM_INVALID)),
        };
        if mechanism.parameter != Parameter::None {
            return Err(rv!(CKR_MECHANISM_PARAM_INVALID));
        }
        Ok(intake)
    }

    /// Takes some bytes more.
    pub(crate) fn update(&mut self, data: &[u8]) -> Result<()> {
        match self {
            Self::Sha256(hash) => hash.update(data),
            Self::Sha384(hash) => hash.update(data),
            Self::Sha512(hash) => hash.update(data),
            Self::Whole(kept, max) => {
                if kept.len().saturating_add(data.len()) > *max {
                    return Err(rv!(CKR_DATA_LEN_RANGE));
                }
                kept.extend_from_slice(data);
            }
        }
        Ok(())
    }

    /// Length of what comes out; of data kept whole as much as there is.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Sha256(_) => 32,
            Self::Sha384(_) => 48,
            Self::Sha512(_) => 64,
            Self::Whole(kept, _) => kept.len(),
        }
    }

    /// What comes out.
    pub(crate) fn finish(self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(match self {
            Self::Sha256(hash) => hash.finalize().to_vec(),
            Self::Sha384(hash) => hash.finalize().to_vec(),
            Self::Sha512(hash) => hash.finalize().to_vec(),
            Self::Whole(kept, _) => return kept,
        })
    }
}

/// Signing or verifying that is under way.
pub(crate) struct KeyUse {
    pub key: Arc<Key>,
    intake: Intake,
    /// `…Update` was called: only `…Final` may end it.
    pub in_parts: bool,
}

impl KeyUse {
    /// By a signature mechanism.
    pub(crate) fn begin(key: &Arc<Key>, mechanism: &Mechanism) -> Result<Self> {
        let none = mechanism.parameter == Parameter::None;
        let (intake, eddsa) = match mechanism.kind {
            ck::CKM_ECDSA => (
                Intake::Whole(Zeroizing::default(), DIGEST_LEN_BYTES_MAX),
                false,
            ),
            ck::CKM_ECDSA_SHA256 => (Intake::Sha256(Sha256::new()), false),
            ck::CKM_ECDSA_SHA384 => (Intake::Sha384(Sha384::new()), false),
            ck::CKM_ECDSA_SHA512 => (Intake::Sha512(Sha512::new()), false),
            ck::CKM_EDDSA => (
                Intake::Whole(Zeroizing::default(), MESSAGE_LEN_BYTES_MAX),
                true,
            ),
            _ => return Err(rv!(CKR_MECHANISM_INVALID)),
        };
        // Plain Ed25519 only: no prehash, no context.
        let plain = none
            || eddsa
                && mechanism.parameter
                    == (Parameter::Eddsa {
                        prehash: false,
                        context: false,
                    });
        if !plain {
            return Err(rv!(CKR_MECHANISM_PARAM_INVALID));
        }
        if eddsa != (key.kind == Kind::Ed25519) {
            return Err(rv!(CKR_KEY_TYPE_INCONSISTENT));
        }
        if !key.signs {
            return Err(rv!(CKR_KEY_FUNCTION_NOT_PERMITTED));
        }
        Ok(Self {
            key: Arc::clone(key),
            intake,
            in_parts: false,
        })
    }

    /// Takes some bytes more.
    pub(crate) fn update(&mut self, data: &[u8]) -> Result<()> {
        self.intake.update(data)
    }

    /// What the key signs: a fitted digest, or a message.
    pub(crate) fn finish(self) -> Result<(Arc<Key>, Zeroizing<Vec<u8>>)> {
        let input = self.intake.finish();
        if self.key.kind == Kind::Ed25519 {
            return Ok((self.key, input));
        }
        if input.is_empty() {
            return Err(rv!(CKR_DATA_LEN_RANGE));
        }
        let fitted = Zeroizing::new(self.key.fit(&input));
        Ok((self.key, fitted))
    }
}

/// Longest digest for `CKM_ECDSA`: 1024 bits. Spec: PKCS #11 3.1 section 6.3.12.
const DIGEST_LEN_BYTES_MAX: usize = 128;
/// Longest message for `CKM_EDDSA`: it goes into the TEE whole.
const MESSAGE_LEN_BYTES_MAX: usize = 256 * 1024;
