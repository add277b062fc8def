//! What the REE keeps for the TEE: put back, altered, carried to another chip, cut off.

use anyhow::{Context, Result, ensure};

use super::world::{ALICE, LABEL, World};

/// Where tee-supplicant keeps the TEE's storage, and the emulated RPMB's file.
const STORAGE: &str = "/var/lib/tee";
const RPMB: &str = "/var/lib/rpmb";
/// Where the probe that alters them keeps what it knows over a restart, and how it asks for one.
const KEPT: &str = "/var/lib/altered";
const RESTART: i32 = 75;
/// Most restarts: each takes some seconds.
const STARTS_MAX: u32 = 24;

/// The REE puts back all files as they were before a change; the RPMB remembers.
pub fn rollback(world: &mut World) -> Result<String> {
    world.enrolled()?;
    let machine = world.machine("A")?;
    machine
        .run(0, &format!("cp -a {STORAGE} /tmp/before"))?
        .ok()?;
    // A change that the storage must not forget: a second key.
    world
        .agent("A", ALICE, "enrol --label second --out /tmp/second.pem")?
        .ok()?;
    // Synced: the next test cuts the power.
    let put_back = |from: &str| format!("rm -rf {STORAGE}/* && cp -a {from}/. {STORAGE}/ && sync");
    machine
        .run(
            0,
            &format!("cp -a {STORAGE} /tmp/after && {}", put_back("/tmp/before")),
        )?
        .ok()?;
    let list = world.agent("A", ALICE, "list")?;
    let info = world.agent("A", 0, "info")?;
    machine.run(0, &put_back("/tmp/after"))?.ok()?;
    ensure!(
        list.code != 0 && info.code != 0,
        "older storage was taken: {} {}",
        list.all(),
        info.all()
    );
    let whole = world.agent("A", ALICE, "list")?.ok()?;
    ensure!(whole.contains("second"), "the second key is gone: {whole}");
    Ok(format!("told: {}", info.all()))
}

/// One byte in each region of each file: an error, or the same answer as ever. On device B, which
/// stores what one enrolment needs and nothing that no question reads.
pub fn altered(world: &mut World) -> Result<String> {
    let ta = world.ta("enrol")?;
    world.off("A");
    world.adopted("B")?;
    world.agent("B", 0, &format!("sync --ta {ta}"))?.ok()?;
    let enrol = format!("enrol --label {LABEL} --out /tmp/{LABEL}.pem");
    world.agent("B", ALICE, &enrol)?.ok()?;
    let alter = format!("probe alter {STORAGE} {RPMB} {ta} {LABEL} {ALICE} {KEPT}");
    let (mut seen, mut starts) = (String::new(), 0);
    loop {
        let ran = world.machine("B")?.run(0, &alter)?;
        seen += &ran.text();
        if ran.code != RESTART {
            ran.ok().with_context(|| seen.clone())?;
            break;
        }
        starts += 1;
        ensure!(starts <= STARTS_MAX, "started {starts} times: {seen}");
        world.off("B");
        world.raw("B")?;
    }
    let totals = seen.lines().last().unwrap_or_default();
    let noticed = totals
        .split_whitespace()
        .nth(1)
        .and_then(|word| word.parse::<u32>().ok())
        .context("the probe tells its totals")?;
    ensure!(noticed > 0, "nothing was noticed: {seen}");
    let seen = seen.trim().replace('\n', "\n       ");
    Ok(format!("{seen}; started anew {starts} times"))
}

/// The power goes while nothing is asked, and in the middle of an installation.
pub fn power_cut(world: &mut World) -> Result<String> {
    world.enrolled()?;
    let ta = world.ta("enrol")?;
    let before = world.info("A")?;
    world.raw("A")?.boot()?;
    let first = world.machine("A")?.boot_took;
    world.sign_as_alice("after the power was cut")?;
    let after = world.info("A")?;
    for what in ["ueid", "serial", "trusted_apps"] {
        ensure!(before.get(what) == after.get(what), "{what} is another");
    }
    // Now in the middle of an update: the device has the older TA or the newer, and works.
    let older = world.sequence("A", &ta)?.context("A has the TA")?;
    world.release("enrol", None)?;
    world
        .machine("A")?
        .run(
            0,
            "tegata-agent --config /var/lib/tegata/agent.toml sync >/dev/null 2>&1 &",
        )?
        .ok()?;
    world.servers.tam_relay.forget();
    let began = std::time::Instant::now();
    while world.servers.tam_relay.seen().len() < 2 {
        ensure!(began.elapsed().as_secs() < 120, "no update was fetched");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    world.raw("A")?.boot()?;
    let now = world.sequence("A", &ta)?.context("the TA is gone")?;
    ensure!(now == older || now == older + 1, "sequence number {now}");
    world.agent("A", 0, "sync")?.ok()?;
    ensure!(
        world.sequence("A", &ta)? == Some(older + 1),
        "the update does not come after the power was cut"
    );
    world.sign_as_alice("after the power was cut again")?;
    Ok(format!(
        "same key, same identity; cut in an update it had sequence {now} of {older} and {}; boot took {:.1} s",
        older + 1,
        first.as_secs_f64()
    ))
}

/// The disk of device A, with all its storage and its RPMB, in the chip of device B.
pub fn other_chip(world: &mut World) -> Result<String> {
    let a = world.adopted("A")?;
    world.enrolled()?;
    let machine = world.raw("A")?;
    machine.set_chip("B");
    machine.boot()?;
    let info = world.agent("A", 0, "info --json")?;
    let certificate = world.agent("A", ALICE, &format!("certificate --label {LABEL}"))?;
    let machine = world.raw("A")?;
    machine.set_chip("A");
    machine.boot()?;
    ensure!(
        certificate.code != 0,
        "another chip reads alice's certificate: {}",
        certificate.all()
    );
    ensure!(
        info.code != 0 || !info.all().contains(&a),
        "another chip is device A: {}",
        info.all()
    );
    world.sign_as_alice("back in its own chip")?;
    Ok(format!(
        "told: {}; back in its own chip it signs",
        info.all()
    ))
}
