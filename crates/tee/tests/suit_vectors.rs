//! The libcsuit envelopes: authentic under the drafts' example key, and each refused for the reason
//! that holds on this device, because none of them is of a TA that this device may have.
//!
//! They lie outside the repository (`TEGATA_VECTORS`, or `../shared/vectors` beside it).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use std::collections::BTreeMap;
use std::path::PathBuf;

use common::World;
use tegata_crypto::{KeyAlg, PublicKey};
use tegata_tee::TrustAnchors;
use tegata_tee::suit::Outcome;

/// Public key of the examples in draft-ietf-suit-manifest, uncompressed point.
const EXAMPLE_KEY: &str = "04\
    8496811aae0baaabd26157189eecda26beaa8bf11b6f3fe6e2b5659c85dbc0ad\
    3b1f2a4b6c098131c0a36dacd1d78bd381dcdfb09c052db33991db7338b4a896";

#[test]
fn foreign_envelopes_are_read_and_refused_for_a_reason() {
    let root = std::env::var_os("TEGATA_VECTORS").map_or_else(
        || {
            PathBuf::from(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../../../shared/vectors"
            ))
        },
        PathBuf::from,
    );
    let directory = root.join("suit/kentakayama+libcsuit/testfiles");
    let Ok(entries) = std::fs::read_dir(&directory) else {
        let given = std::env::var_os("TEGATA_VECTORS").is_some();
        assert!(!given, "TEGATA_VECTORS has no such envelopes");
        println!("skipped: no vectors at {}", directory.display());
        return;
    };
    let point = hex::decode(EXAMPLE_KEY).unwrap();
    let key = PublicKey::from_sec1(KeyAlg::P256, &point).unwrap();
    let world = World::new();
    let tam = world.tam.key.public_key().clone();
    let as_release = World {
        anchors: TrustAnchors::new(vec![key.clone()], vec![tam]).unwrap(),
        ..World::new()
    };
    let as_tam = World {
        anchors: TrustAnchors::new(vec![], vec![key]).unwrap(),
        ..World::new()
    };
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let mut files = 0;
    for entry in entries {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "suit") {
            continue;
        }
        files += 1;
        let bytes = std::fs::read(&path).unwrap();
        for world in [&as_release, &as_tam] {
            match world.process(&bytes) {
                Outcome::Failed(failure) => {
                    println!("{}: {}", path.display(), failure.error);
                    *reasons.entry(failure.error.code()).or_default() += 1;
                }
                Outcome::NeedPayload { uri, .. } => {
                    println!("{}: asks for {uri}", path.display());
                    *reasons.entry("need-payload").or_default() += 1;
                }
                Outcome::Passed { .. } => panic!("{} installs", path.display()),
            }
            assert_eq!(world.platform.changes(), 0);
        }
    }
    println!("{files} envelopes: {reasons:?}");
    // Every signature verifies and every manifest is read: what stops them is what they ask for.
    for reason in ["unauthorised", "malformed"] {
        assert!(!reasons.contains_key(reason), "{files}: {reasons:?}");
    }
}
