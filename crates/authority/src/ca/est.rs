//! Enrolment over Secure Transport: who may ask for what, and the certificate of the server itself.
//!
//! Spec: RFC 7030 sections 3.3.1 and 4, RFC 9525, RFC 9908.

use tegata_crypto::{KeyAlg, PublicKey, Rng, Secret, Signer, ct_eq};
use tegata_wire::est::CsrAttrs;
use tegata_wire::ids::Ueid;
use tegata_wire::rats::RatsError;
use tegata_wire::x509::{
    AllegedCsr, AttributeSpec, CertBuilder, CertView, ExtensionSet, KeyUsages, NameBuilder,
    SanEntry, Validity, X509Error, assemble_certificate, encode_san, oid, usage,
};

use super::authority_cert::{Issuer, backdated, random_serial};
use super::cmp::RequestBody;
use super::issue::{ExpectedNames, IssueDenied, requested_extensions};
use super::means::{Authenticated, HeldCertificate, Holder, Means, SecretUse};
use super::revocation::{FinalReason, Standing};
use super::{CaCertError, signature_alg};
use crate::UnixSecs;
use crate::profile::{Authentication, Profile, Profiles};
use crate::tam::challenge::ChallengeDenied;
use crate::verifier::psa::PsaDenied;

mod evidence;

pub use evidence::{AllegedToken, Appraising, by_evidence, read_request};

/// What a client asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// `/simpleenroll`: a certificate.
    Enroll,
    /// `/simplereenroll`: one in place of the certificate that the client has shown.
    Reenroll,
}

/// Why an EST client does not get what it asks for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EstDenial {
    /// No profile is of this name, or none is named where there are several.
    #[error("no profile for the label {asked:?}; there are: {known}")]
    Profile {
        /// What the path says.
        asked: String,
        /// Names of the profiles.
        known: String,
    },
    /// The body is no certification request.
    #[error("malformed request: {0}")]
    Malformed(X509Error),
    /// Nobody has shown who asks; the profile takes secrets, or it does not.
    #[error("not authenticated: {cause}")]
    NotAuthenticated {
        /// For the log.
        cause: &'static str,
        /// Whether a secret would do.
        secret: bool,
        /// Whether evidence in the request would do.
        evidence: bool,
    },
    /// The certificate shown in the handshake does not count.
    #[error("the client's certificate {0}")]
    Certificate(&'static str),
    /// A renewal of a certificate of another profile.
    #[error("the client's certificate is of the profile {0}")]
    OtherProfile(String),
    /// A renewal that keeps the key, where the profile wants a new one.
    #[error("the request has the key of the certificate that is to be renewed")]
    SameKey,
    /// The request brings attestations of kinds that nobody here can appraise.
    #[error("attestations of the types {}", .0.join(", "))]
    Attestation(Vec<String>),
    /// The request brings several attestations.
    #[error("{0} attestations in one request")]
    Attestations(usize),
    /// What says to be a wrapped message is none.
    #[error("malformed attestation: {0}")]
    Wrapper(RatsError),
    /// The request brings evidence, and the profile takes none.
    #[error("the profile {0} takes no evidence")]
    EvidenceNotTaken(String),
    /// The request brings evidence, and something else that says who asks.
    #[error("evidence, and {0}")]
    TwoProofs(&'static str),
    /// The evidence is not good.
    #[error("evidence: {0}")]
    Evidence(#[from] PsaDenied),
    /// The evidence was made for a nonce that is not this CA's.
    #[error("evidence: {0}")]
    Nonce(ChallengeDenied),
    /// The request is understood, and refused.
    #[error("{0}")]
    Issue(#[from] IssueDenied),
    /// An operator has to decide: the same request is answered once they did.
    #[error("the request awaits an operator")]
    Waiting,
    /// The store is busy: the same request may succeed later.
    #[error("unavailable: {0}")]
    Unavailable(&'static str),
    /// Something of ours failed.
    #[error("failed: {0}")]
    Failed(&'static str),
}

impl EstDenial {
    /// Stable label for metrics and logs.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Profile { .. } => "profile",
            Self::Malformed(_) => "malformed",
            Self::NotAuthenticated { .. } => "not-authenticated",
            Self::Certificate(_) => "client-certificate",
            Self::OtherProfile(_) => "other-profile",
            Self::SameKey => "same-key",
            Self::Attestation(_) => "attestation",
            Self::Attestations(_) => "attestations",
            Self::Wrapper(_) => "attestation-malformed",
            Self::EvidenceNotTaken(_) => "evidence-not-taken",
            Self::TwoProofs(_) => "two-proofs",
            Self::Evidence(denied) => denied.code(),
            Self::Nonce(_) => "nonce-foreign",
            Self::Issue(denied) => denied.code(),
            Self::Waiting => "waiting",
            Self::Unavailable(code) | Self::Failed(code) => code,
        }
    }

    /// The text for the peer, a sentence.
    #[must_use]
    pub fn peer_text(&self) -> String {
        match self {
            Self::Profile { known, .. } => format!(
                "There is no such profile; put one of these after /.well-known/est/: {known}."
            ),
            Self::Malformed(_) => "This is no PKCS#10 request in DER.".into(),
            Self::NotAuthenticated { secret: true, .. } => {
                "Show a certificate of this CA in the TLS handshake, or send an enrolment secret: its \
                 id as the user name, its text as the password."
                    .into()
            }
            Self::NotAuthenticated { evidence: true, .. } => {
                "Show a certificate of this CA in the TLS handshake, or put evidence into the request."
                    .into()
            }
            Self::NotAuthenticated { .. } => {
                "Show a certificate of this CA in the TLS handshake.".into()
            }
            Self::Certificate(what) => format!("The certificate of the TLS handshake {what}."),
            Self::OtherProfile(name) => format!(
                "A certificate is renewed in its own profile; this one is of {name}."
            ),
            Self::SameKey => "A new certificate needs a new key in this profile.".into(),
            Self::Attestation(kinds) => format!(
                "This CA cannot appraise attestations of these types: {}.",
                kinds.join(", ")
            ),
            Self::Attestations(count) => {
                format!("The request has {count} attestations; send one.")
            }
            Self::Wrapper(_) => "The attestation is no CMW record in CBOR.".into(),
            Self::EvidenceNotTaken(name) => {
                format!("The profile {name} takes no evidence; leave the attestation out.")
            }
            Self::TwoProofs(other) => {
                format!("The request has an attestation and comes with {other}.")
            }
            Self::Evidence(denied) => denied.peer_text().into(),
            Self::Nonce(_) => {
                "The nonce of the attestation is not one of this CA; get one with the operation nonce."
                    .into()
            }
            Self::Issue(denied) => format!("Refused: {}.", denied.peer_text()),
            Self::Waiting => "An operator of the CA has to approve this; ask again later.".into(),
            Self::Unavailable(_) => "The CA has no room for this now; ask again later.".into(),
            Self::Failed(_) => "The CA failed; ask again later.".into(),
        }
    }
}

/// The profile that a path names; the only one where it names none.
///
/// # Errors
/// [`EstDenial::Profile`]. Which profiles there are is no secret: the answer says it.
pub fn profile_of<'a>(
    profiles: &'a Profiles,
    label: Option<&str>,
) -> Result<&'a Profile, EstDenial> {
    let mut all = profiles.iter();
    let found = match (label, all.next(), all.next()) {
        (Some(label), _, _) => profiles.find(label),
        (None, only, None) => only,
        (None, _, Some(_)) => None,
    };
    found.ok_or_else(|| EstDenial::Profile {
        asked: label.unwrap_or_default().chars().take(64).collect(),
        known: profiles
            .iter()
            .map(|profile| profile.name.as_str())
            .collect::<Vec<_>>()
            .join(", "),
    })
}

/// The device that has shown this certificate in the TLS handshake, and so proved to have its key.
///
/// `shown` is what the handshake verified, `held` what the store has of that serial number. What
/// another took the place of may repeat what it asked before, as over CMP.
///
/// # Errors
/// `Certificate`: it is not the very one that this CA issued, or it counts no more.
pub fn by_certificate(
    shown: &[u8],
    held: Option<&HeldCertificate>,
    csr: &AllegedCsr,
    now: UnixSecs,
) -> Result<Authenticated, EstDenial> {
    let denied = EstDenial::Certificate;
    let held = held
        .filter(|held| held.der == shown)
        .ok_or(denied("is not one of this CA"))?;
    let failed = |_| EstDenial::Failed("a certificate of ours");
    let view = held.view().map_err(failed)?;
    let bits = view.key_usage().map_err(failed)?;
    if bits.is_some_and(|bits| bits & usage::DIGITAL_SIGNATURE == 0) {
        return Err(denied("is not for signatures"));
    }
    let superseded = match held.standing {
        Standing::Good | Standing::Lifted { .. } => false,
        Standing::Revoked {
            reason: FinalReason::Superseded,
            ..
        } => true,
        Standing::Held { .. } | Standing::Revoked { .. } => {
            return Err(denied("is revoked or on hold"));
        }
    };
    // A connection may outlive what was valid when it was made.
    if !(view.not_before_secs..=view.not_after_secs).contains(&now.0) {
        return Err(denied("is not valid now"));
    }
    let holder = Holder {
        serial: view.serial.to_vec(),
        profile: held.profile.clone(),
        ta: None,
        ended: superseded,
    };
    let body = RequestBody::P10cr(Box::new(csr.clone()));
    Ok(Authenticated::proven(
        held.ueid,
        Means::Certificate(holder),
        body,
    ))
}

/// An enrolment secret, as the store has it.
#[derive(Clone, Copy)]
pub struct HeldSecret<'a> {
    /// Its id and its profile.
    pub what: &'a SecretUse,
    /// Whose it is.
    pub ueid: Ueid,
    /// The text, as bytes.
    pub text: &'a Secret<Vec<u8>>,
}

/// The device that has sent its enrolment secret. `held` is what the store has of the id that was
/// said. Whether it has a use left is seen where one is taken.
///
/// # Errors
/// `NotAuthenticated`, alike for an unknown id and for a wrong text.
pub fn by_secret(
    said: &[u8],
    held: Option<HeldSecret<'_>>,
    operation: Operation,
    profile: &Profile,
    csr: &AllegedCsr,
) -> Result<Authenticated, EstDenial> {
    // A profile that takes no secrets says so, to who has one and to who has none.
    if !profile.allows(Authentication::Secret) {
        return Err(not_authenticated(
            operation,
            profile,
            "the profile takes no secrets",
        ));
    }
    let held = held.ok_or(not_authenticated(operation, profile, "no such secret"))?;
    if !ct_eq(held.text.expose_secret(), said) {
        return Err(not_authenticated(operation, profile, "a wrong secret"));
    }
    let body = RequestBody::P10cr(Box::new(csr.clone()));
    let means = Means::Secret(held.what.clone());
    Ok(Authenticated::proven(held.ueid, means, body))
}

/// Checks what is of EST alone: a renewal is by a certificate of the profile or by evidence, and a
/// certificate makes another one for a new key, unless the profile lets keys stay.
///
/// That the names stay is seen to elsewhere: they are always those of the device and the profile.
///
/// # Errors
/// The first check that fails.
///
/// Spec: RFC 7030 section 4.2.2.
pub fn check_operation(
    operation: Operation,
    profile: &Profile,
    means: &Means,
    held: Option<&HeldCertificate>,
    csr: &AllegedCsr,
) -> Result<(), EstDenial> {
    let Some(held) = held else {
        return match (operation, means) {
            // Evidence says anew who it is.
            (Operation::Enroll, _) | (_, Means::Evidence(_)) => Ok(()),
            (Operation::Reenroll, _) => Err(not_authenticated(
                operation,
                profile,
                "a renewal without a certificate",
            )),
        };
    };
    if operation == Operation::Reenroll && held.profile != profile.name {
        return Err(EstDenial::OtherProfile(held.profile.clone()));
    }
    let failed = |_| EstDenial::Failed("a certificate of ours");
    // The same key may be written in several ways.
    let ours = PublicKey::from_spki_der(held.view().map_err(failed)?.spki_der);
    let ours = ours.map_err(|_| EstDenial::Failed("a certificate of ours"))?;
    let same = PublicKey::from_spki_der(&csr.spki_der).is_ok_and(|asked| asked == ours);
    if same && !profile.reuse_key {
        return Err(EstDenial::SameKey);
    }
    Ok(())
}

/// What is said to who has shown nothing, or something wrong: always the same.
#[must_use]
pub fn not_authenticated(
    operation: Operation,
    profile: &Profile,
    cause: &'static str,
) -> EstDenial {
    EstDenial::NotAuthenticated {
        cause,
        // A secret renews nothing.
        secret: operation == Operation::Enroll && profile.allows(Authentication::Secret),
        evidence: profile.allows(Authentication::Evidence),
    }
}

/// What a request of the profile should have: the key that it prefers, and the extensions that it
/// gives. The alternative names are among them for who has shown which device it is.
///
/// # Errors
/// An extension that cannot be encoded.
pub fn attributes(profile: &Profile, names: Option<&ExpectedNames>) -> Result<CsrAttrs, EstDenial> {
    let alg = profile.key_algs.first().copied().unwrap_or(KeyAlg::P256);
    let key = match alg {
        KeyAlg::P384 => (oid::EC_PUBLIC_KEY, Some(oid::SECP384R1)),
        KeyAlg::Ed25519 => (oid::ED25519, None),
        _ => (oid::EC_PUBLIC_KEY, Some(oid::SECP256R1)),
    };
    let failed = |_| EstDenial::Failed("attributes");
    let nobody = ExpectedNames {
        subject: NameBuilder::new().build().map_err(failed)?,
        san: Vec::new(),
    };
    let given = requested_extensions(names.unwrap_or(&nobody), profile)?;
    Ok(CsrAttrs {
        key: Some(key),
        signature: Some(alg.signature_oid()),
        extensions: given.as_slice().to_vec(),
        attestation: profile.allows(Authentication::Evidence),
    })
}

/// Makes the TLS certificate of the EST server (DER) under the issuing key.
///
/// Its life is short instead of its status published: who has not learnt to trust this CA yet could
/// not ask for it.
///
/// # Errors
/// A name that cannot be in a certificate; a failing key or generator.
pub fn make_server_cert(
    issuer: &Issuer,
    issuing: &dyn Signer,
    server: &PublicKey,
    names: &[SanEntry],
    rng: &mut dyn Rng,
    now: UnixSecs,
) -> Result<Vec<u8>, CaCertError> {
    let common_name = AttributeSpec::by_name("CN").ok_or(CaCertError::NotACa)?;
    let subject = NameBuilder::new().push(common_name, "EST Server")?;
    let mut extensions = ExtensionSet::new();
    extensions.authority_key_id(&issuer.key_id)?;
    extensions.subject_key_id(&server.x509_key_id())?;
    extensions.key_usage(KeyUsages::DigitalSignature.into())?;
    extensions.ext_key_usage(&[oid::KP_SERVER_AUTH])?;
    extensions.subject_alt_name(names, false)?;
    let end = now.0.saturating_add(SERVER_LIFE_SECS);
    let builder = CertBuilder {
        serial: random_serial(rng)?,
        signature_alg: signature_alg(issuer.public_key.alg())?,
        issuer: issuer.name.clone(),
        validity: Validity {
            not_before_secs: backdated(now).max(issuer.not_before_secs),
            not_after_secs: Some(end.min(issuer.not_after_secs)),
        },
        subject: subject.build()?,
        spki_der: server.to_spki_der()?,
        extensions,
    };
    let tbs = builder.to_tbs()?;
    let raw = issuing.sign(&tbs)?;
    Ok(assemble_certificate(&tbs, builder.signature_alg, &raw)?)
}

/// Whether a server's certificate is of this key, issuer and these names, and good for a while.
#[must_use]
pub fn server_cert_serves(
    cert: &[u8],
    issuer: &Issuer,
    server: &PublicKey,
    names: &[SanEntry],
    now: UnixSecs,
) -> bool {
    let (Ok(view), Ok(spki), Ok(san)) = (
        CertView::from_der(cert),
        server.to_spki_der(),
        encode_san(names),
    ) else {
        return false;
    };
    let good_until = now.0.saturating_add(SERVER_RENEWAL_SECS);
    let named = view.extension(&oid::SUBJECT_ALT_NAME).map(|e| e.value);
    view.spki_der == spki
        && view.issuer_der == issuer.name.as_der()
        && named == Some(san.as_slice())
        && view.not_before_secs <= now.0
        && view.not_after_secs > good_until.min(issuer.not_after_secs.saturating_sub(1))
}

/// Life of the server's certificate: 60 days.
const SERVER_LIFE_SECS: u64 = 60 * 86_400;
/// It is renewed when less than this is left, so that a CA that was down for weeks comes back good.
const SERVER_RENEWAL_SECS: u64 = 30 * 86_400;
