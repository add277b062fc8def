//! Text with placeholders for the device's identity.
//!
//! `{serial}` is replaced; `{{` and `}}` stand for single braces. There is nothing else: no
//! conditions, no defaults, no nesting.

use super::{EnrolmentError, Identity, IdentityAttribute};
use alloc::{string::String, vec::Vec};

/// Longest template, in bytes.
pub(super) const MAX_TEMPLATE_BYTES: usize = 256;
/// Longest text a template may expand to, in bytes.
const MAX_EXPANDED_BYTES: usize = 512;

/// A template that was checked: every placeholder is known, every brace has its partner.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The text as written.
    text: String,
}

/// A piece of a template.
enum Piece<'a> {
    /// Copied as it is.
    Text(&'a str),
    /// Replaced by the device's attribute.
    Attribute(IdentityAttribute),
}

impl Template {
    /// Checks a template.
    ///
    /// # Errors
    /// [`EnrolmentError::Template`] for an unknown placeholder, an unmatched brace, an empty text
    /// or one of over 256 bytes.
    pub fn new(text: &str) -> Result<Self, EnrolmentError> {
        if text.is_empty() || text.len() > MAX_TEMPLATE_BYTES || text.chars().any(char::is_control)
        {
            return Err(EnrolmentError::Template);
        }
        pieces(text)?;
        Ok(Self {
            text: String::from(text),
        })
    }

    /// The text as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The attributes it names, in order, with repetitions.
    #[must_use]
    pub fn attributes(&self) -> Vec<IdentityAttribute> {
        pieces(&self.text)
            .unwrap_or_default()
            .into_iter()
            .filter_map(|p| match p {
                Piece::Attribute(a) => Some(a),
                Piece::Text(_) => None,
            })
            .collect()
    }

    /// The text for one device.
    ///
    /// # Errors
    /// [`EnrolmentError::MissingIdentity`] if the device lacks an attribute it names.
    pub fn expand(&self, identity: &Identity) -> Result<String, EnrolmentError> {
        let mut out = String::new();
        for piece in pieces(&self.text)? {
            match piece {
                Piece::Text(text) => out.push_str(text),
                Piece::Attribute(attribute) => out.push_str(&identity.value(attribute)?),
            }
            if out.len() > MAX_EXPANDED_BYTES {
                return Err(EnrolmentError::Template);
            }
        }
        Ok(out)
    }
}

/// Checks and expands a template in one step.
///
/// # Errors
/// As [`Template::new`] and [`Template::expand`].
pub fn expand(template: &str, identity: &Identity) -> Result<String, EnrolmentError> {
    Template::new(template)?.expand(identity)
}

/// Splits a template.
fn pieces(text: &str) -> Result<Vec<Piece<'_>>, EnrolmentError> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, from) = rest.split_at(at);
        if !before.is_empty() {
            pieces.push(Piece::Text(before));
        }
        if let Some(after) = from.strip_prefix("{{") {
            pieces.push(Piece::Text("{"));
            rest = after;
        } else if let Some(after) = from.strip_prefix("}}") {
            pieces.push(Piece::Text("}"));
            rest = after;
        } else {
            let inner = from.strip_prefix('{').ok_or(EnrolmentError::Template)?;
            let (name, after) = inner.split_once('}').ok_or(EnrolmentError::Template)?;
            let attribute = IdentityAttribute::from_name(name).ok_or(EnrolmentError::Template)?;
            pieces.push(Piece::Attribute(attribute));
            rest = after;
        }
    }
    if !rest.is_empty() {
        pieces.push(Piece::Text(rest));
    }
    Ok(pieces)
}
