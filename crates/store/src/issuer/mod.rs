//! The CA as a service: the decision functions, and the store's effects in their order.
//!
//! Invariants: a certificate is durable before anyone sees it, and the intent is before a key signs that is
//! not in this process; with a key that is, all is one commit (docs/adr/0014). One request of one device
//! has one row, so it can have one certificate only: a crash leaves nothing, or an intent that the same
//! request finds and finishes. The newest generation issues; an intent is finished by the one that it was
//! fixed for.

mod clock;
mod cmp;
mod history;
mod issuance;
mod releases;
mod requester;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, RwLock};

use tegata_authority::UnixSecs;
use tegata_authority::ca::authority_cert::{self, CaDraft};
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::ca::maker::Maker;
use tegata_authority::profile::Profiles;
use tegata_crypto::{KeyAlg, PublicKey, Rng, Signer};

use crate::StoreError;
use crate::evidence::Evidence;
use crate::generation::{self, EndsSoon, Generations, ISSUING_KEY, ROOT_KEY};
use crate::keys;
use crate::role::{Role, RoleError, secs};
use crate::status::StatusSettings;

pub use cmp::{CmpAnswer, CmpOutcome, CmpPath, Lists};
pub(crate) use issuance::{Counts, Obtained, Wanted};
use releases::OpenRelease;
pub use releases::{CutRelease, NewRelease};
pub(crate) use releases::{availability_of, encoded};
pub(crate) use requester::held;

/// Algorithms and names of a new CA.
#[derive(Debug, Clone)]
pub struct CaSetup {
    /// Names and lifetimes.
    pub draft: CaDraft,
    /// Algorithm of the root key.
    pub root_alg: KeyAlg,
    /// Algorithm of the issuing key.
    pub issuing_alg: KeyAlg,
}

/// The CA.
pub struct Issuer {
    pub(crate) role: Role,
    profiles: Profiles,
    mac_policy: MacPolicy,
    makers: Vec<Maker>,
    pub(crate) status: StatusSettings,
    pub(crate) evidence: Option<Evidence>,
    // As the store had them when somebody looked last.
    known: RwLock<Arc<Generations>>,
    opened_with: Arc<Generations>,
    release_key: Box<dyn Signer>,
    // Releases never change; their secrets are unsealed once.
    opened: Mutex<HashMap<[u8; 16], Arc<OpenRelease>>>,
    last_record: clock::LastRecord,
}

impl Issuer {
    /// Makes root, issuing and release keys and the two CA certificates, all or nothing.
    ///
    /// # Errors
    /// `HasKey` if there is a CA in the store already.
    pub fn init(
        role: &Role,
        setup: &CaSetup,
        rng: &mut dyn Rng,
        now: UnixSecs,
    ) -> Result<(), RoleError> {
        let provider = role.provider.as_ref();
        let root = provider.generate(setup.root_alg, rng)?;
        let issuing = provider.generate(setup.issuing_alg, rng)?;
        let release = provider.generate(KeyAlg::P256, rng)?;
        let root_cert = authority_cert::make_root(&setup.draft, &root, rng, now)?;
        let issuing_cert = authority_cert::make_issuing(
            &setup.draft,
            &root,
            &root_cert,
            issuing.public_key(),
            rng,
            now,
        )?;
        let root_key = role.seal_key(ROOT_KEY, &root, rng)?;
        let issuing_key = role.seal_key(ISSUING_KEY, &issuing, rng)?;
        let release_key = role.seal_key(RELEASE_KEY, &release, rng)?;
        role.store.run_tx("init CA", |tx| {
            let root = (&root_cert[..], &root_key);
            let issuing = (&issuing_cert[..], &issuing_key);
            if !generation::put_first(tx, root, issuing, now)? {
                return Err(RoleError::HasKey(ROOT_KEY));
            }
            match keys::insert(tx, RELEASE_KEY, &release_key, secs(now))? {
                true => Ok(()),
                false => Err(RoleError::HasKey(RELEASE_KEY)),
            }
        })
    }

    /// Opens the CA of the store. The roots' keys stay sealed.
    ///
    /// # Errors
    /// `NoKey` if there is none, `Sealed` under a wrong sealing key.
    pub fn open(role: Role, profiles: Profiles, mac_policy: MacPolicy) -> Result<Self, RoleError> {
        let present = Arc::new(Generations::load(&role)?);
        let release_key = role.open_signer(RELEASE_KEY)?;
        Ok(Self {
            role,
            profiles,
            mac_policy,
            makers: Vec::new(),
            status: StatusSettings::default(),
            evidence: None,
            known: RwLock::new(Arc::clone(&present)),
            opened_with: present,
            release_key,
            opened: Mutex::new(HashMap::new()),
            last_record: clock::LastRecord::default(),
        })
    }

    /// Whether it signs with a key of this process, and waits for no other.
    #[must_use]
    pub fn signs_in_process(&self) -> bool {
        self.last_seen().newest().key.is_in_process()
    }

    /// The same CA, which takes the word of these makers where a profile says so.
    #[must_use]
    pub fn with_makers(self, makers: Vec<Maker>) -> Self {
        Self { makers, ..self }
    }

    /// The same CA, with this for the status of its certificates.
    #[must_use]
    pub fn with_status(self, status: StatusSettings) -> Self {
        Self { status, ..self }
    }

    /// Store, provider and sealing key; also for imports and trusted keys.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.role
    }

    /// The generations as the store has them now: a rollover is seen by the next who asks.
    ///
    /// # Errors
    /// The store's failure; a key of a new generation that cannot be opened.
    pub fn generations(&self) -> Result<Arc<Generations>, RoleError> {
        let newest = self.role.store.read("generation", generation::newest)?;
        let known = self.known.read().map_err(|_| StoreError::Poisoned)?;
        if known.newest().number == newest {
            return Ok(Arc::clone(&known));
        }
        drop(known);
        let loaded = Arc::new(Generations::load(&self.role)?);
        let mut known = self.known.write().map_err(|_| StoreError::Poisoned)?;
        // Another thread may have seen more meanwhile.
        if known.newest().number < loaded.newest().number {
            *known = Arc::clone(&loaded);
        }
        Ok(loaded)
    }

    /// Whether the CA needs a rollover, its profiles being what they are.
    ///
    /// # Errors
    /// As [`Issuer::generations`].
    pub fn ends_soon(&self, now: UnixSecs) -> Result<Option<EndsSoon>, RoleError> {
        let longest = self.profiles.longest_secs();
        Ok(self.generations()?.ends_soon(now, longest))
    }

    /// The generations as they were seen last, where the store cannot be asked: what they sign is good.
    pub(crate) fn last_seen(&self) -> Arc<Generations> {
        let known = self.known.read().map(|known| Arc::clone(&known));
        known.unwrap_or_else(|_| Arc::clone(&self.opened_with))
    }

    /// The newest root certificate (DER) when this CA was opened; see [`Issuer::generations`].
    #[must_use]
    pub fn root_certificate(&self) -> &[u8] {
        &self.opened_with.newest_root().ca.cert_der
    }

    /// The newest issuing CA's certificate (DER) when this CA was opened.
    #[must_use]
    pub fn issuing_certificate(&self) -> &[u8] {
        &self.opened_with.newest().ca.cert_der
    }

    /// The key that signs releases: devices, TAM and Verifier trust it.
    #[must_use]
    pub fn release_public_key(&self) -> &PublicKey {
        self.release_key.public_key()
    }

    /// The profiles.
    #[must_use]
    pub fn profiles(&self) -> &Profiles {
        &self.profiles
    }
}

/// Name and sealing purpose of the release key.
const RELEASE_KEY: &str = "ca release key";
