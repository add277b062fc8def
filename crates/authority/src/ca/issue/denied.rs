//! Why a request gets no certificate.

use tegata_crypto::crmf::CrmfError;
use tegata_crypto::csr::CsrError;
use tegata_crypto::{CryptoError, KeyAlg};
use tegata_wire::enrolment::EnrolmentError;
use tegata_wire::x509::X509Error;

use crate::ca::attested::ReturnDenied;

/// Why a request gets no certificate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IssueDenied {
    /// The request's own signature or form.
    #[error("{0}")]
    Csr(CsrError),
    /// The request's form or proof of possession.
    #[error("{0}")]
    Crmf(CrmfError),
    /// The template or a control says what no request may say.
    #[error("the request has {0}, which is not accepted")]
    Template(&'static str),
    /// The profile does not let who asks so ask.
    #[error("the profile {0} wants another proof of who asks")]
    Means(String),
    /// Asked for something new, signed by a certificate that has ended.
    #[error("the certificate that signed the request has expired or was superseded")]
    SignerEnded,
    /// The certificate that signed was taken back while the request was looked at.
    #[error("the certificate that signed the request is revoked or on hold")]
    SignerRevoked,
    /// The device asked for more than anybody needs.
    #[error("the device got {0} certificates of the profile within a day, its daily_limit")]
    DailyLimit(u32),
    /// oldCertId is missing where it is needed, there where it is not, or of another certificate.
    #[error("oldCertId: {0}")]
    OldCertificate(&'static str),
    /// The enrolment secret is used up, or its time is over, or it is for another profile.
    #[error("the enrolment secret {0} gives no more certificates of this profile")]
    SecretSpent(String),
    /// The nonce of the evidence was used with another request.
    #[error("the nonce of the evidence was used with another request")]
    NonceUsed,
    /// The nonce of the evidence is too old for a request that is new.
    #[error("the time of the evidence's nonce is over")]
    NonceOld,
    /// The operator has not said yes.
    #[error("the request awaits the operator")]
    NotApproved,
    /// The operator said no.
    #[error("the operator rejected the request")]
    Rejected,
    /// Too many requests of the device await the operator.
    #[error("{0} requests of this device await the operator already")]
    TooManyWaiting(u32),
    /// The same request was answered before, on the path of another profile.
    #[error("this request has a certificate of the profile {0} already")]
    OtherProfile(String),
    /// The key's algorithm is not in the profile.
    #[error("the key is {got}, the profile {profile} does not allow it")]
    KeyAlg {
        /// Name of the profile.
        profile: String,
        /// Algorithm found.
        got: KeyAlg,
    },
    /// The subject is not that of the device.
    #[error("the subject is not that of the device whose key authenticated the request")]
    Subject,
    /// The alternative names are not those of the device.
    #[error("the alternative names are not those of the device")]
    AltNames,
    /// An extension that the profile does not give.
    #[error("the request asks for the extension {0}, which the profile does not give")]
    Extension(der::asn1::ObjectIdentifier),
    /// An attribute other than extensionRequest.
    #[error("the request has an attribute that is not accepted")]
    Attribute,
    /// The device lacks identity that the profile requires.
    #[error("the device cannot be named by the profile: {0}")]
    Identity(EnrolmentError),
    /// The profile was changed after the release was made.
    #[error("the profile {0} no longer says what the release was made with; make a new release")]
    ProfileChanged(String),
    /// The key is one of the device's own infrastructure keys.
    #[error("the key is already used for another purpose")]
    KeyReuse,
    /// The device is revoked or on hold.
    #[error("the device is revoked or on hold")]
    DeviceRevoked,
    /// The operator stopped issuance to such requests.
    #[error("the operator stopped issuance to such requests: stop {0}")]
    Stopped(i64),
    /// The certificate of this request is revoked or on hold.
    #[error("the certificate of this request is revoked or on hold")]
    Revoked,
    /// The device's certificate has ended, and it may not return.
    #[error("{0}")]
    Return(#[source] ReturnDenied),
    /// The bytes to be signed are not what they must be.
    #[error("the certificate to be signed fails the check \"{0}\"")]
    Lint(&'static str),
    /// The certificate cannot be built.
    #[error("the certificate cannot be built: {0}")]
    Build(X509Error),
    /// Key or generator failed.
    #[error("a key or the random generator failed: {0}")]
    Crypto(CryptoError),
}

impl IssueDenied {
    /// Whether the same request may be granted once an operator has lifted a hold. (A stop is of releases
    /// that are to be updated, and then another one asks.)
    #[must_use]
    pub fn may_pass(&self) -> bool {
        matches!(self, Self::DeviceRevoked | Self::Return(ReturnDenied::Held))
    }

    /// The text for the peer.
    #[must_use]
    pub fn peer_text(&self) -> &'static str {
        match self {
            Self::Csr(_) => "the signature of the certification request does not verify",
            Self::Crmf(_) => "the proof of possession does not verify",
            Self::Template(_) => "the request says what no request may say",
            Self::Means(_) => "this profile wants a request of the device's TA, or another proof",
            Self::SignerEnded => "the certificate that signed the request has ended",
            Self::SignerRevoked => "the certificate that signed the request is revoked or on hold",
            Self::DailyLimit(_) => "too many certificates within a day; try again tomorrow",
            Self::OldCertificate(_) => "oldCertId does not name the certificate to be updated",
            Self::SecretSpent(_) => "the enrolment secret gives no more certificates",
            Self::NonceUsed => "the nonce of the attestation was used with another request",
            Self::NonceOld => "the nonce of the attestation is too old; get a new one",
            Self::NotApproved => "the CA's operator has to approve this request",
            Self::Rejected => "the operator rejected the request",
            Self::TooManyWaiting(_) => "too many requests of this device await the operator",
            Self::OtherProfile(_) => "this request was answered for another profile",
            Self::KeyAlg { .. } => "the profile does not allow this kind of key",
            Self::Subject => "the subject is not that of this device",
            Self::AltNames => "the alternative names are not those of this device",
            Self::Extension(_) => "an extension is asked for that the profile does not give",
            Self::Attribute => "an attribute is not accepted",
            Self::Identity(_) => "the profile is not for this device",
            Self::ProfileChanged(_) => "the CA's profile changed; the device needs a new release",
            Self::KeyReuse => "the key is used for another purpose",
            Self::DeviceRevoked => "this device gets no certificates",
            Self::Stopped(_) => "no certificates are issued to such requests until further notice",
            Self::Revoked => "the certificate of this request is revoked",
            Self::Return(denied) => denied.peer_text(),
            Self::Lint(_) | Self::Build(_) | Self::Crypto(_) => "the CA failed; try again later",
        }
    }

    /// Stable label for metrics and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Csr(_) => "csr",
            Self::Crmf(_) => "crmf",
            Self::Template(_) => "template",
            Self::Means(_) => "means",
            Self::SignerEnded => "signer-ended",
            Self::SignerRevoked => "signer-revoked",
            Self::DailyLimit(_) => "daily-limit",
            Self::OldCertificate(_) => "old-certificate",
            Self::SecretSpent(_) => "secret-spent",
            Self::NonceUsed => "nonce-used",
            Self::NonceOld => "nonce-old",
            Self::NotApproved => "not-approved",
            Self::Rejected => "rejected",
            Self::TooManyWaiting(_) => "too-many-waiting",
            Self::OtherProfile(_) => "other-profile",
            Self::KeyAlg { .. } => "key-alg",
            Self::Subject => "subject",
            Self::AltNames => "alt-names",
            Self::Extension(_) => "extension",
            Self::Attribute => "attribute",
            Self::Identity(_) => "identity",
            Self::ProfileChanged(_) => "profile-changed",
            Self::KeyReuse => "key-reuse",
            Self::DeviceRevoked => "device-revoked",
            Self::Stopped(_) => "issuance-stopped",
            Self::Revoked => "revoked",
            Self::Return(denied) => denied.code(),
            Self::Lint(_) => "lint",
            Self::Build(_) => "build",
            Self::Crypto(_) => "crypto",
        }
    }
}
