//! A new issuing CA and a new root, with devices and certificates from before, and crashes on the way.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::sync::Arc;

use common::elsewhere::reopen_with_keys;
use common::kur::{Asked, Current, send};
use common::ocsp::{cert_id_by, tlv};
use common::ready::{day, new_key, ready};
use common::rolled::{
    generations, issuer_of, next, renewed, roll, roll_next, roll_with, taken, told, verify,
};
use common::stops::StopAt;
use common::*;
use tegata_authority::UnixSecs;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::ca::revocation::{FinalReason, Word};
use tegata_authority::tam::availability::Availability;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider as _};
use tegata_store::generation::{Kind, Next, roll_over, would_roll_over};
use tegata_store::issuer::{CmpOutcome, Issuer};
use tegata_store::revocation::{Target, say};
use tegata_store::role::RoleError;
use tegata_store::status::{NoList, Scope, StatusServer, StatusSettings};
use tegata_store::{NoFaults, certificate, root_list};
use tegata_wire::cmp::{PkiBody, UnverifiedPkiMessage};
use tegata_wire::x509::{CertView, List, RawDer};

/// Writes the certificates to `TEGATA_CERT_DIR`, if it is set, for other tools to look at.
fn keep(kind: Kind, world: &World, leaves: &[(&str, &[u8])]) {
    let Some(dir) = std::env::var_os("TEGATA_CERT_DIR").map(std::path::PathBuf::from) else {
        return;
    };
    let present = generations(world);
    let roots: Vec<_> = present
        .roots()
        .map(|root| root.ca.cert_der.clone())
        .collect();
    let mut all: Vec<(String, Vec<u8>)> = vec![("old-root".into(), roots[0].clone())];
    let links = &present.newest_root().links;
    if let (Some(new_with_old), Some(old_with_new)) = (&links.new_with_old, &links.old_with_new) {
        all.push(("new-root".into(), roots[1].clone()));
        all.push(("new-with-old".into(), new_with_old.clone()));
        all.push(("old-with-new".into(), old_with_new.clone()));
    }
    for one in present.iter() {
        all.push((format!("issuing-{}", one.number), one.ca.cert_der.clone()));
    }
    for (name, der) in leaves {
        all.push(((*name).to_owned(), der.to_vec()));
    }
    let kind = if kind == Kind::Root {
        "root"
    } else {
        "issuing"
    };
    for (name, der) in all {
        std::fs::write(dir.join(format!("{kind}-{name}.der")), der).unwrap();
    }
}

#[test]
fn old_and_new_devices_work_throughout() {
    for kind in [Kind::Issuing, Kind::Root] {
        let (mut world, mut devices, current) = ready(1);
        let old_root = vec![world.ca.root_certificate().to_vec()];
        let first_issuing = world.ca.issuing_certificate().to_vec();

        // The server runs on: it is not opened anew in this test.
        let made = roll(&world, 2, kind, day(50).secs()).unwrap();
        assert!(!made.again);
        let new_root = vec![made.root.cert_der.clone()];
        assert_eq!(new_root == old_root, kind == Kind::Issuing);
        let issuing = CertView::from_der(&made.issuing.cert_der)
            .unwrap()
            .subject_der;
        assert_ne!(
            issuing,
            CertView::from_der(&first_issuing).unwrap().subject_der
        );

        // A device with the old procedure renews twice, by what it trusts: the old root alone.
        let second = renewed(&mut world, &devices[0], &current[0], &old_root, 60);
        assert_eq!(issuer_of(&second.der), issuing, "the newest issues");
        let third = renewed(&mut world, &devices[0], &second, &old_root, 130);
        assert_eq!(issuer_of(&third.der), issuing);

        // One that is released now knows both roots, the new one first.
        let roots = world.ca.generations().unwrap().anchors(day(60).secs());
        let both = match kind {
            Kind::Issuing => old_root.clone(),
            Kind::Root => [new_root.clone(), old_root.clone()].concat(),
        };
        assert_eq!(roots, both);
        let mut fresh = world.batch("B2", 1).remove(0);
        let cut = world.release(b"\0asm\x01\0\0\0 the next", false, Availability::Everybody);
        fleet::install(&mut world, std::slice::from_mut(&mut fresh), cut.ta);
        let procedure = &fresh.installed.as_ref().unwrap().procedure;
        assert_eq!(procedure.trust_anchors, both);
        let key = PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap();
        let asked = fresh.p10cr(&fresh.csr(&key), 1);
        let answer = send(&world.ca, &mut world.rng, &asked, day(60));
        let der = taken(&answer.body, &new_root, day(60).secs()).unwrap();
        assert_eq!(taken(&answer.body, &both, day(60).secs()).unwrap(), der);
        let conf = fresh.cert_conf(&answer.body, &RustCrypto.sha256(&der), 1);
        let confirmed = send(&world.ca, &mut world.rng, &conf, day(60));
        taken(&confirmed.body, &both, day(60).secs()).unwrap();
        devices.push(fresh);

        // Whoever knows one root, whichever, verifies certificates from before and after.
        let now = day(131).secs();
        let all = world.ca.ca_certificates(now).unwrap();
        for leaf in [&current[0].der, &second.der, &third.der, &der] {
            for root in [&old_root, &new_root] {
                verify(leaf, &all, root, now).unwrap();
            }
        }
        keep(
            kind,
            &world,
            &[
                ("old", &current[0].der),
                ("new", &third.der),
                ("fresh", &der),
            ],
        );
        // And not without the links.
        let bare: Vec<_> = generations(&world)
            .iter()
            .map(|g| g.ca.cert_der.clone())
            .collect();
        assert_eq!(
            verify(&der, &bare, &old_root, now).is_ok(),
            kind == Kind::Issuing
        );
    }
}

#[test]
fn three_roots_lead_back_to_the_first() {
    let (mut world, devices, current) = ready(1);
    let first = vec![world.ca.root_certificate().to_vec()];
    for number in 2..4 {
        roll(&world, number, Kind::Root, day(1).secs()).unwrap();
    }
    let present = world.ca.generations().unwrap();
    let path = present.path_from(present.newest(), day(2).secs());
    assert_eq!(path.len(), 3);
    renewed(&mut world, &devices[0], &current[0], &first, 3);
    // What CMP tells of the root after one.
    let (next, links) = present.root_after(Some(&first[0])).unwrap();
    assert_eq!((next.number, &links), (2, &next.links));
    assert!(
        present
            .root_after(Some(&present.newest_root().ca.cert_der))
            .is_none()
    );
    let told = |world: &mut World, root: Option<&[u8]>| {
        use tegata_wire::cmp::{InfoTypeAndValue, MessageToProtect, PkiHeader, null_dn, oid};
        let question = InfoTypeAndValue {
            info_type: oid::IT_ROOT_CA_CERT,
            info_value: root.map(|der| RawDer::from_bytes(der).unwrap()),
        };
        let header = PkiHeader::new(null_dn(), null_dn())
            .with_transaction_id(&[7; 16])
            .and_then(|h| h.with_sender_nonce(&[8; 16]))
            .unwrap();
        let body = PkiBody::Genm(List::one(question)).to_raw().unwrap();
        let message = MessageToProtect::new(&header, &body).unwrap();
        let answer = send(
            &world.ca,
            &mut world.rng,
            &message.into_der(None, &[]).unwrap(),
            day(2),
        );
        let message = UnverifiedPkiMessage::from_der(&answer.body).unwrap();
        let infos = message.body().infos().unwrap();
        assert_eq!(infos[0].info_type, oid::IT_ROOT_CA_KEY_UPDATE);
        infos[0]
            .info_value
            .as_ref()
            .map(|value| value.as_bytes().to_vec())
    };
    // By hand from RFC 9810: newWithNew, [0] newWithOld, [1] oldWithNew.
    let long = |tag: u8, body: &[u8]| {
        let len = u16::try_from(body.len()).unwrap().to_be_bytes();
        [&[tag, 0x82, len[0], len[1]], body].concat()
    };
    let said = [
        next.ca.cert_der.clone(),
        long(0xa0, &links.new_with_old.unwrap()),
        long(0xa1, &links.old_with_new.unwrap()),
    ];
    let expected = long(0x30, &said.concat());
    assert_eq!(told(&mut world, Some(&first[0])), Some(expected));
    let newest = &present.newest_root().ca.cert_der;
    assert_eq!(told(&mut world, Some(newest)), None);
    assert!(
        told(&mut world, None)
            .unwrap()
            .windows(newest.len())
            .any(|part| part == newest)
    );
    // Names differ, so that none is taken for another.
    let names: Vec<String> = present.iter().map(|g| g.ca.name.to_display()).collect();
    assert!(
        names[1].contains(" G2") && names[2].contains(" G3"),
        "{names:?}"
    );
    // Once the first root has ended, nobody is led there.
    let end = UnixSecs(CertView::from_der(&first[0]).unwrap().not_after_secs + 1);
    assert_eq!(present.path_from(present.newest(), end).len(), 2);
    assert_eq!(present.anchors(end).len(), 2);
}

#[test]
fn each_issuing_ca_answers_for_its_own_certificates_and_no_others() {
    for kind in [Kind::Issuing, Kind::Root] {
        let (mut world, devices, current) = ready(1);
        let open = |world: &World| {
            let role = role(&world.dir.path().join("ca.db"), Arc::new(NoFaults));
            let ca = Issuer::open(role, profiles(), MacPolicy::default()).unwrap();
            Arc::new(ca.with_status(StatusSettings {
                base_url: Some("http://ca.example".into()),
                ..StatusSettings::default()
            }))
        };
        // It runs since before the rollover, and has answered.
        let server = StatusServer::new(open(&world));
        let old_issuing = world.ca.issuing_certificate().to_vec();
        let old = current[0].serial();
        assert_eq!(told(&server, &old_issuing, &old, SECS), "good");
        server.list(Scope::Shard(0), false, SECS).unwrap();

        let made = roll(&world, 2, kind, SECS).unwrap();
        let new_issuing = made.issuing.cert_der.clone();
        let anchors = vec![world.ca.root_certificate().to_vec()];
        let new = renewed(&mut world, &devices[0], &current[0], &anchors, 60).serial();
        let shard = |serial: &[u8]| {
            let found = world
                .ca
                .role()
                .store
                .read("t", |tx| certificate::find(tx, serial));
            found.unwrap().unwrap().intent.shard
        };
        assert_eq!(
            (shard(&old), shard(&new)),
            (0, 1),
            "a shard is of one issuer"
        );
        let store = open_store(world.dir.path().join("ca.db")).unwrap();
        let revoke = |serial: &[u8]| {
            let word = Word::Revoke(FinalReason::KeyCompromise);
            say(&store, &Target::Certificate(serial.to_vec()), word, SECS).unwrap();
        };
        let ids = [&old_issuing, &new_issuing].map(|der| {
            hex::encode(
                CertView::from_der(der)
                    .unwrap()
                    .subject_key_id()
                    .unwrap()
                    .unwrap(),
            )
        });
        let opened = open(&world);
        for server in [&server, &StatusServer::new(opened)] {
            // The old one was superseded by the renewal, after the rollover.
            assert_eq!(told(server, &old_issuing, &old, SECS), "revoked");
            assert_eq!(told(server, &old_issuing, &new, SECS), "unknown");
            assert_eq!(told(server, &new_issuing, &old, SECS), "unknown");
            told(server, &new_issuing, &new, SECS);
            // Asked for both at once: of one issuer, the first, and unknown for the other.
            let both = [
                cert_id_by(&new_issuing, &new, false),
                cert_id_by(&old_issuing, &old, false),
            ];
            let each: Vec<u8> = both.iter().flat_map(|id| tlv(0x30, id)).collect();
            let asked = tlv(0x30, &tlv(0x30, &tlv(0x30, &each)));
            let answer = server.ocsp(&asked, &mut Seeded(6), SECS);
            let der = &answer.published.der;
            let at = der
                .windows(both[1].len())
                .position(|part| part == both[1])
                .unwrap();
            assert_eq!(der[at + both[1].len()], 0x82);

            let list = |id: &str, scope| server.list_of(id, scope, false, SECS);
            let has = |id: &str, scope, serial: &[u8]| {
                let entry = tlv(2, serial);
                let der = list(id, scope).unwrap().der.clone();
                der.windows(entry.len()).any(|part| part == entry)
            };
            for scope in [Scope::Shard(0), Scope::Full] {
                assert!(has(&ids[0], scope, &old));
                assert!(!has(&ids[0], scope, &new));
            }
            for scope in [Scope::Shard(1), Scope::Full] {
                assert!(!has(&ids[1], scope, &old), "{scope:?}");
            }
            for (id, shard) in [(&ids[0], 1), (&ids[0], 2), (&ids[1], 0), (&ids[1], 2)] {
                assert!(matches!(
                    list(id, Scope::Shard(shard)),
                    Err(NoList::Unknown)
                ));
            }
            assert!(matches!(list("00", Scope::Full), Err(NoList::Unknown)));
            let delta = server
                .list_of(&ids[0], Scope::Shard(0), true, SECS)
                .unwrap();
            let issuer = CertView::from_der(&old_issuing).unwrap().subject_der;
            assert!(delta.der.windows(issuer.len()).any(|part| part == issuer));
            // Both are served, and what links their roots.
            for (id, der) in ids.iter().zip([&old_issuing, &new_issuing]) {
                assert_eq!(server.ca_certificate(id).unwrap().as_ref(), Some(der));
            }
            let present = generations(&world);
            for root in present.roots() {
                assert_eq!(
                    server.ca_certificate(&root.id).unwrap(),
                    Some(root.ca.cert_der.clone())
                );
            }
            assert_eq!(server.ca_certificate("00").unwrap(), None);
            if kind == Kind::Root {
                let [a, b] = &present
                    .roots()
                    .map(|root| root.id.clone())
                    .collect::<Vec<_>>()[..]
                else {
                    panic!()
                };
                let links = present.newest_root().links.clone();
                let link = |name: String| server.ca_certificate(&name).unwrap();
                assert!(links.new_with_old.is_some() && links.old_with_new.is_some());
                assert_eq!(link(format!("{b}-{a}")), links.new_with_old);
                assert_eq!(link(format!("{a}-{b}")), links.old_with_new);
            }
        }
        // A word about the new one shows in its list, and not in the old one's.
        revoke(&new);
        assert_eq!(told(&server, &new_issuing, &new, SECS), "revoked");
        let listed = server.list_of(&ids[1], Scope::Full, false, SECS).unwrap();
        let entry = tlv(2, &new);
        assert!(listed.der.windows(entry.len()).any(|part| part == entry));
        let listed = server.list_of(&ids[0], Scope::Full, false, SECS).unwrap();
        assert!(!listed.der.windows(entry.len()).any(|part| part == entry));
        // Each root signs its own list.
        let lists = root_list::renew(world.ca.role(), 86_400, SECS).unwrap();
        assert_eq!(lists.len(), generations(&world).roots().count());
        for renewed in lists {
            assert_eq!(renewed.revoked, []);
            let list = renewed.list;
            assert_eq!(server.root_list(&list.root_id).unwrap(), Some(list));
        }
    }
}

#[test]
fn a_crash_at_every_step_leaves_one_generation_or_none_and_the_command_again_mends_it() {
    for kind in [Kind::Issuing, Kind::Root] {
        let mut points = 0;
        for at in 0.. {
            let (mut world, devices, current) = ready(1);
            let anchors = vec![world.ca.root_certificate().to_vec()];
            let stop = StopAt::new(at);
            let done = roll_with(&world, 2, kind, SECS, stop);
            let stopped = done.is_err();
            let there = generations(&world).iter().count();
            assert!(there == 1 || there == 2);
            assert!(stopped || there == 2);
            // The CA serves either way.
            let second = renewed(&mut world, &devices[0], &current[0], &anchors, 60);
            for _ in 0..2 {
                let again = roll(&world, 2, kind, day(61).secs()).unwrap();
                let present = generations(&world);
                assert_eq!(present.iter().count(), 2);
                assert_eq!(present.newest().ca.cert_der, again.issuing.cert_der);
                let roots = if kind == Kind::Root { 2 } else { 1 };
                assert_eq!(present.roots().count(), roots);
                assert_eq!(present.newest_root().ca.cert_der, again.root.cert_der);
            }
            renewed(&mut world, &devices[0], &second, &anchors, 130);
            points = at;
            if !stopped {
                break;
            }
        }
        // One transaction, stopped before and after its commit.
        assert_eq!(points, 2, "{kind:?}");
    }
}

#[test]
fn what_was_fixed_before_a_rollover_is_finished_by_whom_it_was_fixed_for() {
    let (mut world, devices, current) = ready(1);
    let anchors = vec![world.ca.root_certificate().to_vec()];
    let first = issuer_of(&current[0].der);
    let (device, old) = (&devices[0], &current[0]);
    let key = new_key(&mut world);
    // The intent is durable (points 0 and 1), and its certificate is not: the key is elsewhere.
    let stop = StopAt::new(2);
    reopen_with_keys(&mut world, stop, false);
    let kur = |n| old.sign(&Asked::kur(device, old, &key).body(), n, None);
    let answer = send(&world.ca, &mut world.rng, &kur(1), day(60));
    assert!(
        matches!(answer.outcome, CmpOutcome::Denied(_)),
        "{:?}",
        answer.outcome
    );
    roll(&world, 2, Kind::Root, day(60).secs()).unwrap();
    world.reopen_ca(Arc::new(NoFaults));
    let mut seen = Vec::new();
    for n in 2..4 {
        let answer = send(&world.ca, &mut world.rng, &kur(n), day(61));
        let der = taken(&answer.body, &anchors, day(61).secs()).unwrap();
        assert_eq!(issuer_of(&der), first);
        let confirmed = send(
            &world.ca,
            &mut world.rng,
            &old.conf(&answer.body, &der, n),
            day(61),
        );
        assert!(matches!(
            confirmed.outcome,
            CmpOutcome::Confirmed { accepted: true, .. }
        ));
        taken(&confirmed.body, &anchors, day(61).secs()).unwrap();
        seen.push(der);
    }
    assert_eq!(seen[0], seen[1]);
    // What it asks for next is the new issuing CA's.
    let next = renewed(
        &mut world,
        device,
        &Current {
            key,
            der: seen.remove(0),
        },
        &anchors,
        100,
    );
    assert_ne!(issuer_of(&next.der), first);
}

#[test]
fn a_number_says_which_generation_is_meant() {
    let (world, ..) = ready(1);
    let refused = |number, kind| roll(&world, number, kind, SECS).unwrap_err();
    for number in [0, 1, 3, u32::MAX] {
        let error = refused(number, Kind::Issuing);
        assert!(
            matches!(error, RoleError::Generation { newest: 1, .. }),
            "{error}"
        );
    }
    // A dry run makes nothing.
    let wanted = Next {
        alg: Some(KeyAlg::Ed25519),
        ..next(2, Kind::Root)
    };
    let planned = would_roll_over(world.ca.role(), wanted, &mut Seeded(3), SECS).unwrap();
    assert_eq!(planned.root.public_key.alg(), KeyAlg::Ed25519);
    assert_eq!(generations(&world).iter().count(), 1);
    // Two commands at once: one generation, and both say which.
    let made = std::thread::scope(|scope| {
        let threads = [1, 2].map(|seed| {
            let path = world.dir.path().join("ca.db");
            scope.spawn(move || {
                let role = role(&path, Arc::new(NoFaults));
                roll_over(&role, wanted, &mut Seeded(seed << 40), SECS).unwrap()
            })
        });
        threads.map(|thread| thread.join().unwrap())
    });
    assert_eq!(made[0].issuing.cert_der, made[1].issuing.cert_der);
    assert!(matches!(
        refused(2, Kind::Issuing),
        RoleError::OtherGeneration(2)
    ));
    // Another kind of key is another generation; that of before, or none named, is the same.
    let other = Next {
        alg: Some(KeyAlg::P256),
        ..wanted
    };
    assert!(matches!(
        roll_next(&world, other, SECS),
        Err(RoleError::OtherGeneration(2))
    ));
    assert!(roll_next(&world, wanted, SECS).unwrap().again);
    assert!(roll(&world, 2, Kind::Root, SECS).unwrap().again);
    let present = generations(&world);
    assert_eq!((present.iter().count(), present.roots().count()), (2, 2));
    assert_eq!(present.newest().ca.public_key.alg(), KeyAlg::Ed25519);
}
