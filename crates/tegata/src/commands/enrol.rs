//! `tegata device enrol`: what a client application does, steps 5 to 14 seen from the open world.
//!
//! This side carries bytes and understands none; the key never leaves the TEE.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tegata_agent::carrier::AgentCarrier;
use tegata_agent::config::{Config as AgentConfig, TeeKind};
use tegata_agent::enrol::{self as driver, Crossing, EnrolError, Request, Step, Watch};
use tegata_agent::starting;
use tegata_client::Context;
use tegata_wire::ids::TaUuid;

use crate::certificate;
use crate::cli::{DeviceEnrol, show};
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};

/// Time for one message through the agent.
const CARRY_TIMEOUT: Duration = Duration::from_secs(60);

/// An enrolment that came to its end.
#[derive(Debug, Clone)]
pub struct Enrolled {
    /// Certificate and chain in PEM, leaf first.
    pub chain_pem: String,
    /// Time in the TEE to make key and request.
    pub begin: Duration,
    /// Time in the TEE to check and install.
    pub finish: Duration,
    /// All of it.
    pub total: Duration,
}

/// Notes the crossings.
#[derive(Default)]
struct Notes(Vec<Crossing>);

impl Watch for Notes {
    fn crossed(&mut self, crossing: &Crossing) {
        self.0.push(crossing.clone());
    }
}

impl Notes {
    fn time_of(&self, steps: &[Step]) -> Duration {
        self.0
            .iter()
            .filter(|c| steps.contains(&c.step))
            .map(|c| c.took)
            .sum()
    }
}

/// `tegata device enrol`.
///
/// # Errors
/// The device's processes do not run, or a step of the enrolment failed.
pub fn run(args: &DeviceEnrol) -> Outcome<()> {
    let agent = agent_config(&args.device)?;
    let name = agent.enrol_ta.clone().unwrap_or_else(|| "enrol".to_owned());
    let Some(ta) = agent.ta(&name) else {
        return Err(Fault::usage(
            "no-ta",
            format!(
                "{} does not name the enrolment TA",
                args.device.join("agent.toml").display()
            ),
            "Write `enrol_ta = \"UUID\"` into it; `tegata ta list --json` shows the UUID.",
        ));
    };
    wait_for_ta(&args.device, &ta)?;
    let enrolled = match there(&args.device, &ta, &args.label)? {
        Some(enrolled) => enrolled,
        None => enrol(&args.device, &ta, &args.label, 5)?,
    };
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| default_out(&args.device, &args.label));
    write_pem(&out, &enrolled)?;
    let leaf = certificate::from_pem(&enrolled.chain_pem)?
        .into_iter()
        .next()
        .unwrap_or_default();
    let mut fields = certificate::fields(&leaf).unwrap_or_default();
    if args.json {
        return show::json(&serde_json::json!({
            "label": args.label, "path": out, "fields": fields, "pem": enrolled.chain_pem,
            "took_ms": u64::try_from(enrolled.total.as_millis()).unwrap_or(u64::MAX),
        }));
    }
    fields.push(("kept as".to_owned(), out.display().to_string()));
    let rows: Vec<(&str, String)> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.clone()))
        .collect();
    show::record(&rows);
    Ok(())
}

/// `cert.pem` for the label `default`, `cert-LABEL.pem` for others: another file for each label. Longest are 64 times
/// `%XX`, which a file name takes.
fn default_out(device: &Path, label: &str) -> PathBuf {
    if label == "default" {
        return device.join("cert.pem");
    }
    let mut name = String::new();
    for c in label.chars() {
        if c.is_alphanumeric() || "-_.".contains(c) {
            name.push(c);
        } else {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                name.push_str(&format!("%{byte:02X}"));
            }
        }
    }
    device.join(format!("cert-{name}.pem"))
}

fn agent_config(device: &Path) -> Outcome<AgentConfig> {
    let path = device.join("agent.toml");
    AgentConfig::load(&path).map_err(|e| {
        Fault::usage(
            "bad-device",
            e.to_string(),
            "Give the directory that `tegata factory make` made, for example \
             --device station/devices/<ueid>.",
        )
    })
}

/// Has the agent fetch the TA unless the TEE has it. Either may be starting, as in a script that began both.
///
/// # Errors
/// TEE or agent do not answer; the TAM does not deliver.
pub fn wait_for_ta(device: &Path, ta: &TaUuid) -> Outcome<()> {
    let config = agent_config(device)?;
    let context = Context::at(config.tee_address());
    let installed = || -> Outcome<bool> {
        let info = starting::tee_info(&context).map_err(|e| match config.tee {
            TeeKind::Socket if starting::is_absent(&config.tee_socket) => absent(
                "tee",
                "TEE",
                &config.tee_socket,
                "tegata-teed --config",
                device,
                "teed.toml",
            ),
            _ => tee_fault("ask the TEE", &e),
        })?;
        Ok(info.trusted_apps.iter().any(|app| app.ta == *ta))
    };
    if installed()? {
        return Ok(());
    }
    let agent = AgentCarrier::new(&config.agent_socket, CARRY_TIMEOUT);
    let sync = || agent.sync(Some(*ta));
    starting::ask(&config.agent_socket, starting::LIMIT, sync).map_err(|e| {
        if starting::is_absent(&config.agent_socket) {
            return absent(
                "no-sync",
                "agent",
                &config.agent_socket,
                "tegata-agent run --config",
                device,
                "agent.toml",
            );
        }
        Fault::failed(
            "no-sync",
            format!("the agent could not fetch the TA: {e}"),
            "The log of the agent and of the TAM say why.",
        )
    })?;
    if installed()? {
        return Ok(());
    }
    Err(Fault::failed(
        "no-ta-delivered",
        format!("the TAM did not deliver the TA {ta} to this device"),
        "Check `tegata ta list` (is it available to this device?) and the log of the TAM.",
    ))
}

/// Nobody made a process's socket, in the time that one which starts gets.
fn absent(
    code: &'static str,
    who: &str,
    socket: &Path,
    command: &str,
    device: &Path,
    settings: &str,
) -> Fault {
    Fault::failed(
        code,
        format!(
            "the device's {who} does not run: no socket {} within {} s",
            socket.display(),
            starting::LIMIT.as_secs()
        ),
        format!(
            "Start it: {command} {} (its log says why it ends).",
            device.join(settings).display()
        ),
    )
}

/// Enrols under a label; `attempts` for each step.
///
/// # Errors
/// The step that failed.
pub fn enrol(device: &Path, ta: &TaUuid, label: &str, attempts: u32) -> Outcome<Enrolled> {
    let config = agent_config(device)?;
    let context = Context::at(config.tee_address());
    let carrier = AgentCarrier::new(&config.agent_socket, CARRY_TIMEOUT);
    let request = Request {
        attempts,
        ..Request::new(*ta, label)
    };
    let mut notes = Notes::default();
    let begun = Instant::now();
    let enrolled =
        driver::enrol(&context, &carrier, &request, &mut notes).map_err(|e| enrol_fault(&e))?;
    Ok(Enrolled {
        chain_pem: enrolled.chain_pem,
        begin: notes.time_of(&[Step::Begin]),
        finish: notes.time_of(&[Step::Finish, Step::Complete]),
        total: begun.elapsed(),
    })
}

/// The certificate that this caller has under the label already. Enrolling anew would renew it: a
/// caller that was cut off after its success and asks again wants the one that was made.
fn there(device: &Path, ta: &TaUuid, label: &str) -> Outcome<Option<Enrolled>> {
    let config = agent_config(device)?;
    let context = Context::at(config.tee_address());
    let begun = Instant::now();
    let found = driver::certificate(&context, &Request::new(*ta, label)).ok();
    Ok(found.map(|chain_pem| Enrolled {
        chain_pem,
        begin: Duration::ZERO,
        finish: Duration::ZERO,
        total: begun.elapsed(),
    }))
}

fn enrol_fault(error: &EnrolError) -> Fault {
    let mend = match error {
        EnrolError::Carry { .. } => {
            "Check that the agent runs and that the CA answers; asking again is safe."
        }
        _ => "The logs of teed and of the CA say why; asking again is safe.",
    };
    Fault::failed("enrolment-failed", format!("no certificate: {error}"), mend)
}

/// The TEE does not do what it should.
#[must_use]
pub fn tee_fault(doing: &str, error: &tegata_client::Error) -> Fault {
    Fault::failed(
        "tee",
        format!("cannot {doing}: {error}"),
        "Check that the device's teed runs; its log says more.",
    )
}

/// Writes the chain where the device keeps it.
///
/// # Errors
/// The file cannot be written.
pub fn write_pem(path: &Path, enrolled: &Enrolled) -> Outcome<()> {
    files::replace(path, enrolled.chain_pem.as_bytes(), Readers::Everyone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_label_has_a_file_of_its_own() {
        let name = |label: &str| {
            let path = default_out(Path::new("d"), label);
            assert_eq!(path.parent(), Some(Path::new("d")), "{label:?}");
            path.file_name().unwrap().to_str().unwrap().to_owned()
        };
        for (label, file) in [
            ("default", "cert.pem"),
            ("tls", "cert-tls.pem"),
            ("a_b", "cert-a_b.pem"),
            ("a b", "cert-a%20b.pem"),
            ("a/b", "cert-a%2Fb.pem"),
            ("a%2Fb", "cert-a%252Fb.pem"),
            ("..", "cert-...pem"),
            ("温度計", "cert-温度計.pem"),
            ("温・度", "cert-温%E3%83%BB度.pem"),
            ("サーバー", "cert-サーバー.pem"),
        ] {
            assert_eq!(name(label), file);
        }
        // With the name of the file that is written beside it first.
        assert!(name(&"/".repeat(64)).len() + ".4194304.new".len() < 255);
    }
}
