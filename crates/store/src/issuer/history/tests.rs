#![allow(clippy::unwrap_used)] // Tests.

use proptest::prelude::*;
use tegata_wire::ids::Ueid;

use super::*;
use crate::Store;
use crate::device::{self, Batch, NewDevice};
use crate::engine::Value;

/// What happened to one certificate, in few values, so that moments and ends are often the same.
#[derive(Debug, Clone)]
struct Row {
    ours: bool,
    of_profile: bool,
    archived: bool,
    intended_at: i64,
    not_after: i64,
    confirmed: bool,
    said: Option<(i64, u8)>,
}

fn row() -> impl Strategy<Value = Row> {
    let said = proptest::option::of((0..8_i64, prop_oneof![0..11_u8, Just(200)]));
    (
        any::<bool>(),
        any::<bool>(),
        proptest::bool::weighted(0.2),
        0..6_i64,
        0..8_i64,
        any::<bool>(),
        said,
    )
        .prop_map(
            |(ours, of_profile, archived, intended_at, not_after, confirmed, said)| Row {
                ours,
                of_profile,
                archived,
                intended_at,
                not_after,
                confirmed,
                said,
            },
        )
}

/// A store with two devices.
fn store(dir: &tempfile::TempDir) -> Store {
    let store = Store::open(dir.path().join("ca.db")).unwrap();
    let devices = |tx: &Tx<'_>| {
        let batch = Batch {
            digest: [1; 32],
            batch: "b".into(),
            maker: "m".into(),
            made_at: 0,
            factory_kid: Some([2; 32]),
        };
        let batch = device::insert_batch(tx, &batch, 0)?.unwrap();
        for n in [1, 2_u8] {
            let new = NewDevice {
                ueid: Ueid::from_random([n; 16]),
                teep_kid: Some([n; 32]),
                attestation_kid: [n + 10; 32],
                model: "m".into(),
                serial: "s".into(),
                endorsement: vec![n],
            };
            assert!(device::insert(tx, batch, &new)?);
        }
        tx.execute(
            "INSERT INTO archive_kind(id, profile, release, issuer, status_base) \
             VALUES (1, 'p', ?1, 'i', 0), (2, 'q', ?1, 'i', 0)",
            params![&[][..] as &[u8]],
        )?;
        Ok::<_, StoreError>(())
    };
    store.run_tx("t", devices).unwrap();
    store
}

fn put(tx: &Tx<'_>, n: u8, row: &Row) -> Result<(), StoreError> {
    let device = if row.ours { 1 } else { 2_i64 };
    let (digest, serial) = ([n; 32], [1, n]);
    let confirmed = row.confirmed.then_some(1_i64);
    let bytes: &[u8] = &[7];
    match row.archived {
        true => tx.execute(
            "INSERT INTO archive(serial, device_id, csr_digest, kind, not_after, intended_at, \
             confirmed_at, shard, der, archived_at) VALUES (?1,?2,?3,?4,?5,?6,?7,0,?8,9)",
            params![
                serial.as_slice(),
                device,
                digest,
                if row.of_profile { 1 } else { 2_i64 },
                row.not_after,
                row.intended_at,
                confirmed,
                bytes
            ],
        )?,
        false => tx.execute(
            "INSERT INTO certificate(serial, device_id, csr_digest, profile, release, issuer, tbs, \
             not_after, intended_at, confirmed_at, der) VALUES (?1,?2,?3,?4,?5,'i',?5,?6,?7,?8,?5)",
            params![
                serial.as_slice(),
                device,
                digest,
                if row.of_profile { "p" } else { "q" },
                bytes,
                row.not_after,
                row.intended_at,
                confirmed
            ],
        )?,
    };
    if let Some((at, reason)) = row.said {
        tx.execute(
            "INSERT INTO revocation(serial, change, shard, at, reason, listed) \
             VALUES (?1, ?2, 0, ?3, ?4, 1)",
            params![serial.as_slice(), i64::from(n), at, reason],
        )?;
    }
    Ok(())
}

/// Everything that is asked of a history.
type Answers = (Vec<bool>, Vec<u32>, bool, Option<i64>);

fn answers(tx: &Tx<'_>, max: usize) -> Result<Answers, StoreError> {
    let archived = tx.query_opt(
        "SELECT EXISTS (SELECT 1 FROM archive WHERE device_id = 1)",
        &[] as &[Value<'_>],
        |r| r.get(0),
    )?;
    let look = Look {
        device: DeviceId(1),
        newest: 1,
        standing: Standing::default(),
        attested_at: None,
        has_archived: archived.unwrap(),
        has_stops: false,
        has_base: false,
    };
    let history = History::up_to(tx, &look, "p", max)?;
    let requests = (0..14).map(|n| Ok(history.request(tx, &[n; 32])?.is_some()));
    let made = (-1..7).map(|from| history.made(tx, from, 4));
    Ok((
        requests.collect::<Result<_, StoreError>>()?,
        made.collect::<Result<_, StoreError>>()?,
        history.newest_is_held(tx)?,
        history.last_end(tx)?,
    ))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever a device had: at once it is the same as each question by itself.
    #[test]
    fn what_is_read_at_once_answers_as_the_store_does(rows in proptest::collection::vec(row(), 0..12)) {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir);
        let (at_once, each) = store
            .run_tx("t", |tx| {
                for (n, row) in (0_u8..).zip(&rows) {
                    put(tx, n, row)?;
                }
                Ok::<_, StoreError>((answers(tx, ROWS_MAX)?, answers(tx, 0)?))
            })
            .unwrap();
        prop_assert_eq!(at_once, each);
    }
}
