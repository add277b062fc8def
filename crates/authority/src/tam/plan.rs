//! What a device is to get: an installation, an update, a removal, or nothing.

use tegata_crypto::Provider;
use tegata_wire::ids::{ReleaseDigest, TaUuid};

use super::availability::{Availability, Candidate};
use super::session::Appraised;

/// A registered release, as far as the plan needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    /// Its digest.
    pub digest: ReleaseDigest,
    /// The TA.
    pub ta: TaUuid,
    /// Its sequence number.
    pub sequence: u64,
    /// Who may get it.
    pub availability: Availability,
}

/// What the device said it wants, has and needs no more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wishes {
    /// TAs it asks for.
    pub requested: Vec<TaUuid>,
    /// TAs it has.
    pub present: Vec<TaUuid>,
    /// TAs it needs no more.
    pub unneeded: Vec<TaUuid>,
}

/// One step for the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Install this release, or update to it.
    Install(ReleaseDigest),
    /// Remove the TA.
    Remove(TaUuid),
}

/// Decides the next step; `None` if the device is as it should be.
///
/// Removals come first: they make room. One step is taken at a time, so that each has its own
/// outcome.
#[must_use]
pub fn next_step(
    provider: &dyn Provider,
    appraised: &Appraised,
    device: &Candidate<'_>,
    wishes: &Wishes,
    releases: &[Known],
) -> Option<Step> {
    let installed = |ta: &TaUuid| {
        let mine = releases.iter().filter(|r| r.ta == *ta);
        mine.filter(|r| appraised.installed().contains(&r.digest))
            .max_by_key(|r| r.sequence)
    };
    let has = |ta: &TaUuid| wishes.present.contains(ta) || installed(ta).is_some();
    let withdrawn = |ta: &TaUuid| {
        installed(ta).is_some_and(|r| r.availability == Availability::Withdrawn)
            && best(provider, device, releases, ta).is_none()
    };
    let mut owned: Vec<TaUuid> = wishes.present.clone();
    owned.extend(
        releases
            .iter()
            .filter(|r| installed(&r.ta).is_some())
            .map(|r| r.ta),
    );
    let unneeded = wishes.unneeded.iter().filter(|ta| has(ta));
    let gone = owned.iter().filter(|ta| withdrawn(ta));
    if let Some(ta) = unneeded.chain(gone).next() {
        return Some(Step::Remove(*ta));
    }
    let wanted = wishes.requested.iter().chain(&owned);
    wanted
        .filter(|ta| !wishes.unneeded.contains(ta))
        .find_map(|ta| {
            let best = best(provider, device, releases, ta)?;
            let newer = installed(ta).is_none_or(|r| r.sequence < best.sequence);
            newer.then_some(Step::Install(best.digest))
        })
}

/// The newest release of a TA that the device may get.
fn best<'r>(
    provider: &dyn Provider,
    device: &Candidate<'_>,
    releases: &'r [Known],
    ta: &TaUuid,
) -> Option<&'r Known> {
    let mine = releases.iter().filter(|r| r.ta == *ta);
    mine.filter(|r| r.availability.allows(provider, &r.digest, device))
        .max_by_key(|r| r.sequence)
}
