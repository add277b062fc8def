//! Which objects are open, and GP's rules for opening one twice.
//!
//! Spec: TEE Internal Core API 1.3.1 section 5.7.1 (table of share flags).

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::gp::consts::*;
use crate::gp::host::{HostError, ObjectToken};
use crate::storage::TaId;

/// An open object.
#[derive(Clone, Debug)]
pub(super) struct OpenObject {
    pub(super) ta: TaId,
    pub(super) id: Vec<u8>,
    pub(super) flags: u32,
    /// The instance that holds it.
    pub(super) instance: u64,
}

/// All open objects of a TEE.
#[derive(Default)]
pub(super) struct ObjectLocks {
    open: BTreeMap<ObjectToken, OpenObject>,
    next: u64,
}

/// Most handles of one instance: its own host lets it have as many objects, stored or not.
const HANDLES_PER_INSTANCE_MAX: usize = 64;

const RIGHTS: u32 =
    TEE_DATA_FLAG_ACCESS_READ | TEE_DATA_FLAG_ACCESS_WRITE | TEE_DATA_FLAG_ACCESS_WRITE_META;

/// True if handles with these flags may stand side by side.
const fn compatible(a: u32, b: u32) -> bool {
    if a & RIGHTS == 0 || b & RIGHTS == 0 {
        return true; // looks only at what kind of object it is
    }
    if (a | b) & TEE_DATA_FLAG_ACCESS_WRITE_META != 0 {
        return false;
    }
    let reads = (a | b) & TEE_DATA_FLAG_ACCESS_READ != 0;
    let writes = (a | b) & TEE_DATA_FLAG_ACCESS_WRITE != 0;
    (!reads || a & b & TEE_DATA_FLAG_SHARE_READ != 0)
        && (!writes || a & b & TEE_DATA_FLAG_SHARE_WRITE != 0)
}

impl ObjectLocks {
    /// Takes a handle on an object.
    ///
    /// # Errors
    /// [`HostError::AccessConflict`], or [`HostError::OutOfMemory`] if its instance holds too many.
    pub(super) fn take(&mut self, object: OpenObject) -> Result<ObjectToken, HostError> {
        let held = self.open.values().filter(|o| o.instance == object.instance);
        if held.count() >= HANDLES_PER_INSTANCE_MAX {
            return Err(HostError::OutOfMemory);
        }
        let same = |o: &&OpenObject| o.ta == object.ta && o.id == object.id;
        if self
            .open
            .values()
            .filter(same)
            .any(|o| !compatible(o.flags, object.flags))
        {
            return Err(HostError::AccessConflict);
        }
        self.next = self.next.wrapping_add(1);
        let token = ObjectToken(self.next);
        self.open.insert(token, object);
        Ok(token)
    }

    /// True if any handle with rights names the object.
    pub(super) fn in_use(&self, ta: &TaId, id: &[u8]) -> bool {
        self.open
            .values()
            .any(|o| o.ta == *ta && o.id == id && o.flags & RIGHTS != 0)
    }

    /// The object behind a token of `instance`; a token of another instance names nothing.
    pub(super) fn get(&self, token: ObjectToken, instance: u64) -> Result<&OpenObject, HostError> {
        match self.open.get(&token) {
            Some(open) if open.instance == instance => Ok(open),
            _ => Err(HostError::BadParameters),
        }
    }

    /// Follows a rename.
    pub(super) fn renamed(&mut self, token: ObjectToken, new_id: &[u8]) {
        if let Some(open) = self.open.get_mut(&token) {
            open.id = new_id.to_vec();
        }
    }

    /// Gives a handle back.
    pub(super) fn release(&mut self, token: ObjectToken, instance: u64) {
        if self.get(token, instance).is_ok() {
            self.open.remove(&token);
        }
    }

    /// Gives all handles of a dead instance back.
    pub(super) fn release_all(&mut self, instance: u64) {
        self.open.retain(|_, open| open.instance != instance);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(instance: u64, id: u8) -> OpenObject {
        OpenObject {
            ta: TaId {
                signer: tegata_wire::ids::SignerId([1; 32]),
                uuid: tegata_wire::ids::TaUuid([1; 16]),
            },
            id: alloc::vec![id],
            flags: TEE_DATA_FLAG_ACCESS_READ,
            instance,
        }
    }

    #[test]
    fn an_instance_holds_so_many_handles_and_its_end_gives_all_back() {
        let mut locks = ObjectLocks::default();
        let taken = (0..=u8::MAX).filter(|id| locks.take(object(1, *id)).is_ok());
        assert_eq!(taken.count(), HANDLES_PER_INSTANCE_MAX);
        let refused = locks.take(object(1, u8::MAX));
        assert_eq!(refused, Err(HostError::OutOfMemory));
        assert!(locks.take(object(2, u8::MAX)).is_ok(), "another has room");
        locks.release_all(1);
        assert!(locks.take(object(1, 0)).is_ok());
    }

    #[test]
    fn share_flags_follow_the_standard() {
        const R: u32 = TEE_DATA_FLAG_ACCESS_READ;
        const W: u32 = TEE_DATA_FLAG_ACCESS_WRITE;
        const M: u32 = TEE_DATA_FLAG_ACCESS_WRITE_META;
        const SR: u32 = TEE_DATA_FLAG_SHARE_READ;
        const SW: u32 = TEE_DATA_FLAG_SHARE_WRITE;
        assert!(
            !compatible(R, R),
            "reading is not shared unless both say so"
        );
        assert!(!compatible(R | SR, R) && compatible(R | SR, R | SR));
        assert!(
            !compatible(R | SR, W | SW),
            "reader and writer need both flags on both sides"
        );
        assert!(compatible(R | SR | SW, W | SR | SW));
        assert!(
            !compatible(M, R | SR) && !compatible(R | SR | SW, M),
            "meta is exclusive"
        );
        assert!(compatible(0, M));
    }
}
