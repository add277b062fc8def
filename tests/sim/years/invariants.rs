//! What must hold through all the years. Each has a name, and a self-test that shows that it can
//! fail.

use super::fleet::Fleet;

pub type Check = fn(&Fleet) -> Result<(), String>;

/// All of them, by name.
pub const ALL: [(&str, Check); 8] = [
    ("no_device_is_locked_out", invariant_no_device_is_locked_out),
    (
        "nothing_revoked_reads_good_after_the_bound",
        invariant_nothing_revoked_reads_good_after_the_bound,
    ),
    (
        "what_is_shown_leads_to_every_root",
        invariant_what_is_shown_leads_to_every_root,
    ),
    (
        "slots_overlap_by_the_window_at_most",
        invariant_slots_overlap_by_the_window_at_most,
    ),
    (
        "nothing_is_issued_without_authentication",
        invariant_nothing_is_issued_without_authentication,
    ),
    (
        "nothing_is_issued_against_the_operators_word",
        invariant_nothing_is_issued_against_the_operators_word,
    ),
    (
        "one_certificate_per_request",
        invariant_one_certificate_per_request,
    ),
    ("what_was_answered_stays", invariant_what_was_answered_stays),
];

/// The first that does not hold, and why.
pub fn check(fleet: &Fleet) -> Result<(), (&'static str, String)> {
    for (name, check) in ALL {
        check(fleet).map_err(|why| (name, why))?;
    }
    Ok(())
}

fn first(list: &[String]) -> Result<(), String> {
    match list.first() {
        Some(told) => Err(format!("{told} ({} in all)", list.len())),
        None => Ok(()),
    }
}

/// A device that has power, a network and right clocks at the servers, and that the operator does
/// not keep from it, gets a certificate that serves within a few tries; at the end every one does.
pub fn invariant_no_device_is_locked_out(fleet: &Fleet) -> Result<(), String> {
    first(&fleet.ledger.locked_out)
}

/// Whatever a relying party kept, it believes a certificate that was revoked or held for no longer
/// than docs/ops/status.md says.
pub fn invariant_nothing_revoked_reads_good_after_the_bound(fleet: &Fleet) -> Result<(), String> {
    first(&fleet.ledger.stale)
}

/// What a device shows of its certificate and the CAs above it leads to a root of each relying party
/// over all rollovers: of those that know the first root alone, and of those that hear of each.
pub fn invariant_what_is_shown_leads_to_every_root(fleet: &Fleet) -> Result<(), String> {
    first(&fleet.ledger.distrusted)
}

/// Of the certificates that a device confirmed, all but the newest end within the renewal window; of
/// those that the CA answered and the device never confirmed, three at most live for longer than that
/// (docs/divergences/cmp.md).
pub fn invariant_slots_overlap_by_the_window_at_most(fleet: &Fleet) -> Result<(), String> {
    first(&fleet.ledger.overlaps)
}

/// Each certificate and intent goes back to a request that the TA in that very device made.
pub fn invariant_nothing_is_issued_without_authentication(fleet: &Fleet) -> Result<(), String> {
    first(&fleet.ledger.forged)
}

/// A device that is revoked, on hold or covered by a stop gets nothing new.
pub fn invariant_nothing_is_issued_against_the_operators_word(fleet: &Fleet) -> Result<(), String> {
    first(&fleet.ledger.defied)
}

/// One request of one device gets one certificate, over crashes, years and the archive.
pub fn invariant_one_certificate_per_request(fleet: &Fleet) -> Result<(), String> {
    first(&fleet.ledger.doubles)
}

/// What was answered is in the store or its archive, and what was revoked for good stays so.
pub fn invariant_what_was_answered_stays(fleet: &Fleet) -> Result<(), String> {
    first(&fleet.ledger.missing)
}
