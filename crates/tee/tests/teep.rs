//! The TEEP Agent: what a TAM asks and gets, and what an attacker on the way or in the TAM gets.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{NAME, World, check_report, spec};
use tegata_crypto::cose::{Sign1Headers, sign1, verify_sign1};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{KeyAlg, PrivateKey};
use tegata_tee::teep::{Payloads, TeepEvent, TeepOutcome};
use tegata_tee::testing::release::{Delivery, key, signed};
use tegata_tee::testing::{Crash, TestPlatform};
use tegata_tee::{Tee, TrustAnchors};
use tegata_wire::rats::eat::{EatClaims, MEDIA_TYPE_EVIDENCE};
use tegata_wire::suit::{ComponentId, Report, ReportReason, ReportResult};
use tegata_wire::teep::{
    Challenge, CipherSuite, DataItems, ErrCode, Error, FreshnessMechanism, Message, QueryRequest,
    QueryResponse, Success, SuitCoseProfile, Token, Update,
};

/// A TEE with the CA and the TAM of a [`World`] on the other side.
struct Device {
    world: World,
    tee: Tee<TestPlatform>,
}

impl Device {
    fn new() -> Self {
        Self::with_platform(TestPlatform::new(1))
    }

    fn with_platform(platform: TestPlatform) -> Self {
        let world = World::with_platform(platform.clone());
        let tee = Tee::new(platform, world.anchors.clone(), Some("http://tam".into())).unwrap();
        Self { world, tee }
    }

    /// The same device after its process died.
    fn reboot(&mut self) {
        self.world.platform.reboot();
        let anchors = self.world.anchors.clone();
        self.tee = Tee::new(self.world.platform.clone(), anchors, None).unwrap();
    }

    fn send(&mut self, message: impl Into<Message>) -> Message {
        let bytes = sign(&self.world.tam.key, message);
        self.send_bytes(&bytes)
    }

    fn send_bytes(&mut self, bytes: &[u8]) -> Message {
        match self.tee.handle_teep(bytes, &Payloads::new()).unwrap() {
            TeepOutcome::Reply(reply) => self.open(&reply),
            other => panic!("{other:?}"),
        }
    }

    /// Every answer is signed by this device's TEEP key.
    fn open(&self, reply: &[u8]) -> Message {
        let key = self.tee.keys().teep.public_key().clone();
        let verified = verify_sign1(&RustCrypto, reply, &key, b"", None).unwrap();
        assert_eq!(verified.kid(), Some(key.thumbprint().as_slice()));
        Message::decode(verified.payload()).unwrap()
    }

    fn version(&self) -> Option<u64> {
        let uuid = self.world.uuid();
        self.tee
            .installed(&uuid)
            .unwrap()
            .map(|ta| ta.record.sequence_number)
    }

    #[track_caller]
    fn error(&mut self, message: impl Into<Message>, code: ErrCode) -> Error {
        let before = self.world.platform.snapshot();
        let Message::Error(error) = self.send(message) else {
            panic!("not an Error")
        };
        assert_eq!(error.err_code, code, "{:?}", error.err_msg);
        assert_eq!(self.world.platform.snapshot(), before, "nothing may change");
        error
    }

    #[track_caller]
    fn success(&mut self, message: impl Into<Message>) -> Success {
        match self.send(message) {
            Message::Success(success) => success,
            other => panic!("{other:?}"),
        }
    }
}

fn sign(key: &PrivateKey, message: impl Into<Message>) -> Vec<u8> {
    let payload = message.into().encode().unwrap();
    sign1(key, &payload, &Sign1Headers::default(), b"", false).unwrap()
}

fn token() -> Token {
    Token::new(b"token-of-16-byte".to_vec()).unwrap()
}

fn query() -> QueryRequest {
    QueryRequest {
        token: None,
        supported_freshness_mechanisms: None,
        challenge: Some(Challenge::new(vec![0x5c; 32]).unwrap()),
        versions: None,
        attestation: None,
        suit_reports: None,
        supported_teep_cipher_suites: vec![
            CipherSuite::sign1_ed25519(),
            CipherSuite::sign1_esp256(),
        ],
        supported_suit_cose_profiles: vec![SuitCoseProfile::SHA256_ESP256_ECDH_A128GCM],
        data_item_requested: DataItems::ATTESTATION.with(DataItems::TRUSTED_COMPONENTS),
        unknown: Vec::new(),
    }
}

fn update(envelopes: Vec<Vec<u8>>) -> Update {
    Update {
        token: Some(token()),
        manifest_list: Some(envelopes),
        ..Update::default()
    }
}

fn tam_suit(world: &World) -> ComponentId {
    tegata_tee::suit::tam_manifest_id(&world.uuid())
}

fn response(message: Message) -> QueryResponse {
    match message {
        Message::QueryResponse(response) => response,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_whole_exchange() {
    let mut device = Device::new();
    let uuid = device.world.uuid();
    // A client wants the TA; the TAM begins.
    let contact = device.tee.request_ta(&uuid).unwrap().unwrap();
    assert_eq!(contact.tam_uri.as_deref(), Some("http://tam"));
    assert_eq!(contact.message, None);
    let answer = response(device.send(query()));
    assert_eq!(answer.token, None);
    assert_eq!(answer.tc_list, Some(vec![]));
    let wanted = &answer.requested_tc_list.unwrap()[0].component_id;
    assert_eq!(wanted.segments()[2], uuid.as_bytes());
    let attestation = answer.attestation.unwrap();
    assert_eq!(attestation.format.as_deref(), Some(MEDIA_TYPE_EVIDENCE));
    check_evidence(&device, &attestation.payload, &[0x5c; 32]);
    assert_eq!(device.tee.last_teep_event(), Some(&TeepEvent::Queried));

    let success = device.success(update(vec![device.world.delivery(1)]));
    assert_eq!(success.token, Some(token()));
    let report = Report::decode(&success.suit_reports.unwrap()[0]).unwrap();
    assert_eq!(report.result, ReportResult::Success);
    assert_eq!(report.nonce.as_deref(), Some(token().as_bytes()));
    assert_eq!(device.version(), Some(1));
    device.world.assert_version(1);
    assert_eq!(
        device.tee.last_teep_event(),
        Some(&TeepEvent::Updated(vec![uuid]))
    );

    // Installed, it is listed and no longer wanted.
    assert_eq!(device.tee.request_ta(&uuid).unwrap(), None);
    let answer = response(device.send(query()));
    assert_eq!(answer.requested_tc_list, None);
    let listed = answer.tc_list.unwrap();
    let digest = device.world.installed().unwrap().record.module_digest;
    assert_eq!(
        listed[0]
            .properties
            .image_digest
            .as_ref()
            .unwrap()
            .to_sha256(),
        Ok(digest)
    );

    // Nobody wants it any more: the TAM is told and removes it.
    device.tee.unrequest_ta(&uuid).unwrap().unwrap();
    let answer = response(device.send(query()));
    assert_eq!(
        answer.unneeded_manifest_list,
        Some(vec![tam_suit(&device.world)])
    );
    let removal = Update {
        token: Some(token()),
        unneeded_manifest_list: Some(vec![tam_suit(&device.world)]),
        ..Update::default()
    };
    device.success(removal.clone());
    assert_eq!(device.version(), None);
    device.success(removal);
    assert_eq!(response(device.send(query())).unneeded_manifest_list, None);
}

fn check_evidence(device: &Device, evidence: &[u8], nonce: &[u8]) {
    let key = device.tee.keys().attestation.public_key().clone();
    let verified = verify_sign1(&RustCrypto, evidence, &key, b"", None).unwrap();
    let claims = EatClaims::decode(verified.payload()).unwrap();
    assert!(claims.has_only_nonce(nonce));
    let teep = device.tee.keys().teep.public_key().thumbprint();
    assert_eq!(claims.cnf.unwrap().kid.as_deref(), Some(teep.as_slice()));
}

#[test]
fn the_same_update_again_changes_nothing() {
    let mut device = Device::new();
    let message = sign(
        &device.world.tam.key,
        update(vec![device.world.delivery(1)]),
    );
    let first = device.send_bytes(&message);
    let before = device.world.platform.snapshot();
    let again = device.send_bytes(&message);
    assert!(matches!(
        (first, again),
        (Message::Success(_), Message::Success(_))
    ));
    assert_eq!(device.world.platform.snapshot(), before);
}

#[test]
fn only_a_tam_of_the_anchors_is_heard() {
    let mut device = Device::new();
    let stranger = key(77);
    let release_key = device.world.ca.key.dangerous_clone();
    for key in [&stranger, &release_key] {
        for message in [
            Message::from(update(vec![device.world.delivery(1)])),
            query().into(),
        ] {
            let bytes = sign(key, message);
            let Message::Error(error) = device.send_bytes(&bytes) else {
                panic!()
            };
            assert_eq!(error.err_code, ErrCode::PermanentError);
            assert_eq!(
                error.token, None,
                "nothing of an unauthenticated message is echoed"
            );
        }
    }
    assert_eq!(device.world.platform.changes(), 0);
    assert_eq!(device.version(), None);
}

#[test]
fn a_flipped_bit_anywhere_in_a_message_changes_nothing() {
    let mut device = Device::new();
    let message = sign(
        &device.world.tam.key,
        update(vec![device.world.delivery(1)]),
    );
    for position in (0..message.len()).step_by(11) {
        let mut bad = message.clone();
        bad[position] ^= 1 << (position % 8);
        let Message::Error(error) = device.send_bytes(&bad) else {
            panic!("at {position}")
        };
        assert_eq!(error.err_code, ErrCode::PermanentError, "at {position}");
    }
    for len in (0..message.len()).step_by(9) {
        let Message::Error(_) = device.send_bytes(&message[..len]) else {
            panic!("at {len}")
        };
    }
    assert_eq!(device.world.platform.changes(), 0);
}

#[test]
fn bombs_are_refused_without_a_change() {
    let mut device = Device::new();
    let bombs = [
        vec![],
        vec![0x84; 1_000_000],
        vec![0xd2; 100_000],
        vec![0u8; tegata_wire::teep::MAX_MESSAGE_LEN + 1],
    ];
    for bomb in bombs {
        let Message::Error(_) = device.send_bytes(&bomb) else {
            panic!()
        };
    }
    // Signed by the TAM itself: still only a message.
    for payload in [
        vec![0x81; 5000],
        vec![0x82, 0x03, 0xbf],
        vec![0xff],
        Vec::new(),
    ] {
        let bytes = sign1(
            &device.world.tam.key,
            &payload,
            &Sign1Headers::default(),
            b"",
            false,
        )
        .unwrap();
        let Message::Error(error) = device.send_bytes(&bytes) else {
            panic!()
        };
        assert_eq!(error.err_code, ErrCode::PermanentError);
    }
    assert_eq!(device.world.platform.changes(), 0);
}

#[test]
fn what_a_query_must_fulfil() {
    let mut device = Device::new();
    let error = device.error(
        QueryRequest {
            versions: Some(vec![1, 2]),
            ..query()
        },
        ErrCode::UnsupportedMsgVersion,
    );
    assert_eq!(error.versions, Some(vec![0]));
    let error = device.error(
        QueryRequest {
            supported_teep_cipher_suites: vec![CipherSuite::sign1_ed25519()],
            ..query()
        },
        ErrCode::UnsupportedCipherSuites,
    );
    assert_eq!(
        error.supported_teep_cipher_suites,
        Some(vec![CipherSuite::sign1_esp256()])
    );
    let error = device.error(
        QueryRequest {
            supported_freshness_mechanisms: Some(vec![FreshnessMechanism::Timestamp]),
            ..query()
        },
        ErrCode::UnsupportedFreshnessMechanisms,
    );
    assert_eq!(
        error.supported_freshness_mechanisms,
        Some(vec![FreshnessMechanism::Nonce])
    );
    // Token and challenge belong to different kinds of requests.
    let wrong = [
        QueryRequest {
            token: Some(token()),
            ..query()
        },
        QueryRequest {
            challenge: None,
            ..query()
        },
        QueryRequest {
            challenge: Some(Challenge::new(vec![1; 65]).unwrap()),
            ..query()
        },
        QueryRequest {
            data_item_requested: DataItems::TRUSTED_COMPONENTS,
            ..query()
        },
        QueryRequest {
            data_item_requested: DataItems::TRUSTED_COMPONENTS,
            challenge: None,
            ..query()
        },
    ];
    for request in wrong {
        device.error(request, ErrCode::PermanentError);
    }
    // Old algorithm numbers and unknown suites beside a known one do no harm.
    let request = QueryRequest {
        versions: Some(vec![0, 9]),
        supported_freshness_mechanisms: Some(vec![
            FreshnessMechanism::Timestamp,
            FreshnessMechanism::Nonce,
        ]),
        supported_teep_cipher_suites: vec![CipherSuite::sign1(-8888), CipherSuite::sign1(-7)],
        ..query()
    };
    response(device.send(request));
}

#[test]
fn a_query_without_attestation_echoes_its_token() {
    let mut device = Device::new();
    device.success(update(vec![device.world.delivery(3)]));
    let request = QueryRequest {
        token: Some(token()),
        challenge: None,
        data_item_requested: DataItems::TRUSTED_COMPONENTS
            .with(DataItems::EXTENSIONS)
            .with(DataItems::SUIT_REPORTS),
        ..query()
    };
    let answer = response(device.send(request));
    assert_eq!(answer.token, Some(token()));
    assert_eq!(answer.attestation, None);
    assert_eq!(answer.ext_list, Some(vec![]));
    let report = Report::decode(&answer.suit_reports.unwrap()[0]).unwrap();
    assert_eq!(report.nonce.as_deref(), Some(token().as_bytes()));
    check_report(&report);
}

#[test]
fn an_ed25519_tam_is_heard_too() {
    let mut device = Device::new();
    let mut rng = tegata_tee::testing::release::rng(61);
    let tam = PrivateKey::generate(KeyAlg::Ed25519, &mut rng).unwrap();
    let anchors = TrustAnchors::new(
        device.world.anchors.release_keys().to_vec(),
        vec![tam.public_key().clone()],
    );
    device.tee = Tee::new(device.world.platform.clone(), anchors.unwrap(), None).unwrap();
    let bytes = sign(&tam, query());
    response(device.send_bytes(&bytes));
}

#[test]
fn messages_that_no_tam_sends() {
    let mut device = Device::new();
    device.error(Success::default(), ErrCode::PermanentError);
    device.error(QueryResponse::default(), ErrCode::PermanentError);
    // An Error of the TAM is heard and not answered: no two ends answer errors for ever.
    let error = sign(&device.world.tam.key, Error::new(ErrCode::PermanentError));
    assert_eq!(
        device.tee.handle_teep(&error, &Payloads::new()),
        Ok(TeepOutcome::Done)
    );
    let refused = Update {
        err_code: Some(ErrCode::AttestationRequired),
        ..Update::default()
    };
    let bytes = sign(&device.world.tam.key, refused);
    assert_eq!(
        device.tee.handle_teep(&bytes, &Payloads::new()),
        Ok(TeepOutcome::Done)
    );
    assert_eq!(
        device.tee.last_teep_event(),
        Some(&TeepEvent::TamError { code: 7 })
    );
    // An Update without manifests only passes something on.
    device.success(Update {
        token: Some(token()),
        ..Update::default()
    });
}

#[test]
fn a_manifest_that_fails_is_reported() {
    let mut device = Device::new();
    device.success(update(vec![device.world.delivery(5)]));
    let error = device.error(
        update(vec![device.world.delivery(4)]),
        ErrCode::ManifestProcessingFailed,
    );
    assert_eq!(error.token, Some(token()));
    let report = Report::decode(&error.suit_reports.unwrap()[0]).unwrap();
    assert_eq!(report.nonce.as_deref(), Some(token().as_bytes()));
    let ReportResult::Failure(failure) = report.result else {
        panic!()
    };
    assert_eq!(failure.reason, ReportReason::OperationFailed);
    assert!(error.err_msg.unwrap().contains("not above 5"));
    let Some(TeepEvent::Refused { code, .. }) = device.tee.last_teep_event() else {
        panic!()
    };
    assert_eq!(*code, "rollback");
    // Bytes that are no envelope at all have no report.
    let error = device.error(update(vec![vec![0x80]]), ErrCode::ManifestProcessingFailed);
    assert_eq!(error.suit_reports, None);
}

#[test]
fn one_bad_manifest_stops_the_whole_message() {
    let mut device = Device::new();
    let good = device.world.delivery(1);
    let theirs = Device::with_platform(TestPlatform::new(2))
        .world
        .delivery(1);
    for list in [
        vec![good.clone(), theirs.clone()],
        vec![theirs, good.clone()],
    ] {
        device.error(update(list), ErrCode::ManifestProcessingFailed);
    }
    // The same TA twice, or removed and installed at once, is no one commit.
    device.error(
        update(vec![good.clone(), good.clone()]),
        ErrCode::ManifestProcessingFailed,
    );
    let both = Update {
        unneeded_manifest_list: Some(vec![tam_suit(&device.world)]),
        ..update(vec![good.clone()])
    };
    device.error(both, ErrCode::ManifestProcessingFailed);
    device.success(update(vec![good]));
}

#[test]
fn two_tas_install_together_or_not_at_all() {
    let world = World::new();
    let mut other = spec(1);
    other.name = "second".into();
    let release = world.ca.release(&other);
    let config = world
        .ca
        .config("second", 1, &world.device(), b"second secret");
    let second = world
        .tam
        .dependent(&release, &config, &world.device(), Delivery::Integrated);
    let message = sign(&world.tam.key, update(vec![world.delivery(1), second]));
    for crash in [Crash::Lost, Crash::Kept] {
        for at in 0.. {
            let mut device = Device::new();
            device.world.platform.crash_at(at, crash);
            let outcome = device.tee.handle_teep(&message, &Payloads::new());
            let died = device.world.platform.is_dead();
            device.reboot();
            let count = device.tee.installed_list().unwrap().len();
            assert!(count == 0 || count == 2, "{count} after {crash:?} at {at}");
            if !died {
                assert!(matches!(outcome, Ok(TeepOutcome::Reply(_))));
                break;
            }
            let Message::Success(_) = device.send_bytes(&message) else {
                panic!("at {at}")
            };
            assert_eq!(device.tee.installed_list().unwrap().len(), 2);
        }
    }
}

#[test]
fn a_kill_at_every_write_of_an_update_leaves_old_or_new() {
    let world = World::new();
    let tam = &world.tam.key;
    let [old, new] = [1, 2].map(|version| sign(tam, update(vec![world.delivery(version)])));
    for counter in [false, true] {
        for crash in [Crash::Lost, Crash::Kept] {
            for at in 0.. {
                let mut platform = TestPlatform::new(1);
                if counter {
                    platform = platform.with_counter();
                }
                let mut device = Device::with_platform(platform);
                let Message::Success(_) = device.send_bytes(&old) else {
                    panic!()
                };
                device.world.platform.crash_at(at, crash);
                let _ = device.tee.handle_teep(&new, &Payloads::new());
                let died = device.world.platform.is_dead();
                device.reboot();
                let now = device.version().unwrap();
                device.world.assert_version(now);
                // Sent again, it is done or was done.
                let Message::Success(_) = device.send_bytes(&new) else {
                    panic!("at {at}")
                };
                device.world.assert_version(2);
                let Message::Error(_) = device.send_bytes(&old) else {
                    panic!("at {at}")
                };
                if !died {
                    assert!(at > 8, "an update has many writes");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_full_medium_is_a_temporary_error() {
    let mut device = Device::new();
    let message = sign(
        &device.world.tam.key,
        update(vec![device.world.delivery(1)]),
    );
    device.world.platform.set_full(true);
    let Message::Error(error) = device.send_bytes(&message) else {
        panic!()
    };
    assert_eq!(error.err_code, ErrCode::TemporaryError);
    assert_eq!(device.version(), None);
    device.world.platform.set_full(false);
    let Message::Success(_) = device.send_bytes(&message) else {
        panic!()
    };
    assert_eq!(device.version(), Some(1));
}

#[test]
fn a_payload_by_uri_costs_one_more_round_and_nothing_else() {
    const URI: &str = "https://cdn.example.com/enrol-1";
    let mut device = Device::new();
    let world = &device.world;
    let (release, config) = (world.release(1), world.config(1));
    let envelope = world
        .tam
        .dependent(&release, &config, &world.device(), Delivery::Uri(URI));
    let message = sign(&world.tam.key, update(vec![envelope]));
    for _ in 0..2 {
        let outcome = device.tee.handle_teep(&message, &Payloads::new()).unwrap();
        let TeepOutcome::NeedPayload { uri, max_bytes } = outcome else {
            panic!()
        };
        assert_eq!((uri.as_str(), max_bytes), (URI, release.ciphertext.len()));
    }
    assert_eq!(device.world.platform.changes(), 0);
    // The REE swaps the bytes: an Error to the TAM, and the right bytes still work afterwards.
    let mut swapped = release.ciphertext.clone();
    swapped[0] ^= 1;
    let payloads = Payloads::from([(URI.to_string(), swapped)]);
    let TeepOutcome::Reply(reply) = device.tee.handle_teep(&message, &payloads).unwrap() else {
        panic!()
    };
    let Message::Error(error) = device.open(&reply) else {
        panic!()
    };
    assert_eq!(error.err_code, ErrCode::ManifestProcessingFailed);
    assert_eq!(device.version(), None);
    let payloads = Payloads::from([(URI.to_string(), release.ciphertext)]);
    let TeepOutcome::Reply(reply) = device.tee.handle_teep(&message, &payloads).unwrap() else {
        panic!()
    };
    let Message::Success(_) = device.open(&reply) else {
        panic!()
    };
    device.world.assert_version(1);
}

#[test]
fn only_root_manifests_can_be_given_up() {
    let mut device = Device::new();
    device.success(update(vec![device.world.delivery(1)]));
    let uuid = device.world.uuid();
    let wrong = [
        tegata_tee::suit::config_manifest_id(&uuid),
        ComponentId::new(&["TEEP-Device", "SecureFS", "x", "suit"]),
        ComponentId::new(&["etc"]),
    ];
    for id in wrong {
        let removal = Update {
            token: Some(token()),
            unneeded_manifest_list: Some(vec![id]),
            ..Update::default()
        };
        device.error(removal, ErrCode::PermanentError);
    }
    assert_eq!(device.version(), Some(1));
}

fn numbered(n: u8) -> Token {
    Token::new(vec![n; 16]).unwrap()
}

fn install_with(device: &Device, n: u8) -> Update {
    Update {
        token: Some(numbered(n)),
        ..update(vec![device.world.delivery(1)])
    }
}

fn remove_with(device: &Device, n: u8) -> Update {
    Update {
        token: Some(numbered(n)),
        unneeded_manifest_list: Some(vec![tam_suit(&device.world)]),
        ..Update::default()
    }
}

#[test]
fn an_old_removal_does_not_remove_what_was_installed_since() {
    let mut device = Device::new();
    let (install, again) = (install_with(&device, 1), install_with(&device, 2));
    let removal = remove_with(&device, 3);
    device.success(install.clone());
    device.success(removal.clone());
    // Its answer was lost: it succeeds again.
    device.success(removal.clone());
    device.success(again.clone());
    device.error(removal.clone(), ErrCode::PermanentError);
    device.reboot();
    device.error(removal.clone(), ErrCode::PermanentError);
    assert_eq!(device.version(), Some(1));
    // A new one does, and then no old installation brings the TA back.
    device.success(remove_with(&device, 4));
    for old in [install, again] {
        device.error(old, ErrCode::PermanentError);
    }
    assert_eq!(device.version(), None);
    device.success(install_with(&device, 5));
    // Installed again is installed: a lost answer costs nothing.
    device.success(install_with(&device, 5));
    for n in [3, 4] {
        device.error(remove_with(&device, n), ErrCode::PermanentError);
    }
    assert_eq!(device.version(), Some(1));
}

#[test]
fn tokens_are_kept_with_the_change_or_not_at_all() {
    for at in 0..12 {
        for crash in [Crash::Lost, Crash::Kept] {
            let mut device = Device::new();
            device.success(install_with(&device, 1));
            let removal = sign(&device.world.tam.key, remove_with(&device, 2));
            device.world.platform.crash_at(at, crash);
            let _ = device.tee.handle_teep(&removal, &Payloads::new());
            device.reboot();
            let Message::Success(_) = device.send_bytes(&removal) else {
                panic!("a removal cut off at change {at} cannot be repeated");
            };
            assert_eq!(device.version(), None);
            device.success(install_with(&device, 3));
            device.error(remove_with(&device, 2), ErrCode::PermanentError);
        }
    }
}

#[test]
fn tokens_do_not_grow_without_bound() {
    let mut device = Device::new();
    for n in 0..40 {
        device.success(install_with(&device, n));
        device.success(remove_with(&device, n));
    }
    device.success(install_with(&device, 100));
    for n in 8..40 {
        device.error(remove_with(&device, n), ErrCode::PermanentError);
    }
    let blobs = device.world.platform.snapshot();
    assert!(blobs.values().all(|blob| blob.len() < 16 * 1024));
}

#[test]
fn a_removal_needs_a_token() {
    let mut device = Device::new();
    device.success(update(vec![device.world.delivery(1)]));
    let removal = Update {
        unneeded_manifest_list: Some(vec![tam_suit(&device.world)]),
        ..Update::default()
    };
    device.error(removal, ErrCode::PermanentError);
    assert_eq!(device.version(), Some(1));
}

#[test]
fn wishes_do_not_grow_without_bound() {
    let mut device = Device::new();
    for n in 0..200u8 {
        device
            .tee
            .request_ta(&tegata_wire::ids::TaUuid([n; 16]))
            .unwrap();
    }
    let answer = response(device.send(query()));
    assert_eq!(
        answer.requested_tc_list.unwrap().len(),
        tegata_tee::teep::MAX_REQUESTS
    );
}

#[test]
fn no_secret_shows_in_an_answer() {
    let mut device = Device::new();
    let secret = common::config_data(1);
    let message = sign(
        &device.world.tam.key,
        update(vec![device.world.delivery(1)]),
    );
    let outcome = device.tee.handle_teep(&message, &Payloads::new()).unwrap();
    let TeepOutcome::Reply(reply) = outcome else {
        panic!()
    };
    assert!(!reply.windows(secret.len()).any(|window| window == secret));
    // Nor in what a failed one says: a release whose module is not what it claims.
    let world = &device.world;
    let manifest = world
        .ca
        .config_manifest(NAME, 2, Some(&world.device().ueid), b"expected");
    let mut config = world
        .ca
        .config_of(&manifest, &world.device(), &common::config_data(2));
    config.envelope = signed(&manifest, &world.ca.key, &[]).0;
    let envelope = world.tam.dependent(
        &world.release(2),
        &config,
        &world.device(),
        Delivery::Integrated,
    );
    let message = sign(&world.tam.key, update(vec![envelope]));
    let TeepOutcome::Reply(reply) = device.tee.handle_teep(&message, &Payloads::new()).unwrap()
    else {
        panic!()
    };
    let secret = common::config_data(2);
    assert!(!reply.windows(secret.len()).any(|window| window == secret));
}
