//! What cannot be gone without: the cryptography of one certificate, and its rows in the store.

use std::path::Path;

use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::{KeyAlg, OsRng, Provider as _, Rng as _};
use tegata_store::certificate::{self, Intent};
use tegata_store::role::RoleError;
use tegata_store::{Store, device};

use super::cpus::{Took, timed};
use super::odd;
use super::plant::{PROFILE, Plant, Request};
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

/// Puts the rows of `count` certificates into a copy of the store, `together` in each transaction,
/// each first as an intent and then with its certificate: the store alone, with nothing to decide.
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
