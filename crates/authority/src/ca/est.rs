//! Enrolment over Secure Transport: who may ask for what, and the certificate of the server itself.
//!
//! Spec: RFC 7030 sections 3.3.1 and 4, RFC 9525, RFC 9908.

use tegata_crypto::{KeyAlg, PublicKey, Rng, Signer};
use tegata_wire::est::CsrAttrs;
use tegata_wire::x509::{
    AttributeSpec, CertBuilder, CertView, ExtensionSet, KeyUsages, NameBuilder, SanEntry, Validity,
    assemble_certificate, encode_san, oid,
};

use super::authority_cert::{Issuer, backdated, random_serial};
use super::issue::{ExpectedNames, IssueDenied, profile_extensions};
use super::{CaCertError, signature_alg};
use crate::UnixSecs;
use crate::profile::{Profile, Profiles};

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
    /// The request is understood, and refused.
    #[error("{0}")]
    Issue(#[from] IssueDenied),
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
            Self::Issue(denied) => denied.code(),
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
            Self::Issue(denied) => format!("Refused: {}.", denied.peer_text()),
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
    let given = profile_extensions(names.unwrap_or(&nobody), profile, None).map_err(failed)?;
    // What only the CA can say is not to be asked for.
    let asked = [oid::KEY_USAGE, oid::EXT_KEY_USAGE, oid::SUBJECT_ALT_NAME];
    let extensions = given.as_slice().iter();
    Ok(CsrAttrs {
        key: Some(key),
        signature: Some(alg.signature_oid()),
        extensions: extensions
            .filter(|e| asked.contains(&e.oid))
            .cloned()
            .collect(),
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
