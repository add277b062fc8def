//! Who may get a release, as the CA tells a TAM that is not on its machine.
//!
//! Invariants: a [`VerifiedNotice`] was signed by the key that signed the release, for this use
//! alone, and names that release; what the network strips or replays can only keep a release from
//! devices, never give it to more of them.

use tegata_crypto::cose::{CoseError, Sign1Headers, sign1, verify_sign1};
use tegata_crypto::{Provider, PublicKey, Signer};
use tegata_wire::enrolment::{EnrolmentError, ReleaseNotice};
use tegata_wire::ids::{ReleaseDigest, SignerId};

use super::availability::Availability;
use super::package::{PackageDenied, VerifiedTaManifest};

/// The word of a release's signer on who may get it.
#[derive(Debug)]
#[must_use]
pub struct VerifiedNotice {
    number: u64,
    available: Availability,
}

impl VerifiedNotice {
    /// Counts the signer's decisions: a later one has a higher number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Who may get the release.
    #[must_use]
    pub fn available(&self) -> &Availability {
        &self.available
    }
}

/// Why a notice cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NoticeError {
    /// The rule is too long.
    #[error("the rule of who may get the release cannot be sent: {0}")]
    Rule(#[from] EnrolmentError),
    /// It cannot be signed.
    #[error("the notice cannot be signed: {0}")]
    Sign(#[from] CoseError),
}

/// Signs the CA's decision of that number.
///
/// # Errors
/// A rule of more than 48 KiB, or a failing key.
pub fn sign_notice(
    release: &ReleaseDigest,
    number: u64,
    available: &Availability,
    release_key: &dyn Signer,
) -> Result<Vec<u8>, NoticeError> {
    let notice = ReleaseNotice {
        release: *release,
        number,
        available: available.to_string(),
    };
    let headers = Sign1Headers::default();
    let payload = notice.encode()?;
    Ok(sign1(
        release_key,
        &payload,
        &headers,
        ReleaseNotice::CONTEXT,
        false,
    )?)
}

/// Verifies a notice that came with the release of `manifest`.
///
/// # Errors
/// `Notice` unless the release's own signer made it, `NoticeContent` if it says something else.
pub(super) fn verify_notice(
    provider: &dyn Provider,
    bytes: &[u8],
    manifest: &VerifiedTaManifest,
    release_keys: &[PublicKey],
) -> Result<VerifiedNotice, PackageDenied> {
    let verified = verify_sign1(provider, bytes, release_keys, ReleaseNotice::CONTEXT, None)
        .map_err(PackageDenied::Notice)?;
    let wrong = PackageDenied::NoticeContent;
    if SignerId(verified.key().thumbprint()) != manifest.signer {
        return Err(wrong("another key signed it"));
    }
    let notice = ReleaseNotice::decode(verified.payload())?;
    if notice.release != manifest.digest {
        return Err(wrong("it is about another release"));
    }
    Ok(VerifiedNotice {
        number: notice.number,
        available: notice
            .available
            .parse()
            .map_err(|_| wrong("its rule is none this TAM knows"))?,
    })
}
