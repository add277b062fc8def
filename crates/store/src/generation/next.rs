//! How the next generation comes about: what its operator wants, what speaks against it, what is made.

use tegata_authority::UnixSecs;
use tegata_authority::ca::authority_cert::{
    BACKDATE_SECS, CaDraft, CrossKind, Issuer, make_cross, make_issuing, make_root,
};
use tegata_crypto::{KeyAlg, Rng};

use super::{Generations, ISSUING_KEY, Links, PATH_MAX, ROOT_KEY, open_signer};
use crate::keys::SealedKey;
use crate::role::{Role, RoleError};

/// What the next generation is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An issuing CA under the root that there is.
    Issuing,
    /// A new root, and an issuing CA under it.
    Root,
}

/// The next generation as its operator wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// Its number.
    pub number: u32,
    /// What it has.
    pub kind: Kind,
    /// Algorithm of its keys; absent, as before.
    pub alg: Option<KeyAlg>,
    /// Whether keys of before leaked: no issuing CA of before is to be trusted any more, and, with a new
    /// root, no root. The new root leads nobody to them.
    pub leaked: bool,
    /// What its operator has looked at.
    pub sure: Sure,
}

/// What is refused unless an operator says that they are sure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sure {
    /// The clock is right, whatever the store says.
    pub clock: bool,
    /// Who knows the oldest roots alone need not find the new one.
    pub leave_behind: bool,
}

/// A generation that was made, or would be.
#[derive(Debug, Clone)]
pub struct Made {
    /// Its number.
    pub number: u32,
    /// The issuing CA.
    pub issuing: Issuer,
    /// Its root.
    pub root: Issuer,
    /// Whether it had been made before.
    pub again: bool,
}

/// Why a clock is not to be believed in what cannot be undone: what the store says of the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the clock says {now} and {what} {at} (seconds since 1970): it may be wrong, and what is made now \
     stays for good; nothing was changed", now = .now.0, at = .at.0
)]
pub struct ClockDoubt {
    /// What the clock says.
    pub now: UnixSecs,
    /// What the store has, up to its time.
    pub what: &'static str,
    /// That time.
    pub at: UnixSecs,
}

impl ClockDoubt {
    /// Of a clock that is far beyond the last record.
    pub(crate) fn of_silence(now: UnixSecs, recorded: UnixSecs) -> Option<Self> {
        let late = recorded.0.saturating_add(SILENCE_SECS_MAX);
        (late < now.0).then_some(Self {
            now,
            what: "the last record was made at",
            at: recorded,
        })
    }
}

/// What a generation is stored as.
pub(super) struct Draft {
    pub(super) made: Made,
    pub(super) root_number: u32,
    pub(super) root: Option<(SealedKey, Links)>,
    pub(super) issuing_key: SealedKey,
    pub(super) after_leak: bool,
}

/// Makes the next generation, all of it or nothing; what was made before under this number is found.
///
/// It is durable when this returns. A process that serves sees it at its next request.
///
/// # Errors
/// `Generation` for a number that is neither there nor the next; `OtherGeneration` for one that was
/// made in another way; `Clock`, `RootEnded`, `LeavesBehind`; a sealing key that does not open the root's;
/// the store's failure.
pub fn roll_over(
    role: &Role,
    next: Next,
    rng: &mut dyn Rng,
    now: UnixSecs,
) -> Result<Made, RoleError> {
    if let Some(made) = find(role, next)? {
        return Ok(made);
    }
    // 1. Keys and certificates. A crash here leaves nothing; what was signed was seen by nobody.
    let draft = draft(role, next, rng, now)?;
    // 2. All of it at once, with the shards that are its own.
    let stored = role
        .store
        .run_tx("roll over", |tx| super::store(tx, &draft, now))?;
    if stored {
        return Ok(draft.made);
    }
    // Another command was faster, with this number: its generation is the one.
    find(role, next)?.ok_or(RoleError::Generation {
        asked: next.number,
        newest: next.number,
    })
}

/// What [`roll_over`] would make now; the keys are thrown away.
///
/// # Errors
/// As [`roll_over`].
pub fn would_roll_over(
    role: &Role,
    next: Next,
    rng: &mut dyn Rng,
    now: UnixSecs,
) -> Result<Made, RoleError> {
    match find(role, next)? {
        Some(made) => Ok(made),
        None => Ok(draft(role, next, rng, now)?.made),
    }
}

/// The generation of that number, if it is there.
fn find(role: &Role, next: Next) -> Result<Option<Made>, RoleError> {
    let present = Generations::load(role)?;
    let newest = present.newest().number;
    if next.number == newest.saturating_add(1) {
        return Ok(None);
    }
    let number = |number| present.iter().find(|one| one.number == number);
    let before = number(next.number.saturating_sub(1));
    let (Some(found), Some(before)) = (number(next.number), before) else {
        return Err(RoleError::Generation {
            asked: next.number,
            newest,
        });
    };
    let kind = match found.root == before.root {
        true => Kind::Issuing,
        false => Kind::Root,
    };
    let same = kind == next.kind && found.after_leak == next.leaked;
    let of_kind = |ca: &Issuer| next.alg.is_none_or(|alg| ca.public_key.alg() == alg);
    match present.root(found.root) {
        Some(root)
            if same && of_kind(&found.ca) && (kind == Kind::Issuing || of_kind(&root.ca)) =>
        {
            Ok(Some(Made {
                number: found.number,
                issuing: found.ca.clone(),
                root: root.ca.clone(),
                again: true,
            }))
        }
        _ => Err(RoleError::OtherGeneration(next.number)),
    }
}

/// Refuses what could not be undone and is likely a mistake.
fn check(role: &Role, present: &Generations, next: Next, now: UnixSecs) -> Result<(), RoleError> {
    let root = present.newest_root();
    let root_end = UnixSecs(root.ca.not_after_secs);
    if next.kind == Kind::Issuing && root_end < now {
        return Err(RoleError::RootEnded {
            root: root.number,
            at: root_end,
        });
    }
    if !next.sure.clock {
        let recorded = role.store.read("last record", super::last_recorded)?;
        let begun = present.newest().ca.not_before_secs;
        let begun = UnixSecs(begun.max(root.ca.not_before_secs));
        let latest = UnixSecs(now.0.saturating_add(BACKDATE_SECS));
        let doubts = [
            (latest < begun, "the newest CA certificate begins at", begun),
            (latest < recorded, "the last record was made at", recorded),
            (root_end < now, "the newest root ended at", root_end),
        ];
        let doubt = doubts.into_iter().find(|(doubt, ..)| *doubt);
        let doubt = doubt.map(|(_, what, at)| ClockDoubt { now, what, at });
        if let Some(doubt) = doubt.or_else(|| ClockDoubt::of_silence(now, recorded)) {
            return Err(RoleError::Clock(doubt));
        }
    }
    // A leak leaves them behind anyway.
    if next.kind == Kind::Root && !next.leaked && !next.sure.leave_behind {
        let reach = u32::try_from(PATH_MAX).unwrap_or(u32::MAX);
        let mut left = present.roots().filter(|old| {
            old.is_anchor(now) && old.number.saturating_add(reach) <= root.number.saturating_add(1)
        });
        if let Some(old) = left.next() {
            return Err(RoleError::LeavesBehind {
                root: old.number,
                until: UnixSecs(old.ca.not_after_secs),
            });
        }
    }
    Ok(())
}

fn draft(role: &Role, next: Next, rng: &mut dyn Rng, now: UnixSecs) -> Result<Draft, RoleError> {
    let present = Generations::load(role)?;
    check(role, &present, next, now)?;
    let (old, before) = (present.newest_root(), present.newest());
    let root_number = match next.kind {
        Kind::Issuing => old.number,
        Kind::Root => old.number.saturating_add(1),
    };
    let all: Vec<&Issuer> = present.iter().map(|one| &one.ca).collect();
    let names = CaDraft::after(&old.ca, &all, root_number, next.number)?;
    let old_key = open_signer(role, ROOT_KEY, old.number, &old.ca)?;
    let issuing = role
        .provider
        .generate(next.alg.unwrap_or(before.ca.public_key.alg()), rng)?;
    let issuing_key = role.seal_key(ISSUING_KEY, &issuing, rng)?;
    let public = issuing.public_key();
    let (root, cert, sealed) = match next.kind {
        Kind::Issuing => {
            let under = &old.ca.cert_der;
            let cert = make_issuing(&names, old_key.as_ref(), under, public, rng, now)?;
            (old.ca.clone(), cert, None)
        }
        Kind::Root => {
            let alg = next.alg.unwrap_or(old.ca.public_key.alg());
            let key = role.provider.generate(alg, rng)?;
            let root = Issuer::from_cert(&make_root(&names, &key, rng, now)?)?;
            let cert = make_issuing(&names, &key, &root.cert_der, public, rng, now)?;
            let kind = match next.leaked {
                true => CrossKind::NewWithOld,
                false => CrossKind::Both,
            };
            let from = (&old.ca, old_key.as_ref());
            let links = make_cross(from, (&root, &key), kind, rng, now)?;
            let sealed = role.seal_key(ROOT_KEY, &key, rng)?;
            (root, cert, Some((sealed, links)))
        }
    };
    Ok(Draft {
        made: Made {
            number: next.number,
            issuing: Issuer::from_cert(&cert)?,
            root,
            again: false,
        },
        root_number,
        root: sealed,
        issuing_key,
        after_leak: next.leaked,
    })
}

/// Longest time without a record after which the clock alone is believed, seconds: a CA with devices
/// renews within a year.
const SILENCE_SECS_MAX: u64 = 400 * 86_400;
