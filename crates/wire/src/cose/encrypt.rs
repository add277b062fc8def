//! COSE_Encrypt as SUIT uses it: how to get at the key of an encrypted payload.

use alloc::vec;
use alloc::vec::Vec;

use super::sign1::Headers;
use super::{
    ALG_A128CTR, ALG_A128GCM, ALG_A128KW, ALG_A256GCM, ALG_CHACHA20_POLY1305, ALG_ECDH_ES_A128KW,
    CoseError, CoseKey, HEADER_ALG, HEADER_EPHEMERAL_KEY, HEADER_IV, HEADER_KID, HEADER_SALT,
    LIMITS, MAX_HEADER_LEN, MAX_RECIPIENTS, TAG_ENCRYPT,
};
use crate::cbor::{self, MapBuilder, Value};

/// Encryption of one payload, and its key wrapped for each recipient.
///
/// Spec: draft-ietf-suit-firmware-encryption section 6
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncryptionInfo {
    alg: i64,
    iv: Vec<u8>,
    protected: Vec<u8>,
    ciphertext: Option<Vec<u8>>,
    recipients: Vec<Recipient>,
}

/// One recipient's wrapped key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipient {
    /// Which key unwraps it, if it says.
    pub kid: Option<Vec<u8>>,
    /// How it is wrapped.
    pub kind: RecipientKind,
    /// The wrapped content encryption key: 8 bytes longer than the key.
    pub wrapped_key: Vec<u8>,
    /// Protected header as it came: part of the key derivation's context.
    pub protected: Vec<u8>,
}

/// How a content encryption key is wrapped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecipientKind {
    /// AES-128 key wrap under a key that both sides have.
    A128Kw,
    /// AES-128 key wrap under a key derived by ephemeral-static ECDH.
    EcdhEsA128Kw {
        /// The sender's ephemeral public key.
        ephemeral: CoseKey,
        /// Salt of the HKDF, usually absent.
        salt: Option<Vec<u8>>,
    },
    /// Another method, which Tegata cannot use: the recipient is to be passed over.
    Other {
        /// COSE algorithm number.
        alg: i64,
    },
}

impl Recipient {
    /// A key wrapped under a symmetric key; the protected header is a byte string of zero length.
    #[must_use]
    pub fn a128kw(kid: Option<&[u8]>, wrapped_key: Vec<u8>) -> Self {
        Self {
            kid: kid.map(<[u8]>::to_vec),
            kind: RecipientKind::A128Kw,
            wrapped_key,
            protected: Vec::new(),
        }
    }

    /// A key wrapped under a derived key; the derivation takes [`Self::ecdh_es_protected`].
    ///
    /// # Errors
    /// Only if memory is not enough.
    pub fn ecdh_es_a128kw(
        kid: Option<&[u8]>,
        ephemeral: CoseKey,
        wrapped_key: Vec<u8>,
    ) -> Result<Self, CoseError> {
        Ok(Self {
            kid: kid.map(<[u8]>::to_vec),
            kind: RecipientKind::EcdhEsA128Kw {
                ephemeral,
                salt: None,
            },
            wrapped_key,
            protected: Self::ecdh_es_protected()?,
        })
    }

    /// The protected header of a recipient by ECDH: only the algorithm.
    ///
    /// # Errors
    /// Only if memory is not enough.
    pub fn ecdh_es_protected() -> Result<Vec<u8>, CoseError> {
        Ok(MapBuilder::new()
            .put(HEADER_ALG, ALG_ECDH_ES_A128KW)
            .encode()?)
    }

    fn from_value(value: Value) -> Result<Self, CoseError> {
        let mut items = cbor::into_array(value, "COSE_recipient", 3, 4)?.into_iter();
        let mut next = || {
            items.next().ok_or(CoseError::Missing {
                what: "recipient element",
            })
        };
        let protected = cbor::into_bytes_sized(next()?, "protected header", 0, MAX_HEADER_LEN)?;
        let mut headers = Headers::read(&protected, next()?)?;
        let wrapped_key = match next()? {
            Value::Null => Vec::new(),
            other => cbor::into_bytes_sized(other, "wrapped key", 0, MAX_HEADER_LEN)?,
        };
        let alg = headers
            .take(HEADER_ALG)?
            .ok_or(CoseError::Missing { what: "alg" })?;
        let kind = match cbor::int(&alg, "alg")? {
            // RFC 9053 section 6.2.1: no protected header, its wrap has nothing to bind it with.
            ALG_A128KW if protected.is_empty() || protected == [0xa0] => RecipientKind::A128Kw,
            ALG_ECDH_ES_A128KW => {
                let ephemeral = headers
                    .take(HEADER_EPHEMERAL_KEY)?
                    .ok_or(CoseError::Missing {
                        what: "ephemeral key",
                    })?;
                let salt = headers.take(HEADER_SALT)?;
                let salt = salt.map(|salt| cbor::into_bytes_sized(salt, "salt", 0, 256));
                match CoseKey::from_value(ephemeral) {
                    Ok(ephemeral) => RecipientKind::EcdhEsA128Kw {
                        ephemeral,
                        salt: salt.transpose()?,
                    },
                    // A key on another curve: for another recipient than any of ours.
                    Err(CoseError::Key) => RecipientKind::Other {
                        alg: ALG_ECDH_ES_A128KW,
                    },
                    Err(error) => return Err(error),
                }
            }
            alg => RecipientKind::Other { alg },
        };
        Ok(Self {
            kid: headers.kid()?,
            kind,
            wrapped_key,
            protected,
        })
    }

    fn to_value(&self) -> Result<Value, CoseError> {
        let unprotected = match &self.kind {
            RecipientKind::A128Kw => MapBuilder::new().put(HEADER_ALG, ALG_A128KW),
            RecipientKind::EcdhEsA128Kw { ephemeral, salt } => MapBuilder::new()
                .put(HEADER_EPHEMERAL_KEY, ephemeral.to_value())
                .put_opt(HEADER_SALT, salt.clone().map(Value::Bytes)),
            RecipientKind::Other { alg } => return Err(CoseError::Algorithm { got: *alg }),
        };
        let unprotected = unprotected.put_opt(HEADER_KID, self.kid.clone().map(Value::Bytes));
        Ok(Value::Array(vec![
            Value::Bytes(self.protected.clone()),
            unprotected.finish()?,
            Value::Bytes(self.wrapped_key.clone()),
        ]))
    }
}

impl EncryptionInfo {
    /// A payload encrypted with A128GCM (12 bytes of `iv`), its ciphertext elsewhere.
    ///
    /// # Errors
    /// Only if memory is not enough.
    pub fn a128gcm(iv: &[u8; 12], recipients: Vec<Recipient>) -> Result<Self, CoseError> {
        Ok(Self {
            alg: ALG_A128GCM,
            iv: iv.to_vec(),
            protected: Self::a128gcm_protected()?,
            ciphertext: None,
            recipients,
        })
    }

    /// A payload encrypted with A128CTR (16 bytes of `iv`), its ciphertext elsewhere.
    ///
    /// Spec: RFC 9459: the protected header must be empty
    #[must_use]
    pub fn a128ctr(iv: &[u8; 16], recipients: Vec<Recipient>) -> Self {
        Self {
            alg: ALG_A128CTR,
            iv: iv.to_vec(),
            protected: Vec::new(),
            ciphertext: None,
            recipients,
        }
    }

    /// The same with the ciphertext inside.
    #[must_use]
    pub fn with_ciphertext(mut self, ciphertext: Vec<u8>) -> Self {
        self.ciphertext = Some(ciphertext);
        self
    }

    /// The additional authenticated data for A128GCM: needed before the structure is there.
    ///
    /// # Errors
    /// Only if memory is not enough.
    pub fn a128gcm_aad() -> Result<Vec<u8>, CoseError> {
        enc_structure(&Self::a128gcm_protected()?, &[])
    }

    fn a128gcm_protected() -> Result<Vec<u8>, CoseError> {
        Ok(MapBuilder::new().put(HEADER_ALG, ALG_A128GCM).encode()?)
    }

    /// Decodes a COSE_Encrypt, tagged or not.
    ///
    /// # Errors
    /// `CoseError` if the bytes are none, or the content algorithm is not one of SUIT's.
    pub fn decode(bytes: &[u8]) -> Result<Self, CoseError> {
        let value = cbor::strip_tag(cbor::decode_limited(bytes, LIMITS)?, TAG_ENCRYPT);
        let mut items = cbor::into_array(value, "COSE_Encrypt", 4, 4)?.into_iter();
        let mut next = || {
            items.next().ok_or(CoseError::Missing {
                what: "COSE_Encrypt element",
            })
        };
        let protected = cbor::into_bytes_sized(next()?, "protected header", 0, MAX_HEADER_LEN)?;
        let mut headers = Headers::read(&protected, next()?)?;
        let ciphertext = match next()? {
            Value::Null => None,
            other => Some(cbor::into_bytes(other, "ciphertext")?),
        };
        let alg = headers
            .take(HEADER_ALG)?
            .ok_or(CoseError::Missing { what: "alg" })?;
        let alg = cbor::int(&alg, "alg")?;
        let iv_len = match alg {
            ALG_A128GCM | ALG_A256GCM | ALG_CHACHA20_POLY1305 => 12,
            ALG_A128CTR if protected.is_empty() || protected == [0xa0] => 16,
            got => return Err(CoseError::Algorithm { got }),
        };
        let iv = headers
            .take(HEADER_IV)?
            .ok_or(CoseError::Missing { what: "IV" })?;
        let recipients = cbor::into_array(next()?, "recipients", 1, MAX_RECIPIENTS)?;
        Ok(Self {
            alg,
            iv: cbor::into_bytes_sized(iv, "IV", iv_len, iv_len)?,
            protected,
            ciphertext,
            recipients: recipients
                .into_iter()
                .map(Recipient::from_value)
                .collect::<Result<_, _>>()?,
        })
    }

    /// Encodes the tagged structure.
    ///
    /// # Errors
    /// `CoseError::Algorithm` for a recipient of another kind.
    pub fn encode(&self) -> Result<Vec<u8>, CoseError> {
        let alg = if self.protected.is_empty() {
            Some(self.alg)
        } else {
            None
        };
        let unprotected = MapBuilder::new()
            .put_opt(HEADER_ALG, alg)
            .put(HEADER_IV, Value::Bytes(self.iv.clone()))
            .finish()?;
        let recipients = self.recipients.iter().map(Recipient::to_value);
        let items = vec![
            Value::Bytes(self.protected.clone()),
            unprotected,
            self.ciphertext.clone().map_or(Value::Null, Value::Bytes),
            Value::Array(recipients.collect::<Result<_, _>>()?),
        ];
        Ok(cbor::encode(&cbor::tagged(
            TAG_ENCRYPT,
            Value::Array(items),
        ))?)
    }

    /// COSE number of the content encryption algorithm.
    #[must_use]
    pub const fn alg(&self) -> i64 {
        self.alg
    }

    /// Initialization vector: 12 bytes, or 16 for A128CTR.
    #[must_use]
    pub fn iv(&self) -> &[u8] {
        &self.iv
    }

    /// The ciphertext, if it is inside.
    #[must_use]
    pub fn ciphertext(&self) -> Option<&[u8]> {
        self.ciphertext.as_deref()
    }

    /// The recipients.
    #[must_use]
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// Additional authenticated data of the content encryption (Enc_structure).
    ///
    /// # Errors
    /// Only if memory is not enough.
    pub fn aad(&self, external_aad: &[u8]) -> Result<Vec<u8>, CoseError> {
        enc_structure(&self.protected, external_aad)
    }
}

/// The context of the HKDF that makes the key wrapping key of a recipient by ECDH.
///
/// `protected` is the recipient's protected header as it stands in the structure.
///
/// Spec: draft-ietf-suit-firmware-encryption section 6.2.3
///
/// # Errors
/// Only if memory is not enough.
pub fn kdf_context_a128kw(protected: &[u8]) -> Result<Vec<u8>, CoseError> {
    let nobody = || Value::Array(vec![Value::Null, Value::Null, Value::Null]);
    Ok(cbor::encode(&Value::Array(vec![
        ALG_A128KW.into(),
        nobody(),
        nobody(),
        Value::Array(vec![
            128.into(),
            Value::Bytes(protected.to_vec()),
            Value::Bytes(b"SUIT Payload Encryption".to_vec()),
        ]),
    ]))?)
}

fn enc_structure(protected: &[u8], external_aad: &[u8]) -> Result<Vec<u8>, CoseError> {
    // A protected header that is an empty map counts as a byte string of zero length.
    let protected = if protected == [0xa0] { &[] } else { protected };
    Ok(cbor::encode(&Value::Array(vec![
        "Encrypt".into(),
        Value::Bytes(protected.to_vec()),
        Value::Bytes(external_aad.to_vec()),
    ]))?)
}
