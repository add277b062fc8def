//! Telling exactly what is wrong with a template; the template itself is `tegata_wire`'s, so that
//! the TA and the CA expand the same thing.

use tegata_wire::enrolment::{IdentityAttribute, Template};

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateMistake {
    /// It is empty.
    #[error("the text is empty")]
    Empty,
    /// It is too long.
    #[error("the text has {got} bytes, more than {max}")]
    TooLong {
        /// Length in bytes.
        got: usize,
        /// Limit in bytes.
        max: usize,
    },
    /// A brace without its partner.
    #[error("a brace has no partner")]
    Brace,
    /// A name between braces that is no identity attribute.
    #[error("there is no identity attribute called \"{0}\"")]
    Unknown(String),
    /// A character that must not stand in a name.
    #[error("the character U+{0:04X} may not stand in a name")]
    Character(u32),
}

/// Checks a template and says where it stumbles.
pub(super) fn check(text: &str) -> Result<Template, TemplateMistake> {
    if text.is_empty() {
        return Err(TemplateMistake::Empty);
    }
    if text.len() > TEMPLATE_LEN_MAX {
        return Err(TemplateMistake::TooLong {
            got: text.len(),
            max: TEMPLATE_LEN_MAX,
        });
    }
    if let Some(c) = text.chars().find(|c| is_forbidden(*c)) {
        return Err(TemplateMistake::Character(u32::from(c)));
    }
    let plain = text.replace("{{", "").replace("}}", "");
    let mut rest = plain.as_str();
    while let Some(at) = rest.find(['{', '}']) {
        let from = rest.get(at..).unwrap_or_default();
        let inner = from.strip_prefix('{').ok_or(TemplateMistake::Brace)?;
        let (name, after) = inner.split_once('}').ok_or(TemplateMistake::Brace)?;
        IdentityAttribute::from_name(name)
            .ok_or_else(|| TemplateMistake::Unknown(name.to_owned()))?;
        rest = after;
    }
    Template::new(text).map_err(|_| TemplateMistake::Brace)
}

/// Characters of a template that are the same for every device.
pub(super) fn fixed_chars(template: &Template) -> usize {
    let placeholders: usize = template
        .attributes()
        .iter()
        .map(|a| a.name().chars().count() + 2)
        .sum();
    let escapes = template.as_str().matches("{{").count() + template.as_str().matches("}}").count();
    template
        .as_str()
        .chars()
        .count()
        .saturating_sub(placeholders + escapes)
}

/// Control characters and the ones that reverse or hide text: a name must read as it is.
pub(crate) fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

/// Longest template in bytes, as in `tegata_wire`.
const TEMPLATE_LEN_MAX: usize = 256;
