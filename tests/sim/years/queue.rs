//! What happens next: events in the order of their moments, with nothing to wait for between them.

use std::collections::BTreeMap;

/// One thing that will happen.
#[derive(Clone, Debug)]
pub enum Event {
    /// A device's program looks after its certificate, if the device has power.
    Wake(usize),
    /// A message to the CA that the network held back arrives.
    Late { device: usize, message: Vec<u8> },
    /// The operator does something.
    Operate,
    /// A hold that an operator's word brought about is lifted.
    Unhold(usize),
    /// A stop is lifted.
    Lift(i64),
    /// Clocks of servers are right again.
    SetRight,
    /// The clock of a device is right again.
    SetDeviceRight(usize),
    /// The CA's retention and the keepers of lists.
    Sweep,
    /// Devices that stayed away for longer than the grace may return, and may no longer.
    Help(bool),
    /// A relying party looks at a certificate.
    Look { party: usize, serial: Vec<u8> },
    /// The CA gets a new generation of that number; with a new root, or without.
    RollOver { number: u32, root: bool },
    /// The whole store is looked at.
    Audit,
}

/// Events to come. Those of one moment happen in the order they were put in.
#[derive(Default)]
pub struct Queue {
    events: BTreeMap<(i64, u64), Event>,
    put: u64,
}

impl Queue {
    /// Puts an event at a true time in milliseconds.
    pub fn put(&mut self, at_ms: i64, event: Event) {
        self.put += 1;
        self.events.insert((at_ms, self.put), event);
    }

    /// The next event before a moment, and when it happens.
    pub fn next(&mut self, before_ms: i64) -> Option<(i64, Event)> {
        let entry = self.events.first_entry()?;
        let at_ms = entry.key().0;
        (at_ms < before_ms).then(|| (at_ms, entry.remove()))
    }
}

/// A day in milliseconds.
pub const DAY_MS: i64 = 86_400_000;
/// An hour in milliseconds.
pub const HOUR_MS: i64 = 3_600_000;
