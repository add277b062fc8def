//! Lines 2 to 4: requests, certificates and keys, through the messages of steps 5 to 14.

use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider as _, PublicKey};
use tegata_store::issuer::CmpOutcome;
use tegata_tee::gp::consts::{
    TEE_ERROR_ACCESS_DENIED, TEE_ERROR_ITEM_NOT_FOUND, TEE_ERROR_SECURITY,
};
use tegata_tee::gp::params::{Param, Params};
use tegata_tee::session::{CallControl, Caller, ClientIdentity};
use tegata_wire::cmp::{
    BodyKind, MessageToProtect, PkiHeader, ProtectionAlg, RawBody, UnverifiedPkiMessage, null_dn,
};
use tegata_wire::enrolment::{Identity, PersonalizationData, Procedure};
use tegata_wire::ids::TaUuid;
use tegata_wire::x509::{CertView, CsrBuilder, SanEntry, SignatureAlg, assemble_csr};

use crate::rig::{ALICE, BOB, Device, Session, World, enrol_module, flipped, sampled, ta};
use crate::suite::Tried;

const LABEL: &[u8] = b"web";

/// A device with the enrolment TA.
pub fn ready(seed: u64) -> (World, TaUuid, Device) {
    let world = World::new(seed);
    let cut = world.release("enrol", enrol_module(), false);
    let device = world.device();
    device.install(&world, &cut.ta);
    (world, cut.ta, device)
}

/// What a broken TEE of this device would know.
pub struct Spoils {
    pub kid: Vec<u8>,
    pub key: [u8; 32],
    pub procedure: Procedure,
    pub identity: Identity,
}

pub fn break_open(device: &Device, ta: &TaUuid) -> Spoils {
    let (_, _, procedure, config) = device.installed(ta).unwrap();
    let data = PersonalizationData::decode(&config.unwrap()).unwrap();
    Spoils {
        kid: data
            .sender_kid(&device.machine.identity.ueid)
            .unwrap()
            .to_bytes(),
        key: *data.expose_csr_auth_key(),
        procedure: Procedure::decode(&procedure.unwrap()).unwrap(),
        identity: Identity::from(&device.machine.identity),
    }
}

fn csr(of: &Spoils, key: &PrivateKey, change: impl FnOnce(&mut CsrBuilder)) -> Vec<u8> {
    let mut builder = CsrBuilder {
        subject: of.procedure.certificates[0].subject(&of.identity).unwrap(),
        spki_der: key.public_key().to_spki_der().unwrap(),
        san: of.procedure.certificates[0].san(&of.identity).unwrap(),
        extensions: Vec::new(),
    };
    change(&mut builder);
    let tbs = builder.to_tbs().unwrap();
    let alg = SignatureAlg::from_oid(&key.public_key().alg().signature_oid()).unwrap();
    assemble_csr(&tbs, alg, &tegata_crypto::Signer::sign(key, &tbs).unwrap()).unwrap()
}

fn protect(kid: &[u8], key: &[u8], body: &RawBody, recip: Option<&[u8]>) -> Vec<u8> {
    let mut header = PkiHeader::new(null_dn(), null_dn())
        .with_transaction_id(&[0x7a; 16])
        .and_then(|h| h.with_sender_nonce(&[0x55; 16]))
        .and_then(|h| h.with_sender_kid(kid))
        .and_then(|h| h.with_protection(&ProtectionAlg::HMAC_SHA256))
        .unwrap();
    if let Some(nonce) = recip {
        header = header.with_recip_nonce(nonce).unwrap();
    }
    let message = MessageToProtect::new(&header, body).unwrap();
    let part = message.protected_part().unwrap();
    let mac = RustCrypto.hmac_sha256(key, &part);
    message.into_der(Some(&mac), &[]).unwrap()
}

#[track_caller]
fn no_certificate(world: &World, request: &[u8], what: &str) {
    let (_, outcome) = world.cmp(request);
    assert!(
        matches!(outcome, CmpOutcome::Denied(_)),
        "{what}: {outcome:?}"
    );
}

/// Every bit position and length of a p10cr.
pub fn network_alters_requests() -> Tried {
    let (world, ta, device) = ready(31);
    let request = device.open(&ta, ALICE).call(ta::BEGIN, &[LABEL]).unwrap();
    let before = world.fingerprint();
    for at in 0..request.len() {
        // Every bit of the first bytes, which say what all of it is; then one of each byte.
        let bits: &[u8] = if at < 32 {
            &[0, 1, 2, 3, 4, 5, 6, 7]
        } else {
            &[at as u8 % 8]
        };
        for bit in bits {
            let mut altered = request.clone();
            altered[at] ^= 1 << bit;
            no_certificate(&world, &altered, "a flipped bit");
        }
    }
    for len in 0..request.len() {
        no_certificate(&world, &request[..len], "cut off");
    }
    no_certificate(
        &world,
        &[request.as_slice(), &[0]].concat(),
        "one byte more",
    );
    assert_eq!(world.fingerprint(), before);
    // The genuine one, as often as the network likes: one certificate.
    let (first, _) = world.cmp(&request);
    for _ in 0..10 {
        let (again, _) = world.cmp(&request);
        assert_eq!(certificate_in(&again), certificate_in(&first));
    }
    assert_eq!(world.certificates().len(), 1);
    Tried::Times(2 * request.len() + 32 * 7 + 11)
}

/// Requests that no TA made, by somebody who knows the formats and no key.
pub fn outsider_makes_requests() -> Tried {
    let (world, ta, device) = ready(32);
    let known = break_open(&device, &ta);
    let mut rng = world.rng();
    let key = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
    let body = RawBody::p10cr(&csr(&known, &key, |_| {})).unwrap();
    let before = world.fingerprint();
    let mut tried = 0;
    let mut refuse = |request: &[u8], what: &str| {
        no_certificate(&world, request, what);
        tried += 1;
    };
    // The MAC key is guessed, empty, the key identifier, the device's public data.
    let ueid = device.machine.identity.ueid;
    for guess in [
        &[][..],
        &[0; 32],
        &[0xff; 32],
        &known.kid,
        ueid.as_bytes(),
        b"password",
    ] {
        refuse(&protect(&known.kid, guess, &body, None), "a guessed key");
    }
    // A key identifier of another release or of nobody.
    let mut kid = known.kid.clone();
    for at in 0..kid.len() {
        kid[at] ^= 1;
        refuse(
            &protect(&kid, &known.key, &body, None),
            "another key identifier",
        );
        kid[at] ^= 1;
    }
    for len in 0..kid.len() {
        refuse(
            &protect(&kid[..len], &known.key, &body, None),
            "a shortened key identifier",
        );
    }
    // No protection at all, or one that is no MAC.
    let bare = PkiHeader::new(null_dn(), null_dn())
        .with_transaction_id(&[1; 16])
        .and_then(|h| h.with_sender_nonce(&[2; 16]))
        .and_then(|h| h.with_sender_kid(&known.kid))
        .unwrap();
    refuse(
        &MessageToProtect::new(&bare, &body)
            .unwrap()
            .into_der(None, &[])
            .unwrap(),
        "no protection",
    );
    let signed = bare.with_protection(&ProtectionAlg::HMAC_SHA256).unwrap();
    let message = MessageToProtect::new(&signed, &body).unwrap();
    let mac = RustCrypto.hmac_sha256(&known.key, &message.protected_part().unwrap());
    for len in [0, 1, 4, 8, 16, 31] {
        let message = MessageToProtect::new(&signed, &body).unwrap();
        refuse(
            &message.into_der(Some(&mac[..len]), &[]).unwrap(),
            "a shortened MAC",
        );
    }
    // The genuine MAC of another message.
    let request = device.open(&ta, ALICE).call(ta::BEGIN, &[LABEL]).unwrap();
    let genuine = UnverifiedPkiMessage::from_der(&request).unwrap();
    let message = MessageToProtect::new(genuine.header(), &body).unwrap();
    let mac = genuine.protection().unwrap().to_vec();
    refuse(
        &message.into_der(Some(&mac), &[]).unwrap(),
        "a borrowed MAC",
    );
    assert_eq!(world.fingerprint(), before);
    assert!(world.certificates().is_empty());
    Tried::Times(tried)
}

/// Device A, broken open, asks in the name of B and for more than its procedure allows.
pub fn broken_device_names_others() -> Tried {
    let (world, ta, a) = ready(33);
    let b = world.device();
    b.install(&world, &ta);
    let second = world.release("enrol", &[enrol_module(), b""].concat(), false);
    let (of_a, of_b) = (break_open(&a, &ta), break_open(&b, &ta));
    assert_ne!(
        of_a.key, of_b.key,
        "one broken TEE must not forge another's requests"
    );
    let mut rng = world.rng();
    let key = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
    let p10cr = |der: &[u8]| RawBody::p10cr(der).unwrap();
    let before = world.fingerprint();
    let mut tried = 0;
    let mut refuse = |request: Vec<u8>, what: &str| {
        no_certificate(&world, &request, what);
        tried += 1;
    };
    let (honest_a, honest_b) = (csr(&of_a, &key, |_| {}), csr(&of_b, &key, |_| {}));
    refuse(
        protect(&of_a.kid, &of_a.key, &p10cr(&honest_b), None),
        "B's names under A's key",
    );
    refuse(
        protect(&of_b.kid, &of_a.key, &p10cr(&honest_b), None),
        "A's key as if it were B's",
    );
    refuse(
        protect(&of_b.kid, &of_b.key, &p10cr(&honest_a), None),
        "A's names under B's key",
    );
    // A's own key under a release that it does not run.
    let mut kid = second.digest.0[..16].to_vec();
    kid.extend_from_slice(a.machine.identity.ueid.as_bytes());
    refuse(
        protect(&kid, &of_a.key, &p10cr(&honest_a), None),
        "the key of one release for another",
    );
    // Names half of A, half of B; more names; fewer.
    refuse(
        protect(
            &of_a.kid,
            &of_a.key,
            &p10cr(&csr(&of_a, &key, |c| {
                c.subject = of_b.procedure.certificates[0]
                    .subject(&of_b.identity)
                    .unwrap();
            })),
            None,
        ),
        "B's subject with A's SAN",
    );
    refuse(
        protect(
            &of_a.kid,
            &of_a.key,
            &p10cr(&csr(&of_a, &key, |c| {
                c.san = of_b.procedure.certificates[0].san(&of_b.identity).unwrap();
            })),
            None,
        ),
        "B's SAN with A's subject",
    );
    refuse(
        protect(
            &of_a.kid,
            &of_a.key,
            &p10cr(&csr(&of_a, &key, |c| {
                c.san
                    .extend(of_b.procedure.certificates[0].san(&of_b.identity).unwrap());
            })),
            None,
        ),
        "A's and B's SAN",
    );
    for uri in ["https://bank.example/", "urn:x"] {
        refuse(
            protect(
                &of_a.kid,
                &of_a.key,
                &p10cr(&csr(&of_a, &key, |c| {
                    c.san.push(SanEntry::Uri(uri.into()));
                })),
                None,
            ),
            "a name more",
        );
    }
    refuse(
        protect(
            &of_a.kid,
            &of_a.key,
            &p10cr(&csr(&of_a, &key, |c| c.san.clear())),
            None,
        ),
        "no names",
    );
    // A CSR whose signature is not by its key: somebody else's public key is certified.
    let other = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
    let stolen = {
        let mut builder = CsrBuilder {
            subject: of_a.procedure.certificates[0]
                .subject(&of_a.identity)
                .unwrap(),
            spki_der: other.public_key().to_spki_der().unwrap(),
            san: of_a.procedure.certificates[0].san(&of_a.identity).unwrap(),
            extensions: Vec::new(),
        };
        builder.extensions.clear();
        let tbs = builder.to_tbs().unwrap();
        let alg = SignatureAlg::from_oid(&key.public_key().alg().signature_oid()).unwrap();
        assemble_csr(&tbs, alg, &tegata_crypto::Signer::sign(&key, &tbs).unwrap()).unwrap()
    };
    refuse(
        protect(&of_a.kid, &of_a.key, &p10cr(&stolen), None),
        "somebody else's public key",
    );
    // Every bit of the CSR, under a MAC that fits: signature, names or syntax are wrong.
    for at in 0..honest_a.len() {
        let altered = flipped(&honest_a, at);
        if let Ok(body) = RawBody::p10cr(&altered) {
            refuse(
                protect(&of_a.kid, &of_a.key, &body, None),
                "an altered CSR under a true MAC",
            );
        }
    }
    // Other kinds of bodies.
    for body in [
        RawBody::pki_conf().unwrap(),
        RawBody::cert_conf(-1, &[0; 32], None).unwrap(),
    ] {
        refuse(
            protect(&of_a.kid, &of_a.key, &body, None),
            "another kind of message",
        );
    }
    assert_eq!(world.fingerprint(), before);
    Tried::Times(tried)
}

/// Every bit position and length of the CA's answer.
pub fn network_alters_answers() -> Tried {
    let (world, ta, device) = ready(34);
    let session = device.open(&ta, ALICE);
    let request = session.call(ta::BEGIN, &[LABEL]).unwrap();
    let (cp, _) = world.cmp(&request);
    let before = device.storage();
    let mut tried = 0;
    // extraCerts stand outside the protection: hints, of which only what verifies is used.
    let protected = cp.len() - world.ca.issuing_certificate().len();
    for at in (0..cp.len()).step_by(sampled(31)) {
        let taken = session.call(ta::FINISH, &[LABEL, &flipped(&cp, at)]);
        tried += 1;
        if at < protected {
            assert!(taken.is_err(), "byte {at} of {}", cp.len());
            assert_eq!(device.storage(), before, "byte {at} left a trace");
        } else if taken.is_ok() {
            panic!("byte {at}: the issuing certificate was altered and its signature not missed");
        }
    }
    for len in (0..cp.len()).step_by(sampled(211)) {
        assert!(
            session.call(ta::FINISH, &[LABEL, &cp[..len]]).is_err(),
            "cut at {len}"
        );
        tried += 1;
    }
    assert_eq!(device.storage(), before);
    assert_eq!(session.certificate(LABEL), Err(TEE_ERROR_ITEM_NOT_FOUND));
    // certConf to the CA: altered, nothing is confirmed.
    let conf = session.call(ta::FINISH, &[LABEL, &cp]).unwrap();
    let unconfirmed = world.fingerprint();
    for at in 0..conf.len() {
        no_certificate(&world, &flipped(&conf, at), "an altered certConf");
        tried += 1;
    }
    for len in 0..conf.len() {
        no_certificate(&world, &conf[..len], "a shortened certConf");
        tried += 1;
    }
    assert_eq!(world.fingerprint(), unconfirmed);
    // pkiConf to the TA: altered, nothing is installed.
    let (pki_conf, outcome) = world.cmp(&conf);
    assert!(matches!(
        outcome,
        CmpOutcome::Confirmed { accepted: true, .. }
    ));
    let received = device.storage();
    for at in (0..pki_conf.len()).step_by(sampled(17)) {
        assert!(
            session
                .call(ta::CONFIRM, &[LABEL, &flipped(&pki_conf, at)])
                .is_err(),
            "byte {at}"
        );
        tried += 1;
    }
    for len in (0..pki_conf.len()).step_by(sampled(101)) {
        assert!(
            session
                .call(ta::CONFIRM, &[LABEL, &pki_conf[..len]])
                .is_err(),
            "cut at {len}"
        );
        tried += 1;
    }
    assert_eq!(device.storage(), received);
    assert_eq!(session.certificate(LABEL), Err(TEE_ERROR_ITEM_NOT_FOUND));
    session.call(ta::CONFIRM, &[LABEL, &pki_conf]).unwrap();
    check_certificate(&world, &session, LABEL);
    Tried::Times(tried)
}

/// Genuine answers of the CA, but to others; answers of other CAs.
pub fn network_swaps_answers() -> Tried {
    let (world, ta, a) = ready(35);
    let b = world.device();
    b.install(&world, &ta);
    let evil = World::new(36);
    let evil_cut = evil.release("enrol", enrol_module(), false);
    let c = evil.device();
    c.install(&evil, &evil_cut.ta);
    let (sa, sb, sc) = (
        a.open(&ta, ALICE),
        b.open(&ta, ALICE),
        c.open(&evil_cut.ta, ALICE),
    );
    let ask = |session: &Session<'_>, label: &[u8]| session.call(ta::BEGIN, &[label]).unwrap();
    let (ra, rb, rc) = (ask(&sa, LABEL), ask(&sb, LABEL), ask(&sc, LABEL));
    let other_label = ask(&sa, b"mqtt");
    let answers = [
        (world.cmp(&rb).0, "B's certificate"),
        (
            world.cmp(&other_label).0,
            "the certificate of another key of A",
        ),
        (
            evil.cmp(&rc).0,
            "another CA's certificate for another device",
        ),
        (evil.cmp(&ra).0, "another CA's error"),
        (world.cmp(b"rubbish").0, "an error"),
        (ra.clone(), "the request itself"),
        (Vec::new(), "nothing"),
        (vec![0x30; 70_000], "far too much"),
    ];
    let before = a.storage();
    let mut tried = 0;
    for (answer, what) in &answers {
        let taken = sa.call(ta::FINISH, &[LABEL, answer]);
        assert!(taken.is_err(), "{what}");
        assert_eq!(a.storage(), before, "{what} left a trace");
        tried += 1;
    }
    // The evil CA is given the release keys' trust but not the anchor: it answers A's very request
    // in A's own transaction, with a certificate for A's key and names.
    let genuine = world.cmp(&ra).0;
    let conf = sa.call(ta::FINISH, &[LABEL, &genuine]).unwrap();
    for (answer, what) in [
        (evil.cmp(&conf).0, "another CA's answer to certConf"),
        (
            genuine.clone(),
            "the certificate instead of the confirmation",
        ),
        (
            world
                .cmp(&sb.call(ta::FINISH, &[LABEL, &world.cmp(&rb).0]).unwrap())
                .0,
            "B's confirmation",
        ),
    ] {
        assert!(sa.call(ta::CONFIRM, &[LABEL, &answer]).is_err(), "{what}");
        assert_eq!(
            sa.certificate(LABEL),
            Err(TEE_ERROR_ITEM_NOT_FOUND),
            "{what}"
        );
        tried += 1;
    }
    let pki_conf = world.cmp(&conf).0;
    sa.call(ta::CONFIRM, &[LABEL, &pki_conf]).unwrap();
    check_certificate(&world, &sa, LABEL);
    // Renewal: the old answers are no answers to the new request.
    let renewal = ask(&sa, LABEL);
    assert_ne!(renewal, ra);
    let installed = sa.certificate(LABEL).unwrap();
    for (answer, what) in [
        (&genuine, "the old certificate"),
        (&pki_conf, "the old confirmation"),
    ] {
        assert_eq!(
            sa.call(ta::FINISH, &[LABEL, answer]),
            Err(TEE_ERROR_SECURITY),
            "{what}"
        );
        assert!(sa.call(ta::CONFIRM, &[LABEL, answer]).is_err(), "{what}");
        tried += 2;
    }
    assert_eq!(sa.certificate(LABEL).unwrap(), installed);
    Tried::Times(tried)
}

/// Another application of the device, by every way that leads to a key.
pub fn other_application() -> Tried {
    let (world, ta, device) = ready(37);
    let der = device.enrol(&world, &ta, ALICE, LABEL).unwrap();
    let spki = CertView::from_der(&der).unwrap().spki_der.to_vec();
    let alice = device.open(&ta, ALICE);
    alice.call(ta::BEGIN, &[b"pending"]).unwrap();
    let before = device.storage();
    let digest = RustCrypto.sha256(b"a payment");
    let mut tried = 0;
    let others = [
        (BOB, ClientIdentity::user(BOB), "another user"),
        (
            5,
            ClientIdentity::group(ALICE),
            "a group of the same number",
        ),
        (6, ClientIdentity::public(), "nobody in particular"),
        (
            7,
            ClientIdentity::application(&tegata_wire::ids::Digest([1; 32])),
            "a program",
        ),
        (
            8,
            ClientIdentity::application_user(&tegata_wire::ids::Digest([1; 32]), ALICE),
            "a program of the same user",
        ),
        (
            9,
            ClientIdentity::user(0),
            "root, by the word of the kernel",
        ),
    ];
    for (owner, client, who) in others {
        let caller = Caller {
            owner: u64::from(owner),
            client,
        };
        let session = device.open_as(&ta, caller).unwrap();
        for label in [LABEL, b"pending"] {
            for (command, inputs) in [
                (ta::SIGN, 2),
                (ta::AGREE, 2),
                (ta::FINISH, 2),
                (ta::CONFIRM, 2),
                (ta::DELETE, 1),
                (ta::GET_PUBLIC_KEY, 1),
                (ta::STATUS, 1),
            ] {
                let inputs = |label| Vec::from_iter([label, &digest[..]].into_iter().take(inputs));
                let got = session.call(command, &inputs(label));
                let missing = session.call(command, &inputs(b"no such label"));
                assert_eq!(
                    got, missing,
                    "{who}, command {command}: a foreign key shows"
                );
                let not_found = Err(TEE_ERROR_ITEM_NOT_FOUND);
                assert_eq!(got, not_found, "{who}, command {command}");
                tried += 1;
            }
            assert_eq!(
                session.certificate(label),
                Err(TEE_ERROR_ITEM_NOT_FOUND),
                "{who}"
            );
        }
        assert_eq!(
            session.call(ta::LIST, &[]).unwrap(),
            [0x80],
            "{who} sees labels"
        );
    }
    // Bob's connection uses Alice's session number.
    for number in 0..64 {
        let bob = Caller {
            owner: 77,
            client: ClientIdentity::user(BOB),
        };
        let mut params = Params::default();
        params[0] = Param::MemrefInput {
            buffer: LABEL.to_vec(),
        };
        params[1] = Param::MemrefInput {
            buffer: digest.to_vec(),
        };
        params[2] = Param::MemrefOutput { size: 4096 };
        let reply = device
            .sessions
            .invoke(&bob, number, ta::SIGN, params, &CallControl::default());
        assert_ne!(reply.code, 0, "session {number}");
        device.sessions.close_session(&bob, number);
        tried += 1;
    }
    assert_eq!(device.storage(), before);
    // Alice's session lives, and her key signs for her.
    let signature = alice.call(ta::SIGN, &[LABEL, &digest]).unwrap();
    let key = PublicKey::from_spki_der(&spki).unwrap();
    RustCrypto.verify(&key, b"a payment", &signature).unwrap();
    // Labels that try to reach into another owner's names.
    let bob = device.open(&ta, BOB);
    for label in [
        &b"../web"[..],
        b"web\0",
        b"web/",
        &[0xff; 8],
        b"",
        &[b'x'; 65],
        &[b'x'; 5000],
    ] {
        let got = bob.call(ta::SIGN, &[label, &digest]);
        assert!(got.is_err());
        tried += 1;
    }
    // The same label is Bob's own key, not Alice's.
    let own = device.enrol(&world, &ta, BOB, LABEL).unwrap();
    assert_ne!(CertView::from_der(&own).unwrap().spki_der, spki);
    let public = Caller {
        owner: 6,
        client: ClientIdentity::public(),
    };
    let session = device.open_as(&ta, public).unwrap();
    assert_eq!(
        session.call(ta::BEGIN, &[LABEL]),
        Err(TEE_ERROR_ACCESS_DENIED)
    );
    Tried::Times(tried + 2)
}

/// The certificate that is installed: the CA's, for the key and the identity of this device.
pub fn check_certificate(world: &World, session: &Session<'_>, label: &[u8]) {
    use tegata_crypto::chain::{Purpose, TrustAnchor, verify_chain};
    let der = session.certificate(label).unwrap();
    let anchor = TrustAnchor::from_cert_der(world.ca.root_certificate()).unwrap();
    let chain = [world.ca.issuing_certificate()];
    let now = crate::rig::SECS.0;
    let _ = verify_chain(
        &RustCrypto,
        &der,
        &chain,
        &[anchor],
        Purpose::EndEntity,
        now,
    )
    .unwrap();
    let view = CertView::from_der(&der).unwrap();
    assert_eq!(
        session.call(ta::GET_PUBLIC_KEY, &[label]).unwrap(),
        view.spki_der
    );
    let serial = &session.device.machine.identity.serial;
    assert!(crate::delivery::contains(&der, serial.as_bytes()));
    let row = world
        .certificates()
        .into_iter()
        .find(|row| row.der.as_deref() == Some(der.as_slice()));
    assert!(
        row.is_some(),
        "an installed certificate that the CA does not know"
    );
}

/// The certificate in a cp.
pub fn certificate_in(cp: &[u8]) -> Option<Vec<u8>> {
    let message = UnverifiedPkiMessage::from_der(cp).ok()?;
    if message.kind() != BodyKind::Cp {
        return None;
    }
    let rep = message.body().cert_rep().ok()?;
    match &rep
        .response
        .first()?
        .certified_key_pair
        .as_ref()?
        .cert_or_enc_cert
    {
        tegata_wire::cmp::CertOrEncCert::Certificate(der) => Some(der.as_bytes().to_vec()),
        _ => None,
    }
}
