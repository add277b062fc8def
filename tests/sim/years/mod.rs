//! Simulated years: a fleet lives through issuance, renewal, revocation, retention and every fault
//! that years bring, in minutes.
//!
//! Every device is the real one: the real TEE core with the real enrolment TA, an agent that does
//! what the agent's daemon does, and relying parties that check signatures and keep what they were
//! told. CA, TAM and Verifier are the real services on real stores. Only wires, disks of devices,
//! clocks and randomness are simulated. There are no lighter stand-ins.
//!
//! Time is a queue of events: the next one happens, and nothing waits. A device sleeps from one
//! thing that it has to do to the next, so a simulated day without events costs nothing.
//!
//! A run is a seed and a number of devices. Every `invariant_*` is checked after each event; at the
//! end faults stop, the operator takes back what can be, and every device must get its certificate.
//!
//! `cargo xtask years --devices 10000 --years 5 --seed 7` makes a large one; `cargo test` a small.

mod agent;
mod fleet;
mod invariants;
mod ledger;
mod operator;
mod queue;
mod relying;
mod self_test;
mod stories;

use std::time::Instant;

use crate::clock::START_MS;
use fleet::Fleet;
use queue::DAY_MS;

/// In a thread with room for the interpreter.
fn with_stack<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().stack_size(32 << 20);
        let thread = builder.spawn_scoped(scope, work).unwrap();
        match thread.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// Memory of this process in MiB, as the kernel counts it.
fn memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

/// Lives through the years; `told` hears how far it came each quarter.
fn live(seed: u64, devices: usize, years: i64, told: bool) {
    let begun = Instant::now();
    let say = |what: &str, fleet: &Fleet| {
        let tally = &fleet.tally;
        println!(
            "{what:>11}  {:>6.0} s {:>6} MiB  {} certificates, {} renewals, {} returns, {} revoked, \
             {} faults",
            begun.elapsed().as_secs_f64(),
            memory_mib(),
            tally.issued,
            tally.renewed,
            tally.returned,
            tally.revoked,
            tally.faults()
        );
    };
    let again =
        format!("again: cargo xtask years --devices {devices} --years {years} --seed {seed}");
    let mut fleet = Fleet::new(seed, devices);
    if told {
        say("made", &fleet);
    }
    fleet.begin();
    let quarters = years * 4;
    for quarter in 1..=quarters {
        let until = START_MS + quarter * 365 * DAY_MS / 4;
        if let Err((name, why)) = fleet.live(until) {
            let day = (fleet.time.now_ms() - START_MS) / DAY_MS;
            panic!("invariant_{name} fails on day {day}: {why}\nseed {seed}; {again}");
        }
        if told {
            say(&format!("year {:.2}", quarter as f64 / 4.0), &fleet);
        }
    }
    fleet.settle();
    if let Err((name, why)) = invariants::check(&fleet) {
        panic!("invariant_{name} fails when faults have stopped: {why}\nseed {seed}; {again}");
    }
    if told {
        say("at the end", &fleet);
    }
    println!(
        "seed {seed}: {devices} devices, {years} years, {} invariants held\n{:#?}",
        invariants::ALL.len(),
        fleet.tally
    );
    let tally = &fleet.tally;
    let mut seen = vec![tally.renewed, tally.revoked, tally.faults()];
    // Few stay away for long enough.
    seen.extend((devices >= 40).then_some(tally.returned));
    let enough = devices >= DEVICES && years >= YEARS;
    assert!(!enough || !seen.contains(&0), "the years were uneventful");
}

#[test]
fn devices_live_through_years() {
    let devices = crate::number("TEGATA_YEARS_DEVICES");
    let years = crate::number("TEGATA_YEARS").map_or(YEARS, |years| years as i64);
    let seed = crate::number("TEGATA_YEARS_SEED").unwrap_or(1);
    let told = devices.is_some();
    with_stack(|| live(seed, devices.map_or(DEVICES, |n| n as usize), years, told));
}

/// Devices and years of a test among others.
const DEVICES: usize = 8;
const YEARS: i64 = 5;
