//! What cannot be gone without: the cryptography of one certificate, its rows in the store, and the CA's code.

use std::path::Path;

use tegata_authority::UnixMs;
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::{KeyAlg, OsRng, Provider as _, PublicKey, Rng as _};
use tegata_store::certificate::{self, Intent};
use tegata_store::issuer::{CmpOutcome, Issuer};
use tegata_store::role::RoleError;
use tegata_store::{Store, device};

use super::cpus::{Took, timed};
use super::odd;
use super::plant::{PROFILE, Plant};
use super::requests::{Reader, Request};
use crate::commands::import::role_fault;
use crate::fault::Outcome;
use crate::stores::{now_ms, now_secs, store_fault};

/// Verifies the CSR's signature, checks the MAC and signs as many bytes as a certificate has: of each
/// request, on one thread, with the library of the servers. Nothing is parsed.
///
/// # Errors
/// A signature or a MAC that is wrong.
pub fn crypto(cpu: usize, requests: &[Request]) -> Outcome<Took> {
    let private = AwsLc.generate(KeyAlg::P256, &mut OsRng).map_err(odd)?;
    let signer = AwsLc.signer(&private).map_err(odd)?;
    let tbs = vec![0x30; TBS_LEN_BYTES];
    let macs: Vec<[u8; 32]> = requests
        .iter()
        .map(|r| AwsLc.hmac_sha256(&r.mac_key, &r.part))
        .collect();
    let ((), took) = timed(cpu, || {
        for (request, mac) in requests.iter().zip(&macs) {
            AwsLc
                .verify(
                    &request.public_key,
                    &request.csr_tbs,
                    &request.csr_signature,
                )
                .map_err(odd)?;
            tegata_crypto::hmac_verify(&AwsLc, &request.mac_key, &request.part, mac)
                .map_err(odd)?;
            signer.sign(&tbs).map_err(odd)?;
        }
        Ok(())
    })?;
    Ok(took)
}

/// Bytes that somebody signed.
pub struct Signed {
    /// Whose key it was.
    pub key: PublicKey,
    /// The bytes.
    pub bytes: Vec<u8>,
    /// The signature, r ‖ s.
    pub signature: Vec<u8>,
}

/// Verifies each signature and makes one over so many bytes, as [`crypto`].
///
/// # Errors
/// A signature that is wrong.
pub fn verify_and_sign(cpu: usize, all: &[Signed], len_bytes: usize) -> Outcome<Took> {
    let private = AwsLc.generate(KeyAlg::P256, &mut OsRng).map_err(odd)?;
    let signer = AwsLc.signer(&private).map_err(odd)?;
    let tbs = vec![0x30; len_bytes];
    let ((), took) = timed(cpu, || {
        for one in all {
            AwsLc
                .verify(&one.key, &one.bytes, &one.signature)
                .map_err(odd)?;
            signer.sign(&tbs).map_err(odd)?;
        }
        Ok(())
    })?;
    Ok(took)
}

/// What of a renewal the cryptography alone needs.
pub struct Renewal {
    /// The key that serves: it signs the request.
    pub old: PublicKey,
    /// The bytes that its signature is over.
    pub part: Vec<u8>,
    /// That signature, r ‖ s.
    pub signature: Vec<u8>,
    /// The new key: it signs the CertRequest.
    pub new: PublicKey,
    /// DER of the CertRequest.
    pub request: Vec<u8>,
    /// The new key's signature over it, r ‖ s.
    pub popo: Vec<u8>,
    /// The key of the release's token.
    pub mac_key: [u8; 32],
    /// What the token is over.
    pub token_input: Vec<u8>,
}

/// Verifies the request's signature and the new key's, checks the token and signs as many bytes as a
/// certificate has: of each renewal, as [`crypto`].
///
/// # Errors
/// A signature or a MAC that is wrong.
pub fn renewals(cpu: usize, renewals: &[&Renewal]) -> Outcome<Took> {
    let private = AwsLc.generate(KeyAlg::P256, &mut OsRng).map_err(odd)?;
    let signer = AwsLc.signer(&private).map_err(odd)?;
    let tbs = vec![0x30; TBS_LEN_BYTES];
    let mac = |r: &Renewal| AwsLc.hmac_sha256(&r.mac_key, &r.token_input);
    let macs: Vec<[u8; 32]> = renewals.iter().map(|r| mac(r)).collect();
    let ((), took) = timed(cpu, || {
        for (r, mac) in renewals.iter().zip(&macs) {
            AwsLc.verify(&r.old, &r.part, &r.signature).map_err(odd)?;
            AwsLc.verify(&r.new, &r.request, &r.popo).map_err(odd)?;
            tegata_crypto::hmac_verify(&AwsLc, &r.mac_key, &r.token_input, mac).map_err(odd)?;
            signer.sign(&tbs).map_err(odd)?;
        }
        Ok(())
    })?;
    Ok(took)
}

/// Has the CA answer so many requests: its code alone, on one thread, with no HTTP.
///
/// # Errors
/// An answer that has no certificate.
pub fn called(cpu: usize, issuer: &Issuer, asks: &mut Reader, count: usize) -> Outcome<Took> {
    let mut bodies = Vec::with_capacity(count);
    while bodies.len() < count
        && let Some(body) = asks.next_body()?
    {
        bodies.push(body);
    }
    let ((), took) = timed(cpu, || {
        for body in &bodies {
            let answer = issuer.cmp(PROFILE, body, &mut OsRng, UnixMs(now_ms()));
            if !matches!(answer.outcome, CmpOutcome::Issued { again: false, .. }) {
                return Err(odd("a request got no certificate of its own"));
            }
        }
        Ok(())
    })?;
    Ok(took)
}

/// Puts the rows of `count` certificates into a copy of the store, `together` in each transaction: the store alone,
/// with nothing to decide.
///
/// # Errors
/// The store's.
pub fn commit(
    cpu: usize,
    plant: &Plant,
    path: &Path,
    count: usize,
    together: usize,
) -> Outcome<Took> {
    let store = Store::open(path).map_err(|e| store_fault(&e))?;
    let devices = store
        .read("devices", |tx| {
            let found = plant.devices.iter().map(|ueid| device::find(tx, ueid));
            found.collect::<Result<Vec<_>, _>>()
        })
        .map_err(|e| store_fault(&e))?;
    let ids: Vec<_> = devices.into_iter().flatten().map(|row| row.id).collect();
    let mut rows = Vec::with_capacity(count);
    for id in ids.iter().cycle().take(count) {
        rows.push(intent(*id)?);
    }
    let der = vec![0x30; DER_LEN_BYTES];
    let now = i64::try_from(now_secs()).unwrap_or(0);
    let ((), took) = timed(cpu, || {
        for some in rows.chunks(together) {
            store
                .run_tx("bench", |tx| {
                    for row in some {
                        certificate::issue(tx, row, &der, true, now)?;
                    }
                    Ok::<_, RoleError>(())
                })
                .map_err(|e| role_fault(&e))?;
        }
        Ok(())
    })?;
    Ok(took)
}

/// A row as long as a real one.
fn intent(device: device::DeviceId) -> Outcome<Intent> {
    let mut serial = vec![0; 16];
    let mut csr_digest = [0; 32];
    OsRng.fill(&mut serial).map_err(odd)?;
    OsRng.fill(&mut csr_digest).map_err(odd)?;
    for (out, byte) in serial.iter_mut().zip(now_ms().to_be_bytes().iter().skip(2)) {
        *out = *byte;
    }
    Ok(Intent {
        serial,
        device,
        csr_digest,
        profile: PROFILE.to_owned(),
        release: Some([7; 32]),
        issuer: "ca issuing key".to_owned(),
        tbs: Vec::new(),
        not_after: i64::MAX,
        shard: 0,
        status_base: None,
        evidence: None,
        replaces: None,
    })
}

/// Length of the bytes that are signed in a certificate of the bench's profile.
const TBS_LEN_BYTES: usize = 640;
/// Length of such a certificate.
const DER_LEN_BYTES: usize = 730;
