//! QueryRequest to QueryResponse.

use alloc::string::ToString;
use alloc::vec::Vec;

use tegata_wire::ids::{Digest, TaUuid};
use tegata_wire::rats::eat::MEDIA_TYPE_EVIDENCE;
use tegata_wire::suit::{Parameters, Reference, Report, SuitDigest, SystemProperties};
use tegata_wire::teep::{
    Attestation, CipherSuite, DataItems, ErrCode, FreshnessMechanism, QueryRequest, QueryResponse,
    RequestedTc, VERSION,
};

use super::answer::{Refusal, encode_reports, reply};
use super::{Stopped, TeepAgent, TeepEvent, TeepOutcome, Work};
use crate::attest::{self, NONCE_MAX_LEN};
use crate::platform::Platform;
use crate::suit::{Part, TaComponent, release_manifest_id, tam_manifest_id};
use crate::ta_store::TaRecord;
use crate::tee::TeeError;

impl TeepAgent {
    pub(super) fn query<P: Platform>(
        &mut self,
        work: &Work<'_, P>,
        request: QueryRequest,
    ) -> Result<TeepOutcome, Stopped> {
        check(&request)?;
        let wanted = request.data_item_requested;
        let records = work.store.records().map_err(TeeError::from)?;
        let mut response = QueryResponse {
            token: request.token.clone(),
            selected_version: Some(VERSION),
            ..QueryResponse::default()
        };
        if let (true, Some(challenge)) =
            (wanted.contains(DataItems::ATTESTATION), &request.challenge)
        {
            let nonce = challenge.as_bytes();
            response.attestation = Some(Attestation {
                format: Some(MEDIA_TYPE_EVIDENCE.to_string()),
                payload: attest::evidence(work.platform, work.store, work.keys, nonce)?,
            });
        }
        if wanted.contains(DataItems::TRUSTED_COMPONENTS) {
            response.tc_list = Some(records.iter().flat_map(trusted_components).collect());
        }
        if wanted.contains(DataItems::EXTENSIONS) {
            response.ext_list = Some(Vec::new());
        }
        if wanted.contains(DataItems::SUIT_REPORTS) {
            let token = request
                .token
                .as_ref()
                .map(|token| token.as_bytes().to_vec());
            let reports: Vec<Report> = records
                .iter()
                .map(|record| installed_report(record, token.clone()))
                .collect();
            let reports = encode_reports(reports.iter());
            response.suit_reports = (!reports.is_empty()).then_some(reports);
        }
        let installed = |ta: &TaUuid| records.iter().find(|record| record.id.uuid == *ta);
        let requested = self.requested.iter().filter(|ta| installed(ta).is_none());
        let requested: Vec<RequestedTc> = requested
            .map(|uuid| RequestedTc {
                component_id: TaComponent {
                    uuid: *uuid,
                    part: Part::Ta,
                }
                .to_id(),
                tc_manifest_sequence_number: None,
                have_binary: None,
            })
            .collect();
        response.requested_tc_list = (!requested.is_empty()).then_some(requested);
        let mut unneeded = Vec::new();
        for record in self.unneeded.iter().filter_map(installed) {
            unneeded.push(root_manifest_id(work, record)?);
        }
        response.unneeded_manifest_list = (!unneeded.is_empty()).then_some(unneeded);
        self.last_event = Some(TeepEvent::Queried);
        Ok(reply(work.keys, response.into())?)
    }
}

/// Refuses a request that this agent cannot answer as the protocol wants it.
fn check(request: &QueryRequest) -> Result<(), Refusal> {
    let versions = request.versions.as_deref().unwrap_or(&[VERSION]);
    if !versions.contains(&VERSION) {
        let code = ErrCode::UnsupportedMsgVersion;
        return Err(Refusal::new(code, "version", "only version 0 is supported"));
    }
    let ours = CipherSuite::sign1_esp256().as_sign1();
    if !request
        .supported_teep_cipher_suites
        .iter()
        .any(|suite| suite.as_sign1() == ours)
    {
        let code = ErrCode::UnsupportedCipherSuites;
        return Err(Refusal::new(
            code,
            "cipher-suites",
            "no cipher suite in common",
        ));
    }
    let attestation = request.data_item_requested.contains(DataItems::ATTESTATION);
    if let Some(mechanisms) = &request.supported_freshness_mechanisms {
        if !attestation {
            return Err(permanent("freshness mechanisms without attestation"));
        }
        if !mechanisms.contains(&FreshnessMechanism::Nonce) {
            let code = ErrCode::UnsupportedFreshnessMechanisms;
            return Err(Refusal::new(code, "freshness", "only nonces are supported"));
        }
    }
    // Spec: draft-ietf-teep-protocol, "query-request":
    // > The token MUST be present if and only if the attestation bit is clear in the
    // > data-item-requested value.
    if attestation == request.token.is_some() {
        return Err(permanent("token and attestation exclude each other"));
    }
    match (&request.challenge, attestation) {
        (None, true) => Err(permanent("attestation without a challenge")),
        (Some(_), false) => Err(permanent("challenge without attestation")),
        (Some(challenge), true) if challenge.as_bytes().len() > NONCE_MAX_LEN => {
            Err(permanent("challenge is longer than an EAT nonce"))
        }
        _ => Ok(()),
    }
}

fn permanent(message: &str) -> Refusal {
    Refusal::new(ErrCode::PermanentError, "fields", message)
}

/// The TA by its module, and its release by the digest of its manifest.
fn trusted_components(record: &TaRecord) -> [SystemProperties; 2] {
    let uuid = record.id.uuid;
    let digest = |digest: Digest| Some(SuitDigest::sha256(digest));
    [
        SystemProperties {
            component_id: TaComponent {
                uuid,
                part: Part::Ta,
            }
            .to_id(),
            properties: Parameters {
                image_digest: digest(record.module_digest),
                image_size: Some(record.module_len_bytes),
                ..Parameters::default()
            },
        },
        SystemProperties {
            component_id: release_manifest_id(&uuid),
            properties: Parameters {
                image_digest: digest(record.release.into()),
                ..Parameters::default()
            },
        },
    ]
}

/// What an installed TA's root manifest came to.
fn installed_report(record: &TaRecord, nonce: Option<Vec<u8>>) -> Report {
    let reference = Reference {
        uri: record.reference_uri.clone(),
        digest: SuitDigest::sha256(record.root_manifest),
    };
    let mut report = Report::success(reference, nonce);
    let claims = trusted_components(record);
    report
        .records
        .extend(claims.map(tegata_wire::suit::ReportRecord::SystemProperties));
    report
}

fn root_manifest_id<P: Platform>(
    work: &Work<'_, P>,
    record: &TaRecord,
) -> Result<tegata_wire::suit::ComponentId, TeeError> {
    let uuid = &record.id.uuid;
    let manifests = work.store.manifests(uuid)?;
    let by_tam = manifests.is_some_and(|manifests| manifests.dependent.is_some());
    Ok(if by_tam {
        tam_manifest_id(uuid)
    } else {
        release_manifest_id(uuid)
    })
}
