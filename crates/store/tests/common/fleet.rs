//! Many devices and certificates: a few that were really made, and rows as long as theirs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)] // Helpers of tests.

use std::path::Path;

use rusqlite::{Connection, params};
use tegata_store::tam::TeepAnswer;
use tegata_wire::ids::TaUuid;

use super::{Device, Direct, NOW, Seeded, World};
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
    let mut sql = Connection::open(path).unwrap();
    sql.execute_batch("PRAGMA synchronous=OFF; PRAGMA cache_size=-200000;")
        .unwrap();
    let tx = sql.transaction().unwrap();
    let mut rng = Seeded(42);
    let mut random = |out: &mut [u8]| rng.fill(out).unwrap();
    {
        type Row = (Vec<u8>, Vec<u8>, Vec<u8>, Vec<u8>, String);
        let (serial, tbs, der, release, issuer): Row = tx
            .query_row(
                "SELECT serial, tbs, der, release, issuer FROM certificate LIMIT 1",
                [],
                |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?)),
            )
            .unwrap();
        let endorsement: Vec<u8> = tx
            .query_row("SELECT endorsement FROM device LIMIT 1", [], |r| r.get(0))
            .unwrap();
        let base: i64 = tx
            .query_row("SELECT shard FROM status_counter", [], |r| r.get(0))
            .unwrap();
        let place = |bytes: &[u8]| bytes.windows(16).position(|w| w == serial).unwrap();
        let (in_tbs, in_der) = (place(&tbs), place(&der));
        let (mut tbs, mut der) = (tbs.clone(), der.clone());
        let mut batch = tx
            .prepare("INSERT INTO device_batch(digest, batch, maker, made_at, imported_at, factory_kid) VALUES (?1, ?2, 'Example Works', 0, 0, X'00')")
            .unwrap();
        let mut device = tx
            .prepare("INSERT INTO device(ueid, teep_kid, attestation_kid, batch_id, model, serial, endorsement) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")
            .unwrap();
        let mut certificate = tx
            .prepare("INSERT INTO certificate(serial, device_id, csr_digest, profile, release, issuer, tbs, not_after, intended_at, shard, status_base, der, issued_at, confirmed_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, (SELECT min(id) FROM status_base), ?11, ?9, ?9)")
            .unwrap();
        let mut ids = Vec::new();
        let mut of = 0;
        for n in 0..fill.devices {
            if n % 10_000 == 0 {
                let name = format!("F{}", n / 10_000);
                let mut digest = [0; 32];
                random(&mut digest);
                batch.execute(params![digest, name]).unwrap();
                of = tx.last_insert_rowid();
            }
            let (mut ueid, mut teep, mut attestation) = ([0; 17], [0; 32], [0; 32]);
            random(&mut ueid);
            ueid[0] = 1;
            random(&mut teep);
            random(&mut attestation);
            let model = if n % 2 == 0 { "even" } else { "odd" };
            let name = format!("261122-{n:09}");
            device
                .execute(params![
                    ueid,
                    teep,
                    attestation,
                    of,
                    model,
                    name,
                    endorsement
                ])
                .unwrap();
            ids.push(tx.last_insert_rowid());
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
            let at = (at_ms / 1_000) as i64;
            let end = at + fill.life as i64;
            let shard = base + (n / fill.shard) as i64;
            certificate
                .execute(params![
                    serial,
                    ids[n % fill.devices],
                    digest,
                    profile,
                    release,
                    issuer,
                    tbs,
                    end,
                    at,
                    shard,
                    der
                ])
                .unwrap();
        }
        let last = base + (fill.devices * fill.each / fill.shard) as i64;
        tx.execute("UPDATE status_counter SET shard = ?1, in_shard = 1", [last])
            .unwrap();
    }
    tx.commit().unwrap();
}
