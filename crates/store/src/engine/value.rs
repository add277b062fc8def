//! Values as both engines know them: what statements are given, and what their rows have.
//!
//! Four kinds are enough: whole numbers, floating-point numbers, texts and bytes. A null keeps the
//! kind that it is a null of, so that a statement has the same types whatever it is given.

use super::{EngineError, Result};

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A whole number, 64 bits with a sign; `true` is 1.
    Int,
    /// A floating-point number, 64 bits.
    Real,
    /// UTF-8.
    Text,
    /// Bytes.
    Blob,
}

/// A value that somebody else owns.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    /// None, where there could be one of this kind.
    Null(Kind),
    Int(i64),
    Real(f64),
    Text(&'a str),
    Blob(&'a [u8]),
}

impl Value<'_> {
    /// What it is, also when there is none.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Null(kind) => kind,
            Self::Int(_) => Kind::Int,
            Self::Real(_) => Kind::Real,
            Self::Text(_) => Kind::Text,
            Self::Blob(_) => Kind::Blob,
        }
    }
}

/// What can be given to a statement.
pub(crate) trait ToValue {
    /// What it is, also when there is none.
    const KIND: Kind;
    /// The value itself, without a copy.
    fn to_value(&self) -> Value<'_>;
}

/// What can be read from a row.
pub(crate) trait FromValue: Sized {
    /// `None` for a value of another kind, or out of range.
    fn from_value(value: Value<'_>) -> Option<Self>;
}

/// A row while it is read.
pub(crate) enum Row<'a> {
    Sqlite(&'a rusqlite::Row<'a>),
    Postgres(&'a tokio_postgres::Row),
}

impl Row<'_> {
    /// The value in that column, counted from 0.
    pub(crate) fn get<T: FromValue>(&self, column: usize) -> Result<T> {
        let value = match self {
            Self::Sqlite(row) => super::sqlite::column(row, column)?,
            Self::Postgres(row) => row.try_get(column)?,
        };
        T::from_value(value).ok_or(EngineError::Column(column))
    }
}

/// The parameters of a statement, in the order of `?1`, `?2` ….
macro_rules! params {
    ($($value:expr),* $(,)?) => {
        &[$($crate::engine::ToValue::to_value(&$value)),*] as &[$crate::engine::Value<'_>]
    };
}
pub(crate) use params;

macro_rules! whole_numbers {
    ($($number:ty),*) => {$(
        impl ToValue for $number {
            const KIND: Kind = Kind::Int;
            fn to_value(&self) -> Value<'_> {
                Value::Int(i64::from(*self))
            }
        }
        impl FromValue for $number {
            fn from_value(value: Value<'_>) -> Option<Self> {
                match value {
                    Value::Int(n) => Self::try_from(n).ok(),
                    _ => None,
                }
            }
        }
    )*};
}
whole_numbers!(u8, u32, i64);

impl ToValue for bool {
    const KIND: Kind = Kind::Int;
    fn to_value(&self) -> Value<'_> {
        Value::Int(i64::from(*self))
    }
}

impl FromValue for bool {
    fn from_value(value: Value<'_>) -> Option<Self> {
        i64::from_value(value).map(|n| n != 0)
    }
}

impl ToValue for f64 {
    const KIND: Kind = Kind::Real;
    fn to_value(&self) -> Value<'_> {
        Value::Real(*self)
    }
}

impl FromValue for f64 {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Real(n) => Some(n),
            _ => None,
        }
    }
}

impl ToValue for str {
    const KIND: Kind = Kind::Text;
    fn to_value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl ToValue for String {
    const KIND: Kind = Kind::Text;
    fn to_value(&self) -> Value<'_> {
        Value::Text(self)
    }
}

impl FromValue for String {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Text(text) => Some(text.to_owned()),
            _ => None,
        }
    }
}

impl ToValue for [u8] {
    const KIND: Kind = Kind::Blob;
    fn to_value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl ToValue for Vec<u8> {
    const KIND: Kind = Kind::Blob;
    fn to_value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl FromValue for Vec<u8> {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Blob(bytes) => Some(bytes.to_vec()),
            _ => None,
        }
    }
}

impl<const N: usize> ToValue for [u8; N] {
    const KIND: Kind = Kind::Blob;
    fn to_value(&self) -> Value<'_> {
        Value::Blob(self)
    }
}

impl<const N: usize> FromValue for [u8; N] {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Blob(bytes) => bytes.try_into().ok(),
            _ => None,
        }
    }
}

impl<T: ToValue + ?Sized> ToValue for &T {
    const KIND: Kind = T::KIND;
    fn to_value(&self) -> Value<'_> {
        (**self).to_value()
    }
}

impl<T: ToValue> ToValue for Option<T> {
    const KIND: Kind = T::KIND;
    fn to_value(&self) -> Value<'_> {
        self.as_ref()
            .map_or(Value::Null(T::KIND), ToValue::to_value)
    }
}

impl<T: FromValue> FromValue for Option<T> {
    fn from_value(value: Value<'_>) -> Option<Self> {
        match value {
            Value::Null(_) => Some(None),
            value => T::from_value(value).map(Some),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_of_another_kind_or_size_is_refused_and_null_is_only_an_option() {
        assert_eq!(u8::from_value(Value::Int(255)), Some(255));
        assert_eq!(u8::from_value(Value::Int(256)), None);
        assert_eq!(u32::from_value(Value::Int(-1)), None);
        assert_eq!(i64::from_value(Value::Text("1")), None);
        assert_eq!(i64::from_value(Value::Null(Kind::Int)), None);
        assert_eq!(
            Option::<i64>::from_value(Value::Null(Kind::Int)),
            Some(None)
        );
        assert_eq!(<[u8; 2]>::from_value(Value::Blob(&[1, 2, 3])), None);
        assert_eq!(String::from_value(Value::Blob(b"a")), None);
    }

    #[test]
    fn nothing_keeps_its_kind() {
        let none: Option<&[u8; 32]> = None;
        assert_eq!(
            params![none, 7_u32, "x", Some(true)],
            [
                Value::Null(Kind::Blob),
                Value::Int(7),
                Value::Text("x"),
                Value::Int(1),
            ]
        );
    }
}
