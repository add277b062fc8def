//! Update to Success or Error: removals and installations of one message are one commit.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use tegata_crypto::suit::DeliveryKeys;
use tegata_wire::ids::TaUuid;
use tegata_wire::suit::Report;
use tegata_wire::teep::{ErrCode, Success, Update};

use super::answer::{Refusal, encode_reports, reply};
use super::{Stopped, TeepAgent, TeepEvent, TeepOutcome, Work};
use crate::platform::Platform;
use crate::storage::StorageError;
use crate::suit::{
    Context, Outcome, SuitError, process_uninstall, process_update, root_manifest_ta,
};
use crate::ta_store::{TaChange, TaStore, TaStoreError};

/// What an Update comes to, before anything of it took effect.
#[derive(Default)]
struct Plan {
    changes: Vec<TaChange>,
    tas: BTreeSet<TaUuid>,
    reports: Vec<Report>,
}

impl TeepAgent {
    pub(super) fn update<P: Platform>(
        &mut self,
        work: &Work<'_, P>,
        update: Update,
    ) -> Result<TeepOutcome, Stopped> {
        let unneeded = update.unneeded_manifest_list.unwrap_or_default();
        let manifests = update.manifest_list.unwrap_or_default();
        if let (Some(code), true) = (update.err_code, unneeded.is_empty() && manifests.is_empty()) {
            self.last_event = Some(TeepEvent::TamError {
                code: code.number(),
            });
            return Ok(TeepOutcome::Done);
        }
        let ctx = Context {
            platform: work.platform,
            provider: work.provider,
            anchors: work.anchors,
            delivery: DeliveryKeys {
                kek: Some(&work.keys.delivery_kek),
                ecdh: Some(&work.keys.delivery_ecdh),
            },
            store: work.store,
            payloads: work.payloads,
        };
        let nonce = update.token.as_ref().map(|token| token.as_bytes());
        let mut plan = Plan::default();
        // 1. Everything is judged in memory. A crash here leaves the device as it was.
        for id in &unneeded {
            let Some(ta) = root_manifest_ta(id) else {
                let message = "not the root manifest of a TA";
                return Err(Refusal::new(ErrCode::PermanentError, "manifest-id", message).into());
            };
            plan.add_ta(ta)?;
            refuse_replayed_removal(work.store, &ta, nonce)?;
            let changes = process_uninstall(&ctx, &ta);
            plan.changes
                .extend(changes.map_err(|error| Refusal::manifest(&error, Vec::new()))?);
        }
        for envelope in &manifests {
            match process_update(&ctx, envelope, nonce) {
                Outcome::Passed {
                    changes,
                    tas,
                    report,
                } => {
                    for ta in tas {
                        plan.add_ta(ta)?;
                    }
                    refuse_replayed_installation(work.store, &changes, nonce)?;
                    plan.changes.extend(changes);
                    plan.reports.push(report);
                }
                Outcome::NeedPayload { uri, max_bytes } => {
                    return Ok(TeepOutcome::NeedPayload { uri, max_bytes });
                }
                Outcome::Failed(failure) => {
                    let reports = encode_reports(failure.report.iter());
                    return Err(Refusal::manifest(&failure.error, reports).into());
                }
            }
        }
        // 2. One commit of all of it; a crash leaves all or nothing.
        match work.store.apply_message(&plan.changes, nonce) {
            Ok(()) => {}
            Err(error @ TaStoreError::Storage(StorageError::Corrupt)) => {
                return Err(Stopped::Failed(error.into()));
            }
            Err(error) => return Err(Refusal::manifest(&error.into(), Vec::new()).into()),
        }
        // 3. The answer. Lost, it is made again when the message comes again.
        for ta in &plan.tas {
            self.requested.remove(ta);
            self.unneeded.remove(ta);
        }
        let reports = encode_reports(plan.reports.iter());
        let success = Success {
            token: update.token,
            suit_reports: (!reports.is_empty()).then_some(reports),
            ..Success::default()
        };
        self.last_event = Some(TeepEvent::Updated(plan.tas.into_iter().collect()));
        Ok(reply(work.keys, success.into())?)
    }
}

/// An old removal does not remove again what was installed after it; where nothing is installed,
/// it succeeds again without a change. Only a token tells the two apart, so a removal needs one.
fn refuse_replayed_removal<P: Platform>(
    store: &TaStore<'_, P>,
    ta: &TaUuid,
    token: Option<&[u8]>,
) -> Result<(), Refusal> {
    let failed = |error: TaStoreError| Refusal::manifest(&error.into(), Vec::new());
    let Some(token) = token else {
        let message = "a removal needs a token";
        return Err(Refusal::new(ErrCode::PermanentError, "no-token", message));
    };
    let Some(record) = store.record(ta).map_err(failed)? else {
        return Ok(());
    };
    if store.applied(&record.id).map_err(failed)?.removed_by(token) {
        return Err(replayed());
    }
    Ok(())
}

/// An old installation does not bring back what was removed after it.
fn refuse_replayed_installation<P: Platform>(
    store: &TaStore<'_, P>,
    changes: &[TaChange],
    token: Option<&[u8]>,
) -> Result<(), Refusal> {
    let failed = |error: TaStoreError| Refusal::manifest(&error.into(), Vec::new());
    let Some(token) = token else {
        return Ok(());
    };
    for change in changes {
        let TaChange::Install(installation) = change else {
            continue;
        };
        let id = &installation.record().id;
        if store.record(&id.uuid).map_err(failed)?.is_none()
            && store.applied(id).map_err(failed)?.installed_by(token)
        {
            return Err(replayed());
        }
    }
    Ok(())
}

fn replayed() -> Refusal {
    let message = "this message was carried out before, and what it did was changed since";
    Refusal::new(ErrCode::PermanentError, "replayed", message)
}

impl Plan {
    /// Two changes of one TA in one message would not be one commit that can be understood.
    fn add_ta(&mut self, ta: TaUuid) -> Result<(), Refusal> {
        if self.tas.insert(ta) {
            Ok(())
        } else {
            Err(Refusal::manifest(&SuitError::Twice(ta), Vec::new()))
        }
    }
}
