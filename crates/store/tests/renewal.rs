//! Renewal by kur: what gets the next certificate, what does not, and what becomes of the old one.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::collections::BTreeSet;
use std::sync::Arc;

use common::elsewhere::reopen_with_keys;
use common::kur::*;
use common::ready::*;
use common::rows::{count, standing};
use common::stops::StopAt;
use common::*;
use tegata_authority::UnixMs;
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::ca::revocation::{FinalReason, Standing, Word};
use tegata_authority::profile::Profiles;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider as _};
use tegata_store::NoFaults;
use tegata_store::issuer::{CmpOutcome, Issuer};
use tegata_store::revocation::{Target, say};
use tegata_wire::cmp::{BodyKind, CertId, ProofOfPossession, RawBody, oid};
use tegata_wire::x509::{CertView, RawDer};

fn is_superseded(standing: Standing) -> bool {
    let reason = FinalReason::Superseded;
    matches!(standing, Standing::Revoked { reason: r, .. } if r == reason)
}

/// Sends a message and gives the certificate, or what was said instead.
fn ask(world: &mut World, message: &[u8], now: UnixMs) -> Result<Vec<u8>, String> {
    let answer = send(&world.ca, &mut world.rng, message, now);
    granted(&answer.body, &world.ca)
}

#[test]
fn a_certificate_renews_itself_and_the_old_one_serves_until_the_new_one_is_confirmed() {
    let (mut world, devices, current) = ready(1);
    let (device, old) = (&devices[0], &current[0]);
    let key = new_key(&mut world);
    let kur = old.sign(&Asked::kur(device, old, &key).body(), 2, None);
    let answer = send(&world.ca, &mut world.rng, &kur, day(100));
    let new = granted(&answer.body, &world.ca).unwrap();
    let (was, is) = (
        CertView::from_der(&old.der).unwrap(),
        CertView::from_der(&new).unwrap(),
    );
    assert_eq!((was.subject_der, was.san()), (is.subject_der, is.san()));
    assert_ne!(was.spki_der, is.spki_der);
    assert_eq!(is.spki_der, key.public_key().to_spki_der().unwrap());
    assert_eq!(is.not_after_secs, day(100).secs().0 + 365 * 86_400);
    assert!(
        standing(&world.ca, &old.der).is_good(),
        "until it is confirmed"
    );

    // The answer was lost: the same request gets the same certificate, in whatever transaction.
    let again = old.sign(&Asked::kur(device, old, &key).body(), 3, None);
    let again = send(&world.ca, &mut world.rng, &again, day(101));
    assert_eq!(granted(&again.body, &world.ca).unwrap(), new);

    // The confirmation, thrice: the old certificate had 264 days, more than the window of 30.
    let conf = old.conf(&again.body, &new, 3);
    for _ in 0..3 {
        let confirmed = send(&world.ca, &mut world.rng, &conf, day(101));
        assert_eq!(granted(&confirmed.body, &world.ca).unwrap_err(), "PkiConf");
        assert!(is_superseded(standing(&world.ca, &old.der)));
        assert!(standing(&world.ca, &new).is_good());
    }
    // pkiConf was lost and the TA begins again: what was answered is answered.
    let anew = old.sign(&Asked::kur(device, old, &key).body(), 4, None);
    let anew = send(&world.ca, &mut world.rng, &anew, day(102));
    assert_eq!(granted(&anew.body, &world.ca).unwrap(), new);
    let conf = old.conf(&anew.body, &new, 4);
    let confirmed = send(&world.ca, &mut world.rng, &conf, day(102));
    assert!(matches!(
        confirmed.outcome,
        CmpOutcome::Confirmed { accepted: true, .. }
    ));
    // And nothing new: its time is over.
    let other = new_key(&mut world);
    let late = old.sign(&Asked::kur(device, old, &other).body(), 5, None);
    let denied = ask(&mut world, &late, day(102)).unwrap_err();
    assert_eq!(denied, "Kup SIGNER_NOT_TRUSTED");
    assert_eq!(count(&world.ca), 2);
    // The new one goes on.
    let new = Current { key, der: new };
    let next = new_key(&mut world);
    let kur = new.sign(&Asked::kur(device, &new, &next).body(), 6, None);
    assert!(ask(&mut world, &kur, day(103)).is_ok());
}

#[test]
fn no_certificate_lasts_longer_than_the_release_of_the_ta_takes() {
    let (mut world, devices, current) = ready(1);
    let (device, old) = (&devices[0], &current[0]);
    let example = tegata_authority::profile::EXAMPLE;
    for (n, validity, expected) in [(2, "730d", 365), (3, "indefinite", 365), (4, "90d", 90)] {
        let text = example.replace("validity = \"365d\"", &format!("validity = \"{validity}\""));
        let text = match validity {
            "indefinite" => text.replacen("renewal_window = \"30d\"", "", 1),
            _ => text,
        };
        let role = role(&world.dir.path().join("ca.db"), Arc::new(NoFaults));
        let profiles = Profiles::parse(&text).unwrap();
        world.ca = Issuer::open(role, profiles, MacPolicy::default()).unwrap();
        let key = new_key(&mut world);
        let kur = old.sign(&Asked::kur(device, old, &key).body(), n, None);
        let new = ask(&mut world, &kur, day(10)).unwrap();
        let ends = CertView::from_der(&new).unwrap().not_after_secs;
        let expected = day(10).secs().0 + expected * 86_400;
        assert_eq!(ends, expected, "{validity}");
    }
}

/// The CA refused the certificate for a while, and the TA asks as its release: what is granted later takes
/// the place of the certificate that the request names, so there are not two.
#[test]
fn a_p10cr_in_place_of_a_certificate_supersedes_it() {
    let (mut world, devices, current) = ready(2);
    let (device, old) = (&devices[0], &current[0]);
    let key = new_key(&mut world);
    let csr = device.csr_in_place_of(&key, Some(&old.der));
    let answer = send(&world.ca, &mut world.rng, &device.p10cr(&csr, 2), day(100));
    let new = granted(&answer.body, &world.ca).unwrap();
    assert!(
        standing(&world.ca, &old.der).is_good(),
        "until it is confirmed"
    );
    let hash = world.ca.role().provider.sha256(&new);
    let conf = device.cert_conf(&answer.body, &hash, 2);
    let confirmed = send(&world.ca, &mut world.rng, &conf, day(100));
    assert_eq!(granted(&confirmed.body, &world.ca).unwrap_err(), "PkiConf");
    assert!(is_superseded(standing(&world.ca, &old.der)));
    assert!(standing(&world.ca, &new).is_good());

    // The TA has not heard of that one, and names the one before: it takes the place of what there is now.
    let csr = device.csr_in_place_of(&new_key(&mut world), Some(&old.der));
    let answer = send(&world.ca, &mut world.rng, &device.p10cr(&csr, 3), day(101));
    let third = granted(&answer.body, &world.ca).unwrap();
    assert!(standing(&world.ca, &new).is_good());
    let hash = world.ca.role().provider.sha256(&third);
    let conf = device.cert_conf(&answer.body, &hash, 3);
    send(&world.ca, &mut world.rng, &conf, day(101));
    assert!(is_superseded(standing(&world.ca, &new)));
    let new = third;
    // One that the CA does not have stands in nobody's way.
    let named = certificate_of_another_ca();
    let csr = device.csr_in_place_of(&new_key(&mut world), Some(&named));
    ask(&mut world, &device.p10cr(&csr, 4), day(101)).unwrap();
    assert!(standing(&world.ca, &new).is_good());
    // Another device's is not its to replace.
    let csr = device.csr_in_place_of(&new_key(&mut world), Some(&current[1].der));
    let denied = ask(&mut world, &device.p10cr(&csr, 5), day(101));
    assert_eq!(denied.unwrap_err(), "Cp BAD_CERT_ID");
    assert!(standing(&world.ca, &current[1].der).is_good());
}

/// A hold is the operator's to lift: nothing takes the place of what is on hold, asked for before or after.
#[test]
fn a_hold_of_the_certificate_that_is_named_is_not_got_round() {
    let (mut world, devices, current) = ready(1);
    let (device, old) = (&devices[0], &current[0]);
    let csr = device.csr_in_place_of(&new_key(&mut world), Some(&old.der));
    let asked = device.p10cr(&csr, 2);
    let answer = send(&world.ca, &mut world.rng, &asked, day(1));
    let new = granted(&answer.body, &world.ca).unwrap();
    let hash = world.ca.role().provider.sha256(&new);
    let conf = device.cert_conf(&answer.body, &hash, 2);
    let csr = device.csr_in_place_of(&new_key(&mut world), Some(&old.der));
    let fresh = device.p10cr(&csr, 3);
    let store = Arc::clone(&world.ca.role().store);
    let target = Target::Certificate(old.serial());
    say(&store, &target, Word::Hold, day(2).secs()).unwrap();
    for (message, told) in [
        (&asked, "Cp NOT_AUTHORIZED"),
        (&fresh, "Cp NOT_AUTHORIZED"),
        (&conf, "Error NOT_AUTHORIZED"),
    ] {
        assert_eq!(ask(&mut world, message, day(2)).unwrap_err(), told);
    }
    assert!(matches!(
        standing(&world.ca, &old.der),
        Standing::Held { .. }
    ));
    say(&store, &target, Word::Unhold, day(3).secs()).unwrap();
    assert_eq!(ask(&mut world, &asked, day(3)).unwrap(), new);
    let conf = send(&world.ca, &mut world.rng, &asked, day(3));
    let conf = device.cert_conf(&conf.body, &hash, 2);
    assert_eq!(ask(&mut world, &conf, day(3)).unwrap_err(), "PkiConf");
    assert!(is_superseded(standing(&world.ca, &old.der)));
}

/// A TA names what it accepted, and the CA may never have heard of that: what counts then is the
/// certificate that it was to follow.
#[test]
fn what_was_accepted_and_not_confirmed_stands_for_what_it_was_to_follow() {
    for word in [
        None,
        Some(Word::Hold),
        Some(Word::Revoke(FinalReason::KeyCompromise)),
    ] {
        let (mut world, devices, current) = ready(1);
        let (device, old) = (&devices[0], &current[0]);
        let csr = device.csr_in_place_of(&new_key(&mut world), Some(&old.der));
        let accepted = ask(&mut world, &device.p10cr(&csr, 2), day(1)).unwrap();
        if let Some(word) = word {
            let target = Target::Certificate(old.serial());
            say(&world.ca.role().store, &target, word, day(2).secs()).unwrap();
        }
        let csr = device.csr_in_place_of(&new_key(&mut world), Some(&accepted));
        let asked = device.p10cr(&csr, 3);
        let answer = send(&world.ca, &mut world.rng, &asked, day(3));
        let new = match (word, granted(&answer.body, &world.ca)) {
            (None, new) => new.unwrap(),
            // On hold; or revoked, and without evidence.
            (Some(_), denied) => {
                assert_eq!(denied.unwrap_err(), "Cp NOT_AUTHORIZED", "{word:?}");
                continue;
            }
        };
        let hash = world.ca.role().provider.sha256(&new);
        let conf = device.cert_conf(&answer.body, &hash, 3);
        assert_eq!(ask(&mut world, &conf, day(3)).unwrap_err(), "PkiConf");
        for before in [&old.der, &accepted] {
            assert!(is_superseded(standing(&world.ca, before)));
        }
        assert!(standing(&world.ca, &new).is_good());
    }
}

/// Evidence is asked of who names what has ended, whatever else of the profile serves.
#[test]
fn what_has_ended_is_followed_by_evidence_alone() {
    let (mut world, devices, current) = ready(1);
    let (device, old) = (&devices[0], &current[0]);
    // Another label of the same profile.
    let other = device.p10cr(&device.csr(&new_key(&mut world)), 2);
    let answer = send(&world.ca, &mut world.rng, &other, day(200));
    let der = granted(&answer.body, &world.ca).unwrap();
    let hash = world.ca.role().provider.sha256(&der);
    let conf = device.cert_conf(&answer.body, &hash, 2);
    send(&world.ca, &mut world.rng, &conf, day(200));
    let csr = device.csr_in_place_of(&new_key(&mut world), Some(&old.der));
    let denied = ask(&mut world, &device.p10cr(&csr, 3), day(380));
    assert_eq!(denied.unwrap_err(), "Cp NOT_AUTHORIZED");
    let beside = device.p10cr(&device.csr(&new_key(&mut world)), 4);
    ask(&mut world, &beside, day(380)).unwrap();
}

/// Of a CA of the same name whose serial numbers are others.
fn certificate_of_another_ca() -> Vec<u8> {
    ready_in(World::with(KeyAlg::P384), 1).2[0].der.clone()
}

#[test]
fn within_the_window_the_old_certificate_just_ends() {
    let (mut world, devices, current) = ready(1);
    let (device, old) = (&devices[0], &current[0]);
    let key = new_key(&mut world);
    let kur = old.sign(&Asked::kur(device, old, &key).body(), 2, None);
    let answer = send(&world.ca, &mut world.rng, &kur, day(340));
    let new = granted(&answer.body, &world.ca).unwrap();
    let conf = old.conf(&answer.body, &new, 2);
    send(&world.ca, &mut world.rng, &conf, day(340));
    assert!(standing(&world.ca, &old.der).is_good());
    assert!(standing(&world.ca, &new).is_good());
}

#[test]
fn what_was_answered_is_answered_although_the_old_certificate_expired() {
    let (mut world, devices, current) = ready(1);
    let (device, old) = (&devices[0], &current[0]);
    let key = new_key(&mut world);
    let kur = old.sign(&Asked::kur(device, old, &key).body(), 2, None);
    let new = ask(&mut world, &kur, day(360)).unwrap();
    // Off for weeks; then the same request, and its confirmation, by the expired certificate.
    let again = old.sign(&Asked::kur(device, old, &key).body(), 3, None);
    let answer = send(&world.ca, &mut world.rng, &again, day(400));
    assert_eq!(granted(&answer.body, &world.ca).unwrap(), new);
    let conf = old.conf(&answer.body, &new, 3);
    let confirmed = send(&world.ca, &mut world.rng, &conf, day(400));
    assert!(matches!(
        confirmed.outcome,
        CmpOutcome::Confirmed { accepted: true, .. }
    ));
    // Nothing new.
    let other = new_key(&mut world);
    let late = old.sign(&Asked::kur(device, old, &other).body(), 4, None);
    let denied = ask(&mut world, &late, day(400)).unwrap_err();
    assert_eq!(denied, "Kup SIGNER_NOT_TRUSTED");
    assert_eq!(count(&world.ca), 2);
}

#[test]
fn the_last_that_was_asked_for_stays_however_late_confirmations_come() {
    let (mut world, devices, current) = ready(1);
    let (device, old) = (&devices[0], &current[0]);
    let (given_up, kept) = (new_key(&mut world), new_key(&mut world));
    let mut asked = |key: &Arc<PrivateKey>, n: u8| {
        let kur = old.sign(&Asked::kur(device, old, key).body(), n, None);
        let answer = send(&world.ca, &mut world.rng, &kur, day(u64::from(n)));
        let new = granted(&answer.body, &world.ca).unwrap();
        (old.conf(&answer.body, &new, n), new)
    };
    let (first_conf, first) = asked(&given_up, 2);
    let (second_conf, second) = asked(&kept, 3);
    // The network held the first confirmation back.
    send(&world.ca, &mut world.rng, &second_conf, day(3));
    assert!(
        is_superseded(standing(&world.ca, &first)) && is_superseded(standing(&world.ca, &old.der))
    );
    send(&world.ca, &mut world.rng, &first_conf, day(3));
    assert!(standing(&world.ca, &second).is_good());
    assert!(is_superseded(standing(&world.ca, &first)));
}

#[test]
fn a_refused_certificate_is_taken_back_and_the_old_one_stays() {
    let (mut world, devices, current) = ready(1);
    let (device, old) = (&devices[0], &current[0]);
    let key = new_key(&mut world);
    let kur = old.sign(&Asked::kur(device, old, &key).body(), 2, None);
    let answer = send(&world.ca, &mut world.rng, &kur, day(9));
    let new = granted(&answer.body, &world.ca).unwrap();
    let failure = tegata_wire::cmp::PkiFailureInfo::INCORRECT_DATA;
    let hash = RustCrypto.sha256(&new);
    let body = RawBody::cert_conf_rejected(0, &hash, None, failure, "not what was ordered");
    let nonce = reread(&answer.body);
    let conf = old.sign(&body.unwrap(), 2, nonce.header().sender_nonce());
    let told = send(&world.ca, &mut world.rng, &conf, day(9));
    assert!(matches!(
        told.outcome,
        CmpOutcome::Confirmed {
            accepted: false,
            ..
        }
    ));
    assert!(!standing(&world.ca, &new).is_good());
    assert!(standing(&world.ca, &old.der).is_good());
}

#[test]
fn only_who_asked_may_confirm() {
    let (mut world, devices, current) = ready(1);
    let (device, old) = (&devices[0], &current[0]);
    let second = enrol(&mut world, device);
    let key = new_key(&mut world);
    let kur = old.sign(&Asked::kur(device, old, &key).body(), 2, None);
    let answer = send(&world.ca, &mut world.rng, &kur, day(9));
    let new = granted(&answer.body, &world.ca).unwrap();
    let conf = second.conf(&answer.body, &new, 2);
    let told = ask(&mut world, &conf, day(9)).unwrap_err();
    assert_eq!(told, "Error BAD_REQUEST");
    let conf = device.cert_conf(&answer.body, &RustCrypto.sha256(&new), 2);
    let told = ask(&mut world, &conf, day(9)).unwrap_err();
    assert_eq!(told, "Error BAD_REQUEST");
    assert!(standing(&world.ca, &old.der).is_good());
}

/// One row: how the message is made wrong, and what the peer is told.
type Wrong<'a> = (&'a str, Vec<u8>, &'a str);

#[test]
fn each_refusal() {
    let (mut world, devices, current) = ready(2);
    let (a, b) = (&devices[0], &devices[1]);
    let (old, of_b) = (&current[0], &current[1]);
    let key = new_key(&mut world);
    let stranger = new_key(&mut world);
    let good = Asked::kur(a, old, &key);
    let sign = |asked: &Asked| old.sign(&asked.body(), 2, None);
    let with = |change: &dyn Fn(&mut Asked)| {
        let mut asked = good.clone();
        change(&mut asked);
        sign(&asked)
    };
    let view = CertView::from_der(&old.der).unwrap();
    let subject = tegata_wire::x509::DistinguishedName::from_der(view.subject_der).unwrap();
    let kid = view.subject_key_id().unwrap().unwrap().to_vec();
    let as_sent = |sender, kid: &[u8], certificate: &[u8]| {
        old.sign_as(sender, Some(kid), certificate, &good.body(), 2, None)
    };
    let by_stranger = Current {
        key: Arc::clone(&stranger),
        der: old.der.clone(),
    };
    // The same device and names at another CA of the same name.
    let elsewhere = ready_in(World::with(KeyAlg::P384), 2);
    let mut altered = old.der.clone();
    let last = altered.len() - 1;
    altered[last] ^= 1;
    let popo = |popo: Option<ProofOfPossession>| old.sign(&good.body_with(popo), 2, None);
    let encipher = RawDer::from_bytes(&[0x80, 0x01, 0x00]).unwrap();
    let token_of = |device: &Device, der: &[u8], key| token(device, der, key);
    let reg = oid::REG_CTRL_REG_TOKEN;
    let old_id = oid::REG_CTRL_OLD_CERT_ID;
    let foreign_issuer = CertId::new(name("Another CA").as_der(), view.serial).unwrap();
    let unknown = CertId::new(view.issuer_der, &[0x12; 16]).unwrap();
    let whole = sign(&good);

    let rows: Vec<Wrong<'_>> = vec![
        // Who signs.
        (
            "wrong key",
            by_stranger.sign(&good.body(), 2, None),
            "Error BAD_MESSAGE_CHECK",
        ),
        (
            "altered body",
            alter_body(&whole),
            "Error BAD_MESSAGE_CHECK",
        ),
        (
            "another CA's certificate",
            elsewhere.2[0].sign(&good.body(), 2, None),
            "Error SIGNER_NOT_TRUSTED",
        ),
        (
            "altered certificate",
            as_sent(&subject, &kid, &altered),
            "Error SIGNER_NOT_TRUSTED",
        ),
        (
            "no certificate",
            as_sent(&subject, &kid, &[0x30, 0]),
            "Error SIGNER_NOT_TRUSTED",
        ),
        (
            "the CA's own certificate",
            as_sent(&subject, &kid, world.ca.issuing_certificate()),
            "Error SIGNER_NOT_TRUSTED",
        ),
        (
            "another sender",
            as_sent(&name("admin"), &kid, &old.der),
            "Error BAD_MESSAGE_CHECK",
        ),
        (
            "another senderKID",
            as_sent(&subject, &[1; 20], &old.der),
            "Error BAD_MESSAGE_CHECK",
        ),
        (
            "another's certificate",
            of_b.sign(&good.body(), 2, None),
            "Error BAD_MESSAGE_CHECK",
        ),
        // What the TA says of the new key.
        ("no token", with(&|k| k.without(reg)), "Kup NOT_AUTHORIZED"),
        (
            "no token at all",
            with(&|k| k.control(reg, &"hello".to_owned())),
            "Kup NOT_AUTHORIZED",
        ),
        (
            "another device's token",
            with(&|k| k.control(reg, &token_of(b, &old.der, &key))),
            "Error BAD_MESSAGE_CHECK",
        ),
        (
            "a token for another key",
            with(&|k| k.control(reg, &token_of(a, &old.der, &stranger))),
            "Error BAD_MESSAGE_CHECK",
        ),
        (
            "a token for another certificate",
            with(&|k| k.control(reg, &token_of(a, &of_b.der, &key))),
            "Error BAD_MESSAGE_CHECK",
        ),
        (
            "a token of a release that is not",
            with(&|k| {
                let text = token_of(a, &old.der, &key);
                k.control(reg, &format!("{}{}", "00".repeat(16), &text[32..]));
            }),
            "Error BAD_MESSAGE_CHECK",
        ),
        // The certificate to be updated.
        (
            "no oldCertId",
            with(&|k| k.without(old_id)),
            "Kup BAD_CERT_ID",
        ),
        (
            "unknown oldCertId",
            with(&|k| k.control(old_id, &unknown)),
            "Kup BAD_CERT_ID",
        ),
        (
            "foreign oldCertId",
            with(&|k| k.control(old_id, &foreign_issuer)),
            "Kup BAD_CERT_ID",
        ),
        (
            "another device's oldCertId",
            with(&|k| k.control(old_id, &cert_id(&of_b.der))),
            "Kup BAD_CERT_ID",
        ),
        // Possession of the new key.
        (
            "signed by another key",
            with(&|k| k.popo_key = Arc::clone(&stranger)),
            "Kup BAD_POP",
        ),
        ("no proof", popo(None), "Kup BAD_POP"),
        (
            "somebody's word",
            popo(Some(ProofOfPossession::RaVerified(der::asn1::Null))),
            "Kup BAD_POP",
        ),
        (
            "by encipherment",
            popo(Some(ProofOfPossession::KeyEncipherment(encipher.clone()))),
            "Kup BAD_POP",
        ),
        (
            "by agreement",
            popo(Some(ProofOfPossession::KeyAgreement(encipher))),
            "Kup BAD_POP",
        ),
        // The template.
        (
            "another device's names",
            with(&|k| {
                let theirs = Asked::kur(b, of_b, &key);
                k.request.cert_template = theirs.request.cert_template;
            }),
            "Kup BAD_CERT_TEMPLATE",
        ),
        (
            "a serial number",
            with(&|k| {
                let number = der::asn1::Int::new(&[1]).unwrap();
                k.request.cert_template.serial_number = Some(number);
            }),
            "Kup BAD_CERT_TEMPLATE",
        ),
        (
            "another issuer",
            with(&|k| {
                let issuer = der::Decode::from_der(name("Another CA").as_der()).unwrap();
                k.request.cert_template.issuer = Some(issuer);
            }),
            "Kup BAD_CERT_TEMPLATE",
        ),
        (
            "no key",
            with(&|k| k.request.cert_template.public_key = None),
            "Error BAD_MESSAGE_CHECK",
        ),
        (
            "certReqId 1",
            with(&|k| k.request.cert_req_id = 1),
            "Error BAD_DATA_FORMAT",
        ),
    ];
    let before = count(&world.ca);
    for (what, message, told) in rows {
        let got = ask(&mut world, &message, day(9)).expect_err(what);
        assert_eq!(got, told, "{what}");
        assert_eq!(count(&world.ca), before, "{what}: something was recorded");
    }
    // On another profile's path.
    let answer = world.ca.cmp("other", &whole, &mut world.rng, day(9));
    assert_eq!(
        granted(&answer.body, &world.ca).unwrap_err(),
        "Error BAD_REQUEST"
    );
    assert_eq!(count(&world.ca), before);
    assert!(ask(&mut world, &whole, day(9)).is_ok(), "the good one");
}

/// The same message with one bit of its body turned.
fn alter_body(message: &[u8]) -> Vec<u8> {
    let body = reread(message).body_der().to_vec();
    let at = message.windows(body.len()).position(|w| w == body).unwrap();
    let mut out = message.to_vec();
    // Within the signature of the proof of possession: the message still parses.
    out[at + body.len() - 3] ^= 1;
    out
}

#[test]
fn who_is_revoked_or_held_asks_for_nothing() {
    let (mut world, devices, current) = ready(2);
    for (n, word) in [Word::Revoke(FinalReason::KeyCompromise), Word::Hold]
        .into_iter()
        .enumerate()
    {
        let (device, old) = (&devices[n], &current[n]);
        let key = new_key(&mut world);
        let kur = old.sign(&Asked::kur(device, old, &key).body(), 2, None);
        let answer = send(&world.ca, &mut world.rng, &kur, day(1));
        let new = granted(&answer.body, &world.ca).unwrap();
        let target = Target::Certificate(old.serial());
        say(&world.ca.role().store, &target, word, day(2).secs()).unwrap();
        // Neither something new, nor what was asked before, nor a confirmation. A hold may be lifted: that is
        // no refusal for which a TA would give the request up, and ask for another one beside it.
        let refusal = match word {
            Word::Hold => "Error",
            _ => "Kup",
        };
        let other = new_key(&mut world);
        let fresh = old.sign(&Asked::kur(device, old, &other).body(), 3, None);
        for (message, kind) in [
            (&kur, refusal),
            (&fresh, refusal),
            (&old.conf(&answer.body, &new, 2), "Error"),
        ] {
            let told = ask(&mut world, message, day(3)).unwrap_err();
            assert_eq!(told, format!("{kind} CERT_REVOKED"));
        }
        if word == Word::Hold {
            say(&world.ca.role().store, &target, Word::Unhold, day(4).secs()).unwrap();
            assert_eq!(ask(&mut world, &kur, day(5)).unwrap(), new);
        }
    }
}

#[test]
fn a_cr_by_certificate_needs_a_profile_that_lets_it() {
    let (mut world, devices, current) = ready(1);
    let key = new_key(&mut world);
    let cr = current[0].sign(&Asked::cr(&key).body(), 2, None);
    assert_eq!(
        ask(&mut world, &cr, day(1)).unwrap_err(),
        "Cp NOT_AUTHORIZED"
    );
    let mut ir = Asked::cr(&key);
    ir.kind = BodyKind::Ir;
    let ir = current[0].sign(&ir.body(), 2, None);
    assert_eq!(
        ask(&mut world, &ir, day(1)).unwrap_err(),
        "Ip NOT_AUTHORIZED"
    );
    // oldCertId has no place in a cr.
    let mut kur = Asked::kur(&devices[0], &current[0], &key);
    kur.kind = BodyKind::Cr;
    let message = current[0].sign(&kur.body(), 2, None);
    assert_eq!(
        ask(&mut world, &message, day(1)).unwrap_err(),
        "Cp BAD_CERT_ID"
    );
}

#[test]
fn renewal_survives_a_stop_at_every_step() {
    // Certificate and confirmation, each before and after.
    survives_stops(true, 4);
    // Intend, record and confirm.
    survives_stops(false, 6);
}

/// Stops a renewal at each of so many points, with keys that are in this process or elsewhere.
fn survives_stops(in_process: bool, points: usize) {
    let (mut world, devices, mut current) = ready(1);
    let device = &devices[0];
    let mut stopped_at = BTreeSet::new();
    for at in 0..=points {
        let old = current.remove(0);
        let key = new_key(&mut world);
        let body = Asked::kur(device, &old, &key).body();
        let now = day(10 + u64::try_from(at).unwrap());
        let faults = StopAt::new(at);
        reopen_with_keys(&mut world, faults.clone(), in_process);
        let kur = old.sign(&body, 2, None);
        let mut seen: BTreeSet<Vec<u8>> = BTreeSet::new();
        let answer = send(&world.ca, &mut world.rng, &kur, now);
        if let Ok(new) = granted(&answer.body, &world.ca) {
            let conf = old.conf(&answer.body, &new, 2);
            send(&world.ca, &mut world.rng, &conf, now);
            seen.insert(new);
        }
        if faults.stopped() {
            stopped_at.insert(at);
        }
        // Another process; the device begins again, whatever it had.
        world.reopen_ca(Arc::new(NoFaults));
        let kur = old.sign(&body, 3, None);
        let answer = send(&world.ca, &mut world.rng, &kur, now);
        let new = granted(&answer.body, &world.ca).unwrap();
        seen.insert(new.clone());
        let conf = old.conf(&answer.body, &new, 3);
        let told = send(&world.ca, &mut world.rng, &conf, now);
        assert!(matches!(
            told.outcome,
            CmpOutcome::Confirmed { accepted: true, .. }
        ));
        assert_eq!(seen.len(), 1, "step {at}");
        assert!(is_superseded(standing(&world.ca, &old.der)), "step {at}");
        assert!(standing(&world.ca, &new).is_good());
        current.push(Current { key, der: new });
    }
    assert_eq!(stopped_at, (0..points).collect());
    assert_eq!(count(&world.ca), points + 2);
}
