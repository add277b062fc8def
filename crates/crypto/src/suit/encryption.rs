//! SUIT encryption information: COSE_Encrypt around a content key, with the payload detached.
//!
//! We emit A128GCM with A128KW or ECDH-ES + A128KW, and also open A128CTR where asked to.
//!
//! Spec: draft-ietf-suit-firmware-encryption section 6 and 7; RFC 9052 section 5; RFC 9053
//! sections 5.2 and 6.4; RFC 9459 (A128CTR).

use alloc::vec;
use alloc::vec::Vec;

use cipher::{KeyIvInit as _, StreamCipher as _};
use tegata_wire::cbor::{self, MapBuilder, Value};

use super::SuitError;
use crate::cose::{ALG, CoseError, Headers, IV, KID, integer, open_array, structure};
use crate::{CryptoError, KeyAlg, PrivateKey, Provider, PublicKey, Rng, Secret};

/// Length of a content encryption key (A128GCM, A128CTR), in bytes.
pub const CEK_LEN_BYTES: usize = 16;

/// Most recipients looked at; each may cost one ECDH.
const RECIPIENTS_MAX: usize = 4;
/// Largest encryption information, in bytes; ours has below 300.
const INFO_LEN_BYTES_MAX: usize = 4096;
/// Longest HKDF salt, in bytes.
const SALT_LEN_BYTES_MAX: usize = 64;

const TAG_ENCRYPT: u64 = 96;
const A128GCM: i64 = 1;
const A128CTR: i64 = -65534;
const A128KW: i64 = -3;
const ECDH_ES_A128KW: i64 = -29;
/// Header parameters. Spec: RFC 9053 sections 5.1 and 6.3.1.
const EPHEMERAL_KEY: i64 = -1;
const SALT: i64 = -20;
/// Spec: draft-ietf-suit-firmware-encryption section 6.2.3.
const SUPP_PUB_OTHER: &[u8] = b"SUIT Payload Encryption";

/// The keys a device may be reached by; the recipient structure decides which one is used.
#[derive(Debug, Default, Clone, Copy)]
pub struct DeliveryKeys<'a> {
    /// AES-128 key-encryption key (symmetric delivery).
    pub kek: Option<&'a Secret<[u8; 16]>>,
    /// P-256 key (asymmetric delivery).
    pub ecdh: Option<&'a PrivateKey>,
}

/// Draws a content encryption key.
///
/// # Errors
/// [`CryptoError::Rng`].
pub fn generate_cek(rng: &mut dyn Rng) -> Result<Secret<[u8; CEK_LEN_BYTES]>, CryptoError> {
    let mut cek = Secret::new([0; CEK_LEN_BYTES]);
    rng.fill(cek.expose_secret_mut())?;
    Ok(cek)
}

/// Encrypts a payload under `cek` with A128GCM; returns (ciphertext ‖ tag, 12-byte iv).
///
/// The iv is random: one `cek` is for one payload, or a few.
///
/// # Errors
/// [`CryptoError::Rng`] if no iv can be drawn.
pub fn seal_payload(
    provider: &dyn Provider,
    rng: &mut dyn Rng,
    cek: &Secret<[u8; CEK_LEN_BYTES]>,
    plaintext: &[u8],
) -> Result<(Vec<u8>, [u8; 12]), SuitError> {
    let mut iv = [0; 12];
    rng.fill(&mut iv)?;
    let aad = structure("Encrypt", &content_protected()?, &[b""])?;
    let sealed = provider.aes_gcm_seal(cek.expose_secret(), &iv, &aad, plaintext)?;
    Ok((sealed, iv))
}

/// Encryption information with `cek` wrapped under a shared key: COSE_Encrypt bytes.
///
/// # Errors
/// [`SuitError::Crypto`].
///
/// Spec: draft-ietf-suit-firmware-encryption section 6.1.
pub fn encryption_info_a128kw(
    provider: &dyn Provider,
    kek: &Secret<[u8; 16]>,
    kid: &[u8],
    cek: &Secret<[u8; CEK_LEN_BYTES]>,
    iv: &[u8; 12],
) -> Result<Vec<u8>, SuitError> {
    let wrapped = provider.aes_kw_wrap(kek.expose_secret(), cek.expose_secret())?;
    let unprotected = MapBuilder::new()
        .put(ALG, A128KW)
        .put(KID, Value::Bytes(kid.to_vec()));
    // AES key wrap authenticates no headers, so its protected header is of zero length.
    let recipient = [
        Value::Bytes(Vec::new()),
        unprotected.finish()?,
        Value::Bytes(wrapped),
    ];
    encryption_info(iv, recipient)
}

/// Encryption information with `cek` encrypted to a P-256 key: COSE_Encrypt bytes.
///
/// # Errors
/// [`SuitError::Crypto`].
///
/// Spec: draft-ietf-suit-firmware-encryption section 6.2.
pub fn encryption_info_ecdh_es(
    provider: &dyn Provider,
    rng: &mut dyn Rng,
    recipient: &PublicKey,
    cek: &Secret<[u8; CEK_LEN_BYTES]>,
    iv: &[u8; 12],
) -> Result<Vec<u8>, SuitError> {
    let ephemeral = provider.generate(KeyAlg::P256, rng)?;
    let protected = MapBuilder::new().put(ALG, ECDH_ES_A128KW).encode()?;
    let kek = agreed_kek(provider, &ephemeral, recipient, &protected, b"")?;
    let wrapped = provider.aes_kw_wrap(kek.expose_secret(), cek.expose_secret())?;
    let unprotected = MapBuilder::new()
        .put(KID, Value::Bytes(recipient.thumbprint().to_vec()))
        .put(EPHEMERAL_KEY, ephemeral.public_key().to_cose_key_value());
    let recipient = [
        Value::Bytes(protected),
        unprotected.finish()?,
        Value::Bytes(wrapped),
    ];
    encryption_info(iv, recipient)
}

/// Decrypts an A128GCM payload with the first recipient structure that fits one of `keys`.
///
/// # Errors
/// [`SuitError`]; A128CTR is refused as [`SuitError::Algorithm`].
pub fn open_payload(
    provider: &dyn Provider,
    encryption_info: &[u8],
    ciphertext: &[u8],
    keys: DeliveryKeys<'_>,
) -> Result<Secret<Vec<u8>>, SuitError> {
    match Content::unwrapped(provider, encryption_info, keys)? {
        Content::Gcm { cek, iv, aad } => {
            Ok(provider.aes_gcm_open(cek.expose_secret(), &iv, &aad, ciphertext)?)
        }
        Content::Ctr { .. } => Err(SuitError::Algorithm {
            what: "content",
            alg: A128CTR,
        }),
    }
}

/// As [`open_payload`], and A128CTR too, which authenticates nothing: only where the plaintext is
/// then checked against a digest from a manifest that was verified (image-match).
///
/// # Errors
/// [`SuitError`]; with A128CTR a wrong ciphertext gives a wrong plaintext instead.
pub fn dangerous_open_payload_or_ctr(
    provider: &dyn Provider,
    encryption_info: &[u8],
    ciphertext: &[u8],
    keys: DeliveryKeys<'_>,
) -> Result<Secret<Vec<u8>>, SuitError> {
    match Content::unwrapped(provider, encryption_info, keys)? {
        Content::Gcm { cek, iv, aad } => {
            Ok(provider.aes_gcm_open(cek.expose_secret(), &iv, &aad, ciphertext)?)
        }
        Content::Ctr { cek, iv } => {
            let mut plain = Secret::new(ciphertext.to_vec());
            let mut ctr = ctr::Ctr128BE::<aes::Aes128>::new(cek.expose_secret().into(), &iv.into());
            ctr.try_apply_keystream(plain.expose_secret_mut())
                .map_err(|_| SuitError::Malformed("A128CTR payload length"))?;
            Ok(plain)
        }
    }
}

/// What is needed to decrypt the payload.
enum Content {
    Gcm {
        cek: Secret<[u8; CEK_LEN_BYTES]>,
        iv: [u8; 12],
        aad: Vec<u8>,
    },
    Ctr {
        cek: Secret<[u8; CEK_LEN_BYTES]>,
        iv: [u8; 16],
    },
}

impl Content {
    fn unwrapped(
        provider: &dyn Provider,
        info: &[u8],
        keys: DeliveryKeys<'_>,
    ) -> Result<Self, SuitError> {
        if info.len() > INFO_LEN_BYTES_MAX {
            let limit = INFO_LEN_BYTES_MAX;
            return Err(CoseError::TooLarge {
                limit,
                got: info.len(),
            }
            .into());
        }
        let items: [Value; 4] = open_array(info, &[TAG_ENCRYPT], 4)?
            .try_into()
            .map_err(|_| SuitError::Malformed("COSE_Encrypt"))?;
        let [protected, unprotected, ciphertext, recipients] = items;
        if ciphertext != Value::Null {
            return Err(SuitError::Malformed(
                "COSE_Encrypt: the payload must be detached",
            ));
        }
        let headers = Headers::new(protected, unprotected)?;
        headers.check_crit(&[ALG, IV])?;
        let alg = headers
            .either(ALG)
            .and_then(integer)
            .ok_or(CoseError::NoAlgorithm)?;
        let iv = headers.either(IV).and_then(Value::as_bytes);
        let iv = iv
            .ok_or(SuitError::Malformed("COSE_Encrypt without IV"))?
            .as_slice();
        let recipients = recipients
            .into_array()
            .map_err(|_| SuitError::Malformed("COSE_Encrypt recipients"))?;
        let wrong_iv = |_| SuitError::Malformed("length of the IV");
        match alg {
            // An AEAD's algorithm must be protected; CTR protects nothing, its header is empty.
            A128GCM if headers.protected(ALG).is_some() => Ok(Self::Gcm {
                iv: iv.try_into().map_err(wrong_iv)?,
                aad: structure("Encrypt", &headers.protected_bytes, &[b""])?,
                cek: unwrap_cek(provider, recipients, keys)?,
            }),
            A128CTR if headers.protected_bytes.is_empty() => Ok(Self::Ctr {
                iv: iv.try_into().map_err(wrong_iv)?,
                cek: unwrap_cek(provider, recipients, keys)?,
            }),
            alg => Err(SuitError::Algorithm {
                what: "content",
                alg,
            }),
        }
    }
}

/// Tries the recipients in their order; a wrong key shows in the integrity check of the wrap.
fn unwrap_cek(
    provider: &dyn Provider,
    recipients: Vec<Value>,
    keys: DeliveryKeys<'_>,
) -> Result<Secret<[u8; CEK_LEN_BYTES]>, SuitError> {
    if !(1..=RECIPIENTS_MAX).contains(&recipients.len()) {
        return Err(SuitError::Malformed("number of recipients"));
    }
    let mut refused = SuitError::NotForUs;
    for recipient in recipients {
        let items = recipient
            .into_array()
            .map_err(|_| SuitError::Malformed("COSE_recipient"))?;
        // A fourth element would be recipients of the recipient, which no algorithm here has.
        let [protected, unprotected, wrapped]: [Value; 3] = items
            .try_into()
            .map_err(|_| SuitError::Malformed("COSE_recipient"))?;
        let headers = Headers::new(protected, unprotected)?;
        headers.check_crit(&[ALG, KID])?;
        let wrapped = wrapped
            .into_bytes()
            .map_err(|_| SuitError::Malformed("encrypted content key"))?;
        let alg = headers
            .either(ALG)
            .and_then(integer)
            .ok_or(CoseError::NoAlgorithm)?;
        let cek = match (alg, keys.kek, keys.ecdh) {
            (A128KW, Some(kek), _) if headers.protected.is_empty() => {
                provider.aes_kw_unwrap(kek.expose_secret(), &wrapped)
            }
            (A128KW, Some(_), _) => {
                return Err(SuitError::Malformed(
                    "protected header of a key wrap recipient",
                ));
            }
            (ECDH_ES_A128KW, _, Some(private)) if headers.protected(ALG).is_some() => {
                let kek = recipient_kek(provider, private, &headers)?;
                provider.aes_kw_unwrap(kek.expose_secret(), &wrapped)
            }
            (A128KW | ECDH_ES_A128KW, ..) => continue,
            (alg, ..) => {
                refused = SuitError::Algorithm {
                    what: "recipient",
                    alg,
                };
                continue;
            }
        };
        match cek {
            Ok(cek) => {
                let mut out = Secret::new([0; CEK_LEN_BYTES]);
                let cek = cek.expose_secret();
                if cek.len() != CEK_LEN_BYTES {
                    return Err(SuitError::Malformed("length of the content key"));
                }
                out.expose_secret_mut().copy_from_slice(cek);
                return Ok(out);
            }
            Err(CryptoError::BadCiphertext) => refused = SuitError::NotForUs,
            Err(error) => return Err(error.into()),
        }
    }
    Err(refused)
}

fn recipient_kek(
    provider: &dyn Provider,
    private: &PrivateKey,
    headers: &Headers,
) -> Result<Secret<[u8; 16]>, SuitError> {
    let ephemeral = headers
        .either(EPHEMERAL_KEY)
        .ok_or(SuitError::Malformed("recipient without an ephemeral key"))?;
    let ephemeral = PublicKey::from_cose_key_value(ephemeral)?;
    let salt = match headers.either(SALT) {
        None => &[],
        Some(Value::Bytes(salt)) if salt.len() <= SALT_LEN_BYTES_MAX => salt.as_slice(),
        Some(_) => return Err(SuitError::Malformed("salt of a recipient")),
    };
    agreed_kek(
        provider,
        private,
        &ephemeral,
        &headers.protected_bytes,
        salt,
    )
}

/// ECDH-ES with HKDF-SHA256 to an A128KW key.
fn agreed_kek(
    provider: &dyn Provider,
    private: &PrivateKey,
    public: &PublicKey,
    protected: &[u8],
    salt: &[u8],
) -> Result<Secret<[u8; 16]>, SuitError> {
    let shared = provider.ecdh_p256(private, public)?;
    let nobody = || Value::Array(vec![Value::Null, Value::Null, Value::Null]);
    let context = cbor::encode(&Value::Array(vec![
        Value::from(A128KW),
        nobody(),
        nobody(),
        Value::Array(vec![
            Value::from(128),
            Value::Bytes(protected.to_vec()),
            Value::Bytes(SUPP_PUB_OTHER.to_vec()),
        ]),
    ]))?;
    let mut kek = Secret::new([0; 16]);
    provider.hkdf_sha256(
        shared.expose_secret(),
        salt,
        &context,
        kek.expose_secret_mut(),
    )?;
    Ok(kek)
}

fn content_protected() -> Result<Vec<u8>, SuitError> {
    Ok(MapBuilder::new().put(ALG, A128GCM).encode()?)
}

fn encryption_info(iv: &[u8; 12], recipient: [Value; 3]) -> Result<Vec<u8>, SuitError> {
    let info = Value::Array(vec![
        Value::Bytes(content_protected()?),
        MapBuilder::new()
            .put(IV, Value::Bytes(iv.to_vec()))
            .finish()?,
        Value::Null,
        Value::Array(vec![Value::Array(recipient.into())]),
    ]);
    Ok(cbor::encode(&cbor::tagged(TAG_ENCRYPT, info))?)
}
