//! `tegata bench issue --database`: certificates with the store on PostgreSQL.
//!
//! The database is the operator's and runs where it runs: its processor time is in no figure here, what waiting for it
//! costs is in all of them. Every round goes on in the same schema, each request is sent once.

use super::bed::{Bed, Found, zeros};
use super::figures::Measured;
use super::issue::{ANSWER_LEN_BYTES, certificates, target};
use super::load::Refusals;
use super::plant::Nursery;
use super::report::within;
use super::requests;
use super::served::Served;
use super::subject::Subject;
use super::{PKIXCMP, bound, check, odd};
use crate::fault::Outcome;

/// Measures and keeps.
///
/// # Errors
/// The database cannot be reached or has an installation already; an answer that is no certificate.
pub fn run(bed: &Bed<'_>, address: &str) -> Outcome<()> {
    // A string of JSON without control characters is one of TOML.
    let quoted = serde_json::to_string(address).map_err(odd)?;
    let store = format!("\n[store]\ndatabase = {quoted}\n");
    let nursery = Nursery::open(&bed.path("plant"), &store)?;
    let devices = nursery.devices(bed.devices(), &bed.bar)?;
    let rounds = usize::try_from(bed.args.rounds()).map_err(odd)?;
    let count = bed.all() * rounds;
    let path = bed.path("requests");
    let (spool, some) = requests::make(&path, &devices, &nursery.order, count, &bed.bar)?;
    let plant = nursery.close(devices.iter().map(|device| &device.identity));
    drop(devices);
    let mut asks = spool.read()?;
    let mut sample = Vec::new();

    let (cpu, dir) = (bed.cpus.server, bed.path("run"));
    let subjects = [Subject::CryptoBound, Subject::Nothing, Subject::Database];
    let rounds = bed.rounds(&subjects, |subject| {
        Ok(vec![match subject {
            Subject::CryptoBound => {
                let requests = some.get(..bed.count()).unwrap_or(&some);
                let took = bound::crypto(cpu, requests)?;
                Measured::alone(subject, took, requests.len())
            }
            Subject::Nothing => {
                let server = Served::nothing(&plant.dir, dir.clone(), cpu, ANSWER_LEN_BYTES)?;
                let target = target(&server, "/", PKIXCMP, Refusals::Fault);
                bed.loops(subject, &server, &target, &mut spool.read()?, &mut zeros)?
            }
            _ => {
                let server = Served::here("ca", plant.dir.clone(), cpu)?;
                server.settle()?;
                certificates(bed, subject, &server, &mut asks, &mut sample)?
            }
        }])
    })?;
    let ratio = within(&rounds, |round| {
        Some(round.of(Subject::CryptoBound)?.cpu_us / round.of(Subject::Database)?.cpu_us)
    });
    let found = Found {
        ratio_to_crypto_bound: ratio,
        verified_with_openssl: check::with_openssl(&plant, &sample, &bed.path("sample"))?,
        notes: vec![
            "Processor time is that of the CA's process; the database's own is not in it."
                .to_owned(),
        ],
        ..Found::default()
    };
    bed.keep(&bed.results("issue-database", rounds, found), None)
}
