//! Answers of the agent, and the mapping of every failure to TEEP's error codes.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_wire::suit::Report;
use tegata_wire::teep::{
    CipherSuite, ErrCode, Error, FreshnessMechanism, Message, SuitCoseProfile, Token, VERSION,
};

use super::TeepOutcome;
use crate::suit::SuitError;
use crate::tee::{DeviceKeys, TeeError};

/// Why a message is answered by an Error.
pub(super) struct Refusal {
    pub err_code: ErrCode,
    /// Stable code for logs.
    pub code: &'static str,
    /// A sentence without anything secret or chosen by the peer.
    pub message: String,
    pub reports: Vec<Vec<u8>>,
}

impl Refusal {
    /// A refusal without reports.
    pub fn new(err_code: ErrCode, code: &'static str, message: &str) -> Self {
        Self {
            err_code,
            code,
            message: message.to_string(),
            reports: Vec::new(),
        }
    }

    /// A manifest that did not pass.
    pub fn manifest(error: &SuitError, reports: Vec<Vec<u8>>) -> Self {
        // What may succeed later without a change is the device's trouble, not the manifest's.
        let err_code = if error.is_temporary() {
            ErrCode::TemporaryError
        } else {
            ErrCode::ManifestProcessingFailed
        };
        Self {
            err_code,
            code: error.code(),
            message: error.to_string(),
            reports,
        }
    }

    /// The Error message, with the lists that its code makes mandatory.
    // Spec: draft-ietf-teep-protocol, "error-message-def":
    // > This otherwise optional parameter MUST be returned if err-code is
    // > ERR_UNSUPPORTED_CIPHER_SUITES.
    pub fn into_error(self, token: Option<Token>) -> Error {
        let mut error = Error::new(self.err_code);
        error.token = token;
        error.err_msg = Some(shorten(&self.message));
        error.err_lang = Some("en".to_string());
        if !self.reports.is_empty() {
            error.suit_reports = Some(self.reports);
        }
        match self.err_code {
            ErrCode::UnsupportedCipherSuites => {
                error.supported_teep_cipher_suites = Some(cipher_suites());
            }
            ErrCode::UnsupportedFreshnessMechanisms => {
                error.supported_freshness_mechanisms = Some(alloc::vec![FreshnessMechanism::Nonce]);
            }
            ErrCode::UnsupportedMsgVersion => error.versions = Some(alloc::vec![VERSION]),
            ErrCode::UnsupportedSuitReport => {
                error.supported_suit_cose_profiles = Some(suit_profiles());
            }
            _ => {}
        }
        error
    }
}

/// Signs a message of the agent.
pub(super) fn reply(keys: &DeviceKeys, message: Message) -> Result<TeepOutcome, TeeError> {
    let payload = message
        .encode()
        .map_err(|_| TeeError::Encode("TEEP message"))?;
    let signed = sign1(&keys.teep, &payload, &Sign1Headers::default(), b"", false);
    Ok(TeepOutcome::Reply(
        signed.map_err(|_| TeeError::Encode("TEEP signature"))?,
    ))
}

/// Encodes reports; one that cannot be encoded is left out, the answer itself goes out.
pub(super) fn encode_reports<'r>(reports: impl Iterator<Item = &'r Report>) -> Vec<Vec<u8>> {
    reports.filter_map(|report| report.encode().ok()).collect()
}

/// What this agent signs with.
pub(super) fn cipher_suites() -> Vec<CipherSuite> {
    alloc::vec![CipherSuite::sign1_esp256()]
}

/// What its SUIT processor understands.
pub(super) fn suit_profiles() -> Vec<SuitCoseProfile> {
    alloc::vec![
        SuitCoseProfile::SHA256_ESP256_ECDH_A128GCM,
        SuitCoseProfile::SHA256_ESP256_ECDH_A128CTR,
        SuitCoseProfile::SHA256_ED25519_ECDH_A128CTR,
    ]
}

/// At most 128 bytes, cut between characters. Spec: draft-ietf-teep-protocol-26 section 4.6.
fn shorten(message: &str) -> String {
    let mut end = message.len().min(MAX_MSG_LEN);
    while !message.is_char_boundary(end) {
        end = end.saturating_sub(1);
    }
    message.get(..end).unwrap_or_default().to_string()
}

const MAX_MSG_LEN: usize = 128;
