//! Handles of an instance: small numbers that name native objects, with a generation each.
//!
//! Invariants: 0 (`TEE_HANDLE_NULL`) and GP's pseudo handles are never given out; a handle of one
//! kind never names an object of another; a stale handle names nothing for 16 384 reuses.

use alloc::vec::Vec;

use super::consts::{TEE_ERROR_BAD_PARAMETERS, TEE_ERROR_OUT_OF_MEMORY};
use super::fail::{Fail, Res};

/// A table of one kind of object.
pub struct Handles<T> {
    kind: u32,
    max: usize,
    slots: Vec<(u32, Option<T>)>,
}

impl<T> Handles<T> {
    /// An empty table; `kind` is 1 to 7 and differs between the tables of an instance.
    pub const fn new(kind: u32, max: usize) -> Self {
        Self {
            kind,
            max,
            slots: Vec::new(),
        }
    }

    /// Takes in `value`.
    ///
    /// # Errors
    /// `TEE_ERROR_OUT_OF_MEMORY` if the table is full.
    pub fn insert(&mut self, value: T) -> Res<u32> {
        let free = self.slots.iter().position(|(_, slot)| slot.is_none());
        let index = match free {
            Some(index) => index,
            None if self.slots.len() < self.max.min(INDEX_MAX) => {
                self.slots.push((0, None));
                self.slots.len().saturating_sub(1)
            }
            None => return Err(Fail::Code(TEE_ERROR_OUT_OF_MEMORY)),
        };
        let Some((generation, slot)) = self.slots.get_mut(index) else {
            return Err(Fail::Code(TEE_ERROR_OUT_OF_MEMORY));
        };
        *generation = (*generation + 1) & GENERATION_MASK;
        *slot = Some(value);
        let number = u32::try_from(index).map_err(|_| Fail::Code(TEE_ERROR_OUT_OF_MEMORY))?;
        Ok((self.kind << 28) | (*generation << 12) | number)
    }

    fn index(&self, handle: u32) -> Res<usize> {
        let index = usize::try_from(handle & 0xFFF).unwrap_or(usize::MAX);
        let generation = (handle >> 12) & 0xFFFF;
        match self.slots.get(index) {
            Some((now, Some(_))) if handle >> 28 == self.kind && *now == generation => Ok(index),
            _ => Err(Fail::Panic(TEE_ERROR_BAD_PARAMETERS)),
        }
    }

    /// The object behind `handle`.
    ///
    /// # Errors
    /// The TA panics if there is none.
    pub fn get(&self, handle: u32) -> Res<&T> {
        let index = self.index(handle)?;
        self.slots
            .get(index)
            .and_then(|(_, slot)| slot.as_ref())
            .ok_or(Fail::Panic(TEE_ERROR_BAD_PARAMETERS))
    }

    /// The object behind `handle`, to change.
    ///
    /// # Errors
    /// The TA panics if there is none.
    pub fn get_mut(&mut self, handle: u32) -> Res<&mut T> {
        let index = self.index(handle)?;
        self.slots
            .get_mut(index)
            .and_then(|(_, slot)| slot.as_mut())
            .ok_or(Fail::Panic(TEE_ERROR_BAD_PARAMETERS))
    }

    /// Takes the object out; the handle is then dead.
    ///
    /// # Errors
    /// The TA panics if there is none.
    pub fn remove(&mut self, handle: u32) -> Res<T> {
        let index = self.index(handle)?;
        self.slots
            .get_mut(index)
            .and_then(|(_, slot)| slot.take())
            .ok_or(Fail::Panic(TEE_ERROR_BAD_PARAMETERS))
    }

    /// All objects.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().filter_map(|(_, slot)| slot.as_ref())
    }
}

const GENERATION_MASK: u32 = 0x3FFF;
const INDEX_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stale_foreign_and_null_handles_name_nothing() {
        let mut a = Handles::new(1, 2);
        let mut b = Handles::new(2, 2);
        let first = a.insert('x').unwrap();
        let other = b.insert('y').unwrap();
        assert_ne!(first, 0);
        assert_eq!(a.get(first), Ok(&'x'));
        assert!(a.get(other).is_err() && a.get(0).is_err() && a.get(u32::MAX).is_err());
        a.remove(first).unwrap();
        let again = a.insert('z').unwrap();
        assert_ne!(first, again);
        assert!(a.get(first).is_err());
        a.insert('w').unwrap();
        assert_eq!(a.insert('v'), Err(Fail::Code(TEE_ERROR_OUT_OF_MEMORY)));
    }
}
