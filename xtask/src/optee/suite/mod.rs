//! The suite: the product on emulated TrustZone, with its servers on the host, as separate machines.
//!
//! One run has one set of servers and two devices with different HUKs, which the tests share: they
//! run in the order in which they stand here, and each brings about what it needs.

mod attacks;
mod enrolment;
mod instances;
mod storage;
mod world;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Result, bail};

use super::image::Image;
use super::work::{Work, seconds};
use world::World;

/// What a run needs.
pub struct Bench<'a> {
    /// The work directory.
    pub work: &'a Work,
    /// Kernel and file system.
    pub image: &'a Image,
    /// The server program.
    pub tegata: PathBuf,
    /// The maker's keys.
    pub pki: PathBuf,
}

/// A test: what holds, and what shows it.
type Test = (&'static str, fn(&mut World) -> Result<String>);

/// All tests, in the order in which they run.
const TESTS: &[Test] = &[
    (
        "a device without the factory's word does nothing",
        enrolment::unprovisioned,
    ),
    (
        "a device enrols, and its certificate verifies",
        enrolment::enrolment,
    ),
    (
        "evidence says optee, and a policy that refuses software accepts it",
        enrolment::evidence,
    ),
    (
        "another user's process is denied the key",
        enrolment::other_user,
    ),
    ("a trap kills one instance and no other", instances::trap),
    (
        "an older image of the host is refused",
        instances::older_image,
    ),
    (
        "the package of device A is refused by device B",
        attacks::package_of_another,
    ),
    ("an older TA is refused", attacks::older_ta),
    ("storage that was rolled back is noticed", storage::rollback),
    ("the key signs after a power cut", storage::power_cut),
    (
        "the storage of device A is refused by the chip of device B",
        storage::other_chip,
    ),
    // Last: if it goes wrong, the storage is not what the others need.
    ("storage altered in any region is noticed", storage::altered),
];

/// Runs all tests whose names contain one of `only`; none: all.
///
/// # Errors
/// At least one failed.
pub fn run(bench: &Bench, only: &[String], keep: bool) -> Result<()> {
    let started = Instant::now();
    let mut world = World::open(bench)?;
    bench
        .work
        .say(&format!("suite in {}", world.dir().display()));
    let (mut passed, mut failed) = (0, Vec::new());
    for (name, test) in TESTS {
        if !only.is_empty() && !only.iter().any(|only| name.contains(only)) {
            continue;
        }
        let began = Instant::now();
        let result = test(&mut world);
        let took = seconds(began.elapsed());
        match result {
            Ok(shown) => {
                println!("test {name} ... ok ({took})\n       {shown}");
                passed += 1;
            }
            Err(error) => {
                let said = world.last_words();
                println!("test {name} ... FAILED ({took})\n{error:?}\n\n{said}");
                failed.push(*name);
            }
        }
    }
    println!(
        "\nsuite: {passed} passed, {} failed, {}",
        failed.len(),
        seconds(started.elapsed())
    );
    world.close(keep || !failed.is_empty());
    if !failed.is_empty() {
        bail!("failed: {}", failed.join("; "));
    }
    Ok(())
}
