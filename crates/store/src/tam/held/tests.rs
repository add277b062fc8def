#![allow(clippy::unwrap_used)]

use tegata_crypto::rustcrypto::RustCrypto;
use tegata_wire::enrolment::{DeliveryMode, ReleasePackage};

use super::*;

fn digest(n: u8) -> ReleaseDigest {
    ReleaseDigest([n; 32])
}

fn release() -> Arc<ReadyRelease> {
    let package = ReleasePackage {
        ta_envelope: vec![0],
        ta_ciphertext: vec![0; 17],
        ta_iv: [0; 12],
        mode: DeliveryMode::Symmetric,
        config_envelope: Some(vec![0]),
        tam_secrets: Some(vec![0]),
        notice: None,
    };
    Arc::new(ReadyRelease::new(&RustCrypto, package, &[]).unwrap())
}

fn there(held: &Held) -> Vec<u8> {
    let entries = held.0.lock().unwrap();
    entries.iter().map(|entry| entry.digest.0[0]).collect()
}

#[test]
fn no_more_than_the_bound_is_kept_and_the_longest_unused_go_first() {
    let (held, release) = (Held::default(), release());
    let third = HELD_LEN_BYTES_MAX / 3;
    for n in 1..=3 {
        held.keep(digest(n), third, &release);
    }
    assert_eq!(there(&held), [1, 2, 3]);
    assert!(held.find(&digest(1)).is_some());
    held.keep(digest(4), third, &release);
    assert_eq!(there(&held), [3, 1, 4]);
    assert!(held.find(&digest(2)).is_none());
    // The same again counts once.
    held.keep(digest(4), third, &release);
    assert_eq!(there(&held), [3, 1, 4]);
    held.keep(digest(5), HELD_LEN_BYTES_MAX, &release);
    assert_eq!(there(&held), [5]);
    held.keep(digest(6), HELD_LEN_BYTES_MAX + 1, &release);
    assert!(there(&held).is_empty());
}

#[test]
fn an_encrypted_ta_is_one_copy_for_all_who_have_it_and_then_none() {
    let payloads = Payloads::default();
    assert!(payloads.find(&digest(1)).is_none());
    let first = payloads.share(digest(1), vec![1; 100]);
    let second = payloads.find(&digest(1)).unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    drop((first, second));
    assert!(payloads.find(&digest(1)).is_none());
    // What nobody has is not even remembered.
    let _other = payloads.share(digest(2), vec![2; 100]);
    assert_eq!(payloads.0.lock().unwrap().len(), 1);
}
