//! Manifests whose signature was verified, and signing them.

use tegata_wire::ids::SignerId;
use tegata_wire::suit::{
    AuthBlock, CheckedEnvelope, EnvelopeBuilder, Manifest, SuitDigest, UnverifiedEnvelope,
};

use super::SuitError;
use crate::cose::{Keys, Sign1Headers, sign1, verify_sign1};
use crate::{Provider, PublicKey, Signer};

/// An envelope signed with a trusted key, whose manifest and severed members fit what was signed.
///
/// Integrated payloads are not covered: the commands of the manifest check them.
#[derive(Debug)]
#[must_use]
pub struct VerifiedEnvelope {
    envelope: CheckedEnvelope,
    key: PublicKey,
}

impl VerifiedEnvelope {
    /// The signer: thumbprint of the key that verified.
    pub fn signer(&self) -> SignerId {
        SignerId(self.key.thumbprint())
    }

    /// The key that verified.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The digest of the manifest.
    pub fn digest(&self) -> &SuitDigest {
        self.envelope.digest()
    }

    /// The manifest.
    pub fn manifest(&self) -> &Manifest {
        self.envelope.manifest()
    }

    /// The integrated payload or dependency of this name; not authenticated by the signature.
    pub fn integrated(&self, name: &str) -> Option<&[u8]> {
        self.envelope.integrated(name)
    }

    /// The envelope's contents.
    pub fn envelope(&self) -> &CheckedEnvelope {
        &self.envelope
    }

    /// The envelope's contents and the signer, by value.
    pub fn into_parts(self) -> (CheckedEnvelope, SignerId) {
        let signer = self.signer();
        (self.envelope, signer)
    }
}

/// Verifies that one authentication block is a signature with one of `keys`, and that manifest
/// and severed members fit the digest it covers.
///
/// # Errors
/// [`SuitError::Untrusted`] if no block verifies; [`SuitError::Wire`] if a digest differs.
///
/// Spec: draft-ietf-suit-manifest section 6.2 and 8.3.
pub fn verify_envelope(
    provider: &dyn Provider,
    envelope: UnverifiedEnvelope,
    keys: &(impl Keys + ?Sized),
) -> Result<VerifiedEnvelope, SuitError> {
    let mut signed = None;
    for block in envelope.auth_blocks() {
        // A MAC is no signature: whoever can check it can make it.
        let AuthBlock::Sign1(block) = block else {
            continue;
        };
        let payload = Some(envelope.signed_payload());
        // A block of another signer, or of an algorithm of theirs, does not spoil ours.
        if let Ok(verified) = verify_sign1(provider, block, keys, b"", payload) {
            signed = Some(verified);
            break;
        }
    }
    let key = signed.ok_or(SuitError::Untrusted)?.key().clone();
    let envelope = envelope.check_digests(|bytes| provider.sha256(bytes))?;
    Ok(VerifiedEnvelope { envelope, key })
}

/// Adds a signature to an envelope in the making.
///
/// # Errors
/// What the signer reports, or [`SuitError::Wire`] if there are too many signatures.
pub fn sign_envelope(
    signer: &dyn Signer,
    builder: &mut EnvelopeBuilder<'_>,
) -> Result<(), SuitError> {
    let headers = Sign1Headers::default();
    let block = sign1(signer, builder.signed_payload(), &headers, b"", true)?;
    builder.add_sign1(block)?;
    Ok(())
}
