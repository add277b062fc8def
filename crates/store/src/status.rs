//! The status service of the CA: lists and responses, signed ahead and looked up again each time.
//!
//! Invariants: before anything is answered the store is asked what changed last, so that an answer
//! of this process is never older than the last word that was durable when its request came. What is
//! kept in memory is signatures alone, each with what it was signed over. A list is of one shard and
//! cannot outgrow it. Each issuing CA answers for what it issued, with its own key, and for nothing else.
//!
//! Trusted: as the CA. Not trusted: requests; they cost one parse and a look at keys of the store.

mod lists;
mod ocsp;
mod responses;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tegata_authority::UnixSecs;
use tegata_crypto::Provider;
use tegata_wire::x509::MAX_CRL_ENTRIES;

pub use lists::NoList;
pub use ocsp::{KEPT_RESPONSES_MAX, OcspAnswer};

use crate::issuer::Issuer;
use crate::role::RoleError;
use crate::root_list::{self, RootList};

use lists::AllLists;
use ocsp::KeptResponder;
use responses::Responses;

/// How the status of certificates is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StatusSettings {
    /// Base URL that new certificates name; none when absent.
    pub base_url: Option<String>,
    /// Most certificates of a shard.
    pub shard_size: u32,
    /// How long a complete list is good for, seconds.
    pub crl_life_secs: u64,
    /// How long a delta list is good for, seconds.
    pub delta_life_secs: u64,
    /// How long an OCSP response is good for, seconds.
    pub ocsp_life_secs: u64,
    /// Of how many of the newest certificates OCSP responses are signed before anybody asks; at most
    /// [`KEPT_RESPONSES_MAX`].
    pub presign: u32,
}

impl Default for StatusSettings {
    fn default() -> Self {
        Self {
            base_url: None,
            shard_size: 65_536,
            crl_life_secs: 86_400,
            delta_life_secs: 3_600,
            ocsp_life_secs: 3_600,
            presign: 4_096,
        }
    }
}

/// Which certificates a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scope {
    /// Those of one shard.
    Shard(u64),
    /// All of the issuer.
    Full,
}

impl Scope {
    fn shard(self) -> Option<u64> {
        match self {
            Self::Shard(shard) => Some(shard),
            Self::Full => None,
        }
    }

    /// The scope that the name of a complete list in URLs says.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name {
            "full" => Some(Self::Full),
            number => number.parse().ok().map(Self::Shard),
        }
    }

    fn name(self) -> String {
        match self {
            Self::Shard(shard) => shard.to_string(),
            Self::Full => "full".to_owned(),
        }
    }
}

/// Something signed that may be kept for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The list or response (DER).
    pub der: Vec<u8>,
    /// Its thisUpdate.
    pub made: UnixSecs,
    /// Half of its life: then a new one is signed.
    pub renewed: UnixSecs,
    /// Its nextUpdate.
    pub next_update: UnixSecs,
    digest: [u8; 32],
}

impl Published {
    /// What was signed, with its thisUpdate, the moment at which a new one is signed, and its nextUpdate.
    #[must_use]
    pub fn new(
        provider: &dyn Provider,
        der: Vec<u8>,
        (made, renewed, next_update): (UnixSecs, UnixSecs, UnixSecs),
    ) -> Self {
        Self {
            digest: provider.sha256(&der),
            der,
            made,
            renewed,
            next_update,
        }
    }

    /// SHA-256 of it, taken once: caches ask by it, and a list may be long.
    #[must_use]
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    fn serves(&self, now: UnixSecs) -> bool {
        self.made <= now && now < self.renewed
    }
}

/// The status service.
pub struct StatusServer {
    issuer: Arc<Issuer>,
    lists: Mutex<AllLists>,
    responses: Mutex<Responses>,
    /// By number of the issuing CA; who asks for one waits for no other.
    responders: Mutex<HashMap<u32, KeptResponder>>,
    /// Most entries of a list.
    entries_max: usize,
}

impl StatusServer {
    /// The status service of a CA.
    #[must_use]
    pub fn new(issuer: Arc<Issuer>) -> Self {
        Self {
            issuer,
            lists: Mutex::default(),
            responses: Mutex::new(Responses::new(KEPT_RESPONSES_MAX)),
            responders: Mutex::default(),
            entries_max: MAX_CRL_ENTRIES,
        }
    }

    /// A certificate of the CA itself (DER) by its name in URLs: a root's or an issuing CA's
    /// subjectKeyIdentifier in hexadecimal; a link between two roots by `SUBJECT-ISSUER`.
    ///
    /// # Errors
    /// The store's failure.
    pub fn ca_certificate(&self, name: &str) -> Result<Option<Vec<u8>>, RoleError> {
        let present = self.issuer.generations()?;
        if let Some(issuing) = present.of(name) {
            return Ok(Some(issuing.ca.cert_der.clone()));
        }
        let mut before: Option<&str> = None;
        for root in present.roots() {
            if root.id == name {
                return Ok(Some(root.ca.cert_der.clone()));
            }
            if let Some(old) = before {
                if name == format!("{}-{old}", root.id) {
                    return Ok(root.links.new_with_old.clone());
                }
                if name == format!("{old}-{}", root.id) {
                    return Ok(root.links.old_with_new.clone());
                }
            }
            before = Some(&root.id);
        }
        Ok(None)
    }

    /// A root's own list, if the operator made one.
    ///
    /// # Errors
    /// The store's failure.
    pub fn root_list(&self, root_id: &str) -> Result<Option<RootList>, RoleError> {
        root_list::last(&self.issuer.role.store, root_id)
    }
}

#[cfg(test)]
mod tests;
