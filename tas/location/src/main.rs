//! Signed location: the TA that says where the device is, by the TEE's own receiver.
//!
//! Purpose: enrols a key of its own, by the code and commands of the enrolment TA, and signs with
//! it nothing but statements: position, time, accuracy, the asker's nonce, a counter and the
//! device's name. There is no command that signs what a client brings.
//!
//! Invariants: a statement's position comes from the platform, its name from the TEE, its number
//! from trusted storage, durable before it is signed; only nonce and label come from a client.
//!
//! Not trusted: clients. They can ask, and hold back what they got; a verifier sees both.
//!
//! Format: docs/spec/statement.md.
#![no_std]
#![no_main]
extern crate alloc;

mod double;
mod statement;

use tegata_ta_enrol::Enrol;
use tegata_ta_enrol::record::Name;
use tegata_ta_sdk::consts::*;
use tegata_ta_sdk::params::Parameters;
use tegata_ta_sdk::rt::TrustedApp;
use tegata_ta_sdk::{Error, Identity, Result};

/// `LOCATE(label, nonce) -> statement`.
const LOCATE: u32 = 32;
/// Commands of the enrolment TA that make, show and remove keys and certificates; none that uses
/// a key (SIGN 5, AGREE 10).
const ENROLMENT: [u32; 9] = [1, 2, 3, 4, 6, 7, 8, 9, 11];

/// A session: its owner, also as the enrolment code knows it.
struct Location {
    owner: Identity,
    enrol: Enrol,
}

impl TrustedApp for Location {
    fn open_session(owner: Identity, params: &mut Parameters) -> Result<Self> {
        Ok(Self {
            owner,
            enrol: Enrol::open_session(owner, params)?,
        })
    }

    fn invoke(&mut self, command: u32, params: &mut Parameters) -> Result<()> {
        if command == LOCATE {
            let name = Name::new(self.owner, params.input(0)?)?;
            let (nonce, room) = (params.input(1)?, params.room(2)?);
            let statement = statement::make(&name, nonce, room, self.enrol.budget())?;
            params.set_output(2, &statement)
        } else if ENROLMENT.contains(&command) {
            self.enrol.invoke(command, params)
        } else {
            Err(Error(TEE_ERROR_NOT_SUPPORTED))
        }
    }
}

tegata_ta_sdk::trusted_app!(
    Location,
    "gpd.ta.version = 0.1.0\n\
     gpd.ta.description = Tegata signed location\n\
     gpd.ta.dataSize = 2097152\n\
     gpd.ta.stackSize = 65536\n"
);
