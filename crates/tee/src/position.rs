//! Where the device is, as the platform's own receiver says.
//!
//! Purpose: one plain record from the platform's satellite receiver through the TEE to a TA, in
//! whole numbers, because a TA has no floating point.
//!
//! Trusted: the platform owns the receiver; the REE is no source of it. Not trusted: what the
//! receiver hears. Radio can be spoofed; this says what was received, not where the device is.

use serde::{Deserialize, Serialize};

/// A position on WGS 84 and the time that the satellites told with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Latitude in 10^-7 degrees, north positive; at most 90 degrees either way.
    pub latitude_e7: i32,
    /// Longitude in 10^-7 degrees, east positive; at most 180 degrees either way.
    pub longitude_e7: i32,
    /// Height above the ellipsoid in millimetres.
    pub altitude_mm: Option<i32>,
    /// Radius around the position in millimetres that holds the receiver with 95 % confidence,
    /// as the receiver reckons.
    pub accuracy_mm: Option<u32>,
    /// The same for the height.
    pub altitude_accuracy_mm: Option<u32>,
    /// Course over ground in 10^-3 degrees from true north, below 360 000.
    pub heading_mdeg: Option<u32>,
    /// Speed over ground in millimetres a second.
    pub speed_mm_s: Option<u32>,
    /// Time of the fix by the satellites, in milliseconds since 1970-01-01 UTC.
    pub time_ms: u64,
    /// How long ago the fix came, in milliseconds of the TEE's own clock.
    pub age_ms: u32,
}

/// Why there is no position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoPosition {
    /// This device has no receiver that belongs to the TEE.
    #[error("no receiver belongs to this TEE")]
    NoSource,
    /// The receiver has no fix, or the last one is older than the platform gives out.
    #[error("the receiver has no fix")]
    NoFix,
}

/// Words of the guest's record.
pub const WORDS: usize = 11;

impl Position {
    /// The record a guest gets: which of the optional words are set (bit 0 altitude, 1 accuracy,
    /// 2 altitude accuracy, 3 heading, 4 speed), then the fields in their order, the time low word
    /// first.
    #[must_use]
    pub fn to_words(&self) -> [u32; WORDS] {
        let optional = [
            self.altitude_mm.map(i32::cast_unsigned),
            self.accuracy_mm,
            self.altitude_accuracy_mm,
            self.heading_mdeg,
            self.speed_mm_s,
        ];
        let set = (0u32..)
            .zip(optional)
            .filter(|(_, value)| value.is_some())
            .fold(0, |set, (bit, _)| set | 1 << bit);
        let [altitude, accuracy, altitude_accuracy, heading, speed] =
            optional.map(Option::unwrap_or_default);
        let low = u32::try_from(self.time_ms & u64::from(u32::MAX)).unwrap_or(0);
        let high = u32::try_from(self.time_ms >> 32).unwrap_or(0);
        [
            set,
            self.latitude_e7.cast_unsigned(),
            self.longitude_e7.cast_unsigned(),
            altitude,
            accuracy,
            altitude_accuracy,
            heading,
            speed,
            low,
            high,
            self.age_ms,
        ]
    }

    /// Reads the record of [`Position::to_words`].
    #[must_use]
    pub fn from_words(words: &[u32; WORDS]) -> Self {
        let [
            set,
            latitude,
            longitude,
            altitude,
            accuracy,
            altitude_accuracy,
            heading,
            speed,
            low,
            high,
            age_ms,
        ] = *words;
        let optional = |bit: u32, value: u32| (set & (1 << bit) != 0).then_some(value);
        Self {
            latitude_e7: latitude.cast_signed(),
            longitude_e7: longitude.cast_signed(),
            altitude_mm: optional(0, altitude).map(u32::cast_signed),
            accuracy_mm: optional(1, accuracy),
            altitude_accuracy_mm: optional(2, altitude_accuracy),
            heading_mdeg: optional(3, heading),
            speed_mm_s: optional(4, speed),
            time_ms: u64::from(low) | u64::from(high) << 32,
            age_ms,
        }
    }

    /// Whether the numbers are of this planet: what a platform must see to before it gives it out.
    #[must_use]
    pub const fn is_plausible(&self) -> bool {
        self.latitude_e7.unsigned_abs() <= 900_000_000
            && self.longitude_e7.unsigned_abs() <= 1_800_000_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guests_record() {
        let position = Position {
            latitude_e7: -356_812_360,
            longitude_e7: 1_397_671_250,
            accuracy_mm: Some(4_200),
            speed_mm_s: Some(0),
            time_ms: 0x0123_8899_AABB,
            age_ms: 7,
            ..Position::default()
        };
        let words = position.to_words();
        assert_eq!(words[0], 0b10010);
        assert_eq!(words[1].cast_signed(), -356_812_360);
        assert_eq!((words[3], words[4], words[7]), (0, 4_200, 0));
        assert_eq!(words[8..], [0x8899_AABB, 0x0123, 7]);
        assert_eq!(Position::from_words(&words), position);
        assert!(position.is_plausible());
        let off = Position {
            latitude_e7: 900_000_001,
            ..position
        };
        assert!(!off.is_plausible());
    }
}
