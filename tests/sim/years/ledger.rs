//! What was seen, to judge by. Nothing here is believed because a server says so, but for the
//! standing of certificates, which is the operator's word as the store has it.

use std::collections::{BTreeMap, BTreeSet};

use tegata_wire::x509::CertView;

/// A certificate that somebody saw.
#[derive(Clone, Debug)]
pub struct Seen {
    pub device: usize,
    pub der: Vec<u8>,
    /// The device installed it.
    pub installed: bool,
    /// The operator said that it is revoked for good.
    pub ended: bool,
}

/// A stop, as the operator remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stopped {
    pub id: i64,
    pub batch: String,
}

/// What the CA answers to one request of one device.
pub type Request = (usize, [u8; 32]);

/// All of it.
#[derive(Default)]
pub struct Ledger {
    /// Certificates by serial number: in the order of their issuance.
    pub certificates: BTreeMap<Vec<u8>, Seen>,
    /// The certificate that each request got.
    pub answered: BTreeMap<Request, Vec<u8>>,
    /// Devices that the operator revoked for good.
    pub revoked_devices: BTreeSet<usize>,
    /// Devices that the operator holds.
    pub held_devices: BTreeSet<usize>,
    pub stops: Vec<Stopped>,
    /// The farthest that the CA's clock was ever off, in milliseconds.
    pub ca_error_ms: u64,

    // What was seen and must not be.
    /// A device tried without trouble, again and again, and has no certificate that serves.
    pub locked_out: Vec<String>,
    /// What a device showed did not lead to a root that the relying party trusts.
    pub distrusted: Vec<String>,
    /// Something revoked read good after the bound.
    pub stale: Vec<String>,
    /// Two certificates of a slot serve for longer than the overlap.
    pub overlaps: Vec<String>,
    /// A certificate for a request that no TA made.
    pub forged: Vec<String>,
    /// A certificate for somebody whom the operator stopped.
    pub defied: Vec<String>,
    /// One request, two certificates; or one serial number.
    pub doubles: Vec<String>,
    /// A certificate that was answered and is not in the store.
    pub missing: Vec<String>,
}

impl Ledger {
    /// A certificate came out of the CA.
    pub fn issued(&mut self, device: usize, digest: [u8; 32], der: &[u8]) {
        let view = CertView::from_der(der).unwrap();
        let serial = view.serial.to_vec();
        let request = (device, digest);
        match self.answered.get(&request) {
            Some(before) if *before != serial => self.doubles.push(format!(
                "a request of device {device} got {} and {}",
                hex::encode(before),
                hex::encode(&serial)
            )),
            _ => {
                self.answered.insert(request, serial.clone());
            }
        }
        match self.certificates.get(&serial) {
            Some(before) if before.der != der => self.doubles.push(format!(
                "{} is the number of two certificates",
                hex::encode(&serial)
            )),
            Some(_) => {}
            None => {
                let seen = Seen {
                    device,
                    der: der.to_vec(),
                    installed: false,
                    ended: false,
                };
                self.certificates.insert(serial, seen);
            }
        }
    }

    /// Whether the operator said that the device gets none.
    pub fn is_refused(&self, device: usize, batch: &str) -> bool {
        self.revoked_devices.contains(&device)
            || self.held_devices.contains(&device)
            || self.stops.iter().any(|stop| stop.batch == batch)
    }
}
