//! Trustworthiness: the AR4SI vector and its tiers.

use crate::cbor::{self, CborError, MapBuilder, MapReader, Value};
use crate::rats::RatsError;

/// A trustworthiness tier.
///
/// Spec: draft-ietf-rats-ar4si section 3.2
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tier {
    /// Nothing is said (0).
    None,
    /// All is as it should be (2).
    Affirming,
    /// Something is known that is not good (32).
    Warning,
    /// Not to be trusted (96).
    Contraindicated,
}

impl Tier {
    /// The number.
    #[must_use]
    pub const fn number(self) -> i64 {
        match self {
            Self::None => 0,
            Self::Affirming => 2,
            Self::Warning => 32,
            Self::Contraindicated => 96,
        }
    }

    /// The tier that a claim of a trustworthiness vector falls in.
    #[must_use]
    pub const fn of_claim(claim: i8) -> Self {
        match claim {
            -1..=1 => Self::None,
            2..=31 | -32..=-2 => Self::Affirming,
            32..=95 | -96..=-33 => Self::Warning,
            96..=127 | -128..=-97 => Self::Contraindicated,
        }
    }

    /// How much trust: affirming most, then nothing said, warning, contraindicated.
    const fn rank(self) -> u8 {
        match self {
            Self::Affirming => 3,
            Self::None => 2,
            Self::Warning => 1,
            Self::Contraindicated => 0,
        }
    }

    pub(super) fn from_value(value: &Value) -> Result<Self, RatsError> {
        match cbor::int(value, "ear_status")? {
            0 => Ok(Self::None),
            2 => Ok(Self::Affirming),
            32 => Ok(Self::Warning),
            96 => Ok(Self::Contraindicated),
            _ => Err(RatsError::Claim { what: "ear_status" }),
        }
    }
}

/// The trustworthiness vector; what is absent was not looked at.
///
/// Spec: draft-ietf-rats-ar4si section 3.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TrustVector {
    /// Is it the device it says (0)?
    pub instance_identity: Option<i8>,
    /// Is it set up as it should be (1)?
    pub configuration: Option<i8>,
    /// Is its software known and good (2)?
    pub executables: Option<i8>,
    /// Are its files known and good (3)?
    pub file_system: Option<i8>,
    /// Is its hardware genuine and good (4)?
    pub hardware: Option<i8>,
    /// Is its memory hidden from others (5)?
    pub runtime_opaque: Option<i8>,
    /// Are its secrets hidden from others (6)?
    pub storage_opaque: Option<i8>,
    /// Is the data that it was given good (7)?
    pub sourced_data: Option<i8>,
}

impl TrustVector {
    /// The claims with their labels.
    #[must_use]
    pub const fn claims(&self) -> [(i64, Option<i8>); 8] {
        [
            (0, self.instance_identity),
            (1, self.configuration),
            (2, self.executables),
            (3, self.file_system),
            (4, self.hardware),
            (5, self.runtime_opaque),
            (6, self.storage_opaque),
            (7, self.sourced_data),
        ]
    }

    /// The worst tier of all claims that say something.
    #[must_use]
    pub fn worst(&self) -> Tier {
        self.claims()
            .into_iter()
            .filter_map(|(_, claim)| claim.map(Tier::of_claim))
            .filter(|tier| *tier != Tier::None)
            .min_by_key(|tier| tier.rank())
            .unwrap_or(Tier::None)
    }

    /// A status must not say more than the worst claim; without claims, nothing is compared.
    pub(super) fn check_status(&self, status: Tier) -> Result<(), RatsError> {
        let worst = self.worst();
        if worst == Tier::None || status.rank() <= worst.rank() {
            Ok(())
        } else {
            Err(RatsError::Status)
        }
    }

    pub(super) fn from_value(value: Value) -> Result<Self, RatsError> {
        const WHAT: &str = "ear_trustworthiness_vector";
        let mut map = MapReader::new(value, WHAT)?;
        cbor::check_len(map.len(), WHAT, 1, 8)?;
        let mut claim = |label| {
            let number = map.take(label).map(|v| cbor::int(&v, WHAT)).transpose()?;
            number
                .map(i8::try_from)
                .transpose()
                .map_err(|_| CborError::Range { what: WHAT })
        };
        let vector = Self {
            instance_identity: claim(0)?,
            configuration: claim(1)?,
            executables: claim(2)?,
            file_system: claim(3)?,
            hardware: claim(4)?,
            runtime_opaque: claim(5)?,
            storage_opaque: claim(6)?,
            sourced_data: claim(7)?,
        };
        if map.is_empty() {
            Ok(vector)
        } else {
            Err(RatsError::Claim { what: WHAT })
        }
    }

    pub(super) fn to_value(self) -> Result<Option<Value>, RatsError> {
        let mut map = MapBuilder::new();
        for (label, claim) in self.claims() {
            map = map.put_opt(label, claim.map(i64::from));
        }
        Ok(if self == Self::default() {
            None
        } else {
            Some(map.finish()?)
        })
    }
}
