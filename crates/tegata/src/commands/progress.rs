//! How far a long command has come, on standard error: a bar on a terminal; where there is none, or with
//! `--json`, a line from time to time, so that a service or a pipe sees that it goes on.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

/// Time between two lines, seconds.
pub const EVERY_SECS: u64 = 10;

/// What a command does with them.
#[derive(Debug, Clone, Copy)]
pub struct Doing {
    /// Its name in JSON.
    pub step: &'static str,
    /// What was done to those that are not only looked at: `changed`.
    pub done: &'static str,
}

/// How far it has come.
#[derive(Debug)]
pub struct Progress {
    doing: Doing,
    /// How many there are, where that is known.
    of: Option<u64>,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines {
        json: bool,
        every: Duration,
        last: Instant,
    },
}

impl Progress {
    /// At the beginning.
    pub fn new(doing: Doing, of: Option<u64>, json: bool, every_secs: u64) -> Self {
        let shown = match !json && std::io::stderr().is_terminal() {
            true => Shown::Bar(bar(of)),
            false => Shown::Lines {
                json,
                every: Duration::from_secs(every_secs),
                last: Instant::now(),
            },
        };
        Self { doing, of, shown }
    }

    /// So many were looked at, and with so many of them something was done.
    pub fn at(&mut self, looked: u64, done: u64) {
        let Doing { step, done: did } = self.doing;
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_position(looked);
                bar.set_message(format!("{} {did}", HumanCount(done)));
            }
            Shown::Lines { json, every, last } => {
                if last.elapsed() < *every {
                    return;
                }
                *last = Instant::now();
                let line = if *json {
                    let of = self.of;
                    let name = did.replace(' ', "_");
                    serde_json::json!({ "event": "progress", "step": step, "looked_at": looked,
                        "of": of, name: done })
                    .to_string()
                } else {
                    let of = self.of.map(|of| format!(" of {}", HumanCount(of)));
                    let of = of.unwrap_or_default();
                    format!("{}{of}, {} {did}", HumanCount(looked), HumanCount(done))
                };
                // Whoever closed it does not want to know.
                let _ = writeln!(anstream::stderr(), "{line}");
            }
        }
    }

    /// At the end: nothing of a bar stays.
    pub fn finish(self) {
        if let Shown::Bar(bar) = self.shown {
            bar.finish_and_clear();
        }
    }
}

/// A bar, or a spinner where the length is not known.
fn bar(len: Option<u64>) -> ProgressBar {
    let (bar, template) = match len {
        Some(len) => (
            ProgressBar::new(len),
            "{bar:30} {human_pos}/{human_len} {per_sec} {eta}  {msg}",
        ),
        None => (
            ProgressBar::new_spinner(),
            "{spinner} {human_pos} found  {msg}",
        ),
    };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
