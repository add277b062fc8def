//! The story for programs: one JSON object per line on standard output.

use std::io::Write as _;

use serde::Serialize;

use super::{Event, Teller};

/// Writes each event as one line.
#[derive(Debug, Default)]
pub struct JsonTeller;

#[derive(Serialize)]
struct Line<'a> {
    at_ms: u64,
    #[serde(flatten)]
    event: &'a Event,
}

impl Teller for JsonTeller {
    fn tell(&mut self, at_ms: u64, event: &Event) {
        let Ok(line) = serde_json::to_string(&Line { at_ms, event }) else {
            return;
        };
        let mut out = std::io::stdout().lock();
        // A reader that went away (`| head`) must not stop the run half-way.
        let _ = writeln!(out, "{line}");
        let _ = out.flush();
    }

    fn watched(&self) -> bool {
        false
    }
}
