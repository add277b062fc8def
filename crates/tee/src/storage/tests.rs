//! Storage against a model, an attacker with the flash in hand, and a crash at every write.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec;
use alloc::vec::Vec;

use proptest::prelude::*;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_wire::ids::{SignerId, TaUuid};

use super::*;
use crate::platform::MonotonicCounter;
use crate::testing::{Crash, TestPlatform};

fn ta(n: u8) -> TaId {
    TaId {
        signer: SignerId([n; 32]),
        uuid: TaUuid([7; 16]),
    }
}

fn open(platform: &TestPlatform) -> SecureStorage<'_, TestPlatform> {
    SecureStorage::new(platform, &RustCrypto, &ta(1)).unwrap()
}

/// Everything a namespace holds, or why it cannot be read.
fn contents(platform: &TestPlatform) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, StorageError> {
    let storage = open(platform);
    let mut all = BTreeMap::new();
    for summary in storage.list()? {
        let object = storage.read(&summary.id)?;
        assert_eq!(object.data.expose_secret().len(), summary.data_len);
        all.insert(summary.id, object.data.expose_secret().clone());
    }
    Ok(all)
}

#[test]
fn object_life() {
    let platform = TestPlatform::new(1);
    let storage = open(&platform);
    assert_eq!(storage.read(b"k").err(), Some(StorageError::NotFound));
    storage
        .create(b"k", b"one", b"attr", Existing::Refuse)
        .unwrap();
    let again = storage.create(b"k", b"two", b"", Existing::Refuse);
    assert_eq!(again, Err(StorageError::AlreadyExists));
    let object = storage.read(b"k").unwrap();
    assert_eq!(object.data.expose_secret(), b"one");
    assert_eq!(object.attributes.expose_secret(), b"attr");
    storage.write(b"k", b"three", b"").unwrap();
    assert_eq!(storage.write(b"x", b"", b""), Err(StorageError::NotFound));
    storage
        .create(b"taken", b"", b"", Existing::Refuse)
        .unwrap();
    assert_eq!(
        storage.rename(b"k", b"taken"),
        Err(StorageError::AlreadyExists)
    );
    storage.rename(b"k", b"new").unwrap();
    assert_eq!(storage.read(b"new").unwrap().data.expose_secret(), b"three");
    assert_eq!(storage.delete(b"k"), Err(StorageError::NotFound));
    storage.delete(b"new").unwrap();
    storage.wipe().unwrap();
    assert!(storage.list().unwrap().is_empty());
    assert_eq!(platform.snapshot().len(), 1, "only the empty table stays");
}

#[test]
fn another_signer_or_device_sees_nothing() {
    let platform = TestPlatform::new(1);
    open(&platform)
        .create(b"k", b"secret", b"", Existing::Refuse)
        .unwrap();
    // The same UUID under another release key: nothing there.
    let other = SecureStorage::new(&platform, &RustCrypto, &ta(2)).unwrap();
    assert_eq!(other.read(b"k").err(), Some(StorageError::NotFound));
    // Its blobs moved to another device: neither name nor key fits.
    let device = TestPlatform::new(2);
    device.restore(platform.snapshot());
    assert_eq!(open(&device).read(b"k").err(), Some(StorageError::NotFound));
}

#[test]
fn the_medium_shows_neither_names_nor_contents() {
    let platform = TestPlatform::new(1);
    open(&platform)
        .create(b"device-key-label", b"plain secret", b"", Existing::Refuse)
        .unwrap();
    for (name, blob) in platform.snapshot() {
        let text = format!("{name} {}", alloc::string::String::from_utf8_lossy(&blob));
        assert!(
            !text.contains("device-key") && !text.contains("plain secret"),
            "{text}"
        );
        assert!(!name.contains(&hex::encode(ta(1).uuid.as_bytes())));
    }
}

#[test]
fn every_changed_byte_is_noticed() {
    let platform = TestPlatform::new(1);
    open(&platform)
        .create(b"k", b"secret", b"a", Existing::Refuse)
        .unwrap();
    let clean = platform.snapshot();
    for (name, blob) in &clean {
        for position in 0..blob.len() {
            let mut bad = clean.clone();
            bad.get_mut(name).unwrap()[position] ^= 1;
            platform.restore(bad);
            assert_eq!(
                open(&platform).read(b"k").err(),
                Some(StorageError::Corrupt),
                "{position}"
            );
        }
        for len in 0..blob.len() {
            let mut bad = clean.clone();
            bad.get_mut(name).unwrap().truncate(len);
            platform.restore(bad);
            assert_eq!(
                open(&platform).read(b"k").err(),
                Some(StorageError::Corrupt),
                "cut {len}"
            );
        }
    }
    // A missing object is corrupt, not absent, and can still be deleted.
    let mut bad = clean.clone();
    bad.retain(|name, _| name.starts_with("t-"));
    platform.restore(bad);
    assert_eq!(
        open(&platform).read(b"k").err(),
        Some(StorageError::Corrupt)
    );
    open(&platform).delete(b"k").unwrap();
    assert_eq!(
        open(&platform).read(b"k").err(),
        Some(StorageError::NotFound)
    );
}

#[test]
fn an_old_blob_put_back_does_not_open() {
    let platform = TestPlatform::new(1);
    let storage = open(&platform);
    storage.create(b"k", b"old", b"", Existing::Refuse).unwrap();
    let old = platform.snapshot();
    storage.write(b"k", b"new", b"").unwrap();
    let new = platform.snapshot();
    let new_object = new.keys().find(|name| name.starts_with("o-")).unwrap();
    let old_object = old.iter().find(|(name, _)| name.starts_with("o-")).unwrap();
    let mut mixed = new.clone();
    mixed.insert(new_object.clone(), old_object.1.clone());
    platform.restore(mixed);
    assert_eq!(storage.read(b"k").err(), Some(StorageError::Corrupt));
}

#[test]
fn replay_of_the_whole_medium_needs_a_counter_to_be_seen() {
    for counter in [false, true] {
        let mut platform = TestPlatform::new(1);
        if counter {
            platform = platform.with_counter();
        }
        let storage = open(&platform);
        storage.create(b"k", b"old", b"", Existing::Refuse).unwrap();
        let old = platform.snapshot();
        storage.write(b"k", b"new", b"").unwrap();
        platform.restore(old);
        let read = storage.read(b"k");
        if counter {
            assert_eq!(storage.protection(), Protection::ReplayProtected);
            assert!(matches!(read.err(), Some(StorageError::RolledBack { .. })));
            // Not even an empty medium passes for a new device.
            platform.restore(std::collections::BTreeMap::new());
            assert!(matches!(
                storage.read(b"k").err(),
                Some(StorageError::RolledBack { .. })
            ));
        } else {
            // The honest level 0: it reads old data, and says beforehand that it would.
            assert_eq!(storage.protection(), Protection::Authenticated);
            assert_eq!(anti_rollback(&platform), AntiRollback::None);
            assert_eq!(read.unwrap().data.expose_secret(), b"old");
        }
    }
}

#[test]
fn an_unanswered_change_cannot_replace_an_answered_one() {
    for crash in [Crash::Lost, Crash::Kept] {
        for put_back in [false, true] {
            for at in 0.. {
                let platform = TestPlatform::new(1).with_counter();
                let storage = open(&platform);
                storage
                    .create(b"k", b"base", b"", Existing::Refuse)
                    .unwrap();
                let base = platform.snapshot();
                platform.crash_at(at, crash);
                let _ = storage.write(b"k", b"attempt", b"");
                let died = platform.is_dead();
                let captured = platform.snapshot();
                platform.reboot();
                if !died {
                    break;
                }
                // The attacker may choose on which medium the machine goes on …
                if put_back {
                    platform.restore(base.clone());
                }
                if storage.write(b"k", b"answered", b"").is_err() {
                    continue;
                }
                // … but what was answered stays, whatever of the past is put back.
                for past in [&base, &captured] {
                    platform.restore(past.clone());
                    let read = storage.read(b"k");
                    assert!(read.is_err(), "{crash:?} {put_back} {at}");
                }
            }
        }
    }
}

#[test]
fn a_crash_at_every_write_leaves_old_or_new() {
    type Step = fn(&SecureStorage<'_, TestPlatform>) -> Result<(), StorageError>;
    let steps: [(&str, Step); 5] = [
        ("create", |s| {
            s.create(b"new", b"fresh", b"", Existing::Refuse)
        }),
        ("replace", |s| {
            s.create(b"a", b"other", b"", Existing::Replace)
        }),
        ("rename", |s| s.rename(b"a", b"z")),
        ("delete", |s| s.delete(b"b")),
        ("wipe", |s| s.wipe()),
    ];
    for counter in [false, true] {
        for (name, step) in &steps {
            for crash in [Crash::Lost, Crash::Kept] {
                crash_everywhere(counter, name, *step, crash);
            }
        }
    }

    fn crash_everywhere(counter: bool, name: &str, step: Step, crash: Crash) {
        for at in 0.. {
            let mut platform = TestPlatform::new(1);
            if counter {
                platform = platform.with_counter();
            }
            let storage = open(&platform);
            storage.create(b"a", b"1", b"", Existing::Refuse).unwrap();
            storage.create(b"b", b"2", b"", Existing::Refuse).unwrap();
            let before = contents(&platform).unwrap();
            platform.crash_at(at, crash);
            let result = step(&storage);
            let died = platform.is_dead();
            platform.reboot();
            let after = contents(&platform).unwrap();
            if !died {
                result.unwrap();
                assert!(at >= 2, "{name} wrote nothing");
                return;
            }
            let what = format!("{name} {crash:?} at {at} counter {counter}");
            let wanted = {
                let clean = TestPlatform::new(1);
                let storage = open(&clean);
                storage.create(b"a", b"1", b"", Existing::Refuse).unwrap();
                storage.create(b"b", b"2", b"", Existing::Refuse).unwrap();
                step(&storage).unwrap();
                contents(&clean).unwrap()
            };
            assert!(after == before || after == wanted, "{what}: {after:?}");
            // Recovery is the same code: the step is done again, and nothing is left lying about.
            if after == before {
                step(&open(&platform)).unwrap();
            }
            assert_eq!(contents(&platform).unwrap(), wanted, "{what}");
            open(&platform)
                .create(b"last", b"", b"", Existing::Replace)
                .unwrap();
            let objects = platform
                .snapshot()
                .keys()
                .filter(|n| n.starts_with("o-"))
                .count();
            assert_eq!(objects, wanted.len() + 1, "{what}");
        }
    }
}

#[test]
fn a_full_medium_changes_nothing() {
    let platform = TestPlatform::new(1);
    let storage = open(&platform);
    storage.create(b"a", b"1", b"", Existing::Refuse).unwrap();
    platform.set_full(true);
    let error = storage.create(b"b", b"2", b"", Existing::Refuse);
    assert!(matches!(
        error,
        Err(StorageError::Platform(PlatformError::NoSpace { .. }))
    ));
    platform.set_full(false);
    assert_eq!(contents(&platform).unwrap().len(), 1);
}

#[test]
fn a_damaged_namespace_can_be_wiped() {
    for counter in [false, true] {
        let mut platform = TestPlatform::new(1);
        if counter {
            platform = platform.with_counter();
        }
        let storage = open(&platform);
        storage
            .create(b"k", b"secret", b"", Existing::Refuse)
            .unwrap();
        let good = platform.snapshot();
        let mut bad = good.clone();
        for (name, blob) in &mut bad {
            if name.starts_with("t-") {
                blob[20] ^= 1;
            }
        }
        platform.restore(bad);
        assert_eq!(storage.read(b"k").err(), Some(StorageError::Corrupt));
        storage.wipe().unwrap();
        assert!(storage.list().unwrap().is_empty());
        storage.create(b"k", b"new", b"", Existing::Refuse).unwrap();
        if counter {
            // Not even the undamaged past comes back.
            platform.restore(good);
            assert!(storage.read(b"k").is_err());
        }
    }
}

#[test]
fn limits_hold() {
    let platform = TestPlatform::new(1);
    let storage = open(&platform);
    let long = vec![0u8; OBJECT_ID_MAX_LEN + 1];
    let id = storage.create(&long, b"", b"", Existing::Refuse);
    assert!(matches!(id, Err(StorageError::IdLength { .. })));
    assert!(matches!(
        storage.read(b"").err(),
        Some(StorageError::IdLength { .. })
    ));
    let big = vec![0u8; MAX_OBJECT_BYTES];
    let large = storage.create(b"k", &big, b"x", Existing::Refuse);
    assert!(matches!(large, Err(StorageError::TooLarge { .. })));
    for n in 0..16u8 {
        storage.create(&[n], &big, b"", Existing::Refuse).unwrap();
    }
    let full = storage.create(b"one more", b"x", b"", Existing::Refuse);
    assert_eq!(full, Err(StorageError::Quota));
    assert!(!storage.contains(b"one more").unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn behaves_like_a_map(ops in proptest::collection::vec((0u8..5, 0u8..4, 0u8..4, any::<u8>()), 1..40)) {
        let platform = TestPlatform::new(3).with_counter();
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        for (op, a, b, byte) in ops {
            let storage = open(&platform);
            let (a, b, data) = (vec![a], vec![b], vec![byte; usize::from(byte)]);
            match op {
                0 => {
                    let done = storage.create(&a, &data, b"", Existing::Refuse);
                    let taken = model.contains_key(&a);
                    prop_assert_eq!(done.is_ok(), !taken);
                    model.entry(a).or_insert(data);
                }
                1 => {
                    storage.create(&a, &data, b"", Existing::Replace).unwrap();
                    model.insert(a, data);
                }
                2 => {
                    let done = storage.delete(&a);
                    prop_assert_eq!(done.is_ok(), model.remove(&a).is_some());
                }
                3 => {
                    let done = storage.rename(&a, &b);
                    if !model.contains_key(&a) {
                        prop_assert_eq!(done, Err(StorageError::NotFound));
                    } else if model.contains_key(&b) {
                        prop_assert_eq!(done, Err(StorageError::AlreadyExists));
                    } else {
                        done.unwrap();
                        let data = model.remove(&a).unwrap();
                        model.insert(b, data);
                    }
                }
                _ => {
                    let read = storage.read(&a).ok().map(|object| object.data.expose_secret().clone());
                    prop_assert_eq!(read.as_ref(), model.get(&a));
                }
            }
        }
        prop_assert_eq!(contents(&platform).unwrap(), model);
    }
}

/// On OP-TEE a step is a write to RPMB: what nobody can have used is not burned.
#[test]
fn a_change_takes_one_step_of_the_counter_and_the_first_takes_two() {
    let platform = TestPlatform::new(1).with_counter();
    let steps = |change: &dyn Fn()| {
        let before = MonotonicCounter::read(&platform).unwrap();
        change();
        MonotonicCounter::read(&platform).unwrap() - before
    };
    let write = || {
        open(&platform)
            .create(b"k", b"v", b"", Existing::Replace)
            .unwrap();
    };
    assert_eq!((steps(&write), steps(&write), steps(&write)), (2, 1, 1));
    platform.reboot();
    assert_eq!((steps(&write), steps(&write)), (2, 1));
    // A ledger may have been made and then not been counted: the next change burns its value.
    platform.set_full(true);
    let full = open(&platform).create(b"k", b"v", b"", Existing::Replace);
    assert!(full.is_err());
    platform.set_full(false);
    assert!((1..=2).contains(&steps(&write)));
    assert_eq!(steps(&write), 1);
}
