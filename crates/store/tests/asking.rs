//! Requests by who has no TA: enrolment secrets, revocation, questions, and what awaits an operator.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // Helpers of tests.

mod common;

use std::sync::Arc;

use common::kur::*;
use common::rolled::next;
use common::rows::{count, standing};
use common::secrets::{Client, PROFILES, told};
use common::*;
use tegata_authority::UnixMs;
use tegata_authority::ca::cmp::{MacPolicy, Operation};
use tegata_authority::ca::revocation::{FinalReason, Standing, Word};
use tegata_authority::profile::Profiles;
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider as _};
use tegata_store::approval::{self, WAITING_MAX};
use tegata_store::generation::{Generations, Kind, roll_over};
use tegata_store::issuer::{CmpOutcome, CmpPath, Issuer};
use tegata_store::revocation::{Target, say};
use tegata_store::secret;
use tegata_store::status::{Published, Scope, StatusServer};
use tegata_store::{NoFaults, StoreError, certificate};
use tegata_wire::cmp::{
    BodyKind, CertTemplate, HashAlg, InfoTypeAndValue, MessageToProtect, PbmParameter,
    Pbmac1Parameter, PkiBody, PkiFailureInfo, PkiHeader, PollReqEntry, ProtectionAlg, RawBody,
    null_dn, oid,
};
use tegata_wire::ids::Ueid;
use tegata_wire::x509::{CertView, List, RawDer};

fn ready(count: usize) -> (World, Vec<Ueid>) {
    let mut world = World::new();
    let devices = world.batch("B1", count);
    open(&mut world);
    (world, devices.iter().map(|d| d.identity.ueid).collect())
}

fn open(world: &mut World) {
    open_with(world, PROFILES);
}

fn open_with(world: &mut World, profiles: &str) {
    let role = role(&world.dir.path().join("ca.db"), Arc::new(NoFaults));
    let profiles = Profiles::parse(profiles).unwrap();
    world.ca = Issuer::open(role, profiles, MacPolicy::default()).unwrap();
}

fn at(secs: u64) -> UnixMs {
    UnixMs(NOW.0 + secs * 1000)
}

fn key(world: &mut World) -> Arc<PrivateKey> {
    Arc::new(PrivateKey::generate(KeyAlg::P256, &mut world.rng).unwrap())
}

/// Enrols and confirms by secret.
fn enrol(world: &mut World, client: &Client, n: u8, now: UnixMs) -> Current {
    let key = key(world);
    let message = client.message(&Asked::cr(&key).body(), n, None);
    let answer = client.send(world, &message, now);
    let der = told(&answer.body, Some(&client.text), &world.ca).unwrap();
    let body = RawBody::cert_conf(0, &RustCrypto.sha256(&der), None).unwrap();
    let nonce = reread(&answer.body)
        .header()
        .sender_nonce()
        .unwrap()
        .to_vec();
    let conf = client.message(&body, n, Some(&nonce));
    let confirmed = client.send(world, &conf, now);
    assert!(matches!(
        confirmed.outcome,
        CmpOutcome::Confirmed { accepted: true, .. }
    ));
    assert_eq!(
        told(&confirmed.body, Some(&client.text), &world.ca).unwrap_err(),
        "PkiConf"
    );
    Current { key, der }
}

#[test]
fn a_secret_gives_what_its_profile_says_as_often_as_its_uses() {
    let (mut world, devices) = ready(1);
    let client = Client::new(world.ca.role(), &mut world.rng, devices[0], "open", 2);
    let first = enrol(&mut world, &client, 1, at(1));
    let view = CertView::from_der(&first.der).unwrap();
    assert!(!view.subject_der.is_empty() && !view.san().unwrap().is_empty());
    let row = world
        .ca
        .role()
        .store
        .read("t", |tx| certificate::find(tx, view.serial));
    assert_eq!(row.unwrap().unwrap().intent.release, None);
    // The same request again takes no use, not even when they are over.
    let again = client.message(&Asked::cr(&first.key).body(), 2, None);
    for _ in 0..3 {
        assert_eq!(client.ask(&mut world, &again, at(2)).unwrap(), first.der);
    }
    enrol(&mut world, &client, 3, at(3));
    let third = key(&mut world);
    let more = client.message(&Asked::cr(&third).body(), 4, None);
    assert_eq!(
        client.ask(&mut world, &more, at(4)).unwrap_err(),
        "Cp NOT_AUTHORIZED"
    );
    assert_eq!(client.ask(&mut world, &again, at(4)).unwrap(), first.der);
    let rows = world.ca.role().store.read("t", secret::list).unwrap();
    assert_eq!((rows[0].used, rows[0].uses), (2, 2));
    assert_eq!(count(&world.ca), 2);
    // Its time is over.
    let late = Client::new(world.ca.role(), &mut world.rng, devices[0], "open", 9);
    let message = late.message(&Asked::cr(&third).body(), 5, None);
    assert_eq!(
        late.ask(&mut world, &message, at(1_000_001)).unwrap_err(),
        "Cp NOT_AUTHORIZED"
    );
    // Removed: nobody.
    let store = &world.ca.role().store;
    let removed: Result<bool, StoreError> = store.run_tx("t", |tx| secret::remove(tx, &late.id));
    assert!(removed.unwrap());
    assert_eq!(
        late.ask(&mut world, &message, at(1)).unwrap_err(),
        "Error BAD_MESSAGE_CHECK"
    );
    assert_eq!(count(&world.ca), 2);
}

#[test]
fn every_mac_that_programs_use_is_taken_and_given_back() {
    let (mut world, devices) = ready(1);
    let mut client = Client::new(world.ca.role(), &mut world.rng, devices[0], "open", 9);
    let algs = [
        ProtectionAlg::HMAC_SHA256,
        ProtectionAlg::PasswordBasedMac(PbmParameter {
            salt: vec![1; 16],
            owf: HashAlg::Sha256,
            iterations: 500,
            mac: HashAlg::Sha1,
        }),
        ProtectionAlg::Pbmac1(Pbmac1Parameter {
            salt: vec![2; 16],
            iterations: 2048,
            key_len: 32,
            prf: HashAlg::Sha256,
            mac: HashAlg::Sha256,
        }),
    ];
    for (n, alg) in (1u8..).zip(algs) {
        client.alg = alg.clone();
        let key = key(&mut world);
        let message = client.message(&Asked::cr(&key).body(), n, None);
        let answer = client.send(&mut world, &message, at(1));
        assert!(
            told(&answer.body, Some(&client.text), &world.ca).is_ok(),
            "{alg:?}"
        );
        let header = reread(&answer.body).header().clone();
        let back = header.protection().unwrap().unwrap();
        assert_eq!(std::mem::discriminant(&back), std::mem::discriminant(&alg));
        let direct = alg == ProtectionAlg::HMAC_SHA256;
        assert_eq!(back == alg, direct, "the salt is the CA's own");
        assert_eq!(header.sender_kid(), Some(client.id.as_bytes()));
        // Altered anywhere: no certificate.
        for n in [0, 40] {
            let altered = turned(&message, n);
            let said = world.ca.cmp("open", &altered, &mut world.rng, at(1));
            assert!(matches!(said.outcome, CmpOutcome::Denied(_)));
        }
    }
    // Longer than the CA works for anybody, whether it knows them or not.
    for known in [true, false] {
        if !known {
            client.id = "0123456789ab".into();
        }
        for (alg, limit) in dear() {
            client.alg = alg;
            let key = key(&mut world);
            let message = client.message(&Asked::cr(&key).body(), 9, None);
            let said = client.ask(&mut world, &message, at(1)).err();
            let wrong = (!known).then(|| "Error BAD_MESSAGE_CHECK".to_owned());
            assert_eq!(said, wrong, "{limit}");
            let limit = &u32::to_be_bytes(limit)[2..];
            let place = message.windows(2).position(|w| w == limit).unwrap();
            let mut above = message.clone();
            above[place + 1] += 1;
            assert_eq!(
                client.ask(&mut world, &above, at(1)).unwrap_err(),
                "Error BAD_ALG"
            );
        }
    }
}

/// MACs that are as much work as the CA does for a password, and their rounds.
fn dear() -> [(ProtectionAlg, u32); 2] {
    let (sha1, salt) = (HashAlg::Sha1, vec![1; 16]);
    let one = PbmParameter {
        salt: salt.clone(),
        owf: HashAlg::Sha256,
        iterations: 10_000,
        mac: sha1,
    };
    let four_blocks = Pbmac1Parameter {
        salt,
        iterations: 2_500,
        key_len: 64,
        prf: sha1,
        mac: HashAlg::Sha256,
    };
    [
        (ProtectionAlg::PasswordBasedMac(one), 10_000),
        (ProtectionAlg::Pbmac1(four_blocks), 2_500),
    ]
}

#[test]
fn a_secret_of_a_profile_that_takes_none_is_nobodys() {
    let (mut world, devices) = ready(1);
    let client = Client::new(world.ca.role(), &mut world.rng, devices[0], "open", 1);
    let key = key(&mut world);
    let message = client.message(&Asked::cr(&key).body(), 1, None);
    let closed = PROFILES.replacen(r#"["secret", "certificate"]"#, r#"["certificate"]"#, 1);
    open_with(&mut world, &closed);
    let said = client.ask(&mut world, &message, at(1)).unwrap_err();
    assert_eq!(said, "Error BAD_MESSAGE_CHECK");
    open(&mut world);
    assert!(client.ask(&mut world, &message, at(1)).is_ok());
}

#[test]
fn what_a_secret_does_not_give() {
    let (mut world, devices) = ready(2);
    let client = Client::new(world.ca.role(), &mut world.rng, devices[0], "open", 9);
    let key = key(&mut world);
    let before = count(&world.ca);
    let good = Asked::cr(&key);
    let with = |change: &dyn Fn(&mut CertTemplate)| {
        let mut asked = good.clone();
        change(&mut asked.request.cert_template);
        client.message(&asked.body(), 1, None)
    };
    let wrong = Client {
        text: b"0123456789abcdef0123456789abcdef".to_vec(),
        id: client.id.clone(),
        ..Client::new(world.ca.role(), &mut world.rng, devices[0], "open", 1)
    };
    let nobody = Client {
        id: "0123456789ab".into(),
        ..Client::new(world.ca.role(), &mut world.rng, devices[0], "open", 1)
    };
    let whole = client.message(&good.body(), 1, None);
    let none = client.message(&good.body_with(None), 1, None);
    for (message, told_him) in [
        (
            wrong.message(&good.body(), 1, None),
            "Error BAD_MESSAGE_CHECK",
        ),
        (
            nobody.message(&good.body(), 1, None),
            "Error BAD_MESSAGE_CHECK",
        ),
        (none, "Cp BAD_POP"),
        (
            with(&|t| t.subject = Some(der::Decode::from_der(name("admin").as_der()).unwrap())),
            "Cp BAD_CERT_TEMPLATE",
        ),
        (with(&|t| t.public_key = None), "Cp BAD_CERT_TEMPLATE"),
    ] {
        assert_eq!(
            client.ask(&mut world, &message, at(1)).unwrap_err(),
            told_him
        );
    }
    // Another profile, whether the path says it or the header.
    let answer = world.ca.cmp("other", &whole, &mut world.rng, at(1));
    assert_eq!(
        told(&answer.body, Some(&client.text), &world.ca).unwrap_err(),
        "Error BAD_REQUEST"
    );
    // A row whose parts were exchanged does not open: the text of one under the id of another.
    let other = Client::new(world.ca.role(), &mut world.rng, devices[1], "open", 1);
    Sql::open(&world.dir.path().join("ca.db")).run(&format!(
        "UPDATE enrolment_secret SET sealed = (SELECT sealed FROM enrolment_secret \
         WHERE id = '{}') WHERE id = '{}'",
        client.id, other.id
    ));
    let forged = Client {
        id: other.id.clone(),
        text: client.text.clone(),
        ..Client::new(world.ca.role(), &mut world.rng, devices[0], "open", 1)
    };
    let message = forged.message(&good.body(), 2, None);
    let said = world.ca.cmp("open", &message, &mut world.rng, at(1));
    assert_eq!(
        told(&said.body, None, &world.ca).unwrap_err(),
        "Error SYSTEM_FAILURE"
    );
    assert_eq!(count(&world.ca), before);
    assert!(client.ask(&mut world, &whole, at(1)).is_ok());
}

#[test]
fn a_device_takes_back_its_own_certificates_and_nobody_elses() {
    let (mut world, devices) = ready(2);
    let (a, b) = (
        Client::new(world.ca.role(), &mut world.rng, devices[0], "open", 9),
        Client::new(world.ca.role(), &mut world.rng, devices[1], "open", 9),
    );
    let mine = enrol(&mut world, &a, 1, at(1));
    let also_mine = enrol(&mut world, &a, 2, at(1));
    let theirs = enrol(&mut world, &b, 3, at(1));
    let send = |world: &mut World, message: &[u8], now| {
        let answer = world.ca.cmp("open", message, &mut world.rng, now);
        told(&answer.body, Some(&a.text), &world.ca)
    };
    // A hold, its end, others' reasons; another device's; nobody's; by MAC.
    let unknown = {
        let mut body = rr(&mine.der, None);
        if let PkiBody::Rr(list) = body.decode().unwrap() {
            let mut details = list.into_vec().remove(0);
            details.cert_details.serial_number = Some(der::asn1::Int::new(&[9]).unwrap());
            body = PkiBody::Rr(List::one(details)).to_raw().unwrap();
        }
        body
    };
    for (body, said) in [
        (rr(&also_mine.der, Some(6)), "Rp BAD_REQUEST"),
        (rr(&also_mine.der, Some(8)), "Rp BAD_REQUEST"),
        (rr(&also_mine.der, Some(2)), "Rp BAD_REQUEST"),
        (rr(&also_mine.der, Some(77)), "Rp BAD_REQUEST"),
        (rr(&theirs.der, Some(1)), "Rp BAD_CERT_ID"),
        (unknown, "Rp BAD_CERT_ID"),
    ] {
        let told = send(&mut world, &mine.sign(&body, 4, None), at(2)).unwrap_err();
        assert_eq!(told, said);
    }
    let by_mac = a.message(&rr(&mine.der, None), 4, None);
    assert_eq!(
        send(&mut world, &by_mac, at(2)).unwrap_err(),
        "Error WRONG_INTEGRITY"
    );
    for current in [&mine, &also_mine, &theirs] {
        assert!(standing(&world.ca, &current.der).is_good());
    }
    // Another one of the device's, twice; then the one that signs, twice, the reason of the first.
    for _ in 0..2 {
        let message = mine.sign(&rr(&also_mine.der, Some(5)), 5, None);
        assert_eq!(
            send(&mut world, &message, at(3)).unwrap(),
            also_mine.serial()
        );
    }
    for (reason, now) in [(Some(1), at(4)), (Some(0), at(5))] {
        let message = mine.sign(&rr(&mine.der, reason), 6, None);
        assert_eq!(send(&mut world, &message, now).unwrap(), mine.serial());
        let last = Standing::Revoked {
            since: at(4).secs(),
            reason: FinalReason::KeyCompromise,
        };
        assert_eq!(standing(&world.ca, &mine.der), last);
    }
    // Who is revoked takes nothing else back, and who is on hold nothing at all.
    let third = enrol(&mut world, &a, 7, at(6));
    let message = mine.sign(&rr(&third.der, None), 8, None);
    assert_eq!(
        send(&mut world, &message, at(7)).unwrap_err(),
        "Rp SIGNER_NOT_TRUSTED"
    );
    let held = Target::Certificate(third.serial());
    say(&world.ca.role().store, &held, Word::Hold, at(8).secs()).unwrap();
    let message = third.sign(&rr(&third.der, None), 9, None);
    assert_eq!(
        send(&mut world, &message, at(9)).unwrap_err(),
        "Error CERT_REVOKED"
    );
    say(&world.ca.role().store, &held, Word::Unhold, at(9).secs()).unwrap();
    // So is one that has expired.
    let fourth = enrol(&mut world, &a, 10, at(10));
    let message = fourth.sign(&rr(&fourth.der, None), 11, None);
    let late = at(366 * 86_400);
    assert_eq!(
        send(&mut world, &message, late).unwrap_err(),
        "Rp SIGNER_NOT_TRUSTED"
    );
}

/// The weakest certificate of a device has no say over those that TAs, or an operator, stand for.
#[test]
fn a_certificate_revokes_others_only_where_certificates_may_ask() {
    let (mut world, devices) = ready(1);
    let [open, other] =
        ["open", "other"].map(|p| Client::new(world.ca.role(), &mut world.rng, devices[0], p, 9));
    let weak = enrol(&mut world, &open, 1, at(1));
    let also_weak = enrol(&mut world, &open, 2, at(1));
    let strong = enrol(&mut world, &other, 3, at(1));
    let also_strong = enrol(&mut world, &other, 4, at(1));
    let send = |world: &mut World, message: &[u8]| {
        let answer = world.ca.cmp("open", message, &mut world.rng, at(2));
        told(&answer.body, None, &world.ca)
    };
    for signer in [&weak, &also_strong] {
        let message = signer.sign(&rr(&strong.der, Some(1)), 5, None);
        let said = send(&mut world, &message).unwrap_err();
        assert_eq!(said, "Rp NOT_AUTHORIZED");
        assert!(standing(&world.ca, &strong.der).is_good());
    }
    for (signer, named) in [(&strong, &also_weak), (&strong, &strong), (&weak, &weak)] {
        let message = signer.sign(&rr(&named.der, Some(1)), 6, None);
        assert_eq!(send(&mut world, &message).unwrap(), named.serial());
        assert!(!standing(&world.ca, &named.der).is_good());
    }
}

fn genm(items: Vec<InfoTypeAndValue>) -> RawBody {
    PkiBody::Genm(List::new(items).unwrap()).to_raw().unwrap()
}

fn question(info_type: der::asn1::ObjectIdentifier) -> InfoTypeAndValue {
    InfoTypeAndValue {
        info_type,
        info_value: None,
    }
}

/// A genm that nobody protected.
fn in_the_open(body: &RawBody) -> Vec<u8> {
    let header = PkiHeader::new(null_dn(), null_dn())
        .with_transaction_id(&[7; 16])
        .and_then(|h| h.with_sender_nonce(&[8; 16]))
        .unwrap();
    let message = MessageToProtect::new(&header, body).unwrap();
    message.into_der(None, &[]).unwrap()
}

#[test]
fn questions_are_answered_and_nothing_else_is_in_the_open() {
    let (mut world, devices) = ready(1);
    let client = Client::new(world.ca.role(), &mut world.rng, devices[0], "open", 9);
    let infos = |world: &mut World, message: &[u8]| {
        let answer = world.ca.cmp("open", message, &mut world.rng, at(1));
        let text = told(&answer.body, Some(&client.text), &world.ca).unwrap_err();
        let message = reread(&answer.body);
        message.body().infos().map_err(|_| text)
    };
    let asked = genm(vec![question(oid::IT_CA_CERTS)]);
    for message in [in_the_open(&asked), client.message(&asked, 1, None)] {
        let infos = infos(&mut world, &message).unwrap();
        assert_eq!(infos[0].info_type, oid::IT_CA_CERTS);
        let certs: List<RawDer, 4> = infos[0].info_value.as_ref().unwrap().decode_as().unwrap();
        assert_eq!(certs[0].as_bytes(), world.ca.issuing_certificate());
    }
    let asked = genm(vec![question(oid::IT_ROOT_CA_CERT)]);
    let answered = infos(&mut world, &in_the_open(&asked)).unwrap();
    assert_eq!(answered[0], question(oid::IT_ROOT_CA_KEY_UPDATE));
    // The template: of the device that asks; in the open nothing of anybody.
    let asked = genm(vec![question(oid::IT_CERT_REQ_TEMPLATE)]);
    let answered = infos(&mut world, &in_the_open(&asked)).unwrap();
    assert_eq!(answered[0], question(oid::IT_CERT_REQ_TEMPLATE));
    let answered = infos(&mut world, &client.message(&asked, 1, None)).unwrap();
    let value = answered[0].info_value.clone().unwrap();
    let key = key(&mut world);
    let mut request = Asked::cr(&key);
    let template: CertTemplate = first_of(&value).decode_as().unwrap();
    request.request.cert_template = CertTemplate {
        public_key: request.request.cert_template.public_key,
        ..template
    };
    // Who asks for what the template says gets it.
    let message = client.message(&request.body(), 2, None);
    assert!(client.ask(&mut world, &message, at(1)).is_ok());

    let nothing = infos(&mut world, &in_the_open(&genm(vec![]))).unwrap();
    assert!(nothing.is_empty());
    for items in [
        vec![question(oid::IT_CA_CERTS), question(oid::IT_ROOT_CA_CERT)],
        vec![question(oid::SHA256)],
        vec![question(oid::IT_CRL_STATUS_LIST)],
    ] {
        let said = infos(&mut world, &in_the_open(&genm(items))).unwrap_err();
        assert_eq!(said, "Error BAD_REQUEST");
    }
    // Nothing but questions; and a protection that is there must be right.
    let cr = in_the_open(&Asked::cr(&key).body());
    assert_eq!(
        client.ask(&mut world, &cr, at(1)).unwrap_err(),
        "Error BAD_MESSAGE_CHECK"
    );
    let altered = turned(&client.message(&asked, 1, None), 0);
    assert_eq!(
        infos(&mut world, &altered).unwrap_err(),
        "Error BAD_MESSAGE_CHECK"
    );
}

fn tlv(tag: u8, contents: &[u8]) -> Vec<u8> {
    let len = u8::try_from(contents.len()).unwrap();
    match len {
        0..=0x7f => [&[tag, len], contents].concat(),
        _ => [&[tag, 0x81, len], contents].concat(),
    }
}

/// Where somebody has a list from.
#[derive(Clone, Copy)]
enum Had<'a> {
    Url(&'a str),
    /// DER of a name.
    Issuer(&'a [u8]),
}

/// A crlStatusList with one entry: where a list is from, and its thisUpdate.
fn crl_status(from: Had<'_>, this_update: Option<&str>) -> InfoTypeAndValue {
    let source = match from {
        Had::Url(url) => tlv(0xa0, &tlv(0xa0, &tlv(0x86, url.as_bytes()))),
        Had::Issuer(name) => tlv(0xa1, &tlv(0x30, &tlv(0xa4, name))),
    };
    let time = this_update.map_or(Vec::new(), |t| tlv(0x17, t.as_bytes()));
    let list = tlv(0x30, &tlv(0x30, &[source, time].concat()));
    InfoTypeAndValue {
        info_type: oid::IT_CRL_STATUS_LIST,
        info_value: Some(RawDer::from_bytes(&list).unwrap()),
    }
}

#[test]
fn who_has_an_old_list_gets_the_new_one() {
    let (mut world, _) = ready(1);
    let ca = world.ca;
    world.ca = {
        let role = role(&world.dir.path().join("ca.db"), Arc::new(NoFaults));
        Issuer::open(
            role,
            Profiles::parse(PROFILES).unwrap(),
            MacPolicy::default(),
        )
        .unwrap()
    };
    let operator = ca.role().clone();
    let lists = StatusServer::new(Arc::new(ca));
    let list = |issuer: Option<&str>, scope, now| match issuer {
        Some(id) => lists.list_of(id, scope, false, now),
        None => lists.list(scope, false, now),
    };
    let path = CmpPath {
        profile: "open",
        operation: Some(Operation::GetCrls),
    };
    let present = world.ca.generations().unwrap();
    let by = present.newest();
    let us = Had::Issuer(by.ca.name.as_der());
    let crl = lists.list(Scope::Full, false, SECS).unwrap();
    let mut asked = |item: InfoTypeAndValue| {
        let message = in_the_open(&genm(vec![item]));
        let answer = world.ca.cmp_at(path, &message, &mut world.rng, NOW, &list);
        let infos = reread(&answer.body).body().infos().unwrap();
        let value = infos[0].info_value.clone();
        value.map(|v| first_of_one(&v).as_bytes().to_vec())
    };
    // NOW is 2026-11-18T11:06:40Z.
    for old in [None, Some("261118110639Z")] {
        assert_eq!(asked(crl_status(us, old)), Some(crl.der.clone()), "{old:?}");
    }
    assert_eq!(
        asked(crl_status(us, Some("261118110640Z"))),
        None,
        "it is the newest"
    );
    let ours = format!("http://ca.example/crl/{}/full.crl", by.id);
    assert_eq!(
        asked(crl_status(Had::Url(&ours), None)),
        Some(crl.der.clone())
    );
    // No list of ours: another one would not tell of what that one does.
    for none in [
        "http://elsewhere.example/x.crl".to_owned(),
        "http://ca.example/crl/aa/full.crl".to_owned(),
        format!("http://ca.example/crl/{}/99.crl", by.id),
        format!("http://ca.example/crl/{}/x.crl", by.id),
        "full.crl".to_owned(),
    ] {
        assert_eq!(asked(crl_status(Had::Url(&none), None)), None, "{none}");
    }
    assert_eq!(
        asked(crl_status(Had::Issuer(name("CA").as_der()), None)),
        None
    );
    // After a rollover each has its own, and who holds one is not told of the other.
    let old = (by.ca.name.as_der(), &ours);
    roll_over(&operator, next(2, Kind::Issuing), &mut Seeded(7), SECS).unwrap();
    let after = Generations::load(&operator).unwrap();
    let new = after.newest();
    let new_url = format!("http://ca.example/crl/{}/full.crl", new.id);
    for ((name, url), id) in [(old, &by.id), ((new.ca.name.as_der(), &new_url), &new.id)] {
        let list = lists.list_of(id, Scope::Full, false, SECS).unwrap();
        for had in [Had::Issuer(name), Had::Url(url)] {
            assert_eq!(asked(crl_status(had, None)).as_ref(), Some(&list.der));
            assert_eq!(asked(crl_status(had, Some("261118110640Z"))), None);
        }
    }
    assert_eq!(asked(question(oid::IT_CURRENT_CRL)).map(|_| ()), Some(()));
}

/// Anybody may ask for lists: each is sent once, and what no message has room for is never put
/// together.
#[test]
fn lists_that_no_message_has_room_for_are_refused_in_words() {
    let (mut world, _) = ready(1);
    let path = CmpPath {
        profile: "open",
        operation: None,
    };
    let issuer_name = {
        let present = world.ca.generations().unwrap();
        present.newest().ca.name.as_der().to_vec()
    };
    let mut asked = |len: u16, items: Vec<InfoTypeAndValue>| {
        let [high, low] = len.to_be_bytes();
        let mut der = vec![0x30, 0x82, high, low];
        der.resize(4 + usize::from(len), 0);
        let list = Arc::new(Published::new(&RustCrypto, der, (SECS, SECS, SECS)));
        let message = in_the_open(&genm(items));
        let lists = |_: Option<&str>, _, _| Ok(Arc::clone(&list));
        let answer = world.ca.cmp_at(path, &message, &mut world.rng, NOW, &lists);
        let text = told(&answer.body, None, &world.ca).unwrap_err();
        let infos = reread(&answer.body).body().infos().map_err(|_| text)?;
        Ok::<_, String>(infos[0].info_value.as_ref().unwrap().contents().len())
    };
    let twice = {
        let us = issuer_name.clone();
        let one = crl_status(Had::Issuer(&us), None).info_value.unwrap();
        let both = [one.contents(), one.contents()].concat();
        InfoTypeAndValue {
            info_type: oid::IT_CRL_STATUS_LIST,
            info_value: Some(RawDer::from_bytes(&tlv(0x30, &both)).unwrap()),
        }
    };
    let whole = question(oid::IT_CURRENT_CRL);
    assert_eq!(asked(40_000, vec![twice.clone()]), Ok(40_004), "sent once");
    assert_eq!(asked(40_000, vec![whole.clone()]), Ok(40_000));
    for item in [twice, whole] {
        let said = asked(49_200, vec![item]).unwrap_err();
        assert_eq!(said, "Error BAD_REQUEST");
    }
}

/// The one element of a SEQUENCE OF, or the first of a list's.
fn first_of_one(value: &RawDer) -> RawDer {
    use der::{Decode as _, Reader as _};
    let mut reader = der::SliceReader::new(value.contents()).unwrap();
    let first = RawDer::decode(&mut reader).unwrap();
    let _ = reader.is_finished();
    first
}

/// The first element of a SEQUENCE.
fn first_of(value: &RawDer) -> RawDer {
    use der::{Decode as _, Reader as _};
    let contents = value.contents();
    let mut reader = der::SliceReader::new(contents).unwrap();
    let first = RawDer::decode(&mut reader).unwrap();
    assert!(!reader.is_finished());
    first
}

fn poll(id: i64) -> RawBody {
    let entry = PollReqEntry { cert_req_id: id };
    PkiBody::PollReq(List::one(entry)).to_raw().unwrap()
}

#[test]
fn an_operator_decides_and_the_client_hears_it_by_polling() {
    let (mut world, devices) = ready(2);
    let client = Client::new(world.ca.role(), &mut world.rng, devices[0], "guarded", 9);
    let other = Client::new(world.ca.role(), &mut world.rng, devices[0], "guarded", 9);
    let key_ = key(&mut world);
    let asked = client.message(&Asked::cr(&key_).body(), 1, None);
    let ask = client.message(&poll(0), 1, None);
    for _ in 0..2 {
        assert_eq!(
            client.ask(&mut world, &asked, at(1)).unwrap_err(),
            "Cp waiting"
        );
        let said = client.ask(&mut world, &ask, at(2)).unwrap_err();
        assert!(said.starts_with("PollRep"), "{said}");
    }
    assert_eq!(count(&world.ca), 0);
    // Another secret of the same device, and another transaction, hear nothing of it.
    let said = other.ask(&mut world, &other.message(&poll(0), 1, None), at(2));
    assert_eq!(said.unwrap_err(), "Error BAD_REQUEST");
    let said = client.ask(&mut world, &client.message(&poll(0), 2, None), at(2));
    assert_eq!(said.unwrap_err(), "Error BAD_REQUEST");

    let decide = |world: &World, approved| {
        let store = &world.ca.role().store;
        let rows = store.read("t", approval::waiting).unwrap();
        assert_eq!(rows.len(), 1);
        let first: Result<bool, StoreError> = store.run_tx("t", |tx| {
            approval::decide(tx, &rows[0], approved, at(3).secs())
        });
        assert!(first.unwrap());
        let again: Result<bool, StoreError> = store.run_tx("t", |tx| {
            approval::decide(tx, &rows[0], !approved, at(3).secs())
        });
        assert!(!again.unwrap(), "the first word stays");
    };
    decide(&world, true);
    // Another process answers: what waited is in the store.
    open(&mut world);
    let der = client.ask(&mut world, &ask, at(4)).unwrap();
    let spki = key_.public_key().to_spki_der().unwrap();
    assert_eq!(CertView::from_der(&der).unwrap().spki_der, spki);
    // By a poll again, or by the request: the same.
    for message in [&ask, &asked] {
        assert_eq!(client.ask(&mut world, message, at(5)).unwrap(), der);
    }
    assert_eq!(count(&world.ca), 1);

    // What is rejected stays so.
    let key_ = key(&mut world);
    let asked = client.message(&Asked::cr(&key_).body(), 5, None);
    assert_eq!(
        client.ask(&mut world, &asked, at(6)).unwrap_err(),
        "Cp waiting"
    );
    decide(&world, false);
    for message in [client.message(&poll(0), 5, None), asked] {
        let said = client.ask(&mut world, &message, at(7)).unwrap_err();
        assert_eq!(said, "Cp NOT_AUTHORIZED");
    }
    assert_eq!(count(&world.ca), 1);
}

#[test]
fn a_request_that_another_device_copies_can_be_decided() {
    let (mut world, devices) = ready(2);
    let body = Asked::cr(&key(&mut world)).body();
    let clients: Vec<Client> = devices
        .iter()
        .map(|ueid| Client::new(world.ca.role(), &mut world.rng, *ueid, "guarded", 9))
        .collect();
    let messages: Vec<_> = clients.iter().map(|c| c.message(&body, 1, None)).collect();
    for (client, message) in clients.iter().zip(&messages) {
        let said = client.ask(&mut world, message, at(1));
        assert_eq!(said.unwrap_err(), "Cp waiting");
    }
    let store = Arc::clone(&world.ca.role().store);
    let rows = store.read("t", approval::waiting).unwrap();
    let id = rows[0].id();
    assert_eq!(rows[1].id(), id);
    let say = |of: Option<&Ueid>, approved| {
        let said = store.run_tx("t", |tx| approval::say(tx, &id, of, approved, SECS));
        let said: Result<_, StoreError> = said;
        said.unwrap().map(|row| (row.device, row.approved))
    };
    // Nobody guesses whose is meant.
    assert_eq!(say(None, true), None);
    let stranger = Ueid::from_random([7; 16]);
    assert_eq!(say(Some(&stranger), true), None);
    let one = say(Some(&devices[0]), true).unwrap();
    let other = say(Some(&devices[1]), false).unwrap();
    assert_ne!(one.0, other.0);
    assert_eq!((one.1, other.1), (Some(true), Some(false)));
    // The first word stays.
    assert_eq!(say(Some(&devices[0]), false), Some(one));
    assert!(clients[0].ask(&mut world, &messages[0], at(2)).is_ok());
    let said = clients[1].ask(&mut world, &messages[1], at(2));
    assert_eq!(said.unwrap_err(), "Cp NOT_AUTHORIZED");
    assert_eq!(count(&world.ca), 1);
}

#[test]
fn a_device_cannot_fill_the_store_and_is_not_shut_out() {
    let (mut world, devices) = ready(1);
    let client = Client::new(world.ca.role(), &mut world.rng, devices[0], "guarded", 1);
    let mut n = 0;
    let mut ask = |world: &mut World, client: &Client, now| {
        n += 1;
        let key = key(world);
        let message = client.message(&Asked::cr(&key).body(), n, None);
        (client.ask(world, &message, now).unwrap_err(), message)
    };
    let waiting = |world: &World| {
        let rows = world.ca.role().store.read("t", approval::waiting);
        rows.unwrap()
    };
    let decide_all = |world: &World, approved| {
        for row in waiting(world) {
            let store = &world.ca.role().store;
            let first: Result<bool, StoreError> =
                store.run_tx("t", |tx| approval::decide(tx, &row, approved, SECS));
            assert!(first.unwrap());
        }
    };
    // As many as there is room for, twice: what an operator has decided takes no room.
    let mut last = Vec::new();
    for approved in [false, true] {
        for _ in 0..WAITING_MAX {
            let (said, message) = ask(&mut world, &client, at(1));
            assert_eq!(said, "Cp waiting");
            last = message;
        }
        assert_eq!(ask(&mut world, &client, at(1)).0, "Cp SYSTEM_UNAVAIL");
        decide_all(&world, approved);
    }
    assert!(client.ask(&mut world, &last, at(2)).is_ok());
    // Its one use is taken, another's time is over, the device is on hold: nothing more waits.
    assert_eq!(ask(&mut world, &client, at(2)).0, "Cp NOT_AUTHORIZED");
    let other = Client::new(world.ca.role(), &mut world.rng, devices[0], "guarded", 1);
    let late = at(1_000_001);
    assert_eq!(ask(&mut world, &other, late).0, "Cp NOT_AUTHORIZED");
    let held = Target::Device(devices[0]);
    say(&world.ca.role().store, &held, Word::Hold, SECS).unwrap();
    assert_eq!(ask(&mut world, &other, at(2)).0, "Cp NOT_AUTHORIZED");
    assert!(waiting(&world).is_empty());
    say(&world.ca.role().store, &held, Word::Unhold, SECS).unwrap();
    assert_eq!(ask(&mut world, &other, at(2)).0, "Cp waiting");
}

#[test]
fn a_client_that_fails_is_answered_and_a_late_confirmation_is_not() {
    let (mut world, devices) = ready(1);
    let client = Client::new(world.ca.role(), &mut world.rng, devices[0], "open", 9);
    let error = RawBody::error(PkiFailureInfo::BAD_DATA_FORMAT, "cannot read this").unwrap();
    let said = client.send(&mut world, &client.message(&error, 1, None), at(1));
    let text = "cannot read this";
    assert!(matches!(&said.outcome, CmpOutcome::ClientFailed { text: t, .. } if t == text));
    assert_eq!(
        told(&said.body, Some(&client.text), &world.ca).unwrap_err(),
        "PkiConf"
    );

    let key = key(&mut world);
    let message = client.message(&Asked::cr(&key).body(), 2, None);
    let answer = client.send(&mut world, &message, at(1));
    let until = reread(&answer.body).header().confirm_wait_time().unwrap();
    assert_eq!(until, Some(at(1 + 86_400).secs().0));
    let der = told(&answer.body, Some(&client.text), &world.ca).unwrap();
    let body = RawBody::cert_conf(0, &RustCrypto.sha256(&der), None).unwrap();
    let nonce = reread(&answer.body)
        .header()
        .sender_nonce()
        .unwrap()
        .to_vec();
    let conf = client.message(&body, 2, Some(&nonce));
    let late = client.ask(&mut world, &conf, at(2 + 86_400)).unwrap_err();
    assert_eq!(late, "Error BAD_REQUEST");
    // It is valid all the same, and the same request begins anew.
    assert!(standing(&world.ca, &der).is_good());
    assert_eq!(
        client.ask(&mut world, &message, at(2 + 86_400)).unwrap(),
        der
    );
    // Nested messages are refused in words.
    let inner = RawDer::from_bytes(&[0x30, 0]).unwrap();
    let nested = RawBody {
        kind: BodyKind::Nested,
        content: inner,
    };
    let said = client.send(&mut world, &client.message(&nested, 3, None), at(1));
    assert!(matches!(said.outcome, CmpOutcome::Denied(_)));
    let content = reread(&said.body).body().error_content().unwrap();
    assert!(content.status.text().unwrap().contains("nested"));
}

/// A kur is signed by the certificate that it updates: a secret neither takes it away nor comes past
/// the operator with it.
#[test]
fn a_secret_updates_no_certificate() {
    let (mut world, devices) = ready(1);
    for (n, profile) in [(1, "open"), (3, "guarded")] {
        let client = Client::new(world.ca.role(), &mut world.rng, devices[0], profile, 9);
        open_with(&mut world, &PROFILES.replace("approval = \"operator\"", ""));
        let current = enrol(&mut world, &client, n, at(1));
        open(&mut world);
        let before = count(&world.ca);
        let thiefs = key(&mut world);
        let mut asked = Asked::cr(&thiefs);
        asked.kind = BodyKind::Kur;
        asked.control(oid::REG_CTRL_OLD_CERT_ID, &cert_id(&current.der));
        let message = client.message(&asked.body(), n + 1, None);
        for now in [at(2), at(366 * 86_400)] {
            let said = client.ask(&mut world, &message, now).unwrap_err();
            assert_eq!(said, "Kup BAD_CERT_ID", "{profile}");
        }
        assert_eq!(count(&world.ca), before);
        assert!(standing(&world.ca, &current.der).is_good());
    }
}
