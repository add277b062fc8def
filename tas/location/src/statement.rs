//! A statement: an EAT with the location claim, signed by a certified key of this TA.
//!
//! Spec: RFC 9711 sections 4.1 (nonce), 4.2.1 (ueid), 4.2.10 (location); RFC 9052 section 4.4;
//! RFC 9360 (x5chain).

use alloc::vec::Vec;

use minicbor::Encoder;
use tegata_ta_enrol::limits::Budget;
use tegata_ta_enrol::record::{Name, Record, Slot, patiently};
use tegata_ta_enrol::{enrol, keys};
use tegata_ta_sdk::consts::*;
use tegata_ta_sdk::object::Object;
use tegata_ta_sdk::system::Position;
use tegata_ta_sdk::{Error, Result, property, system};

use crate::double;

/// Shortest and longest nonce in bytes. Spec: RFC 9711 section 4.1.
const NONCE_LEN: core::ops::RangeInclusive<usize> = 8..=64;
/// Profile of the statement.
const PROFILE: &str = "tag:tegata.dev,2026:location#1";
/// Tegata: number of the statement, counted by the TA.
const COUNTER: i64 = -75_005;
/// Identifier of the counter's object; no record of the enrolment code begins like it.
const COUNTER_ID: &[u8] = b"n.location";
/// Most bytes of a statement beside its certificates.
const BESIDE_CHAIN_LEN_MAX: usize = 512;

type Encoded = core::result::Result<(), minicbor::encode::Error<core::convert::Infallible>>;

fn encode(write: impl FnOnce(&mut Encoder<Vec<u8>>) -> Encoded) -> Result<Vec<u8>> {
    let mut e = Encoder::new(Vec::new());
    write(&mut e).map_err(|_| Error(TEE_ERROR_GENERIC))?;
    Ok(e.into_writer())
}

/// A number of the location claim, always as a double.
fn number(e: &mut Encoder<Vec<u8>>, label: u8, number: i64, scale: u32) -> Encoded {
    e.u8(label)?;
    e.writer_mut().push(0xfb);
    let bits = double::bits(number, scale).to_be_bytes();
    e.writer_mut().extend_from_slice(&bits);
    Ok(())
}

/// The location claim; what the receiver did not say is left out.
fn location(e: &mut Encoder<Vec<u8>>, at: &Position) -> Encoded {
    let optional = [
        (3, at.altitude_mm.map(i64::from), 1_000),
        (4, at.accuracy_mm.map(i64::from), 1_000),
        (5, at.altitude_accuracy_mm.map(i64::from), 1_000),
        (6, at.heading_mdeg.map(i64::from), 1_000),
        (7, at.speed_mm_s.map(i64::from), 1_000),
    ];
    let entries = 4 + optional
        .iter()
        .filter(|(_, value, _)| value.is_some())
        .count() as u64;
    e.map(entries)?;
    number(e, 1, at.latitude_e7.into(), 10_000_000)?;
    number(e, 2, at.longitude_e7.into(), 10_000_000)?;
    for (label, value, scale) in optional {
        if let Some(value) = value {
            number(e, label, value, scale)?;
        }
    }
    e.u8(8)?.u64(at.time_ms / 1_000)?;
    e.u8(9)?.u32(at.age_ms / 1_000)?;
    Ok(())
}

/// The next number, durable before it is used: two statements never share one, and one that was
/// made and lost leaves a gap.
///
/// One handle that nobody shares is held from reading to writing: each session is an instance of
/// its own, and two could otherwise read the same number.
fn next_number() -> Result<u64> {
    let flags = TEE_DATA_FLAG_ACCESS_READ | TEE_DATA_FLAG_ACCESS_WRITE;
    let counter = patiently(|| match Object::open(COUNTER_ID, flags) {
        Err(Error(TEE_ERROR_ITEM_NOT_FOUND)) => {
            // Refused, and so tried again, if another session makes it at this moment.
            Object::create(COUNTER_ID, flags, None, &0u64.to_be_bytes())
        }
        found => found,
    })?;
    let bytes = counter.read_all()?;
    let last = <[u8; 8]>::try_from(bytes.as_slice());
    let last = u64::from_be_bytes(last.map_err(|_| Error(TEE_ERROR_CORRUPT_OBJECT))?);
    let next = last.checked_add(1).ok_or(Error(TEE_ERROR_OVERFLOW))?;
    counter.write_start(&next.to_be_bytes())?;
    Ok(next)
}

/// Makes a statement with the certified key of that name.
///
/// # Errors
/// `TEE_ERROR_BAD_PARAMETERS` for a nonce of another length than 8 to 64 bytes;
/// `TEE_ERROR_ITEM_NOT_FOUND` if this owner has no certificate of that label;
/// `TEE_ERROR_NOT_SUPPORTED` without a receiver, `TEE_ERROR_NO_DATA` without a fix;
/// `TEE_ERROR_CANCEL` if the client gave up while it had to wait;
/// `TEE_ERROR_SHORT_BUFFER` if `room` is certainly too small, so that no number is used up.
pub fn make(name: &Name, nonce: &[u8], room: usize, budget: &mut Budget) -> Result<Vec<u8>> {
    if !NONCE_LEN.contains(&nonce.len()) {
        return Err(Error(TEE_ERROR_BAD_PARAMETERS));
    }
    let (key, record) = Record::load(name, Slot::Installed)?;
    let alg = enrol::alg_of(&record)?;
    let chain_len: usize = record.chain.iter().map(Vec::len).sum();
    if room < chain_len.saturating_add(BESIDE_CHAIN_LEN_MAX) {
        // Said with the size by the caller, who writes this many bytes of nothing.
        return Ok(alloc::vec![0; chain_len.saturating_add(BESIDE_CHAIN_LEN_MAX)]);
    }
    let at = system::position()?;
    let ueid = property::binary(TEE_PROPSET_TEE_IMPLEMENTATION, "dev.tegata.ueid")?;
    budget.use_key()?;
    let number = next_number()?;
    let made_at = at.time_ms.saturating_add(at.age_ms.into()) / 1_000;
    let claims = encode(|e| {
        e.map(6)?.u8(6)?.u64(made_at)?.u8(10)?.bytes(nonce)?;
        e.u16(256)?.bytes(&ueid)?.u16(264)?;
        location(e, &at)?;
        e.u16(265)?.str(PROFILE)?.i64(COUNTER)?.u64(number)?;
        Ok(())
    })?;
    let protected = encode(|e| {
        e.map(2)?.u8(1)?.i64(record.cose_alg)?.u8(33)?;
        // One certificate is a byte string, more are an array. Spec: RFC 9360 section 2.
        if let [leaf] = record.chain.as_slice() {
            e.bytes(leaf)?;
        } else {
            e.array(record.chain.len() as u64)?;
            for der in &record.chain {
                e.bytes(der)?;
            }
        }
        Ok(())
    })?;
    let signed = encode(|e| {
        e.array(4)?.str("Signature1")?.bytes(&protected)?;
        e.bytes(&[])?.bytes(&claims)?;
        Ok(())
    })?;
    let signature = keys::sign(alg, &key, &signed)?;
    encode(|e| {
        e.tag(minicbor::data::Tag::new(18))?.array(4)?;
        e.bytes(&protected)?
            .map(0)?
            .bytes(&claims)?
            .bytes(&signature)?;
        Ok(())
    })
}
