//! Lists and records on standard output: aligned text for people, JSON for programs.

use std::io::{Error, ErrorKind, Write as _};
use std::sync::OnceLock;

use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use crate::fault::{Fault, Outcome};
use crate::story::pad;

/// Why not all of the output is where it should be.
static LOST: OnceLock<Error> = OnceLock::new();

/// Writes lines; a reader that went away is no error. What else keeps them from being written, [`written`] says.
pub fn lines<I: IntoIterator<Item = String>>(lines: I) {
    let mut out = anstream::stdout().lock();
    for line in lines {
        if let Err(e) = writeln!(out, "{line}") {
            if e.kind() != ErrorKind::BrokenPipe {
                let _ = LOST.set(e);
            }
            return;
        }
    }
}

/// Whether the output of this process was written.
///
/// # Errors
/// The disk that it goes to is full, say.
pub fn written() -> Outcome<()> {
    LOST.get().map_or(Ok(()), |e| {
        Err(Fault::environment(
            "output-lost",
            format!("the output could not be written: {e}"),
            "What the command was to do is done. Free some space, and ask for what it did.",
        ))
    })
}

/// Prints a value as JSON.
///
/// # Errors
/// The value has no JSON form: a fault of this program.
pub fn json<T: Serialize>(value: &T) -> Outcome<()> {
    let text = serde_json::to_string_pretty(value).map_err(|e| {
        Fault::failed(
            "bug",
            format!("cannot print the result: {e}"),
            "Please report this.",
        )
    })?;
    lines([text]);
    Ok(())
}

/// Prints rows below headings, in columns as wide as needed; control characters are made visible.
pub fn table<const N: usize>(headings: [&str; N], rows: &[[String; N]], empty: &str) {
    if rows.is_empty() {
        lines([empty.to_owned()]);
        return;
    }
    let rows: Vec<[String; N]> = rows
        .iter()
        .map(|row| row.clone().map(|c| visible(&c)))
        .collect();
    let mut widths = headings.map(|heading| heading.width());
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.width());
        }
    }
    let line = |cells: &[String], style: (&str, &str)| {
        let mut text = String::new();
        for (cell, width) in cells.iter().zip(widths) {
            text.push_str(&pad(cell, width));
            text.push_str("  ");
        }
        format!("{}{}{}", style.0, text.trim_end(), style.1)
    };
    let head = headings.map(str::to_owned);
    let mut out = vec![line(&head, ("\x1b[2m", "\x1b[0m"))];
    out.extend(rows.iter().map(|row| line(row, ("", ""))));
    lines(out);
}

/// Prints names and values, aligned.
pub fn record(fields: &[(&str, String)]) {
    let width = fields
        .iter()
        .map(|(name, _)| name.width())
        .max()
        .unwrap_or(0);
    lines(
        fields
            .iter()
            .map(|(name, value)| format!("\x1b[2m{}\x1b[0m  {}", pad(name, width), visible(value))),
    );
}

/// Text from outside must not steer the terminal.
#[must_use]
pub fn visible(text: &str) -> String {
    text.chars()
        .map(|c| if steers(c) { '\u{fffd}' } else { c })
        .collect()
}

/// Whether a character does something else than be seen: controls, ends of lines and pages, and what turns the
/// direction of the text around it.
#[must_use]
pub fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Seconds since 1970 as `2026-11-22 10:30:00Z`.
#[must_use]
pub fn time(secs: u64) -> String {
    let format =
        time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    i64::try_from(secs)
        .ok()
        .and_then(|secs| time::OffsetDateTime::from_unix_timestamp(secs).ok())
        .and_then(|at| at.format(format).ok())
        .unwrap_or_else(|| format!("{secs} s"))
}

/// The day of [`time`]; `none` for certificates without an end.
#[must_use]
pub fn date(secs: u64) -> String {
    if secs >= NO_END_SECS {
        return "none".to_owned();
    }
    time(secs).chars().take(10).collect()
}

/// 9999-12-31 23:59:59Z, which means no end. Spec: RFC 5280 section 4.1.2.5.
pub const NO_END_SECS: u64 = 253_402_300_799;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(visible("a\x1b[31mb\n手形"), "a\u{fffd}[31mb\u{fffd}手形");
    }

    #[test]
    fn times() {
        assert_eq!(time(0), "1970-01-01 00:00:00Z");
        assert_eq!(time(u64::MAX), format!("{} s", u64::MAX));
    }
}
