//! CBOR diagnostic notation, as far as the vectors use it. Only for tests.
//!
//! Spec: RFC 8949 section 8, draft-ietf-cbor-edn-literals

use tegata_wire::cbor::{Value, encode, tagged};

/// The CBOR of one item.
pub fn parse(text: &str) -> Result<Vec<u8>, String> {
    let mut parser = Parser { rest: text };
    let value = parser.value()?;
    parser.blank()?;
    if !parser.rest.is_empty() {
        return Err(parser.error("text follows the item"));
    }
    encode(&value).map_err(|error| error.to_string())
}

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn error(&self, what: &str) -> String {
        let near: String = self.rest.chars().take(40).collect();
        format!("diagnostic notation: {what} at {near:?}")
    }

    /// Steps over blanks and comments.
    fn blank(&mut self) -> Result<(), String> {
        loop {
            self.rest = self.rest.trim_start();
            if let Some(comment) = self.rest.strip_prefix('#') {
                self.rest = comment.split_once('\n').map_or("", |(_, rest)| rest);
            } else if let Some(comment) = self.rest.strip_prefix('/') {
                let (_, rest) = comment.split_once('/').ok_or(self.error("open comment"))?;
                self.rest = rest;
            } else {
                return Ok(());
            }
        }
    }

    fn take(&mut self, token: &str) -> Result<bool, String> {
        self.blank()?;
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                Ok(true)
            }
            None => Ok(false),
        }
    }

    fn list<T>(
        &mut self,
        end: &str,
        mut item: impl FnMut(&mut Self) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        let mut out = Vec::new();
        while !self.take(end)? {
            out.push(item(self)?);
            // The notation allows a blank in place of a comma, and a comma at the end.
            self.take(",")?;
        }
        Ok(out)
    }

    fn until(&mut self, end: char) -> Result<String, String> {
        let mut out = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            if c == end {
                self.rest = &self.rest[at + c.len_utf8()..];
                return Ok(out);
            }
            out.push(if c == '\\' {
                chars.next().ok_or("open escape")?.1
            } else {
                c
            });
        }
        Err(self.error("open string"))
    }

    fn value(&mut self) -> Result<Value, String> {
        if self.take("[")? {
            return Ok(Value::Array(self.list("]", Self::value)?));
        }
        if self.take("{")? {
            let entries = self.list("}", |p| {
                let key = p.value()?;
                if !p.take(":")? {
                    return Err(p.error("no colon"));
                }
                Ok((key, p.value()?))
            })?;
            return Ok(Value::Map(entries));
        }
        if self.take("\"")? {
            return Ok(Value::Text(self.until('"')?));
        }
        if let Some(bytes) = self.bytes()? {
            return Ok(Value::Bytes(bytes));
        }
        for (word, value) in [
            ("true", Value::Bool(true)),
            ("false", Value::Bool(false)),
            ("null", Value::Null),
        ] {
            if self.take(word)? {
                return Ok(value);
            }
        }
        self.number()
    }

    /// Byte strings; those that stand side by side are one.
    fn bytes(&mut self) -> Result<Option<Vec<u8>>, String> {
        let mut out: Option<Vec<u8>> = None;
        loop {
            let part = if self.take("h'")? {
                let digits = self.until('\'')?;
                // Every other part between slashes is a comment.
                let digits: String = digits.split('/').step_by(2).collect();
                let digits: String = digits.chars().filter(|c| !c.is_whitespace()).collect();
                hex::decode(digits).map_err(|error| self.error(&error.to_string()))?
            } else if self.take("'")? {
                self.until('\'')?.into_bytes()
            } else if self.take("<<")? {
                let mut inner = Vec::new();
                for value in self.list(">>", Self::value)? {
                    inner.extend(encode(&value).map_err(|error| error.to_string())?);
                }
                inner
            } else {
                return Ok(out);
            };
            out.get_or_insert_default().extend(part);
        }
    }

    fn number(&mut self) -> Result<Value, String> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.')))
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        let unsigned = word
            .strip_prefix("0x")
            .map(|digits| u64::from_str_radix(digits, 16));
        let value = if let Some(Ok(number)) = unsigned {
            Value::from(number)
        } else if let Ok(number) = word.parse::<i64>() {
            Value::from(number)
        } else if let (Ok(number), true) = (word.parse::<f64>(), word.contains('.')) {
            Value::from(number)
        } else {
            return Err(self.error("no value"));
        };
        self.rest = rest;
        if self.rest.starts_with('(') {
            self.rest = &self.rest[1..];
            let inner = self.value()?;
            if !self.take(")")? {
                return Err(self.error("open tag"));
            }
            let tag = value.as_integer().and_then(|tag| u64::try_from(tag).ok());
            return Ok(tagged(tag.ok_or_else(|| self.error("tag"))?, inner));
        }
        Ok(value)
    }
}
