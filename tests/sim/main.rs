//! A whole installation in one process and one thread: factory, CA, TAM, Verifier and devices, over
//! a network that loses, repeats, reorders, delays and damages, with machines that die between any
//! two effects and clocks that jump. All sides are the real code; only wires, disks of devices,
//! clocks and randomness are simulated.
//!
//! A run is a seed. After each operation every `invariant_*` is checked; at the end faults stop and
//! every device must get enrolled. A failure prints its seed, and the fewest operations that show
//! it. What was found once is told again in `stories`. `TEGATA_SIM_SEED=7 cargo test -p tegata-tests --test sim` repeats one seed,
//! `TEGATA_SIM_OPS=2000` makes runs longer, `TEGATA_SIM_SEEDS=500` makes more of them. Seeds that
//! failed once stand in `seeds.txt` and run every time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken test shall say so at once"
)]

mod asked;
mod clock;
mod device;
mod invariants;
mod network;
mod ops;
mod platform;
mod prng;
mod provider;
mod runner;
mod secrets;
mod self_test;
mod servers;
mod stories;
mod world;
mod years;

use std::time::{Duration, Instant};

use runner::{Failure, Run};

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is not a number")),
    )
}

/// Seed and length of the runs that are always made, from `seeds.txt`.
fn kept_seeds() -> Vec<(u64, usize)> {
    include_str!("seeds.txt")
        .lines()
        .map(|line| line.split('#').next().unwrap_or_default().trim())
        .filter(|line| !line.is_empty())
        .map(|line| {
            let (seed, len) = line.split_once(' ').expect("SEED OPS in seeds.txt");
            (seed.parse().unwrap(), len.trim().parse().unwrap())
        })
        .collect()
}

fn runs() -> Vec<(u64, usize)> {
    let len = number("TEGATA_SIM_OPS").map_or(OPS, |n| n as usize);
    if let Some(seed) = number("TEGATA_SIM_SEED") {
        return vec![(seed, len)];
    }
    let count = number("TEGATA_SIM_SEEDS").unwrap_or(SEEDS);
    let mut runs = kept_seeds();
    runs.extend((1..=count).map(|seed| (seed, len)));
    runs
}

#[test]
fn the_invariants_hold_whatever_happens() {
    let begun = Instant::now();
    let runs = runs();
    let failures: Vec<Failure> = runner::all(&runs);
    if let Some(failure) = failures.into_iter().next() {
        panic!("{}", runner::minimise(failure, MINIMISE));
    }
    println!("{} runs in {:?}", runs.len(), begun.elapsed());
}

#[test]
fn a_seed_makes_the_same_run_again() {
    let logs = [(); 2].map(|()| match Run::new(3, ops::generate(3, 40)).play() {
        Ok(done) => done.log,
        Err(failure) => panic!("{failure}"),
    });
    assert_eq!(logs[0], logs[1]);
}

/// Operations of a run.
const OPS: usize = 150;
/// Runs of a test.
const SEEDS: u64 = 6;
/// How long to look for a smaller failure.
const MINIMISE: Duration = Duration::from_secs(60);
