//! Conceptual Message Wrapper: which format a RATS message is in, and the message.
//!
//! Records in CBOR alone: that is what fits into a certification request. Tags, collections and JSON
//! are refused.
//!
//! Spec: RFC 9999 section 3.1

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::RatsError;
use crate::cbor::{self, CborError, Value};

/// Longest record, bytes: it comes in a certification request.
pub const RECORD_LEN_BYTES_MAX: usize = 16 * 1024;
/// Longest media type, bytes.
const MEDIA_TYPE_LEN_BYTES_MAX: usize = 256;
/// The bit of Evidence among the indicators.
const EVIDENCE: u64 = 1 << 2;
/// Every bit that has a meaning.
const INDICATORS_MAX: u64 = (1 << 5) - 1;

/// How the format of a message is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageFormat {
    /// By its CoAP Content-Format number.
    Number(u16),
    /// By its media type.
    MediaType(String),
}

/// A message with the name of its format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CmwRecord {
    /// The format.
    pub format: MessageFormat,
    /// The message.
    pub value: Vec<u8>,
    /// What kinds of messages it may be, a bit for each; `None`: the format says it.
    pub indicators: Option<u64>,
}

impl CmwRecord {
    /// Decodes a record.
    ///
    /// # Errors
    /// If the bytes are no record in CBOR, or exceed a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, RatsError> {
        cbor::check_len(bytes.len(), "CMW", 1, RECORD_LEN_BYTES_MAX)?;
        let items = cbor::into_array(cbor::decode(bytes, 2)?, "CMW record", 2, 3)?;
        let mut items = items.into_iter();
        let mut next = |what| items.next().ok_or(CborError::Missing { what });
        let format = match next("CMW type")? {
            Value::Text(text) => {
                cbor::check_len(text.len(), "CMW type", 1, MEDIA_TYPE_LEN_BYTES_MAX)?;
                MessageFormat::MediaType(text)
            }
            number => {
                let what = "CMW type";
                let number = u16::try_from(cbor::uint(&number, what)?);
                MessageFormat::Number(number.map_err(|_| CborError::Range { what })?)
            }
        };
        let value = cbor::into_bytes_sized(next("CMW value")?, "CMW value", 1, bytes.len())?;
        let indicators = items
            .next()
            .map(|bits| cbor::uint(&bits, "CMW ind"))
            .transpose()?;
        if indicators.is_some_and(|bits| bits == 0 || bits > INDICATORS_MAX) {
            return Err(CborError::Range { what: "CMW ind" }.into());
        }
        Ok(Self {
            format,
            value,
            indicators,
        })
    }

    /// Encodes the record.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Vec<u8>, RatsError> {
        let format = match &self.format {
            MessageFormat::Number(number) => Value::from(*number),
            MessageFormat::MediaType(text) => Value::from(text.as_str()),
        };
        let mut items = vec![format, Value::Bytes(self.value.clone())];
        items.extend(self.indicators.map(Value::from));
        Ok(cbor::encode(&Value::Array(items))?)
    }

    /// Whether the message may be Evidence, as far as the record says.
    #[must_use]
    pub fn may_be_evidence(&self) -> bool {
        self.indicators.is_none_or(|bits| bits & EVIDENCE != 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_as_they_are_written() {
        let record = |format, indicators| CmwRecord {
            format,
            value: vec![0xd2, 0x84],
            indicators,
        };
        let numbered = record(MessageFormat::Number(10003), None);
        // By hand: array of two, 10003, two bytes.
        assert_eq!(hex::encode(numbered.encode().unwrap()), "8219271342d284");
        let named = MessageFormat::MediaType("application/eat+cwt".into());
        for one in [numbered, record(named, Some(EVIDENCE))] {
            let bytes = one.encode().unwrap();
            assert_eq!(CmwRecord::decode(&bytes).unwrap(), one);
            assert!(one.may_be_evidence());
            for cut in 0..bytes.len() {
                assert!(CmwRecord::decode(&bytes[..cut]).is_err(), "{cut}");
            }
        }
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for wrong in [
            "8119 2713",          // no value
            "8419271341000404",   // more than three
            "82192713 6100",      // text for a value
            "821a00012713 4100",  // no Content-Format
            "8220 4100",          // a negative one
            "83192713 4100 00",   // no bit
            "83192713 4100 1820", // a bit without meaning
            "82192713 40",        // nothing in it
            "a1006100",           // a map
            "da63740101 4100",    // a tag
        ] {
            let bytes = hex::decode(wrong.replace(' ', "")).unwrap();
            assert!(CmwRecord::decode(&bytes).is_err(), "{wrong}");
        }
        let other = CmwRecord {
            format: MessageFormat::Number(1),
            value: vec![1],
            indicators: Some(1),
        };
        assert!(
            !CmwRecord::decode(&other.encode().unwrap())
                .unwrap()
                .may_be_evidence()
        );
    }
}
