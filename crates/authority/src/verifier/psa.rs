//! Appraising the PSA attestation token that a certification request carries.
//!
//! Unlike evidence of our own TEE it gets no attestation result: the CA that takes the request appraises
//! it, and a token is good or the request is refused. [`PsaAppraised`] is the proof of the former.
//!
//! What a good token says: a Root of Trust whose key the operator registered saw the software that the
//! reference values name, in a state of life that the policy accepts, and signed the server's nonce
//! together with the hash of the key that is to be certified. Where that key lies it does not say.
//!
//! Trusted: as the module above; who may ask the Root of Trust for tokens can vouch for any key.
//!
//! Spec: RFC 9783, docs/spec/appraisal.md

use tegata_crypto::cose::{CoseError, unverified_payload, verify_sign1};
use tegata_crypto::{Provider, PublicKey, ct_eq};
use tegata_wire::ids::Ueid;
use tegata_wire::rats::RatsError;
use tegata_wire::rats::psa::{
    Lifecycle, PsaClaims, PsaProfile, SoftwareComponent, TOKEN_LEN_BYTES_MAX,
};

use super::policy::PsaPolicy;
use crate::registry::PsaDevice;

/// Length of the server's part of the nonce claim, bytes; the hash of the request's key follows.
pub const SERVER_NONCE_LEN_BYTES: usize = 32;

/// Why a token is not good.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PsaDenied {
    /// Longer than any token.
    #[error("the token has {got} bytes, more than {TOKEN_LEN_BYTES_MAX}")]
    TooLong {
        /// Its length.
        got: usize,
    },
    /// No COSE_Sign1.
    #[error("the token is malformed: {0}")]
    Malformed(CoseError),
    /// Its claims cannot be read.
    #[error("the claims are malformed: {0}")]
    Claims(RatsError),
    /// The claims are of another profile than the wrapper says.
    #[error("the token is of another profile than its wrapper says")]
    Profile,
    /// No device of that instance id is registered.
    #[error("no device is registered for this instance id")]
    UnknownInstance,
    /// Not signed by the registered key.
    #[error("the signature does not verify with the registered key: {0}")]
    Signature(CoseError),
    /// The instance id that was signed is not the device's.
    #[error("the instance id is not that of the device")]
    Instance,
    /// The implementation is not the one registered.
    #[error("the implementation id is not the one registered")]
    Implementation,
    /// The nonce claim is not as long as it must be.
    #[error("the nonce claim has {got} bytes, not 64")]
    NonceLength {
        /// Its length.
        got: usize,
    },
    /// The nonce claim does not end with the hash of the request's key.
    #[error("the token is bound to another key than the request's")]
    OtherKey,
    /// The state of life is not one that the policy accepts.
    #[error("the security lifecycle is {}", .0.name())]
    Lifecycle(Lifecycle),
    /// The caller was in a world that the policy does not accept.
    #[error("the client id {0} is not of a world that the policy accepts")]
    Client(i32),
    /// A software component is not among the reference values.
    #[error("no reference value is of the software component {position} ({kind})")]
    Software {
        /// Its place in the token, from 1.
        position: usize,
        /// Its type, as far as it can be printed.
        kind: String,
    },
    /// The token is silent about a kind of software that there are reference values of.
    #[error("the token has no software component of the type {kind}")]
    NoSoftware {
        /// The type, as the policy has it.
        kind: String,
    },
}

impl PsaDenied {
    /// Stable label.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::TooLong { .. } | Self::Malformed(_) => "evidence-malformed",
            Self::Claims(_) => "evidence-claims",
            Self::Profile => "evidence-profile",
            Self::UnknownInstance => "evidence-unknown-instance",
            Self::Signature(_) => "evidence-signature",
            Self::Instance => "evidence-instance",
            Self::Implementation => "evidence-implementation",
            Self::NonceLength { .. } => "evidence-nonce",
            Self::OtherKey => "evidence-other-key",
            Self::Lifecycle(_) => "evidence-lifecycle",
            Self::Client(_) => "evidence-client",
            Self::Software { .. } | Self::NoSoftware { .. } => "evidence-software",
        }
    }

    /// Whether the bytes are no token at all.
    #[must_use]
    pub fn is_malformed(&self) -> bool {
        matches!(
            self,
            Self::TooLong { .. } | Self::Malformed(_) | Self::Claims(_)
        )
    }

    /// What the peer may know, a sentence. What was expected stays here.
    #[must_use]
    pub fn peer_text(&self) -> &'static str {
        match self {
            Self::TooLong { .. } => "The PSA token is too long.",
            Self::Malformed(_) => "The PSA token is no COSE_Sign1.",
            Self::Claims(_) => "The PSA token lacks a claim, or has one in a wrong form.",
            Self::Profile => "The PSA token is of another profile than its wrapper says.",
            Self::UnknownInstance => {
                "No device is registered for the instance id of the PSA token."
            }
            Self::Signature(_) => "The PSA token is not signed by the registered key.",
            Self::Instance => "The PSA token is of another instance.",
            Self::Implementation => {
                "The PSA token is of another implementation than is registered."
            }
            Self::NonceLength { .. } => {
                "The nonce of the PSA token must be the server's nonce and SHA-256 of the request's \
                 SubjectPublicKeyInfo, 64 bytes."
            }
            Self::OtherKey => "The PSA token is bound to another key than that of the request.",
            Self::Lifecycle(_) => "The security lifecycle of the device is not accepted.",
            Self::Client(_) => "The caller that the PSA token names is not accepted.",
            Self::Software { .. } => "The device runs software that is not accepted.",
            Self::NoSoftware { .. } => "The PSA token does not name all software that it must.",
        }
    }
}

/// Proof that a token was appraised and is good.
#[derive(Debug)]
#[must_use]
pub struct PsaAppraised {
    ueid: Ueid,
    nonce: [u8; SERVER_NONCE_LEN_BYTES],
    token_digest: [u8; 32],
}

impl PsaAppraised {
    /// The device.
    #[must_use]
    pub fn ueid(&self) -> &Ueid {
        &self.ueid
    }

    /// The server's part of the nonce. Whether it is one of the server's is not looked at here.
    #[must_use]
    pub fn nonce(&self) -> &[u8; SERVER_NONCE_LEN_BYTES] {
        &self.nonce
    }

    /// SHA-256 of the token.
    #[must_use]
    pub fn token_digest(&self) -> &[u8; 32] {
        &self.token_digest
    }
}

/// A token and what it is to vouch for.
#[derive(Debug, Clone, Copy)]
pub struct PsaEvidence<'a> {
    /// The token, COSE_Sign1.
    pub token: &'a [u8],
    /// The profile that its wrapper names.
    pub profile: PsaProfile,
    /// DER SubjectPublicKeyInfo of the request.
    pub spki_der: &'a [u8],
}

impl PsaEvidence<'_> {
    /// The instance that the token says to be of, to look up the device; nothing is believed by it.
    ///
    /// # Errors
    /// If it is no token.
    pub fn alleged_instance(&self) -> Result<Ueid, PsaDenied> {
        let got = self.token.len();
        if got > TOKEN_LEN_BYTES_MAX {
            return Err(PsaDenied::TooLong { got });
        }
        let payload = unverified_payload(self.token).map_err(PsaDenied::Malformed)?;
        let claims = PsaClaims::decode(&payload).map_err(PsaDenied::Claims)?;
        Ok(claims.instance_id)
    }

    /// Appraises the token of `device` (`None`: nobody registered that instance).
    ///
    /// # Errors
    /// The first thing that is not good.
    pub fn appraise(
        &self,
        provider: &dyn Provider,
        device: Option<&PsaDevice>,
        policy: &PsaPolicy,
    ) -> Result<PsaAppraised, PsaDenied> {
        self.alleged_instance()?;
        let device = device.ok_or(PsaDenied::UnknownInstance)?;
        // 1. Whose word it is. A kid of the token means nothing: the instance names the key.
        let key = |_: Option<&[u8]>| -> Option<PublicKey> { Some(device.iak().clone()) };
        let verified =
            verify_sign1(provider, self.token, &key, b"", None).map_err(PsaDenied::Signature)?;
        let claims = PsaClaims::decode(verified.payload()).map_err(PsaDenied::Claims)?;
        if claims.profile != self.profile {
            return Err(PsaDenied::Profile);
        }
        // 2. That it is this device's.
        if claims.instance_id != *device.ueid() {
            return Err(PsaDenied::Instance);
        }
        if claims.implementation_id != device.implementation_id() {
            return Err(PsaDenied::Implementation);
        }
        // 3. What it is about: this request's key, and a nonce of somebody's.
        let nonce = self.bound_nonce(provider, &claims.nonce)?;
        // 4. What state the device is in.
        let lifecycle = claims.lifecycle().map_err(PsaDenied::Claims)?;
        if !policy.lifecycles.contains(&lifecycle) {
            return Err(PsaDenied::Lifecycle(lifecycle));
        }
        if !policy.callers.accept(claims.client_id) {
            return Err(PsaDenied::Client(claims.client_id));
        }
        for (position, component) in (1..).zip(&claims.software) {
            if !policy.knows(component, &claims.implementation_id) {
                let kind = printable(component);
                return Err(PsaDenied::Software { position, kind });
            }
        }
        if let Some(kind) = policy.missing(&claims.software, &claims.implementation_id) {
            let kind = kind.to_owned();
            return Err(PsaDenied::NoSoftware { kind });
        }
        Ok(PsaAppraised {
            ueid: *device.ueid(),
            nonce,
            token_digest: provider.sha256(self.token),
        })
    }

    fn bound_nonce(
        &self,
        provider: &dyn Provider,
        claimed: &[u8],
    ) -> Result<[u8; SERVER_NONCE_LEN_BYTES], PsaDenied> {
        let length = PsaDenied::NonceLength { got: claimed.len() };
        let halves = claimed.split_first_chunk::<SERVER_NONCE_LEN_BYTES>();
        let Some((nonce, key_hash)) = halves.filter(|(_, hash)| hash.len() == HASH_LEN_BYTES)
        else {
            return Err(length);
        };
        if !ct_eq(key_hash, &provider.sha256(self.spki_der)) {
            return Err(PsaDenied::OtherKey);
        }
        Ok(*nonce)
    }
}

/// The type of a component for a log: plain characters, a few.
fn printable(component: &SoftwareComponent) -> String {
    let kind = component.kind.as_deref().unwrap_or("without a type");
    let plain = |c: &char| c.is_ascii_graphic() || *c == ' ';
    kind.chars().filter(plain).take(32).collect()
}

/// Length of SHA-256.
const HASH_LEN_BYTES: usize = 32;

#[cfg(test)]
mod tests;
