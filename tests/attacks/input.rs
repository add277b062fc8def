//! Line 6: oversized, deeply nested and random input to everything that decodes what peers send.

use tegata_authority::tam::availability::Availability;
use tegata_tee::gp::params::{Param, Params};
use tegata_wire::ids::TaUuid;

use crate::enrolment::ready;
use crate::rig::{ALICE, Device, SECS, Seeded, World, sampled, sign_teep, ta};
use crate::suite::Tried;

/// Input that is cheap to send and dear to believe.
pub fn bombs() -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0xff; 3000],
        vec![0x81; 100_000],                     // arrays in arrays
        [0xa1, 0x00].repeat(50_000),             // maps in maps
        [0xd2, 0x81].repeat(50_000),             // tags in arrays
        [0x5f].repeat(5000),                     // endless strings
        [0x9f].repeat(5000),                     // endless arrays
        [0x30, 0x80].repeat(50_000),             // DER without lengths
        [0x30, 0x82, 0xff, 0xff].repeat(20_000), // DER that promises
        vec![0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], // a string of 2^63
        vec![0x9b, 0, 0, 0, 1, 0, 0, 0, 0],      // an array of 2^32
        vec![0xbb, 0, 0, 0, 1, 0, 0, 0, 0],      // a map of 2^32
        vec![0x30, 0x84, 0x7f, 0xff, 0xff, 0xff, 2, 1, 2],
        vec![0xd2, 0x84, 0x40, 0xa0, 0x40, 0x40], // a COSE_Sign1 of nothing
        vec![0xd8, 0x6b, 0xa0],                   // a SUIT envelope of nothing
        vec![0; 1 << 20],
        vec![0x80; 1 << 20],
    ];
    // Nested as deep as a definite-length DER allows in 60 kB.
    let mut nested = vec![0x05, 0x00];
    while nested.len() < 60_000 {
        let len = nested.len();
        let mut outer = vec![0x30, 0x82, (len >> 8) as u8, len as u8];
        outer.extend_from_slice(&nested);
        nested = outer;
    }
    out.push(nested);
    out
}

/// Every decoder of every role and of the TEE; `valid` messages spoilt at random besides.
pub fn stranger_sends_bombs() -> Tried {
    let (world, ta, device) = ready(61);
    let query = world.teep_message(b"");
    let request = device.open(&ta, ALICE).call(ta::BEGIN, &[b"web"]).unwrap();
    let response = device.teep(&query).unwrap();
    let mut inputs = bombs();
    let mut rng = Seeded(5);
    for seed in [&query, &request, &response] {
        for _ in 0..60 {
            let mut spoilt = seed.to_vec();
            for _ in 0..=rng.next() % 4 {
                let at = (rng.next() % spoilt.len() as u64) as usize;
                match rng.next() % 4 {
                    0 => spoilt[at] = rng.next() as u8,
                    1 => spoilt.truncate(at.max(1)),
                    2 => spoilt.insert(at, rng.next() as u8),
                    _ => spoilt[at] = 0xff,
                }
            }
            inputs.push(spoilt);
        }
    }
    let (before, stored) = (world.fingerprint(), device.storage());
    let rss = resident_kib();
    let mut tried = 0;
    for (number, input) in inputs.iter().enumerate() {
        to_servers_and_tee(&world, &device, input);
        tried += 8;
        // Each call of a TA is interpreted: a part of them, unless all are wanted.
        if number % sampled(5) == 0 {
            to_the_ta(&device, &ta, input);
            tried += 3;
        }
    }
    // Spoilt as a whole, a QueryRequest of the TAM can still be answered; it changes nothing.
    assert_eq!(device.storage(), stored, "the TEE's storage changed");
    assert_eq!(world.fingerprint(), before, "a store changed");
    let grown = resident_kib().saturating_sub(rss);
    assert!(grown < 256 * 1024, "{grown} KiB more than before");
    Tried::Times(tried)
}

fn to_servers_and_tee(world: &World, device: &Device, input: &[u8]) {
    let _ = device.teep(input);
    if !input.is_empty() {
        assert!(world.teep(input).is_err());
    }
    let (_, outcome) = world.cmp(input);
    assert!(matches!(
        outcome,
        tegata_store::issuer::CmpOutcome::Denied(_)
    ));
    assert!(world.ca.deliver(input, &mut world.rng(), SECS).is_err());
    let rule = Availability::Everybody;
    assert!(world.tam.import_release(input, &rule, SECS).is_err());
    assert!(world.verifier.appraise(input, SECS).is_err());
    assert!(world.verifier.import_reference_value(input, SECS).is_err());
    for role in [world.ca.role(), world.tam.role()] {
        assert!(role.import_devices(input, SECS).is_err());
    }
}

fn to_the_ta(device: &Device, ta: &TaUuid, input: &[u8]) {
    let session = device.open(ta, ALICE);
    let cut = &input[..input.len().min(100_000)];
    assert!(session.call(ta::FINISH, &[b"web", cut]).is_err());
    assert!(session.call(ta::CONFIRM, &[b"web", cut]).is_err());
    let _ = session.call(ta::STATUS, &[cut]);
}

/// A TAM's key signs nonsense: the TEE reads it only after the signature, and bears it.
pub fn insider_sends_bombs() -> Tried {
    use tegata_crypto::cose::{Sign1Headers, sign1};
    use tegata_wire::teep::{Token, Update};
    let world = World::new(62);
    world.release("enrol", crate::delivery::MODULE, false);
    let device = world.device();
    let tam = world.tam_key();
    let before = device.storage();
    let mut tried = 0;
    for bomb in bombs() {
        let signed = sign1(&tam, &bomb, &Sign1Headers::default(), b"", false).unwrap();
        let _ = device.teep(&signed);
        let update = Update {
            token: Some(Token::new(vec![1; 16]).unwrap()),
            manifest_list: Some(vec![bomb.clone()]),
            ..Update::default()
        };
        if let Ok(message) = std::panic::catch_unwind(|| sign_teep(&tam, update)) {
            let _ = device.teep(&message);
        }
        assert_eq!(device.storage(), before);
        tried += 2;
    }
    Tried::Times(tried)
}

/// Parameters of a client that fit no command, and sizes that fit no memory.
pub fn application_sends_nonsense() -> Tried {
    let (_world, ta, device) = ready(63);
    let before = device.storage();
    let session = device.open(&ta, ALICE);
    let kinds = || {
        [
            Param::None,
            Param::ValueInput {
                a: u32::MAX,
                b: u32::MAX,
            },
            Param::ValueOutput,
            Param::ValueInout { a: 0, b: 0 },
            Param::MemrefInput { buffer: Vec::new() },
            Param::MemrefInput {
                buffer: vec![b'x'; 300_000],
            },
            Param::MemrefOutput { size: u32::MAX },
            Param::MemrefOutput { size: 0 },
            Param::MemrefInout {
                buffer: vec![0xff; 64],
            },
        ]
    };
    let mut tried = 0;
    for command in (0..12).chain([u32::MAX]) {
        for first in 0..9 {
            for second in [0, 1, 5, 6] {
                let mut params = Params::default();
                params[0] = kinds().into_iter().nth(first).unwrap();
                params[1] = kinds().into_iter().nth(second).unwrap();
                params[3] = kinds().into_iter().nth((first + second) % 9).unwrap();
                let got = session.invoke(command, params);
                if command == ta::BEGIN || command == ta::LIST {
                    continue;
                }
                assert!(got.is_err(), "command {command} took {first}, {second}");
                tried += 1;
            }
        }
    }
    assert_eq!(device.storage(), before);
    Tried::Times(tried)
}

/// Resident memory of this process.
pub fn resident_kib() -> u64 {
    resident_kib_of("self")
}

pub fn resident_kib_of(pid: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse().ok())
        .unwrap_or(0)
}
