//! The network: packets in flight, everything that can happen to one, and a tap that hears all.

use std::fmt;

use crate::prng::{Prng, choose};

/// A place on the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    Factory,
    Operator,
    Ca,
    Tam,
    Verifier,
    /// The REE of a device, by its number.
    Device(usize),
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Factory => f.write_str("factory"),
            Self::Operator => f.write_str("operator"),
            Self::Ca => f.write_str("CA"),
            Self::Tam => f.write_str("TAM"),
            Self::Verifier => f.write_str("Verifier"),
            Self::Device(n) => write!(f, "device {n}"),
        }
    }
}

/// What a packet carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// POST to the TAM; empty begins an exchange.
    Teep(Vec<u8>),
    /// Its answer: 200 with a message, 204 (empty), or an error status (`None`).
    TeepAnswer(Option<Vec<u8>>),
    /// POST to the CA.
    Cmp { path: String, message: Vec<u8> },
    /// Its answer, or an error status.
    CmpAnswer(Option<Vec<u8>>),
    /// GET of an encrypted TA.
    Fetch { uri: String },
    /// Its answer, or 404.
    Payload(Option<Vec<u8>>),
}

impl Body {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Teep(b) | Self::Cmp { message: b, .. } => b,
            Self::TeepAnswer(b) | Self::CmpAnswer(b) | Self::Payload(b) => {
                b.as_deref().unwrap_or_default()
            }
            Self::Fetch { uri } => uri.as_bytes(),
        }
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Self::Teep(_) => "TEEP",
            Self::TeepAnswer(_) => "TEEP answer",
            Self::Cmp { .. } => "CMP",
            Self::CmpAnswer(_) => "CMP answer",
            Self::Fetch { .. } => "fetch",
            Self::Payload(_) => "payload",
        }
    }

    fn damage(&mut self, pick: u32) {
        match self {
            Self::Teep(b) | Self::Cmp { message: b, .. } => *b = damage(b, pick),
            Self::TeepAnswer(b) | Self::CmpAnswer(b) | Self::Payload(b) => {
                if let Some(b) = b {
                    *b = damage(b, pick);
                }
            }
            Self::Fetch { uri } => uri.push('x'),
        }
    }
}

/// Cut off somewhere, or one bit turned.
pub fn damage(bytes: &[u8], pick: u32) -> Vec<u8> {
    let mut out = bytes.to_vec();
    if out.is_empty() {
        return vec![0xa0];
    }
    let at = pick as usize / 16 % out.len();
    match pick % 16 {
        0 => out.truncate(at),
        1 => out.push(0),
        n => out[at] ^= 1 << (n % 8),
    }
    out
}

/// A packet in flight.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The connection: an answer goes to whoever waits on it.
    pub conn: u64,
    pub from: Node,
    pub to: Node,
    pub body: Body,
    /// Not before this true time.
    pub due_ms: i64,
}

/// All packets in flight. Nothing keeps their order.
#[derive(Default)]
pub struct Network {
    pub flying: Vec<Packet>,
    next_conn: u64,
}

impl Network {
    pub fn connect(&mut self) -> u64 {
        self.next_conn += 1;
        self.next_conn
    }

    pub fn send(&mut self, packet: Packet) {
        // A queue somewhere is full: the oldest is lost.
        if self.flying.len() >= FLYING_MAX {
            self.flying.remove(0);
        }
        self.flying.push(packet);
    }

    fn index(&self, pick: u32, now_ms: i64) -> Option<usize> {
        let due: Vec<usize> = (0..self.flying.len())
            .filter(|i| self.flying[*i].due_ms <= now_ms)
            .collect();
        choose(&due, pick).copied()
    }

    /// Takes any packet that is due.
    pub fn take(&mut self, pick: u32, now_ms: i64) -> Option<Packet> {
        let at = self.index(pick, now_ms)?;
        Some(self.flying.remove(at))
    }

    pub fn duplicate(&mut self, pick: u32) -> Option<String> {
        let packet = choose(&self.flying, pick)?.clone();
        let told = describe(&packet);
        self.send(packet);
        Some(told)
    }

    pub fn delay(&mut self, pick: u32, until_ms: i64) -> Option<String> {
        let len = self.flying.len();
        let packet = self.flying.get_mut(pick as usize % len.max(1))?;
        packet.due_ms = until_ms;
        Some(describe(packet))
    }

    pub fn corrupt(&mut self, pick: u32, how: u32) -> Option<String> {
        let len = self.flying.len();
        let packet = self.flying.get_mut(pick as usize % len.max(1))?;
        packet.body.damage(how);
        Some(describe(packet))
    }
}

pub fn describe(packet: &Packet) -> String {
    format!(
        "{} {} -> {}, {} bytes",
        packet.body.kind(),
        packet.from,
        packet.to,
        packet.body.bytes().len()
    )
}

/// Something that crossed the network once.
#[derive(Clone)]
pub struct Crossing {
    pub from: Node,
    pub to: Node,
    pub kind: &'static str,
    pub bytes: Vec<u8>,
}

/// Hears everything. What it heard can be sent again, to anybody.
#[derive(Default)]
pub struct Tap {
    /// Not looked at for secrets yet.
    pub fresh: Vec<Crossing>,
    /// Kept for replay; the last [`HEARD_MAX`] that are not huge.
    pub heard: Vec<Crossing>,
}

impl Tap {
    pub fn record(&mut self, from: Node, to: Node, kind: &'static str, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let crossing = Crossing {
            from,
            to,
            kind,
            bytes: bytes.to_vec(),
        };
        if matches!(kind, "TEEP" | "TEEP answer" | "CMP" | "CMP answer") {
            if self.heard.len() >= HEARD_MAX {
                self.heard.remove(0);
            }
            self.heard.push(crossing.clone());
        }
        self.fresh.push(crossing);
    }

    /// One of the recorded messages of that kind.
    pub fn replay(&self, kind: &str, pick: u32) -> Option<&Crossing> {
        let fitting: Vec<&Crossing> = self.heard.iter().filter(|c| c.kind == kind).collect();
        choose(&fitting, pick).copied()
    }
}

/// When a packet arrives, at the earliest.
pub fn latency_ms(rng: &mut Prng) -> u64 {
    20 + rng.below(200)
}

const FLYING_MAX: usize = 48;
const HEARD_MAX: usize = 160;
