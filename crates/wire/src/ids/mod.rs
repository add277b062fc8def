//! Identifiers: one newtype per kind, so that no two kinds can be confused.
//!
//! Invariants: fixed lengths are enforced at parsing, never by padding or cutting. The text form is
//! lower-case hexadecimal, or the hyphenated UUID form for UUIDs, and parses back to the same value.
//! Identifiers are public data; none of them is a secret.

use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use serde::de::{self, Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};
use uuid::Uuid;

#[cfg(test)]
mod tests;

/// Why a text or a byte string is not an identifier of the wanted kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The value has the wrong number of bytes.
    #[error("identifier has {got} bytes, expected {expected}")]
    Length {
        /// Length in bytes that the kind asks for (the smallest, where a range is allowed).
        expected: usize,
        /// Length in bytes that was found.
        got: usize,
    },
    /// The text is not hexadecimal (or not a UUID).
    #[error("identifier is not in hexadecimal or UUID form")]
    Text,
}

macro_rules! hex_id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Makes one from exactly the right number of bytes.
            ///
            /// # Errors
            /// `IdError::Length` for any other number of bytes.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
                match <[u8; $len]>::try_from(bytes) {
                    Ok(array) => Ok(Self(array)),
                    Err(_) => Err(IdError::Length { expected: $len, got: bytes.len() }),
                }
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        serde_as_text!($name);
    };
}

macro_rules! serde_as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

macro_rules! hex_text {
    ($name:ident, $len:literal) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(f, &self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                let mut bytes = [0u8; $len];
                read_hex(text, &mut bytes)?;
                Ok(Self(bytes))
            }
        }
    };
}

macro_rules! uuid_text {
    ($name:ident) => {
        impl $name {
            /// The same value as the type of the `uuid` crate.
            #[must_use]
            pub const fn uuid(&self) -> Uuid {
                Uuid::from_bytes(self.0)
            }
        }

        impl From<Uuid> for $name {
            fn from(uuid: Uuid) -> Self {
                Self(uuid.into_bytes())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self.uuid().as_hyphenated(), f)
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Uuid::try_parse(text)
                    .map(Self::from)
                    .map_err(|_| IdError::Text)
            }
        }
    };
}

hex_id!(
    /// A SHA-256 digest of something (32 bytes).
    Digest, 32
);
hex_text!(Digest, 32);

hex_id!(
    /// The SUIT digest of a TA release's manifest: it names the release (32 bytes, SHA-256).
    ReleaseDigest, 32
);
hex_text!(ReleaseDigest, 32);

hex_id!(
    /// The RFC 9679 thumbprint of the key that signs a TA's releases (32 bytes, SHA-256).
    ///
    /// Together with the [`TaUuid`] it owns a TA's storage and anti-rollback counter.
    SignerId, 32
);
hex_text!(SignerId, 32);

hex_id!(
    /// Name of a Trusted Application, as GlobalPlatform's `TEE_UUID` in network byte order.
    TaUuid, 16
);
uuid_text!(TaUuid);

hex_id!(
    /// Name of a device in the forms that ask for a UUID (SUIT device identifier, GP device id).
    DeviceUuid, 16
);
uuid_text!(DeviceUuid);

hex_id!(
    /// SUIT vendor identifier: UUIDv5(DNS, vendor's domain).
    ///
    /// Spec: draft-ietf-suit-manifest section 8.4.8.1
    VendorId, 16
);
uuid_text!(VendorId);

hex_id!(
    /// SUIT class identifier: UUIDv5(vendor identifier, model).
    ///
    /// Spec: draft-ietf-suit-manifest section 8.4.8.1
    ClassId, 16
);
uuid_text!(ClassId);

impl ReleaseDigest {
    /// The first 16 bytes: the part of a senderKID that says which release a CSR comes from.
    #[must_use]
    pub fn prefix(&self) -> [u8; 16] {
        let mut out = [0u8; 16];
        for (to, from) in out.iter_mut().zip(self.0.iter()) {
            *to = *from;
        }
        out
    }
}

impl From<Digest> for ReleaseDigest {
    fn from(digest: Digest) -> Self {
        Self(digest.0)
    }
}

impl From<ReleaseDigest> for Digest {
    fn from(digest: ReleaseDigest) -> Self {
        Self(digest.0)
    }
}

impl TaUuid {
    /// The UUID of the TA called `name` that `signer` releases.
    ///
    /// UUIDv5(UUIDv5(NS_TEGATA, signer id), name): two signers can never claim the same UUID.
    #[must_use]
    pub fn derive(signer: &SignerId, name: &str) -> Self {
        let namespace = Uuid::new_v5(&NS_TEGATA, signer.as_bytes());
        Self(Uuid::new_v5(&namespace, name.as_bytes()).into_bytes())
    }

    /// The `suit-reference-uri` that a release key puts into its manifests for the TA `name`.
    ///
    /// With it a TEE checks that the UUID in the components is the signer's own: see
    /// [`TaUuid::from_reference_uri`].
    #[must_use]
    pub fn reference_uri(name: &str) -> String {
        let mut uri = String::from(TA_URI_PREFIX);
        uri.push_str(name);
        uri
    }

    /// The UUID of the TA that a manifest of `signer` with this `suit-reference-uri` is about.
    #[must_use]
    pub fn from_reference_uri(signer: &SignerId, uri: &str) -> Option<Self> {
        let name = uri.strip_prefix(TA_URI_PREFIX)?;
        (!name.is_empty()).then(|| Self::derive(signer, name))
    }
}

impl DeviceUuid {
    /// The UUID of the device with this `ueid`: UUIDv5(NS_DEVICE, ueid bytes).
    #[must_use]
    pub fn derive(ueid: &Ueid) -> Self {
        Self(Uuid::new_v5(&NS_DEVICE, ueid.as_bytes()).into_bytes())
    }
}

impl VendorId {
    /// The identifier of the vendor that owns `domain` (for example `example.com`).
    #[must_use]
    pub fn derive(domain: &str) -> Self {
        Self(Uuid::new_v5(&Uuid::NAMESPACE_DNS, domain.as_bytes()).into_bytes())
    }
}

impl ClassId {
    /// The identifier of the vendor's `model`.
    #[must_use]
    pub fn derive(vendor: &VendorId, model: &str) -> Self {
        Self(Uuid::new_v5(&vendor.uuid(), model.as_bytes()).into_bytes())
    }
}

/// Universal Entity ID: the name of one device, for life (7 to 33 bytes; the first is the type).
///
/// Tegata makes type 0x01 (RAND) with 16 random bytes, 17 in all.
///
/// Spec: RFC 9711 section 4.2.1
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ueid {
    // Invariant: bytes behind `len` are zero, so that the derived comparisons are right.
    bytes: [u8; Self::MAX_LEN],
    len: u8,
}

impl Ueid {
    /// Shortest UEID in bytes.
    pub const MIN_LEN: usize = 7;
    /// Longest UEID in bytes.
    pub const MAX_LEN: usize = 33;
    /// Type byte of a UEID that was drawn at random.
    pub const TYPE_RAND: u8 = 0x01;

    /// A UEID of type RAND over 16 bytes that the caller drew at random.
    #[must_use]
    pub fn from_random(random: [u8; 16]) -> Self {
        let mut bytes = [0u8; Self::MAX_LEN];
        for (to, from) in bytes
            .iter_mut()
            .zip([Self::TYPE_RAND].iter().chain(&random))
        {
            *to = *from;
        }
        Self { bytes, len: 17 }
    }

    /// Takes a UEID of any type.
    ///
    /// # Errors
    /// `IdError::Length` unless there are 7 to 33 bytes.
    pub fn from_slice(bytes: &[u8]) -> Result<Self, IdError> {
        let wrong = IdError::Length {
            expected: Self::MIN_LEN,
            got: bytes.len(),
        };
        if !(Self::MIN_LEN..=Self::MAX_LEN).contains(&bytes.len()) {
            return Err(wrong);
        }
        let mut out = [0u8; Self::MAX_LEN];
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(Self {
            bytes: out,
            len: u8::try_from(bytes.len()).map_err(|_| wrong)?,
        })
    }

    /// The bytes, type byte first.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or(&[])
    }
}

impl AsRef<[u8]> for Ueid {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl TryFrom<&[u8]> for Ueid {
    type Error = IdError;

    fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
        Self::from_slice(bytes)
    }
}

impl fmt::Display for Ueid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, self.as_bytes())
    }
}

impl fmt::Debug for Ueid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ueid({self})")
    }
}

impl FromStr for Ueid {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let mut bytes = [0u8; Self::MAX_LEN];
        let len = text.len() / 2;
        let target = bytes.get_mut(..len).ok_or(IdError::Length {
            expected: Self::MIN_LEN,
            got: len,
        })?;
        read_hex(text, target)?;
        Self::from_slice(target)
    }
}

serde_as_text!(Ueid);

/// What the reference URIs of TA manifests begin with; the TA's name follows.
pub const TA_URI_PREFIX: &str = "tegata:ta:";

/// Namespace of everything that Tegata names by UUIDv5 (drawn at random once, fixed for ever).
pub const NS_TEGATA: Uuid = Uuid::from_u128(0x981b_83d9_9507_4d55_ab89_3fa9_98bb_f2b1);

/// Namespace of device UUIDs: UUIDv5(NS_TEGATA, "device").
pub const NS_DEVICE: Uuid = Uuid::from_u128(0x0c50_8dfd_abe0_5921_8602_f2f0_791e_49f5);

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn read_hex(text: &str, out: &mut [u8]) -> Result<(), IdError> {
    match hex::decode_to_slice(text, out) {
        Ok(()) => Ok(()),
        Err(hex::FromHexError::InvalidHexCharacter { .. }) => Err(IdError::Text),
        Err(_) => Err(IdError::Length {
            expected: out.len(),
            got: text.len() / 2,
        }),
    }
}
