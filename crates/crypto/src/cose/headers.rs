//! Headers and framing of COSE messages, read strictly.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use tegata_wire::cbor::{self, Value};

use super::{COSE_LEN_BYTES_MAX, CoseError};

pub(crate) const ALG: i64 = 1;
pub(crate) const CRIT: i64 = 2;
pub(crate) const CONTENT_TYPE: i64 = 3;
pub(crate) const KID: i64 = 4;
pub(crate) const IV: i64 = 5;
pub(crate) const X5CHAIN: i64 = 33;

/// Deepest nesting of a COSE message, payloads not looked into.
const DEPTH_MAX: usize = 16;
/// Longest kid, in bytes. Ours have 32.
const KID_LEN_BYTES_MAX: usize = 256;
/// Longest content type, in bytes.
const CONTENT_TYPE_LEN_BYTES_MAX: usize = 128;
/// Most certificates in an x5chain.
const X5CHAIN_MAX: usize = 8;

/// `content type` header. Spec: RFC 9052 section 3.1.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContentType {
    /// CoAP Content-Format number.
    Number(u16),
    /// Media type.
    Text(String),
}

/// The items of a COSE array, after its tags.
pub(crate) fn open_array(bytes: &[u8], tags: &[u64], len: usize) -> Result<Vec<Value>, CoseError> {
    if bytes.len() > COSE_LEN_BYTES_MAX {
        return Err(CoseError::TooLarge {
            limit: COSE_LEN_BYTES_MAX,
            got: bytes.len(),
        });
    }
    let mut value = cbor::decode(bytes, DEPTH_MAX)?;
    let tagged = matches!(value, Value::Tag(..));
    for (position, tag) in tags.iter().enumerate() {
        // Outer tags may be missing; but a CWT tag (61) without the COSE tag inside is refused.
        value = match value {
            Value::Tag(found, inner) if found == *tag => *inner,
            Value::Tag(..) => value,
            other if !tagged || position == 0 => other,
            _ => return Err(CoseError::Malformed),
        };
    }
    match value {
        Value::Array(items) if items.len() == len => Ok(items),
        _ => Err(CoseError::Malformed),
    }
}

/// The two header maps of a COSE structure, checked against each other.
#[derive(Debug)]
pub(crate) struct Headers {
    /// The protected map as it came: what is signed.
    pub(crate) protected_bytes: Vec<u8>,
    pub(crate) protected: Vec<(Value, Value)>,
    pub(crate) unprotected: Vec<(Value, Value)>,
}

impl Headers {
    /// Reads both maps.
    ///
    /// Spec: RFC 9052 section 3: a label occurs once in both maps together.
    pub(crate) fn new(protected: Value, unprotected: Value) -> Result<Self, CoseError> {
        let protected_bytes = protected.into_bytes().map_err(|_| CoseError::Malformed)?;
        let protected = if protected_bytes.is_empty() {
            Vec::new()
        } else {
            let map = cbor::decode(&protected_bytes, DEPTH_MAX)?;
            map.into_map().map_err(|_| CoseError::Malformed)?
        };
        let unprotected = unprotected.into_map().map_err(|_| CoseError::Malformed)?;
        for (label, _) in &protected {
            if unprotected.iter().any(|(other, _)| other == label) {
                return Err(CoseError::Malformed);
            }
        }
        let mut labels = protected.iter().chain(&unprotected).map(|(label, _)| label);
        if !labels.all(|label| label.is_integer() || label.is_text()) {
            return Err(CoseError::Malformed);
        }
        Ok(Self {
            protected_bytes,
            protected,
            unprotected,
        })
    }

    pub(crate) fn protected(&self, label: i64) -> Option<&Value> {
        find(&self.protected, label)
    }

    pub(crate) fn either(&self, label: i64) -> Option<&Value> {
        self.protected(label)
            .or_else(|| find(&self.unprotected, label))
    }

    /// Refuses a message with a critical header that is not in `understood`, or a broken `crit`.
    ///
    /// Spec: RFC 9052 section 3.1.
    pub(crate) fn check_crit(&self, understood: &[i64]) -> Result<(), CoseError> {
        if find(&self.unprotected, CRIT).is_some() {
            return Err(CoseError::Critical);
        }
        let Some(crit) = self.protected(CRIT) else {
            return Ok(());
        };
        let labels = crit.as_array().ok_or(CoseError::Critical)?;
        let mut ok = !labels.is_empty();
        for label in labels {
            let known = understood.iter().any(|known| *label == Value::from(*known));
            let present = self.protected.iter().any(|(other, _)| other == label);
            ok &= known && present;
        }
        if ok { Ok(()) } else { Err(CoseError::Critical) }
    }

    /// The algorithm, from the protected map only: an unprotected one could be swapped.
    pub(crate) fn alg(&self) -> Result<i64, CoseError> {
        let value = self.protected(ALG).ok_or(CoseError::NoAlgorithm)?;
        integer(value).ok_or(CoseError::Malformed)
    }

    pub(crate) fn kid(&self) -> Result<Option<&[u8]>, CoseError> {
        match self.either(KID) {
            None => Ok(None),
            Some(Value::Bytes(kid)) if kid.len() <= KID_LEN_BYTES_MAX => Ok(Some(kid)),
            Some(_) => Err(CoseError::Malformed),
        }
    }

    pub(crate) fn content_type(&self) -> Result<Option<ContentType>, CoseError> {
        match self.protected(CONTENT_TYPE) {
            None => Ok(None),
            Some(Value::Text(text)) if text.len() <= CONTENT_TYPE_LEN_BYTES_MAX => {
                Ok(Some(ContentType::Text(text.clone())))
            }
            Some(value) => {
                let number = integer(value).and_then(|number| u16::try_from(number).ok());
                number
                    .map(|number| Some(ContentType::Number(number)))
                    .ok_or(CoseError::Malformed)
            }
        }
    }

    pub(crate) fn x5chain(&self) -> Result<Vec<Vec<u8>>, CoseError> {
        match self.either(X5CHAIN) {
            None => Ok(Vec::new()),
            Some(Value::Bytes(der)) => Ok(vec![der.clone()]),
            Some(Value::Array(list)) if (2..=X5CHAIN_MAX).contains(&list.len()) => list
                .iter()
                .map(|der| der.as_bytes().cloned().ok_or(CoseError::Malformed))
                .collect(),
            Some(_) => Err(CoseError::Malformed),
        }
    }
}

pub(crate) fn integer(value: &Value) -> Option<i64> {
    value.as_integer().and_then(|int| i64::try_from(int).ok())
}

fn find(map: &[(Value, Value)], label: i64) -> Option<&Value> {
    let wanted = Value::from(label);
    map.iter()
        .find(|(key, _)| *key == wanted)
        .map(|(_, value)| value)
}
