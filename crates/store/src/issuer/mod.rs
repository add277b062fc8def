//! The CA as a service: the decision functions, and the store's effects in their order.
//!
//! Invariants: an intent is durable before the key signs, a certificate is durable before anyone
//! sees it. One request of one device has one row, so it can have one certificate only: a crash
//! leaves an intent, the same request finds and finishes it.

mod cmp;
mod issuance;
mod releases;
mod requester;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tegata_authority::UnixSecs;
use tegata_authority::ca::authority_cert::{self, CaDraft};
use tegata_authority::ca::cmp::MacPolicy;
use tegata_authority::profile::Profiles;
use tegata_crypto::{KeyAlg, PublicKey, Rng, Signer};

use crate::keys;
use crate::role::{Role, RoleError, secs};
use crate::status::StatusSettings;

pub use cmp::{CmpAnswer, CmpOutcome, CmpPath, Lists};
pub(crate) use issuance::{Obtained, Wanted};
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
    pub(crate) status: StatusSettings,
    root_cert: Vec<u8>,
    pub(crate) issuer: authority_cert::Issuer,
    pub(crate) issuing_key: Box<dyn Signer>,
    release_key: Box<dyn Signer>,
    // Releases never change; their secrets are unsealed once.
    opened: Mutex<HashMap<[u8; 16], Arc<OpenRelease>>>,
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
        let mut sealed = Vec::new();
        for (name, key) in [
            (ROOT_KEY, &root),
            (ISSUING_KEY, &issuing),
            (RELEASE_KEY, &release),
        ] {
            sealed.push((name, role.seal_key(name, key, rng)?));
        }
        role.store.run_tx("init CA", |tx| {
            for (name, key) in &sealed {
                if !keys::insert(tx, name, key, secs(now))? {
                    return Err(RoleError::HasKey(name));
                }
            }
            keys::put_document(tx, ROOT_CERT, &root_cert, secs(now))?;
            keys::put_document(tx, ISSUING_CERT, &issuing_cert, secs(now))?;
            Ok(())
        })
    }

    /// Opens the CA of the store. The root key stays sealed.
    ///
    /// # Errors
    /// `NoKey` if there is none, `Sealed` under a wrong sealing key.
    pub fn open(role: Role, profiles: Profiles, mac_policy: MacPolicy) -> Result<Self, RoleError> {
        let document = |name: &'static str| {
            let found = role.store.read("open CA", |tx| keys::document(tx, name))?;
            found.ok_or(RoleError::NoKey(name))
        };
        let root_cert = document(ROOT_CERT)?;
        let issuer = authority_cert::Issuer::from_cert(&document(ISSUING_CERT)?)?;
        let issuing_key = role.open_signer(ISSUING_KEY)?;
        let release_key = role.open_signer(RELEASE_KEY)?;
        if *issuing_key.public_key() != issuer.public_key {
            return Err(RoleError::Sealed(ISSUING_KEY));
        }
        Ok(Self {
            role,
            profiles,
            mac_policy,
            status: StatusSettings::default(),
            root_cert,
            issuer,
            issuing_key,
            release_key,
            opened: Mutex::new(HashMap::new()),
        })
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

    /// The root certificate (DER).
    #[must_use]
    pub fn root_certificate(&self) -> &[u8] {
        &self.root_cert
    }

    /// The issuing CA's certificate (DER).
    #[must_use]
    pub fn issuing_certificate(&self) -> &[u8] {
        &self.issuer.cert_der
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

/// Name and sealing purpose of the root key.
pub(crate) const ROOT_KEY: &str = "ca root key";
/// Name and sealing purpose of the issuing key.
const ISSUING_KEY: &str = "ca issuing key";
/// Name and sealing purpose of the release key.
const RELEASE_KEY: &str = "ca release key";
/// Name of the root certificate.
pub(crate) const ROOT_CERT: &str = "ca root certificate";
/// Name of the issuing certificate.
const ISSUING_CERT: &str = "ca issuing certificate";
