//! Decoding and authenticating a request.

use tegata_crypto::cmp::{CmpError as ProtectionError, MacKind, MacLimits, verify_mac};
use tegata_crypto::csr_auth::device_csr_auth_key;
use tegata_crypto::{CryptoError, Provider, Secret};
use tegata_wire::cmp::{
    BodyKind, CertStatus, NONCE_BYTES, PkiHeader, ProtectionAlg, UnverifiedPkiMessage,
};
use tegata_wire::enrolment::SenderKid;
use tegata_wire::ids::{ReleaseDigest, Ueid};

use super::denial::{CmpDenial, NotAuthenticated};

/// A request as it came: well-formed, nothing in it believed.
#[derive(Debug)]
pub struct AllegedRequest {
    message: UnverifiedPkiMessage,
    lookup: Option<SenderKid>,
    body: RequestBody,
}

/// The bodies this CA serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestBody {
    /// A PKCS#10 request (DER, as received).
    P10cr(Vec<u8>),
    /// A confirmation; empty means that every certificate is refused.
    CertConf(Vec<CertStatus>),
}

/// The key that belongs to a senderKID, if there is one.
#[derive(Debug, Clone, Copy)]
pub struct Credential<'a> {
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

/// Proof that a request was made by the TA of this release on this device.
#[derive(Debug)]
#[must_use]
pub struct Authenticated {
    ueid: Ueid,
    release: ReleaseDigest,
    body: RequestBody,
}

impl AllegedRequest {
    /// Whose key to look up; `None` if the senderKID is not of our form (then no key is found,
    /// and [`authenticate`] says so like for any other unknown key).
    #[must_use]
    pub fn lookup(&self) -> Option<&SenderKid> {
        self.lookup.as_ref()
    }

    /// The header, for the answer.
    #[must_use]
    pub fn header(&self) -> &PkiHeader {
        self.message.header()
    }

    /// Whether it is a confirmation.
    #[must_use]
    pub fn is_confirmation(&self) -> bool {
        matches!(self.body, RequestBody::CertConf(_))
    }
}

impl Authenticated {
    /// The device whose key authenticated the request.
    #[must_use]
    pub fn ueid(&self) -> &Ueid {
        &self.ueid
    }

    /// The release whose TA made it.
    #[must_use]
    pub fn release(&self) -> &ReleaseDigest {
        &self.release
    }

    /// What it asks.
    #[must_use]
    pub fn body(&self) -> &RequestBody {
        &self.body
    }

    /// Takes it apart.
    pub(crate) fn into_parts(self) -> (Ueid, ReleaseDigest, RequestBody) {
        (self.ueid, self.release, self.body)
    }
}

/// Reads a request within the limits of `tegata_wire::cmp`.
///
/// # Errors
/// What is wrong with its form; nothing depends on our state.
pub fn decode(bytes: &[u8]) -> Result<AllegedRequest, CmpDenial> {
    let message = UnverifiedPkiMessage::from_der(bytes).map_err(CmpDenial::Malformed)?;
    let header = message.header();
    let len = |o: &Option<der::asn1::OctetString>| o.as_ref().map_or(0, |o| o.as_bytes().len());
    let got = len(&header.transaction_id);
    if got < NONCE_BYTES {
        return Err(CmpDenial::TransactionId {
            got,
            min: NONCE_BYTES,
        });
    }
    let got = len(&header.sender_nonce);
    if got < NONCE_BYTES {
        return Err(CmpDenial::SenderNonce {
            got,
            min: NONCE_BYTES,
        });
    }
    let body = match message.kind() {
        BodyKind::P10cr => {
            let csr = message.body().p10cr_csr().map_err(CmpDenial::Malformed)?;
            RequestBody::P10cr(csr.to_vec())
        }
        BodyKind::CertConf => {
            let list = message
                .body()
                .cert_conf_content()
                .map_err(CmpDenial::Malformed)?;
            RequestBody::CertConf(list.into_vec())
        }
        got => return Err(CmpDenial::Body { got }),
    };
    let lookup = header
        .sender_kid
        .as_ref()
        .and_then(|kid| SenderKid::parse(kid.as_bytes()).ok());
    Ok(AllegedRequest {
        message,
        lookup,
        body,
    })
}

/// Verifies the MAC with the key that belongs to the senderKID.
///
/// Without a credential the same work is done with a key of zeros and the answer is the same.
///
/// # Errors
/// `ProtectionAlg` for a MAC that is not accepted; `NotAuthenticated` for everything else.
pub fn authenticate(
    provider: &dyn Provider,
    alleged: AllegedRequest,
    credential: Option<Credential<'_>>,
    policy: MacPolicy,
) -> Result<Authenticated, CmpDenial> {
    let AllegedRequest {
        message,
        lookup,
        body,
    } = alleged;
    let denied = |cause| CmpDenial::NotAuthenticated(cause);
    let header = message.header();
    let (Some(algorithm), Some(mac)) = (&header.protection_alg, message.protection()) else {
        return Err(denied(NotAuthenticated::Unprotected));
    };
    let alg = ProtectionAlg::from_identifier(algorithm).map_err(CmpDenial::Malformed)?;
    if !accepted(&alg, policy) {
        return Err(CmpDenial::ProtectionAlg);
    }
    let part = message.protected_part().map_err(CmpDenial::Malformed)?;
    let found = lookup.zip(credential);
    let (ueid, release, key) = match &found {
        Some((lookup, c)) => (lookup.ueid, c.release, key_of(provider, c, &lookup.ueid)),
        // A key of zeros for nobody: the same derivation, so that the time is the same.
        None => {
            let nobody = Ueid::from_random([0; 16]);
            let release = ReleaseDigest([0; 32]);
            let master = Secret::new([0; 32]);
            let c = Credential {
                release,
                master: &master,
                shared_by_release: false,
            };
            (nobody, release, key_of(provider, &c, &nobody))
        }
    };
    let key = key.map_err(|_| CmpDenial::Failed("key derivation"))?;
    let verified = verify_mac(
        provider,
        &alg,
        key.expose_secret(),
        &part,
        mac,
        &MacLimits::default(),
    );
    if found.is_none() {
        return Err(denied(match lookup {
            None => NotAuthenticated::KeyId,
            Some(_) => NotAuthenticated::UnknownKey,
        }));
    }
    match verified.map(|proof| proof.kind()) {
        Ok(MacKind::Hmac) => Ok(Authenticated {
            ueid,
            release,
            body,
        }),
        Ok(_) if policy.accept_password_based => Ok(Authenticated {
            ueid,
            release,
            body,
        }),
        Ok(_) => Err(CmpDenial::ProtectionAlg),
        Err(ProtectionError::UnsupportedAlgorithm | ProtectionError::BadParameters) => {
            Err(CmpDenial::ProtectionAlg)
        }
        Err(_) => Err(denied(NotAuthenticated::Mac)),
    }
}

/// The `CsrAuthKey` of a device under a release.
pub(crate) fn key_of(
    provider: &dyn Provider,
    credential: &Credential<'_>,
    ueid: &Ueid,
) -> Result<Secret<[u8; 32]>, CryptoError> {
    if credential.shared_by_release {
        return Ok(credential.master.dangerous_clone());
    }
    device_csr_auth_key(
        provider,
        credential.master,
        &credential.release.0,
        ueid.as_bytes(),
    )
}

fn accepted(alg: &ProtectionAlg, policy: MacPolicy) -> bool {
    match alg {
        ProtectionAlg::Hmac(hash) => *hash == tegata_wire::cmp::HashAlg::Sha256,
        ProtectionAlg::PasswordBasedMac(_) | ProtectionAlg::Pbmac1(_) => {
            policy.accept_password_based
        }
        ProtectionAlg::Signature(_) | ProtectionAlg::Other(_) => false,
        // Kinds that wire may learn later are not accepted before somebody decides so here.
        _ => false,
    }
}
