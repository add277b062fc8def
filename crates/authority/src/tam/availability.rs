//! Which devices may get a release, so that a release can be tried on a few first.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tegata_crypto::Provider;
use tegata_wire::ids::{ReleaseDigest, Ueid};

/// Who may get a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Availability {
    /// Nobody: registered, not delivered.
    Nobody,
    /// Nobody, and devices that have it lose it.
    Withdrawn,
    /// Every device.
    Everybody,
    /// That many percent of devices (1 to 100), chosen by a hash of release and device: a device
    /// that was in stays in as the number grows.
    Percent(u8),
    /// Those devices.
    Devices(Vec<Ueid>),
    /// Devices of those batches.
    Batches(Vec<String>),
    /// Devices of those models.
    Models(Vec<String>),
}

/// What is asked about a device.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The device.
    pub ueid: &'a Ueid,
    /// The batch it came in.
    pub batch: &'a str,
    /// Its model.
    pub model: &'a str,
}

/// The text is no availability rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" does not say who may get the release; write nobody, everybody, withdrawn, 25%, \
     device:UEID[,UEID], batch:NAME[,NAME] or model:NAME[,NAME]"
)]
pub struct NotAvailability(String);

impl Availability {
    /// Whether the device may get the release.
    #[must_use]
    pub fn allows(
        &self,
        provider: &dyn Provider,
        release: &ReleaseDigest,
        device: &Candidate<'_>,
    ) -> bool {
        match self {
            Self::Nobody | Self::Withdrawn => false,
            Self::Everybody => true,
            Self::Percent(percent) => bucket(provider, release, device.ueid) < u64::from(*percent),
            Self::Devices(list) => list.contains(device.ueid),
            Self::Batches(list) => list.iter().any(|b| b == device.batch),
            Self::Models(list) => list.iter().any(|m| m == device.model),
        }
    }
}

/// 0 to 99, evenly, by a hash.
fn bucket(provider: &dyn Provider, release: &ReleaseDigest, ueid: &Ueid) -> u64 {
    let mut input = release.as_bytes().to_vec();
    input.extend_from_slice(ueid.as_bytes());
    let hash = provider.sha256(&input);
    let first = hash
        .iter()
        .take(8)
        .fold(0u64, |n, b| (n << 8) | u64::from(*b));
    first % 100
}

impl FromStr for Availability {
    type Err = NotAvailability;

    fn from_str(text: &str) -> Result<Self, NotAvailability> {
        let wrong = || NotAvailability(text.to_owned());
        let words = |list: &str| -> Result<Vec<String>, NotAvailability> {
            let words: Vec<String> = list.split(',').map(|w| w.trim().to_owned()).collect();
            if words.iter().any(String::is_empty) {
                Err(wrong())
            } else {
                Ok(words)
            }
        };
        if let Some(number) = text.strip_suffix('%') {
            return match number.trim().parse() {
                Ok(percent @ 1..=100) => Ok(Self::Percent(percent)),
                _ => Err(wrong()),
            };
        }
        match text.split_once(':') {
            None if text == "nobody" => Ok(Self::Nobody),
            None if text == "withdrawn" => Ok(Self::Withdrawn),
            None if text == "everybody" || text == "all" => Ok(Self::Everybody),
            Some(("device", list)) => words(list)?
                .iter()
                .map(|w| w.parse().map_err(|_| wrong()))
                .collect::<Result<_, _>>()
                .map(Self::Devices),
            Some(("batch", list)) => words(list).map(Self::Batches),
            Some(("model", list)) => words(list).map(Self::Models),
            _ => Err(wrong()),
        }
    }
}

impl fmt::Display for Availability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => f.write_str("nobody"),
            Self::Withdrawn => f.write_str("withdrawn"),
            Self::Everybody => f.write_str("everybody"),
            Self::Percent(percent) => write!(f, "{percent}%"),
            Self::Devices(list) => {
                let texts: Vec<String> = list.iter().map(ToString::to_string).collect();
                write!(f, "device:{}", texts.join(","))
            }
            Self::Batches(list) => write!(f, "batch:{}", list.join(",")),
            Self::Models(list) => write!(f, "model:{}", list.join(",")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tegata_crypto::rustcrypto::RustCrypto;

    const RELEASE: ReleaseDigest = ReleaseDigest([7; 32]);

    fn device(n: u8) -> Ueid {
        Ueid::from_random([n; 16])
    }

    fn allowed(rule: &str, n: u8) -> bool {
        let rule: Availability = rule.parse().unwrap();
        let candidate = Candidate {
            ueid: &device(n),
            batch: "2026-11",
            model: "門番",
        };
        rule.allows(&RustCrypto, &RELEASE, &candidate)
    }

    #[test]
    fn rules() {
        assert!(allowed("everybody", 1) && !allowed("nobody", 1));
        assert!(allowed("100%", 1));
        assert!(allowed(&format!("device:{}", device(1)), 1));
        assert!(!allowed(&format!("device:{}", device(1)), 2));
        assert!(allowed("batch:x,2026-11", 1) && !allowed("batch:x", 1));
        assert!(allowed("model:門番", 1) && !allowed("model:gate", 1));
    }

    #[test]
    fn percentages_only_grow_and_are_roughly_even() {
        let at = |p: u8| {
            (0..=255u8)
                .filter(|n| allowed(&format!("{p}%"), *n))
                .collect::<Vec<_>>()
        };
        let (ten, half) = (at(10), at(50));
        assert!(ten.iter().all(|n| half.contains(n)));
        assert!((10..45).contains(&ten.len()) && (100..156).contains(&half.len()));
    }

    #[test]
    fn texts_come_back_and_wrong_ones_are_refused() {
        for text in [
            "nobody",
            "withdrawn",
            "everybody",
            "25%",
            "batch:a,b",
            "model:門番",
        ] {
            assert_eq!(text.parse::<Availability>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "0%",
            "101%",
            "x%",
            "some",
            "device:zz",
            "batch:",
            "batch:a,,b",
            "all:1",
        ] {
            assert!(text.parse::<Availability>().is_err(), "{text}");
        }
    }
}
