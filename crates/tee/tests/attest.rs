//! Evidence: true, fresh, and bound to the device that speaks.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::World;
use tegata_crypto::cose::verify_sign1;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_tee::platform::Platform;
use tegata_tee::testing::TestPlatform;
use tegata_tee::{Tee, TeeError};
use tegata_wire::cose::CoseKey;
use tegata_wire::rats::eat::{EatClaims, OemId, PROFILE_EVIDENCE, Profile};

fn tee(world: &World) -> Tee<TestPlatform> {
    Tee::new(world.platform.clone(), world.anchors.clone(), None).unwrap()
}

fn claims(tee: &Tee<TestPlatform>, nonce: &[u8]) -> EatClaims {
    let evidence = tee.evidence(nonce).unwrap();
    let key = tee.keys().attestation.public_key().clone();
    let verified = verify_sign1(&RustCrypto, &evidence, &key, b"", None).unwrap();
    assert_eq!(verified.alg(), -9);
    EatClaims::decode(verified.payload()).unwrap()
}

#[test]
fn evidence_says_what_the_platform_says() {
    let world = World::new();
    world.apply(&world.delivery(4)).unwrap();
    let tee = tee(&world);
    let claims = claims(&tee, b"nonce of 16 byte");
    let identity = world.platform.identity();
    assert!(claims.has_only_nonce(b"nonce of 16 byte"));
    assert_eq!(claims.ueid, Some(identity.ueid));
    assert_eq!(claims.oemid, Some(OemId::Pen(32473)));
    assert_eq!(claims.hwmodel.as_deref(), Some(b"sensor-1".as_slice()));
    assert_eq!(claims.hwversion.unwrap().version, "1.0");
    assert_eq!(
        claims.eat_profile,
        Some(Profile::Uri(PROFILE_EVIDENCE.into()))
    );
    assert_eq!(claims.swname.as_deref(), Some("tegata-tee"));
    assert_eq!(claims.swversion.unwrap().version, "0.1.0-test");
    // Honest about the wall: software, level 0, and what is missing.
    assert_eq!(claims.tegata.security_level.as_deref(), Some("software"));
    assert_eq!(claims.tegata.anti_rollback_level, Some(0));
    assert_eq!(claims.tegata.storage_root.as_deref(), Some("memory"));
    assert_eq!(claims.tegata.missing, Some(vec!["sandbox".to_string()]));
    assert_eq!(claims.iat, None, "no clock it could trust");
    // What is installed: release and module digests.
    let record = world.installed().unwrap().record;
    let reference = claims.manifests[0].as_suit_reference().unwrap();
    assert_eq!(reference.digest.to_sha256().unwrap().0, record.release.0);
    assert_eq!(reference.uri, "tegata:ta:enrol");
    let measured = claims.measurements[0].as_measured_component().unwrap();
    assert_eq!(measured.to_sha256(), Some(record.module_digest));
    assert_eq!(measured.name, world.uuid().to_string());
    assert_eq!(measured.version.unwrap().version, "4");
    // The key that signs TEEP messages, whole and by its thumbprint.
    let cnf = claims.cnf.unwrap();
    let key = CoseKey::from_value(cnf.cose_key.unwrap()).unwrap();
    let ours = tegata_crypto::PublicKey::from_cose_key_value(&key.to_value()).unwrap();
    assert_eq!(&ours, tee.keys().teep.public_key());
    assert_eq!(cnf.kid.unwrap(), ours.thumbprint());
}

#[test]
fn a_counter_in_hardware_shows() {
    let world = World::with_platform(TestPlatform::new(3).with_counter());
    assert_eq!(
        claims(&tee(&world), &[1; 8]).tegata.anti_rollback_level,
        Some(1000)
    );
}

#[test]
fn nonces_of_other_lengths_are_refused() {
    let tee = tee(&World::new());
    for len in [0, 7, 65, 4096] {
        assert_eq!(
            tee.evidence(&vec![1; len]),
            Err(TeeError::Nonce { got: len })
        );
    }
    for len in [8, 64] {
        tee.evidence(&vec![1; len]).unwrap();
    }
}

#[test]
fn keys_are_the_devices_own_and_each_its_own() {
    let (one, two) = (World::new(), World::with_platform(TestPlatform::new(2)));
    let keys = |world: &World| {
        let keys = &world.keys;
        [&keys.attestation, &keys.teep, &keys.delivery_ecdh]
            .map(|key| key.public_key().thumbprint())
    };
    let all: std::collections::BTreeSet<_> = keys(&one).into_iter().chain(keys(&two)).collect();
    assert_eq!(all.len(), 6);
    assert_eq!(
        keys(&one),
        keys(&World::new()),
        "the same after every start"
    );
}

#[test]
fn tampered_records_make_no_evidence() {
    let world = World::new();
    world.apply(&world.delivery(1)).unwrap();
    let tee = tee(&world);
    let mut blobs = world.platform.snapshot();
    for blob in blobs.values_mut() {
        blob[3] ^= 1;
    }
    world.platform.restore(blobs);
    assert!(matches!(tee.evidence(&[1; 8]), Err(TeeError::TaStore(_))));
    assert!(Tee::new(world.platform.clone(), world.anchors.clone(), None).is_err());
}
