//! Many devices and certificates: a few that were really made, and rows as long as theirs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // Helpers of tests.

use std::path::Path;

use tegata_store::device::{self, DeviceId};
use tegata_store::tam::TeepAnswer;
use tegata_store::{StoreError, certificate, revocation};
use tegata_wire::ids::TaUuid;

use super::place::{Cell, Sql};
use super::{Device, Direct, NOW, Seeded, World, open_store};
use tegata_crypto::Rng as _;

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
    let look = store.read("t", |tx| {
        let row = certificate::list(tx, b"", 1)?.remove(0);
        let device = device::list(tx, DeviceId(0), 1)?.remove(0);
        Ok::<_, StoreError>((row, device, revocation::last_shard(tx)?))
    });
    let (row, device, base) = look.unwrap();
    drop(store);
    let base = i64::try_from(base).unwrap();
    let (mut tbs, mut der) = (row.intent.tbs, row.der.unwrap());
    let (release, issuer) = (row.intent.release.unwrap(), row.intent.issuer);
    let serial = row.intent.serial;
    let place = |bytes: &[u8]| bytes.windows(16).position(|w| w == serial).unwrap();
    let (in_tbs, in_der) = (place(&tbs), place(&der));

    let sql = Sql::open(path);
    sql.run("BEGIN");
    let mut rng = Seeded(42);
    let mut random = |out: &mut [u8]| rng.fill(out).unwrap();
    let first = sql.number("SELECT max(id) FROM device");
    let mut of = 0;
    for n in 0..fill.devices {
        if n % 10_000 == 0 {
            let name = format!("F{}", n / 10_000);
            let mut digest = [0; 32];
            random(&mut digest);
            sql.insert(
                "INSERT INTO device_batch(digest, batch, maker, made_at, imported_at, factory_kid) \
                 VALUES (?1, ?2, 'Example Works', 0, 0, ?1)",
                &[Cell::Bytes(&digest), Cell::Text(&name)],
            );
            of = sql.number("SELECT max(id) FROM device_batch");
        }
        let (mut ueid, mut teep, mut attestation) = ([0; 17], [0; 32], [0; 32]);
        random(&mut ueid);
        ueid[0] = 1;
        random(&mut teep);
        random(&mut attestation);
        let model = if n % 2 == 0 { "even" } else { "odd" };
        let name = format!("261122-{n:09}");
        sql.insert(
            "INSERT INTO device(id, ueid, teep_kid, attestation_kid, batch_id, model, serial, \
             endorsement) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            &[
                Cell::Int(first + 1 + i64::try_from(n).unwrap()),
                Cell::Bytes(&ueid),
                Cell::Bytes(&teep),
                Cell::Bytes(&attestation),
                Cell::Int(of),
                Cell::Text(model),
                Cell::Text(&name),
                Cell::Bytes(&device.endorsement),
            ],
        );
    }
    for n in 0..fill.devices * fill.each {
        let at_ms = fill.from * 1_000 + n as u64;
        let mut serial = [0; 16];
        random(&mut serial);
        serial[..6].copy_from_slice(&at_ms.to_be_bytes()[2..]);
        tbs[in_tbs..in_tbs + 16].copy_from_slice(&serial);
        der[in_der..in_der + 16].copy_from_slice(&serial);
        let mut digest = [0; 32];
        random(&mut digest);
        let round = n / fill.devices;
        let profile = if round.is_multiple_of(2) {
            "device"
        } else {
            "other"
        };
        let at = i64::try_from(at_ms / 1_000).unwrap();
        sql.insert(
            "INSERT INTO certificate(serial, device_id, csr_digest, profile, release, issuer, tbs, \
             not_after, intended_at, shard, status_base, der, issued_at, confirmed_at) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, (SELECT min(id) FROM status_base), \
             ?11, ?9, ?9)",
            &[
                Cell::Bytes(&serial),
                Cell::Int(first + 1 + i64::try_from(n % fill.devices).unwrap()),
                Cell::Bytes(&digest),
                Cell::Text(profile),
                Cell::Bytes(&release),
                Cell::Text(&issuer),
                Cell::Bytes(&tbs),
                Cell::Int(at + i64::try_from(fill.life).unwrap()),
                Cell::Int(at),
                Cell::Int(base + i64::try_from(n / fill.shard).unwrap()),
                Cell::Bytes(&der),
            ],
        );
    }
    let last = base + i64::try_from(fill.devices * fill.each / fill.shard).unwrap();
    sql.run(&format!("UPDATE status_counter SET shard = {last}"));
    sql.run(&format!(
        "UPDATE shard_lane SET shard = {last}, in_shard = 1"
    ));
    sql.run("COMMIT");
}
