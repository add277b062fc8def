//! The operator's commands, one module each.

pub mod ca;
pub mod device;
pub mod device_add;
#[cfg(feature = "demo")]
pub mod enrol;
pub mod factory;
pub mod import;
pub mod init;
pub mod progress;
pub mod ta;
pub mod verify;

use crate::cli::show;
use crate::fault::{Fault, Outcome};

/// Least digits of the beginning of a name.
const BEGINNING_MIN: usize = 4;

/// The beginning of a name in hexadecimal, as it was typed, in lower case and without colons. Too short a one is
/// refused: the empty variable of a script would be the beginning of whatever there is one of.
///
/// # Errors
/// It is none.
fn beginning(what: &str, typed: &str) -> Outcome<String> {
    let digits = typed.trim().to_lowercase().replace([':', ' '], "");
    if digits.len() >= BEGINNING_MIN && digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Ok(digits);
    }
    Err(Fault::usage(
        "bad-beginning",
        format!(
            "\"{}\" is not the beginning of {what}",
            show::visible(typed)
        ),
        format!("Give {BEGINNING_MIN} hexadecimal digits of it at least."),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_has_digits() {
        assert_eq!(beginning("a digest", "3A41").unwrap(), "3a41");
        assert_eq!(beginning("a serial number", "01:8f:ab").unwrap(), "018fab");
        for wrong in ["", " ", "3a4", "::::", "3a4g", "３ａ４１", "--yes"] {
            let fault = beginning("a digest", wrong).unwrap_err();
            assert_eq!((fault.code, fault.exit), ("bad-beginning", 2), "{wrong}");
        }
    }
}
