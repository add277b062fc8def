//! `tegata bench appraise`: evidence of many devices at the Verifier, asked as the TAM asks.
//!
//! Each request has evidence of its own, with a nonce of its own; the Verifier remembers no nonces, the TAM makes
//! and uses them up. Every answer is looked at: the signature of the Verifier, that it affirms, that nonce and
//! that device.

use tegata_authority::UnixSecs;
use tegata_authority::verifier::{AppraisalPolicy, AppraisalRequest, EXAMPLE};
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::cose::verify_sign1;
use tegata_crypto::{OsRng, PublicKey, Rng as _};
use tegata_store::verifier::VerifierServer;
use tegata_wire::ids::Ueid;
use tegata_wire::rats::ear::Ear;

use super::attester::{Attester, Runs};
use super::bed::{Bed, Found, zeros};
use super::bound::{self, Signed};
use super::check::refused;
use super::figures::Measured;
use super::issue::target;
use super::load::{Driven, Refusals};
use super::odd;
use super::plant::{MODULE, Nursery, Plant};
use super::report::{Aim, Goal, beside, within};
use super::requests::{BOUND_MAX, Spool, Spooler};
use super::served::Served;
use super::subject::Subject;
use crate::cli::Role;
use crate::commands::import::{role_fault, role_store};
use crate::fault::Outcome;
use crate::roles::verifier::APPRAISAL_REQUEST;
use crate::stores::now_secs;

/// Path of the Verifier's resource.
pub const PATH: &str = "/verifier/v1/appraise";
/// Length of the answers of the server that does nothing, bytes: that of a result.
const ANSWER_LEN_BYTES: usize = 620;
/// Length of a nonce, bytes: that of the TAM's challenge.
const NONCE_LEN_BYTES: usize = 32;
/// Length of the bytes that are signed in a result.
const RESULT_LEN_BYTES: usize = 550;

/// Measures and keeps.
///
/// # Errors
/// A result that is not what it must be; files, processes, processors.
pub fn run(bed: &Bed<'_>) -> Outcome<()> {
    let appraise = Appraise::open(bed, bed.all())?;
    let mut subjects = vec![Subject::CryptoBound, Subject::Nothing];
    subjects.extend(bed.place.memory.is_some().then_some(Subject::Memory));
    subjects.push(Subject::Durable);
    let rounds = bed.rounds(&subjects, |subject| Ok(vec![appraise.measure(subject)?]))?;
    let cpu = |round: &super::figures::Round, subject| Some(round.of(subject)?.cpu_us);
    let found = Found {
        ratio_to_crypto_bound: within(&rounds, |round| {
            Some(cpu(round, Subject::CryptoBound)? / cpu(round, Subject::Durable)?)
        }),
        beside: beside(&rounds, &[(Subject::Durable, Subject::Nothing)]),
        targets: vec![
            Goal::new(
                "appraisals by a second of processor time, store on the disk",
                Aim::AtLeast(2_000.0),
                within(&rounds, |round| Some(1e6 / cpu(round, Subject::Durable)?)),
            ),
            Goal::new(
                "appraisals a second on one processor, store on the disk",
                Aim::AtLeast(2_000.0),
                within(&rounds, |round| {
                    Some(round.of(Subject::Durable)?.per_second)
                }),
            ),
        ],
        // Results are no certificates: OpenSSL does not know them.
        verified_with_openssl: Some(0),
        notes: vec![
            "Alone: one signature verified, one made. Every result was verified, affirms, and has its \
             request's nonce and device."
                .to_owned(),
        ],
        ..Found::default()
    };
    bed.keep(&bed.results("appraise", rounds, found), None)
}

/// Requests of the devices by turns, and what of the first of them the cryptography alone needs.
fn evidence(
    bed: &Bed<'_>,
    devices: &[Attester],
    runs: &Runs,
    count: usize,
) -> Outcome<(Spool, Vec<Signed>)> {
    bed.bar.set_message("evidence");
    bed.bar.set_length(u64::try_from(count).unwrap_or(0));
    let mut spool = Spooler::new(&bed.path("evidence"))?;
    let mut some = Vec::new();
    for device in devices.iter().cycle().take(count) {
        let mut nonce = vec![0; NONCE_LEN_BYTES];
        OsRng.fill(&mut nonce).map_err(odd)?;
        let request = AppraisalRequest {
            evidence: device.evidence(&nonce, Some(runs))?,
            nonce,
            media_type: None,
        };
        if some.len() < BOUND_MAX.min(bed.count()) {
            some.push(Signed {
                key: device.attestation_key().clone(),
                signature: device.attest(&request.evidence)?,
                bytes: request.evidence.clone(),
            });
        }
        spool.put(&request.encode().map_err(odd)?)?;
        bed.bar.inc(1);
    }
    Ok((spool.close()?, some))
}

/// What one run needs.
pub struct Appraise<'a> {
    bed: &'a Bed<'a>,
    /// The installation, whose Verifier knows the devices and what they run.
    pub plant: Plant,
    /// The requests, of the devices by turns.
    pub spool: Spool,
    some: Vec<Signed>,
    /// The Verifier's key.
    key: PublicKey,
}

impl<'a> Appraise<'a> {
    /// Makes the installation and so many requests.
    ///
    /// # Errors
    /// Files, keys, stores.
    pub fn open(bed: &'a Bed<'a>, count: usize) -> Outcome<Self> {
        let nursery = Nursery::open(&bed.path("plant"), "")?;
        let role = role_store(&nursery.config, Role::Verifier)?;
        bed.bar.set_message("devices");
        let secrets = nursery.register(bed.devices(), &[&role])?;
        let cut = nursery.release(MODULE)?;
        let policy = AppraisalPolicy::parse(EXAMPLE).map_err(|e| odd(format!("{e:?}")))?;
        let verifier = VerifierServer::open(role, policy).map_err(|e| role_fault(&e))?;
        verifier
            .import_reference_value(&cut.ta_envelope, UnixSecs(now_secs()))
            .map_err(|e| role_fault(&e))?;
        let attesters = secrets
            .iter()
            .map(Attester::new)
            .collect::<Outcome<Vec<_>>>()?;
        let runs = Runs::new(&cut, MODULE)?;
        let (spool, some) = evidence(bed, &attesters, &runs, count)?;
        Ok(Self {
            bed,
            plant: nursery.close(attesters.iter().map(|device| &device.identity)),
            spool,
            some,
            key: verifier.public_key().clone(),
        })
    }

    /// Whether an answer is the result of that request, which is one of that device.
    ///
    /// # Errors
    /// It is not.
    pub fn judge(&self, request: &[u8], ueid: &Ueid, result: &[u8]) -> Outcome<()> {
        let request = AppraisalRequest::decode(request).map_err(odd)?;
        judge(result, &self.key, &request.nonce, ueid)
    }

    fn measure(&self, subject: Subject) -> Outcome<Measured> {
        let (bed, cpu) = (self.bed, self.bed.cpus.server);
        let dir = match (subject, &bed.place.memory) {
            (Subject::Memory, Some(memory)) => memory.join("run"),
            _ => bed.path("run"),
        };
        let mut asks = self.spool.read()?;
        match subject {
            Subject::CryptoBound => {
                let took = bound::verify_and_sign(cpu, &self.some, RESULT_LEN_BYTES)?;
                Ok(Measured::alone(subject, took, self.some.len()))
            }
            Subject::Nothing => {
                let server = Served::nothing(&self.plant.dir, dir, cpu, ANSWER_LEN_BYTES)?;
                let target = target(&server, "/", super::PKIXCMP, Refusals::Fault);
                bed.loops(subject, &server, &target, &mut asks, &mut zeros)
            }
            _ => {
                let server = Served::role("verifier", &self.plant.dir, dir, cpu)?;
                let target = target(&server, PATH, APPRAISAL_REQUEST, Refusals::Fault);
                let mut again = self.spool.read()?;
                let mut devices = self.plant.devices.iter().cycle();
                let mut check = |_: usize, driven: &Driven| {
                    driven.bodies().try_for_each(|result| {
                        let request = again.next_body()?;
                        let (Some(request), Some(ueid)) = (request, devices.next()) else {
                            return Err(odd("more answers than requests"));
                        };
                        self.judge(&request, ueid, result)
                    })
                };
                bed.loops(subject, &server, &target, &mut asks, &mut check)
            }
        }
    }
}

/// Whether a result is the Verifier's, affirms, and is of that nonce and device.
fn judge(result: &[u8], key: &PublicKey, nonce: &[u8], ueid: &Ueid) -> Outcome<()> {
    let verified = verify_sign1(&AwsLc, result, key, b"", None);
    let verified = verified.map_err(|e| refused(format!("a result is not the Verifier's: {e}")))?;
    let ear = Ear::decode(verified.payload())
        .map_err(|e| refused(format!("a result cannot be read: {e}")))?;
    let of = |(_, appraisal): &(_, tegata_wire::rats::ear::Appraisal)| {
        appraisal
            .teep_claims
            .as_ref()
            .and_then(|claims| claims.ueid)
            == Some(*ueid)
    };
    let wrong = if !ear.is_affirming() {
        "does not affirm"
    } else if ear.eat_nonce.as_deref() != Some(nonce) {
        "has another nonce"
    } else if !ear.submods.iter().any(of) {
        "is of another device"
    } else {
        return Ok(());
    };
    Err(refused(format!("a result {wrong}: {ear:?}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::plant::key;
    use tegata_crypto::cose::{Sign1Headers, sign1};
    use tegata_wire::rats::ear::{Appraisal, Tier, VerifierId};
    use tegata_wire::rats::eat::EatClaims;

    #[test]
    fn wrong_results_are_found() {
        let (verifier, other) = (key().unwrap(), key().unwrap());
        let (mine, another) = (Ueid::from_random([1; 16]), Ueid::from_random([2; 16]));
        let (nonce, old) = ([7; NONCE_LEN_BYTES], [8; NONCE_LEN_BYTES]);
        let result = |status: Tier| {
            let mut appraisal = Appraisal::new(status);
            appraisal.teep_claims = Some(EatClaims {
                ueid: Some(mine),
                ..EatClaims::default()
            });
            let ear = Ear {
                status: None,
                iat: 1,
                exp: None,
                verifier_id: VerifierId {
                    developer: "x".to_owned(),
                    build: "y".to_owned(),
                },
                raw_evidence: None,
                submods: vec![("tee".to_owned(), appraisal)],
                eat_nonce: Some(nonce.to_vec()),
                cnf: None,
                other: Vec::new(),
            };
            let payload = ear.encode().unwrap();
            sign1(&verifier, &payload, &Sign1Headers::default(), b"", false).unwrap()
        };
        let good = result(Tier::Affirming);
        let key = verifier.public_key();
        assert!(judge(&good, key, &nonce, &mine).is_ok());
        assert!(judge(&good, key, &old, &mine).is_err());
        assert!(judge(&good, key, &nonce, &another).is_err());
        assert!(judge(&good, other.public_key(), &nonce, &mine).is_err());
        assert!(judge(&result(Tier::Warning), key, &nonce, &mine).is_err());
        assert!(judge(b"", key, &nonce, &mine).is_err());
    }
}
