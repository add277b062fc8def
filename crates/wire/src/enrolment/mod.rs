//! Tegata's own enrolment objects: procedure, personalization data, factory manifest, delivery.
//!
//! Purpose: what CA, TAM, factory and enrolment TA tell each other beyond the standards. Each is
//! one CBOR map with integer labels in deterministic encoding.
//!
//! Invariants: a value that decodes is within its limits and consistent; an unknown label is
//! refused, because a device must not half-understand its orders; what one side encodes the other
//! decodes to the same value. Secrets are wiped and have no `Debug`.
//!
//! Not trusted: none of these objects says who wrote it. Each comes inside a SUIT manifest, a COSE
//! structure or a protected channel that does.
//!
//! Spec: docs/spec/procedure.md, personalization.md, factory-manifest.md, delivery.md,
//! release-package.md.

mod delivery;
mod factory;
mod identity;
mod notice;
mod personalization;
mod procedure;
mod release;
mod renewal;
mod template;

pub use delivery::{Delivery, DeliveryRequest};
pub use factory::{DeliveryKeks, DeviceEndorsement, FactoryManifest, MAX_FACTORY_DEVICES};
pub use identity::{Identity, IdentityAttribute};
pub use notice::{MAX_NOTICE_BYTES, MAX_RULE_BYTES, ReleaseNotice};
pub use personalization::{PersonalizationData, SenderKid, sender_kid};
pub use procedure::{
    CertificateOrder, ConfirmMode, KeyKind, MAX_PROCEDURE_BYTES, Procedure, ProtocolProfile,
    SanTemplate,
};
pub use release::{DeliveryMode, ReleasePackage, TamSecrets};
pub use renewal::{RenewalToken, token_input};
pub use template::{Template, expand};

use crate::{
    cbor::{self, CborError, MapReader, Value},
    ids::{IdError, Ueid},
    x509::X509Error,
};

/// Largest SUIT envelope inside one of these objects, in bytes.
pub const MAX_ENVELOPE_BYTES: usize = 64 * 1024;
/// Largest COSE_Encrypt structure without ciphertext, in bytes: two recipients and room.
pub const MAX_ENCRYPTION_INFO_BYTES: usize = 4096;
/// Largest encrypted Trusted Application, in bytes. The enrolment TA is under 200 KiB.
pub const MAX_TA_BYTES: usize = 4 * 1024 * 1024;
/// Largest personalization data, plain or encrypted, in bytes.
pub const MAX_CONFIG_BYTES: usize = 4096;
/// Largest COSE_Key, in bytes. An ML-DSA-87 key would need 2.6 KiB.
pub const MAX_COSE_KEY_BYTES: usize = 4096;

/// What the CA says to a device whose certificate has ended and whose evidence is not fresh: the
/// device visits its TAM and sends the same request again.
pub const CHECK_IN_FIRST: &str =
    "fresh evidence is needed: check in with the TAM, then send the same request again";

/// Why bytes are not an enrolment object, or one cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnrolmentError {
    /// Not the CBOR of the object.
    #[error("{0}")]
    Cbor(#[from] CborError),
    /// A name, extension or certificate inside is not one.
    #[error("{0}")]
    X509(#[from] X509Error),
    /// An identifier inside is not one.
    #[error("{0}")]
    Id(#[from] IdError),
    /// A regToken that is no renewal token.
    #[error("the text is not a renewal token")]
    RenewalToken,
    /// A version this code does not know.
    #[error("{what} version {got} is not supported (expected {expected})")]
    Version {
        /// Which object.
        what: &'static str,
        /// The version read.
        got: u64,
        /// The version understood.
        expected: u64,
    },
    /// A label this version does not define.
    #[error("{what} has an entry that its version does not define")]
    UnknownLabel {
        /// Which object.
        what: &'static str,
    },
    /// A template is not well-formed.
    #[error("a template has an unknown placeholder or an unmatched brace")]
    Template,
    /// A template names an attribute of the device that is not listed as required.
    #[error("a template uses {0}, which the procedure does not require")]
    NotRequired(IdentityAttribute),
    /// The device has no such attribute, or its value is not usable.
    #[error("the device identity lacks {0}")]
    MissingIdentity(IdentityAttribute),
    /// Two parts of the object contradict each other.
    #[error("{0}")]
    Inconsistent(&'static str),
}

/// Refuses what nobody took from a map.
fn no_rest(map: &MapReader, what: &'static str) -> Result<(), EnrolmentError> {
    if map.is_empty() {
        Ok(())
    } else {
        Err(EnrolmentError::UnknownLabel { what })
    }
}

/// Takes and checks the version at label 1.
fn version(map: &mut MapReader, what: &'static str, expected: u64) -> Result<(), EnrolmentError> {
    let got = cbor::uint(&map.require(1, "version")?, "version")?;
    if got == expected {
        Ok(())
    } else {
        Err(EnrolmentError::Version {
            what,
            got,
            expected,
        })
    }
}

/// A UEID in a byte string.
fn ueid(value: Value) -> Result<Ueid, EnrolmentError> {
    let bytes = cbor::into_bytes_sized(value, "ueid", Ueid::MIN_LEN, Ueid::MAX_LEN)?;
    Ok(Ueid::from_slice(&bytes)?)
}

/// A text of `min` to `max` bytes.
fn text(
    value: Value,
    what: &'static str,
    min: usize,
    max: usize,
) -> Result<alloc::string::String, EnrolmentError> {
    let text = cbor::into_text(value, what, max)?;
    cbor::check_len(text.len(), what, min, max)?;
    Ok(text)
}
