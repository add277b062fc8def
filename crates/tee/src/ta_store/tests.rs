//! The store: floors, owners, atomic replacement, and a crash at every write.

use alloc::boxed::Box;
use alloc::format;
use alloc::vec;

use tegata_crypto::rustcrypto::RustCrypto;
use tegata_wire::ids::SignerId;

use super::*;
use crate::storage::Existing;
use crate::testing::{Crash, TestPlatform};

fn id(signer: u8) -> TaId {
    TaId {
        signer: SignerId([signer; 32]),
        uuid: TaUuid([9; 16]),
    }
}

fn installation(id: TaId, version: u64) -> TaChange {
    let module = format!("module {version}").into_bytes();
    let module_digest = Digest(RustCrypto.sha256(&module));
    let tag = u8::try_from(version).unwrap();
    let record = TaRecord {
        id,
        sequence_number: version,
        release: ReleaseDigest([tag; 32]),
        config_manifest: Some(Digest([tag; 32])),
        root_manifest: Digest([tag; 32]),
        module_digest,
        module_len_bytes: u64::try_from(module.len()).unwrap(),
        reference_uri: "tegata:ta:x".into(),
    };
    TaChange::Install(Box::new(Installation {
        floor: Floor {
            release: version,
            release_digest: record.release,
            dependent: version,
        },
        record,
        module,
        procedure: Some(format!("procedure {version}").into_bytes()),
        config: Some(Secret::new(format!("config {version}").into_bytes())),
        manifests: Manifests {
            release: vec![tag],
            config: Some(vec![tag]),
            dependent: None,
        },
    }))
}

fn store(platform: &TestPlatform) -> TaStore<'_, TestPlatform> {
    TaStore::new(platform, &RustCrypto).unwrap()
}

/// The version installed, with every component checked to be of that version.
fn version(platform: &TestPlatform) -> Option<u64> {
    let store = store(platform);
    store.recover().unwrap();
    let ta = store.load(&id(1).uuid).unwrap()?;
    let version = ta.record.sequence_number;
    assert_eq!(ta.module, format!("module {version}").into_bytes());
    assert_eq!(
        ta.procedure.unwrap(),
        format!("procedure {version}").into_bytes()
    );
    assert_eq!(
        ta.config.unwrap().expose_secret(),
        format!("config {version}").as_bytes()
    );
    assert_eq!(
        store.manifests(&id(1).uuid).unwrap().unwrap().release.len(),
        1
    );
    assert_eq!(store.floor(&id(1)).unwrap().unwrap().release, version);
    Some(version)
}

#[test]
fn install_replace_remove() {
    let platform = TestPlatform::new(1);
    let tas = store(&platform);
    assert_eq!(version(&platform), None);
    tas.apply(&[installation(id(1), 1)]).unwrap();
    assert_eq!(version(&platform), Some(1));
    tas.apply(&[installation(id(1), 2)]).unwrap();
    assert_eq!(version(&platform), Some(2));
    assert_eq!(tas.records().unwrap().len(), 1);
    tas.apply(&[TaChange::Uninstall(id(1).uuid)]).unwrap();
    assert_eq!(version(&platform), None);
    let floor = tas.floor(&id(1)).unwrap().unwrap();
    assert_eq!((floor.release, floor.dependent), (2, 2));
    // The floor outlives the TA.
    let older = tas.apply(&[installation(id(1), 1)]);
    assert_eq!(older, Err(TaStoreError::FloorSinks { ta: id(1) }));
    tas.apply(&[installation(id(1), 3)]).unwrap();
    assert_eq!(version(&platform), Some(3));
}

#[test]
fn another_signer_cannot_take_the_place() {
    let platform = TestPlatform::new(1);
    let tas = store(&platform);
    tas.apply(&[installation(id(1), 1)]).unwrap();
    let other = tas.apply(&[installation(id(2), 9)]);
    assert_eq!(
        other,
        Err(TaStoreError::OtherSigner {
            installed: id(1),
            got: id(2)
        })
    );
    assert_eq!(version(&platform), Some(1));
}

#[test]
fn a_removed_ta_leaves_no_storage() {
    let platform = TestPlatform::new(1);
    for crash in [Crash::Lost, Crash::Kept] {
        for at in 0.. {
            let tas = store(&platform);
            tas.recover().unwrap();
            let next = tas
                .floor(&id(1))
                .unwrap()
                .map_or(1, |floor| floor.release + 1);
            tas.apply(&[installation(id(1), next)]).unwrap();
            let storage = SecureStorage::new(&platform, &RustCrypto, &id(1)).unwrap();
            storage
                .create(b"key", b"private", b"", Existing::Replace)
                .unwrap();
            platform.crash_at(at, crash);
            let _ = tas.apply(&[TaChange::Uninstall(id(1).uuid)]);
            let died = platform.is_dead();
            platform.reboot();
            tas.recover().unwrap();
            let gone = version(&platform).is_none();
            assert_eq!(
                storage.list().unwrap().is_empty(),
                gone,
                "{crash:?} at {at}"
            );
            if !died {
                assert!(gone);
                break;
            }
        }
    }
}

#[test]
fn a_removed_ta_leaves_no_clock() {
    let platform = TestPlatform::new(1);
    let tas = store(&platform);
    tas.apply(&[installation(id(1), 1)]).unwrap();
    let clock = SecureStorage::new(&platform, &RustCrypto, &id(1).clock()).unwrap();
    clock
        .create(b"clock", b"1", b"", Existing::Replace)
        .unwrap();
    tas.apply(&[TaChange::Uninstall(id(1).uuid)]).unwrap();
    assert!(clock.list().unwrap().is_empty());
}

#[test]
fn a_ta_with_damaged_storage_can_be_removed() {
    let platform = TestPlatform::new(1);
    let tas = store(&platform);
    tas.apply(&[installation(id(1), 1)]).unwrap();
    let before = platform.snapshot();
    let storage = SecureStorage::new(&platform, &RustCrypto, &id(1)).unwrap();
    storage
        .create(b"key", b"private", b"", Existing::Replace)
        .unwrap();
    let mut bad = platform.snapshot();
    for (name, blob) in &mut bad {
        if !before.contains_key(name) {
            blob[15] ^= 1;
        }
    }
    platform.restore(bad);
    tas.apply(&[TaChange::Uninstall(id(1).uuid)]).unwrap();
    assert_eq!(version(&platform), None);
    assert!(storage.list().unwrap().is_empty());
}

#[test]
fn a_crash_at_every_write_leaves_the_old_ta_or_the_new() {
    for crash in [Crash::Lost, Crash::Kept] {
        for at in 0.. {
            let platform = TestPlatform::new(1).with_counter();
            store(&platform).apply(&[installation(id(1), 1)]).unwrap();
            platform.crash_at(at, crash);
            let result = store(&platform).apply(&[installation(id(1), 2)]);
            let died = platform.is_dead();
            platform.reboot();
            let now = version(&platform);
            assert!(
                now == Some(1) || now == Some(2),
                "{crash:?} at {at}: {now:?}"
            );
            if !died {
                result.unwrap();
                assert_eq!(now, Some(2));
                assert!(at > 8, "an installation has many writes");
                break;
            }
            if now == Some(1) {
                store(&platform).apply(&[installation(id(1), 2)]).unwrap();
            }
            assert_eq!(version(&platform), Some(2));
        }
    }
}

#[test]
fn every_changed_byte_of_the_store_is_noticed() {
    let platform = TestPlatform::new(1);
    store(&platform).apply(&[installation(id(1), 1)]).unwrap();
    let clean = platform.snapshot();
    for (name, blob) in &clean {
        for position in 0..blob.len() {
            let mut bad = clean.clone();
            bad.get_mut(name).unwrap()[position] ^= 0x80;
            platform.restore(bad);
            let tas = store(&platform);
            let corrupt = TaStoreError::Storage(StorageError::Corrupt);
            let uuid = id(1).uuid;
            let seen = tas.load(&uuid).err() == Some(corrupt.clone())
                || tas.manifests(&uuid).err() == Some(corrupt.clone())
                || tas.floor(&id(1)).err() == Some(corrupt);
            assert!(seen, "{name} at {position}");
        }
    }
}

#[test]
fn limits_hold() {
    let platform = TestPlatform::new(1);
    let tas = store(&platform);
    for n in 0..u8::try_from(MAX_TAS).unwrap() {
        let ta = TaId {
            signer: SignerId([1; 32]),
            uuid: TaUuid([n; 16]),
        };
        tas.apply(&[installation(ta, 1)]).unwrap();
    }
    let ta = TaId {
        signer: SignerId([1; 32]),
        uuid: TaUuid([200; 16]),
    };
    assert_eq!(
        tas.apply(&[installation(ta, 1)]),
        Err(TaStoreError::TooManyTas)
    );
    let TaChange::Install(mut big) = installation(id(1), 1) else {
        unreachable!()
    };
    big.module = vec![0; MAX_MODULE_BYTES + 1];
    let large = tas.apply(&[TaChange::Install(big)]);
    assert!(matches!(
        large,
        Err(TaStoreError::Storage(StorageError::TooLarge { .. }))
    ));
}
