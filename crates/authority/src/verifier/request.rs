//! What a relying party sends to the Verifier: evidence and the nonce it must carry.

use tegata_wire::cbor::{self, CborError, MapBuilder, MapReader, Value};
use tegata_wire::rats::MAX_CLAIMS_LEN;

/// A request for appraisal: a CBOR map {1: version, 2: evidence, 3: nonce, ? 4: media type}.
///
/// Spec: docs/spec/appraisal.md
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppraisalRequest {
    /// The evidence as the device sent it.
    pub evidence: Vec<u8>,
    /// The nonce it must carry, 8 to 64 bytes.
    pub nonce: Vec<u8>,
    /// Media type of the evidence, if the device named one.
    pub media_type: Option<String>,
}

impl AppraisalRequest {
    /// Encodes the request.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Vec<u8>, CborError> {
        MapBuilder::new()
            .put(1, 1)
            .put(2, Value::Bytes(self.evidence.clone()))
            .put(3, Value::Bytes(self.nonce.clone()))
            .put_opt(4, self.media_type.as_deref())
            .encode()
    }

    /// Decodes a request.
    ///
    /// # Errors
    /// If the bytes are no request.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        cbor::check_len(bytes.len(), "appraisal request", 1, MAX_CLAIMS_LEN + 1024)?;
        let mut map = MapReader::new(cbor::decode(bytes, 2)?, "appraisal request")?;
        if cbor::uint(&map.require(1, "version")?, "version")? != 1 {
            return Err(CborError::Range { what: "version" });
        }
        let evidence =
            cbor::into_bytes_sized(map.require(2, "evidence")?, "evidence", 1, MAX_CLAIMS_LEN)?;
        let nonce = cbor::into_bytes_sized(map.require(3, "nonce")?, "nonce", 8, 64)?;
        let media_type = map
            .take(4)
            .map(|v| cbor::into_text(v, "media type", 256))
            .transpose()?;
        if !map.is_empty() {
            return Err(CborError::Structure);
        }
        Ok(Self {
            evidence,
            nonce,
            media_type,
        })
    }
}
