//! The CA behind its EST port: the server's own TLS identity, and what clients may learn and ask.

use tegata_authority::UnixSecs;
use tegata_authority::ca::est::{
    EstDenial, attributes, make_server_cert, profile_of, server_cert_serves,
};
use tegata_authority::profile::Profile;
use tegata_crypto::{KeyAlg, PrivateKey, Rng};
use tegata_wire::x509::SanEntry;

use crate::issuer::Issuer;
use crate::keys;
use crate::role::{RoleError, secs};

/// What the EST server shows in the TLS handshake.
pub struct TlsIdentity {
    /// Its key.
    pub key: PrivateKey,
    /// Its certificate, then the issuing CA's (DER).
    pub chain: Vec<Vec<u8>>,
}

impl Issuer {
    /// The server's key with a certificate for these names that is good for a while; both are made
    /// when missing.
    ///
    /// # Errors
    /// The store's, the key's or the generator's failure; a name that cannot be in a certificate.
    pub fn est_identity(
        &self,
        names: &[SanEntry],
        rng: &mut dyn Rng,
        now: UnixSecs,
    ) -> Result<TlsIdentity, RoleError> {
        let (role, issuer) = (&self.role, &self.issuer);
        // 1. The key, sealed. A crash after this leaves a key without a certificate.
        match role.make_key(SERVER_KEY, KeyAlg::P256, rng, now) {
            Ok(_) | Err(RoleError::HasKey(_)) => {}
            Err(e) => return Err(e),
        }
        let key = role.open_key(SERVER_KEY)?;
        // 2. Its certificate: another process may have renewed it.
        let stored = role
            .store
            .read("EST server", |tx| keys::document(tx, SERVER_CERT))?;
        let public = key.public_key();
        let cert = match stored {
            Some(cert) if server_cert_serves(&cert, issuer, public, names, now) => cert,
            _ => {
                let issuing = self.issuing_key.as_ref();
                let cert = make_server_cert(issuer, issuing, public, names, rng, now)?;
                role.store.run_tx("renew EST server", |tx| {
                    keys::put_document(tx, SERVER_CERT, &cert, secs(now))
                })?;
                cert
            }
        };
        Ok(TlsIdentity {
            key,
            chain: vec![cert, issuer.cert_der.clone()],
        })
    }

    /// The profile that a path names.
    ///
    /// # Errors
    /// [`EstDenial::Profile`].
    pub fn est_profile(&self, label: Option<&str>) -> Result<&Profile, EstDenial> {
        profile_of(self.profiles(), label)
    }

    /// What a request of that profile should have (DER of CsrAttrs).
    ///
    /// # Errors
    /// [`EstDenial::Profile`], or a failure of ours.
    pub fn est_attributes(&self, label: Option<&str>) -> Result<Vec<u8>, EstDenial> {
        let attrs = attributes(self.est_profile(label)?, None)?;
        attrs.to_der().map_err(|_| EstDenial::Failed("attributes"))
    }

    /// The CA's certificates (DER): what a client needs to verify every certificate of this CA, and
    /// what a path from a client's certificate may end at.
    #[must_use]
    pub fn ca_certificates(&self) -> Vec<&[u8]> {
        vec![self.root_certificate(), self.issuing_certificate()]
    }
}

/// Name and sealing purpose of the server's key.
const SERVER_KEY: &str = "ca est key";
/// Name of the server's certificate.
const SERVER_CERT: &str = "ca est certificate";
