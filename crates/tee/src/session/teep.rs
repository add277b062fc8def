//! A TEEP message and what it means for instances that run.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use tegata_wire::ids::{Digest, TaUuid};
use tegata_wire::rpc::{Payload, Processed};

use super::{Exclusive, SessionManager};
use crate::platform::Platform;
use crate::teep::{Payloads, TeepOutcome};
use crate::{Tee, TeeError};

/// What a message changed about one TA, for a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaChange {
    /// It was not there before.
    Installed,
    /// Another release is installed, or none.
    UpdatedOrRemoved,
}

impl fmt::Display for TaChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Installed => "a TA was installed",
            Self::UpdatedOrRemoved => "a TA was updated or removed",
        })
    }
}

impl SessionManager {
    /// `ProcessTeepMessage` of the local protocol: hands the message to the TEE and retires the
    /// instances of every TA whose release is no longer the installed one. `changed` is told of
    /// each TA that changed.
    ///
    /// # Errors
    /// As [`Tee::handle_teep`].
    pub fn process_teep<P: Platform>(
        &self,
        tee: &impl Exclusive<Tee<P>>,
        message: &[u8],
        payloads: Vec<Payload>,
        changed: impl Fn(&TaUuid, TaChange),
    ) -> Result<Processed, TeeError> {
        let before = tee.with(|tee| releases(tee))?;
        let payloads: Payloads = payloads
            .into_iter()
            .map(|payload| (payload.uri, payload.bytes))
            .collect();
        let outcome = tee.with(|tee| tee.handle_teep(message, &payloads))?;
        let after = tee.with(|tee| releases(tee))?;
        for (ta, release) in &before {
            if after.get(ta) != Some(release) {
                changed(ta, TaChange::UpdatedOrRemoved);
                self.retire(ta);
            }
        }
        for ta in after.keys().filter(|ta| !before.contains_key(*ta)) {
            changed(ta, TaChange::Installed);
        }
        Ok(match outcome {
            TeepOutcome::Reply(message) => Processed::Reply(message),
            TeepOutcome::NeedPayload { uri, max_bytes } => Processed::NeedPayload {
                uri,
                max_bytes: u64::try_from(max_bytes).unwrap_or(u64::MAX),
            },
            TeepOutcome::Done => Processed::Done,
        })
    }
}

/// Which release each installed TA has.
fn releases<P: Platform>(tee: &Tee<P>) -> Result<BTreeMap<TaUuid, Digest>, TeeError> {
    let records = tee.installed_list()?.into_iter();
    Ok(records
        .map(|record| (record.id.uuid, record.root_manifest))
        .collect())
}
