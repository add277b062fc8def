//! The log: one line per event on standard error, with reason codes, for people or for programs.
//!
//! No line carries a secret: messages are logged by size, code and public identifier alone.

use std::fmt::{self, Write as _};
use std::io;

use tracing::field::Field;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::fmt::format::{Writer, debug_fn};

use crate::cli::show::{steers, visible};

use crate::config::{Log, LogFormat};
use crate::fault::{Fault, Outcome};

/// Starts the log of this process.
///
/// # Errors
/// The filter cannot be understood.
pub fn start(log: &Log) -> Outcome<()> {
    let filter = EnvFilter::try_new(&log.filter).map_err(|e| {
        Fault::usage(
            "bad-config",
            format!("the log filter `{}` cannot be understood: {e}", log.filter),
            "Write for example \"info\" or \"warn,tegata=debug\" as [log] filter.",
        )
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // A line that cannot be written, on a full disk, is lost: to complain of it on the same file would panic.
        .log_internal_errors(false)
        .with_target(false);
    // A second start in one process happens in tests only; the first log stays.
    let _ = match log.format {
        LogFormat::Json => builder
            .json()
            .flatten_event(true)
            .with_writer(|| Escaped)
            .try_init(),
        LogFormat::Text => {
            use std::io::IsTerminal as _;
            builder
                .fmt_fields(debug_fn(field).delimited(" "))
                .with_ansi(
                    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
                )
                .try_init()
        }
    };
    Ok(())
}

/// A field as a line of text has it. Peers have a say in some: what they say begins no line, steers no terminal, and
/// has an end.
fn field(out: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    let mut text = visible(&format!("{value:?}"));
    if let Some((end, _)) = text.char_indices().nth(FIELD_CHARS_MAX) {
        text.truncate(end);
        text.push('…');
    }
    match field.name() {
        "message" => out.write_str(&text),
        name => write!(out, "{name}={text}"),
    }
}

/// Longest field in characters.
const FIELD_CHARS_MAX: usize = 1_000;

/// Standard error, for lines of JSON: what steers terminals is escaped there too, though JSON takes it as it is.
struct Escaped;

impl io::Write for Escaped {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let plain = match std::str::from_utf8(line) {
            Ok(text) if !text.is_ascii() => escaped(text),
            _ => None,
        };
        let line_to_write = plain.as_deref().map_or(line, str::as_bytes);
        io::Write::write_all(&mut io::stderr().lock(), line_to_write)?;
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::Write::flush(&mut io::stderr().lock())
    }
}

/// JSON with such characters escaped; they stand within strings alone. `None` if there are none.
fn escaped(json: &str) -> Option<String> {
    if !json.chars().any(|c| steers(c) && !c.is_ascii()) {
        return None;
    }
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match steers(c) && !c.is_ascii() {
            // All of them are in the first plane.
            true => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            false => out.push(c),
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_escaped_where_it_would_steer() {
        assert_eq!(escaped("{\"a\":\"手形\"}\n"), None);
        let steering = "{\"a\":\"\u{202e}手\u{9b}\"}\n";
        let out = escaped(steering).unwrap();
        assert_eq!(out, "{\"a\":\"\\u202e手\\u009b\"}\n");
        let (a, b): (serde_json::Value, serde_json::Value) = (
            serde_json::from_str(&out).unwrap(),
            serde_json::from_str(steering).unwrap(),
        );
        assert_eq!(a, b);
    }
}
