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
use crate::ta_store::{TaChange, TaStoreError};

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
        match work.store.apply(&plan.changes) {
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
