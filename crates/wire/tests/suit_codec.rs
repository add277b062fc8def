//! SUIT: the repository's vectors both ways, building, digests, reports, hostile bytes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod vector_files;

use proptest::prelude::*;
use tegata_wire::cbor::{self, Value};
use tegata_wire::suit::{
    AuthBlock, CapabilityReport, Command, ComponentCapability, ComponentId, Condition, Directive,
    EnvelopeBuilder, IndexArg, Manifest, Parameters, Record, Reference, Report, ReportFailure,
    ReportReason, ReportRecord, ReportResult, Section, Sequence, Severable, SuitDigest, SuitError,
    SystemProperties, UnverifiedEnvelope, VendorIdentifier,
};
use vector_files::{bit_flips_do_not_panic, every_prefix_fails, repository, sha256};

fn ta() -> ComponentId {
    ComponentId::new(&[&b"TEEP-Device"[..], b"SecureFS", &[7; 16], b"ta"])
}

fn sample() -> Manifest {
    let shared = Parameters {
        vendor_id: Some(VendorIdentifier::Pen(vec![0x81, 0x37])),
        image_digest: Some(SuitDigest::sha256([5; 32])),
        image_size: Some(20),
        ..Parameters::default()
    };
    let fetch = Parameters {
        uri: Some("#ta".into()),
        ..Parameters::default()
    };
    Manifest::new(3, vec![ta()])
        .with_component_id(ComponentId::new(&["suit"]))
        .with_dependency(1, Some(ComponentId::new(&["dep"])))
        .with_shared(vec![Command::index(0), Command::OverrideParameters(shared)])
        .with_section(
            Section::Install,
            vec![
                Command::SetComponentIndex(IndexArg::Many(vec![0, 1])),
                Command::SetParameters(fetch),
                Command::TryEach {
                    sequences: vec![vec![Command::act(Directive::Fetch)].into()],
                    or_nothing: true,
                },
                Command::RunSequence(vec![Command::check(Condition::ImageMatch)].into()),
                Command::act(Directive::ProcessDependency),
            ],
        )
        .with_section(Section::Uninstall, vec![Command::act(Directive::Unlink)])
}

fn sign1() -> Vec<u8> {
    hex::decode("d28443a10128a0f640").unwrap()
}

#[test]
fn vectors_both_ways_and_hostile() {
    for name in [
        "example2",
        "teep_integrated",
        "teep_personalization",
        "integrated_dependency",
    ] {
        let bytes = repository(&format!("suit/{name}.hex"));
        let envelope = UnverifiedEnvelope::decode(&bytes).unwrap();
        let checked = envelope.clone().check_digests(sha256).unwrap();
        let manifest = envelope.dangerous_unverified_manifest().unwrap();
        let again = cbor::encode(&Value::Bytes(manifest.encode().unwrap())).unwrap();
        assert_eq!(again, envelope.digest_input().unwrap(), "{name}");
        assert_eq!(checked.digest(), envelope.digest());
        every_prefix_fails(&bytes, |b| {
            let envelope = UnverifiedEnvelope::decode(b).map_err(|e| e.to_string())?;
            envelope.check_digests(sha256).map_err(|e| e.to_string())
        });
        // Any change of the manifest or of a severed member is noticed; no change panics.
        bit_flips_do_not_panic(&bytes, |b| {
            let Ok(changed) = UnverifiedEnvelope::decode(b) else {
                return;
            };
            if changed.digest() != envelope.digest() {
                return;
            }
            let Ok(changed) = changed.check_digests(sha256) else {
                return;
            };
            // Only the label of a severed member may have changed: then the member is absent.
            let mut then = checked.manifest().clone();
            let now = changed.manifest();
            for (section, member) in &now.sections {
                if let Severable::Severed(_) = member {
                    then.sections.insert(*section, member.clone());
                }
            }
            then.text.clone_from(&now.text);
            assert_eq!(*now, then);
        });
    }
}

#[test]
fn personalization_of_the_draft() {
    let envelope = UnverifiedEnvelope::decode(&repository("suit/teep_personalization.hex"));
    let checked = envelope.unwrap().check_digests(sha256).unwrap();
    let manifest = checked.manifest();
    assert_eq!(manifest.sequence_number, 3);
    assert_eq!(manifest.common.dependencies.len(), 1);
    let install = manifest.sequence(Section::Install).unwrap();
    assert_eq!(install.commands()[0], Command::index(1));
    assert_eq!(install.offset(0), 1);
    assert_eq!(install.offset(1), 3);
    let Command::OverrideParameters(parameters) = &install.commands()[3] else {
        panic!("another command");
    };
    let info = parameters.encryption_info.as_ref().unwrap();
    assert!(tegata_wire::cose::EncryptionInfo::decode(info).is_ok());
}

#[test]
fn built_envelopes_are_read() {
    let manifest = sample();
    for sections in [&[][..], &[Section::Install][..]] {
        let mut builder = EnvelopeBuilder::severing(&manifest, sections, sha256).unwrap();
        builder.add_sign1(sign1()).unwrap();
        builder.integrate("#ta", b"wasm".to_vec()).unwrap();
        assert!(builder.integrate("#ta", Vec::new()).is_err());
        let payload = builder.signed_payload().to_vec();
        let bytes = builder.finish().unwrap();
        let envelope = UnverifiedEnvelope::decode(&bytes).unwrap();
        assert_eq!(envelope.signed_payload(), payload);
        assert_eq!(envelope.auth_blocks(), [AuthBlock::Sign1(sign1())]);
        let checked = envelope.check_digests(sha256).unwrap();
        assert_eq!(*checked.manifest(), manifest);
        assert_eq!(checked.integrated("#ta"), Some(&b"wasm"[..]));
    }
    let mut builder = EnvelopeBuilder::new(&manifest, sha256).unwrap();
    assert!(builder.add_sign1(vec![0x84]).is_err());
    assert!(EnvelopeBuilder::severing(&manifest, &[Section::Uninstall], sha256).is_err());
    assert!(EnvelopeBuilder::severing(&manifest, &[Section::PayloadFetch], sha256).is_err());
}

#[test]
fn alterations_are_refused() {
    let bytes = EnvelopeBuilder::new(&sample(), sha256)
        .unwrap()
        .untagged()
        .finish()
        .unwrap();
    let other = |_: &[u8]| [0; 32];
    let refused = UnverifiedEnvelope::decode(&bytes)
        .unwrap()
        .check_digests(other);
    assert_eq!(
        refused,
        Err(SuitError::DigestMismatch {
            what: "the manifest"
        })
    );
    // A member that the manifest did not sever is added to the envelope.
    let mut map = cbor::MapReader::new(cbor::decode(&bytes, 4).unwrap(), "envelope").unwrap();
    let sequence = Sequence::from(vec![Command::act(Directive::Fetch)])
        .encode()
        .unwrap();
    let added = cbor::MapBuilder::new()
        .put(2, map.take(2).unwrap())
        .put(3, map.take(3).unwrap())
        .put(20, Value::Bytes(sequence))
        .encode()
        .unwrap();
    let refused = UnverifiedEnvelope::decode(&added)
        .unwrap()
        .check_digests(sha256);
    assert_eq!(refused, Err(SuitError::NotSevered { label: 20 }));
}

#[test]
fn limits() {
    let mut nested = Sequence::from(vec![Command::act(Directive::Fetch)]);
    for _ in 0..4 {
        nested = vec![Command::RunSequence(nested)].into();
    }
    assert!(Sequence::decode(&nested.encode().unwrap()).is_ok());
    nested = vec![Command::RunSequence(nested)].into();
    let refused = Sequence::decode(&nested.encode().unwrap());
    assert_eq!(
        refused,
        Err(SuitError::Limit {
            what: "nested sequences",
            max: 4
        })
    );

    let many = vec![Command::check(Condition::Abort); 513];
    assert!(Sequence::decode(&Sequence::from(many).encode().unwrap()).is_err());
    let spread: Sequence = vec![
        Command::RunSequence(vec![Command::check(Condition::Abort); 300].into()),
        Command::RunSequence(vec![Command::check(Condition::Abort); 300].into()),
    ]
    .into();
    let refused = Sequence::decode(&spread.encode().unwrap());
    assert_eq!(
        refused,
        Err(SuitError::Limit {
            what: "commands",
            max: 512
        })
    );

    assert!(
        Manifest::new(1, vec![ta(); 33])
            .encode()
            .and_then(|b| Manifest::decode(&b))
            .is_err()
    );
    let acting = Manifest::new(1, vec![ta()]).with_shared(vec![Command::act(Directive::Fetch)]);
    assert!(acting.encode().is_err());
    // { 1: 1, 2: 0, 3: {}, 99: 0 }
    let unknown = hex::decode("a4010102000341a0186300").unwrap();
    let refused = Manifest::decode(&unknown);
    assert_eq!(
        refused,
        Err(SuitError::UnknownMember {
            what: "SUIT_Manifest",
            label: 99
        })
    );
    let version = hex::decode("a3010202000341a0").unwrap();
    assert_eq!(
        Manifest::decode(&version),
        Err(SuitError::Version { got: 2 })
    );
    // A policy with a fifth bit; a condition without an argument.
    assert!(Sequence::decode(&[0x82, 0x03, 0x10]).is_err());
    assert!(Sequence::decode(&[0x83, 0x03, 0x0f, 0x03]).is_err());
    let known = Sequence::decode(&[0x86, 0x18, 0x1d, 0x00, 0x18, 0x23, 0xa0, 0x20, 0x00]).unwrap();
    let [
        Command::Directive(wait, _),
        Command::Unsupported { code: 35, .. },
        custom,
    ] = known.commands()
    else {
        panic!("other commands");
    };
    assert!(!wait.is_supported());
    assert_eq!(custom.code(), -1);
}

fn record() -> Record {
    Record {
        manifest_id: vec![1, 0],
        section: Section::Install.label(),
        offset: 17,
        component_index: 0,
        properties: Parameters {
            image_size: Some(3),
            ..Parameters::default()
        },
    }
}

#[test]
fn reports_round_trip() {
    let reference = Reference {
        uri: String::new(),
        digest: SuitDigest::sha256([1; 32]),
    };
    let mut report = Report::success(reference, Some(vec![9; 16]));
    report.records = vec![
        ReportRecord::Record(record()),
        ReportRecord::SystemProperties(SystemProperties {
            component_id: ta(),
            properties: Parameters {
                image_size: Some(3),
                ..Parameters::default()
            },
        }),
    ];
    let plain = report.encode().unwrap();
    assert_eq!(Report::decode(&plain).unwrap(), report);
    for code in 0..13 {
        let reason = ReportReason::from_code(code).unwrap();
        assert_eq!(reason.code(), code);
        report.result = ReportResult::Failure(ReportFailure {
            code: -5,
            record: record(),
            reason,
        });
        report.capabilities = Some(CapabilityReport {
            components: vec![ComponentCapability {
                id: ta(),
                is_prefix: true,
            }],
            commands: vec![3],
            parameters: vec![1, 2],
            algorithms: vec![-9],
            other: Vec::new(),
        });
        let bytes = report.encode().unwrap();
        assert_eq!(Report::decode(&bytes).unwrap(), report);
        every_prefix_fails(&bytes, |b| Report::decode(b).map_err(|e| e.to_string()));
    }
    assert_eq!(ReportReason::from_code(13), None);
    bit_flips_do_not_panic(&plain, Report::decode);
}

fn parameters() -> impl Strategy<Value = Parameters> {
    (
        any::<u64>(),
        proptest::option::of("[ -~]{0,40}"),
        proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40)),
        proptest::option::of(any::<[u8; 32]>()),
        proptest::option::of(any::<bool>()),
    )
        .prop_map(|(size, uri, content, digest, soft_failure)| Parameters {
            image_size: Some(size),
            uri,
            content,
            image_digest: digest.map(SuitDigest::sha256),
            soft_failure,
            ..Parameters::default()
        })
}

fn command() -> impl Strategy<Value = Command> {
    let leaf = prop_oneof![
        Just(Command::check(Condition::ImageMatch)),
        Just(Command::check(Condition::DeviceIdentifier)),
        Just(Command::act(Directive::Write)),
        Just(Command::act(Directive::Swap)),
        (0u64..40).prop_map(Command::index),
        Just(Command::SetComponentIndex(IndexArg::All)),
        parameters().prop_map(Command::OverrideParameters),
        parameters().prop_map(Command::SetParameters),
        (-9i64..-1).prop_map(|code| Command::Unsupported {
            code,
            argument: Value::Null
        }),
    ];
    leaf.prop_recursive(3, 30, 4, |inner| {
        let sequence = proptest::collection::vec(inner, 1..4).prop_map(Sequence::from);
        prop_oneof![
            sequence.clone().prop_map(Command::RunSequence),
            (proptest::collection::vec(sequence, 2..4), any::<bool>()).prop_map(
                |(sequences, or_nothing)| Command::TryEach {
                    sequences,
                    or_nothing
                }
            ),
        ]
    })
}

proptest! {
    #[test]
    fn manifests_round_trip(
        number in any::<u64>(),
        install in proptest::collection::vec(command(), 1..6),
        validate in proptest::collection::vec(command(), 1..6),
    ) {
        let manifest = Manifest::new(number, vec![ta()])
            .with_section(Section::Install, install)
            .with_section(Section::Validate, validate);
        let builder = EnvelopeBuilder::severing(&manifest, &[Section::Install], sha256).unwrap();
        let bytes = builder.finish().unwrap();
        let checked = UnverifiedEnvelope::decode(&bytes).unwrap().check_digests(sha256).unwrap();
        prop_assert_eq!(checked.manifest(), &manifest);
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = UnverifiedEnvelope::decode(&bytes);
        let _ = Manifest::decode(&bytes);
        let _ = Sequence::decode(&bytes);
        let _ = Report::decode(&bytes);
    }
}
