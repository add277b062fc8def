//! Why a CMP request is refused, and the one mapping to what the peer is told.

use tegata_crypto::chain::ChainError;
use tegata_crypto::crmf::CrmfError;
use tegata_crypto::csr::CsrError;
use tegata_wire::cmp::{BodyKind, CmpError, PkiFailureInfo};

use crate::ca::issue::IssueDenied;

/// Why a request is refused. The peer sees [`CmpDenial::failure`] and [`CmpDenial::peer_text`];
/// the log gets the whole.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CmpDenial {
    /// Not a PKIMessage, or above a limit.
    #[error("the message is malformed: {0}")]
    Malformed(CmpError),
    /// A body that this CA does not serve.
    #[error("the request is a {got:?}, which this CA does not serve")]
    Body {
        /// The kind found.
        got: BodyKind,
    },
    /// Several requests in one message, or none.
    #[error("the message has {got} requests; exactly one is served")]
    Requests {
        /// How many.
        got: usize,
    },
    /// A certReqId other than 0.
    #[error("certReqId is {got}; RFC 9483 wants 0")]
    RequestId {
        /// The number found.
        got: i64,
    },
    /// No transactionID, or one that is too short to tell transactions apart.
    #[error("transactionID has {got} bytes, at least {min} are needed")]
    TransactionId {
        /// Length found in bytes; 0 if absent.
        got: usize,
        /// Length needed in bytes.
        min: usize,
    },
    /// No senderNonce, or one that is too short.
    #[error("senderNonce has {got} bytes, at least {min} are needed")]
    SenderNonce {
        /// Length found in bytes; 0 if absent.
        got: usize,
        /// Length needed in bytes.
        min: usize,
    },
    /// A protection algorithm that is not accepted for this.
    #[error("the protection algorithm is not accepted")]
    ProtectionAlg,
    /// Not authenticated. The cause is for the log alone.
    #[error("the request is not authenticated: {0}")]
    NotAuthenticated(#[source] NotAuthenticated),
    /// Signed by a certificate that is revoked.
    #[error("the certificate that signed the request is revoked")]
    SignerRevoked,
    /// Signed by a certificate that is on hold: that may be lifted.
    #[error("the certificate that signed the request is on hold")]
    SignerHeld,
    /// The profile in the URL is not one that the asker may have, or not the one that the request
    /// says.
    #[error(
        "the URL names the profile {asked:?}, the asker may have {expected}, or the request says another"
    )]
    Profile {
        /// Profile in the URL.
        asked: String,
        /// Profiles that the asker may have.
        expected: String,
    },
    /// MAC where a signature is needed, or the reverse.
    #[error("this request needs the signature of a certificate")]
    WrongProtection,
    /// The path is for another kind of request.
    #[error("the path is for {expected}, the request is a {got:?}")]
    Path {
        /// What the path is for.
        expected: &'static str,
        /// The kind found.
        got: BodyKind,
    },
    /// A certificate is not revoked.
    #[error("the certificate is not revoked: {0}")]
    Revoke(#[source] RevokeDenied),
    /// A question about the CA that is not answered.
    #[error("the general message is {0}")]
    Info(&'static str),
    /// Lists that no message has room for.
    #[error("the lists have {got} bytes, a message has room for {max}")]
    ListsTooLong {
        /// Length of all of them together, bytes.
        got: usize,
        /// Most that are sent, bytes.
        max: usize,
    },
    /// A pollReq for what nobody waits for.
    #[error("no request awaits this poll")]
    NothingWaiting,
    /// The certification request is refused.
    #[error("the certification request is refused: {0}")]
    Issue(#[source] IssueDenied),
    /// A certConf for a transaction that is not pending.
    #[error("no certificate awaits this confirmation")]
    NothingPending,
    /// The recipNonce is not the one we sent.
    #[error("recipNonce is not the nonce of our response")]
    RecipientNonce,
    /// A certConf that names another certificate, request or hash algorithm.
    #[error("certConf does not name the certificate that was sent")]
    WrongCertificate,
    /// The CA cannot answer now; nothing was lost.
    #[error("the CA cannot answer now: {0}")]
    Unavailable(&'static str),
    /// A failure in the CA itself.
    #[error("the CA failed: {0}")]
    Failed(&'static str),
}

/// Why a certificate is not revoked although its device asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RevokeDenied {
    /// The device has no such certificate.
    #[error("the device has no certificate of this issuer and serial number")]
    NoCertificate,
    /// Another certificate than the one that asks, of a profile that does not let certificates ask.
    #[error("by its profile the certificate can be revoked by its own signature alone")]
    OtherCertificate,
    /// Who asks has ended.
    #[error("the certificate that signed the request has ended")]
    SignerEnded,
    /// A reason that is not a device's to give: a hold, the end of one, another's compromise.
    #[error("the reason is not one that a device may give")]
    Reason,
    /// A critical extension of the entry that is not known.
    #[error("a critical extension of the list's entry is not known")]
    Extension,
}

/// Why a request is not authenticated: for the log, never for the peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotAuthenticated {
    /// No protection at all.
    #[error("there is no MAC")]
    Unprotected,
    /// senderKID is absent or not of our form.
    #[error("senderKID is not of the form of this CA")]
    KeyId,
    /// No such release, device, or a release that this device was never given.
    #[error("no key belongs to this senderKID")]
    UnknownKey,
    /// The MAC is wrong.
    #[error("the MAC does not verify")]
    Mac,
    /// The first of extraCerts is not, byte for byte, a certificate of this CA.
    #[error("the first certificate in extraCerts is not one of this CA")]
    UnknownCertificate,
    /// No path leads from it to a maker who may speak for the device.
    #[error("no maker vouches for the certificate that signed: {0}")]
    MakerPath(ChainError),
    /// A maker's certificate that is for something else than to ask: of a server, of code, of mail.
    #[error("the maker's certificate has an extKeyUsage without clientAuth")]
    MakerUsage,
    /// Its key is not for signatures.
    #[error("the certificate's key usage has no digitalSignature")]
    KeyUsage,
    /// The signature is wrong.
    #[error("the signature does not verify")]
    Signature,
    /// sender or senderKID are not those of the certificate.
    #[error("sender or senderKID is not that of the certificate that signed")]
    Sender,
    /// The renewal token is of another device, key or certificate, or its MAC is wrong.
    #[error("the renewal token does not vouch for this request")]
    RenewalToken,
}

impl CmpDenial {
    /// PKIFailureInfo for the peer.
    #[must_use]
    pub fn failure(&self) -> PkiFailureInfo {
        use PkiFailureInfo as F;
        match self {
            Self::Malformed(CmpError::Version { .. }) => F::UNSUPPORTED_VERSION,
            Self::Malformed(CmpError::ProtectionParameters) | Self::ProtectionAlg => F::BAD_ALG,
            Self::Malformed(
                CmpError::Der(_)
                | CmpError::X509(_)
                | CmpError::TooLarge { .. }
                | CmpError::BodyKind { .. }
                | CmpError::UnknownBody { .. }
                | CmpError::ProtectionMismatch
                | CmpError::Empty { .. },
            ) => F::BAD_DATA_FORMAT,
            // `CmpError` may grow: what is not known here is still a malformed message.
            Self::Malformed(_) => F::BAD_DATA_FORMAT,
            Self::Body { .. }
            | Self::Requests { .. }
            | Self::NothingPending
            | Self::Profile { .. } => F::BAD_REQUEST,
            Self::TransactionId { .. } | Self::RequestId { .. } => F::BAD_DATA_FORMAT,
            Self::SenderNonce { .. } => F::BAD_SENDER_NONCE,
            Self::NotAuthenticated(
                NotAuthenticated::Unprotected
                | NotAuthenticated::KeyId
                | NotAuthenticated::UnknownKey
                | NotAuthenticated::Mac
                | NotAuthenticated::Signature
                | NotAuthenticated::Sender
                | NotAuthenticated::RenewalToken,
            ) => F::BAD_MESSAGE_CHECK,
            Self::NotAuthenticated(
                NotAuthenticated::UnknownCertificate
                | NotAuthenticated::MakerPath(_)
                | NotAuthenticated::MakerUsage
                | NotAuthenticated::KeyUsage,
            ) => F::SIGNER_NOT_TRUSTED,
            Self::SignerRevoked | Self::SignerHeld => F::CERT_REVOKED,
            Self::WrongProtection => F::WRONG_INTEGRITY,
            Self::Path { .. }
            | Self::Info(_)
            | Self::ListsTooLong { .. }
            | Self::NothingWaiting => F::BAD_REQUEST,
            Self::Revoke(RevokeDenied::NoCertificate) => F::BAD_CERT_ID,
            Self::Revoke(RevokeDenied::OtherCertificate) => F::NOT_AUTHORIZED,
            Self::Revoke(RevokeDenied::SignerEnded) => F::SIGNER_NOT_TRUSTED,
            Self::Revoke(RevokeDenied::Reason) => F::BAD_REQUEST,
            Self::Revoke(RevokeDenied::Extension) => F::UNACCEPTED_EXTENSION,
            Self::RecipientNonce => F::BAD_RECIPIENT_NONCE,
            Self::WrongCertificate => F::BAD_CERT_ID,
            Self::Unavailable(_) => F::SYSTEM_UNAVAIL,
            Self::Failed(_) => F::SYSTEM_FAILURE,
            Self::Issue(denied) => issue_failure(denied),
        }
    }

    /// The text for the peer: fixed words, nothing of our state.
    #[must_use]
    pub fn peer_text(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "the message could not be read",
            Self::Body {
                got: BodyKind::Nested,
            } => "nested messages are not served; send the message itself",
            Self::Body { .. } => "this kind of request is not served here",
            Self::WrongProtection => "this request needs the signature of a certificate",
            Self::Path { .. } => "this path is for another kind of request",
            Self::Revoke(RevokeDenied::NoCertificate) => "this device has no such certificate",
            Self::Revoke(RevokeDenied::SignerEnded) => {
                "the certificate that signed the request has ended"
            }
            Self::Revoke(RevokeDenied::OtherCertificate) => {
                "this certificate can be revoked by its own signature alone"
            }
            Self::Revoke(RevokeDenied::Reason) => "the reason is not one that a device may give",
            Self::Revoke(RevokeDenied::Extension) => "an extension is not known",
            Self::Info(_) => "this question is not answered; ask one at a time",
            Self::ListsTooLong { .. } => "too long for a message; fetch the list by HTTP",
            Self::NothingWaiting => "no request awaits this poll",
            Self::Requests { .. } => "exactly one request in a message is served",
            Self::RequestId { .. } => "certReqId must be 0",
            Self::TransactionId { .. } => "a transactionID of at least 16 bytes is needed",
            Self::SenderNonce { .. } => "a senderNonce of at least 16 bytes is needed",
            Self::ProtectionAlg => "this protection is not accepted",
            Self::NotAuthenticated(_) => "the request could not be authenticated",
            Self::SignerRevoked => "the certificate that signed the request is revoked",
            Self::SignerHeld => "the certificate that signed the request is on hold",
            Self::Profile { .. } => {
                "the profile is not one that this device may have, or not the one of the request"
            }
            Self::Issue(denied) => denied.peer_text(),
            Self::NothingPending => "no certificate awaits this confirmation",
            Self::RecipientNonce => "recipNonce is not the nonce of the response",
            Self::WrongCertificate => "the confirmation names another certificate",
            Self::Unavailable(_) => "try again later with the same request",
            Self::Failed(_) => "the CA failed; try again later with the same request",
        }
    }

    /// Stable label for metrics and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::Body { .. } => "body",
            Self::Requests { .. } => "requests",
            Self::RequestId { .. } => "request-id",
            Self::TransactionId { .. } => "transaction-id",
            Self::SenderNonce { .. } => "sender-nonce",
            Self::ProtectionAlg => "protection-alg",
            Self::NotAuthenticated(_) => "not-authenticated",
            Self::SignerRevoked => "signer-revoked",
            Self::SignerHeld => "signer-held",
            Self::WrongProtection => "wrong-protection",
            Self::Path { .. } => "path",
            Self::Revoke(_) => "revoke",
            Self::Info(_) => "info",
            Self::ListsTooLong { .. } => "lists-too-long",
            Self::NothingWaiting => "nothing-waiting",
            Self::Profile { .. } => "profile",
            Self::Issue(denied) => denied.code(),
            Self::NothingPending => "nothing-pending",
            Self::RecipientNonce => "recipient-nonce",
            Self::WrongCertificate => "wrong-certificate",
            Self::Unavailable(_) => "unavailable",
            Self::Failed(_) => "failed",
        }
    }
}

fn issue_failure(denied: &IssueDenied) -> PkiFailureInfo {
    use PkiFailureInfo as F;
    match denied {
        IssueDenied::Csr(CsrError::Malformed(_)) => F::BAD_DATA_FORMAT,
        IssueDenied::Csr(CsrError::AlgMismatch) => F::BAD_ALG,
        IssueDenied::Csr(CsrError::Crypto(_)) => F::BAD_POP,
        // As above: an unknown refusal of the request's own signature.
        IssueDenied::Csr(_) => F::BAD_POP,
        IssueDenied::Crmf(CrmfError::Malformed(_)) => F::BAD_DATA_FORMAT,
        IssueDenied::Crmf(CrmfError::NoKey) => F::BAD_CERT_TEMPLATE,
        IssueDenied::Crmf(CrmfError::AlgMismatch) => F::BAD_ALG,
        // No signature of the key, or a wrong one; what is not known yet included.
        IssueDenied::Crmf(_) => F::BAD_POP,
        IssueDenied::KeyAlg { .. } => F::BAD_ALG,
        IssueDenied::Subject
        | IssueDenied::AltNames
        | IssueDenied::Attribute
        | IssueDenied::Template(_) => F::BAD_CERT_TEMPLATE,
        IssueDenied::Means(_)
        | IssueDenied::SecretSpent(_)
        | IssueDenied::NonceUsed
        | IssueDenied::NonceOld
        | IssueDenied::NotApproved
        | IssueDenied::Rejected => F::NOT_AUTHORIZED,
        IssueDenied::TooManyWaiting(_) => F::SYSTEM_UNAVAIL,
        IssueDenied::SignerEnded => F::SIGNER_NOT_TRUSTED,
        IssueDenied::SignerRevoked => F::CERT_REVOKED,
        // It passes: the same request may be answered later.
        IssueDenied::DailyLimit(_) => F::SYSTEM_UNAVAIL,
        IssueDenied::OldCertificate(_) => F::BAD_CERT_ID,
        IssueDenied::OtherProfile(_) => F::DUPLICATE_CERT_REQ,
        IssueDenied::Extension(_) => F::UNACCEPTED_EXTENSION,
        IssueDenied::Identity(_) => F::NOT_AUTHORIZED,
        IssueDenied::KeyReuse | IssueDenied::DeviceRevoked | IssueDenied::Stopped(_) => {
            F::NOT_AUTHORIZED
        }
        IssueDenied::Revoked => F::CERT_REVOKED,
        IssueDenied::ProfileChanged(_) => F::UNACCEPTED_POLICY,
        IssueDenied::Return(_) => F::NOT_AUTHORIZED,
        IssueDenied::Lint(_) | IssueDenied::Build(_) | IssueDenied::Crypto(_) => F::SYSTEM_FAILURE,
    }
}
