//! The main job, and who may use what came of it.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use tegata_crypto::chain::{Purpose, TrustAnchor, verify_chain};
use tegata_crypto::rustcrypto::RustCrypto;

use super::world::{BOB, LABEL, World, text};
use crate::optee::work::output;

/// Before the factory's word a TEE says who it is to the factory, and nothing else.
pub fn unprovisioned(world: &mut World) -> Result<String> {
    world.raw("A")?;
    world
        .machine("A")?
        .put("/var/lib/tegata/agent.toml", b"tee = \"optee\"\n")?;
    let refused = world.agent("A", 0, "sync")?;
    ensure!(refused.code != 0, "it did: {}", refused.all());
    ensure!(
        refused.all().contains("not provisioned"),
        "it says: {}",
        refused.all()
    );
    // Another factory's record, here none that anybody signed.
    let machine = world.machine("A")?;
    machine.put(
        "/tmp/forged.cose",
        &[0xd2, 0x84, 0x43, 0xa1, 0x01, 0x28, 0xa0, 0x40, 0x40],
    )?;
    let forged = world.agent("A", 0, "provision --record /tmp/forged.cose")?;
    ensure!(forged.code != 0, "a forged record was taken");
    let boot = world.machine("A")?.boot_took;
    world.adopted("A")?;
    Ok(format!(
        "refused until adopted; boot took {:.1} s",
        boot.as_secs_f64()
    ))
}

/// From the factory to a certificate, verified by OpenSSL and by our own path validation.
pub fn enrolment(world: &mut World) -> Result<String> {
    let started = Instant::now();
    let chain = world.enrolled()?;
    let took = started.elapsed();
    let file = world.dir().join("chain.pem");
    fs::write(&file, &chain)?;
    let (root, issuing) = (
        world.servers.path("ca.pem"),
        world.servers.path("issuing.pem"),
    );
    let said = output(
        Command::new("openssl")
            .args(["verify", "-x509_strict", "-CAfile"])
            .arg(&root)
            .arg("-untrusted")
            .arg(&file)
            .arg(&file),
    )?;
    ensure!(said.trim().ends_with("OK"), "openssl: {said}");
    let der = |file: &std::path::Path| -> Result<Vec<u8>> {
        let out = Command::new("openssl")
            .args(["x509", "-outform", "DER", "-in"])
            .arg(file)
            .output()?;
        ensure!(out.status.success(), "{} is no certificate", file.display());
        Ok(out.stdout)
    };
    let (leaf, issuing, root) = (der(&file)?, der(&issuing)?, der(&root)?);
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let anchor = TrustAnchor::from_cert_der(&root)?;
    let path = verify_chain(
        &RustCrypto,
        &leaf,
        &[&issuing],
        &[anchor],
        Purpose::EndEntity,
        now,
    )?;
    let subject = output(
        Command::new("openssl")
            .args(["x509", "-noout", "-subject", "-in"])
            .arg(&file),
    )?;
    Ok(format!(
        "{}; openssl and our own validation of {} certificates: OK; {:.1} s in all",
        subject.trim(),
        path.path_der().count(),
        took.as_secs_f64()
    ))
}

/// The Verifier's policy here refuses what is less than OP-TEE: the emulated device got its TA,
/// a device with the software TEE gets none.
pub fn evidence(world: &mut World) -> Result<String> {
    world.enrolled()?;
    let ta = world.ta("enrol")?;
    let info = world.info("A")?;
    let level = info.get("security_level").and_then(Value::as_str);
    ensure!(
        level == Some("optee"),
        "the TEE says its level is {level:?}"
    );
    ensure!(
        world.sequence("A", &ta)?.is_some(),
        "the TA is not there although the device enrolled"
    );
    let policy = fs::read_to_string(world.servers.path("verifier.toml"))?;
    ensure!(
        policy.contains("min_security_level = \"optee\""),
        "the policy asks for less"
    );
    software_refused(world, &ta)?;
    let missing = info.get("missing").cloned().unwrap_or_default();
    Ok(format!(
        "level optee, walls missing {missing}; a software TEE got no TA"
    ))
}

/// A software TEE on the host, of the same factory, asks for the same TA.
fn software_refused(world: &World, ta: &str) -> Result<()> {
    let station = world.dir().join("station-software");
    let (tam, ca) = world.servers.local_urls();
    let batch = world.servers.tegata(&[
        "factory",
        "make",
        "--count",
        "1",
        "--out",
        text(&station)?,
        "--batch",
        "software",
        "--tam-url",
        &tam,
        "--ca-url",
        &ca,
    ])?;
    let manifest = station.join("manifest.cose");
    world
        .servers
        .tegata(&["factory", "import", "--manifest", text(&manifest)?])?;
    let ueid = batch
        .pointer("/devices/0/ueid")
        .and_then(Value::as_str)
        .context("the batch names its device")?;
    let dir = station.join("devices").join(ueid);
    let log = fs::File::create(world.dir().join("teed.log"))?;
    let mut teed = world
        .servers
        .program()
        .args(["teed", "--dir"])
        .arg(&dir)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("starting the software TEE")?;
    let result = (|| {
        let started = Instant::now();
        while UnixStream::connect(dir.join("teed.sock")).is_err() {
            ensure!(
                started.elapsed() < Duration::from_secs(60) && teed.try_wait()?.is_none(),
                "the software TEE does not start; see teed.log"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        let agent = |arguments: &[&str]| {
            let mut command = world.servers.program();
            command.args(["agent", "--dir"]).arg(&dir).args(arguments);
            command.output().context("starting its agent")
        };
        let synced = agent(&["sync", "--ta", ta])?;
        let info = agent(&["info", "--json"])?;
        let info: Value = serde_json::from_slice(&info.stdout).with_context(|| {
            format!(
                "the software TEE: {}",
                String::from_utf8_lossy(&info.stderr)
            )
        })?;
        ensure!(
            info.get("security_level").and_then(Value::as_str) == Some("software"),
            "it says {info}"
        );
        let tas = info.get("trusted_apps").and_then(Value::as_array);
        ensure!(
            tas.is_some_and(Vec::is_empty),
            "a software TEE got a TA under a policy that asks for optee: {info}, {}",
            String::from_utf8_lossy(&synced.stdout)
        );
        Ok(())
    })();
    let _ = teed.kill();
    let _ = teed.wait();
    result
}

/// Bob's process asks for alice's key: to him it does not exist.
pub fn other_user(world: &mut World) -> Result<String> {
    world.enrolled()?;
    world.sign_as_alice("alice may")?;
    let machine = world.machine("A")?;
    machine
        .run(0, "rm -f /tmp/stolen; chmod a+r /tmp/content")?
        .ok()?;
    let sign = format!("sign --label {LABEL} --in /tmp/content --out /tmp/stolen");
    let denied = world.agent("A", BOB, &sign)?;
    ensure!(denied.code != 0, "bob signed with alice's key");
    let listed = world.agent("A", 0, "list --json")?.ok()?;
    ensure!(!listed.contains(LABEL), "root sees alice's key: {listed}");
    // The kernel says who asks: no option makes bob alice.
    let public = world.agent("A", BOB, &format!("{sign} --login public"))?;
    ensure!(public.code != 0, "anybody signed with alice's key");
    Ok(format!("bob is told: {}", denied.all()))
}
