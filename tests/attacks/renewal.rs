//! Renewal: key updates that the TA did not make, and answers that are not to the one it made.

use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey, Provider as _, Signer as _};
use tegata_store::issuer::CmpOutcome;
use tegata_tee::gp::consts::TEE_ERROR_SECURITY;
use tegata_wire::cmp::{
    BodyKind, KeyUpdate, MessageToProtect, PkiBody, PkiHeader, ProtectionAlg, RawBody,
    UnverifiedPkiMessage, directory_name_der,
};
use tegata_wire::x509::{CertView, DistinguishedName, RawDer, SignatureAlg};

use crate::enrolment::{break_open, ready};
use crate::rig::{ALICE, BOB, Session, World, flipped, sampled, ta};
use crate::suite::Tried;

const LABEL: &[u8] = b"web";
const ALG: SignatureAlg = SignatureAlg::EcdsaSha256;

#[track_caller]
fn no_certificate(world: &World, request: &[u8], what: &str) {
    let (_, outcome) = world.cmp(request);
    assert!(
        matches!(outcome, CmpOutcome::Denied(_)),
        "{what}: {outcome:?}"
    );
}

/// From a request on to the end.
fn complete(world: &World, session: &Session<'_>, request: &[u8]) -> Vec<u8> {
    let (answer, _) = world.cmp(request);
    let conf = session.call(ta::FINISH, &[LABEL, &answer]).unwrap();
    if !conf.is_empty() {
        let (pki_conf, _) = world.cmp(&conf);
        session.call(ta::CONFIRM, &[LABEL, &pki_conf]).unwrap();
    }
    session.certificate(LABEL).unwrap();
    answer
}

fn enrolled(world: &World, session: &Session<'_>) -> Vec<u8> {
    let request = session.call(ta::BEGIN, &[LABEL]).unwrap();
    complete(world, session, &request);
    session.certificate(LABEL).unwrap()
}

/// What a forged key update says; each field may be a lie.
struct Forged<'a> {
    /// The certificate in extraCerts, whose names the header has.
    shown: &'a [u8],
    /// The certificate in oldCertId.
    old: &'a [u8],
    /// Whose names the template has: a certificate's.
    names: &'a [u8],
    token: &'a str,
    key: &'a PrivateKey,
    body: BodyKind,
}

impl Forged<'_> {
    /// The message, signed by whatever `sign` is.
    fn message(&self, sign: impl Fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
        let view = |der| CertView::from_der(der).unwrap();
        let (shown, old, names) = (view(self.shown), view(self.old), view(self.names));
        let request = KeyUpdate {
            subject: DistinguishedName::from_der(names.subject_der).unwrap(),
            san: names.san().unwrap(),
            spki_der: &self.key.public_key().to_spki_der().unwrap(),
            reg_token: self.token,
            old: &old,
        };
        let request = request.to_request().unwrap();
        let bits = |raw: &[u8]| ALG.signature_to_bits(raw).unwrap();
        let popo = bits(&self.key.sign(&request).unwrap());
        let mut body = RawBody::kur(&request, ALG, &popo).unwrap();
        body.kind = self.body;
        let name = |der| directory_name_der(der).unwrap();
        let header = PkiHeader::new(name(shown.subject_der), name(shown.issuer_der))
            .with_transaction_id(&[0x7a; 16])
            .and_then(|h| h.with_sender_nonce(&[0x55; 16]))
            .and_then(|h| h.with_sender_kid(shown.subject_key_id().unwrap().unwrap()))
            .and_then(|h| h.with_protection(&ProtectionAlg::Signature(ALG)))
            .unwrap();
        let message = MessageToProtect::new(&header, &body).unwrap();
        let raw = sign(&message.protected_part().unwrap());
        let shown = RawDer::from_bytes(self.shown).unwrap();
        message.into_der(Some(&bits(&raw)), &[shown]).unwrap()
    }
}

fn token_of(kur: &[u8]) -> String {
    let message = UnverifiedPkiMessage::from_der(kur).unwrap();
    let PkiBody::Kur(requests) = message.body().decode().unwrap() else {
        panic!("a kur")
    };
    let request = requests[0].request().unwrap();
    request.reg_token().unwrap().unwrap()
}

/// An application that is taken over, with its own key at its service: key updates of its own
/// making, for a key outside the TEE or for another device.
pub fn application_forges_key_updates() -> Tried {
    let (world, uuid, a) = ready(61);
    let b = world.device();
    b.install(&world, &uuid);
    let (sa, sb) = (a.open(&uuid, ALICE), b.open(&uuid, ALICE));
    let bobs = a.open(&uuid, BOB);
    let (of_a, of_b, of_bob) = (
        enrolled(&world, &sa),
        enrolled(&world, &sb),
        enrolled(&world, &bobs),
    );
    let genuine = sa.call(ta::BEGIN, &[LABEL]).unwrap();
    let (token_a, token_b) = (
        token_of(&genuine),
        token_of(&sb.call(ta::BEGIN, &[LABEL]).unwrap()),
    );
    let thief = PrivateKey::generate(KeyAlg::P256, &mut world.rng()).unwrap();
    let by_a = |part: &[u8]| {
        let digest = RustCrypto.sha256(part);
        sa.call(ta::SIGN, &[LABEL, &digest]).unwrap()
    };
    let by_thief = |part: &[u8]| thief.sign(part).unwrap();
    let kid = break_open(&a, &uuid).kid;
    let guessed = format!("{}.{}", hex::encode(&kid), "00".repeat(32));
    let swapped = format!("{}.{}", hex::encode(&kid), &token_b[token_b.len() - 64..]);
    let before = world.fingerprint();
    let plain = Forged {
        shown: &of_a,
        old: &of_a,
        names: &of_a,
        token: &guessed,
        key: &thief,
        body: BodyKind::Kur,
    };
    let mut tried = 0;
    let mut refuse = |forged: &Forged<'_>, what: &str| {
        for (message, by) in [
            (forged.message(by_a), "with its own key"),
            (forged.message(by_thief), "with a key of its own making"),
        ] {
            no_certificate(&world, &message, &format!("{what}, {by}"));
            tried += 1;
        }
    };
    for (token, what) in [
        (guessed.as_str(), "a guessed token"),
        (&token_a, "the token of the TA's own new key"),
        (&token_b, "another device's token"),
        (&swapped, "another device's token under this one's name"),
        ("", "an empty token"),
        (".", "half a token"),
    ] {
        let lies = |shown, old, names, body| Forged {
            shown,
            old,
            names,
            token,
            key: &thief,
            body,
        };
        for body in [BodyKind::Kur, BodyKind::Cr, BodyKind::Ir] {
            refuse(&lies(&of_a, &of_a, &of_a, body), what);
        }
        refuse(&lies(&of_a, &of_b, &of_b, BodyKind::Kur), "names B");
        refuse(&lies(&of_a, &of_b, &of_a, BodyKind::Kur), "replaces B's");
        refuse(&lies(&of_a, &of_a, &of_b, BodyKind::Kur), "B's names");
        refuse(&lies(&of_b, &of_b, &of_b, BodyKind::Kur), "as B");
        refuse(&lies(&of_b, &of_a, &of_a, BodyKind::Kur), "shows B's");
        refuse(&lies(&of_bob, &of_bob, &of_a, BodyKind::Kur), "as Bob");
        refuse(
            &lies(&of_a, &of_bob, &of_a, BodyKind::Kur),
            "replaces Bob's",
        );
    }
    // The TA's own key update, altered: a bit of each byte of it, and lengths.
    for at in 0..genuine.len() {
        no_certificate(&world, &flipped(&genuine, at), "an altered kur");
        tried += 1;
    }
    for len in (0..genuine.len()).step_by(sampled(7)) {
        no_certificate(&world, &genuine[..len], "a shortened kur");
        tried += 1;
    }
    assert_eq!(world.fingerprint(), before);
    // With everything right but who made the key there would have been one: the rig is not blind.
    let vouched = Forged {
        token: &token_for(&a, &uuid, &of_a, &thief),
        ..plain
    };
    let (_, outcome) = world.cmp(&vouched.message(by_a));
    assert!(matches!(outcome, CmpOutcome::Issued { .. }), "{outcome:?}");
    complete(&world, &sa, &genuine);
    Tried::Times(tried)
}

/// The token that only the TA can make, by the spoils of a broken TEE.
fn token_for(
    device: &crate::rig::Device,
    uuid: &tegata_wire::ids::TaUuid,
    old: &[u8],
    key: &PrivateKey,
) -> String {
    let spoils = break_open(device, uuid);
    let spki = key.public_key().to_spki_der().unwrap();
    let input =
        tegata_wire::enrolment::token_input(&RustCrypto.sha256(&spki), &RustCrypto.sha256(old));
    let mac = RustCrypto.hmac_sha256(&spoils.key, &input);
    format!("{}.{}", hex::encode(&spoils.kid), hex::encode(mac))
}

/// Answers to other key updates: earlier ones, another label's, another device's, another CA's.
pub fn network_swaps_renewals() -> Tried {
    let (world, uuid, a) = ready(62);
    let b = world.device();
    b.install(&world, &uuid);
    let (sa, sb) = (a.open(&uuid, ALICE), b.open(&uuid, ALICE));
    let bobs = a.open(&uuid, BOB);
    for session in [&sa, &sb, &bobs] {
        enrolled(&world, session);
    }
    // A renewal, so that there is an old answer to one.
    let first = sa.call(ta::BEGIN, &[LABEL]).unwrap();
    let old_kup = complete(&world, &sa, &first);
    let serving = sa.certificate(LABEL).unwrap();
    let request = sa.call(ta::BEGIN, &[LABEL]).unwrap();
    let of = |session: &Session<'_>| world.cmp(&session.call(ta::BEGIN, &[LABEL]).unwrap()).0;
    let evil = World::new(63);
    let (kup, _) = world.cmp(&request);
    let answers = [
        (old_kup, "the answer to the renewal before"),
        (of(&sb), "another device's"),
        (of(&bobs), "another label's of the same device"),
        (evil.cmp(&request).0, "another CA's"),
        (world.cmp(&first).0, "the certificate before, answered anew"),
        (request.clone(), "the request itself"),
    ];
    let before = a.storage();
    let mut tried = 0;
    for (answer, what) in &answers {
        let taken = sa.call(ta::FINISH, &[LABEL, answer]);
        assert!(taken.is_err(), "{what}");
        assert_eq!(a.storage(), before, "{what} left a trace");
        tried += 1;
    }
    let protected = kup.len() - world.ca.issuing_certificate().len();
    for at in (0..protected).step_by(sampled(31)) {
        let taken = sa.call(ta::FINISH, &[LABEL, &flipped(&kup, at)]);
        assert!(taken.is_err(), "byte {at}");
        tried += 1;
    }
    assert_eq!(a.storage(), before);
    // In the second slot, accepted and not confirmed: confirmations of others.
    let conf = sa.call(ta::FINISH, &[LABEL, &kup]).unwrap();
    let theirs = sb.call(ta::FINISH, &[LABEL, &of(&sb)]).unwrap();
    let before = a.storage();
    for (answer, what) in [
        (world.cmp(&theirs).0, "another device's confirmation"),
        (kup.clone(), "the certificate in its place"),
        (evil.cmp(&conf).0, "another CA's"),
    ] {
        let taken = sa.call(ta::CONFIRM, &[LABEL, &answer]);
        assert_eq!(taken, Err(TEE_ERROR_SECURITY), "{what}");
        tried += 1;
    }
    for at in 0..conf.len() {
        no_certificate(&world, &flipped(&conf, at), "an altered certConf");
        tried += 1;
    }
    assert_eq!(a.storage(), before);
    assert_eq!(
        sa.certificate(LABEL).unwrap(),
        serving,
        "the old one serves"
    );
    let (pki_conf, _) = world.cmp(&conf);
    sa.call(ta::CONFIRM, &[LABEL, &pki_conf]).unwrap();
    assert_ne!(sa.certificate(LABEL).unwrap(), serving);
    Tried::Times(tried)
}
