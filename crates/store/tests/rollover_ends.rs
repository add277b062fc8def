//! Rollovers where something has gone wrong: a root that ended, a key that leaked, a clock, years of them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::elsewhere::{Watched, reopen_with_keys};
use common::kur::{Asked, granted, send};
use common::ocsp::tlv;
use common::ready::{day, new_key, ready};
use common::rolled::{generations, issuer_of, next, renewed, roll, roll_next, taken, told, verify};
use common::stops::StopAt;
use common::*;
use tegata_authority::ca::cmp::{CmpDenial, MacPolicy};
use tegata_authority::tam::availability::Availability;
use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::{KeyAlg, PrivateKey};
use tegata_store::generation::{EndsSoon, Kind, Links, Next, Sure};
use tegata_store::issuer::{CmpOutcome, Issuer, NewRelease};
use tegata_store::role::RoleError;
use tegata_store::status::StatusServer;
use tegata_store::{Faults, NoFaults, StoreError, When, root_list};
use tegata_wire::x509::CertView;

const YEAR: u64 = 365 * 86_400;

/// What an operator wants after a leak.
fn leaked(number: u32, kind: Kind) -> Next {
    Next {
        leaked: true,
        ..next(number, kind)
    }
}

/// What an operator wants who has looked at the clock.
fn sure(number: u32, kind: Kind) -> Next {
    Next {
        sure: Sure {
            clock: true,
            leave_behind: false,
        },
        ..next(number, kind)
    }
}

fn at(secs: u64) -> UnixMs {
    UnixMs(secs * 1000)
}

#[test]
fn a_ca_whose_root_has_ended_goes_on_under_a_new_one() {
    for late in [1, 299, 301, YEAR] {
        let (mut world, ..) = ready(1);
        let old = generations(&world).newest_root().ca.clone();
        let now = at(old.not_after_secs + late);
        // Another issuing CA cannot be, and it is said why.
        let refused = roll_next(&world, sure(2, Kind::Issuing), now.secs()).unwrap_err();
        assert!(
            matches!(refused, RoleError::RootEnded { root: 1, at } if at.0 == old.not_after_secs),
            "{refused}"
        );
        // The clock may be wrong.
        let refused = roll(&world, 2, Kind::Root, now.secs()).unwrap_err();
        assert!(matches!(refused, RoleError::Clock(_)), "{refused}");
        let made = roll_next(&world, sure(2, Kind::Root), now.secs()).unwrap();
        let roots = vec![made.root.cert_der.clone()];
        let present = world.ca.generations().unwrap();
        assert_eq!(present.newest_root().links, Links::default());
        assert_eq!(present.anchors(now.secs()), roots);
        assert_eq!(present.archive_roots().len(), 2);
        assert_eq!(present.path_from(present.newest(), now.secs()).len(), 1);
        assert_eq!(present.links(now.secs()), Vec::<Vec<u8>>::new());
        let (after, links) = present.root_after(Some(&old.cert_der)).unwrap();
        assert_eq!((after.number, links), (2, Links::default()));
        // As long as the ones before, and devices get certificates by the new root.
        assert_eq!(
            made.issuing.not_after_secs - made.issuing.not_before_secs,
            10 * YEAR + 300
        );
        let new = NewRelease {
            ta_name: "enrol",
            module: b"\0asm\x01\0\0\0 after the end",
            profiles: &["device"],
            paper_exchange_key: None,
            available: &Availability::Everybody,
        };
        world.ca.release(&new, &mut world.rng, now.secs()).unwrap();
        let mut fresh = world.batch("B2", 1).remove(0);
        let cut = world.release(b"\0asm\x01\0\0\0 later", false, Availability::Everybody);
        fleet::install(&mut world, std::slice::from_mut(&mut fresh), cut.ta);
        let key = new_key(&mut world);
        let asked = fresh.p10cr(&fresh.csr(&key), 1);
        let answer = send(&world.ca, &mut world.rng, &asked, now);
        taken(&answer.body, &roots, now.secs()).unwrap();
    }
}

/// By a clock that is ahead by more than a year nothing is issued, neither to a certificate nor to a TA, and
/// nothing is lost: the same requests are answered once it is right, or an operator has looked at it.
#[test]
fn a_clock_that_is_far_ahead_issues_nothing() {
    for is_right in [false, true] {
        let (mut world, devices, current) = ready(1);
        let (key, other) = (new_key(&mut world), new_key(&mut world));
        let kur = Asked::kur(&devices[0], &current[0], &key).body();
        let kur = current[0].sign(&kur, 2, None);
        let p10cr = devices[0].p10cr(&devices[0].csr(&other), 3);
        let ahead = day(401);
        let said = |world: &mut World, message: &[u8], now| {
            let answer = send(&world.ca, &mut world.rng, message, now);
            (granted(&answer.body, &world.ca), answer.outcome)
        };
        for message in [&kur, &p10cr] {
            let (granted, outcome) = said(&mut world, message, ahead);
            assert_eq!(granted.unwrap_err(), "Error SYSTEM_UNAVAIL");
            let CmpOutcome::Denied(denied) = outcome else {
                panic!("{outcome:?}")
            };
            assert!(denied.to_string().contains("clock"), "{denied}");
        }
        let doubt = world.ca.clock_doubt(ahead.secs()).unwrap().unwrap();
        assert_eq!((doubt.now, doubt.at), (ahead.secs(), NOW.secs()));
        assert_eq!(world.ca.clock_doubt(day(400).secs()).unwrap(), None);
        if is_right {
            // Only who says so.
            let refused = roll(&world, 2, Kind::Issuing, ahead.secs()).unwrap_err();
            assert!(matches!(refused, RoleError::Clock(_)), "{refused}");
            roll_next(&world, sure(2, Kind::Issuing), ahead.secs()).unwrap();
            // It is looked at again: the certificate ended 36 days ago.
            for message in [&kur, &p10cr] {
                let outcome = send(&world.ca, &mut world.rng, message, ahead).outcome;
                let issue = matches!(outcome, CmpOutcome::Denied(CmpDenial::Issue(_)));
                assert!(issue, "{outcome:?}");
            }
            assert_eq!(world.ca.clock_doubt(ahead.secs()).unwrap(), None);
        } else {
            for message in [&kur, &p10cr] {
                said(&mut world, message, day(1)).0.unwrap();
            }
            // What was issued is a record.
            let again = said(&mut world, &kur, day(400)).0;
            assert!(again.is_ok(), "what was answered is answered");
        }
    }
}

#[test]
fn the_end_is_said_before_it_comes() {
    let (world, ..) = ready(1);
    let present = generations(&world);
    let (root, issuing) = (&present.newest_root().ca, &present.newest().ca);
    let (root_end, issuing_end) = (root.not_after_secs, issuing.not_after_secs);
    let life = 90 * 86_400;
    let soon = |secs| present.ends_soon(UnixSecs(secs), life);
    assert_eq!(soon(SECS.0), None);
    assert_eq!(soon(issuing_end - life - 91 * 86_400), None);
    for now in [issuing_end - life - 89 * 86_400, issuing_end + 1] {
        let said = EndsSoon {
            kind: Kind::Issuing,
            number: 1,
            at: UnixSecs(issuing_end),
        };
        assert_eq!(soon(now), Some(said));
    }
    for now in [root_end - life - 2 * YEAR, root_end, root_end + YEAR] {
        let said = EndsSoon {
            kind: Kind::Root,
            number: 1,
            at: UnixSecs(root_end),
        };
        assert_eq!(soon(now), Some(said));
    }
    // By the profiles that there are: the longest.
    assert_eq!(world.ca.ends_soon(SECS).unwrap(), None);
    assert!(world.ca.ends_soon(UnixSecs(issuing_end)).unwrap().is_some());
    roll(&world, 2, Kind::Issuing, UnixSecs(SECS.0 + YEAR)).unwrap();
    assert_eq!(
        generations(&world).ends_soon(UnixSecs(issuing_end - life), life),
        None
    );
}

#[test]
fn a_new_root_after_a_leak_leads_to_nothing_of_before() {
    let (mut world, devices, current) = ready(1);
    let first = vec![world.ca.root_certificate().to_vec()];
    roll(&world, 2, Kind::Root, SECS).unwrap();
    let second = renewed(&mut world, &devices[0], &current[0], &first, 60);
    let now = day(70).secs();
    let made = roll_next(&world, leaked(3, Kind::Root), now).unwrap();
    let newest = vec![made.root.cert_der.clone()];
    let present = world.ca.generations().unwrap();

    // Nobody is told to trust an old root, and nothing is handed out that leads to one.
    assert_eq!(present.anchors(now), newest);
    assert_eq!(present.archive_roots(), newest);
    assert_eq!(present.links(now), Vec::<Vec<u8>>::new());
    let issuing = vec![made.issuing.cert_der.clone()];
    assert_eq!(present.issuing(now), issuing);
    assert_eq!(
        world.ca.ca_certificates(now).unwrap(),
        [newest.clone(), issuing.clone()].concat()
    );
    assert_eq!(present.newest_root().links.old_with_new, None);

    // Who has the leaked keys has everything that was ever signed with them, and by whom. For who trusts
    // the new root alone, there is no way from a certificate of theirs.
    let mut all: Vec<Vec<u8>> = Vec::new();
    for root in present.roots() {
        all.push(root.ca.cert_der.clone());
        all.extend(root.links.new_with_old.clone());
        all.extend(root.links.old_with_new.clone());
    }
    all.extend(present.iter().map(|one| one.ca.cert_der.clone()));
    for leaf in [&current[0].der, &second.der] {
        verify(leaf, &all, &first, now).unwrap();
        let refused = verify(leaf, &all, &newest, now).unwrap_err();
        assert!(refused.contains("no trusted issuer"), "{refused}");
    }

    // A new release trusts the new root alone.
    let cut = world.release(b"\0asm\x01\0\0\0 new", false, Availability::Everybody);
    let mut fresh = world.batch("B2", 1).remove(0);
    fleet::install(&mut world, std::slice::from_mut(&mut fresh), cut.ta);
    let procedure = &fresh.installed.as_ref().unwrap().procedure;
    assert_eq!(procedure.trust_anchors, newest);
    // A device that knows an old root alone is still reached, or it would never get that release.
    let third = renewed(&mut world, &devices[0], &second, &first, 130);
    verify(&third.der, &issuing, &newest, day(130).secs()).unwrap();

    // CMP tells of the root after: not of one that is not to be trusted, and never back.
    let by_number = |number| present.root(number).unwrap();
    let after = |number| {
        let found = present.root_after(Some(&by_number(number).ca.cert_der));
        found.map(|(root, links)| (root.number, links))
    };
    assert_eq!(after(1), Some((3, Links::default())));
    let (number, links) = after(2).unwrap();
    assert!(number == 3 && links.new_with_old.is_some() && links.old_with_new.is_none());
    assert_eq!(after(3), None);
    let server = StatusServer::new(Arc::new({
        let role = role(&world.dir.path().join("ca.db"), Arc::new(NoFaults));
        Issuer::open(role, profiles(), MacPolicy::default()).unwrap()
    }));
    let link = format!("{}-{}", by_number(2).id, by_number(3).id);
    assert_eq!(server.ca_certificate(&link).unwrap(), None);

    // Again is the same; without the leak it is another.
    assert!(roll_next(&world, leaked(3, Kind::Root), now).unwrap().again);
    let refused = roll(&world, 3, Kind::Root, now).unwrap_err();
    assert!(
        matches!(refused, RoleError::OtherGeneration(3)),
        "{refused}"
    );
    // What comes after is trusted, and linked, as ever.
    let now = day(131).secs();
    roll(&world, 4, Kind::Root, now).unwrap();
    let present = generations(&world);
    assert_eq!(present.anchors(now).len(), 2);
    assert_eq!(present.links(now).len(), 2);
}

/// Serial numbers of certificates.
fn serial(der: &[u8]) -> Vec<u8> {
    CertView::from_der(der).unwrap().serial.to_vec()
}

#[test]
fn a_roots_list_names_what_it_signed_and_is_not_to_be_trusted() {
    let (mut world, devices, current) = ready(1);
    let anchors = vec![world.ca.root_certificate().to_vec()];
    let lists = |world: &World| root_list::renew(world.ca.role(), 86_400, SECS).unwrap();
    assert!(lists(&world).iter().all(|one| one.revoked.is_empty()));
    let first = generations(&world).newest().ca.clone();
    // The issuing key alone: the root stays.
    roll_next(&world, leaked(2, Kind::Issuing), SECS).unwrap();
    let [renewed_list] = &lists(&world)[..] else {
        panic!("one root")
    };
    let [entry] = &renewed_list.revoked[..] else {
        panic!("one issuing CA")
    };
    assert_eq!(entry.serial, serial(&first.cert_der));
    assert_eq!(
        (entry.at, entry.name.clone()),
        (SECS, first.name.to_display())
    );
    // In the list itself: the serial number, its time, and keyCompromise.
    let der = &renewed_list.list.der;
    let listed = tlv(2, &entry.serial);
    let position = der.windows(listed.len()).position(|part| part == listed);
    let rest = &der[position.unwrap() + listed.len()..];
    let reason = [0x0a, 1, 1];
    assert!(
        rest[..40].windows(3).any(|part| part == reason),
        "{rest:x?}"
    );
    let present = generations(&world);
    assert_eq!(present.anchors(SECS), anchors);
    assert_eq!(
        present.issuing(SECS),
        vec![present.newest().ca.cert_der.clone()]
    );
    // Its clients still get through the handshake: the CA knows their certificates byte for byte.
    assert!(present.of_clients(SECS).contains(&first.cert_der));
    let second = renewed(&mut world, &devices[0], &current[0], &anchors, 60);

    // Two roots, and then a leak: lists of both name issuing CAs and the links to each other.
    roll(&world, 3, Kind::Root, day(61).secs()).unwrap();
    renewed(&mut world, &devices[0], &second, &anchors, 120);
    roll_next(&world, leaked(4, Kind::Root), day(121).secs()).unwrap();
    let present = generations(&world);
    let [one, two, three] = &present.roots().collect::<Vec<_>>()[..] else {
        panic!("three roots")
    };
    let issuing: Vec<_> = present.iter().map(|one| serial(&one.ca.cert_der)).collect();
    let link = |der: &Option<Vec<u8>>| serial(der.as_ref().unwrap());
    let named: Vec<(String, Vec<Vec<u8>>)> = lists(&world)
        .into_iter()
        .map(|one| {
            let serials = one.revoked.into_iter().map(|entry| entry.serial);
            (one.list.root_id, serials.collect())
        })
        .collect();
    let expected = [
        (three.id.clone(), vec![]),
        (
            two.id.clone(),
            vec![issuing[2].clone(), link(&two.links.old_with_new)],
        ),
        (
            one.id.clone(),
            vec![
                issuing[0].clone(),
                issuing[1].clone(),
                link(&two.links.new_with_old),
            ],
        ),
    ];
    assert_eq!(named, expected);
}

#[test]
fn a_clock_that_the_store_contradicts_makes_nothing() {
    let (mut world, devices, current) = ready(1);
    let anchors = vec![world.ca.root_certificate().to_vec()];
    renewed(&mut world, &devices[0], &current[0], &anchors, 60);
    let last = day(60).secs().0;
    for (secs, said) in [
        (1_262_304_000, "the newest CA certificate begins"),
        (SECS.0 - 3600, "the newest CA certificate begins"),
        (last - 3600, "the last record was made"),
        (last + 401 * 86_400, "the last record was made"),
        (last + 21 * YEAR, "the newest root ended"),
    ] {
        for kind in [Kind::Root, Kind::Issuing] {
            let refused = roll(&world, 2, kind, UnixSecs(secs)).unwrap_err();
            let text = refused.to_string();
            let ended = matches!(refused, RoleError::RootEnded { .. });
            assert!(
                text.contains(said) || ended && kind == Kind::Issuing,
                "{text}"
            );
        }
        assert_eq!(generations(&world).iter().count(), 1);
    }
    // A few seconds are nothing. Whose clock is right says so; what was made is found at any time.
    roll(&world, 2, Kind::Issuing, UnixSecs(last - 60)).unwrap();
    roll_next(
        &world,
        sure(3, Kind::Issuing),
        UnixSecs(last + 401 * 86_400),
    )
    .unwrap();
    let before = roll(&world, 4, Kind::Issuing, UnixSecs(last));
    assert!(matches!(before, Err(RoleError::Clock(_))));
    assert!(roll(&world, 3, Kind::Issuing, UnixSecs(7)).unwrap().again);
}

#[test]
fn late_rollovers_shorten_no_issuing_ca_after_them() {
    let (world, ..) = ready(0);
    let end = generations(&world).newest_root().ca.not_after_secs;
    let near = UnixSecs(end - YEAR);
    let life = |made: tegata_store::generation::Made| {
        let ca = made.issuing;
        (ca.not_after_secs - ca.not_before_secs - 300) / YEAR
    };
    for (number, kind, years) in [
        (2, Kind::Issuing, 1),
        (3, Kind::Root, 10),
        (4, Kind::Issuing, 10),
    ] {
        let made = roll_next(&world, sure(number, kind), near).unwrap();
        assert_eq!(life(made), years, "{number}");
    }
}

/// Counts the transactions that change something.
struct Count(AtomicUsize);

impl Faults for Count {
    fn reach(&self, _step: &'static str, when: When) -> Result<(), StoreError> {
        if when == When::After {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
        Ok(())
    }
}

#[test]
fn an_issuing_ca_that_has_ended_still_answers_and_nothing_is_made_for_who_asks() {
    // Whoever asks first: before the end, at it, or long after it.
    for first in [-86_400, 0, 299, 301, 86_400, 3 * YEAR as i64] {
        let (world, _, current) = ready(1);
        let (issuing, end) = {
            let present = generations(&world);
            let ca = &present.newest().ca;
            (ca.cert_der.clone(), ca.not_after_secs)
        };
        let made = roll_next(&world, sure(2, Kind::Root), UnixSecs(end - YEAR)).unwrap();
        let count = Arc::new(Count(AtomicUsize::new(0)));
        let faults: Arc<dyn Faults> = Arc::<Count>::clone(&count);
        let role = role(&world.dir.path().join("ca.db"), faults);
        let ca = Issuer::open(role, profiles(), MacPolicy::default()).unwrap();
        let server = StatusServer::new(Arc::new(ca));
        let leaf = current[0].serial();
        let first = end.checked_add_signed(first).unwrap();
        for now in [first, first + 1, first + 86_400, first + YEAR] {
            let said = told(&server, &issuing, &leaf, UnixSecs(now));
            assert_eq!(said, "good", "{}", now.abs_diff(end));
        }
        // A key and one certificate, once: who asks again and again makes nobody write.
        assert_eq!(count.0.load(Ordering::SeqCst), 2);
        let newest = &made.issuing.cert_der;
        assert_eq!(told(&server, newest, &leaf, UnixSecs(first)), "unknown");
        assert_eq!(count.0.load(Ordering::SeqCst), 3);
    }
}

#[test]
fn four_roots_are_led_to_each_other_and_a_fifth_leaves_the_first_behind() {
    let (mut world, devices, current) = ready(1);
    let first = vec![world.ca.root_certificate().to_vec()];
    for number in 2..5 {
        roll(&world, number, Kind::Root, day(1).secs()).unwrap();
    }
    let now = day(3).secs();
    let present = world.ca.generations().unwrap();
    let newest = vec![present.newest_root().ca.cert_der.clone()];
    // A device that knows the first root alone goes on, with what is in the message.
    let second = renewed(&mut world, &devices[0], &current[0], &first, 3);
    let sent = present.path_from(present.newest(), now);
    assert_eq!(sent.len(), 4);
    verify(&second.der, &sent, &first, now).unwrap();
    // So does who knows one root, whichever, and has all that the CA tells: from both ends.
    let all = world.ca.ca_certificates(now).unwrap();
    for leaf in [&current[0].der, &second.der] {
        for root in present.anchors(now) {
            verify(leaf, &all, &[root], now).unwrap();
        }
    }
    assert!(verify(&current[0].der, &sent, &newest, now).is_err());

    // One more is not made unasked: who knows the first root alone would not find it.
    let refused = roll(&world, 5, Kind::Root, now).unwrap_err();
    assert!(
        matches!(refused, RoleError::LeavesBehind { root: 1, .. }),
        "{refused}"
    );
    assert!(refused.to_string().contains("three roots back"));
    roll(&world, 5, Kind::Issuing, now).unwrap();
    let behind = Next {
        sure: Sure {
            clock: false,
            leave_behind: true,
        },
        ..next(6, Kind::Root)
    };
    roll_next(&world, behind, now).unwrap();
    let present = generations(&world);
    let path = present.path_from(present.newest(), now);
    assert_eq!(path.len(), 4);
    // Nor would one be found with every link that there is, and it is said why.
    let links = present
        .roots()
        .filter_map(|root| root.links.new_with_old.clone());
    let every: Vec<_> = path[..1].iter().cloned().chain(links).collect();
    let third = renewed(&mut world, &devices[0], &second, &present.anchors(now), 100);
    let refused = verify(&third.der, &every, &first, day(100).secs()).unwrap_err();
    assert!(refused.contains("within 5 certificates"), "{refused}");
}

#[test]
fn links_are_told_of_however_many_issuing_cas_there_are() {
    let world = World::with(KeyAlg::Ed25519);
    for number in 2..14 {
        roll(&world, number, Kind::Issuing, SECS).unwrap();
    }
    let made = roll(&world, 14, Kind::Root, SECS).unwrap();
    let present = generations(&world);
    let told = present.intermediates(SECS);
    assert_eq!(told.len(), 12);
    assert_eq!(told[0], made.issuing.cert_der);
    assert_eq!(told[1..3], present.links(SECS));
    // A client with a certificate of the oldest still gets through the handshake.
    assert_eq!(present.of_clients(SECS).len(), 14 + 2);
    assert_eq!(world.ca.client_anchors(SECS).unwrap().len(), 14 + 2);
}

fn subject_of(der: &[u8]) -> Vec<u8> {
    CertView::from_der(der).unwrap().subject_der.to_vec()
}

#[test]
fn a_process_that_has_not_seen_a_leak_answers_nothing_by_the_key_that_leaked() {
    let (mut world, devices, _) = ready(1);
    // Two requests of before the leak; the second has no answer yet.
    let (first, second) = (new_key(&mut world), new_key(&mut world));
    let requests = [(&first, 2), (&second, 3)]
        .map(|(key, transaction)| devices[0].p10cr(&devices[0].csr(key), transaction));
    let before = send(&world.ca, &mut world.rng, &requests[0], NOW);
    let before = certificate_of(&before.body, &world.ca).unwrap();
    let process = || {
        let role = role(&world.dir.path().join("ca.db"), Arc::new(NoFaults));
        Issuer::open(role, profiles(), MacPolicy::default()).unwrap()
    };
    // One for each, for which it is the first since then: they look no more.
    let run_on = [process(), process()];
    roll_next(&world, leaked(2, Kind::Issuing), SECS).unwrap();
    let sees = process();
    for ((n, request), ca) in (0..).zip(&requests).zip(&run_on) {
        assert_ne!(sees.issuing_certificate(), ca.issuing_certificate());
        let answer = send(ca, &mut Seeded(n + 40), request, NOW);
        // It is signed by the new key.
        let der = certificate_of(&answer.body, &sees).unwrap();
        match n {
            0 => assert_eq!(der, before),
            _ => assert_eq!(issuer_of(&der), subject_of(sees.issuing_certificate())),
        }
    }
}

/// With a key that is elsewhere what was fixed and not signed waits for its next request. After a leak the
/// key does not sign it: the device is told so, and begins anew.
#[test]
fn what_was_fixed_before_a_leak_is_not_signed_after_it() {
    let (mut world, devices, _) = ready(1);
    let request = |key: &PrivateKey, n| devices[0].p10cr(&devices[0].csr(key), n);
    let (key, next) = (new_key(&mut world), new_key(&mut world));
    let stop = StopAt::new(2);
    reopen_with_keys(&mut world, stop, false);
    let answer = send(&world.ca, &mut world.rng, &request(&key, 2), NOW);
    assert!(matches!(answer.outcome, CmpOutcome::Denied(_)));
    roll_next(&world, leaked(2, Kind::Issuing), SECS).unwrap();
    let keys = Watched::default();
    keys.reopen(&mut world, Arc::new(NoFaults));
    let refused = send(&world.ca, &mut world.rng, &request(&key, 3), NOW);
    assert_eq!(
        granted(&refused.body, &world.ca).unwrap_err(),
        "Cp CERT_REVOKED"
    );
    assert_eq!(keys.certificates(), 0);
    let issued = send(&world.ca, &mut world.rng, &request(&next, 4), NOW);
    let der = certificate_of(&issued.body, &world.ca).unwrap();
    assert_eq!(issuer_of(&der), subject_of(world.ca.issuing_certificate()));
}
