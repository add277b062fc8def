//! Reading configuration text so that a mistake is told by line and column, with what to write.
//!
//! Invariants: text in, checked value or *all* mistakes out; nothing is guessed or silently
//! defaulted because of a mistake. Columns count characters, so Japanese text does not shift them.

use std::fmt;
use std::ops::Range;

/// One mistake in a configuration text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigMistake {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub what: String,
    /// What to write instead.
    pub mend: String,
}

impl fmt::Display for ConfigMistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "line {}, column {}: {}",
            self.line, self.column, self.what
        )?;
        if self.mend.is_empty() {
            Ok(())
        } else {
            write!(f, "\n    {}", self.mend)
        }
    }
}

/// Every mistake found in one configuration text, in the order of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The mistakes; never empty.
    pub mistakes: Vec<ConfigMistake>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, mistake) in self.mistakes.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{mistake}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// Collects mistakes of one text.
pub struct Mistakes<'a> {
    text: &'a str,
    found: Vec<(usize, ConfigMistake)>,
}

impl<'a> Mistakes<'a> {
    /// None yet, in `text`.
    #[must_use]
    pub fn new(text: &'a str) -> Self {
        Self {
            text,
            found: Vec::new(),
        }
    }

    /// Notes one at a byte range of the text.
    pub fn add(&mut self, span: Range<usize>, what: impl Into<String>, mend: impl Into<String>) {
        let (line, column) = position(self.text, span.start);
        let mistake = ConfigMistake {
            line,
            column,
            what: what.into(),
            mend: mend.into(),
        };
        self.found.push((span.start, mistake));
    }

    /// `value` if nothing was noted.
    ///
    /// # Errors
    /// All that was noted.
    pub fn finish<T>(mut self, value: Option<T>) -> Result<T, ConfigError> {
        match value {
            Some(value) if self.found.is_empty() => Ok(value),
            _ => {
                if self.found.is_empty() {
                    self.add(0..0, "nothing usable is configured", "");
                }
                self.found.sort_by_key(|(at, _)| *at);
                let mistakes = self.found.into_iter().map(|(_, m)| m).collect();
                Err(ConfigError { mistakes })
            }
        }
    }
}

/// Parses TOML into `T`, with the place of a syntax or shape mistake.
///
/// # Errors
/// The parser's mistake as a [`ConfigError`].
pub fn from_toml<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ConfigError> {
    if text.len() > TEXT_LEN_MAX {
        return Err(one(text, 0..0, "the file is larger than 1 MiB", "split it"));
    }
    toml::from_str(text).map_err(|e| {
        let span = e.span().unwrap_or(0..0);
        let (what, mend) = explain(e.message());
        one(text, span, what, mend)
    })
}

/// Parses a span of time: a number and a unit (`s`, `m`, `h`, `d`, `w`, `y` of 365 days), in seconds.
#[must_use]
pub fn parse_span_secs(text: &str) -> Option<u64> {
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let unit_secs: u64 = match unit.trim() {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        "y" => 365 * 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit_secs)
}

/// The nearest of the `known` words to a mistyped one, if any is near.
#[must_use]
pub fn nearest<'k>(word: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|k| (distance(&word.to_lowercase(), &k.to_lowercase()), *k))
        .filter(|(d, k)| *d <= 1 + k.chars().count() / 4)
        .min()
        .map(|(_, k)| k)
}

/// "one of `a`, `b`, `c`", with a guess at what was meant first.
#[must_use]
pub fn choose_from(word: &str, known: &[&str]) -> String {
    let list = known
        .iter()
        .map(|k| format!("\"{k}\""))
        .collect::<Vec<_>>()
        .join(", ");
    match nearest(word, known) {
        Some(k) => format!("did you mean \"{k}\"? One of {list} is expected."),
        None => format!("One of {list} is expected."),
    }
}

fn one(
    text: &str,
    span: Range<usize>,
    what: impl Into<String>,
    mend: impl Into<String>,
) -> ConfigError {
    let (line, column) = position(text, span.start);
    ConfigError {
        mistakes: vec![ConfigMistake {
            line,
            column,
            what: what.into(),
            mend: mend.into(),
        }],
    }
}

/// Line and column, both from 1, of a byte offset; the column counts characters.
fn position(text: &str, at: usize) -> (usize, usize) {
    let before = text
        .char_indices()
        .take_while(|(i, _)| *i < at)
        .map(|(_, c)| c);
    before.fold((1, 1), |(line, column), c| {
        if c == '\n' {
            (line + 1, 1)
        } else {
            (line, column + 1)
        }
    })
}

/// Splits the parser's words into what is wrong and what to write.
fn explain(message: &str) -> (String, String) {
    let message = message.trim();
    let Some(rest) = message.strip_prefix("unknown field `") else {
        return (message.to_owned(), String::new());
    };
    let Some((field, expected)) = rest.split_once('`') else {
        return (message.to_owned(), String::new());
    };
    let known: Vec<&str> = expected.split('`').skip(1).step_by(2).collect();
    (
        format!("there is no setting called \"{field}\" here"),
        choose_from(field, &known),
    )
}

/// Levenshtein distance in characters; both words are short by construction of the file limit.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(64).enumerate() {
        let mut next = vec![i + 1];
        for ((cb, up_left), up) in b.iter().zip(&row).zip(row.iter().skip(1)) {
            let left = next.last().copied().unwrap_or(0);
            next.push((left + 1).min(up + 1).min(up_left + usize::from(ca != *cb)));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Longest configuration text in bytes: thousands of profiles fit.
const TEXT_LEN_MAX: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_characters_not_bytes() {
        assert_eq!(position("a\n手形 = x", 0), (1, 1));
        let text = "a\n手形 = x";
        assert_eq!(position(text, text.find('x').unwrap()), (2, 6));
    }

    #[test]
    fn spans() {
        assert_eq!(parse_span_secs("90d"), Some(7_776_000));
        assert_eq!(parse_span_secs("10 y"), Some(315_360_000));
        assert_eq!(parse_span_secs("10"), None);
        assert_eq!(parse_span_secs("d"), None);
        assert_eq!(parse_span_secs("-1d"), None);
        assert_eq!(parse_span_secs("99999999999999999999y"), None);
    }

    #[test]
    fn near_words() {
        assert_eq!(
            nearest("digitalSignatur", &["keyAgreement", "digitalSignature"]),
            Some("digitalSignature")
        );
        assert_eq!(nearest("zzz", &["keyAgreement"]), None);
    }
}
