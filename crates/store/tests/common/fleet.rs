//! Many devices and certificates: a few that were really made, and rows as long as theirs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // Helpers of tests.

use std::path::Path;

use tegata_store::tam::TeepAnswer;
use tegata_wire::ids::TaUuid;

use super::{Device, Direct, NOW, Seeded, World, open_store};

/// Brings the TA onto devices, as their check-ins do.
pub fn install(world: &mut World, devices: &mut [Device], ta: TaUuid) {
    for device in devices {
        let peers = Direct {
            ca: &world.ca,
            verifier: &world.verifier,
            now: NOW.secs(),
        };
        let (answer, _) = world.tam.teep(b"", &peers, &mut world.rng, NOW).unwrap();
        let TeepAnswer::Message(query) = answer else {
            panic!()
        };
        let response = device.query_response(&query, world.tam.public_key(), &[ta]);
        let answered = world.tam.teep(&response, &peers, &mut world.rng, NOW);
        let TeepAnswer::Message(update) = answered.unwrap().0 else {
            panic!()
        };
        let tam = world.tam.public_key().clone();
        device.process(&update, &tam, world.ca.release_public_key());
    }
}

/// What [`fill`] adds.
#[derive(Clone, Copy)]
pub struct Fill {
    /// Devices, dealt to batches `F0`, `F1`, … of 10,000, models `even` and `odd`.
    pub devices: usize,
    /// Certificates of each, of the profiles `device` and `other` by turns.
    pub each: usize,
    /// The first was issued then, in seconds since 1970, and one more each millisecond.
    pub from: u64,
    /// Seconds that each lasts.
    pub life: u64,
    /// Certificates of a shard.
    pub shard: usize,
}

/// Adds rows to a CA's store that are as long as the first certificate and device in it.
///
/// Their signatures are not theirs; nothing else tells them from issued ones.
pub fn fill(path: &Path, fill: Fill) {
    let store = open_store(path).unwrap();
    let rows = tegata_store::fill::Fill {
        devices: fill.devices,
        each: fill.each,
        from_secs: fill.from,
        step_ms: 1,
        life_secs: fill.life,
        shard: fill.shard,
        models: &["even", "odd"],
        profiles: &["device", "other"],
        sample: 0,
    };
    tegata_store::fill::fill(&store, rows, &mut Seeded(42), |_| ()).unwrap();
}
