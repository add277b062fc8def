//! The enrolment procedure as a Trusted Application (steps 5 to 14 of the main job), and then the
//! certificate and key management module.
//!
//! Purpose: makes a key pair inside the TEE, asks the CA for a certificate with the device's own
//! identity, checks what comes back, and then uses the key for its owner and nobody else: for what
//! the certificate's keyUsage says, and for nothing else.
//!
//! Invariants: no cryptography of its own, only the TEE's; no private key ever leaves the TEE; an
//! owner is who opened the session by the word of the TEE; to everyone else a key does not exist;
//! a label's key serves until the next one is confirmed.
//!
//! Not trusted: clients, and every byte that claims to come from the CA until its signature is
//! checked under the trust anchors of the procedure.
//!
//! Commands: docs/spec/enrolment-ta.md.
#![no_std]
extern crate alloc;

pub mod cert;
pub mod chain;
pub mod clock;
pub mod device;
pub mod enrol;
pub mod keys;
pub mod limits;
pub mod message;
pub mod orders;
pub mod record;
pub mod sender;

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::Encoder;
use tegata_ta_sdk::consts::*;
use tegata_ta_sdk::params::Parameters;
use tegata_ta_sdk::rt::TrustedApp;
use tegata_ta_sdk::{Error, Identity, Result, crypto};
use tegata_wire::x509::CertView;

use limits::Budget;
use record::{Name, Record, Slot};

/// `ENROL_BEGIN(label, profile?) -> p10cr or kur, CMP path?`.
const ENROL_BEGIN: u32 = 1;
/// `ENROL_FINISH(label, cp or kup) -> certConf`.
const ENROL_FINISH: u32 = 2;
/// `ENROL_CONFIRM(label, pkiConf)`.
const ENROL_CONFIRM: u32 = 3;
/// `GET_CERTIFICATE(label, format?) -> chain`.
const GET_CERTIFICATE: u32 = 4;
/// `SIGN(label, digest) -> signature`.
const SIGN: u32 = 5;
/// `LIST() -> [[label, state], ...]`.
const LIST: u32 = 6;
/// `DELETE(label, what?)`.
const DELETE: u32 = 7;
/// `GET_PUBLIC_KEY(label, which?) -> SubjectPublicKeyInfo`.
const GET_PUBLIC_KEY: u32 = 8;
/// `STATUS(label) -> {...}`.
const STATUS: u32 = 9;
/// `AGREE(label, peer's public key) -> shared secret`.
const AGREE: u32 = 10;
/// `PROFILES() -> [[profile, algorithm, keyUsage], ...]`.
const PROFILES: u32 = 11;

/// A request is under way, nothing is installed.
const STATE_REQUESTED: u32 = 1;
/// A certificate was accepted and is not confirmed yet, nothing is installed.
const STATE_RECEIVED: u32 = 2;
/// A certificate is installed.
const STATE_INSTALLED: u32 = 3;
/// A certificate is installed and the next one is under way.
const STATE_RENEWING: u32 = 4;

/// DELETE: certificate, key and what is under way.
const DELETE_ALL: u32 = 0;
/// DELETE: only what is under way.
const DELETE_NEXT: u32 = 1;
/// GET_PUBLIC_KEY: of the key that serves; before there is one, of the one asked for.
const ANY_KEY: u32 = 0;
/// GET_PUBLIC_KEY: of the key that serves.
const CURRENT_KEY: u32 = 1;
/// GET_PUBLIC_KEY: of the key that was made beside it.
const NEXT_KEY: u32 = 2;

/// A parameter that is not there.
const NONE: &[u32] = &[TEE_PARAM_TYPE_NONE];
/// An input buffer.
const INPUT: &[u32] = &[TEE_PARAM_TYPE_MEMREF_INPUT, TEE_PARAM_TYPE_MEMREF_INOUT];
/// An output buffer.
const OUTPUT: &[u32] = &[TEE_PARAM_TYPE_MEMREF_OUTPUT, TEE_PARAM_TYPE_MEMREF_INOUT];
/// An input buffer, or nothing.
const MAYBE_INPUT: &[u32] = &[
    TEE_PARAM_TYPE_NONE,
    TEE_PARAM_TYPE_MEMREF_INPUT,
    TEE_PARAM_TYPE_MEMREF_INOUT,
];
/// An output buffer, or nothing.
const MAYBE_OUTPUT: &[u32] = &[
    TEE_PARAM_TYPE_NONE,
    TEE_PARAM_TYPE_MEMREF_OUTPUT,
    TEE_PARAM_TYPE_MEMREF_INOUT,
];
/// A number, or nothing.
const MAYBE_VALUE: &[u32] = &[
    TEE_PARAM_TYPE_NONE,
    TEE_PARAM_TYPE_VALUE_INPUT,
    TEE_PARAM_TYPE_VALUE_INOUT,
];

/// The parameter types of a command.
const fn types(command: u32) -> Option<[&'static [u32]; 4]> {
    Some(match command {
        ENROL_BEGIN => [INPUT, MAYBE_INPUT, OUTPUT, MAYBE_OUTPUT],
        ENROL_FINISH | SIGN | AGREE => [INPUT, INPUT, OUTPUT, NONE],
        ENROL_CONFIRM => [INPUT, INPUT, NONE, NONE],
        GET_CERTIFICATE | GET_PUBLIC_KEY => [INPUT, MAYBE_VALUE, OUTPUT, NONE],
        DELETE => [INPUT, MAYBE_VALUE, NONE, NONE],
        STATUS => [INPUT, NONE, OUTPUT, NONE],
        LIST | PROFILES => [NONE, NONE, OUTPUT, NONE],
        _ => return None,
    })
}

/// A session: its owner, and what it may still ask for.
pub struct Enrol {
    owner: Identity,
    budget: Budget,
}

impl TrustedApp for Enrol {
    fn open_session(owner: Identity, _: &mut Parameters) -> Result<Self> {
        let budget = Budget::full();
        Ok(Self { owner, budget })
    }

    fn invoke(&mut self, command: u32, params: &mut Parameters) -> Result<()> {
        // First what needs no key: so it is the same whether there is one or not.
        let types = types(command).ok_or(Error(TEE_ERROR_NOT_SUPPORTED))?;
        params.expect(&types)?;
        match command {
            LIST => return self.list(params),
            PROFILES => return profiles(params),
            _ => {}
        }
        let name = Name::new(self.owner, params.input(0)?)?;
        match command {
            ENROL_BEGIN => self.begin(&name, params),
            ENROL_FINISH => {
                let confirm = enrol::finish(&name, params.input(1)?)?;
                params.set_output(2, &confirm)
            }
            ENROL_CONFIRM => enrol::confirm(&name, params.input(1)?),
            GET_CERTIFICATE => {
                let format = number(params)?;
                params.set_output(2, &certificate(&name, format)?)
            }
            SIGN => self.sign(&name, params),
            AGREE => self.agree(&name, params),
            DELETE => delete(&name, number(params)?),
            GET_PUBLIC_KEY => {
                let (key, record) = match number(params)? {
                    ANY_KEY => match Record::load(&name, Slot::Installed) {
                        Err(Error(TEE_ERROR_ITEM_NOT_FOUND)) => Record::load(&name, Slot::Pending),
                        found => found,
                    }?,
                    CURRENT_KEY => Record::load(&name, Slot::Installed)?,
                    NEXT_KEY => Record::load(&name, Slot::Pending)?,
                    _ => return Err(Error(TEE_ERROR_BAD_PARAMETERS)),
                };
                params.set_output(2, &keys::spki_der(enrol::alg_of(&record)?, &key)?)
            }
            _ => params.set_output(2, &status(&name)?),
        }
    }
}

/// The number in parameter 1; 0 if there is none.
fn number(params: &Parameters) -> Result<u32> {
    if !params.has(1) {
        return Ok(0);
    }
    match params.value(1)? {
        (number, 0) => Ok(number),
        _ => Err(Error(TEE_ERROR_BAD_PARAMETERS)),
    }
}

fn delete(name: &Name, what: u32) -> Result<()> {
    let found = match what {
        DELETE_NEXT => enrol::give_up(name)?,
        DELETE_ALL => {
            let installed = Record::delete(name, Slot::Installed)?;
            Record::delete(name, Slot::Pending)? || installed
        }
        _ => return Err(Error(TEE_ERROR_BAD_PARAMETERS)),
    };
    if found {
        Ok(())
    } else {
        Err(Error(TEE_ERROR_ITEM_NOT_FOUND))
    }
}

/// CBOR array of what the release orders: [profile, COSE algorithm, keyUsage], the default first.
fn profiles(params: &mut Parameters) -> Result<()> {
    let orders = device::Orders::load()?;
    let certificates = &orders.procedure.certificates;
    let mut e = Encoder::new(Vec::new());
    let mut write = || -> core::result::Result<(), minicbor::encode::Error<_>> {
        e.array(u64::try_from(certificates.len()).unwrap_or(0))?;
        for order in certificates {
            e.array(3)?
                .str(&order.profile)?
                .i64(order.key_kind.cose_alg())?
                .u16(order.key_usage)?;
        }
        Ok(())
    };
    write().map_err(|_| Error(TEE_ERROR_GENERIC))?;
    params.set_output(2, &e.into_writer())
}

impl Enrol {
    /// What the session may still ask for: a TA built on this one has no other limits.
    pub fn budget(&mut self) -> &mut Budget {
        &mut self.budget
    }

    fn begin(&mut self, name: &Name, params: &mut Parameters) -> Result<()> {
        // A key that belongs to everybody belongs to nobody.
        if self.owner.login == TEE_LOGIN_PUBLIC {
            return Err(Error(TEE_ERROR_ACCESS_DENIED));
        }
        let profile = if params.has(1) { params.input(1)? } else { &[] };
        if profile.len() > limits::PROFILE_BYTES {
            return Err(Error(TEE_ERROR_BAD_PARAMETERS));
        }
        let profile = core::str::from_utf8(profile).map_err(|_| Error(TEE_ERROR_BAD_PARAMETERS))?;
        let profile = Some(profile).filter(|profile| !profile.is_empty());
        let (request, path) = enrol::begin(name, profile, &mut self.budget)?;
        params.set_output(2, &request)?;
        // Where the request goes is the CA's word too; who knows it already leaves this out.
        if params.has(3) {
            params.set_output(3, path.as_bytes())?;
        }
        Ok(())
    }

    fn sign(&mut self, name: &Name, params: &mut Parameters) -> Result<()> {
        let (key, record) = Record::load(name, Slot::Installed)?;
        if !keys::may_sign(record.key_usage) {
            return Err(Error(TEE_ERROR_ACCESS_DENIED));
        }
        let alg = enrol::alg_of(&record)?;
        params.require_room(2, alg.raw_len())?;
        self.budget.use_key()?;
        let signature = keys::sign_digest(alg, &key, params.input(1)?)?;
        params.set_output(2, &signature)
    }

    fn agree(&mut self, name: &Name, params: &mut Parameters) -> Result<()> {
        let (key, record) = Record::load(name, Slot::Installed)?;
        if !keys::may_agree(record.key_usage) {
            return Err(Error(TEE_ERROR_ACCESS_DENIED));
        }
        let alg = enrol::alg_of(&record)?;
        params.require_room(2, keys::shared_len(alg)?)?;
        if params.input(1)?.len() > limits::PEER_KEY_BYTES {
            return Err(Error(TEE_ERROR_BAD_PARAMETERS));
        }
        self.budget.use_key()?;
        let shared = keys::agree(alg, &key, params.input(1)?)?;
        params.set_output(2, &shared)
    }

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

/// CBOR map: 1 state, 7 profile, 8 COSE algorithm, 9 keyUsage; of an installed certificate also
/// 2 notBefore, 3 notAfter, 4 when to renew (seconds since 1970), 5 serial number, 6 whether renewal
/// is due, 11 the time that this is said by; and 10 the state of the next one, if it is under way.
fn status(name: &Name) -> Result<Vec<u8>> {
    let pending = Record::find(name, Slot::Pending)?;
    let installed = Record::find(name, Slot::Installed)?;
    let state = match (&installed, &pending) {
        (Some(_), Some(_)) => STATE_RENEWING,
        (Some(_), None) => STATE_INSTALLED,
        (None, Some(record)) => pending_state(record),
        (None, None) => return Err(Error(TEE_ERROR_ITEM_NOT_FOUND)),
    };
    let leaf = installed.as_ref().and_then(|record| record.chain.first());
    let next = pending
        .as_ref()
        .map(pending_state)
        .filter(|_| leaf.is_some());
    let record = installed.as_ref().or(pending.as_ref());
    let record = record.ok_or(Error(TEE_ERROR_ITEM_NOT_FOUND))?;
    let times = match leaf {
        Some(leaf) => Some(times(leaf, &record.profile)?),
        None => None,
    };
    let mut e = Encoder::new(Vec::new());
    let mut write = || -> core::result::Result<(), minicbor::encode::Error<_>> {
        let count = 4 + if times.is_some() { 6 } else { 0 } + u64::from(next.is_some());
        e.map(count)?.u8(1)?.u32(state)?;
        if let Some(times) = &times {
            e.u8(2)?.u64(times.begins)?.u8(3)?.u64(times.ends)?;
            e.u8(4)?.u64(times.renew_at)?.u8(5)?.bytes(&times.serial)?;
            e.u8(6)?.bool(times.due)?;
        }
        e.u8(7)?.str(&record.profile)?.u8(8)?.i64(record.cose_alg)?;
        e.u8(9)?.u16(record.key_usage)?;
        if let Some(next) = next {
            e.u8(10)?.u32(next)?;
        }
        if let Some(times) = &times {
            e.u8(11)?.u64(times.now)?;
        }
        Ok(())
    };
    write().map_err(|_| Error(TEE_ERROR_GENERIC))?;
    Ok(e.into_writer())
}

/// What a certificate's owner plans by. Times in seconds since 1970.
struct Times {
    begins: u64,
    ends: u64,
    renew_at: u64,
    serial: Vec<u8>,
    due: bool,
    now: u64,
}

fn times(leaf: &[u8], profile: &str) -> Result<Times> {
    let view = CertView::from_der(leaf).map_err(|_| Error(TEE_ERROR_CORRUPT_OBJECT))?;
    let orders = device::Orders::load()?;
    // A later release may no longer order what this certificate is: then it is not renewed.
    let window = orders.procedure.certificate(profile);
    let window = window.map_or(0, |order| order.renewal_window_secs);
    let renew_at = renew_at(&view, window, orders.identity.ueid.as_bytes())?;
    let now = clock::now_secs();
    Ok(Times {
        begins: view.not_before_secs,
        ends: view.not_after_secs,
        renew_at,
        serial: view.serial.to_vec(),
        due: window > 0 && now >= renew_at,
        now,
    })
}

/// When to renew: within the first half of the window before the end, at a moment of this device
/// and this certificate, so that a fleet that was made on one day does not come on one day.
///
/// A certificate that its issuer cut short is not renewed before half of its life.
fn renew_at(view: &CertView<'_>, window_secs: u64, ueid: &[u8]) -> Result<u64> {
    let lasts = view.not_after_secs.saturating_sub(view.not_before_secs);
    let window = window_secs.min(lasts / 2);
    let input = [b"tegata enrol v1 renew", ueid, view.serial].concat();
    let digest = crypto::digest(TEE_ALG_SHA256, &input)?;
    let spread = digest.first_chunk().copied().map_or(0, u64::from_be_bytes);
    let late = spread.checked_rem(window / 2).unwrap_or(0);
    let begins = view.not_after_secs.saturating_sub(window);
    Ok(begins.saturating_add(late))
}
