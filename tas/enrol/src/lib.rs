//! The enrolment procedure as a Trusted Application: steps 5 to 14 of the main job.
//!
//! Purpose: makes a key pair inside the TEE, asks the CA for a certificate with the device's own
//! identity, checks what comes back, and then uses the key for its owner and nobody else.
//!
//! Invariants: no cryptography of its own, only the TEE's; no private key ever leaves the TEE; an
//! owner is who opened the session by the word of the TEE; to everyone else a key does not exist.
//!
//! Not trusted: clients, and every byte that claims to come from the CA until its signature is
//! checked under the trust anchors of the procedure.
//!
//! Commands: docs/spec/enrolment-ta.md.
#![no_std]
extern crate alloc;

pub mod cert;
pub mod chain;
pub mod device;
pub mod enrol;
pub mod keys;
pub mod message;
pub mod orders;
pub mod record;

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::Encoder;
use tegata_ta_sdk::consts::*;
use tegata_ta_sdk::params::Parameters;
use tegata_ta_sdk::rt::TrustedApp;
use tegata_ta_sdk::{Error, Identity, Result, system};
use tegata_wire::x509::CertView;

use record::{Name, Record, Slot};

/// `ENROL_BEGIN(label, profile?) -> p10cr, CMP path?`.
const ENROL_BEGIN: u32 = 1;
/// `ENROL_FINISH(label, cp) -> certConf`.
const ENROL_FINISH: u32 = 2;
/// `ENROL_CONFIRM(label, pkiConf)`.
const ENROL_CONFIRM: u32 = 3;
/// `GET_CERTIFICATE(label, format?) -> chain`.
const GET_CERTIFICATE: u32 = 4;
/// `SIGN(label, digest) -> signature`.
const SIGN: u32 = 5;
/// `LIST() -> [[label, state], ...]`.
const LIST: u32 = 6;
/// `DELETE(label)`.
const DELETE: u32 = 7;
/// `GET_PUBLIC_KEY(label) -> SubjectPublicKeyInfo`.
const GET_PUBLIC_KEY: u32 = 8;
/// `STATUS(label) -> {...}`.
const STATUS: u32 = 9;

/// A request is under way, nothing is installed.
const STATE_REQUESTED: u32 = 1;
/// A certificate was accepted and is not confirmed yet, nothing is installed.
const STATE_RECEIVED: u32 = 2;
/// A certificate is installed.
const STATE_INSTALLED: u32 = 3;
/// A certificate is installed and the next one is under way.
const STATE_RENEWING: u32 = 4;

/// A session: its owner.
pub struct Enrol {
    owner: Identity,
}

impl TrustedApp for Enrol {
    fn open_session(owner: Identity, _: &mut Parameters) -> Result<Self> {
        Ok(Self { owner })
    }

    fn invoke(&mut self, command: u32, params: &mut Parameters) -> Result<()> {
        if command == LIST {
            return self.list(params);
        }
        let name = Name::new(self.owner, params.input(0)?)?;
        match command {
            ENROL_BEGIN => {
                // A key that belongs to everybody belongs to nobody.
                if self.owner.login == TEE_LOGIN_PUBLIC {
                    return Err(Error(TEE_ERROR_ACCESS_DENIED));
                }
                let profile = if params.has(1) {
                    Some(params.input(1)?)
                } else {
                    None
                };
                let request = enrol::begin(&name, profile.filter(|p| !p.is_empty()))?;
                params.set_output(2, &request)?;
                // Where the request goes is the CA's word too; who knows it already leaves this out.
                if params.has(3) {
                    let orders = device::Orders::load()?;
                    params.set_output(3, orders.procedure.cmp_path.as_bytes())?;
                }
                Ok(())
            }
            ENROL_FINISH => {
                let confirm = enrol::finish(&name, params.input(1)?)?;
                params.set_output(2, &confirm)
            }
            ENROL_CONFIRM => enrol::confirm(&name, params.input(1)?),
            GET_CERTIFICATE => {
                let format = if params.has(1) { params.value(1)?.0 } else { 0 };
                params.set_output(2, &certificate(&name, format)?)
            }
            SIGN => {
                let (key, record) = Record::load(&name, Slot::Installed)?;
                let alg = enrol::alg_of(&record)?;
                let signature = keys::sign_digest(alg, &key, params.input(1)?)?;
                params.set_output(2, &signature)
            }
            DELETE => {
                let installed = Record::delete(&name, Slot::Installed)?;
                let pending = Record::delete(&name, Slot::Pending)?;
                if installed || pending {
                    Ok(())
                } else {
                    Err(Error(TEE_ERROR_ITEM_NOT_FOUND))
                }
            }
            GET_PUBLIC_KEY => {
                let found = Record::load(&name, Slot::Installed);
                let (key, record) = found.or_else(|_| Record::load(&name, Slot::Pending))?;
                params.set_output(2, &keys::spki_der(enrol::alg_of(&record)?, &key)?)
            }
            STATUS => {
                let status = status(&name)?;
                params.set_output(2, &status)
            }
            _ => Err(Error(TEE_ERROR_NOT_SUPPORTED)),
        }
    }
}

impl Enrol {
    fn list(&self, params: &mut Parameters) -> Result<()> {
        let pending = Record::list(&self.owner, Slot::Pending)?;
        let mut rows: Vec<(String, u32)> = Vec::new();
        for (label, _) in Record::list(&self.owner, Slot::Installed)? {
            let renewing = pending.iter().any(|(other, _)| *other == label);
            rows.push((
                label,
                if renewing {
                    STATE_RENEWING
                } else {
                    STATE_INSTALLED
                },
            ));
        }
        for (label, record) in pending {
            if !rows.iter().any(|(other, _)| *other == label) {
                rows.push((label, pending_state(&record)));
            }
        }
        let mut e = Encoder::new(Vec::new());
        let mut write = || -> core::result::Result<(), minicbor::encode::Error<_>> {
            e.array(u64::try_from(rows.len()).unwrap_or(0))?;
            for (label, state) in &rows {
                e.array(2)?.str(label)?.u32(*state)?;
            }
            Ok(())
        };
        write().map_err(|_| Error(TEE_ERROR_GENERIC))?;
        params.set_output(2, &e.into_writer())
    }
}

fn pending_state(record: &Record) -> u32 {
    if record.confirm.is_empty() {
        STATE_REQUESTED
    } else {
        STATE_RECEIVED
    }
}

/// 0: PEM of leaf and issuers; 1: DER of the leaf; 2: DER of all, one after another.
fn certificate(name: &Name, format: u32) -> Result<Vec<u8>> {
    let (_, record) = Record::load(name, Slot::Installed)?;
    match format {
        0 => {
            let mut out = String::new();
            for der in &record.chain {
                let pem = der::pem::encode_string("CERTIFICATE", der::pem::LineEnding::LF, der);
                out.push_str(&pem.map_err(|_| Error(TEE_ERROR_GENERIC))?);
            }
            Ok(out.into_bytes())
        }
        1 => record
            .chain
            .first()
            .cloned()
            .ok_or(Error(TEE_ERROR_CORRUPT_OBJECT)),
        2 => Ok(record.chain.concat()),
        _ => Err(Error(TEE_ERROR_BAD_PARAMETERS)),
    }
}

/// CBOR map: 1 state, and of an installed certificate 2 notBefore, 3 notAfter, 4 when to renew
/// (seconds since 1970), 5 serial number, 6 whether renewal is due by the REE's clock.
fn status(name: &Name) -> Result<Vec<u8>> {
    let pending = match Record::load(name, Slot::Pending) {
        Ok((_, record)) => Some(record),
        Err(Error(TEE_ERROR_ITEM_NOT_FOUND)) => None,
        Err(error) => return Err(error),
    };
    let installed = match Record::load(name, Slot::Installed) {
        Ok((_, record)) => Some(record),
        Err(Error(TEE_ERROR_ITEM_NOT_FOUND)) => None,
        Err(error) => return Err(error),
    };
    let state = match (&installed, &pending) {
        (Some(_), Some(_)) => STATE_RENEWING,
        (Some(_), None) => STATE_INSTALLED,
        (None, Some(record)) => pending_state(record),
        (None, None) => return Err(Error(TEE_ERROR_ITEM_NOT_FOUND)),
    };
    let mut e = Encoder::new(Vec::new());
    let failed = |_| Error(TEE_ERROR_GENERIC);
    if let Some(leaf) = installed.as_ref().and_then(|record| record.chain.first()) {
        let view = CertView::from_der(leaf).map_err(|_| Error(TEE_ERROR_CORRUPT_OBJECT))?;
        let window = device::Orders::load()?.procedure.renewal_window_secs;
        let renew_at = view.not_after_secs.saturating_sub(window);
        let due = window > 0 && system::ree_time_secs() >= renew_at;
        let mut write = || -> core::result::Result<(), minicbor::encode::Error<_>> {
            e.map(6)?.u8(1)?.u32(state)?;
            e.u8(2)?
                .u64(view.not_before_secs)?
                .u8(3)?
                .u64(view.not_after_secs)?;
            e.u8(4)?
                .u64(renew_at)?
                .u8(5)?
                .bytes(view.serial)?
                .u8(6)?
                .bool(due)?;
            Ok(())
        };
        write().map_err(failed)?;
    } else {
        let mut write = || e.map(1)?.u8(1)?.u32(state).map(|_| ());
        write().map_err(failed)?;
    }
    Ok(e.into_writer())
}
