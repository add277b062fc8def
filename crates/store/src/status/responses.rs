//! OCSP responses that were signed ahead, each with the status that it tells.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use tegata_authority::UnixSecs;
use tegata_wire::ocsp::{CertId, CertStatus};

use super::Published;

/// Responses by CertID. When there are too many, the one goes that nobody asked for the longest.
pub(super) struct Responses {
    by_id: HashMap<Vec<u8>, Kept>,
    /// CertIDs by when they were last asked for.
    by_use: BTreeMap<u64, Vec<u8>>,
    uses: u64,
    most: usize,
}

struct Kept {
    cert: CertId,
    status: CertStatus,
    published: Arc<Published>,
    used: u64,
}

impl Responses {
    pub(super) fn new(most: usize) -> Self {
        Self {
            by_id: HashMap::new(),
            by_use: BTreeMap::new(),
            uses: 0,
            most,
        }
    }

    /// The response that tells this status of a certificate, if there is one that serves. Being asked
    /// for is what keeps it.
    pub(super) fn find(
        &mut self,
        cert: &CertId,
        status: CertStatus,
        now: UnixSecs,
    ) -> Option<Arc<Published>> {
        let id = cert.der.as_bytes();
        let kept = self.by_id.get_mut(id)?;
        self.uses = self.uses.saturating_add(1);
        self.by_use.remove(&kept.used);
        self.by_use.insert(self.uses, id.to_vec());
        kept.used = self.uses;
        let serves = kept.status == status && kept.published.serves(now);
        serves.then(|| Arc::clone(&kept.published))
    }

    /// Whether there is one for this certificate.
    pub(super) fn has(&self, cert: &CertId) -> bool {
        self.by_id.contains_key(cert.der.as_bytes())
    }

    /// Keeps a response. In place of another it keeps that one's turn to go.
    pub(super) fn put(&mut self, cert: &CertId, status: CertStatus, published: Arc<Published>) {
        let id = cert.der.as_bytes();
        if let Some(kept) = self.by_id.get_mut(id) {
            (kept.status, kept.published) = (status, published);
            return;
        }
        while self.by_id.len() >= self.most {
            let Some((_, gone)) = self.by_use.pop_first() else {
                return;
            };
            self.by_id.remove(&gone);
        }
        self.uses = self.uses.saturating_add(1);
        self.by_use.insert(self.uses, id.to_vec());
        let kept = Kept {
            cert: cert.clone(),
            status,
            published,
            used: self.uses,
        };
        self.by_id.insert(id.to_vec(), kept);
    }

    /// Forgets a certificate of which nothing can be said any more.
    pub(super) fn forget(&mut self, cert: &CertId) {
        if let Some(kept) = self.by_id.remove(cert.der.as_bytes()) {
            self.by_use.remove(&kept.used);
        }
    }

    /// The certificates whose response is soon no longer told.
    pub(super) fn ageing(&self, now: UnixSecs) -> Vec<CertId> {
        let old = self.by_id.values().filter(|kept| {
            let (made, renewed) = (kept.published.made.0, kept.published.renewed.0);
            let serves = renewed.saturating_sub(made);
            // The last quarter is for whoever signs ahead to come round.
            let soon = made.saturating_add(serves.saturating_sub(serves / 4));
            now.0 < made || now.0 >= soon
        });
        old.map(|kept| kept.cert.clone()).collect()
    }
}
