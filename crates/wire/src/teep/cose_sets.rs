//! Sets of COSE algorithms that TEEP negotiates.

use alloc::vec;
use alloc::vec::Vec;

use super::TeepError;
use crate::cbor::{self, Value};
use crate::cose;

/// A cipher suite: COSE operations in their order, each a structure's number and an algorithm.
///
/// Suites with parts that are not known are kept as they came, and simply never match.
///
/// Spec: draft-ietf-teep-protocol-26 section 8
#[derive(Debug, Clone, PartialEq)]
pub struct CipherSuite(pub Vec<Vec<Value>>);

impl CipherSuite {
    /// COSE_Sign1 with this algorithm.
    #[must_use]
    pub fn sign1(alg: i64) -> Self {
        Self(vec![vec![cose::COSE_SIGN1.into(), alg.into()]])
    }

    /// COSE_Sign1 with ESP256: mandatory for a TAM.
    #[must_use]
    pub fn sign1_esp256() -> Self {
        Self::sign1(cose::ALG_ESP256)
    }

    /// COSE_Sign1 with Ed25519: mandatory for a TAM.
    #[must_use]
    pub fn sign1_ed25519() -> Self {
        Self::sign1(cose::ALG_ED25519)
    }

    /// The algorithm, if the suite is a single COSE_Sign1 (old algorithm numbers as the new ones).
    #[must_use]
    pub fn as_sign1(&self) -> Option<i64> {
        let [operation] = self.0.as_slice() else {
            return None;
        };
        let [structure, alg] = operation.as_slice() else {
            return None;
        };
        if cbor::int(structure, "cose structure").ok() != Some(cose::COSE_SIGN1) {
            return None;
        }
        cbor::int(alg, "cose algorithm").ok().map(cose::modern_alg)
    }

    pub(super) fn from_value(value: Value) -> Result<Self, TeepError> {
        let operations = cbor::into_array(value, "teep-cipher-suite", 1, 4)?
            .into_iter()
            .map(|operation| cbor::into_array(operation, "teep operation", 1, 4))
            .collect::<Result<_, _>>()?;
        Ok(Self(operations))
    }

    pub(super) fn to_value(&self) -> Value {
        Value::Array(
            self.0
                .iter()
                .map(|operation| Value::Array(operation.clone()))
                .collect(),
        )
    }
}

/// A SUIT COSE profile: digest, authentication, key exchange and encryption algorithm.
///
/// Spec: draft-ietf-suit-mti
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SuitCoseProfile {
    /// Digest algorithm.
    pub digest: i64,
    /// Authentication algorithm.
    pub auth: i64,
    /// Key exchange algorithm.
    pub key_exchange: i64,
    /// Content encryption algorithm.
    pub encryption: i64,
}

impl SuitCoseProfile {
    /// suit-sha256-hmac-a128kw-a128ctr.
    pub const SHA256_HMAC_A128KW_A128CTR: Self =
        Self::new(cose::ALG_HMAC_256, cose::ALG_A128KW, cose::ALG_A128CTR);
    /// suit-sha256-esp256-ecdh-a128ctr.
    pub const SHA256_ESP256_ECDH_A128CTR: Self = Self::new(
        cose::ALG_ESP256,
        cose::ALG_ECDH_ES_A128KW,
        cose::ALG_A128CTR,
    );
    /// suit-sha256-ed25519-ecdh-a128ctr.
    pub const SHA256_ED25519_ECDH_A128CTR: Self = Self::new(
        cose::ALG_ED25519,
        cose::ALG_ECDH_ES_A128KW,
        cose::ALG_A128CTR,
    );
    /// suit-sha256-esp256-ecdh-a128gcm: what Tegata's TAM uses.
    pub const SHA256_ESP256_ECDH_A128GCM: Self = Self::new(
        cose::ALG_ESP256,
        cose::ALG_ECDH_ES_A128KW,
        cose::ALG_A128GCM,
    );
    /// suit-sha256-ed25519-ecdh-chacha-poly.
    pub const SHA256_ED25519_ECDH_CHACHA_POLY: Self = Self::new(
        cose::ALG_ED25519,
        cose::ALG_ECDH_ES_A128KW,
        cose::ALG_CHACHA20_POLY1305,
    );

    const fn new(auth: i64, key_exchange: i64, encryption: i64) -> Self {
        Self {
            digest: cose::ALG_SHA_256,
            auth,
            key_exchange,
            encryption,
        }
    }

    /// The same with modern numbers for old ones: the form in which profiles are compared.
    #[must_use]
    pub const fn modern(self) -> Self {
        Self {
            auth: cose::modern_alg(self.auth),
            ..self
        }
    }

    pub(super) fn from_value(value: Value) -> Result<Self, TeepError> {
        const WHAT: &str = "suit-cose-profile";
        let items = cbor::into_array(value, WHAT, 4, 4)?;
        let numbers = items
            .iter()
            .map(|item| cbor::int(item, WHAT))
            .collect::<Result<Vec<_>, _>>()?;
        let [digest, auth, key_exchange, encryption] = *numbers.as_slice() else {
            return Err(TeepError::Invalid { what: WHAT });
        };
        Ok(Self {
            digest,
            auth,
            key_exchange,
            encryption,
        })
    }

    pub(super) fn to_value(self) -> Value {
        let numbers = [self.digest, self.auth, self.key_exchange, self.encryption];
        Value::Array(numbers.into_iter().map(Value::from).collect())
    }
}
