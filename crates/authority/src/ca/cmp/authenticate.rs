//! Authenticating a request: its MAC, or its signature by a certificate of this CA or of the device's maker.

use tegata_crypto::chain::{Purpose, TrustAnchor, verify_chain};
use tegata_crypto::cmp::{
    CmpError as ProtectionError, MacKind, MacLimits, verify_mac, verify_signature,
};
use tegata_crypto::csr_auth::device_csr_auth_key;
use tegata_crypto::{CryptoError, Provider, PublicKey, Secret, ct_eq};
use tegata_wire::cmp::{HashAlg, ProtectionAlg, UnverifiedPkiMessage};
use tegata_wire::enrolment::{RenewalToken, SenderKid, token_input};
use tegata_wire::ids::{ReleaseDigest, Ueid};
use tegata_wire::x509::{CertView, DistinguishedName};

use super::denial::{CmpDenial, NotAuthenticated};
use super::request::{AllegedRequest, Claim, RequestBody};
use crate::UnixSecs;
use crate::ca::maker::{MakerCertificate, is_clients};
use crate::ca::means::{Authenticated, HeldCertificate, Holder, Means, SecretUse};
use crate::ca::revocation::{FinalReason, Standing};

/// What belongs to the one whom a request says it is from, if there is one.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub enum Credential<'a> {
    /// For [`Claim::Ta`].
    Ta(TaKey<'a>),
    /// For [`Claim::Certificate`].
    Certificate {
        /// The certificate of that serial number.
        held: &'a HeldCertificate,
        /// The key that the request's renewal token names, if it has one and the key is known.
        token: Option<TaKey<'a>>,
    },
    /// For [`Claim::Certificate`] that none of ours is: the device that it names.
    Maker {
        /// The device.
        ueid: Ueid,
        /// Who may speak for it.
        anchors: &'a [TrustAnchor],
    },
    /// For [`Claim::Secret`].
    Secret {
        /// Id and profile.
        what: &'a SecretUse,
        /// Whose it is.
        ueid: Ueid,
        /// The text, as bytes.
        text: &'a Secret<Vec<u8>>,
    },
}

/// A release's key, for the `CsrAuthKey` of its devices.
#[derive(Debug, Clone, Copy)]
pub struct TaKey<'a> {
    /// The whole digest of the release.
    pub release: ReleaseDigest,
    /// The release's master.
    pub master: &'a Secret<[u8; 32]>,
    /// Whether every device of the release shares the master itself (the paper's profile).
    pub shared_by_release: bool,
}

/// Which MACs are accepted besides HMAC-SHA256 directly under the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MacPolicy {
    /// PBMAC1 and PasswordBasedMac, for clients that know no other form of shared secret.
    pub accept_password_based: bool,
}

/// Verifies the protection with what belongs to the one whom the request says it is from.
///
/// Without a credential for the MAC of a TA the same work is done with a key of zeros and the answer
/// is the same. For an enrolment secret the answer alone is the same: its id is not secret, and for an
/// id that nobody has no rounds are run. Who has a certificate knows that it has one: nothing is
/// hidden there.
///
/// # Errors
/// `ProtectionAlg` for a protection that is not accepted; `SignerRevoked`, `SignerHeld`; `NotAuthenticated` for
/// everything else.
pub fn authenticate(
    provider: &dyn Provider,
    alleged: AllegedRequest,
    credential: Option<Credential<'_>>,
    policy: MacPolicy,
    now: UnixSecs,
) -> Result<Authenticated, CmpDenial> {
    let AllegedRequest {
        message,
        claim,
        body,
    } = alleged;
    let algorithm = message.header().protection();
    let alg = algorithm.map_err(CmpDenial::Malformed)?;
    let (Some(alg), Some(protection)) = (alg, message.protection()) else {
        return Err(denied(NotAuthenticated::Unprotected));
    };
    let part = message.protected_part().map_err(CmpDenial::Malformed)?;
    if let ProtectionAlg::Signature(_) = alg {
        let signed = Signed {
            provider,
            message: &message,
            alg,
            part,
            protection,
        };
        let (ueid, means) = match credential {
            Some(Credential::Certificate { held, token }) => {
                let holder = signed.by(held, token, &body, now)?;
                (held.ueid, Means::Certificate(holder))
            }
            Some(Credential::Maker { ueid, anchors }) => {
                (ueid, Means::Maker(signed.by_maker(anchors, now)?))
            }
            _ => return Err(denied(NotAuthenticated::UnknownCertificate)),
        };
        return Ok(Authenticated::proven(ueid, means, body));
    }
    // A secret that people carry is used as their programs do; a device's key is random and long.
    let password_based = policy.accept_password_based || matches!(claim, Claim::Secret(_));
    let limits = MacLimits::default();
    if !accepted(&alg, password_based) || !limits.allow(&alg) {
        return Err(CmpDenial::ProtectionAlg);
    }
    let found = match (&claim, credential) {
        (Claim::Ta(kid), Some(Credential::Ta(key))) => {
            let secret = key_of(provider, &key, &kid.ueid);
            let secret = secret.map_err(|_| CmpDenial::Failed("key derivation"))?;
            let bytes = Secret::new(secret.expose_secret().to_vec());
            Some((kid.ueid, Means::Ta(key.release), bytes))
        }
        (Claim::Secret(_), Some(Credential::Secret { what, ueid, text })) => {
            Some((ueid, Means::Secret(what.clone()), text.dangerous_clone()))
        }
        _ => None,
    };
    let secret = match (&found, &claim) {
        (Some((_, _, secret)), _) => secret.dangerous_clone(),
        (None, Claim::Secret(_)) => return Err(denied(NotAuthenticated::UnknownKey)),
        (None, _) => nobodys_key(provider)?,
    };
    let verified = verify_mac(
        provider,
        &alg,
        secret.expose_secret(),
        &part,
        protection,
        &limits,
    );
    let Some((ueid, means, _)) = found else {
        return Err(denied(match claim {
            Claim::Nobody => NotAuthenticated::KeyId,
            _ => NotAuthenticated::UnknownKey,
        }));
    };
    match verified.map(|proof| proof.kind()) {
        Ok(kind) if kind == MacKind::Hmac || password_based => {
            Ok(Authenticated::proven(ueid, means, body))
        }
        Ok(_) | Err(ProtectionError::UnsupportedAlgorithm | ProtectionError::BadParameters) => {
            Err(CmpDenial::ProtectionAlg)
        }
        Err(_) => Err(denied(NotAuthenticated::Mac)),
    }
}

/// A key of zeros for nobody, by the same derivation, so that the time is the same.
fn nobodys_key(provider: &dyn Provider) -> Result<Secret<Vec<u8>>, CmpDenial> {
    let zeros = Secret::new([0; 32]);
    let key = TaKey {
        release: ReleaseDigest([0; 32]),
        master: &zeros,
        shared_by_release: false,
    };
    let secret = key_of(provider, &key, &Ueid::from_random([0; 16]));
    let secret = secret.map_err(|_| CmpDenial::Failed("key derivation"))?;
    Ok(Secret::new(secret.expose_secret().to_vec()))
}

/// A message with a signature, not verified yet.
struct Signed<'a> {
    provider: &'a dyn Provider,
    message: &'a UnverifiedPkiMessage,
    alg: ProtectionAlg,
    part: Vec<u8>,
    protection: &'a [u8],
}

impl Signed<'_> {
    /// Checks that it is signed by a certificate of ours, and what that one may still do.
    fn by(
        &self,
        held: &HeldCertificate,
        token: Option<TaKey<'_>>,
        body: &RequestBody,
        now: UnixSecs,
    ) -> Result<Holder, CmpDenial> {
        let unreadable = |_| CmpDenial::Failed("a certificate of ours");
        // The very bytes that we issued: then its chain, names and key are ours to vouch for.
        let sent = self.message.extra_certs().first();
        if sent.is_none_or(|sent| sent.as_bytes() != held.der) {
            return Err(denied(NotAuthenticated::UnknownCertificate));
        }
        let view = held.view().map_err(unreadable)?;
        let usage = view.key_usage().map_err(unreadable)?;
        if usage.is_some_and(|bits| bits & DIGITAL_SIGNATURE == 0) {
            return Err(denied(NotAuthenticated::KeyUsage));
        }
        let key = PublicKey::from_spki_der(view.spki_der)
            .map_err(|_| CmpDenial::Failed("a certificate of ours"))?;
        self.check_signature(&key)?;
        self.check_sender(&view)?;
        // What another took the place of, or what has expired, may still repeat what it asked
        // before: the answer, or the confirmation of it, may have been lost.
        let ended = match held.standing {
            Standing::Good | Standing::Lifted { .. } => false,
            Standing::Revoked {
                reason: FinalReason::Superseded,
                ..
            } => true,
            // That it is revoked may be the very thing that it asks for, again.
            Standing::Revoked { .. } if matches!(body, RequestBody::Rr(_)) => true,
            Standing::Held { .. } => return Err(CmpDenial::SignerHeld),
            Standing::Revoked { .. } => return Err(CmpDenial::SignerRevoked),
        };
        let valid = (view.not_before_secs..=view.not_after_secs).contains(&now.0);
        let ta = match (body, token) {
            (RequestBody::Crmf(asked), key) if asked.token.is_some() => {
                let said = asked.token.as_ref().zip(key);
                Some(self.vouched(asked.message.request(), said, held)?)
            }
            _ => None,
        };
        Ok(Holder {
            serial: view.serial.to_vec(),
            profile: held.profile.clone(),
            ta,
            ended: ended || !valid,
        })
    }

    /// Checks that it is signed by a certificate that a maker vouches for.
    ///
    /// The signature is first: the path costs as many verifications as it has certificates.
    fn by_maker(
        &self,
        anchors: &[TrustAnchor],
        now: UnixSecs,
    ) -> Result<MakerCertificate, CmpDenial> {
        let unknown = |_| denied(NotAuthenticated::UnknownCertificate);
        let sent: Vec<&[u8]> = self
            .message
            .extra_certs()
            .iter()
            .map(|c| c.as_bytes())
            .collect();
        let (leaf, others) = sent
            .split_first()
            .ok_or_else(|| denied(NotAuthenticated::UnknownCertificate))?;
        let view = CertView::from_der(leaf).map_err(unknown)?;
        let key = PublicKey::from_spki_der(view.spki_der)
            .map_err(|_| denied(NotAuthenticated::UnknownCertificate))?;
        self.check_signature(&key)?;
        self.check_sender(&view)?;
        let end_entity = Purpose::EndEntity;
        let chain = verify_chain(self.provider, leaf, others, anchors, end_entity, now.0)
            .map_err(|e| denied(NotAuthenticated::MakerPath(e)))?;
        if !is_clients(&view) {
            return Err(denied(NotAuthenticated::MakerUsage));
        }
        Ok(MakerCertificate {
            fingerprint: self.provider.sha256(chain.leaf_der()),
            key: key.thumbprint(),
            issuer: DistinguishedName::from_der(view.issuer_der).map_err(unknown)?,
        })
    }

    fn check_signature(&self, key: &PublicKey) -> Result<(), CmpDenial> {
        let signed = verify_signature(self.provider, &self.alg, key, &self.part, self.protection);
        signed.map(drop).map_err(|e| match e {
            ProtectionError::UnsupportedAlgorithm | ProtectionError::BadParameters => {
                CmpDenial::ProtectionAlg
            }
            _ => denied(NotAuthenticated::Signature),
        })
    }

    /// sender and senderKID are those of the certificate. Spec: RFC 9483 section 3.1.
    fn check_sender(&self, view: &CertView<'_>) -> Result<(), CmpDenial> {
        let header = self.message.header();
        let name = header.sender_name();
        let kid = view.subject_key_id().ok().flatten();
        let named = name.is_some_and(|name| name.as_der() == view.subject_der);
        if !named || header.sender_kid().is_some_and(|said| Some(said) != kid) {
            return Err(denied(NotAuthenticated::Sender));
        }
        Ok(())
    }

    /// The release whose TA vouches for the new key. A token that is wrong is an attack or a fault:
    /// it does not count as none.
    fn vouched(
        &self,
        request: der::Result<tegata_wire::cmp::CertRequest>,
        said: Option<(&RenewalToken, TaKey<'_>)>,
        held: &HeldCertificate,
    ) -> Result<ReleaseDigest, CmpDenial> {
        use der::Encode as _;
        let wrong = || denied(NotAuthenticated::RenewalToken);
        let (token, key) = said.ok_or_else(wrong)?;
        let SenderKid { ueid, .. } = token.kid;
        let request = request.map_err(|e| CmpDenial::Malformed(e.into()))?;
        let spki = request
            .cert_template
            .public_key
            .and_then(|k| k.to_der().ok());
        let spki = spki.ok_or_else(wrong)?;
        let secret =
            key_of(self.provider, &key, &ueid).map_err(|_| CmpDenial::Failed("key derivation"))?;
        let input = token_input(
            &self.provider.sha256(&spki),
            &self.provider.sha256(&held.der),
        );
        let mac = self.provider.hmac_sha256(secret.expose_secret(), &input);
        // In the paper profile devices share a key: whose token it is is said by its name alone.
        if ueid != held.ueid || !ct_eq(&mac, &token.mac) {
            return Err(wrong());
        }
        Ok(key.release)
    }
}

/// The `CsrAuthKey` of a device under a release.
pub(crate) fn key_of(
    provider: &dyn Provider,
    key: &TaKey<'_>,
    ueid: &Ueid,
) -> Result<Secret<[u8; 32]>, CryptoError> {
    if key.shared_by_release {
        return Ok(key.master.dangerous_clone());
    }
    device_csr_auth_key(provider, key.master, &key.release.0, ueid.as_bytes())
}

fn accepted(alg: &ProtectionAlg, password_based: bool) -> bool {
    match alg {
        ProtectionAlg::Hmac(hash) => *hash == HashAlg::Sha256,
        ProtectionAlg::PasswordBasedMac(_) | ProtectionAlg::Pbmac1(_) => password_based,
        ProtectionAlg::Signature(_) | ProtectionAlg::Other(_) => false,
        // Kinds that wire may learn later are not accepted before somebody decides so here.
        _ => false,
    }
}

fn denied(cause: NotAuthenticated) -> CmpDenial {
    CmpDenial::NotAuthenticated(cause)
}

/// Bit 0 of keyUsage.
const DIGITAL_SIGNATURE: u16 = 1;
