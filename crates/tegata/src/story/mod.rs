//! The story of a run: what happened, told as it happens.
//!
//! An [`Event`] is a fact with its numbers; a [`Teller`] shows it. There are two tellers, one for
//! people and one for programs, and both get the same events, so that neither knows more.
//! Deliberately absent: any secret. Events carry sizes, digests and public identifiers only.

mod json;
mod terminal;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub use json::JsonTeller;
pub use terminal::{TerminalTeller, pad};

/// Who acts, or receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Who {
    /// The certification authority, a server.
    Ca,
    /// The Trusted Application Manager, a server.
    Tam,
    /// The Verifier, a server.
    Verifier,
    /// The factory station.
    Factory,
    /// The agent in the device's open world: it carries bytes and is not trusted.
    Agent,
    /// A client application in the device's open world.
    App,
    /// The device's TEE with the TA in it.
    Tee,
    /// The demo itself.
    Demo,
}

impl Who {
    /// Name as it is shown.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ca => "CA",
            Self::Tam => "TAM",
            Self::Verifier => "Verifier",
            Self::Factory => "Factory",
            Self::Agent => "Agent",
            Self::App => "App",
            Self::Tee => "TEE",
            Self::Demo => "Demo",
        }
    }
}

/// One act: somebody did something, perhaps bytes crossed a boundary.
#[derive(Debug, Clone, Serialize)]
pub struct Act {
    /// Step of the main job, 1 to 14; none for what surrounds it.
    pub step: Option<u8>,
    /// Who acted.
    pub who: Who,
    /// Who received bytes, when some crossed a boundary.
    pub to: Option<Who>,
    /// What was done, a short sentence without a subject.
    pub did: String,
    /// Further facts, one line each.
    pub details: Vec<String>,
    /// Bytes that crossed.
    pub len_bytes: Option<u64>,
    /// Time it took, microseconds.
    pub took_us: Option<u64>,
}

impl Act {
    /// An act inside of one party.
    pub fn by(who: Who, did: impl Into<String>) -> Self {
        Self {
            step: None,
            who,
            to: None,
            did: did.into(),
            details: Vec::new(),
            len_bytes: None,
            took_us: None,
        }
    }

    /// As step `step` of the main job.
    #[must_use]
    pub fn step(mut self, step: u8) -> Self {
        self.step = Some(step);
        self
    }

    /// Bytes crossed to `to`.
    #[must_use]
    pub fn sent(mut self, to: Who, len_bytes: usize) -> Self {
        self.to = Some(to);
        self.len_bytes = u64::try_from(len_bytes).ok();
        self
    }

    /// It took so long.
    #[must_use]
    pub fn took(mut self, time: std::time::Duration) -> Self {
        self.took_us = u64::try_from(time.as_micros()).ok();
        self
    }

    /// One more fact.
    #[must_use]
    pub fn detail(mut self, line: impl Into<String>) -> Self {
        self.details.push(line.into());
        self
    }
}

/// A fact of the story.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The run begins.
    Opening {
        /// `default` or `paper`.
        profile: String,
        /// Devices that will be made.
        devices: u32,
        /// Where everything is kept.
        dir: String,
        /// Whether the directory stays afterwards.
        kept: bool,
    },
    /// A part of the story begins.
    Chapter {
        /// Heading.
        title: String,
        /// One sentence on what is to be seen.
        about: String,
    },
    /// Somebody did something.
    Act(Act),
    /// A certificate, readable.
    Certificate {
        /// Device, hexadecimal.
        ueid: String,
        /// Where the PEM file is.
        path: String,
        /// Length of the DER form.
        len_bytes: u64,
        /// Name and value of each part, in order.
        fields: Vec<(String, String)>,
    },
    /// Someone checked the certificate.
    Verified {
        /// Who checked.
        by: String,
        /// Whether it held.
        ok: bool,
        /// What was checked, or why it failed.
        detail: String,
    },
    /// An attack and its end.
    Attack {
        /// What the attacker tried.
        name: String,
        /// How, one line each.
        attempt: Vec<String>,
        /// Whether it was refused.
        refused: bool,
        /// Who refused.
        by: Who,
        /// The reason on the wire or at the API.
        reason: String,
        /// What is as it was.
        unharmed: String,
    },
    /// The fleet goes on.
    Fleet {
        /// Devices with a certificate.
        done: u32,
        /// Devices that failed.
        failed: u32,
        /// All devices.
        total: u32,
        /// Since the fleet started, milliseconds.
        elapsed_ms: u64,
    },
    /// Something to take away, as paragraphs.
    Remark {
        /// Heading.
        title: String,
        /// Paragraphs; the teller wraps them.
        lines: Vec<String>,
    },
    /// What to type next.
    Next {
        /// Why, and the command.
        commands: Vec<(String, String)>,
    },
    /// The run ended well.
    Ended {
        /// Certificates issued.
        certificates: u32,
        /// From start to the first certificate, milliseconds.
        first_certificate_ms: u64,
        /// From start to end, milliseconds.
        total_ms: u64,
        /// Attacks that were refused.
        attacks_refused: u32,
    },
    /// The run failed.
    Failed {
        /// Stable code.
        code: String,
        /// What failed.
        what: String,
        /// How to mend it.
        mend: String,
        /// Where its log is.
        log: String,
    },
}

/// Shows events.
pub trait Teller: Send {
    /// Shows one event; `at_ms` is the time since the run began.
    fn tell(&mut self, at_ms: u64, event: &Event);
    /// Whether a person watches, so that a progress bar makes sense.
    fn watched(&self) -> bool;
}

/// Bytes as people read them: exact below 10 KiB.
#[must_use]
pub fn size(len_bytes: u64) -> String {
    if len_bytes < 10 * 1024 {
        let digits = len_bytes.to_string();
        let (head, tail) = digits.split_at(digits.len().saturating_sub(3));
        return if head.is_empty() {
            format!("{tail} B")
        } else {
            format!("{head},{tail} B")
        };
    }
    let tenths = len_bytes.saturating_mul(10) / 1024;
    if tenths < 10_240 {
        return format!("{}.{} KiB", tenths / 10, tenths % 10);
    }
    let tenths = tenths / 1024;
    format!("{}.{} MiB", tenths / 10, tenths % 10)
}

/// A time span as people read it.
#[must_use]
pub fn span(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..100_000 => format!("{}.{} ms", us / 1_000, us % 1_000 / 100),
        100_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{}.{:02} s", us / 1_000_000, us % 1_000_000 / 10_000),
    }
}
