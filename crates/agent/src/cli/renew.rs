//! `renew`: the next certificate of this caller's labels, when it is due.

use std::time::Duration;

use anstream::{eprintln, println};
use clap::Args;
use serde_json::json;
use spki::der::DateTime;
use tegata_client::keys::Keys;
use tegata_client::{Context, Login};

use super::{Cli, CliError, Teller, print_json, tell, which_ta};
use crate::carrier::{AgentCarrier, Carrier, HttpCarrier};
use crate::config::{Config, login};
use crate::enrol;
use crate::http::Http;
use crate::keys::KeysError;
use crate::renew::{RenewError, Renewed, renew};
use crate::teep::{self, Purpose};

#[derive(Debug, Args)]
pub(super) struct Renew {
    /// The label; without one, all that this caller has.
    #[arg(value_parser = enrol::label)]
    label: Option<String>,
    /// Although it is not due.
    #[arg(long, requires = "label")]
    now: bool,
    /// The enrolment TA: a UUID, or a name from agent.toml. Default: `enrol_ta`, or the only TA.
    #[arg(long, value_name = "TA")]
    ta: Option<String>,
    /// Whose key it is: `user`, `group`, `group:GID`, `application`, `user-application`,
    /// `group-application` or `public`. Default: `login` of agent.toml.
    #[arg(long, value_parser = login)]
    login: Option<Login>,
    /// Send messages through the agent's daemon instead of by this process.
    #[arg(long)]
    via_agent: bool,
}

pub(super) fn run(cli: &Cli, config: &Config, tee: &Context, args: &Renew) -> Result<(), CliError> {
    if config.ca_url.is_empty() && !args.via_agent {
        return Err(CliError::NoCa);
    }
    let ta = which_ta(config, tee, args.ta.as_ref())?;
    let login = args.login.unwrap_or(config.login);
    let labels = match &args.label {
        Some(label) => vec![label.clone()],
        None => {
            let entries = Keys::new(tee.clone(), Some(ta), login, 1).list();
            let entries = entries.map_err(KeysError::from)?.into_iter();
            let usable = entries.filter(|entry| entry.state.is_usable());
            usable.map(|entry| entry.label).collect()
        }
    };
    let http = Http::new(config.http_timeout());
    let direct = HttpCarrier::new(http.clone(), &config.ca_url);
    let timeout = config.http_timeout().saturating_add(Duration::from_secs(5));
    let daemon = AgentCarrier::new(&config.agent_socket, timeout);
    let carrier: &dyn Carrier = if args.via_agent { &daemon } else { &direct };
    let mut check_in = || {
        let visited = if args.via_agent {
            daemon.sync(None).map(drop).map_err(|e| e.to_string())
        } else {
            let mut watch = |event| tell(cli, &event);
            let visit = teep::visit(tee, &http, config.tam(), Purpose::Check, &mut watch);
            visit.map(drop).map_err(|e| e.to_string())
        };
        if let Err(error) = visited {
            eprintln!("tegata-agent: visit to the TAM: {error}");
        }
    };
    // Each is tried, and the first failure is told at the end.
    let mut failed = None;
    for label in &labels {
        let mut request = enrol::Request::new(ta, label);
        request.login = login;
        request.cmp_path = Some(config.cmp_path.replace("{profile}", "default"));
        let mut watch = Teller { cli };
        let outcome = renew(tee, carrier, &request, args.now, &mut check_in, &mut watch);
        match outcome {
            Ok(done) => say(cli, label, &done),
            Err(error) => {
                if labels.len() > 1 {
                    eprintln!("tegata-agent: {label}: {error}");
                }
                failed = failed.or(Some(error));
            }
        }
    }
    match failed {
        None => Ok(()),
        Some(RenewError::Status(error)) => Err(KeysError::from(error).into()),
        Some(RenewError::Enrol(error)) => Err(error.into()),
    }
}

fn say(cli: &Cli, label: &str, outcome: &Renewed) {
    match outcome {
        Renewed::Done(enrolled) if cli.json => print_json(&json!({
            "event": "renewed", "label": label, "confirmed": enrolled.confirmed,
            "certificate": enrolled.chain_pem,
        })),
        Renewed::Done(_) => println!("{label}: renewed"),
        Renewed::NotDue { renew_at_secs } if cli.json => print_json(&json!({
            "event": "not-due", "label": label, "renew_at": renew_at_secs,
        })),
        Renewed::NotDue { renew_at_secs } => {
            println!("{label}: not due before {}", utc(*renew_at_secs));
        }
        Renewed::NotEnrolled if cli.json => print_json(&json!({
            "event": "not-enrolled", "label": label,
        })),
        Renewed::NotEnrolled => {
            println!("{label}: has no certificate yet; `tegata-agent enrol` goes on with it");
        }
    }
}

/// A time for people, as of RFC 3339.
fn utc(secs: u64) -> String {
    DateTime::from_unix_duration(Duration::from_secs(secs)).map_or_else(
        |_| format!("{secs} seconds after 1970"),
        |time| time.to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_for_people() {
        assert_eq!(utc(1_795_000_000), "2026-11-18T11:06:40Z");
        assert_eq!(utc(u64::MAX), "18446744073709551615 seconds after 1970");
    }
}
