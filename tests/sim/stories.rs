//! Failures that the simulation found once, as operations of their own: they happen again whatever
//! becomes of the generator.

use crate::device::{App, LABELS, Slot};
use crate::ops::{Op, Role, Whose};
use crate::runner::Run;

/// A world in which certificates are confirmed, and no line between servers fails in these stories.
const WORLD: u64 = 4;
const SLOT: Slot = (App::Main, LABELS[0]);

/// Batch, release and registrations, everywhere.
fn beginning(devices: u32) -> Vec<Op> {
    let mut ops = vec![
        Op::MakeBatch { count: devices },
        Op::CutRelease { variant: 0 },
    ];
    ops.extend(Role::ALL.map(|at| Op::Import { batch: 0, at }));
    ops.extend(registered(0));
    ops
}

fn registered(release: u32) -> [Op; 2] {
    [Role::Tam, Role::Verifier].map(|at| Op::Register { release, at })
}

/// Enough for everything in flight to arrive, and what comes of it.
const ALL_ARRIVES: Op = Op::Flow { pick: 0, count: 8 };

fn sync(device: u32) -> [Op; 2] {
    [Op::Sync { device, want: true }, ALL_ARRIVES]
}

#[track_caller]
fn play(ops: Vec<Op>) -> Vec<String> {
    let run = Run::new(WORLD, (0..).zip(ops).collect());
    let played = std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(32 << 20);
        let thread = builder.spawn_scoped(scope, || run.play()).unwrap();
        thread.join().unwrap()
    });
    match played {
        Ok(done) => done.log,
        Err(failure) => panic!("{failure}"),
    }
}

#[track_caller]
fn came(log: &[String], what: &str) {
    assert!(
        log.iter().any(|line| line.contains(what)),
        "{what}: {log:#?}"
    );
}

/// A TAM's clock that was wrong for a while forgot which challenges were used, and took an old
/// answer again once it was right.
#[test]
fn a_clock_that_comes_back_brings_no_challenge_back() {
    let day = 6 * 86_400_000;
    let whose = Whose::Server(Role::Tam);
    let mut ops = beginning(2);
    ops.extend([
        Op::Sync {
            device: 0,
            want: true,
        },
        Op::Deliver { pick: 0 },
        Op::Wait { ms: 1_000 },
        Op::Deliver { pick: 0 },
        // The QueryResponse, twice.
        Op::Duplicate { pick: 0 },
        Op::Delay {
            pick: 1,
            ms: 20_000,
        },
        Op::Wait { ms: 1_000 },
        Op::Deliver { pick: 0 },
        Op::Jump { whose, ms: day },
    ]);
    ops.extend(sync(1));
    ops.extend([
        Op::Jump { whose, ms: -day },
        Op::Wait { ms: 30_000 },
        ALL_ARRIVES,
    ]);
    let log = play(ops);
    came(&log, "-> TAM, 657 bytes: installing 1");
    came(&log, "-> TAM, 657 bytes: challenge");
}

/// After a confirmation was lost, the driver begins again; the CA answers anew, and the TA took the
/// answer for a lie.
#[test]
fn a_lost_confirmation_costs_a_repetition() {
    let mut ops = beginning(1);
    ops.extend(sync(0));
    ops.extend([
        Op::Enrol {
            device: 0,
            slot: SLOT,
        },
        Op::Wait { ms: 1_000 },
        Op::Deliver { pick: 0 },
        Op::Wait { ms: 1_000 },
        Op::Deliver { pick: 0 },
        Op::Wait { ms: 1_000 },
        // The certConf; and the power, with all that the REE knew.
        Op::Drop { pick: 0 },
        Op::PowerCut { device: 0 },
    ]);
    let log = play(ops);
    came(&log, "accepted");
}

/// A session that was open during an update let the old module use the new release's key.
#[test]
fn a_session_that_outlives_an_update_gets_nothing_of_the_new_release() {
    let mut ops = beginning(1);
    ops.extend(sync(0));
    ops.extend([
        Op::Enrol {
            device: 0,
            slot: SLOT,
        },
        ALL_ARRIVES,
        Op::CutRelease { variant: 1 },
    ]);
    ops.extend(registered(1));
    ops.extend([
        Op::Sync {
            device: 0,
            want: false,
        },
        ALL_ARRIVES,
        Op::Enrol {
            device: 0,
            slot: (App::Main, LABELS[1]),
        },
    ]);
    let log = play(ops);
    came(&log, "installing 2");
}
