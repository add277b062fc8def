//! What can happen, drawn from a seed. An operation is plain data: what it refers to is found when
//! it runs, by numbers that are reduced to whatever is there. So any part of a list of operations
//! is a run of its own, which is what makes failures small.

use crate::device::{App, LABELS, Slot};
use crate::prng::Prng;

/// One of the three server roles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Ca,
    Tam,
    Verifier,
}

impl Role {
    pub const ALL: [Self; 3] = [Self::Ca, Self::Tam, Self::Verifier];
}

/// Who may get a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    Nobody,
    Everybody,
    Half,
    OneBatch(u32),
    OneDevice(u32),
    Withdrawn,
}

/// Whose clock jumps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    Server(Role),
    Device(u32),
}

/// One thing that happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// The factory makes a batch.
    MakeBatch {
        count: u32,
    },
    /// A role imports a batch.
    Import {
        batch: u32,
        at: Role,
    },
    /// The CA cuts a release.
    CutRelease {
        variant: u32,
    },
    /// A release goes to the TAM, or its reference value to the Verifier.
    Register {
        release: u32,
        at: Role,
    },
    /// CA or TAM is told who may get a release.
    Stage {
        release: u32,
        rule: Rule,
        at: Role,
    },
    /// A device visits the TAM, because it wants the TA or just so.
    Sync {
        device: u32,
        want: bool,
    },
    /// A program asks for a certificate, or goes on with that.
    Enrol {
        device: u32,
        slot: Slot,
    },
    /// An owner signs.
    Sign {
        device: u32,
        slot: Slot,
    },
    /// Somebody else tries a key.
    WrongApp {
        device: u32,
        slot: Slot,
        thief: App,
        command: u32,
    },
    /// An owner deletes key and certificate.
    Delete {
        device: u32,
        slot: Slot,
    },
    /// A program closes its session.
    CloseSession {
        device: u32,
        app: App,
    },
    /// A packet arrives.
    Deliver {
        pick: u32,
    },
    /// So many packets arrive, in an order that chance makes.
    Flow {
        pick: u32,
        count: u32,
    },
    Drop {
        pick: u32,
    },
    Duplicate {
        pick: u32,
    },
    Delay {
        pick: u32,
        ms: u32,
    },
    Corrupt {
        pick: u32,
        how: u32,
    },
    /// A recorded TEEP or CMP request is sent to its server again.
    Replay {
        cmp: bool,
        pick: u32,
    },
    /// The REE hands its TEE any TEEP message that it ever heard: an old one, another device's.
    OfferTeep {
        device: u32,
        pick: u32,
    },
    /// The REE hands the TA any CMP answer that it ever heard.
    OfferCmp {
        device: u32,
        slot: Slot,
        pick: u32,
        confirm: bool,
    },
    /// Somebody with the TAM's key makes an Update for one device out of what is for another.
    InsiderOther {
        device: u32,
        other: u32,
    },
    /// Somebody with the TAM's key makes a new Update of an old release.
    InsiderOlder {
        device: u32,
        pick: u32,
    },
    /// A device will die at that write of its medium from now.
    CrashDevice {
        device: u32,
        at: u32,
        kept: bool,
    },
    PowerCut {
        device: u32,
    },
    Boot {
        device: u32,
    },
    /// A server will die at that side of a commit from now.
    CrashServer {
        role: Role,
        at: u32,
    },
    Restart {
        role: Role,
    },
    Jump {
        whose: Whose,
        ms: i64,
    },
    Wait {
        ms: u32,
    },
}

fn slot(rng: &mut Prng) -> Slot {
    let app = App::OWNERS[usize::from(rng.chance(30))];
    (app, LABELS[usize::from(rng.chance(30))])
}

fn role(rng: &mut Prng) -> Role {
    Role::ALL[rng.below(3) as usize]
}

fn rule(rng: &mut Prng) -> Rule {
    match rng.below(20) {
        0..=10 => Rule::Everybody,
        11..=13 => Rule::Half,
        14..=15 => Rule::OneBatch(rng.pick()),
        16..=17 => Rule::OneDevice(rng.pick()),
        18 => Rule::Withdrawn,
        _ => Rule::Nobody,
    }
}

/// From a second to a year, either way.
fn jump_ms(rng: &mut Prng) -> i64 {
    let scale = [1_000, 60_000, 3_600_000, 86_400_000, 2_592_000_000];
    let ms = scale[rng.below(scale.len() as u64) as usize] * (1 + rng.below(12) as i64);
    if rng.chance(50) { ms } else { -ms }
}

/// The operations of a seed. A first part sets things up, so that something can happen at all; it
/// has its own share of trouble.
pub fn generate(seed: u64, len: usize) -> Vec<(u32, Op)> {
    let mut rng = Prng::new(seed, "operations");
    let mut ops = vec![
        Op::MakeBatch {
            count: 1 + rng.below(3) as u32,
        },
        Op::CutRelease { variant: 0 },
    ];
    for at in Role::ALL {
        ops.push(Op::Import { batch: 0, at });
    }
    ops.push(Op::Register {
        release: 0,
        at: Role::Tam,
    });
    ops.push(Op::Register {
        release: 0,
        at: Role::Verifier,
    });
    // Then one device gets as far as the network lets it.
    let (device, slot) = (0, (App::Main, LABELS[0]));
    for first in [Op::Sync { device, want: true }, Op::Enrol { device, slot }] {
        ops.push(first);
        for _ in 0..2 {
            let pick = rng.pick();
            ops.push(Op::Flow { pick, count: 4 });
            ops.push(one(&mut rng));
        }
    }
    while ops.len() < len {
        ops.push(one(&mut rng));
    }
    ops.truncate(len);
    (0..).zip(ops).collect()
}

fn one(rng: &mut Prng) -> Op {
    let device = rng.pick();
    let pick = rng.pick();
    match rng.below(1000) {
        0..=14 => Op::MakeBatch {
            count: 1 + rng.below(2) as u32,
        },
        15..=39 => Op::Import {
            batch: pick,
            at: role(rng),
        },
        40..=54 => Op::CutRelease { variant: pick },
        55..=74 => Op::Register {
            release: pick,
            at: if rng.chance(60) {
                Role::Tam
            } else {
                Role::Verifier
            },
        },
        75..=94 => Op::Stage {
            release: pick,
            rule: rule(rng),
            at: if rng.chance(70) { Role::Tam } else { Role::Ca },
        },
        95..=184 => Op::Sync {
            device,
            want: rng.chance(80),
        },
        185..=274 => Op::Enrol {
            device,
            slot: slot(rng),
        },
        275..=294 => Op::Sign {
            device,
            slot: slot(rng),
        },
        295..=314 => Op::WrongApp {
            device,
            slot: slot(rng),
            thief: [App::Main, App::Other, App::Stranger][rng.below(3) as usize],
            command: [2, 3, 4, 5, 7, 8][rng.below(6) as usize],
        },
        315..=324 => Op::Delete {
            device,
            slot: slot(rng),
        },
        325..=334 => Op::CloseSession {
            device,
            app: App::OWNERS[rng.below(2) as usize],
        },
        335..=594 => Op::Deliver { pick },
        595..=694 => Op::Flow {
            pick,
            count: 2 + rng.below(9) as u32,
        },
        695..=724 => Op::Drop { pick },
        725..=754 => Op::Duplicate { pick },
        755..=769 => Op::Delay {
            pick,
            ms: rng.below(3_600_000) as u32,
        },
        770..=789 => Op::Corrupt {
            pick,
            how: rng.pick(),
        },
        790..=809 => Op::Replay {
            cmp: rng.chance(50),
            pick,
        },
        810..=834 => Op::OfferTeep { device, pick },
        835..=859 => Op::OfferCmp {
            device,
            slot: slot(rng),
            pick,
            confirm: rng.chance(30),
        },
        860..=869 => Op::InsiderOther {
            device,
            other: rng.pick(),
        },
        870..=879 => Op::InsiderOlder { device, pick },
        880..=909 => Op::CrashDevice {
            device,
            at: rng.below(12) as u32,
            kept: rng.chance(50),
        },
        910..=919 => Op::PowerCut { device },
        920..=929 => Op::Boot { device },
        930..=954 => Op::CrashServer {
            role: role(rng),
            at: rng.below(8) as u32,
        },
        955..=962 => Op::Restart { role: role(rng) },
        963..=982 => Op::Jump {
            whose: if rng.chance(60) {
                Whose::Server(role(rng))
            } else {
                Whose::Device(device)
            },
            ms: jump_ms(rng),
        },
        _ => Op::Wait {
            ms: rng.below(600_000) as u32,
        },
    }
}
