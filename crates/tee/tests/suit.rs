//! The SUIT processor: deliveries that must work, and those that an attacker would send.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{NAME, World, check_report, config_data, spec};
use tegata_tee::suit::{Outcome, Part, TaComponent};
use tegata_tee::testing::TestPlatform;
use tegata_tee::testing::release::{Delivery, TestTam, image, key, signed};
use tegata_wire::ids::{DeviceUuid, Ueid};
use tegata_wire::suit::{
    Command, ComponentId, Condition, Directive, EnvelopeBuilder, IndexArg, Manifest, Parameters,
    ReportReason, ReportResult, Section, Sequence, SuitDigest,
};

#[test]
fn a_delivery_installs_everything_and_again_nothing() {
    let world = World::new();
    let envelope = world.delivery(5);
    let Outcome::Passed {
        changes,
        tas,
        report,
    } = world.process(&envelope)
    else {
        panic!()
    };
    assert_eq!(tas, [world.uuid()]);
    assert_eq!(report.result, ReportResult::Success);
    assert_eq!(
        report.nonce.as_deref(),
        Some(b"nonce-16-bytes..".as_slice())
    );
    check_report(&report);
    assert_eq!(
        world.version(),
        None,
        "nothing is installed before the commit"
    );
    world.store().apply(&changes).unwrap();
    world.assert_version(5);
    let record = world.installed().unwrap().record;
    assert_eq!(record.release, world.release(5).digest);
    assert_eq!(record.id.signer, world.ca.signer());
    // The same again is a success without any change.
    let before = world.platform.snapshot();
    assert_eq!(world.apply(&envelope), Ok(false));
    assert_eq!(world.platform.snapshot(), before);
}

#[test]
fn symmetric_delivery_works_as_in_the_paper() {
    let world = World::new();
    let (release, config) = (world.release(1), world.config(1));
    let manifest = world.tam.dependent_manifest_symmetric(
        &release,
        &config,
        &world.device(),
        &world.keys.delivery_kek,
    );
    let envelope = world
        .tam
        .envelope(&manifest, &release, &config, Delivery::Integrated);
    world.apply(&envelope).unwrap();
    world.assert_version(1);
}

#[test]
fn a_release_may_come_by_itself() {
    let world = World::new();
    // Signed by the CA, the module in clear: no TAM manifest around it, no personalization.
    let mut manifest = world.ca.release_manifest(&spec(3));
    let mut install = vec![
        Command::index(0),
        Command::OverrideParameters(Parameters {
            uri: Some("#module".into()),
            ..Parameters::default()
        }),
    ];
    install.extend(
        manifest
            .sequence(Section::Install)
            .unwrap()
            .commands()
            .to_vec(),
    );
    manifest = manifest.with_section(Section::Install, install);
    let (envelope, _) = signed(&manifest, &world.ca.key, &[("#module", spec(3).module)]);
    world.apply(&envelope).unwrap();
    assert_eq!(world.installed().unwrap().module, spec(3).module);
    assert!(world.installed().unwrap().config.is_none());
}

// -- versions ---------------------------------------------------------------------------------

#[test]
fn an_older_ta_is_refused_for_ever() {
    let world = World::new();
    world.apply(&world.delivery(5)).unwrap();
    world.refuses(&world.delivery(4), "rollback");
    world.apply(&world.delivery(7)).unwrap();
    world.refuses(&world.delivery(5), "rollback");
    world.refuses(&world.delivery(6), "rollback");
    world.assert_version(7);
    // Removing the TA does not open a way back …
    world.uninstall().unwrap();
    assert_eq!(world.version(), None);
    world.refuses(&world.delivery(6), "rollback");
    // … but the very same release may come again.
    world.apply(&world.delivery(7)).unwrap();
    world.assert_version(7);
}

#[test]
fn another_release_of_the_same_number_is_refused() {
    let world = World::new();
    world.apply(&world.delivery(5)).unwrap();
    let mut twin = spec(5);
    twin.module = b"another module under the same number".to_vec();
    let release = world.ca.release(&twin);
    let envelope = world.tam.dependent(
        &release,
        &world.config(5),
        &world.device(),
        Delivery::Integrated,
    );
    world.refuses(&envelope, "rollback");
    // Other personalization for the same release likewise: nothing newer vouches for it.
    let config = world.ca.config(NAME, 5, &world.device(), b"other secret");
    let envelope = world.tam.dependent(
        &world.release(5),
        &config,
        &world.device(),
        Delivery::Integrated,
    );
    world.refuses(&envelope, "rollback");
}

#[test]
fn an_old_manifest_of_the_tam_is_refused() {
    let world = World::new();
    world.apply(&world.delivery(5)).unwrap();
    let (release, config) = (world.release(6), world.config(6));
    let mut manifest =
        world
            .tam
            .dependent_manifest(&release, &config, &world.device(), Delivery::Integrated);
    manifest.sequence_number = 4;
    let envelope = world
        .tam
        .envelope(&manifest, &release, &config, Delivery::Integrated);
    world.refuses(&envelope, "rollback");
}

#[test]
fn a_tam_cannot_pair_halves_of_two_releases() {
    let world = World::new();
    for (release, config) in [(5, 4), (4, 5)] {
        let envelope = world.tam.dependent(
            &world.release(release),
            &world.config(config),
            &world.device(),
            Delivery::Integrated,
        );
        world.refuses(&envelope, "versions-differ");
    }
}

// -- whose device -----------------------------------------------------------------------------

#[test]
fn another_devices_ta_is_refused() {
    let (ours, theirs) = (World::new(), World::with_platform(TestPlatform::new(2)));
    let failure = ours.refuses(&theirs.delivery(1), "condition-failed");
    // The report says which device this is.
    let ReportResult::Failure(result) = failure.report.unwrap().result else {
        panic!()
    };
    assert_eq!(result.reason, ReportReason::ConditionFailed);
    let ueid = Ueid::from_random([1; 16]);
    assert_eq!(
        result.record.properties.device_id,
        Some(DeviceUuid::derive(&ueid))
    );

    // A TAM that signs for our device what was encrypted for theirs: it does not decrypt.
    let manifest = ours.tam.dependent_manifest(
        &theirs.release(1),
        &ours.config(1),
        &tegata_tee::testing::release::DeviceInfo {
            ueid: ours.device().ueid,
            delivery: theirs.device().delivery,
        },
        Delivery::Integrated,
    );
    let envelope = ours.tam.envelope(
        &manifest,
        &theirs.release(1),
        &ours.config(1),
        Delivery::Integrated,
    );
    ours.refuses(&envelope, "payload");

    // Personalization of theirs in a delivery to us: the CA's own condition refuses it.
    let envelope = ours.tam.dependent(
        &ours.release(1),
        &theirs.config(1),
        &ours.device(),
        Delivery::Integrated,
    );
    ours.refuses(&envelope, "condition-failed");
}

#[test]
fn a_tam_cannot_answer_a_releases_conditions_for_the_device() {
    let world = World::new();
    // A careless release: "set" where it should override, for a class this device is not.
    let mut manifest = world.ca.release_manifest(&spec(1));
    let mut shared = manifest.common.shared.clone().unwrap().commands().to_vec();
    let wanted = Parameters {
        class_id: Some(tegata_wire::ids::ClassId([9; 16])),
        ..Parameters::default()
    };
    shared.extend([
        Command::index(0),
        Command::SetParameters(wanted),
        Command::check(Condition::ClassIdentifier),
    ]);
    manifest = manifest.with_shared(shared);
    let release = world.ca.release_of(&manifest, &spec(1));
    let config = world.config(1);
    let mut dependent =
        world
            .tam
            .dependent_manifest(&release, &config, &world.device(), Delivery::Integrated);
    let ours = TestPlatform::new(1);
    let class = tegata_tee::platform::Platform::identity(&ours).class_ids[0];
    let mut commands = vec![
        Command::index(0),
        Command::OverrideParameters(Parameters {
            class_id: Some(tegata_wire::ids::ClassId(class)),
            ..Parameters::default()
        }),
    ];
    commands.extend(
        dependent
            .sequence(Section::Install)
            .unwrap()
            .commands()
            .to_vec(),
    );
    dependent = dependent.with_section(Section::Install, commands);
    let envelope = world
        .tam
        .envelope(&dependent, &release, &config, Delivery::Integrated);
    let failure = world.refuses(&envelope, "condition-failed");
    assert_eq!(
        failure.at.manifest,
        [2],
        "it is the release's condition that failed"
    );
}

// -- whose TA ---------------------------------------------------------------------------------

#[test]
fn a_tam_cannot_forge_a_release() {
    let world = World::new();
    let forged_by_tam = tegata_tee::testing::release::TestCa { key: key(103) };
    // As a dependency, for the CA's own UUID.
    let manifest = world.ca.release_manifest(&spec(1));
    let (envelope, digest) = signed(&manifest, &forged_by_tam.key, &[]);
    let mut release = world.release(1);
    release.envelope = envelope.clone();
    release.digest = digest.into();
    let delivery = world.tam.dependent(
        &release,
        &world.config(1),
        &world.device(),
        Delivery::Integrated,
    );
    world.refuses(&delivery, "tam-dependency");
    // As the root: a TAM's manifest may not write.
    world.refuses(&envelope, "parameter-unauthorised");
    let uuid = world.uuid();
    let ta = TaComponent {
        uuid,
        part: Part::Ta,
    }
    .to_id();
    let direct = Manifest::new(1, vec![ta]).with_section(
        Section::Install,
        vec![
            Command::OverrideParameters(Parameters {
                uri: Some("#x".into()),
                ..Parameters::default()
            }),
            Command::act(Directive::Fetch),
        ],
    );
    let (envelope, _) = signed(&direct, &world.tam.key, &[("#x", b"evil".to_vec())]);
    world.refuses(&envelope, "component-unauthorised");
    // A stranger's key.
    let (envelope, _) = signed(&manifest, &key(200), &[]);
    let failure = world.refuses(&envelope, "unauthorised");
    check_report(&failure.report.unwrap());
}

#[test]
fn a_tam_cannot_set_what_decides_what_is_installed() {
    let world = World::new();
    let (release, config) = (world.release(1), world.config(1));
    let evil = b"evil module".to_vec();
    let tries = [
        image(&evil),
        Parameters {
            content: Some(evil.clone()),
            ..Parameters::default()
        },
        Parameters {
            source_component: Some(1),
            ..Parameters::default()
        },
        Parameters {
            image_size: Some(3),
            ..Parameters::default()
        },
    ];
    for parameters in tries {
        for command in [Command::SetParameters, Command::OverrideParameters] {
            let mut manifest = world.tam.dependent_manifest(
                &release,
                &config,
                &world.device(),
                Delivery::Integrated,
            );
            let mut install = vec![Command::index(0), command(parameters.clone())];
            install.extend(
                manifest
                    .sequence(Section::Install)
                    .unwrap()
                    .commands()
                    .to_vec(),
            );
            manifest = manifest.with_section(Section::Install, install);
            let envelope = world
                .tam
                .envelope(&manifest, &release, &config, Delivery::Integrated);
            world.refuses(&envelope, "parameter-unauthorised");
        }
    }
}

#[test]
fn a_tam_cannot_swap_the_payload() {
    let world = World::new();
    let (mut release, config) = (world.release(1), world.config(1));
    // The TAM knows the content key in symmetric mode: it can encrypt anything it likes.
    let evil = b"evil module".to_vec();
    let mut rng = tegata_tee::testing::release::rng(50);
    let (ciphertext, iv) = tegata_crypto::suit::seal_payload(
        &tegata_crypto::rustcrypto::RustCrypto,
        &mut rng,
        &release.cek,
        &evil,
    )
    .unwrap();
    release.ciphertext = ciphertext;
    release.iv = iv;
    let envelope = world
        .tam
        .dependent(&release, &config, &world.device(), Delivery::Integrated);
    let failure = world.refuses(&envelope, "condition-failed");
    let ReportResult::Failure(result) = failure.report.unwrap().result else {
        panic!()
    };
    assert_eq!(
        result.record.properties.image_digest,
        image(&evil).image_digest
    );
    assert_eq!(result.record.manifest_id, [2]);
    assert_eq!(result.record.section, Section::Install.label());
    assert!(result.record.offset > 0);
}

#[test]
fn another_signer_cannot_touch_our_ta() {
    let world = World::new();
    world.apply(&world.delivery(1)).unwrap();
    // A trusted CA, but not the one the UUID derives from.
    let manifest = world.ca.release_manifest(&spec(9));
    let (envelope, _) = signed(&manifest, &world.other_ca.key, &[]);
    world.refuses(&envelope, "component-unauthorised");
    // It cannot hide behind leaving the name out either.
    let mut nameless = manifest.clone();
    nameless.reference_uri = None;
    let (envelope, _) = signed(&nameless, &world.other_ca.key, &[]);
    world.refuses(&envelope, "name-missing");
    // Nor by declaring our component next to its own.
    let mut mixed = world.other_ca.release_manifest(&spec(9));
    mixed.common.components.push(
        TaComponent {
            uuid: world.uuid(),
            part: Part::Config,
        }
        .to_id(),
    );
    let (envelope, _) = signed(&mixed, &world.other_ca.key, &[]);
    world.refuses(&envelope, "component-unauthorised");
    world.assert_version(1);
    // Its own TA of the same name is another TA and installs beside ours.
    let theirs = world.other_ca.release(&spec(1));
    let config = world
        .other_ca
        .config(NAME, 1, &world.device(), &config_data(1));
    let envelope = world
        .tam
        .dependent(&theirs, &config, &world.device(), Delivery::Integrated);
    world.apply(&envelope).unwrap();
    assert_eq!(world.store().records().unwrap().len(), 2);
    world.assert_version(1);
}

#[test]
fn other_components_do_not_exist_here() {
    let world = World::new();
    let uuid = world.uuid();
    let paths: [&[&[u8]]; 4] = [
        &[b"TEEP-Device", b"SecureFS", uuid.as_bytes(), b"storage"],
        &[b"TEEP-Device", b"SecureFS", b"short", b"ta"],
        &[b"etc", b"passwd"],
        &[b"TEEP-Device", b"SecureFS", uuid.as_bytes(), b"ta", b"more"],
    ];
    for path in paths {
        let mut manifest = world.ca.release_manifest(&spec(1));
        manifest.common.components.push(ComponentId::new(path));
        let (envelope, _) = signed(&manifest, &world.ca.key, &[]);
        world.refuses(&envelope, "component-unsupported");
    }
}

// -- bytes on the way -------------------------------------------------------------------------

#[test]
fn a_flipped_bit_anywhere_changes_nothing() {
    let world = World::new();
    let envelope = world.delivery(1);
    for position in (0..envelope.len()).step_by(7) {
        let mut bad = envelope.clone();
        bad[position] ^= 1 << (position % 8);
        let before = world.platform.snapshot();
        match world.process(&bad) {
            Outcome::Failed(failure) => {
                if let Some(report) = &failure.report {
                    check_report(report);
                }
            }
            Outcome::NeedPayload { .. } => panic!("asks for a payload at {position}"),
            // A byte nobody reads (a name in an unprotected header): exactly the release.
            Outcome::Passed { changes, .. } => {
                assert_eq!(changes.len(), 1, "at {position}");
                world.store().apply(&changes).unwrap();
                world.assert_version(1);
                world.platform.restore(before);
                continue;
            }
        }
        assert_eq!(world.platform.snapshot(), before, "at {position}");
    }
}

#[test]
fn a_truncated_envelope_changes_nothing() {
    let world = World::new();
    let envelope = world.delivery(1);
    for len in (0..envelope.len()).step_by(5) {
        assert!(
            matches!(world.process(&envelope[..len]), Outcome::Failed(_)),
            "at {len}"
        );
    }
    assert_eq!(world.version(), None);
}

#[test]
fn a_payload_by_uri_is_asked_for_and_checked() {
    const URI: &str = "https://cdn.example.com/enrol-1";
    let mut world = World::new();
    let (release, config) = (world.release(1), world.config(1));
    let envelope = world
        .tam
        .dependent(&release, &config, &world.device(), Delivery::Uri(URI));
    let Outcome::NeedPayload { uri, max_bytes } = world.process(&envelope) else {
        panic!()
    };
    assert_eq!(uri, URI);
    assert_eq!(max_bytes, spec(1).module.len() + 16);
    assert_eq!(world.platform.changes(), 0);
    // What the REE brings is not believed: other bytes, one bit, too many.
    let mut flipped = release.ciphertext.clone();
    flipped[9] ^= 1;
    let mut long = release.ciphertext.clone();
    long.push(0);
    let swapped = [
        (b"rubbish".to_vec(), "payload"),
        (flipped, "payload"),
        (long, "too-large"),
        (world.release(2).ciphertext, "condition-failed"),
    ];
    for (bytes, code) in swapped {
        world.payloads.insert(URI.into(), bytes);
        world.refuses(&envelope, code);
    }
    world
        .payloads
        .insert(URI.into(), release.ciphertext.clone());
    world.apply(&envelope).unwrap();
    world.assert_version(1);
    // Delivered again, nothing is fetched: what is installed has the digest already.
    world.payloads.clear();
    assert_eq!(world.apply(&envelope), Ok(false));
}

#[test]
fn a_fragment_that_is_not_integrated_is_an_error() {
    let world = World::new();
    let (release, config) = (world.release(1), world.config(1));
    let manifest = world.tam.dependent_manifest(
        &release,
        &config,
        &world.device(),
        Delivery::Uri("#elsewhere"),
    );
    let envelope = world
        .tam
        .envelope(&manifest, &release, &config, Delivery::Uri("#elsewhere"));
    world.refuses(&envelope, "payload-missing");
    // Only the two schemes that a broker fetches are asked for.
    let manifest = world.tam.dependent_manifest(
        &release,
        &config,
        &world.device(),
        Delivery::Uri("file:///etc/passwd"),
    );
    let envelope = world
        .tam
        .envelope(&manifest, &release, &config, Delivery::Uri("x"));
    world.refuses(&envelope, "payload-missing");
}

// -- the machine ------------------------------------------------------------------------------

/// A release manifest of the CA that installs module and procedure with these commands before.
fn with_install(world: &World, commands: Vec<Command>) -> Vec<u8> {
    let mut install = commands;
    install.extend([
        Command::index(0),
        Command::OverrideParameters(Parameters {
            uri: Some("#module".into()),
            ..Parameters::default()
        }),
        Command::act(Directive::Fetch),
        Command::check(Condition::ImageMatch),
        Command::index(1),
        Command::act(Directive::Write),
        Command::check(Condition::ImageMatch),
    ]);
    let manifest = world
        .ca
        .release_manifest(&spec(1))
        .with_section(Section::Install, install);
    signed(&manifest, &world.ca.key, &[("#module", spec(1).module)]).0
}

fn sequence(commands: Vec<Command>) -> Sequence {
    commands.into()
}

#[test]
fn what_this_tee_does_not_do_is_refused_by_name() {
    let world = World::new();
    let tries = [
        (Command::act(Directive::Invoke), "command-unsupported"),
        (Command::act(Directive::Wait), "command-unsupported"),
        (Command::act(Directive::Unlink), "command-unsupported"),
        (Command::check(Condition::UseBefore), "command-unsupported"),
        (Command::check(Condition::Version), "command-unsupported"),
        (
            Command::Unsupported {
                code: -300,
                argument: 0.into(),
            },
            "command-unsupported",
        ),
        (Command::check(Condition::Abort), "condition-failed"),
        (Command::check(Condition::IsDependency), "condition-failed"),
        (Command::check(Condition::DependencyIntegrity), "bad-index"),
        (Command::act(Directive::ProcessDependency), "bad-index"),
        (Command::act(Directive::Copy), "parameter-missing"),
        (Command::act(Directive::Fetch), "parameter-missing"),
        (Command::index(7), "bad-index"),
        (
            Command::SetComponentIndex(IndexArg::Many(vec![0, 9])),
            "bad-index",
        ),
        (
            Command::OverrideParameters(Parameters {
                invoke_args: Some(vec![1]),
                ..Parameters::default()
            }),
            "parameter-unsupported",
        ),
        (
            Command::OverrideParameters(Parameters {
                other: vec![(-70, 1.into())],
                ..Parameters::default()
            }),
            "parameter-unsupported",
        ),
        (
            Command::OverrideParameters(Parameters {
                soft_failure: Some(true),
                ..Parameters::default()
            }),
            "parameter-unsupported",
        ),
    ];
    for (command, code) in tries {
        let envelope = with_install(&world, vec![Command::index(0), command]);
        let failure = world.refuses(&envelope, code);
        check_report(&failure.report.unwrap());
    }
    // Without any index chosen, no command has a component.
    let envelope = with_install(&world, vec![Command::act(Directive::Write)]);
    world.refuses(&envelope, "bad-index");
}

#[test]
fn try_each_goes_on_after_conditions_only() {
    let world = World::new();
    let never = || sequence(vec![Command::check(Condition::Abort)]);
    let always = || sequence(vec![Command::check(Condition::ComponentSlot)]);
    let slot = Command::OverrideParameters(Parameters {
        component_slot: Some(0),
        ..Parameters::default()
    });
    let try_each = |sequences, or_nothing| Command::TryEach {
        sequences,
        or_nothing,
    };
    let good = [
        try_each(vec![never(), always()], false),
        try_each(vec![never(), never()], true),
        Command::RunSequence(sequence(vec![
            Command::OverrideParameters(Parameters {
                soft_failure: Some(true),
                ..Parameters::default()
            }),
            Command::check(Condition::Abort),
        ])),
        // A try-each inside a try-each, of which the inner fails.
        try_each(
            vec![
                sequence(vec![try_each(vec![never(), never()], false)]),
                always(),
            ],
            false,
        ),
    ];
    for command in good {
        let envelope = with_install(&world, vec![Command::index(0), slot.clone(), command]);
        let Outcome::Passed { .. } = world.process(&envelope) else {
            panic!()
        };
    }
    let bad = [
        (try_each(vec![never(), never()], false), "none-succeeded"),
        (Command::RunSequence(never()), "condition-failed"),
        (
            // Hard failure where the author asked for it.
            try_each(
                vec![
                    sequence(vec![
                        Command::OverrideParameters(Parameters {
                            soft_failure: Some(false),
                            ..Parameters::default()
                        }),
                        Command::check(Condition::Abort),
                    ]),
                    always(),
                ],
                false,
            ),
            "condition-failed",
        ),
        (
            // A directive that fails is never soft.
            try_each(
                vec![sequence(vec![Command::act(Directive::Fetch)]), always()],
                false,
            ),
            "parameter-missing",
        ),
    ];
    for (command, code) in bad {
        let envelope = with_install(&world, vec![Command::index(0), slot.clone(), command]);
        world.refuses(&envelope, code);
    }
}

#[test]
fn set_keeps_and_override_replaces() {
    let world = World::new();
    let slot = |n| Parameters {
        component_slot: Some(n),
        ..Parameters::default()
    };
    let check = || Command::check(Condition::ComponentSlot);
    let good = vec![
        Command::index(0),
        Command::SetParameters(slot(0)),
        Command::SetParameters(slot(5)),
        check(),
        Command::OverrideParameters(slot(5)),
        Command::OverrideParameters(slot(0)),
        check(),
    ];
    world.apply(&with_install(&world, good)).unwrap();
    let bad = vec![Command::index(0), Command::SetParameters(slot(5)), check()];
    world.refuses(&with_install(&world, bad), "condition-failed");
}

#[test]
fn vendor_and_class_are_checked() {
    let world = World::new();
    let vendor = tegata_wire::ids::VendorId::derive("example.com");
    let class = tegata_wire::ids::ClassId::derive(&vendor, "sensor-1");
    let identity = |vendor, class| {
        vec![
            Command::index(0),
            Command::OverrideParameters(Parameters {
                vendor_id: Some(tegata_wire::suit::VendorIdentifier::Uuid(vendor)),
                class_id: Some(class),
                ..Parameters::default()
            }),
            Command::check(Condition::VendorIdentifier),
            Command::check(Condition::ClassIdentifier),
        ]
    };
    let wrong_vendor = tegata_wire::ids::VendorId::derive("example.org");
    let wrong_class = tegata_wire::ids::ClassId::derive(&vendor, "sensor-2");
    world.refuses(
        &with_install(&world, identity(wrong_vendor, class)),
        "condition-failed",
    );
    world.refuses(
        &with_install(&world, identity(vendor, wrong_class)),
        "condition-failed",
    );
    // A condition whose parameter was never set fails too.
    let unset = vec![
        Command::index(0),
        Command::check(Condition::VendorIdentifier),
    ];
    world.refuses(&with_install(&world, unset), "condition-failed");
    world
        .apply(&with_install(&world, identity(vendor, class)))
        .unwrap();
}

#[test]
fn copy_and_swap_move_bytes_that_must_then_be_checked() {
    let world = World::new();
    let source = |n| {
        Command::OverrideParameters(Parameters {
            source_component: Some(n),
            ..Parameters::default()
        })
    };
    // The module written into `procedure`, then both exchanged: every part ends where it belongs.
    let commands = vec![
        Command::index(1),
        Command::OverrideParameters(Parameters {
            uri: Some("#module".into()),
            ..Parameters::default()
        }),
        Command::OverrideParameters(image(&spec(1).module)),
        Command::act(Directive::Fetch),
        Command::index(0),
        source(1),
        Command::act(Directive::Copy),
        Command::check(Condition::ImageMatch),
        Command::act(Directive::Swap),
        Command::index(1),
        Command::OverrideParameters(image(&spec(1).procedure)),
    ];
    world.apply(&with_install(&world, commands)).unwrap();
    assert_eq!(world.installed().unwrap().module, spec(1).module);
}

#[test]
fn a_part_without_a_digest_of_its_signer_is_never_installed() {
    let world = World::new();
    let manifest = world.ca.release_manifest(&spec(1)).with_section(
        Section::Install,
        vec![
            Command::index(0),
            Command::OverrideParameters(Parameters {
                uri: Some("#module".into()),
                ..Parameters::default()
            }),
            Command::act(Directive::Fetch),
            Command::index(1),
            Command::act(Directive::Write),
            Command::check(Condition::ImageMatch),
        ],
    );
    let (envelope, _) = signed(&manifest, &world.ca.key, &[("#module", spec(1).module)]);
    world.refuses(&envelope, "unchecked");
}

#[test]
fn half_a_release_is_never_installed() {
    let world = World::new();
    // Declared and not written.
    let manifest = world.ca.release_manifest(&spec(1)).with_section(
        Section::Install,
        vec![
            Command::index(0),
            Command::OverrideParameters(Parameters {
                uri: Some("#module".into()),
                ..Parameters::default()
            }),
            Command::act(Directive::Fetch),
            Command::check(Condition::ImageMatch),
        ],
    );
    let (envelope, _) = signed(&manifest, &world.ca.key, &[("#module", spec(1).module)]);
    world.refuses(&envelope, "incomplete");
    // Personalization without its release.
    let data = b"secret".to_vec();
    let manifest = world.ca.config_manifest(NAME, 1, None, &data);
    let mut shared = manifest.common.shared.clone().unwrap().commands().to_vec();
    shared.push(Command::OverrideParameters(Parameters {
        uri: Some("#config".into()),
        ..Parameters::default()
    }));
    let manifest = manifest.with_shared(shared);
    let (envelope, _) = signed(&manifest, &world.ca.key, &[("#config", data)]);
    world.refuses(&envelope, "incomplete");
    // A manifest without an update procedure.
    let uuid = world.uuid();
    let empty = Manifest::new(
        1,
        vec![
            TaComponent {
                uuid,
                part: Part::Ta,
            }
            .to_id(),
        ],
    );
    let (envelope, _) = signed(&empty, &world.tam.key, &[]);
    world.refuses(&envelope, "incomplete");
}

// -- dependencies -----------------------------------------------------------------------------

/// The usual dependent manifest with its install section changed.
fn dependent_with(world: &World, change: impl Fn(Vec<Command>) -> Vec<Command>) -> Vec<u8> {
    let (release, config) = (world.release(1), world.config(1));
    let manifest =
        world
            .tam
            .dependent_manifest(&release, &config, &world.device(), Delivery::Integrated);
    let install = manifest
        .sequence(Section::Install)
        .unwrap()
        .commands()
        .to_vec();
    let manifest = manifest.with_section(Section::Install, change(install));
    world
        .tam
        .envelope(&manifest, &release, &config, Delivery::Integrated)
}

#[test]
fn a_dependency_runs_only_after_its_integrity_was_checked() {
    let world = World::new();
    let unchecked = dependent_with(&world, |commands| {
        let integrity = Command::check(Condition::DependencyIntegrity);
        commands
            .into_iter()
            .filter(|command| *command != integrity)
            .collect()
    });
    world.refuses(&unchecked, "dependency-unchecked");
    let process = Command::act(Directive::ProcessDependency);
    let skipped = dependent_with(&world, |commands| {
        commands
            .into_iter()
            .filter(|command| *command != process)
            .collect()
    });
    world.refuses(&skipped, "dependency-skipped");
    let forgotten = dependent_with(&world, |mut commands| {
        commands.truncate(commands.len() - 5);
        commands
    });
    world.refuses(&forgotten, "dependency-unchecked");
    // Fetched anew after the check, it counts as unchecked again.
    let again = dependent_with(&world, |mut commands| {
        let at = commands.len() - 1;
        commands.insert(at, Command::act(Directive::Fetch));
        commands
    });
    world.refuses(&again, "dependency-unchecked");
    let other_digest = dependent_with(&world, |mut commands| {
        commands.insert(
            5,
            Command::OverrideParameters(Parameters {
                image_digest: Some(SuitDigest::sha256([7; 32])),
                uri: Some("#dep-ta".into()),
                ..Parameters::default()
            }),
        );
        commands.remove(6);
        commands
    });
    world.refuses(&other_digest, "condition-failed");
}

#[test]
fn dependencies_may_be_resolved_and_processed_in_lockstep() {
    let world = World::new();
    // The draft's own template: resolve first, then install.
    let envelope = {
        let (release, config) = (world.release(1), world.config(1));
        let manifest =
            world
                .tam
                .dependent_manifest(&release, &config, &world.device(), Delivery::Integrated);
        let install = manifest
            .sequence(Section::Install)
            .unwrap()
            .commands()
            .to_vec();
        let process = Command::act(Directive::ProcessDependency);
        let resolution: Vec<_> = install.iter().skip(4).cloned().collect();
        let mut rest: Vec<_> = install.iter().take(4).cloned().collect();
        rest.extend([
            Command::index(2),
            process.clone(),
            Command::index(3),
            process,
        ]);
        let manifest = manifest
            .with_section(Section::DependencyResolution, resolution)
            .with_section(Section::Install, rest);
        world
            .tam
            .envelope(&manifest, &release, &config, Delivery::Integrated)
    };
    world.apply(&envelope).unwrap();
    world.assert_version(1);
}

#[test]
fn a_section_of_a_dependency_cannot_be_left_out() {
    let world = World::new();
    let with = |section| {
        let manifest = world.ca.release_manifest(&spec(1)).with_section(
            section,
            vec![Command::index(0), Command::check(Condition::Abort)],
        );
        let release = world.ca.release_of(&manifest, &spec(1));
        world.tam.dependent(
            &release,
            &world.config(1),
            &world.device(),
            Delivery::Integrated,
        )
    };
    world.refuses(&with(Section::PayloadFetch), "dependency-skipped");
    world.refuses(&with(Section::CandidateVerification), "dependency-skipped");
    // Validation is run for it where the dependent forgot.
    world.refuses(&with(Section::Validate), "condition-failed");
}

#[test]
fn severed_sections_come_from_the_envelope() {
    let world = World::new();
    let manifest = world.ca.release_manifest(&spec(1));
    let sever = |with: bool| {
        let sha256 = |data: &[u8]| {
            tegata_crypto::Provider::sha256(&tegata_crypto::rustcrypto::RustCrypto, data)
        };
        let mut builder =
            EnvelopeBuilder::severing(&manifest, &[Section::Install], sha256).unwrap();
        let digest = builder.digest().to_sha256().unwrap();
        let payload = builder.signed_payload().to_vec();
        let headers = tegata_crypto::cose::Sign1Headers::default();
        let signature =
            tegata_crypto::cose::sign1(&world.ca.key, &payload, &headers, b"", true).unwrap();
        builder.add_sign1(signature).unwrap();
        let mut envelope = builder.finish().unwrap();
        if !with {
            // Label 20 of the envelope's map is the severed section: take it out again.
            let tegata_wire::cbor::Value::Tag(tag, inner) =
                tegata_wire::cbor::decode(&envelope, 8).unwrap()
            else {
                panic!()
            };
            let tegata_wire::cbor::Value::Map(mut entries) = *inner else {
                panic!()
            };
            entries.retain(|(key, _)| *key != 20.into());
            let map = tegata_wire::cbor::Value::Map(entries);
            envelope = tegata_wire::cbor::encode(&tegata_wire::cbor::tagged(tag, map)).unwrap();
        }
        let mut release = world.release(1);
        release.envelope = envelope;
        release.digest = digest.into();
        world.tam.dependent(
            &release,
            &world.config(1),
            &world.device(),
            Delivery::Integrated,
        )
    };
    world.refuses(&sever(false), "severed");
    world.apply(&sever(true)).unwrap();
    world.assert_version(1);
}

// -- bombs ------------------------------------------------------------------------------------

#[test]
fn nested_loops_run_out_of_budget() {
    let world = World::new();
    let all = || Command::SetComponentIndex(IndexArg::All);
    let many: Vec<Command> = (0..40)
        .map(|_| Command::check(Condition::ComponentSlot))
        .collect();
    let slot = Command::OverrideParameters(Parameters {
        component_slot: Some(0),
        ..Parameters::default()
    });
    let mut body = vec![all(), slot];
    body.extend(many);
    let mut command = Command::RunSequence(sequence(body));
    for _ in 0..3 {
        command = Command::RunSequence(sequence(vec![
            Command::SetComponentIndex(IndexArg::Many(vec![0, 1, 0, 1, 0, 1, 0, 1])),
            command.clone(),
            command,
        ]));
    }
    let failure = world.refuses(&with_install(&world, vec![all(), command]), "budget");
    assert!(failure.error.to_string().contains("commands"));
}

#[test]
fn payload_loops_run_out_of_budget() {
    let world = World::new();
    let fetch = Command::act(Directive::Fetch);
    let mut big = spec(1);
    big.module = vec![7; 1024 * 1024];
    let mut install = vec![
        Command::index(0),
        // Another digest at first, or the fetch would be clever.
        Command::OverrideParameters(Parameters {
            uri: Some("#module".into()),
            ..Parameters::default()
        }),
    ];
    install.extend(vec![fetch; 20]);
    let manifest = world
        .ca
        .release_manifest(&big)
        .with_section(Section::Install, install);
    let (envelope, _) = signed(&manifest, &world.ca.key, &[("#module", big.module)]);
    let failure = world.refuses(&envelope, "budget");
    assert!(failure.error.to_string().contains("bytes"));
}

#[test]
fn deep_and_huge_cbor_is_refused_before_it_is_built() {
    let world = World::new();
    for bomb in [
        vec![0x81; 100_000],
        vec![0xa1; 50_000],
        vec![0xd8; 9],
        vec![0x9f; 70_000],
    ] {
        assert!(matches!(world.process(&bomb), Outcome::Failed(_)));
    }
    // A claimed length far beyond the input.
    let claimed = [
        0xd8, 0x6b, 0xa2, 0x02, 0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
    ];
    assert!(matches!(world.process(&claimed), Outcome::Failed(_)));
    let huge = vec![0u8; tegata_tee::suit::MAX_ENVELOPE_BYTES + 1];
    world.refuses(&huge, "too-large");
}

#[test]
fn an_endless_chain_of_dependencies_ends() {
    let world = World::new();
    let ca = &world.ca;
    // Each manifest depends on the one before it, one more than allowed.
    let (mut inner, mut digest) = signed(&ca.release_manifest(&spec(1)), &ca.key, &[]);
    for level in 0..5u64 {
        let manifest = Manifest::new(level, vec![])
            .with_dependency(0, None)
            .with_section(
                Section::Install,
                vec![
                    Command::index(0),
                    Command::OverrideParameters(Parameters {
                        image_digest: Some(SuitDigest::sha256(digest)),
                        uri: Some("#inner".into()),
                        ..Parameters::default()
                    }),
                    Command::act(Directive::Fetch),
                    Command::check(Condition::DependencyIntegrity),
                    Command::act(Directive::ProcessDependency),
                ],
            );
        (inner, digest) = signed(&manifest, &ca.key, &[("#inner", inner)]);
    }
    world.refuses(&inner, "budget");
}

// -- removal ----------------------------------------------------------------------------------

#[test]
fn uninstall_runs_the_manifests_own_section() {
    let world = World::new();
    world.apply(&world.delivery(1)).unwrap();
    world.uninstall().unwrap();
    assert_eq!(world.version(), None);
    world.uninstall().unwrap();
    // A manifest may forbid its own removal on this device.
    let manifest = world.ca.release_manifest(&spec(2)).with_section(
        Section::Uninstall,
        vec![Command::index(0), Command::check(Condition::Abort)],
    );
    let release = world.ca.release_of(&manifest, &spec(2));
    let envelope = world.tam.dependent(
        &release,
        &world.config(2),
        &world.device(),
        Delivery::Integrated,
    );
    world.apply(&envelope).unwrap();
    assert_eq!(world.uninstall().unwrap_err().code(), "condition-failed");
    world.assert_version(2);
}

#[test]
fn ed25519_releases_work_too() {
    let world = World::new();
    let mut rng = tegata_tee::testing::release::rng(60);
    let ed = tegata_crypto::PrivateKey::generate(tegata_crypto::KeyAlg::Ed25519, &mut rng);
    let ca = tegata_tee::testing::release::TestCa { key: ed.unwrap() };
    let anchors = tegata_tee::TrustAnchors::new(
        vec![ca.key.public_key().clone()],
        vec![world.tam.key.public_key().clone()],
    );
    let world = World {
        ca,
        anchors: anchors.unwrap(),
        ..world
    };
    world.apply(&world.delivery(1)).unwrap();
    world.assert_version(1);
}

#[test]
fn no_key_may_be_release_key_and_tam_key() {
    let tam = TestTam::new(1);
    let key = tam.key.public_key().clone();
    assert!(tegata_tee::TrustAnchors::new(vec![key.clone()], vec![key]).is_err());
}
