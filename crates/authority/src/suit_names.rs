//! Names of the components of a TA, as the TEE knows them.

use tegata_wire::ids::TaUuid;
use tegata_wire::suit::ComponentId;

/// What manifests of one release of a TA are named by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TaNames<'a> {
    /// Name of the TA.
    pub name: &'a str,
    /// Its UUID.
    pub ta: TaUuid,
    /// Sequence number of the release.
    pub sequence: u64,
}

/// `["TEEP-Device", "SecureFS", uuid, leaf]`.
pub(crate) fn part(ta: &TaUuid, leaf: &str) -> ComponentId {
    ComponentId::new(&[
        TEE.as_bytes(),
        STORE.as_bytes(),
        ta.as_bytes(),
        leaf.as_bytes(),
    ])
}

/// The TA and the leaf of such a name.
pub(crate) fn split(id: &ComponentId) -> Option<(TaUuid, &[u8])> {
    let [tee, store, ta, leaf] = id.segments() else {
        return None;
    };
    if tee != TEE.as_bytes() || store != STORE.as_bytes() {
        return None;
    }
    Some((TaUuid::from_slice(ta).ok()?, leaf))
}

const TEE: &str = "TEEP-Device";
const STORE: &str = "SecureFS";
