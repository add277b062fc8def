//! EST at the CA: who shows a certificate gets the next one, and nobody else does.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Tests.

mod common;

use std::sync::Arc;

use common::kur::Current;
use common::ready::*;
use common::requests::{nameless, nameless_as, with_attribute};
use common::rows::count;
use common::stops::StopAt;
use common::*;
use der::Encode as _;
use tegata_authority::UnixMs;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::ca::est::{EstDenial, Operation};
use tegata_authority::ca::revocation::{FinalReason, Word};
use tegata_authority::profile::{Authentication, EXAMPLE, Profiles};
use tegata_store::est::{Asker, Enrolled};
use tegata_store::issuer::Issuer;
use tegata_store::revocation::{Target, say};
use tegata_store::{Faults, NoFaults, certificate};
use tegata_wire::cmp::CertId;
use tegata_wire::x509::{AttestationBundle, AttestationStatement, CertView, SanEntry, oid};

/// The example's profile takes certificates, and there is another one.
fn profiles(more: &str) -> Profiles {
    let takes = format!("authentication = [\"ta\", \"certificate\"]\n{more}\n[profile.device.san]");
    let other = "[profile.other]\nkey_algorithms = [\"P-256\"]\nsubject = [{ CN = \"{serial}\" }]\n\
                 key_usage = [\"digitalSignature\"]\nvalidity = \"90d\"\nrenewal_window = \"30d\"\n\
                 authentication = [\"certificate\"]\n";
    let text = format!(
        "{}\n{other}",
        EXAMPLE.replace("[profile.device.san]", &takes)
    );
    Profiles::parse(&text).unwrap()
}

fn reopen(world: &mut World, profiles: Profiles, faults: Arc<dyn Faults>) {
    let role = role(&world.dir.path().join("ca.db"), faults);
    world.ca = Issuer::open(role, profiles, MacPolicy::default()).unwrap();
}

/// A CA that takes certificates, and devices that have one each.
fn est(count: usize) -> (World, Vec<Device>, Vec<Current>) {
    let (mut world, devices, current) = ready(count);
    reopen(&mut world, profiles(""), Arc::new(NoFaults));
    (world, devices, current)
}

fn enrol_in(
    world: &mut World,
    operation: Operation,
    profile: &str,
    asker: Asker<'_>,
    csr: &[u8],
    now: UnixMs,
) -> Result<Enrolled, EstDenial> {
    let profile = world.ca.est_profile(Some(profile))?;
    world
        .ca
        .est_enrol(operation, profile, asker, csr, &mut world.rng, now)
}

fn renew(world: &mut World, shown: &[u8], csr: &[u8], now: UnixMs) -> Result<Enrolled, EstDenial> {
    let asker = Asker::Certificate(shown);
    enrol_in(world, Operation::Reenroll, "device", asker, csr, now)
}

fn code(result: Result<Enrolled, EstDenial>) -> &'static str {
    result.unwrap_err().code()
}

#[test]
fn a_certificate_renews_itself_and_the_same_request_gets_the_same() {
    let (mut world, _, current) = est(1);
    let old = &current[0];
    let key = new_key(&mut world);
    let csr = nameless(&key);
    let first = renew(&mut world, &old.der, &csr, day(1)).unwrap();
    assert!(!first.again);
    let (new, before) = (
        CertView::from_der(&first.certificate).unwrap(),
        CertView::from_der(&old.der).unwrap(),
    );
    let san = |view: &CertView<'_>| {
        let extension = view.extension(&oid::SUBJECT_ALT_NAME).unwrap();
        extension.value.to_vec()
    };
    assert_eq!(new.subject_der, before.subject_der);
    assert_eq!(san(&new), san(&before));
    assert_eq!(new.spki_der, key.public_key().to_spki_der().unwrap());
    let again = renew(&mut world, &old.der, &csr, day(2)).unwrap();
    assert!(again.again && again.certificate == first.certificate);
    assert_eq!(count(&world.ca), 2);
    // EST has no confirmation: it counts at once, and the old one goes on.
    let key = new_key(&mut world);
    let next = renew(&mut world, &first.certificate, &nameless(&key), day(3)).unwrap();
    let key = new_key(&mut world);
    renew(&mut world, &old.der, &nameless(&key), day(3)).unwrap();
    // A further certificate, of another profile, with the names of that profile.
    let key = new_key(&mut world);
    let asker = Asker::Certificate(&next.certificate);
    let other = enrol_in(
        &mut world,
        Operation::Enroll,
        "other",
        asker,
        &nameless(&key),
        day(3),
    );
    let other = other.unwrap().certificate;
    let other = CertView::from_der(&other).unwrap();
    assert_ne!(other.subject_der, before.subject_der);
}

#[test]
fn each_refusal_leaves_the_store_as_it_was() {
    let (mut world, devices, current) = est(2);
    let (old, others) = (current[0].clone(), &current[1]);
    let key = new_key(&mut world);
    let csr = nameless(&key);
    let now = day(1);
    let start = count(&world.ca);

    // Nobody, and what no certificate of this CA is.
    let enroll = |world: &mut World, operation, profile: &str, asker: Asker<'_>| {
        code(enrol_in(world, operation, profile, asker, &csr, now))
    };
    let nobody = Asker::Nobody;
    assert_eq!(
        enroll(&mut world, Operation::Enroll, "device", nobody),
        "not-authenticated"
    );
    assert_eq!(
        enroll(&mut world, Operation::Reenroll, "device", nobody),
        "not-authenticated"
    );
    for at in [old.der.len() - 1, 40] {
        let mut altered = old.der.clone();
        altered[at] ^= 1;
        assert_eq!(
            code(renew(&mut world, &altered, &csr, now)),
            "client-certificate"
        );
    }
    let issuing = world.ca.issuing_certificate().to_vec();
    assert_eq!(
        code(renew(&mut world, &issuing, &csr, now)),
        "client-certificate"
    );
    let names = [SanEntry::Dns("ca.example".into())];
    let server = world
        .ca
        .est_identity(&names, &mut world.rng, now.secs())
        .unwrap();
    assert_eq!(
        code(renew(&mut world, &server.chain[0], &csr, now)),
        "client-certificate"
    );

    // Another device's names, its request, its certificate for our names.
    let theirs = devices[1].csr(&key);
    assert_eq!(code(renew(&mut world, &old.der, &theirs, now)), "subject");
    let ours = devices[0].csr(&key);
    assert_eq!(code(renew(&mut world, &others.der, &ours, now)), "subject");

    // Keys: that of the certificate, one without proof, one of the device's own.
    let same = nameless(&old.key);
    assert_eq!(code(renew(&mut world, &old.der, &same, now)), "same-key");
    // The same point, compressed: its x, and whether its y is odd.
    let point = old.key.public_key().bytes();
    let algorithm = hex::decode("3039301306072a8648ce3d020106082a8648ce3d030107032200").unwrap();
    let sign = 2 + (point[64] & 1);
    let compressed = [&algorithm, &[sign][..], &point[1..33]].concat();
    let same = nameless_as(&old.key, compressed);
    assert_eq!(code(renew(&mut world, &old.der, &same, now)), "same-key");
    let mut unsigned = csr.clone();
    let last = unsigned.len() - 1;
    unsigned[last] ^= 1;
    assert_eq!(code(renew(&mut world, &old.der, &unsigned, now)), "csr");
    assert_eq!(
        code(renew(&mut world, &old.der, &csr[..last], now)),
        "malformed"
    );

    // What no request may bring.
    let nothing = with_attribute(&csr, oid::REG_CTRL_OLD_CERT_ID, &[0x30, 0], &key);
    assert_eq!(
        code(renew(&mut world, &old.der, &nothing, now)),
        "attribute"
    );
    let view = CertView::from_der(&old.der).unwrap();
    let id = CertId::new(view.issuer_der, view.serial).unwrap();
    let in_place = with_attribute(&csr, oid::REG_CTRL_OLD_CERT_ID, &id.to_der().unwrap(), &key);
    assert_eq!(
        code(renew(&mut world, &old.der, &in_place, now)),
        "old-certificate"
    );
    let password = with_attribute(&csr, oid::CHALLENGE_PASSWORD, &[0x0c, 1, b'x'], &key);
    assert_eq!(
        code(renew(&mut world, &old.der, &password, now)),
        "attribute"
    );
    let bundle = AttestationBundle {
        statements: vec![AttestationStatement {
            kind: "2.23.133.20.1".parse().unwrap(),
            statement: vec![5, 0],
        }],
        certs: Vec::new(),
    };
    let attested = with_attribute(&csr, oid::ATTESTATION, &bundle.to_der().unwrap(), &key);
    let denied = renew(&mut world, &old.der, &attested, now).unwrap_err();
    assert_eq!(denied.code(), "attestation");
    assert!(denied.to_string().contains("2.23.133.20.1"), "{denied}");

    // Another profile, one that there is not, and times.
    let shown = Asker::Certificate(&old.der);
    assert_eq!(
        enroll(&mut world, Operation::Reenroll, "other", shown),
        "other-profile"
    );
    assert_eq!(
        enroll(&mut world, Operation::Enroll, "none", shown),
        "profile"
    );
    assert_eq!(
        code(renew(&mut world, &old.der, &csr, day(400))),
        "client-certificate"
    );
    assert_eq!(
        code(renew(&mut world, &old.der, &csr, UnixMs(1_000))),
        "client-certificate"
    );

    // The profile that takes TAs alone.
    reopen(
        &mut world,
        Profiles::parse(EXAMPLE).unwrap(),
        Arc::new(NoFaults),
    );
    assert_eq!(code(renew(&mut world, &old.der, &csr, now)), "means");
    assert_eq!(count(&world.ca), start);
}

#[test]
fn what_the_ca_took_back_counts_no_more() {
    let (mut world, devices, current) = est(2);
    let (old, now) = (&current[0], day(1));
    let store = Arc::clone(&world.ca.role().store);
    let word = |target: &Target, word| drop(say(&store, target, word, now.secs()).unwrap());
    let serial = Target::Certificate(old.serial());
    let key = new_key(&mut world);
    let csr = nameless(&key);
    let answered = renew(&mut world, &old.der, &csr, now).unwrap().certificate;

    word(&serial, Word::Hold);
    assert_eq!(
        code(renew(&mut world, &old.der, &csr, now)),
        "client-certificate"
    );
    word(&serial, Word::Unhold);
    assert_eq!(
        renew(&mut world, &old.der, &csr, now).unwrap().certificate,
        answered
    );
    // Superseded: it may ask for a lost answer again, and for nothing new.
    word(&serial, Word::Revoke(FinalReason::Superseded));
    assert_eq!(
        renew(&mut world, &old.der, &csr, now).unwrap().certificate,
        answered
    );
    let other = new_key(&mut world);
    assert_eq!(
        code(renew(&mut world, &old.der, &nameless(&other), now)),
        "signer-ended"
    );
    // The answer itself was taken back: it is not handed out again.
    let view = CertView::from_der(&answered).unwrap();
    word(
        &Target::Certificate(view.serial.to_vec()),
        Word::Revoke(FinalReason::KeyCompromise),
    );
    assert_eq!(code(renew(&mut world, &old.der, &csr, now)), "revoked");
    assert_eq!(
        code(renew(&mut world, &answered, &csr, now)),
        "client-certificate"
    );

    // A device: whatever it shows.
    let theirs = &current[1];
    let ueid = devices[1].identity.ueid;
    word(&Target::Device(ueid), Word::Hold);
    word(&Target::Certificate(theirs.serial()), Word::Unhold);
    let key = new_key(&mut world);
    assert_eq!(
        code(renew(&mut world, &theirs.der, &nameless(&key), now)),
        "device-revoked"
    );
    word(&Target::Device(ueid), Word::Unhold);
    renew(&mut world, &theirs.der, &nameless(&key), now).unwrap();
}

#[test]
fn a_profile_may_let_the_key_stay() {
    let (mut world, _, current) = est(1);
    reopen(&mut world, profiles("reuse_key = true"), Arc::new(NoFaults));
    let same = nameless(&current[0].key);
    let new = renew(&mut world, &current[0].der, &same, day(1)).unwrap();
    assert_ne!(new.certificate, current[0].der);
}

#[test]
fn one_request_is_one_certificate_wherever_the_ca_stops() {
    let (mut world, _, current) = est(1);
    let old = &current[0];
    let mut stopped = 0;
    for at in 0..3 {
        let key = new_key(&mut world);
        let csr = nameless(&key);
        let faults = StopAt::new(at);
        reopen(&mut world, profiles(""), faults.clone());
        let answered = renew(&mut world, &old.der, &csr, day(1));
        stopped += usize::from(faults.stopped());
        reopen(&mut world, profiles(""), Arc::new(NoFaults));
        let before = count(&world.ca);
        let new = renew(&mut world, &old.der, &csr, day(2)).unwrap();
        if let Ok(answered) = answered {
            assert_eq!(answered.certificate, new.certificate);
        }
        // What was begun was finished: no second row.
        assert!(
            count(&world.ca) <= before + usize::from(at == 0),
            "stopped at {at}"
        );
        let store = &world.ca.role().store;
        assert!(store.read("t", certificate::unfinished).unwrap().is_empty());
    }
    assert_eq!(stopped, 2, "one commit, before and after");
}

#[test]
fn attributes_have_names_for_who_shows_a_certificate_alone() {
    let (mut world, _, current) = est(1);
    let profile = world.ca.est_profile(Some("device")).unwrap().clone();
    let view = CertView::from_der(&current[0].der).unwrap();
    let san = view.extension(&oid::SUBJECT_ALT_NAME).unwrap().value;
    let has_names = |world: &World, asker, now: UnixMs| {
        let der = world
            .ca
            .est_attributes(&profile, asker, now.secs())
            .unwrap();
        der.windows(san.len()).any(|part| part == san)
    };
    let shown = Asker::Certificate(&current[0].der);
    assert!(has_names(&world, shown, day(1)));
    assert!(!has_names(&world, Asker::Nobody, day(1)));
    assert!(!has_names(&world, shown, day(400)));
    let mut altered = current[0].der.clone();
    *altered.last_mut().unwrap() ^= 1;
    assert!(!has_names(&world, Asker::Certificate(&altered), day(1)));
    let store = Arc::clone(&world.ca.role().store);
    let serial = Target::Certificate(current[0].serial());
    say(&store, &serial, Word::Hold, day(1).secs()).unwrap();
    assert!(!has_names(&world, shown, day(1)));
    // What evidence is in, only where it is taken.
    let attestation = oid::ATTESTATION;
    let named = |profile| {
        let attributes = world
            .ca
            .est_attributes(profile, Asker::Nobody, day(1).secs());
        let attributes = attributes.unwrap();
        let bytes = attestation.as_bytes();
        attributes.windows(bytes.len()).any(|part| part == bytes)
    };
    assert!(!named(&profile));
    let mut takes = profile.clone();
    takes.authentication = vec![Authentication::Evidence];
    assert!(named(&takes));
    // Several profiles: a path must name one.
    assert!(world.ca.est_profile(None).is_err());
    reopen(
        &mut world,
        Profiles::parse(EXAMPLE).unwrap(),
        Arc::new(NoFaults),
    );
    assert_eq!(world.ca.est_profile(None).unwrap().name, "device");
}

#[test]
fn the_servers_certificate_is_renewed_in_time_and_follows_its_names() {
    let mut world = World::new();
    let names = [
        SanEntry::Dns("ca.example".into()),
        SanEntry::Ip(vec![127, 0, 0, 1]),
    ];
    let at = |world: &mut World, names: &[SanEntry], now: UnixMs| {
        let identity = world
            .ca
            .est_identity(names, &mut world.rng, now.secs())
            .unwrap();
        let view = CertView::from_der(&identity.chain[0]).unwrap();
        assert_eq!(
            view.spki_der,
            identity.key.public_key().to_spki_der().unwrap()
        );
        assert_eq!(identity.chain[1], world.ca.issuing_certificate());
        identity.chain[0].clone()
    };
    let first = at(&mut world, &names, day(0));
    world.reopen_ca(Arc::new(NoFaults));
    assert_eq!(at(&mut world, &names, day(29)), first);
    let second = at(&mut world, &names, day(31));
    assert_ne!(second, first);
    let view = CertView::from_der(&first).unwrap();
    let next = CertView::from_der(&second).unwrap();
    assert_eq!(view.spki_der, next.spki_der);
    assert!(next.not_after_secs > view.not_after_secs);
    assert_ne!(at(&mut world, &names[..1], day(31)), second);
}
