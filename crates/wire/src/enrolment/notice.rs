//! Who may get a release: the CA's word to the TAM.
//!
//! Spec: docs/spec/release-package.md.

use super::{EnrolmentError, no_rest, version};
use crate::{
    cbor::{self, MapBuilder, MapReader, Value},
    ids::ReleaseDigest,
};
use alloc::string::String;
use alloc::vec::Vec;

/// Version written and read.
const VERSION: u64 = 1;

/// Longest rule in bytes: a list of some 1,000 devices.
pub const MAX_RULE_BYTES: usize = 48 * 1024;

/// Largest signed notice in bytes.
pub const MAX_NOTICE_BYTES: usize = MAX_RULE_BYTES + 1024;

/// Payload of the CA's COSE_Sign1 (release key, external data [`ReleaseNotice::CONTEXT`]).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReleaseNotice {
    /// The release.
    pub release: ReleaseDigest,
    /// Counts the CA's decisions about this release, from 1: a TAM that heard a later one ignores
    /// an earlier one.
    pub number: u64,
    /// Who may get it, as text: `everybody`, `nobody`, `25%`, `batch:NAME`, …
    pub available: String,
}

impl ReleaseNotice {
    /// External data of the signature: it serves no other purpose.
    pub const CONTEXT: &'static [u8] = b"tegata release-notice v1";

    /// Encodes the notice: the payload to sign.
    ///
    /// # Errors
    /// If the rule is empty or longer than [`MAX_RULE_BYTES`].
    pub fn encode(&self) -> Result<Vec<u8>, EnrolmentError> {
        cbor::check_len(self.available.len(), "rule", 1, MAX_RULE_BYTES)?;
        Ok(MapBuilder::new()
            .put(1, VERSION)
            .put(2, Value::Bytes(self.release.as_bytes().to_vec()))
            .put(3, self.number)
            .put(4, Value::Text(self.available.clone()))
            .encode()?)
    }

    /// Decodes a notice whose signature the caller verified.
    ///
    /// # Errors
    /// If the bytes are not a notice of this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, EnrolmentError> {
        cbor::check_len(bytes.len(), "release notice", 1, MAX_NOTICE_BYTES)?;
        let mut map = MapReader::new(cbor::decode(bytes, 1)?, "release notice")?;
        version(&mut map, "release notice", VERSION)?;
        let release = cbor::into_byte_array(map.require(2, "release")?, "release")?;
        let number = cbor::uint(&map.require(3, "number")?, "number")?;
        let available = cbor::into_text(map.require(4, "rule")?, "rule", MAX_RULE_BYTES)?;
        no_rest(&map, "release notice")?;
        cbor::check_len(available.len(), "rule", 1, MAX_RULE_BYTES)?;
        Ok(Self {
            release: ReleaseDigest(release),
            number,
            available,
        })
    }
}
