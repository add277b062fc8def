//! Renewal: the next certificate of a label, when it is due.
//!
//! Purpose: looks when the TA says that a label is to be renewed, drives the enrolment of the next
//! one, and does what a device must do whose certificate has ended: visit the TAM first, so that
//! the CA hears of fresh evidence.
//!
//! Whose labels: those of the identity that asks. To everybody else, the daemon and root too, a
//! label does not exist; so each owner's labels are renewed by a program of that owner.
//!
//! Nothing is kept here: TA and CA know where they stand, so a renewal that was cut off at any
//! point goes on when it is tried again.
//!
//! Not trusted: nor is it needed. It can hold a renewal back, and ask again.

use tegata_client::Context;
use tegata_client::keys::{KeyError, Keys};
use tegata_wire::enrolment::CHECK_IN_FIRST;

use crate::carrier::Carrier;
use crate::enrol::{self, EnrolError, Enrolled, Request, Watch};

/// What came of a renewal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Renewed {
    /// It is not due.
    NotDue {
        /// From when on it is, seconds since 1970.
        renew_at_secs: u64,
    },
    /// There is no certificate that could be renewed: the enrolment has not come to its end.
    NotEnrolled,
    /// The next certificate serves.
    Done(Enrolled),
}

/// Why a label was not renewed. Its certificate, if it lasts, still serves.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RenewError {
    /// The TEE does not tell how the label stands.
    #[error(transparent)]
    Status(#[from] KeyError),
    /// The enrolment of the next one failed.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
}

/// Visits the TAM. Whether that worked shows in what the CA says next.
pub type CheckIn<'a> = &'a mut dyn FnMut();

/// Renews `request.label` if that is due, or begun before, or wanted `now`.
///
/// # Errors
/// [`RenewError`]; calling again is safe at any time.
pub fn renew(
    tee: &Context,
    carrier: &dyn Carrier,
    request: &Request,
    now: bool,
    check_in: CheckIn<'_>,
    watch: &mut dyn Watch,
) -> Result<Renewed, RenewError> {
    let keys = Keys::new(tee.clone(), Some(request.ta), request.login, 1);
    let status = keys.status(&request.label)?;
    let Some(certificate) = status.certificate else {
        return Ok(Renewed::NotEnrolled);
    };
    let begun = status.state == tegata_client::keys::KeyState::Renewing;
    if !(now || begun || certificate.due) {
        let renew_at_secs = certificate.renew_at_secs;
        return Ok(Renewed::NotDue { renew_at_secs });
    }
    // The CA gives nothing to a device whose certificate has ended before it heard of its evidence.
    let mut visited = certificate.has_ended();
    if visited {
        check_in();
    }
    let mut refusals = 0;
    loop {
        let refused = match enrol::enrol(tee, carrier, request, watch) {
            Ok(enrolled) => return Ok(Renewed::Done(enrolled)),
            Err(error) => error,
        };
        let EnrolError::Refused {
            said,
            by_certificate,
            later,
            ..
        } = &refused
        else {
            return Err(refused.into());
        };
        let (by_certificate, later) = (*by_certificate, *later);
        refusals += 1;
        let needs_evidence = said == CHECK_IN_FIRST;
        let again = match (by_certificate, refusals) {
            // If the CA refused the certificate for good, the TA asks as the release from now on.
            (true, 1) => true,
            // All that the CA said is an error, which anybody on the way can provoke by damaging a
            // request; but not that it cannot answer now: it may have the answer. The certificate has ended
            // by the time that the CA signed.
            (true, 2) if !later && has_ended(&keys, &request.label)? => {
                give_up(&keys, &request.label)?;
                true
            }
            (true, _) => false,
            (false, _) => needs_evidence && !visited,
        };
        if !again {
            return Err(refused.into());
        }
        if !visited && (needs_evidence || has_ended(&keys, &request.label)?) {
            visited = true;
            check_in();
        }
    }
}

/// Gives the next certificate up, if one is under way.
fn give_up(keys: &Keys, label: &str) -> Result<(), KeyError> {
    match keys.give_up_next(label) {
        Err(KeyError::NoKey { .. }) => Ok(()),
        other => other,
    }
}

fn has_ended(keys: &Keys, label: &str) -> Result<bool, KeyError> {
    let certificate = keys.status(label)?.certificate;
    Ok(certificate.is_some_and(|certificate| certificate.has_ended()))
}
