//! Rows as a CA's store has them after years, without issuing: for figures and tests of large stores.
//!
//! Each is as long as the first certificate and device that are in the store, and is the first one's in all that
//! the store does not look for by: subject, key, validity and signature within a certificate, a device's
//! endorsement. Written in large transactions; stopped between two of them the store is whole, with fewer rows.
//!
//! Trusted: who calls this puts devices and certificates into a CA's store that nobody endorsed and nobody issued.
//! Programs that serve are built without it.

use tegata_crypto::{CryptoError, Rng};
use tegata_wire::ids::Ueid;

use crate::certificate::{self, Intent};
use crate::device::{self, Batch, DeviceId, NewDevice};
use crate::engine::params;
use crate::{Store, StoreError, Tx, revocation};

/// Rows of one transaction, and devices of one batch.
const TOGETHER: usize = 10_000;

/// What is added.
#[derive(Debug, Clone, Copy)]
pub struct Fill<'a> {
    /// Devices, dealt to batches `F0`, `F1`, … of 10,000.
    pub devices: usize,
    /// Certificates of each; all devices have their first before any has its second.
    pub each: usize,
    /// When the first certificate was issued, seconds since 1970.
    pub from_secs: u64,
    /// Time between two certificates, milliseconds.
    pub step_ms: u64,
    /// How long each is valid, seconds.
    pub life_secs: u64,
    /// Certificates of a shard.
    pub shard: usize,
    /// Models of the devices, by turns.
    pub models: &'a [&'a str],
    /// Profiles of a device's certificates, by turns.
    pub profiles: &'a [&'a str],
    /// Of how many devices, evenly spread, the names are given back.
    pub sample: usize,
}

/// A device that was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filled {
    /// Its name for life.
    pub ueid: Ueid,
    /// Serial number of its maker.
    pub serial: String,
    /// Serial number of its newest certificate, big-endian.
    pub certificate: Vec<u8>,
}

/// Why rows were not added; those that were told of stay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NotFilled {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The random generator failed.
    #[error(transparent)]
    Rng(#[from] CryptoError),
    /// The store has no certificate or no device to begin with.
    #[error("the store has no certificate whose length the others could have: issue one first")]
    Empty,
}

/// Adds rows; tells after each transaction how many devices and certificates together it added so far.
///
/// # Errors
/// `Empty` without a first certificate; the store's failure.
pub fn fill(
    store: &Store,
    fill: Fill<'_>,
    rng: &mut dyn Rng,
    mut told: impl FnMut(usize),
) -> Result<Vec<Filled>, NotFilled> {
    let like = store
        .read("first rows", Like::find)?
        .ok_or(NotFilled::Empty)?;
    let every = fill.devices.div_ceil(fill.sample.max(1)).max(1);
    let mut sample = Vec::new();
    // 1. Devices, in batches as factories make them.
    let mut ids = Vec::with_capacity(fill.devices);
    for from in (0..fill.devices).step_by(TOGETHER) {
        let many = TOGETHER.min(fill.devices - from);
        let mut named = Vec::with_capacity(many);
        for number in from..from + many {
            named.push(Named::new(rng, number, fill)?);
        }
        let digest = random::<32>(rng)?;
        ids.extend(store.run_tx("fill devices", |tx| {
            let mut ids = Vec::with_capacity(many);
            let batch = device::insert_batch(tx, &made(from / TOGETHER, digest), 0)?;
            let of = batch.ok_or(UNREADABLE)?;
            for named in &named {
                device::insert(tx, of, &named.device(&like))?;
                let row = device::find(tx, &named.ueid)?;
                ids.push(row.ok_or(UNREADABLE)?.id);
            }
            Ok::<_, StoreError>(ids)
        })?);
        for (number, named) in (from..).zip(named) {
            if number.is_multiple_of(every) {
                sample.push(Filled {
                    ueid: named.ueid,
                    serial: named.serial,
                    certificate: Vec::new(),
                });
            }
        }
        told(ids.len());
    }
    // 2. Their certificates, in the order of their serial numbers.
    let all = fill.devices.saturating_mul(fill.each);
    let mut rows = Vec::with_capacity(TOGETHER.min(all));
    for from in (0..all).step_by(TOGETHER) {
        rows.clear();
        for number in from..all.min(from.saturating_add(TOGETHER)) {
            let row = Row::new(&like, fill, rng, number, &ids)?;
            let of = number % fill.devices;
            if of.is_multiple_of(every)
                && let Some(one) = sample.get_mut(of / every)
            {
                one.certificate.clone_from(&row.intent.serial);
            }
            rows.push(row);
        }
        store.run_tx("fill certificates", |tx| {
            for row in &rows {
                certificate::issue(tx, &row.intent, &row.der, true, row.at)?;
            }
            Ok::<_, StoreError>(())
        })?;
        told(fill.devices.saturating_add(from).saturating_add(rows.len()));
    }
    // 3. What is issued next goes on in the last shard.
    let last = shard_of(&like, fill, all);
    store.run_tx("fill counters", |tx| {
        let last = revocation::signed(last);
        tx.execute("UPDATE status_counter SET shard = ?1", params![last])?;
        tx.execute(
            "UPDATE shard_lane SET shard = ?1, in_shard = 1",
            params![last],
        )
    })?;
    Ok(sample)
}

/// What rows are made like.
struct Like {
    intent: Intent,
    der: Vec<u8>,
    /// Where the serial number is in the certificate.
    serial_at: usize,
    endorsement: Vec<u8>,
    shard: u64,
}

impl Like {
    fn find(tx: &Tx<'_>) -> Result<Option<Self>, StoreError> {
        let certificate = certificate::list(tx, b"", 1)?.pop();
        let device = device::list(tx, DeviceId(0), 1)?.pop();
        let (Some(certificate), Some(device)) = (certificate, device) else {
            return Ok(None);
        };
        let (intent, der) = (certificate.intent, certificate.der.unwrap_or_default());
        let mut places = der.windows(intent.serial.len().max(1));
        let Some(serial_at) = places.position(|place| place == intent.serial) else {
            return Ok(None);
        };
        Ok(Some(Self {
            intent: Intent {
                status_base: revocation::bases(tx)?.into_iter().next(),
                tbs: Vec::new(),
                ..intent
            },
            der,
            serial_at,
            endorsement: device.endorsement,
            shard: revocation::last_shard(tx)?,
        }))
    }
}

/// The names of a new device.
struct Named {
    ueid: Ueid,
    teep_kid: [u8; 32],
    attestation_kid: [u8; 32],
    model: String,
    serial: String,
}

impl Named {
    fn new(rng: &mut dyn Rng, number: usize, fill: Fill<'_>) -> Result<Self, NotFilled> {
        let model = fill.models.get(number % fill.models.len().max(1));
        Ok(Self {
            ueid: Ueid::from_random(ascending(rng, number, fill.devices)?),
            teep_kid: ascending(rng, number, fill.devices)?,
            attestation_kid: ascending(rng, number, fill.devices)?,
            model: model.copied().unwrap_or("filled").to_owned(),
            serial: format!("261122-{number:09}"),
        })
    }

    fn device(&self, like: &Like) -> NewDevice {
        NewDevice {
            ueid: self.ueid,
            teep_kid: Some(self.teep_kid),
            attestation_kid: self.attestation_kid,
            model: self.model.clone(),
            serial: self.serial.clone(),
            endorsement: like.endorsement.clone(),
        }
    }
}

fn made(number: usize, digest: [u8; 32]) -> Batch {
    Batch {
        digest,
        batch: format!("F{number}"),
        maker: "Example Works".to_owned(),
        made_at: 0,
        factory_kid: Some(digest),
    }
}

/// A new certificate.
struct Row {
    intent: Intent,
    der: Vec<u8>,
    /// When it was issued, seconds since 1970.
    at: i64,
}

impl Row {
    fn new(
        like: &Like,
        fill: Fill<'_>,
        rng: &mut dyn Rng,
        number: usize,
        ids: &[DeviceId],
    ) -> Result<Self, NotFilled> {
        let far = u64::try_from(number).unwrap_or(u64::MAX);
        let at_ms = fill.from_secs.saturating_mul(1_000);
        let at_ms = at_ms.saturating_add(far.saturating_mul(fill.step_ms));
        let at = i64::try_from(at_ms / 1_000).unwrap_or(i64::MAX);
        // As the CA's own: time, then random bytes.
        let mut serial = random::<16>(rng)?;
        for (out, byte) in serial.iter_mut().zip(at_ms.to_be_bytes().iter().skip(2)) {
            *out = *byte;
        }
        let mut der = like.der.clone();
        for (out, byte) in der.iter_mut().skip(like.serial_at).zip(serial) {
            *out = byte;
        }
        let round = number / fill.devices.max(1);
        let profile = fill.profiles.get(round % fill.profiles.len().max(1));
        let device = ids.get(number % ids.len().max(1)).ok_or(UNREADABLE)?;
        let intent = Intent {
            serial: serial.to_vec(),
            device: *device,
            csr_digest: random(rng)?,
            profile: profile.map_or_else(|| like.intent.profile.clone(), |p| (*p).to_owned()),
            not_after: at.saturating_add(i64::try_from(fill.life_secs).unwrap_or(i64::MAX)),
            shard: shard_of(like, fill, number),
            ..like.intent.clone()
        };
        Ok(Self { intent, der, at })
    }
}

fn shard_of(like: &Like, fill: Fill<'_>, number: usize) -> u64 {
    let far = u64::try_from(number / fill.shard.max(1)).unwrap_or(u64::MAX);
    like.shard.saturating_add(far)
}

/// Random bytes, but that those of a later device are greater; spread over all there are. In the order of their keys
/// rows fill one page after the other. A registry that grew has them in any order, and its indexes of these
/// keys are up to half as long again; to write millions of them so, a page for each, takes hours.
fn ascending<const N: usize>(
    rng: &mut dyn Rng,
    number: usize,
    of: usize,
) -> Result<[u8; N], CryptoError> {
    let mut out = random::<N>(rng)?;
    let far = u64::try_from(number).unwrap_or(u64::MAX);
    let step = u64::MAX / u64::try_from(of.max(1)).unwrap_or(u64::MAX);
    for (out, byte) in out.iter_mut().zip(far.saturating_mul(step).to_be_bytes()) {
        *out = byte;
    }
    Ok(out)
}

fn random<const N: usize>(rng: &mut dyn Rng) -> Result<[u8; N], CryptoError> {
    let mut out = [0; N];
    rng.fill(&mut out)?;
    Ok(out)
}

const UNREADABLE: StoreError = StoreError::Unreadable { record: "device" };
