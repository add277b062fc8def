//! Text with `{variables}` that stand for hardware identity.

use std::fmt;

/// Identity attributes a template may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Variable {
    /// Serial number that the maker gave the device.
    Serial,
    /// UEID in lower-case hexadecimal.
    Ueid,
    /// Hardware model.
    Model,
    /// IMEI of the modem.
    Imei,
    /// MAC address.
    Mac,
}

impl Variable {
    /// Every one, for tables.
    pub const ALL: [Self; 5] = [Self::Serial, Self::Ueid, Self::Model, Self::Imei, Self::Mac];

    /// Name as written between braces.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Ueid => "ueid",
            Self::Model => "model",
            Self::Imei => "imei",
            Self::Mac => "mac",
        }
    }

    /// The variable of that [`Self::name`].
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.name() == name)
    }
}

/// Values of the variables for one device.
pub trait Identity {
    /// The device's value, `None` if it has no such attribute.
    fn value(&self, variable: Variable) -> Option<String>;
}

/// A parsed template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(Variable),
}

/// Why a text is not a template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// It is empty.
    #[error("the text is empty")]
    Empty,
    /// It has more than 255 bytes.
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
    /// A name between braces that is no variable.
    #[error("there is no identity attribute called \"{0}\"")]
    Unknown(String),
    /// A character that must not stand in a name.
    #[error("the character U+{0:04X} may not stand in a name")]
    Character(u32),
    /// The device lacks an attribute.
    #[error("the device has no {}", .0.name())]
    Missing(Variable),
}

impl Template {
    /// Parses the text.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        if text.len() > TEMPLATE_LEN_MAX {
            return Err(TemplateError::TooLong {
                got: text.len(),
                max: TEMPLATE_LEN_MAX,
            });
        }
        if let Some(c) = text.chars().find(|c| is_forbidden(*c)) {
            return Err(TemplateError::Character(u32::from(c)));
        }
        let mut pieces = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (plain, tail) = rest.split_at(rest.find(['{', '}']).unwrap_or(rest.len()));
            if !plain.is_empty() {
                pieces.push(Piece::Text(plain.to_owned()));
            }
            let Some(inner) = tail.strip_prefix('{') else {
                if tail.is_empty() {
                    break;
                }
                return Err(TemplateError::Brace);
            };
            let (name, after) = inner.split_once('}').ok_or(TemplateError::Brace)?;
            let variable =
                Variable::from_name(name).ok_or_else(|| TemplateError::Unknown(name.to_owned()))?;
            pieces.push(Piece::Variable(variable));
            rest = after;
        }
        Ok(Self {
            text: text.to_owned(),
            pieces,
        })
    }

    /// The text as written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The variables it names, in order.
    pub fn variables(&self) -> impl Iterator<Item = Variable> {
        self.pieces.iter().filter_map(|p| match p {
            Piece::Variable(v) => Some(*v),
            Piece::Text(_) => None,
        })
    }

    /// Length in characters of the fixed text.
    #[must_use]
    pub fn fixed_chars(&self) -> usize {
        self.pieces
            .iter()
            .map(|p| match p {
                Piece::Text(t) => t.chars().count(),
                Piece::Variable(_) => 0,
            })
            .sum()
    }

    /// The text with the device's values.
    ///
    /// # Errors
    /// `Missing` for an attribute the device lacks, `Character` if a value holds a forbidden one.
    pub fn expand(&self, identity: &dyn Identity) -> Result<String, TemplateError> {
        let mut out = String::new();
        for piece in &self.pieces {
            match piece {
                Piece::Text(t) => out.push_str(t),
                Piece::Variable(v) => {
                    let value = identity.value(*v).filter(|t| !t.is_empty());
                    let value = value.ok_or(TemplateError::Missing(*v))?;
                    if let Some(c) = value.chars().find(|c| is_forbidden(*c)) {
                        return Err(TemplateError::Character(u32::from(c)));
                    }
                    out.push_str(&value);
                }
            }
        }
        Ok(out)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Control characters and the ones that reverse or hide text: a name must read as it is.
fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}')
}

/// Longest template in bytes.
const TEMPLATE_LEN_MAX: usize = 255;
