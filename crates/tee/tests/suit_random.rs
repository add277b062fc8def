//! Random programs for the manifest processor, signed by each kind of key: whatever they do, what
//! is installed is what a release key signed for this device, and nothing panics.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

mod common;

use common::{World, config_data, spec};
use proptest::prelude::*;
use tegata_tee::suit::Outcome;
use tegata_tee::testing::release::{Delivery, image, signed};
use tegata_wire::suit::{Command, Condition, Directive, IndexArg, Parameters, RepPolicy, Section};

/// One parameter map, from the values that mean something in these tests.
fn parameters() -> impl Strategy<Value = Parameters> {
    let digests = prop_oneof![
        Just(image(&spec(1).module)),
        Just(image(&spec(1).procedure)),
        Just(image(&config_data(1))),
        Just(image(b"evil")),
    ];
    let uri = prop_oneof![
        Just("#ta"),
        Just("#config"),
        Just("#dep-ta"),
        Just("#dep-config"),
        Just("#evil"),
        Just("https://cdn.example.com/x"),
    ];
    let some = |parameters: Parameters| Just(parameters);
    prop_oneof![
        digests,
        uri.prop_map(|uri| Parameters {
            uri: Some(uri.into()),
            ..Parameters::default()
        }),
        (0u64..4).prop_map(|n| Parameters {
            source_component: Some(n),
            ..Parameters::default()
        }),
        (0u64..2).prop_map(|n| Parameters {
            component_slot: Some(n),
            ..Parameters::default()
        }),
        any::<bool>().prop_map(|b| Parameters {
            soft_failure: Some(b),
            ..Parameters::default()
        }),
        some(Parameters {
            content: Some(b"evil".to_vec()),
            ..Parameters::default()
        }),
        some(Parameters {
            content: Some(spec(1).procedure),
            ..Parameters::default()
        }),
        some(Parameters {
            encryption_info: Some(vec![0x84]),
            ..Parameters::default()
        }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let condition = prop_oneof![
        Just(Condition::ImageMatch),
        Just(Condition::DependencyIntegrity),
        Just(Condition::IsDependency),
        Just(Condition::ComponentSlot),
        Just(Condition::CheckContent),
        Just(Condition::DeviceIdentifier),
        Just(Condition::Abort),
    ];
    let directive = prop_oneof![
        Just(Directive::Fetch),
        Just(Directive::Write),
        Just(Directive::Copy),
        Just(Directive::Swap),
        Just(Directive::ProcessDependency),
        Just(Directive::Unlink),
        Just(Directive::Invoke),
    ];
    let leaf = prop_oneof![
        4 => (0u64..5).prop_map(Command::index),
        1 => Just(Command::SetComponentIndex(IndexArg::All)),
        1 => Just(Command::SetComponentIndex(IndexArg::Many(vec![0, 1]))),
        3 => parameters().prop_map(Command::SetParameters),
        3 => parameters().prop_map(Command::OverrideParameters),
        4 => condition.prop_map(|c| Command::Condition(c, RepPolicy::ALL)),
        5 => directive.prop_map(|d| Command::Directive(d, RepPolicy::ALL)),
    ];
    leaf.prop_recursive(2, 12, 4, |inner| {
        let body = prop::collection::vec(inner, 1..4);
        prop_oneof![
            body.clone()
                .prop_map(|commands| Command::RunSequence(commands.into())),
            (body.clone(), body, any::<bool>()).prop_map(|(one, two, or_nothing)| {
                Command::TryEach {
                    sequences: vec![one.into(), two.into()],
                    or_nothing,
                }
            }),
        ]
    })
}

/// Whatever passed installs the CA's bytes of this version, whole.
fn only_the_release(world: &World, envelope: &[u8], with_config: bool) {
    match world.process(envelope) {
        Outcome::Passed {
            changes, report, ..
        } => {
            common::check_report(&report);
            world.store().apply(&changes).unwrap();
            let ta = world.installed().unwrap();
            assert_eq!(ta.module, spec(1).module);
            assert_eq!(ta.procedure.unwrap(), spec(1).procedure);
            let config = ta.config.map(|config| config.expose_secret().clone());
            assert_eq!(config, with_config.then(|| config_data(1)));
        }
        Outcome::Failed(failure) => {
            common::check_report(&failure.report.unwrap());
            assert_eq!(world.platform.changes(), 0);
        }
        Outcome::NeedPayload { uri, .. } => assert!(uri.starts_with("https://")),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// A TAM that writes any program around true releases.
    #[test]
    fn a_tams_program_installs_the_release_or_nothing(
        before in prop::collection::vec(command(), 0..5),
        after in prop::collection::vec(command(), 0..5),
        resolve in prop::collection::vec(command(), 0..4),
        keep in any::<bool>(),
    ) {
        let world = World::new();
        let (release, config) = (world.release(1), world.config(1));
        let device = world.device();
        let mut manifest =
            world.tam.dependent_manifest(&release, &config, &device, Delivery::Integrated);
        let usual = manifest.sequence(Section::Install).unwrap().commands().to_vec();
        let mut install = before;
        if keep {
            install.extend(usual);
        }
        install.extend(after);
        install.push(Command::index(0));
        manifest = manifest.with_section(Section::Install, install);
        if !resolve.is_empty() {
            manifest = manifest.with_section(Section::DependencyResolution, resolve);
        }
        let (envelope, _) = signed(&manifest, &world.tam.key, &[
            ("#dep-ta", release.envelope.clone()),
            ("#dep-config", config.envelope.clone()),
            ("#config", config.ciphertext.clone()),
            ("#ta", release.ciphertext.clone()),
            ("#evil", b"evil".to_vec()),
        ]);
        only_the_release(&world, &envelope, true);
    }

    /// A CA may write any program of its own; none breaks the processor, and nothing half-checked
    /// is ever installed.
    #[test]
    fn a_cas_program_never_breaks_the_processor(
        commands in prop::collection::vec(command(), 0..10),
    ) {
        let world = World::new();
        let mut install = commands;
        install.push(Command::index(0));
        let manifest = world.ca.release_manifest(&spec(1)).with_section(Section::Install, install);
        let payloads = [("#ta", spec(1).module), ("#evil", b"evil".to_vec())];
        let (envelope, _) = signed(&manifest, &world.ca.key, &payloads);
        match world.process(&envelope) {
            Outcome::Passed { changes, .. } => world.store().apply(&changes).unwrap(),
            Outcome::Failed(failure) => common::check_report(&failure.report.unwrap()),
            Outcome::NeedPayload { .. } => {}
        }
        if let Some(ta) = world.installed() {
            // What is there has a digest that the CA's program named for that very part.
            let known = [spec(1).module, spec(1).procedure, config_data(1), b"evil".to_vec()];
            prop_assert!(known.contains(&ta.module));
        }
    }

    /// Any bytes at all.
    #[test]
    fn noise_never_breaks_the_processor(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let world = World::new();
        prop_assert!(matches!(world.process(&bytes), Outcome::Failed(_)));
    }
}
