//! The story for people: calm columns, at most 100 wide, coloured only on a terminal.

use std::io::{IsTerminal as _, Write as _};

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{Act, Event, Teller, Who, size, span};

const PLAIN: &str = "\x1b[0m";
const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";

/// Widest line, columns.
const WIDTH_MAX: usize = 100;
/// Narrowest width that is still laid out in columns.
const WIDTH_MIN: usize = 72;
/// Column at which the text of an act begins.
const TEXT_AT: usize = 24;
/// Columns of the size.
const SIZE_WIDTH: usize = 11;
/// Columns of the time.
const TIME_WIDTH: usize = 10;

/// Writes to standard output, without colour when that is not a terminal or `NO_COLOR` is set.
#[derive(Debug)]
pub struct TerminalTeller {
    width: usize,
    watched: bool,
}

impl Default for TerminalTeller {
    fn default() -> Self {
        Self::new()
    }
}

impl TerminalTeller {
    /// Takes the width of the terminal, if there is one.
    #[must_use]
    pub fn new() -> Self {
        let width = rustix::termios::tcgetwinsize(std::io::stdout())
            .map(|size| usize::from(size.ws_col))
            .ok()
            .filter(|columns| *columns > 0)
            .unwrap_or(WIDTH_MAX);
        Self {
            width: width.clamp(WIDTH_MIN, WIDTH_MAX),
            watched: std::io::stdout().is_terminal(),
        }
    }

    /// The lines of one event, with escape codes.
    pub(super) fn lines(&self, event: &Event) -> Vec<String> {
        match event {
            Event::Opening {
                profile,
                devices,
                dir,
                kept,
            } => {
                let devices = match devices {
                    1 => "1 device".to_owned(),
                    n => format!("{n} devices"),
                };
                let kept = if *kept { "" } else { " (removed at the end)" };
                vec![
                    String::new(),
                    format!(
                        "  {BOLD}手形 Tegata{PLAIN}  certificates that issue themselves, on devices that need not be trusted"
                    ),
                    format!(
                        "  {DIM}profile {profile} · {devices} · everything in {dir}{kept}{PLAIN}"
                    ),
                ]
            }
            Event::Chapter { title, about } => {
                let rule = self.width.saturating_sub(title.width()).saturating_sub(5);
                let mut lines = vec![
                    String::new(),
                    format!(
                        "{DIM}──{PLAIN} {BOLD}{title}{PLAIN} {DIM}{}{PLAIN}",
                        "─".repeat(rule)
                    ),
                ];
                for line in wrap(about, self.width.saturating_sub(4)) {
                    lines.push(format!("   {DIM}{line}{PLAIN}"));
                }
                lines.push(String::new());
                lines
            }
            Event::Act(act) => self.act(act),
            Event::Certificate {
                ueid: _,
                path,
                len_bytes,
                fields,
            } => {
                let mut lines = Vec::new();
                let name_width = fields.iter().map(|(n, _)| n.width()).max().unwrap_or(0);
                let text_width = self.width.saturating_sub(name_width).saturating_sub(6);
                for (name, value) in fields {
                    for (index, part) in wrap(value, text_width).into_iter().enumerate() {
                        let name = if index == 0 { name.as_str() } else { "" };
                        lines.push(format!("   {DIM}{}{PLAIN}  {part}", pad(name, name_width)));
                    }
                }
                lines.push(format!(
                    "   {DIM}{}{PLAIN}  {path} {DIM}({} as DER){PLAIN}",
                    pad("kept as", name_width),
                    size(*len_bytes)
                ));
                lines.push(String::new());
                lines
            }
            Event::Verified { by, ok, detail } => {
                let (mark, colour) = if *ok { ("✓", GREEN) } else { ("✗", RED) };
                let text_width = self.width.saturating_sub(TEXT_AT).saturating_sub(1);
                let mut lines = Vec::new();
                for (index, part) in wrap(detail, text_width).into_iter().enumerate() {
                    if index == 0 {
                        let by = pad(by, TEXT_AT.saturating_sub(6));
                        lines.push(format!("   {colour}{mark}{PLAIN} {by} {part}"));
                    } else {
                        lines.push(format!("{}{part}", " ".repeat(TEXT_AT)));
                    }
                }
                lines
            }
            Event::Attack {
                name,
                attempt,
                refused,
                by,
                reason,
                unharmed,
            } => {
                let text_width = self.width.saturating_sub(TEXT_AT).saturating_sub(1);
                let indent = " ".repeat(TEXT_AT);
                let mut lines = vec![format!("   {RED}{BOLD}⚔ {name}{PLAIN}")];
                for line in attempt {
                    for part in wrap(line, text_width) {
                        lines.push(format!("{indent}{DIM}{part}{PLAIN}"));
                    }
                }
                let (mark, colour, word) = if *refused {
                    ("✓", GREEN, "refused")
                } else {
                    ("✗", RED, "NOT REFUSED")
                };
                let verdict = format!("by the {}: {reason}", by.name());
                for (index, part) in wrap(&verdict, text_width).into_iter().enumerate() {
                    let head = if index == 0 {
                        format!(
                            "   {colour}{mark} {}{PLAIN} ",
                            pad(word, TEXT_AT.saturating_sub(6))
                        )
                    } else {
                        indent.clone()
                    };
                    lines.push(format!("{head}{part}"));
                }
                for part in wrap(unharmed, text_width) {
                    lines.push(format!("{indent}{DIM}{part}{PLAIN}"));
                }
                lines.push(String::new());
                lines
            }
            Event::Fleet {
                done,
                failed,
                total,
                elapsed_ms,
            } => {
                let failed = match failed {
                    0 => String::new(),
                    n => format!(", {RED}{n} failed{PLAIN}"),
                };
                vec![format!(
                    "   {done} of {total} devices have their certificate{failed} {DIM}after {}{PLAIN}",
                    span(elapsed_ms.saturating_mul(1000))
                )]
            }
            Event::Remark { title, lines } => {
                let mut out = vec![String::new(), format!("   {BOLD}{title}{PLAIN}")];
                for line in lines {
                    for part in wrap(line, self.width.saturating_sub(4)) {
                        out.push(format!("   {part}"));
                    }
                }
                out
            }
            Event::Next { commands } => {
                let mut out = vec![String::new(), format!("   {BOLD}Try next{PLAIN}")];
                for (why, command) in commands {
                    out.push(format!("   {DIM}{why}{PLAIN}"));
                    out.push(format!("     {command}"));
                }
                out
            }
            Event::Ended {
                certificates,
                first_certificate_ms,
                total_ms,
                attacks_refused,
            } => {
                let certificates = match certificates {
                    1 => "1 certificate".to_owned(),
                    n => format!("{n} certificates"),
                };
                vec![
                    String::new(),
                    format!(
                        "   {GREEN}{BOLD}Done.{PLAIN} {certificates}, the first after {}; {attacks_refused} attacks refused; {} in all.",
                        span(first_certificate_ms.saturating_mul(1000)),
                        span(total_ms.saturating_mul(1000)),
                    ),
                    String::new(),
                ]
            }
            Event::Failed {
                code,
                what,
                mend,
                log,
            } => {
                let width = self.width.saturating_sub(12);
                let mut out = vec![String::new()];
                let rows = [("failed", what), ("mend", mend), ("log", log)];
                for (name, text) in rows {
                    if text.is_empty() {
                        continue;
                    }
                    // Paths stay in one piece, so that they can be copied.
                    let parts = if name == "log" {
                        vec![text.clone()]
                    } else {
                        text.lines().flat_map(|line| wrap(line, width)).collect()
                    };
                    for (index, part) in parts.into_iter().enumerate() {
                        let name = if index == 0 { name } else { "" };
                        out.push(format!("   {RED}{BOLD}{}{PLAIN} {part}", pad(name, 7)));
                    }
                }
                out.push(format!("   {DIM}{} {code}{PLAIN}", pad("code", 7)));
                out
            }
        }
    }

    fn act(&self, act: &Act) -> Vec<String> {
        let step = act.step.map(|step| step.to_string()).unwrap_or_default();
        let (actors, actors_width) = match act.to {
            None => (paint(act.who), act.who.name().width()),
            Some(to) => (
                format!("{} {DIM}▸{PLAIN} {}", paint(act.who), paint(to)),
                act.who.name().width() + to.name().width() + 3,
            ),
        };
        let gap = TEXT_AT
            .saturating_sub(6)
            .saturating_sub(actors_width)
            .max(1);
        let len = act.len_bytes.map(size).unwrap_or_default();
        let took = act.took_us.map(span).unwrap_or_default();
        let numbers_width = match (len.is_empty(), took.is_empty()) {
            (true, true) => 0,
            (true, false) => TIME_WIDTH + 1,
            _ => SIZE_WIDTH + TIME_WIDTH + 1,
        };
        let text_width = self.width.saturating_sub(TEXT_AT + numbers_width);
        let mut lines = Vec::new();
        for (index, part) in wrap(&act.did, text_width).into_iter().enumerate() {
            if index == 0 {
                let size_width = if len.is_empty() { 0 } else { SIZE_WIDTH };
                let numbers = format!(
                    "{}{}",
                    pad_left(&len, size_width),
                    pad_left(&took, TIME_WIDTH)
                );
                let line = format!(
                    "  {BOLD}{}{PLAIN}  {actors}{}{}{DIM}{numbers}{PLAIN}",
                    pad_left(&step, 2),
                    " ".repeat(gap),
                    pad(&part, text_width),
                );
                lines.push(if numbers.trim().is_empty() {
                    format!(
                        "  {BOLD}{}{PLAIN}  {actors}{}{part}",
                        pad_left(&step, 2),
                        " ".repeat(gap)
                    )
                } else {
                    line
                });
            } else {
                lines.push(format!("{}{part}", " ".repeat(TEXT_AT)));
            }
        }
        for detail in &act.details {
            for part in wrap(detail, self.width.saturating_sub(TEXT_AT)) {
                lines.push(format!("{}{DIM}{part}{PLAIN}", " ".repeat(TEXT_AT)));
            }
        }
        lines
    }
}

impl Teller for TerminalTeller {
    fn tell(&mut self, _at_ms: u64, event: &Event) {
        let mut out = anstream::stdout().lock();
        for line in self.lines(event) {
            // A reader that went away (`| head`) must not stop the run half-way.
            let _ = writeln!(out, "{line}");
        }
        let _ = out.flush();
    }

    fn watched(&self) -> bool {
        self.watched
    }
}

/// Each party keeps one colour: servers, the trusted world, the open world.
fn paint(who: Who) -> String {
    let colour = match who {
        Who::Ca => YELLOW,
        Who::Tam => "\x1b[34m",
        Who::Verifier => "\x1b[36m",
        Who::Factory => "\x1b[35m",
        Who::Tee => GREEN,
        Who::Agent | Who::App | Who::Demo => PLAIN,
    };
    format!("{colour}{}{PLAIN}", who.name())
}

/// Fills up to `width` columns on the right; longer text stays whole.
pub fn pad(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// Fills up to `width` columns on the left.
pub fn pad_left(text: &str, width: usize) -> String {
    format!("{}{text}", " ".repeat(width.saturating_sub(text.width())))
}

/// Breaks text into lines of at most `width` columns, at spaces where there are some.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(8);
    let mut lines = Vec::new();
    let mut line = String::new();
    for word in text.split(' ') {
        let gap = usize::from(!line.is_empty());
        if line.width() + gap + word.width() <= width {
            if gap == 1 {
                line.push(' ');
            }
            line.push_str(word);
            continue;
        }
        if !line.is_empty() {
            lines.push(std::mem::take(&mut line));
        }
        // A word longer than a line (a digest, Japanese text) is cut by columns.
        for character in word.chars() {
            if line.width() + character.width().unwrap_or(0) > width {
                lines.push(std::mem::take(&mut line));
            }
            line.push(character);
        }
    }
    if !line.is_empty() || lines.is_empty() {
        lines.push(line);
    }
    lines
}
