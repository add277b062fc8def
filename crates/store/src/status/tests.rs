#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests.

use tegata_authority::ca::authority_cert::CaDraft;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::profile::{EXAMPLE, Profiles};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::seal::SealingKey;
use tegata_crypto::{CryptoError, KeyAlg, OsRng, PublicKey, Secret, Signer};
use tegata_wire::ocsp::{CertId, OcspRequest};

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::lists::{ToSign, WAITING_MAX};
use super::ocsp::Responder;
use super::*;
use crate::engine::params;
use crate::generation::{Kind, Next, Sure, roll_over};
use crate::issuer::CaSetup;
use crate::role::Role;
use crate::{Store, StoreError, Tx, revocation};

const NOW: UnixSecs = UnixSecs(1_800_000_000);

/// A CA in a directory of its own.
fn ca(dir: &tempfile::TempDir) -> Arc<Issuer> {
    let role = Role {
        store: Arc::new(Store::open(dir.path().join("ca.db")).unwrap()),
        provider: Arc::new(RustCrypto),
        sealing: Arc::new(SealingKey::new(Secret::new([9; 32]))),
    };
    let setup = CaSetup {
        draft: CaDraft::for_organization("X"),
        root_alg: KeyAlg::P256,
        issuing_alg: KeyAlg::P256,
    };
    Issuer::init(&role, &setup, &mut OsRng, NOW).unwrap();
    let profiles = Profiles::parse(EXAMPLE).unwrap();
    Arc::new(Issuer::open(role, profiles, MacPolicy::default()).unwrap())
}

/// Takes a certificate back that there might be in that shard.
fn revoke(tx: &Tx<'_>, serial: u8, shard: u64) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO revocation(serial, change, shard, at, reason, listed) \
         SELECT ?1, coalesce(max(change), 0) + 1, ?2, 7, 1, 1 FROM revocation",
        params![[1, serial].as_slice(), revocation::signed(shard)],
    )
    .map(drop)
}

/// Whether a list has an entry of that serial number.
fn has(list: &Published, serial: u8) -> bool {
    list.der.windows(4).any(|part| part == [2, 2, 1, serial])
}

#[test]
fn a_list_has_what_is_in_a_shard_that_began_while_it_was_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = ca(&dir);
    let server = StatusServer::new(Arc::clone(&issuer));
    let present = issuer.generations().unwrap();
    let asked = ToSign {
        by: present.newest(),
        scope: Scope::Full,
        bases: &[],
    };
    // The caller has looked at its shards, and waits for its turn to sign.
    let store = &issuer.role.store;
    let (first, second) = store
        .run_tx("t", |tx| {
            let first = revocation::last_shard(tx)?;
            revoke(tx, 1, first)?;
            Ok::<_, StoreError>((first, revocation::begin_shard(tx)?))
        })
        .unwrap();
    assert_ne!(first, second);
    store.run_tx("t", |tx| revoke(tx, 2, second)).unwrap();
    let listed = server.sign(&asked, None, NOW).unwrap();
    assert!(has(&listed.published, 1) && has(&listed.published, 2));
    assert_eq!(listed.change, 2);
}

#[test]
fn the_list_of_an_older_issuing_ca_is_not_signed_anew_for_changes_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = ca(&dir);
    let store = &issuer.role.store;
    let server = StatusServer::new(Arc::clone(&issuer));
    store.run_tx("t", |tx| revoke(tx, 1, 0)).unwrap();
    let next = Next {
        number: 2,
        kind: Kind::Issuing,
        alg: None,
        leaked: false,
        sure: Sure::default(),
    };
    roll_over(&issuer.role, next, &mut OsRng, NOW).unwrap();
    let ids: Vec<String> = {
        let present = issuer.generations().unwrap();
        present.iter().map(|one| one.id.clone()).collect()
    };
    let lists = |of: usize| {
        let id = ids.get(of).unwrap();
        [false, true].map(|delta| server.list_of(id, Scope::Full, delta, NOW).unwrap())
    };
    let (old, new) = (lists(0), lists(1));
    assert!(has(&old[0], 1) && !has(&new[0], 1));
    let shard = store.read("t", revocation::last_shard).unwrap();
    for serial in 2..5 {
        store.run_tx("t", |tx| revoke(tx, serial, shard)).unwrap();
        assert!(has(&lists(1)[0], serial) && has(&lists(1)[1], serial));
        for (before, after) in old.iter().zip(lists(0)) {
            assert!(Arc::ptr_eq(before, &after));
        }
    }
    // A word about the old one is in its next list.
    store.run_tx("t", |tx| revoke(tx, 9, 0)).unwrap();
    assert!(lists(0).iter().all(|list| has(list, 9)));
    assert!(!lists(1).iter().any(|list| has(list, 9)));
}

#[test]
fn a_list_that_is_too_long_is_refused_again_without_a_look() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = ca(&dir);
    let store = &issuer.role.store;
    let mut server = StatusServer::new(Arc::clone(&issuer));
    server.entries_max = 2;
    for serial in 1..4 {
        store.run_tx("t", |tx| revoke(tx, serial, 0)).unwrap();
    }
    let list = |secs, delta| server.list(Scope::Full, delta, UnixSecs(NOW.0 + secs));
    let archived = |serial: u8, listed| {
        store.run_tx("t", |tx| {
            let serial = [1, serial];
            let sql = "UPDATE revocation SET listed = ?2 WHERE serial = ?1";
            tx.execute(sql, params![serial.as_slice(), listed])
        })
    };
    assert!(matches!(list(0, false), Err(NoList::TooMany)));
    // It is short enough by now, and nobody looks before the minute is over.
    archived(1, 0_i64).unwrap();
    for delta in [false, true] {
        assert!(matches!(list(59, delta), Err(NoList::TooMany)));
    }
    let made = list(60, false).unwrap();
    assert!(!has(&made, 1) && has(&made, 2) && has(&made, 3));
    assert!(list(60, true).is_ok());
    // What was found does not outlive a list; and a clock that went back asks anew.
    store.run_tx("t", |tx| revoke(tx, 4, 0)).unwrap();
    assert!(matches!(list(61, false), Err(NoList::TooMany)));
    archived(2, 0_i64).unwrap();
    assert!(list(50, false).is_ok());
}

#[test]
fn few_wait_for_a_list_of_everything_and_it_is_signed_once_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = ca(&dir);
    let store = &issuer.role.store;
    let base = |tx: &Tx<'_>| revocation::put_base(tx, "http://ca.example");
    store.run_tx("t", base).unwrap();
    let server = StatusServer::new(Arc::clone(&issuer));
    let present = issuer.generations().unwrap();
    let list = |scope| server.list(scope, false, NOW);
    let first = list(Scope::Full).unwrap();
    let lists = server.lists_of(present.newest(), Scope::Full, true);
    let lists = lists.unwrap().unwrap();

    let turn = lists.turn.lock().unwrap();
    assert!(Arc::ptr_eq(&first, &list(Scope::Full).unwrap()), "kept");
    store.run_tx("t", |tx| revoke(tx, 1, 0)).unwrap();
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..WAITING_MAX)
            .map(|_| scope.spawn(|| list(Scope::Full).unwrap()))
            .collect();
        let begun = Instant::now();
        while lists.waiting.load(Ordering::Relaxed) < WAITING_MAX {
            assert!(begun.elapsed() < Duration::from_secs(60), "they wait");
            std::thread::sleep(Duration::from_millis(1));
        }
        // Whoever comes now is sent away at once; the list of a shard is not concerned.
        for _ in 0..3 {
            assert!(matches!(list(Scope::Full), Err(NoList::Busy)));
        }
        assert!(has(&list(Scope::Shard(0)).unwrap(), 1));
        drop(turn);
        let made: Vec<_> = waiting.into_iter().map(|one| one.join().unwrap()).collect();
        assert!(has(&made[0], 1));
        assert!(made.iter().all(|one| Arc::ptr_eq(one, &made[0])));
    });
    assert!(list(Scope::Full).is_ok());
}

#[test]
fn the_last_change_is_of_the_shards_that_are_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let issuer = ca(&dir);
    let store = &issuer.role.store;
    for (serial, shard) in [(1, 3), (2, 5), (3, 3), (4, 9)] {
        store.run_tx("t", |tx| revoke(tx, serial, shard)).unwrap();
    }
    let last = |shards| {
        let found = store.read("t", |tx| revocation::last_change(tx, shards));
        found.unwrap()
    };
    let cases = [
        ((0, 2), 0),
        ((0, 3), 3),
        ((3, 3), 3),
        ((4, 8), 2),
        ((5, 9), 4),
        ((0, u64::MAX), 4),
        ((10, u64::MAX), 0),
    ];
    for (shards, change) in cases {
        assert_eq!(last(shards), change, "{shards:?}");
    }
}

/// A responder's key that counts what it signs.
struct Counting {
    real: Arc<Responder>,
    signed: Arc<AtomicUsize>,
}

impl Signer for Counting {
    fn public_key(&self) -> &PublicKey {
        self.real.signer.public_key()
    }
    fn sign(&self, msg: &[u8]) -> Result<Vec<u8>, CryptoError> {
        self.signed.fetch_add(1, Ordering::Relaxed);
        self.real.signer.sign(msg)
    }
}

/// A responder that counts, over a CA with certificates of the serial numbers 1, 2, … `count`.
struct Asked {
    server: StatusServer,
    issuer: Arc<Issuer>,
    signed: Arc<AtomicUsize>,
    _dir: tempfile::TempDir,
}

impl Asked {
    fn new(count: u8, presign: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let issuer = Arc::into_inner(ca(&dir)).unwrap();
        let issuer = Arc::new(issuer.with_status(StatusSettings {
            presign,
            ..StatusSettings::default()
        }));
        let present = issuer.generations().unwrap();
        let by = present.newest();
        let fill = |tx: &Tx<'_>| {
            tx.execute(
                "INSERT INTO device_batch(id, digest, batch, maker, made_at, imported_at, factory_kid) \
                 VALUES (1, ?1, 'B', 'M', 0, 0, ?1)",
                params![[1_u8].as_slice()],
            )?;
            tx.execute(
                "INSERT INTO device(id, ueid, teep_kid, attestation_kid, batch_id, model, serial, \
                 endorsement) VALUES (1, ?1, ?1, ?1, 1, 'm', 's', ?1)",
                params![[1_u8].as_slice()],
            )?;
            for serial in 1..=count {
                tx.execute(
                    "INSERT INTO certificate(serial, device_id, csr_digest, profile, release, issuer, \
                     tbs, not_after, intended_at, der) VALUES (?1, 1, ?1, 'p', ?1, ?2, ?1, 0, 0, ?1)",
                    params![[1, serial].as_slice(), by.id],
                )?;
            }
            Ok::<_, StoreError>(())
        };
        issuer.role.store.run_tx("t", fill).unwrap();
        let server = StatusServer::new(Arc::clone(&issuer));
        let real = server.responder(by, &mut OsRng, NOW).unwrap();
        let signed = Arc::new(AtomicUsize::new(0));
        let counting = Responder {
            cert: real.cert.clone(),
            signer: Box::new(Counting {
                real,
                signed: Arc::clone(&signed),
            }),
        };
        let slot = Arc::clone(&server.responders.lock().unwrap()[&by.number]);
        *slot.lock().unwrap() = Some(Arc::new(counting));
        Self {
            server,
            issuer,
            signed,
            _dir: dir,
        }
    }

    fn id(&self, serial: u8) -> CertId {
        let present = self.issuer.generations().unwrap();
        present.newest().hashes.cert_id(&[1, serial]).unwrap()
    }

    /// What is told of a certificate: the tag of its status, and when it was signed.
    fn told(&self, serial: u8, secs: u64) -> (u8, u64) {
        let id = self.id(serial);
        let der = id.der.as_bytes().to_vec();
        let request = OcspRequest {
            certificates: vec![id],
            nonce: None,
        };
        let now = UnixSecs(NOW.0 + secs);
        let (answer, cacheable) = self.server.answer(&request, &mut OsRng, now).unwrap();
        assert!(cacheable);
        let at = answer.der.windows(der.len()).position(|part| part == der);
        (answer.der[at.unwrap() + der.len()], answer.made.0 - NOW.0)
    }

    fn ahead(&self, secs: u64) -> usize {
        let now = UnixSecs(NOW.0 + secs);
        self.server
            .sign_ahead(&mut OsRng, &AtomicBool::new(false), now)
            .unwrap()
    }

    fn signed(&self) -> usize {
        self.signed.load(Ordering::Relaxed)
    }
}

const GOOD: u8 = 0x80;
const REVOKED: u8 = 0xa1;

#[test]
fn what_is_signed_ahead_costs_a_request_no_signature_and_a_revocation_is_told_at_once() {
    let asked = Asked::new(10, 8);
    assert_eq!((asked.ahead(0), asked.signed()), (8, 8));
    assert_eq!((asked.ahead(0), asked.signed()), (0, 8), "they are there");
    for n in 0..1_000_u64 {
        let serial = 3 + u8::try_from(n % 8).unwrap();
        assert_eq!(asked.told(serial, n), (GOOD, 0));
    }
    assert_eq!(asked.signed(), 8);
    // Those that are not among the newest are signed when they are asked for, and then kept.
    for _ in 0..3 {
        assert_eq!(asked.told(2, 5), (GOOD, 5));
    }
    assert_eq!(asked.signed(), 9);
    // A word that came since is told, whatever was signed ahead.
    let store = &asked.issuer.role.store;
    store.run_tx("t", |tx| revoke(tx, 7, 0)).unwrap();
    assert_eq!(asked.told(7, 10), (REVOKED, 10));
    assert_eq!((asked.told(7, 11), asked.signed()), ((REVOKED, 10), 10));
    // A certificate that is gone is signed for nobody.
    let gone = "DELETE FROM certificate WHERE serial = ?1";
    store
        .run_tx("t", |tx| tx.execute(gone, params![[1_u8, 9].as_slice()]))
        .unwrap();
    assert_eq!((asked.ahead(1_500), asked.signed()), (8, 18));
    assert_eq!((asked.ahead(3_000), asked.signed()), (8, 26));
}

#[test]
fn who_signs_ahead_is_always_in_time_however_short_responses_live() {
    let asked = Asked::new(6, 4);
    let pause = asked.server.ahead_pause().as_secs();
    assert_eq!(pause, 60);
    let mut rounds = 0;
    // Two hours of an hour's responses; somebody asks each ten seconds.
    for secs in (0..7_200).step_by(10) {
        if secs % pause == 0 {
            rounds += asked.ahead(secs);
        }
        let before = asked.signed();
        for serial in 3..=6 {
            let (status, made) = asked.told(serial, secs);
            assert!(status == GOOD && secs - made < 1_800);
        }
        assert_eq!(asked.signed(), before, "at {secs}");
    }
    assert_eq!(asked.signed(), rounds);
    assert!((4 * 5..=4 * 7).contains(&rounds), "{rounds}");
    // A clock that went back: what is of the future is signed again.
    assert_eq!(asked.ahead(10), 4);
    for life in [60, 61, 600, 86_400, 259_200] {
        let issuer = Arc::into_inner(ca(&tempfile::tempdir().unwrap())).unwrap();
        let server = StatusServer::new(Arc::new(issuer.with_status(StatusSettings {
            ocsp_life_secs: life,
            ..StatusSettings::default()
        })));
        let quarter = life / 2 / 4;
        assert!(server.ahead_pause().as_secs() * 2 <= quarter, "{life}");
    }
}

#[test]
fn the_response_that_nobody_asked_for_the_longest_goes() {
    let asked = Asked::new(6, 0);
    *asked.server.responses.lock().unwrap() = Responses::new(3);
    for serial in [1, 2, 3, 1, 4] {
        asked.told(serial, 0);
    }
    // 2 went for 4; 1 was asked for again after it.
    assert_eq!(asked.signed(), 4);
    for (serial, signed) in [(1, 4), (4, 4), (3, 4), (2, 5), (1, 6), (3, 6)] {
        asked.told(serial, 1);
        assert_eq!(asked.signed(), signed, "{serial}");
    }
    // Signed again is not asked for: the order stays.
    assert_eq!(asked.ahead(1_500), 3);
    asked.told(5, 1_500);
    asked.told(2, 1_500);
    assert_eq!(asked.signed(), 6 + 3 + 1 + 1, "2 went");
}
