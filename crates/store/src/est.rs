//! The CA behind its EST port: the server's own TLS identity, and what clients may learn and ask.

use der::Encode as _;
use tegata_authority::ca::cmp::CmpDenial;
use tegata_authority::ca::est::{
    EstDenial, HeldSecret, Operation, attributes, by_certificate, by_secret, check_operation,
    make_server_cert, not_authenticated, profile_of, read_request, server_cert_serves,
};
use tegata_authority::ca::issue::{ExpectedNames, IssueDenied};
use tegata_authority::ca::means::HeldCertificate;
use tegata_authority::profile::{Authentication, Profile};
use tegata_authority::{UnixMs, UnixSecs};
use tegata_crypto::{KeyAlg, PrivateKey, Rng};
use tegata_wire::cmp::RawBody;
use tegata_wire::ids::Ueid;
use tegata_wire::x509::{CertView, SanEntry};

use crate::issuer::{Counts, Issuer, Obtained, Wanted, held};
use crate::role::{Registered, RoleError, secs};
use crate::{StoreError, keys, revocation};

/// What the EST server shows in the TLS handshake.
pub struct TlsIdentity {
    /// Its key.
    pub key: PrivateKey,
    /// Its certificate, then what leads to the roots (DER): the issuing CA's first.
    pub chain: Vec<Vec<u8>>,
}

/// By what a client says who it is. Nothing is proved by it but what is said here.
#[derive(Clone, Copy)]
pub enum Asker<'a> {
    /// By nothing.
    Nobody,
    /// By a certificate (DER) whose key the TLS handshake proved.
    Certificate(&'a [u8]),
    /// By an enrolment secret.
    Secret {
        /// Its id.
        id: &'a str,
        /// Its text.
        secret: &'a str,
    },
}

/// A certificate that was answered.
#[derive(Debug)]
pub struct Enrolled {
    /// For whom.
    pub ueid: Ueid,
    /// Its serial number.
    pub serial: Vec<u8>,
    /// The certificate (DER).
    pub certificate: Vec<u8>,
    /// Whether the same request had been answered before.
    pub again: bool,
    /// By what it was proved who asks, for the log: `certificate`, `secret` or `evidence`.
    pub by: Authentication,
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
        let present = self.generations()?;
        let (role, by) = (&self.role, present.newest());
        let issuer = &by.ca;
        // 1. The key, sealed. A crash after this leaves a key without a certificate.
        let key = role.open_or_make_key(SERVER_KEY, KeyAlg::P256, rng, now)?;
        // 2. Its certificate: another process may have renewed it.
        let stored = role
            .store
            .read("EST server", |tx| keys::document(tx, SERVER_CERT))?;
        let public = key.public_key();
        let cert = match stored {
            Some(cert) if server_cert_serves(&cert, issuer, public, names, now) => cert,
            _ => {
                let issuing = by.key.as_ref();
                let cert = make_server_cert(issuer, issuing, public, names, rng, now)?;
                role.store.run_tx("renew EST server", |tx| {
                    keys::put_document(tx, SERVER_CERT, &cert, secs(now))
                })?;
                cert
            }
        };
        let mut chain = vec![cert];
        chain.extend(present.path_from(by, now));
        Ok(TlsIdentity { key, chain })
    }

    /// The profile that a path names.
    ///
    /// # Errors
    /// [`EstDenial::Profile`].
    pub fn est_profile(&self, label: Option<&str>) -> Result<&Profile, EstDenial> {
        profile_of(self.profiles(), label)
    }

    /// What a request of that profile should have (DER of CsrAttrs). Who shows a certificate learns
    /// the names of its device too; who shows none, or one that does not count, learns the rest.
    ///
    /// # Errors
    /// A failure of ours.
    pub fn est_attributes(
        &self,
        profile: &Profile,
        asker: Asker<'_>,
        now: UnixSecs,
    ) -> Result<Vec<u8>, EstDenial> {
        let device = match asker {
            Asker::Certificate(shown) => self
                .est_holder(shown)?
                .filter(|(held, _)| {
                    held.der == shown && held.standing.is_good() && is_valid(shown, now)
                })
                .map(|(_, device)| device),
            _ => None,
        };
        let names = device.and_then(|device| {
            ExpectedNames::of(&profile.to_order(), &device.endorsed.identity()).ok()
        });
        let attrs = attributes(profile, names.as_ref())?;
        attrs.to_der().map_err(|_| EstDenial::Failed("attributes"))
    }

    /// Answers an enrolment: the certificate that the request has already, or a new one.
    ///
    /// The request is answered in full when it comes again, for as long as what authenticates it
    /// counts: EST has no confirmation, so a lost answer is asked for again.
    ///
    /// # Errors
    /// Why there is no certificate.
    pub fn est_enrol(
        &self,
        operation: Operation,
        profile: &Profile,
        asker: Asker<'_>,
        csr: &[u8],
        rng: &mut dyn Rng,
        now: UnixMs,
    ) -> Result<Enrolled, EstDenial> {
        let (csr, token) = read_request(csr)?;
        // 1. Who asks. An attestation that came is looked at, or the request is refused.
        let (request, device, held) = match (asker, &token) {
            (Asker::Secret { .. }, Some(_)) => {
                return Err(EstDenial::TwoProofs(
                    "an enrolment secret: send one of them",
                ));
            }
            (asker, Some(token)) => {
                let found = self.evidence_asker(token, profile, &csr, now.secs())?;
                let (request, device) = found;
                let held = match asker {
                    Asker::Certificate(shown) => {
                        let held = self.est_holder(shown)?.map(|(held, _)| held);
                        let by = by_certificate(shown, held.as_ref(), &csr, now.secs())?;
                        if by.ueid() != request.ueid() {
                            let other = "the certificate of another device";
                            return Err(EstDenial::TwoProofs(other));
                        }
                        held
                    }
                    _ => None,
                };
                (request, device, held)
            }
            (Asker::Nobody, None) => {
                return Err(not_authenticated(operation, profile, "nothing was shown"));
            }
            (Asker::Certificate(shown), None) => {
                let (held, device) = self.est_holder(shown)?.unzip();
                let request = by_certificate(shown, held.as_ref(), &csr, now.secs())?;
                (request, device, held)
            }
            (Asker::Secret { id, secret }, None) => {
                let found = self.secret_holder(id).map_err(environment)?;
                let held = found.as_ref().map(|holder| HeldSecret {
                    what: &holder.what,
                    ueid: holder.device.row.ueid,
                    text: &holder.text,
                });
                let request = by_secret(secret.as_bytes(), held, operation, profile, &csr)?;
                (request, found.map(|holder| holder.device), None)
            }
        };
        // Authenticated from here on: what follows may change state.
        let device = device.ok_or(EstDenial::Failed("a certificate without a device"))?;
        let standing = self.role.store.read("device standing", |tx| {
            revocation::device_standing(tx, device.row.id)
        });
        let standing = standing.map_err(|e: StoreError| environment(e.into()))?;
        if !standing.is_good() {
            return Err(IssueDenied::DeviceRevoked.into());
        }
        // 2. Whether it may have what it asks for.
        check_operation(operation, profile, request.means(), held.as_ref(), &csr)?;
        let (ueid, by) = (*request.ueid(), request.means().authentication());
        // 3. Intent, signature, record: as over CMP. Nobody will confirm it, so it counts at once.
        // As CMP has it, for who decides on it.
        let body = RawBody::p10cr(csr.as_der()).ok();
        let body = body.and_then(|body| body.to_der().ok());
        let body = body.ok_or(EstDenial::Failed("request"))?;
        let wanted = Wanted {
            request,
            order: &profile.to_order(),
            device: &device,
            // Who waits asks again with the request itself.
            transaction_id: &[],
            body_der: &body,
            counts: Counts::AtOnce,
        };
        match self.obtain(wanted, rng, now).map_err(refused)? {
            Obtained::Certificate {
                serial, der, again, ..
            } => Ok(Enrolled {
                ueid,
                serial,
                certificate: der,
                again,
                by,
            }),
            Obtained::Waiting => Err(EstDenial::Waiting),
        }
    }

    /// What the store has of the serial number of a certificate, and its device.
    fn est_holder(&self, shown: &[u8]) -> Result<Option<(HeldCertificate, Registered)>, EstDenial> {
        let Ok(view) = CertView::from_der(shown) else {
            return Ok(None);
        };
        let store = &self.role.store;
        let found = store.read("client certificate", |tx| held(tx, view.serial));
        found.map_err(environment)
    }

    /// The CA's certificates (DER): what a client needs to verify every certificate of this CA that is to
    /// be trusted.
    ///
    /// # Errors
    /// The store's failure.
    ///
    /// Spec: RFC 7030 section 4.1.3: with newWithOld and oldWithNew during a rollover of the root.
    pub fn ca_certificates(&self, now: UnixSecs) -> Result<Vec<Vec<u8>>, RoleError> {
        Ok(self.generations()?.certificates(now))
    }

    /// What a path from a client's certificate may end at, as the TLS handshake sees it (DER). More than
    /// [`Issuer::ca_certificates`]: the CA knows each certificate of its own byte for byte.
    ///
    /// # Errors
    /// The store's failure.
    pub fn client_anchors(&self, now: UnixSecs) -> Result<Vec<Vec<u8>>, RoleError> {
        Ok(self.generations()?.of_clients(now))
    }
}

/// Whether a certificate is within its validity.
fn is_valid(cert: &[u8], now: UnixSecs) -> bool {
    CertView::from_der(cert)
        .is_ok_and(|view| (view.not_before_secs..=view.not_after_secs).contains(&now.0))
}

/// A failure of ours as the peer may know it.
pub(crate) fn environment(e: RoleError) -> EstDenial {
    match e {
        RoleError::Store(e) if e.is_retryable() => EstDenial::Unavailable(e.code()),
        e => EstDenial::Failed(e.code()),
    }
}

/// Why issuance, which CMP shares, refused.
fn refused(denial: CmpDenial) -> EstDenial {
    use IssueDenied::{Build, Crypto, Lint};
    match denial {
        CmpDenial::Issue(ours @ (Lint(_) | Build(_) | Crypto(_))) => EstDenial::Failed(ours.code()),
        CmpDenial::Issue(denied) => EstDenial::Issue(denied),
        CmpDenial::Unavailable(code) => EstDenial::Unavailable(code),
        other => EstDenial::Failed(other.code()),
    }
}

/// Name and sealing purpose of the server's key.
const SERVER_KEY: &str = "ca est key";
/// Name of the server's certificate.
const SERVER_CERT: &str = "ca est certificate";
