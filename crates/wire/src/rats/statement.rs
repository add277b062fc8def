//! Statements: what a TA says of the world it can see itself, as an EAT.
//!
//! Purpose: the claims of a signed location, and of any other reading made the same way: a nonce
//! against replay, a number against suppression and reordering, the device's name, the reading.
//!
//! Invariants: exactly one nonce; a coordinate is finite and of this planet; a reading that is not
//! known is kept and has no meaning here.
//!
//! Spec: RFC 9711 sections 4.1, 4.2.1, 4.2.10; docs/spec/statement.md

use alloc::string::String;
use alloc::vec::Vec;

use super::eat::label::{EAT_NONCE, EAT_PROFILE, IAT, UEID};
use super::{LIMITS, MAX_TEXT_LEN, RatsError};
use crate::cbor::{self, MapBuilder, MapReader, Value};
use crate::ids::Ueid;

/// Profile of a signed location.
pub const PROFILE_LOCATION: &str = "tag:tegata.dev,2026:location#1";
/// Claim: where the device is. Spec: RFC 9711 section 4.2.10
pub const LOCATION: i64 = 264;
/// Tegata's claim: number of the statement, counted by the TA that signs, from 1.
pub const TEGATA_NUMBER: i64 = -75_005;
/// Longest encoded statement in bytes, its COSE_Sign1 and certificates included.
pub const MAX_STATEMENT_LEN: usize = 16 * 1024;

/// A position on WGS 84.
///
/// Spec: RFC 9711 section 4.2.10
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Location {
    /// Degrees, north positive, -90 to 90.
    pub latitude: f64,
    /// Degrees, east positive, -180 to 180.
    pub longitude: f64,
    /// Metres above the ellipsoid.
    pub altitude: Option<f64>,
    /// Metres, 95 % confidence.
    pub accuracy: Option<f64>,
    /// Metres, 95 % confidence.
    pub altitude_accuracy: Option<f64>,
    /// Degrees from true north, 0 to below 360.
    pub heading: Option<f64>,
    /// Metres a second.
    pub speed: Option<f64>,
    /// Time of the fix, seconds since 1970.
    pub timestamp: Option<i64>,
    /// Seconds between the fix and the statement.
    pub age: Option<u64>,
}

/// The claims of a statement.
#[derive(Debug, Clone, PartialEq)]
pub struct Statement {
    /// What kind of statement it is.
    pub profile: String,
    /// When it was made, by the clock that the TA trusts; for a location the satellites' time.
    /// Seconds since 1970.
    pub made_at: i64,
    /// The asker's nonce, 8 to 64 bytes.
    pub nonce: Vec<u8>,
    /// The device.
    pub ueid: Ueid,
    /// Counted by the TA, one up with each statement it makes.
    pub number: u64,
    /// Where the device is; there if the profile is [`PROFILE_LOCATION`].
    pub location: Option<Location>,
    /// Claims that are not known, as they came: the reading of another sensor.
    pub other: Vec<(Value, Value)>,
}

/// A JSON or CBOR number in CBOR: integer or floating point, and finite.
fn number(value: &Value, what: &'static str) -> Result<f64, RatsError> {
    let number = match value {
        Value::Float(number) => Some(*number),
        // An i32 is exact in a double; no larger integer is a coordinate, a speed or a height.
        Value::Integer(integer) => i32::try_from(*integer).ok().map(f64::from),
        _ => None,
    };
    number
        .filter(|number| number.is_finite())
        .ok_or(RatsError::Claim { what })
}

fn within(number: f64, low: f64, high: f64, what: &'static str) -> Result<f64, RatsError> {
    if (low..=high).contains(&number) {
        Ok(number)
    } else {
        Err(RatsError::Claim { what })
    }
}

impl Location {
    /// Reads the claim's value from a tree.
    ///
    /// # Errors
    /// `RatsError::Claim` if a member is missing, no number, or not of this planet.
    pub fn from_value(value: Value) -> Result<Self, RatsError> {
        let mut map = MapReader::new(value, "location")?;
        let latitude = number(&map.require(1, "latitude")?, "latitude")?;
        let longitude = number(&map.require(2, "longitude")?, "longitude")?;
        let mut member = |label, what, low, high| {
            map.take(label)
                .map(|value| within(number(&value, what)?, low, high, what))
                .transpose()
        };
        Ok(Self {
            latitude: within(latitude, -90.0, 90.0, "latitude")?,
            longitude: within(longitude, -180.0, 180.0, "longitude")?,
            altitude: member(3, "altitude", -1e7, 1e9)?,
            accuracy: member(4, "accuracy", 0.0, 1e8)?,
            altitude_accuracy: member(5, "altitude accuracy", 0.0, 1e8)?,
            heading: member(6, "heading", 0.0, 360.0)?,
            speed: member(7, "speed", 0.0, 1e6)?,
            timestamp: map
                .take(8)
                .map(|value| cbor::int(&value, "timestamp"))
                .transpose()?,
            age: map
                .take(9)
                .map(|value| cbor::uint(&value, "age"))
                .transpose()?,
        })
    }

    /// The claim's value as a tree.
    ///
    /// # Errors
    /// None in practice.
    pub fn to_value(&self) -> Result<Value, RatsError> {
        Ok(MapBuilder::new()
            .put(1, self.latitude)
            .put(2, self.longitude)
            .put_opt(3, self.altitude)
            .put_opt(4, self.accuracy)
            .put_opt(5, self.altitude_accuracy)
            .put_opt(6, self.heading)
            .put_opt(7, self.speed)
            .put_opt(8, self.timestamp)
            .put_opt(9, self.age)
            .finish()?)
    }
}

impl Statement {
    /// Reads an encoded claims set.
    ///
    /// # Errors
    /// `RatsError` if it is none, lacks a claim, or a known claim is not valid.
    pub fn decode(bytes: &[u8]) -> Result<Self, RatsError> {
        cbor::check_len(bytes.len(), "statement", 1, MAX_STATEMENT_LEN)?;
        let mut map = MapReader::new(cbor::decode_limited(bytes, LIMITS)?, "statement")?;
        let ueid = cbor::into_bytes_sized(map.require(UEID, "ueid")?, "ueid", 7, 33)?;
        let statement = Self {
            profile: cbor::into_text(
                map.require(EAT_PROFILE, "eat_profile")?,
                "eat_profile",
                MAX_TEXT_LEN,
            )?,
            made_at: cbor::int(&map.require(IAT, "iat")?, "iat")?,
            nonce: cbor::into_bytes_sized(
                map.require(EAT_NONCE, "eat_nonce")?,
                "eat_nonce",
                8,
                64,
            )?,
            ueid: Ueid::from_slice(&ueid).map_err(|_| RatsError::Claim { what: "ueid" })?,
            number: cbor::uint(&map.require(TEGATA_NUMBER, "number")?, "number")?,
            location: map.take(LOCATION).map(Location::from_value).transpose()?,
            other: map.into_rest(),
        };
        if statement.profile == PROFILE_LOCATION && statement.location.is_none() {
            return Err(RatsError::Claim { what: "location" });
        }
        Ok(statement)
    }

    /// Encodes the claims set.
    ///
    /// # Errors
    /// `RatsError` if it would not be read again.
    pub fn encode(&self) -> Result<Vec<u8>, RatsError> {
        let location = self.location.as_ref().map(Location::to_value).transpose()?;
        Ok(MapBuilder::new()
            .put(IAT, self.made_at)
            .put(EAT_NONCE, Value::Bytes(self.nonce.clone()))
            .put(UEID, Value::Bytes(self.ueid.as_bytes().to_vec()))
            .put_opt(LOCATION, location)
            .put(EAT_PROFILE, self.profile.as_str())
            .put(TEGATA_NUMBER, self.number)
            .extend(self.other.iter().cloned())
            .encode()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn statement() -> Statement {
        Statement {
            profile: PROFILE_LOCATION.into(),
            made_at: 1_790_000_000,
            nonce: vec![7; 32],
            ueid: Ueid::from_random([1; 16]),
            number: 12,
            location: Some(Location {
                latitude: 35.681_236,
                longitude: 139.767_125,
                altitude: Some(40.0),
                accuracy: Some(4.2),
                altitude_accuracy: None,
                heading: Some(271.5),
                speed: Some(0.0),
                timestamp: Some(1_789_999_999),
                age: Some(1),
            }),
            other: vec![(Value::from(-80_000), Value::from("東京駅"))],
        }
    }

    #[test]
    fn a_statement_survives_both_ways() {
        let bytes = statement().encode().unwrap();
        assert_eq!(Statement::decode(&bytes).unwrap(), statement());
        for len in 0..bytes.len() {
            assert!(Statement::decode(&bytes[..len]).is_err(), "cut at {len}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        let with = |change: fn(&mut Location)| {
            let mut statement = statement();
            change(statement.location.as_mut().unwrap());
            Statement::decode(&statement.encode().unwrap())
        };
        assert!(with(|at| at.latitude = 90.000_001).is_err());
        assert!(with(|at| at.longitude = -180.5).is_err());
        assert!(with(|at| at.latitude = f64::NAN).is_err());
        assert!(with(|at| at.accuracy = Some(f64::INFINITY)).is_err());
        assert!(with(|at| at.speed = Some(-1.0)).is_err());
        assert!(with(|at| at.latitude = -90.0).is_ok());
        let mut nowhere = statement();
        nowhere.location = None;
        assert!(Statement::decode(&nowhere.encode().unwrap()).is_err());
        nowhere.profile = "tag:example.com,2026:temperature".into();
        assert!(Statement::decode(&nowhere.encode().unwrap()).is_ok());
        nowhere.nonce = vec![0; 7];
        assert!(Statement::decode(&nowhere.encode().unwrap()).is_err());
    }
}
