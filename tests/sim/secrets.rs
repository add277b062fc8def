//! What must never be seen outside, and a look at every byte that is.

use std::collections::{BTreeMap, HashMap};

/// Secrets by name, found fast: looked up by their first eight bytes.
#[derive(Default)]
pub struct Secrets {
    by_start: HashMap<[u8; 8], Vec<(String, Vec<u8>)>>,
    /// Which first two bytes occur at all: most positions end here.
    starts: BTreeMap<u16, ()>,
    seen: Vec<bool>,
    count: usize,
}

impl Secrets {
    /// Adds a secret of at least 16 bytes; a second time changes nothing.
    pub fn add(&mut self, name: impl Into<String>, secret: &[u8]) -> bool {
        assert!(secret.len() >= 16, "too short to be told from chance");
        if self.seen.is_empty() {
            self.seen = vec![false; 1 << 16];
        }
        let start: [u8; 8] = secret[..8].try_into().unwrap();
        let list = self.by_start.entry(start).or_default();
        if list.iter().any(|(_, known)| known == secret) {
            return false;
        }
        list.push((name.into(), secret.to_vec()));
        let two = u16::from_be_bytes([secret[0], secret[1]]);
        self.starts.insert(two, ());
        self.seen[usize::from(two)] = true;
        self.count += 1;
        true
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Name of a secret that is in `bytes`.
    pub fn find_in(&self, bytes: &[u8]) -> Option<&str> {
        if self.seen.is_empty() {
            return None;
        }
        let seen = self.seen.as_slice();
        let mut before = 0usize;
        for (at, byte) in bytes.iter().enumerate() {
            let two = (before << 8 | usize::from(*byte)) & 0xffff;
            before = usize::from(*byte);
            if at == 0 || !seen[two] {
                continue;
            }
            let here = &bytes[at - 1..];
            let Some(start) = here.first_chunk::<8>() else {
                break;
            };
            let Some(list) = self.by_start.get(start) else {
                continue;
            };
            if let Some((name, _)) = list.iter().find(|(_, secret)| here.starts_with(secret)) {
                return Some(name);
            }
        }
        None
    }
}
