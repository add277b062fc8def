//! [`PrivateKey`]: a key pair in memory, and a [`Signer`] by itself.

use alloc::vec::Vec;
use core::fmt;

use ecdsa::hazmat;
use ed25519_dalek::Signer as _;
use pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _};
use zeroize::{Zeroize, Zeroizing};

use crate::{CryptoError, KeyAlg, PublicKey, Rng, Secret, Signer};

/// Largest PKCS#8 document that is looked at, in bytes: a P-384 key with its public half has 185.
const PKCS8_LEN_BYTES_MAX: usize = 1024;

/// Draws before giving up on finding a scalar in range; even for P-256 one draw fails with
/// probability 2^-32, so a second failure in a row already means a broken generator.
const GENERATE_TRIES_MAX: usize = 16;

/// A private key with its public half. Zeroized on drop; no `Clone`, no `Debug` of the secret.
///
/// ECDSA signatures are deterministic (RFC 6979), so a weak generator cannot leak the key.
pub struct PrivateKey {
    inner: Inner,
    public: PublicKey,
}

/// Every library type here zeroizes itself on drop.
enum Inner {
    P256(p256::SecretKey),
    P384(p384::SecretKey),
    Ed25519(ed25519_dalek::SigningKey),
}

impl PrivateKey {
    /// Takes a big-endian scalar (32 bytes for P-256, 48 for P-384) or a 32-byte Ed25519 seed.
    ///
    /// # Errors
    /// [`CryptoError::WrongLength`]; [`CryptoError::InvalidKey`] for zero or a scalar not below
    /// the order of the curve.
    pub fn from_scalar_bytes(alg: KeyAlg, bytes: &[u8]) -> Result<Self, CryptoError> {
        if bytes.len() != alg.scalar_len() {
            return Err(CryptoError::WrongLength {
                what: "private scalar",
                expected: alg.scalar_len(),
                got: bytes.len(),
            });
        }
        let out_of_range = |_| CryptoError::InvalidKey("scalar out of range");
        Self::from_inner(match alg {
            KeyAlg::P256 => Inner::P256(p256::SecretKey::from_slice(bytes).map_err(out_of_range)?),
            KeyAlg::P384 => Inner::P384(p384::SecretKey::from_slice(bytes).map_err(out_of_range)?),
            KeyAlg::Ed25519 => {
                let seed = Zeroizing::new(
                    <[u8; 32]>::try_from(bytes)
                        .map_err(|_| CryptoError::Unreachable("seed length"))?,
                );
                Inner::Ed25519(ed25519_dalek::SigningKey::from_bytes(&seed))
            }
        })
    }

    /// Reduces 48 uniform bytes (big-endian) modulo the order of P-256; the bias is below 2^-128.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] if the result is zero.
    ///
    /// Spec: FIPS 186-5 appendix A.2.1 (extra random bits).
    pub fn p256_from_wide_bytes(wide: &[u8; 48]) -> Result<Self, CryptoError> {
        use p256::elliptic_curve::PrimeField as _;
        // Horner in base 2^128: each digit alone is far below the order.
        let mut base = [0; 32];
        if let Some(byte) = base.get_mut(15) {
            *byte = 1;
        }
        let base = Option::<p256::Scalar>::from(p256::Scalar::from_repr(base.into()))
            .ok_or(CryptoError::Unreachable("2^128 is below the order"))?;
        let mut sum = p256::Scalar::ZERO;
        for digit in wide.chunks_exact(16) {
            let mut repr = Zeroizing::new([0; 32]);
            repr.iter_mut()
                .skip(16)
                .zip(digit)
                .for_each(|(out, byte)| *out = *byte);
            let mut digit = Option::<p256::Scalar>::from(p256::Scalar::from_repr((*repr).into()))
                .ok_or(CryptoError::Unreachable("a digit is below the order"))?;
            sum = sum * base + digit;
            digit.zeroize();
        }
        let scalar = Option::<p256::NonZeroScalar>::from(p256::NonZeroScalar::new(sum));
        sum.zeroize();
        let mut scalar = scalar.ok_or(CryptoError::InvalidKey("scalar is zero"))?;
        let key = p256::SecretKey::from(&scalar);
        scalar.zeroize();
        Self::from_inner(Inner::P256(key))
    }

    /// Makes a key pair from `rng`.
    ///
    /// # Errors
    /// [`CryptoError::Rng`] if the generator fails or gives nothing usable.
    pub fn generate(alg: KeyAlg, rng: &mut dyn Rng) -> Result<Self, CryptoError> {
        let mut bytes = Zeroizing::new([0_u8; 48]);
        for _ in 0..GENERATE_TRIES_MAX {
            let scalar = bytes
                .get_mut(..alg.scalar_len())
                .ok_or(CryptoError::Unreachable("scalar length"))?;
            rng.fill(scalar)?;
            // All zero is what a dead generator leaves; for a curve it is no scalar anyway.
            if scalar.iter().all(|byte| *byte == 0) {
                continue;
            }
            if let Ok(key) = Self::from_scalar_bytes(alg, scalar) {
                return Ok(key);
            }
        }
        Err(CryptoError::Rng)
    }

    /// Reads a PKCS#8 document in DER.
    ///
    /// # Errors
    /// [`CryptoError::InvalidKey`] for another algorithm, a scalar out of range, or a public
    /// half that does not belong to the private one.
    ///
    /// Spec: RFC 5958; RFC 5915 for curves; RFC 8410 section 7 for Ed25519.
    pub fn from_pkcs8_der(der: &[u8]) -> Result<Self, CryptoError> {
        if der.len() > PKCS8_LEN_BYTES_MAX {
            return Err(CryptoError::LimitExceeded {
                what: "PKCS#8 document",
                limit: PKCS8_LEN_BYTES_MAX.try_into().unwrap_or(u64::MAX),
                got: der.len().try_into().unwrap_or(u64::MAX),
            });
        }
        let info = pkcs8::PrivateKeyInfoRef::try_from(der)
            .map_err(|_| CryptoError::InvalidKey("malformed PKCS#8"))?;
        let bad = |_| CryptoError::InvalidKey("malformed private key in PKCS#8");
        if info.algorithm.oid == crate::alg::OID_ED25519 {
            let key = ed25519_dalek::SigningKey::from_pkcs8_der(der).map_err(bad)?;
            return Self::from_inner(Inner::Ed25519(key));
        }
        let curve = info
            .algorithm
            .parameters_oid()
            .map_err(|_| CryptoError::InvalidKey("PKCS#8 key without a named curve"))?;
        Self::from_inner(if curve == crate::alg::OID_SECP256R1 {
            Inner::P256(p256::SecretKey::from_pkcs8_der(der).map_err(bad)?)
        } else if curve == crate::alg::OID_SECP384R1 {
            Inner::P384(p384::SecretKey::from_pkcs8_der(der).map_err(bad)?)
        } else {
            return Err(CryptoError::InvalidKey("unsupported curve"));
        })
    }

    /// Writes a PKCS#8 document in DER. For sealed storage only.
    ///
    /// # Errors
    /// [`CryptoError::Unreachable`] only.
    pub fn to_pkcs8_der(&self) -> Result<Secret<Vec<u8>>, CryptoError> {
        let document = match &self.inner {
            Inner::P256(key) => key.to_pkcs8_der(),
            Inner::P384(key) => key.to_pkcs8_der(),
            Inner::Ed25519(key) => key.to_pkcs8_der(),
        };
        let document = document.map_err(|_| CryptoError::Unreachable("encode PKCS#8"))?;
        Ok(Secret::new(document.as_bytes().to_vec()))
    }

    /// The big-endian scalar, or the Ed25519 seed: [`KeyAlg::scalar_len`] bytes.
    pub fn expose_scalar_bytes(&self) -> Secret<Vec<u8>> {
        Secret::new(match &self.inner {
            Inner::P256(key) => Zeroizing::new(<[u8; 32]>::from(key.to_bytes())).to_vec(),
            Inner::P384(key) => Zeroizing::new(<[u8; 48]>::from(key.to_bytes())).to_vec(),
            Inner::Ed25519(key) => key.as_bytes().to_vec(),
        })
    }

    /// Algorithm.
    pub fn alg(&self) -> KeyAlg {
        self.public.alg()
    }

    /// The public half.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// A second copy in memory: only where two owners are really needed.
    pub fn dangerous_clone(&self) -> Self {
        let inner = match &self.inner {
            Inner::P256(key) => Inner::P256(key.clone()),
            Inner::P384(key) => Inner::P384(key.clone()),
            Inner::Ed25519(key) => Inner::Ed25519(key.clone()),
        };
        Self {
            inner,
            public: self.public.clone(),
        }
    }

    /// ECDSA over a hash that the caller has computed (GP API, PKCS#11). Raw r ‖ s.
    ///
    /// # Errors
    /// [`CryptoError::WrongLength`] unless the digest has 32, 48 or 64 bytes and is not shorter
    /// than half the curve; [`CryptoError::UnsupportedAlgorithm`] for Ed25519, which signs
    /// messages only.
    pub fn sign_digest(&self, digest: &[u8]) -> Result<Vec<u8>, CryptoError> {
        if !matches!(digest.len(), 32 | 48 | 64) {
            return Err(CryptoError::WrongLength {
                what: "message digest",
                expected: self.alg().scalar_len(),
                got: digest.len(),
            });
        }
        // Not by `SigningKey`: it computes the public half first, which is as much work as the signature.
        match &self.inner {
            Inner::P256(key) => {
                let mut scalar = key.to_nonzero_scalar();
                let signed = hazmat::sign_prehashed_rfc6979::<p256::NistP256, sha2::Sha256>(
                    &scalar,
                    digest,
                    &[],
                );
                scalar.zeroize();
                Ok(signed.0.to_vec())
            }
            Inner::P384(key) => {
                let mut scalar = key.to_nonzero_scalar();
                let signed = hazmat::sign_prehashed_rfc6979::<p384::NistP384, sha2::Sha384>(
                    &scalar,
                    digest,
                    &[],
                );
                scalar.zeroize();
                Ok(signed.0.to_vec())
            }
            Inner::Ed25519(_) => Err(CryptoError::UnsupportedAlgorithm("signing a digest")),
        }
    }

    /// ECDH with a peer key of the same curve: the x coordinate, 32 or 48 bytes, not yet a key.
    ///
    /// # Errors
    /// [`CryptoError::WrongKeyAlg`] for two curves; [`CryptoError::UnsupportedAlgorithm`] for
    /// Ed25519, which signs only.
    pub fn ecdh(&self, peer: &PublicKey) -> Result<Secret<Vec<u8>>, CryptoError> {
        if peer.alg() != self.alg() {
            return Err(CryptoError::WrongKeyAlg {
                expected: self.alg(),
                got: peer.alg(),
            });
        }
        // A PublicKey is never the identity and both curves have cofactor 1.
        let checked = |_| CryptoError::Unreachable("PublicKey holds a checked point");
        Ok(Secret::new(match &self.inner {
            Inner::P256(key) => {
                let peer = p256::PublicKey::from_sec1_bytes(peer.bytes()).map_err(checked)?;
                key.diffie_hellman(&peer).raw_secret_bytes().to_vec()
            }
            Inner::P384(key) => {
                let peer = p384::PublicKey::from_sec1_bytes(peer.bytes()).map_err(checked)?;
                key.diffie_hellman(&peer).raw_secret_bytes().to_vec()
            }
            Inner::Ed25519(_) => return Err(CryptoError::UnsupportedAlgorithm("key agreement")),
        }))
    }

    fn from_inner(inner: Inner) -> Result<Self, CryptoError> {
        let public = match &inner {
            Inner::P256(key) => {
                PublicKey::from_sec1(KeyAlg::P256, &key.public_key().to_sec1_bytes())
            }
            Inner::P384(key) => {
                PublicKey::from_sec1(KeyAlg::P384, &key.public_key().to_sec1_bytes())
            }
            Inner::Ed25519(key) => {
                PublicKey::from_sec1(KeyAlg::Ed25519, key.verifying_key().as_bytes())
            }
        }?;
        Ok(Self { inner, public })
    }
}

impl Signer for PrivateKey {
    fn public_key(&self) -> &PublicKey {
        &self.public
    }

    fn sign(&self, msg: &[u8]) -> Result<Vec<u8>, CryptoError> {
        use sha2::Digest as _;
        match &self.inner {
            Inner::P256(_) => self.sign_digest(&sha2::Sha256::digest(msg)),
            Inner::P384(_) => self.sign_digest(&sha2::Sha384::digest(msg)),
            Inner::Ed25519(key) => Ok(key.sign(msg).to_bytes().to_vec()),
        }
    }

    fn is_in_process(&self) -> bool {
        true
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey(.., {:?})", self.public)
    }
}
