//! The one table of key and signature algorithms: COSE numbers, object identifiers, lengths.

use core::fmt;

use const_oid::ObjectIdentifier;

/// `id-ecPublicKey`. Spec: RFC 5480 section 2.1.1.
pub const OID_EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// `secp256r1`. Spec: RFC 5480 section 2.1.1.1.
pub const OID_SECP256R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// `secp384r1`. Spec: RFC 5480 section 2.1.1.1.
pub const OID_SECP384R1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
/// `id-Ed25519`, for keys and signatures alike. Spec: RFC 8410 section 3.
pub const OID_ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
/// `ecdsa-with-SHA256`. Spec: RFC 5758 section 3.2.
pub const OID_ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
/// `ecdsa-with-SHA384`. Spec: RFC 5758 section 3.2.
pub const OID_ECDSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.3");

/// Algorithm of a key pair; with it the signature algorithm is fixed (ECDSA hashes by curve).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum KeyAlg {
    /// NIST P-256, ECDSA with SHA-256, ECDH.
    P256,
    /// NIST P-384, ECDSA with SHA-384.
    P384,
    /// Ed25519 (PureEdDSA).
    Ed25519,
}

impl KeyAlg {
    /// Every algorithm, for tables and tests.
    pub const ALL: [KeyAlg; 3] = [KeyAlg::P256, KeyAlg::P384, KeyAlg::Ed25519];

    /// The fully specified COSE algorithm that we emit: ESP256, ESP384 or Ed25519.
    ///
    /// Spec: RFC 9864 section 2.
    pub const fn cose_alg(self) -> i64 {
        match self {
            Self::P256 => -9,
            Self::P384 => -51,
            Self::Ed25519 => -19,
        }
    }

    /// The older polymorphic COSE number that we also accept: ES256, ES384, EdDSA.
    ///
    /// Spec: RFC 9053 section 2.
    pub const fn cose_alg_old(self) -> i64 {
        match self {
            Self::P256 => -7,
            Self::P384 => -35,
            Self::Ed25519 => -8,
        }
    }

    /// Whether a COSE `alg` header names this algorithm, new or old number.
    pub const fn cose_alg_matches(self, alg: i64) -> bool {
        alg == self.cose_alg() || alg == self.cose_alg_old()
    }

    /// The algorithm a COSE number names, new or old; `None` if we do not implement it.
    pub const fn from_cose_alg(alg: i64) -> Option<Self> {
        match alg {
            -9 | -7 => Some(Self::P256),
            -51 | -35 => Some(Self::P384),
            -19 | -8 => Some(Self::Ed25519),
            _ => None,
        }
    }

    /// COSE curve number. Spec: RFC 9053 section 7.1.
    pub const fn cose_crv(self) -> i64 {
        match self {
            Self::P256 => 1,
            Self::P384 => 2,
            Self::Ed25519 => 6,
        }
    }

    /// COSE key type: 2 (EC2) or 1 (OKP). Spec: RFC 9053 section 7.
    pub const fn cose_kty(self) -> i64 {
        match self {
            Self::P256 | Self::P384 => 2,
            Self::Ed25519 => 1,
        }
    }

    /// Object identifier of the SubjectPublicKeyInfo algorithm.
    pub const fn spki_oid(self) -> ObjectIdentifier {
        match self {
            Self::P256 | Self::P384 => OID_EC_PUBLIC_KEY,
            Self::Ed25519 => OID_ED25519,
        }
    }

    /// Named curve in the SubjectPublicKeyInfo parameters; `None` for Ed25519 (no parameters).
    pub const fn curve_oid(self) -> Option<ObjectIdentifier> {
        match self {
            Self::P256 => Some(OID_SECP256R1),
            Self::P384 => Some(OID_SECP384R1),
            Self::Ed25519 => None,
        }
    }

    /// Object identifier of the X.509/CMP signature algorithm (its parameters are absent).
    pub const fn signature_oid(self) -> ObjectIdentifier {
        match self {
            Self::P256 => OID_ECDSA_SHA256,
            Self::P384 => OID_ECDSA_SHA384,
            Self::Ed25519 => OID_ED25519,
        }
    }

    /// The X.509/CMP signature algorithm of `wire`.
    pub const fn signature_alg(self) -> tegata_wire::x509::SignatureAlg {
        use tegata_wire::x509::SignatureAlg;
        match self {
            Self::P256 => SignatureAlg::EcdsaSha256,
            Self::P384 => SignatureAlg::EcdsaSha384,
            Self::Ed25519 => SignatureAlg::Ed25519,
        }
    }

    /// The algorithm an X.509/CMP signature object identifier names.
    pub fn from_signature_oid(oid: &ObjectIdentifier) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|alg| alg.signature_oid() == *oid)
    }

    /// Length of a private scalar (or Ed25519 seed), in bytes.
    pub const fn scalar_len(self) -> usize {
        match self {
            Self::P256 | Self::Ed25519 => 32,
            Self::P384 => 48,
        }
    }

    /// Length of [`crate::PublicKey::bytes`], in bytes: uncompressed SEC1 point, or 32.
    pub const fn public_len(self) -> usize {
        match self {
            Self::P256 => 65,
            Self::P384 => 97,
            Self::Ed25519 => 32,
        }
    }

    /// Length of a raw signature (r ‖ s, or Ed25519), in bytes.
    pub const fn signature_len(self) -> usize {
        match self {
            Self::P256 | Self::Ed25519 => 64,
            Self::P384 => 96,
        }
    }

    /// Stable lower-case name: `p256`, `p384`, `ed25519`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::P384 => "p384",
            Self::Ed25519 => "ed25519",
        }
    }

    /// The algorithm of that [`KeyAlg::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alg| alg.name() == name)
    }
}

impl fmt::Display for KeyAlg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
