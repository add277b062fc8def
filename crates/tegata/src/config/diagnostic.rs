//! Errors of configuration files that point at the line.
//!
//! A position is found from a byte span of the parsed text, so that a check of meaning can point as
//! precisely as a check of syntax.

use std::ops::Range;
use std::path::Path;

use tegata_authority::config::ConfigError;
use unicode_width::UnicodeWidthStr;

use crate::fault::Fault;

/// Longest line of a file that is shown; the rest is cut.
const SHOWN_COLUMNS_MAX: usize = 90;
/// Most mistakes of one file that are shown at once.
const SHOWN_MISTAKES_MAX: usize = 8;

/// Line and column, both from 1; the column counts characters.
fn position(text: &str, offset: usize) -> (usize, usize) {
    let mut at = offset.min(text.len());
    while !text.is_char_boundary(at) {
        at = at.saturating_sub(1);
    }
    let before = text.get(..at).unwrap_or("");
    let line = before.matches('\n').count().saturating_add(1);
    let column = before
        .rsplit('\n')
        .next()
        .unwrap_or("")
        .chars()
        .count()
        .saturating_add(1);
    (line, column)
}

/// Builds the fault for a wrong value at `span` of `text`, the content of the file `path`.
pub fn at(path: &Path, text: &str, span: Option<Range<usize>>, what: &str, mend: &str) -> Fault {
    let Some(span) = span else {
        return Fault::usage("bad-config", format!("{}: {what}", path.display()), mend);
    };
    let (line, column) = position(text, span.start);
    let marks = text
        .get(span)
        .map_or(1, |part| {
            UnicodeWidthStr::width(part.lines().next().unwrap_or(""))
        })
        .clamp(1, SHOWN_COLUMNS_MAX);
    Fault::usage(
        "bad-config",
        format!("{}:{line}:{column}: {what}", path.display()),
        mend,
    )
    .with_excerpt(excerpt(text, line, column, marks))
}

/// Builds the fault for the mistakes that a checker found; the first is the sentence.
pub fn of_mistakes(path: &Path, text: &str, error: &ConfigError) -> Fault {
    let mut excerpts = Vec::new();
    for (index, mistake) in error.mistakes.iter().take(SHOWN_MISTAKES_MAX).enumerate() {
        if index > 0 {
            excerpts.push(format!(
                "\n{}:{}:{}: {}",
                path.display(),
                mistake.line,
                mistake.column,
                mistake.what
            ));
        }
        excerpts.push(excerpt(text, mistake.line, mistake.column, 1));
        if index > 0 && !mistake.mend.is_empty() {
            excerpts.push(format!("  {}", mistake.mend));
        }
    }
    let (place, what, mend) = error.mistakes.first().map_or_else(
        || (String::new(), "the file is wrong".to_owned(), String::new()),
        |m| {
            (
                format!("{}:{}:", m.line, m.column),
                m.what.clone(),
                m.mend.clone(),
            )
        },
    );
    let mend = if mend.is_empty() {
        "Correct this line; docs/ops/config.md lists every key with its type.".to_owned()
    } else {
        mend
    };
    Fault::usage(
        "bad-config",
        format!("{}:{place} {what}", path.display()),
        mend,
    )
    .with_excerpt(excerpts.join("\n"))
}

/// One line of the file with marks below.
fn excerpt(text: &str, line: usize, column: usize, marks: usize) -> String {
    let source = text.lines().nth(line.saturating_sub(1)).unwrap_or("");
    let shown: String = source.chars().take(SHOWN_COLUMNS_MAX).collect();
    let number = line.to_string();
    let margin = " ".repeat(number.len());
    let before: String = shown.chars().take(column.saturating_sub(1)).collect();
    let pad = " ".repeat(UnicodeWidthStr::width(before.as_str()));
    let marks = "^".repeat(marks.max(1));
    format!("  {margin} |\n  {number} | {shown}\n  {margin} | {pad}{marks}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_at_the_value() {
        let text = "[ca]\nlisten = \"no\"\n";
        let fault = at(
            Path::new("t.toml"),
            text,
            Some(14..18),
            "not an address",
            "Use IP:port.",
        );
        assert!(fault.what.starts_with("t.toml:2:10: "), "{}", fault.what);
        assert_eq!(
            fault.excerpt.unwrap(),
            "    |\n  2 | listen = \"no\"\n    |          ^^^^"
        );
    }

    #[test]
    fn survives_spans_that_do_not_fit() {
        let _ = at(Path::new("t"), "日本", Some(1..99), "x", "y");
        let _ = at(Path::new("t"), "", Some(7..9), "x", "y");
    }
}
