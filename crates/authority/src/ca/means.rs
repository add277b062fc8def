//! Who asks the CA for something, and by what means that was proved.

use tegata_wire::ids::{ReleaseDigest, Ueid};
use tegata_wire::x509::{CertView, X509Error};

use super::cmp::{CmpDenial, RequestBody, decode_body};
use super::maker::MakerCertificate;
use super::revocation::Standing;
use crate::profile::Authentication;

/// What proved who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Means {
    /// The `CsrAuthKey` of the device's TA of this release.
    Ta(ReleaseDigest),
    /// The key of a certificate of this CA.
    Certificate(Holder),
    /// An enrolment secret.
    Secret(SecretUse),
    /// Evidence in the request, appraised and good.
    Evidence(EvidenceUse),
    /// The key of a certificate of the device's maker.
    Maker(MakerCertificate),
}

/// Evidence that was appraised with the request that it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceUse {
    /// The server's nonce that it was made for: good for one request.
    pub nonce: [u8; 32],
    /// Whether the nonce's time is over: then it may repeat what was asked before, and ask for nothing new.
    pub stale: bool,
    /// SHA-256 of the evidence.
    pub digest: [u8; 32],
}

/// An enrolment secret that was shown: it is for one device, and for one profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretUse {
    /// Its id.
    pub id: String,
    /// The profile that it is for.
    pub profile: String,
}

/// Who holds the key of a certificate of this CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// Serial number of the certificate.
    pub serial: Vec<u8>,
    /// Its profile.
    pub profile: String,
    /// The release whose TA vouched that the new key is in the TEE (`RenewalToken`); `None` if the
    /// signature alone speaks: a key signs what its application asks for.
    pub ta: Option<ReleaseDigest>,
    /// The certificate has expired or another took its place: it may repeat what was asked before,
    /// and ask for nothing new.
    pub ended: bool,
}

impl Means {
    /// A name for the store: who began a transaction goes on with it by the same means.
    #[must_use]
    pub fn label(&self) -> String {
        match self {
            // A TA may be updated between its request and its confirmation.
            Self::Ta(_) => "ta".into(),
            Self::Certificate(holder) => format!("certificate {}", hex::encode(&holder.serial)),
            Self::Secret(secret) => format!("secret {}", secret.id),
            Self::Evidence(_) => "evidence".into(),
            Self::Maker(shown) => format!("maker {}", hex::encode(shown.fingerprint)),
        }
    }

    /// What a profile calls it.
    #[must_use]
    pub fn authentication(&self) -> Authentication {
        match self {
            Self::Ta(_) => Authentication::Ta,
            Self::Certificate(holder) if holder.ta.is_some() => Authentication::Ta,
            Self::Certificate(_) => Authentication::Certificate,
            Self::Secret(_) => Authentication::Secret,
            Self::Evidence(_) => Authentication::Evidence,
            Self::Maker(_) => Authentication::Maker,
        }
    }

    /// The release whose TA made the request, if a TA did.
    #[must_use]
    pub fn release(&self) -> Option<&ReleaseDigest> {
        match self {
            Self::Ta(release) => Some(release),
            Self::Certificate(holder) => holder.ta.as_ref(),
            Self::Secret(_) | Self::Evidence(_) | Self::Maker(_) => None,
        }
    }

    /// SHA-256 of the evidence, if that proved who asks.
    #[must_use]
    pub fn evidence(&self) -> Option<&[u8; 32]> {
        match self {
            Self::Evidence(evidence) => Some(&evidence.digest),
            Self::Ta(_) | Self::Certificate(_) | Self::Secret(_) | Self::Maker(_) => None,
        }
    }

    /// Whether it was a certificate that has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        matches!(self, Self::Certificate(holder) if holder.ended)
    }
}

/// A certificate that this CA issued, as the store has it.
#[derive(Debug, Clone)]
pub struct HeldCertificate {
    /// Whose it is.
    pub ueid: Ueid,
    /// The certificate (DER).
    pub der: Vec<u8>,
    /// Its profile.
    pub profile: String,
    /// What the CA says of it.
    pub standing: Standing,
}

impl HeldCertificate {
    /// The certificate, read.
    ///
    /// # Errors
    /// Not for what this CA issued.
    pub fn view(&self) -> Result<CertView<'_>, X509Error> {
        CertView::from_der(&self.der)
    }
}

/// Proof that a request was made by who it says, and by what means.
#[derive(Debug)]
#[must_use]
pub struct Authenticated {
    ueid: Ueid,
    means: Means,
    body: RequestBody,
}

impl Authenticated {
    /// For the modules that authenticate: each says what it verified where it calls this.
    pub(crate) fn proven(ueid: Ueid, means: Means, body: RequestBody) -> Self {
        Self { ueid, means, body }
    }

    /// The device that asks.
    #[must_use]
    pub fn ueid(&self) -> &Ueid {
        &self.ueid
    }

    /// What proved it.
    #[must_use]
    pub fn means(&self) -> &Means {
        &self.means
    }

    /// What it asks.
    #[must_use]
    pub fn body(&self) -> &RequestBody {
        &self.body
    }

    /// The request that a poll is about: kept as it came (DER with its tag), when the same asker
    /// (by [`Means::label`]) was authenticated for it.
    ///
    /// # Errors
    /// `NothingWaiting` if this is no poll, or the request was another's; `Malformed`.
    pub fn polled(self, asker: &str, body_der: &[u8]) -> Result<Self, CmpDenial> {
        if !matches!(self.body, RequestBody::PollReq(_)) || self.means.label() != asker {
            return Err(CmpDenial::NothingWaiting);
        }
        let body = decode_body(body_der)?;
        Ok(Self { body, ..self })
    }

    /// Takes it apart.
    pub(crate) fn into_parts(self) -> (Ueid, Means, RequestBody) {
        (self.ueid, self.means, self.body)
    }
}
