//! Who a request says it is from, and what the store has of that one.

use std::sync::Arc;

use tegata_authority::ca::cmp::{AllegedRequest, Authenticated, Claim, Credential};
use tegata_authority::ca::maker;
use tegata_authority::ca::means::{HeldCertificate, SecretUse};
use tegata_authority::profile::Authentication;
use tegata_crypto::Secret;
use tegata_crypto::chain::TrustAnchor;
use tegata_wire::enrolment::SenderKid;

use super::Issuer;
use super::releases::OpenRelease;
use crate::certificate::Certificate;
use crate::role::{Registered, RoleError, device_in, registered};
use crate::{StoreError, Tx, certificate, device, release, secret};

/// Whom a request says it is from. Nothing is proved by it.
pub(super) enum Alleged {
    /// A TA of this release. Its device is looked up once the MAC is right: a message that anybody can make
    /// costs no look into the registry.
    Ta(Arc<OpenRelease>),
    /// Somebody whose key is found by who it is.
    Known(Box<Requester>),
}

/// What the store has of the one whom a request is from.
pub(super) enum Requester {
    /// A release and a device: together they have a `CsrAuthKey`.
    Ta {
        release: Arc<OpenRelease>,
        device: Registered,
    },
    /// A certificate and its device; the release that the renewal token names, if there is one.
    Certificate {
        held: HeldCertificate,
        token: Option<Arc<OpenRelease>>,
        device: Registered,
    },
    /// An enrolment secret and its device.
    Secret(SecretHolder),
    /// A device that a maker's certificate names, and who may speak for it.
    Maker {
        device: Registered,
        anchors: Vec<TrustAnchor>,
    },
}

/// An enrolment secret, its text, and its device.
pub(crate) struct SecretHolder {
    pub(crate) what: SecretUse,
    pub(crate) text: Secret<Vec<u8>>,
    pub(crate) device: Registered,
}

impl Alleged {
    pub(super) fn credential(&self) -> Credential<'_> {
        match self {
            Self::Ta(release) => Credential::Ta(release.key()),
            Self::Known(requester) => requester.credential(),
        }
    }
}

impl Requester {
    fn credential(&self) -> Credential<'_> {
        match self {
            Self::Ta { release, .. } => Credential::Ta(release.key()),
            Self::Certificate { held, token, .. } => Credential::Certificate {
                held,
                token: token.as_ref().map(|release| release.key()),
            },
            Self::Secret(holder) => Credential::Secret {
                what: &holder.what,
                ueid: holder.device.row.ueid,
                text: &holder.text,
            },
            Self::Maker { device, anchors } => Credential::Maker {
                ueid: device.row.ueid,
                anchors,
            },
        }
    }

    pub(super) fn device(&self) -> &Registered {
        match self {
            Self::Ta { device, .. }
            | Self::Certificate { device, .. }
            | Self::Maker { device, .. } => device,
            Self::Secret(holder) => &holder.device,
        }
    }

    /// The release whose TA it is, where a TA is said to speak.
    pub(super) fn release(&self) -> Option<&OpenRelease> {
        match self {
            Self::Ta { release, .. } => Some(release),
            Self::Certificate { token, .. } => token.as_deref(),
            Self::Secret(_) | Self::Maker { .. } => None,
        }
    }
}

impl Issuer {
    /// Whom that may be; `None` if nobody is known by that key.
    pub(super) fn alleged(&self, request: &AllegedRequest) -> Result<Option<Alleged>, RoleError> {
        if let Claim::Ta(kid) = request.claim() {
            return Ok(self.release_of(kid)?.map(Alleged::Ta));
        }
        Ok(self.known(request)?.map(Box::new).map(Alleged::Known))
    }

    /// Who that is, its request being authenticated; `None` if the registry has no such device. Who has a
    /// release's key can make the key of a device that there is not.
    pub(super) fn requester(
        &self,
        alleged: Alleged,
        request: &Authenticated,
    ) -> Result<Option<Requester>, RoleError> {
        let release = match alleged {
            Alleged::Known(requester) => return Ok(Some(*requester)),
            Alleged::Ta(release) => release,
        };
        let store = &self.role.store;
        let device = store.read("look up", |tx| device_in(tx, request.ueid()))?;
        // What has no TEE has no TA: its key could only be somebody else's.
        let device = device.filter(|device| device.endorsed.tee().is_some());
        Ok(device.map(|device| Requester::Ta { release, device }))
    }

    /// Who is found by who it is.
    fn known(&self, alleged: &AllegedRequest) -> Result<Option<Requester>, RoleError> {
        match alleged.claim() {
            Claim::Certificate { serial } => {
                let held = self.role.store.read("look up", |tx| held(tx, serial))?;
                let Some((held, device)) = held else {
                    return self.named_by_maker(alleged);
                };
                // What has no TEE has no TA that could vouch for a key.
                let vouched = alleged.token().filter(|_| device.endorsed.tee().is_some());
                let token = match vouched {
                    Some(token) => self.release_of(&token.kid)?,
                    None => None,
                };
                Ok(Some(Requester::Certificate {
                    held,
                    token,
                    device,
                }))
            }
            Claim::Secret(id) => {
                // Nobody makes the CA run a password's rounds for a profile that takes no secrets.
                let taken = |what: &SecretUse| {
                    let profile = self.profiles.find(&what.profile);
                    profile.is_some_and(|profile| profile.allows(Authentication::Secret))
                };
                let found = self.secret_holder(id)?;
                let found = found.filter(|holder| taken(&holder.what));
                Ok(found.map(Requester::Secret))
            }
            _ => Ok(None),
        }
    }

    /// The one registered device that a certificate of somebody else's CA names, if a maker may speak for it.
    fn named_by_maker(&self, alleged: &AllegedRequest) -> Result<Option<Requester>, RoleError> {
        let takes_any = self
            .profiles
            .iter()
            .any(|p| p.allows(Authentication::Maker));
        let shown = alleged.shown_certificate().filter(|_| takes_any);
        let Some(serial) = shown.and_then(maker::named_serial) else {
            return Ok(None);
        };
        let device = self.role.store.read("look up", |tx| {
            let mut found = device::find_by_serial(tx, &serial)?;
            let one = found.pop().filter(|_| found.is_empty());
            registered(one)
        })?;
        Ok(device.and_then(|device| {
            let anchors: Vec<_> = maker::anchors_for(&self.makers, &device.row.model)
                .cloned()
                .collect();
            (!anchors.is_empty()).then_some(Requester::Maker { device, anchors })
        }))
    }

    /// The enrolment secret of that id, its text, and its device.
    pub(crate) fn secret_holder(&self, id: &str) -> Result<Option<SecretHolder>, RoleError> {
        let found = self.role.store.read("look up", |tx| {
            let Some(row) = secret::find(tx, id)? else {
                return Ok(None);
            };
            let device = registered(device::find_by_id(tx, row.device)?)?;
            Ok::<_, RoleError>(device.map(|device| (row, device)))
        })?;
        let Some((row, device)) = found else {
            return Ok(None);
        };
        let text = secret::open(&self.role, &row)?;
        let what = SecretUse {
            id: row.id,
            profile: row.profile,
        };
        Ok(Some(SecretHolder { what, text, device }))
    }

    /// The release of a senderKID, with its secrets.
    fn release_of(&self, kid: &SenderKid) -> Result<Option<Arc<OpenRelease>>, RoleError> {
        let prefix = &kid.release_prefix;
        let opened = self.opened.lock().map_err(|_| StoreError::Poisoned)?;
        if let Some(release) = opened.get(prefix) {
            return Ok(Some(Arc::clone(release)));
        }
        drop(opened);
        let row = self
            .role
            .store
            .read("look up", |tx| release::find_by_prefix(tx, prefix))?;
        row.map(|row| self.opened(&row)).transpose()
    }
}

/// The certificate of a serial number and its device; `None` for an intent.
pub(crate) fn held(
    tx: &Tx<'_>,
    serial: &[u8],
) -> Result<Option<(HeldCertificate, Registered)>, RoleError> {
    let Some(row) = certificate::find(tx, serial)? else {
        return Ok(None);
    };
    let device = registered(device::find_by_id(tx, row.intent.device)?)?;
    Ok(device.and_then(|device| {
        let held = held_by(row, &device)?;
        Some((held, device))
    }))
}

/// A row as the decisions see it; `None` for an intent.
pub(super) fn held_by(row: Certificate, device: &Registered) -> Option<HeldCertificate> {
    Some(HeldCertificate {
        ueid: device.row.ueid,
        der: row.der?,
        profile: row.intent.profile,
        standing: row.standing,
    })
}

/// The certificate of a serial number, whoever has it.
pub(super) fn held_certificate(
    tx: &Tx<'_>,
    serial: &[u8],
) -> Result<Option<HeldCertificate>, RoleError> {
    Ok(held(tx, serial)?.map(|(held, _)| held))
}
