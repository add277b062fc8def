//! Requests for nonces, and the answer, in JSON.
//!
//! Spec: draft-ietf-lamps-attestation-freshness-07 sections 3.2 and 5.1

use base64ct::{Base64UrlUnpadded, Encoding as _};
use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};
use tegata_store::evidence::FreshNonce;
use tegata_wire::x509::oid;

/// Longest request, bytes: three short members.
pub const LEN_BYTES_MAX: usize = 4 * 1024;

/// A request. Members that are not known mean nothing to us.
#[derive(Deserialize)]
struct NonceRequest {
    /// Length asked for, bytes.
    len: Option<u64>,
    /// Kind of attestation, a dotted-decimal OID.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// What that kind defines.
    #[serde(rename = "reqInfo")]
    info: Option<IgnoredAny>,
}

#[derive(Serialize)]
struct NonceResponse<'a> {
    nonce: &'a str,
    expiry: u64,
}

/// Why there is no nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The request is not one.
    Malformed(&'static str),
    /// It asks for what there is not.
    Unable(&'static str),
}

/// Whether the one kind of nonce that there is does for a request.
pub fn check(body: &[u8]) -> Result<(), Refused> {
    let asked: NonceRequest = serde_json::from_slice(body)
        .map_err(|_| Refused::Malformed("This is no JSON object of a nonce request."))?;
    let cmw = oid::CMW.to_string();
    match asked.kind {
        None if asked.info.is_some() => {
            return Err(Refused::Malformed("There is reqInfo without a type."));
        }
        Some(kind) if kind != cmw => {
            return Err(Refused::Unable(
                "Nonces are given for attestations in a CMW, 1.3.6.1.5.5.7.1.35, alone.",
            ));
        }
        Some(_) if asked.info.is_some() => {
            return Err(Refused::Malformed("No reqInfo is defined for a CMW."));
        }
        _ => {}
    }
    match asked.len {
        Some(len) if !(8..=64).contains(&len) => {
            Err(Refused::Malformed("A nonce has 8 to 64 bytes."))
        }
        // The token's nonce claim is this and the hash of the request's key: 64 bytes together.
        Some(len) if len != 32 => Err(Refused::Unable("Nonces of this CA have 32 bytes.")),
        _ => Ok(()),
    }
}

/// The answer.
pub fn answer(fresh: &FreshNonce) -> String {
    let response = NonceResponse {
        nonce: &Base64UrlUnpadded::encode_string(&fresh.nonce),
        expiry: fresh.expiry_secs,
    };
    // Two plain members cannot fail to be written.
    serde_json::to_string(&response).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_is_as_the_draft_shows_it() {
        let fresh = FreshNonce {
            nonce: *b"12345678901234567890123456789012",
            expiry_secs: 600,
        };
        assert_eq!(
            answer(&fresh),
            r#"{"nonce":"MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI","expiry":600}"#
        );
    }

    #[test]
    fn what_is_asked_for_is_looked_at() {
        for fine in [
            "{}",
            r#"{"len": 32}"#,
            r#"{"type": "1.3.6.1.5.5.7.1.35", "len": 32, "hint": "x"}"#,
        ] {
            assert_eq!(check(fine.as_bytes()), Ok(()), "{fine}");
        }
        for wrong in [
            "",
            "[]",
            "32",
            r#"{"len": -1}"#,
            r#"{"len": "32"}"#,
            r#"{"len": 65}"#,
            r#"{"len": 7}"#,
            r#"{"reqInfo": {}}"#,
            r#"{"type": "1.3.6.1.5.5.7.1.35", "reqInfo": 1}"#,
        ] {
            let refused = check(wrong.as_bytes()).unwrap_err();
            assert!(matches!(refused, Refused::Malformed(_)), "{wrong}");
        }
        for other in [r#"{"len": 64}"#, r#"{"type": "1.2.3.4.5"}"#] {
            let refused = check(other.as_bytes()).unwrap_err();
            assert!(matches!(refused, Refused::Unable(_)), "{other}");
        }
        let deep = "[".repeat(2000);
        assert!(check(deep.as_bytes()).is_err());
    }
}
