//! What the tests share: servers, devices, and the way each got where it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::Bench;
use crate::optee::debian::fresh;
use crate::optee::machine::{Machine, Ran};
use crate::optee::servers::Servers;

/// The users of the device: the one who has keys, and the other.
pub const ALICE: u32 = 1001;
/// The other.
pub const BOB: u32 = 1002;
/// The label under which alice has her key.
pub const LABEL: &str = "web";
/// Where the agent's configuration lies in the device.
const CONFIG: &str = "/var/lib/tegata/agent.toml";

/// The servers and devices of one run.
pub struct World<'a> {
    bench: &'a Bench<'a>,
    dir: PathBuf,
    /// CA, TAM, Verifier.
    pub servers: Servers,
    devices: BTreeMap<&'static str, Device<'a>>,
    /// UUIDs of the TAs that were released, by name.
    released: BTreeMap<String, String>,
    /// What the TAM sent device A when it first asked for the enrolment TA.
    pub first_delivery: Vec<u8>,
    /// Alice's certificate and chain on device A.
    certificate: Option<String>,
}

/// A device that is switched on.
struct Device<'a> {
    machine: Machine<'a>,
    /// Who it says it is, once the factory has adopted it.
    ueid: Option<String>,
}

impl<'a> World<'a> {
    /// Starts the servers.
    ///
    /// # Errors
    /// They do not start.
    pub fn open(bench: &'a Bench<'a>) -> Result<Self> {
        let dir = fresh(&bench.work.path("run"))?;
        let servers = Servers::start(&bench.tegata, &bench.pki, &dir.join("servers"))?;
        Ok(Self {
            bench,
            dir,
            servers,
            devices: BTreeMap::new(),
            released: BTreeMap::new(),
            first_delivery: Vec::new(),
            certificate: None,
        })
    }

    /// Where everything of this run lies.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Ends everything; the directory stays if it may be of interest.
    pub fn close(self, keep: bool) {
        let dir = self.dir.clone();
        drop(self);
        if keep {
            println!("consoles, logs and stores: {}", dir.display());
        } else {
            let _ = fs::remove_dir_all(dir);
        }
    }

    /// The last that the secure worlds of all devices said.
    pub fn last_words(&self) -> String {
        let said = self.devices.iter().map(|(name, device)| {
            let words = device.machine.last_words();
            format!("secure world of device {name}:\n{words}\n")
        });
        said.collect()
    }

    /// A device that is on; the factory need not know it.
    ///
    /// # Errors
    /// It does not start.
    pub fn raw(&mut self, name: &'static str) -> Result<&mut Machine<'a>> {
        if !self.devices.contains_key(name) {
            let dir = self.dir.join(name);
            let mut machine = Machine::new(self.bench.work, self.bench.image, name, &dir)?;
            machine.boot()?;
            let device = Device {
                machine,
                ueid: None,
            };
            self.devices.insert(name, device);
        }
        let device = self.devices.get_mut(name).context("the device is there")?;
        if !device.machine.is_on() {
            device.machine.boot()?;
        }
        Ok(&mut device.machine)
    }

    /// Switches a device off that no test needs any more for now.
    pub fn off(&mut self, name: &str) {
        if let Some(device) = self.devices.get_mut(name) {
            device.machine.cut_power();
        }
    }

    /// A device that is on, as it is.
    ///
    /// # Errors
    /// It was never switched on.
    pub fn machine(&self, name: &str) -> Result<&Machine<'a>> {
        let device = self.devices.get(name).context("the device was never on")?;
        Ok(&device.machine)
    }

    /// A device that the factory has adopted; its UEID. Done once for each.
    ///
    /// # Errors
    /// A step of it fails.
    pub fn adopted(&mut self, name: &'static str) -> Result<String> {
        self.raw(name)?;
        if let Some(ueid) = self.devices.get(name).and_then(|d| d.ueid.clone()) {
            return Ok(ueid);
        }
        // The device reports, with a configuration that names no server yet.
        let machine = self.machine(name)?;
        machine.put(CONFIG, b"tee = \"optee\"\n")?;
        self.agent(name, 0, "report --out /tmp/report")?.ok()?;
        let report = self.dir.join(format!("{name}.report"));
        fs::write(&report, self.machine(name)?.get("/tmp/report")?)?;
        // The factory station verifies, endorses, and signs the device's record.
        let station = self.dir.join(format!("station-{name}"));
        let (report, out) = (text(&report)?, text(&station)?);
        let (tam, ca) = (self.servers.tam_url(), self.servers.ca_url());
        let batch = self.servers.tegata(&[
            "factory",
            "adopt",
            "--report",
            report,
            "--out",
            out,
            "--batch",
            name,
            "--tam-url",
            &tam,
            "--ca-url",
            &ca,
        ])?;
        let manifest = station.join("manifest.cose");
        self.servers
            .tegata(&["factory", "import", "--manifest", text(&manifest)?])?;
        let ueid = batch
            .pointer("/devices/0/ueid")
            .and_then(Value::as_str)
            .context("the batch names its device")?
            .to_owned();
        let files = station.join("devices").join(&ueid);
        let machine = self.machine(name)?;
        machine.put("/tmp/device.cose", &fs::read(files.join("device.cose"))?)?;
        machine.put(CONFIG, &fs::read(files.join("agent.toml"))?)?;
        self.agent(name, 0, "provision --record /tmp/device.cose")?
            .ok()?;
        if let Some(device) = self.devices.get_mut(name) {
            device.ueid = Some(ueid.clone());
        }
        Ok(ueid)
    }

    /// Cuts a release of a TA: the enrolment TA, or `module`. Gives its UUID.
    ///
    /// # Errors
    /// The CA, the TAM or the Verifier refuses it.
    pub fn release(&mut self, name: &str, module: Option<&Path>) -> Result<String> {
        let mut arguments = vec!["ta", "release", "--name", name, "--profile", "iot-device"];
        if let Some(module) = module {
            arguments.extend(["--wasm", text(module)?]);
        }
        let release = self.servers.tegata(&arguments)?;
        let ta = release
            .get("ta")
            .and_then(Value::as_str)
            .context("a release names its TA")?
            .to_owned();
        self.released.insert(name.to_owned(), ta.clone());
        Ok(ta)
    }

    /// The UUID of a TA, of which a first release is cut if there is none.
    ///
    /// # Errors
    /// As [`Self::release`].
    pub fn ta(&mut self, name: &str) -> Result<String> {
        match self.released.get(name) {
            Some(ta) => Ok(ta.clone()),
            None => self.release(name, None),
        }
    }

    /// Device A, adopted, with alice's key and certificate; the certificate and its chain (PEM).
    ///
    /// # Errors
    /// A step of it fails.
    pub fn enrolled(&mut self) -> Result<String> {
        if let Some(certificate) = &self.certificate {
            return Ok(certificate.clone());
        }
        self.adopted("A")?;
        let ta = self.ta("enrol")?;
        self.servers.tam_relay.forget();
        self.agent("A", 0, &format!("sync --ta {ta}"))?.ok()?;
        self.first_delivery = self.servers.tam_relay.largest_answer()?;
        let enrol = format!("enrol --label {LABEL} --out /tmp/{LABEL}.pem");
        self.agent("A", ALICE, &enrol)?.ok()?;
        let pem = self.machine("A")?.get(&format!("/tmp/{LABEL}.pem"))?;
        let pem = String::from_utf8(pem)?;
        self.certificate = Some(pem.clone());
        Ok(pem)
    }

    /// Runs the agent in a device as this user.
    ///
    /// # Errors
    /// The device does not answer.
    pub fn agent(&self, name: &str, uid: u32, arguments: &str) -> Result<Ran> {
        let script = format!("tegata-agent --config {CONFIG} {arguments}");
        self.machine(name)?.run(uid, &script)
    }

    /// What the TEE of a device says of itself.
    ///
    /// # Errors
    /// It says nothing.
    pub fn info(&self, name: &str) -> Result<Value> {
        let said = self.agent(name, 0, "info --json")?.ok()?;
        serde_json::from_str(said.trim()).with_context(|| format!("no JSON: {said}"))
    }

    /// The sequence number of a TA that a device has, if it has it.
    ///
    /// # Errors
    /// The TEE says nothing.
    pub fn sequence(&self, name: &str, ta: &str) -> Result<Option<u64>> {
        let info = self.info(name)?;
        let tas = info
            .get("trusted_apps")
            .and_then(Value::as_array)
            .context("the TEE lists its TAs")?;
        Ok(tas
            .iter()
            .find(|one| one.get("ta").and_then(Value::as_str) == Some(ta))
            .and_then(|one| one.get("sequence_number"))
            .and_then(Value::as_u64))
    }

    /// Signs something with alice's key in device A and verifies it with the certificate.
    ///
    /// # Errors
    /// It does not sign, or the signature is wrong.
    pub fn sign_as_alice(&self, content: &str) -> Result<()> {
        let machine = self.machine("A")?;
        machine.put("/tmp/content", content.as_bytes())?;
        machine
            .run(0, "chmod a+r /tmp/content; rm -f /tmp/signature")?
            .ok()?;
        let sign = format!("sign --label {LABEL} --in /tmp/content --out /tmp/signature");
        self.agent("A", ALICE, &sign)?.ok()?;
        let (to_sign, signature) = (self.dir.join("content"), self.dir.join("signature"));
        fs::write(&to_sign, content)?;
        fs::write(&signature, machine.get("/tmp/signature")?)?;
        let certificate = self
            .certificate
            .as_ref()
            .context("alice has no certificate")?;
        let pem = self.dir.join("web.pem");
        fs::write(&pem, certificate)?;
        let public = crate::optee::work::output(
            std::process::Command::new("openssl")
                .args(["x509", "-noout", "-pubkey", "-in"])
                .arg(&pem),
        )?;
        let key = self.dir.join("web.pub");
        fs::write(&key, public)?;
        let verified = crate::optee::work::output(
            std::process::Command::new("openssl")
                .args(["dgst", "-sha256", "-verify"])
                .arg(&key)
                .arg("-signature")
                .arg(&signature)
                .arg(&to_sign),
        )?;
        ensure!(verified.contains("Verified OK"), "openssl: {verified}");
        Ok(())
    }
}

/// A path as text for a command line.
pub fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the path is not UTF-8")
}
