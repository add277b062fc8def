//! From an authenticated request to a certificate: check, fix, lint, sign.
//!
//! The order is the CA's promise: [`authorize`] gives an [`IssuanceToken`]; [`draft`] fixes serial
//! and bytes (recorded before a key elsewhere signs); [`lint`] looks at those bytes with fresh eyes;
//! [`sign`] takes the proof of that and nothing else. After a crash the recorded bytes go through
//! [`lint`] again with the token of the repeated request.

use tegata_crypto::{Provider, PublicKey, Rng, Signer};
use tegata_wire::ids::{ReleaseDigest, Ueid};
use tegata_wire::x509::{
    CertBuilder, CertView, DistinguishedName, ExtensionSet, KeyUsages, SanEntry, SerialNumber,
    X509Error, assemble_certificate, oid,
};

use super::authority_cert::{BACKDATE_SECS, Issuer};
use super::means::{Authenticated, HeldCertificate, Means};
use super::signature_alg;
use super::status::StatusUrls;
use tegata_wire::enrolment::{CertificateOrder, EnrolmentError, Identity};

use crate::profile::{KeyUsage, Profile, Validity, is_forbidden};
use crate::{UnixMs, UnixSecs};

/// The names a device's certificate must have: from the registry, never from the request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedNames {
    /// Subject.
    pub subject: DistinguishedName,
    /// Alternative names in order.
    pub san: Vec<SanEntry>,
}

impl ExpectedNames {
    /// The names of a registered device by what its release's procedure orders.
    ///
    /// # Errors
    /// `Identity` if it lacks an attribute, or a value cannot stand in a certificate.
    pub fn of(order: &CertificateOrder, identity: &Identity) -> Result<Self, IssueDenied> {
        order
            .check_identity(identity)
            .map_err(IssueDenied::Identity)?;
        let texts = [&identity.serial, &identity.model, &identity.imei];
        if texts
            .into_iter()
            .flatten()
            .any(|t| t.chars().any(is_forbidden))
        {
            return Err(IssueDenied::Identity(EnrolmentError::Template));
        }
        Ok(Self {
            subject: order.subject(identity).map_err(IssueDenied::Identity)?,
            san: order.san(identity).map_err(IssueDenied::Identity)?,
        })
    }
}

/// Which certificate the new one is to follow, by its serial number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Follows {
    /// None: it is the first, or beside others.
    None,
    /// One that is updated: without it there is nothing to be had.
    Update(Vec<u8>),
    /// One in whose place the device's TA asks, because the CA refused it as the asker, or its key
    /// cannot ask: whatever has become of it, it does not serve beside the new one.
    InPlace(Vec<u8>),
}

/// Permission to issue one certificate for one request. Made by [`authorize`] alone.
#[derive(Debug)]
#[must_use]
pub struct IssuanceToken<'p> {
    ueid: Ueid,
    means: Means,
    request_digest: [u8; 32],
    follows: Follows,
    public_key: PublicKey,
    names: ExpectedNames,
    profile: &'p Profile,
    /// That of the profile, or what was ordered if that is shorter.
    validity: Validity,
    /// What names and profile give the certificate, but for where its status will be found.
    given: ExtensionSet,
}

impl<'p> IssuanceToken<'p> {
    /// The device.
    #[must_use]
    pub fn ueid(&self) -> &Ueid {
        &self.ueid
    }

    /// What proved who asks.
    #[must_use]
    pub fn means(&self) -> &Means {
        &self.means
    }

    /// The release whose TA asked, if a TA did.
    #[must_use]
    pub fn release(&self) -> Option<&ReleaseDigest> {
        self.means.release()
    }

    /// SHA-256 of the request: with the device it names the issuance.
    #[must_use]
    pub fn request_digest(&self) -> &[u8; 32] {
        &self.request_digest
    }

    /// The certificate that this one is to follow.
    #[must_use]
    pub fn follows(&self) -> &Follows {
        &self.follows
    }

    /// Serial number of the certificate that this one updates, if it does.
    #[must_use]
    pub fn updates(&self) -> Option<&[u8]> {
        match &self.follows {
            Follows::Update(serial) => Some(serial),
            Follows::None | Follows::InPlace(_) => None,
        }
    }

    /// The profile.
    #[must_use]
    pub fn profile(&self) -> &'p Profile {
        self.profile
    }
}

/// What a request is checked against: all of it from the CA's own records.
#[derive(Clone, Copy)]
pub struct Against<'a, 'p> {
    /// The registered identity of the device.
    pub identity: &'a Identity,
    /// What the TA's release orders; of other askers, what the profile does.
    pub order: &'a CertificateOrder,
    /// The profile.
    pub profile: &'p Profile,
    /// Names of this CA's issuing CAs: a template may have that of an earlier one.
    pub issuers: &'a [DistinguishedName],
    /// Thumbprints of the device's attestation, TEEP and delivery keys: a certificate must not turn
    /// one of them into an identity key.
    pub other_keys: &'a [[u8; 32]],
    /// The certificate that oldCertId names, if this CA issued it.
    pub old: Option<&'a HeldCertificate>,
}

/// Checks an authenticated request against the device's registered identity and the profile.
///
/// # Errors
/// The first check that fails.
pub fn authorize<'p>(
    provider: &dyn Provider,
    request: Authenticated,
    against: &Against<'_, 'p>,
) -> Result<IssuanceToken<'p>, IssueDenied> {
    let Against {
        identity, profile, ..
    } = *against;
    let (ueid, means, body) = request.into_parts();
    // Who authenticated the request is this device: so must the identity be.
    if identity.ueid != ueid {
        return Err(IssueDenied::AltNames);
    }
    if !profile.allows(means.authentication()) {
        return Err(IssueDenied::Means(profile.name.clone()));
    }
    if let Means::Secret(secret) = &means
        && secret.profile != profile.name
    {
        return Err(IssueDenied::SecretSpent(secret.id.clone()));
    }
    if !profile.agrees_with(against.order) {
        return Err(IssueDenied::ProfileChanged(profile.name.clone()));
    }
    let names = ExpectedNames::of(against.order, identity)?;
    let makers = match &means {
        Means::Maker(shown) => std::slice::from_ref(&shown.issuer),
        _ => &[],
    };
    let issuers = [against.issuers, makers];
    let asked = Asked::read(provider, body, &issuers, means.evidence().is_some())?;
    let alg = asked.public_key.alg();
    if !profile.key_algs.contains(&alg) {
        return Err(IssueDenied::KeyAlg {
            profile: profile.name.clone(),
            got: alg,
        });
    }
    let key = asked.public_key.thumbprint();
    let shown = matches!(&means, Means::Maker(shown) if shown.key == key);
    if shown || against.other_keys.contains(&key) {
        return Err(IssueDenied::KeyReuse);
    }
    let given = given_extensions(&names, profile).map_err(IssueDenied::Build)?;
    asked.check_names(&names, &given, matches!(means, Means::Ta(_)))?;
    let follows = asked.check_old(&ueid, &means, against)?;
    Ok(IssuanceToken {
        ueid,
        means,
        request_digest: asked.digest,
        follows,
        public_key: asked.public_key,
        names,
        profile,
        validity: shorter(profile.validity, against.order.validity_secs),
        given,
    })
}

/// The lifetime: the profile may say more than the release of the TA, which takes nothing that
/// lasts longer than it was told. No number is no end.
fn shorter(profile: Validity, ordered_secs: Option<u64>) -> Validity {
    match (profile, ordered_secs) {
        (Validity::Secs(secs), Some(ordered)) => Validity::Secs(secs.min(ordered)),
        (Validity::Indefinite, Some(ordered)) => Validity::Secs(ordered),
        (profile, None) => profile,
    }
}

/// The extensions that a request of this device for this profile may name.
///
/// # Errors
/// `Build` if a name cannot be in a certificate.
pub fn requested_extensions(
    names: &ExpectedNames,
    profile: &Profile,
) -> Result<ExtensionSet, IssueDenied> {
    let mut set = ExtensionSet::new();
    let given = given_extensions(names, profile).map_err(IssueDenied::Build)?;
    for e in given.into_vec() {
        // What policies hold is the CA's to say.
        if [oid::SUBJECT_ALT_NAME, oid::KEY_USAGE, oid::EXT_KEY_USAGE].contains(&e.oid) {
            set.push(e).map_err(IssueDenied::Build)?;
        }
    }
    Ok(set)
}

/// The extensions that depend on profile and device alone, in the order of the certificate.
fn given_extensions(names: &ExpectedNames, profile: &Profile) -> Result<ExtensionSet, X509Error> {
    let mut set = ExtensionSet::new();
    let usages = profile
        .key_usage
        .iter()
        .fold(Default::default(), |bits, usage| {
            bits | match usage {
                KeyUsage::DigitalSignature => KeyUsages::DigitalSignature,
                KeyUsage::NonRepudiation => KeyUsages::NonRepudiation,
                KeyUsage::KeyAgreement => KeyUsages::KeyAgreement,
            }
        });
    set.key_usage(usages)?;
    set.ext_key_usage(&profile.extended_key_usage)?;
    set.subject_alt_name(&names.san, names.subject.is_empty())?;
    set.certificate_policies(&profile.policies)?;
    Ok(set)
}

/// All extensions of a certificate, in order: `given` between those that name its keys and those that say where
/// its status will be found.
fn extensions(
    token: &IssuanceToken<'_>,
    given: ExtensionSet,
    issuer: &Issuer,
    status: Option<&StatusUrls>,
) -> Result<ExtensionSet, X509Error> {
    let profile = token.profile;
    let mut set = ExtensionSet::new();
    set.authority_key_id(&issuer.key_id)?;
    set.subject_key_id(&token.public_key.x509_key_id())?;
    for extension in given.into_vec() {
        set.push(extension)?;
    }
    let with = |given: &[String], own: fn(&StatusUrls) -> &String| {
        let own = status.map(own).filter(|own| !given.contains(own));
        given.iter().chain(own).cloned().collect::<Vec<_>>()
    };
    set.crl_distribution_points(&with(&profile.crl_urls, |s| &s.crl))?;
    set.authority_info_access(
        &with(&profile.ocsp_urls, |s| &s.ocsp),
        &with(&profile.ca_issuers_urls, |s| &s.ca_issuers),
    )?;
    Ok(set)
}

/// What is to be signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Draft {
    /// Serial number: 6 bytes of milliseconds since 1970, then 10 random bytes.
    pub serial: Vec<u8>,
    /// The bytes to sign.
    pub tbs: Vec<u8>,
    /// Last second of validity, since 1970.
    pub not_after_secs: u64,
}

/// Fixes serial number, validity and the bytes to sign; `status` is where its status will be found,
/// beside the places that the profile names.
///
/// # Errors
/// `SignerEnded`; a name or lifetime that cannot be in a certificate; a failing generator.
pub fn draft(
    token: &IssuanceToken<'_>,
    issuer: &Issuer,
    status: Option<&StatusUrls>,
    rng: &mut dyn Rng,
    now: UnixMs,
) -> Result<Draft, IssueDenied> {
    // Only what is new is drafted: a request that was answered before never comes here.
    if token.means.has_ended() {
        return Err(IssueDenied::SignerEnded);
    }
    let serial = serial_number(rng, now)?;
    let wanted = match token.validity {
        Validity::Secs(secs) => now.secs().0.saturating_add(secs).min(issuer.not_after_secs),
        // No well-defined end, unless the issuer has one. Spec: RFC 5280 section 4.1.2.5.
        Validity::Indefinite => issuer.not_after_secs,
    };
    let not_before = now
        .secs()
        .0
        .saturating_sub(BACKDATE_SECS)
        .max(issuer.not_before_secs);
    let build = IssueDenied::Build;
    let extensions = extensions(token, token.given.clone(), issuer, status).map_err(build)?;
    let builder = CertBuilder {
        serial: SerialNumber::from_bytes(&serial).map_err(build)?,
        signature_alg: signature_alg(issuer.public_key.alg()).map_err(IssueDenied::Crypto)?,
        issuer: issuer.name.clone(),
        validity: tegata_wire::x509::Validity {
            not_before_secs: not_before,
            not_after_secs: (wanted != NO_END_SECS).then_some(wanted),
        },
        subject: token.names.subject.clone(),
        spki_der: token
            .public_key
            .to_spki_der()
            .map_err(IssueDenied::Crypto)?,
        extensions,
    };
    let tbs = builder.to_tbs().map_err(build)?;
    Ok(Draft {
        serial,
        tbs,
        not_after_secs: wanted,
    })
}

/// Bytes that were looked at and may be signed. Made by [`lint`] alone.
#[derive(Debug)]
#[must_use]
pub struct LintedTbs {
    tbs: Vec<u8>,
    serial: Vec<u8>,
}

impl LintedTbs {
    /// Serial number of the certificate to be.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }
}

/// Looks at the bytes as they will be signed, and checks each part anew.
///
/// `status` and `recorded` are the places and the moment that the draft was recorded with: for a
/// draft that a crash left behind they are not those of now.
///
/// # Errors
/// `Lint` with the name of the check that failed.
pub fn lint(
    token: &IssuanceToken<'_>,
    issuer: &Issuer,
    status: Option<&StatusUrls>,
    draft: Draft,
    recorded: UnixSecs,
) -> Result<LintedTbs, IssueDenied> {
    let alg = signature_alg(issuer.public_key.alg()).map_err(IssueDenied::Crypto)?;
    // A certificate with a signature of the right form, for the parser alone.
    let unsigned = assemble_certificate(&draft.tbs, alg, &vec![1; alg.raw_len()])
        .map_err(IssueDenied::Build)?;
    let view = CertView::from_der(&unsigned).map_err(IssueDenied::Build)?;
    let check = |fine: bool, what| {
        if fine {
            Ok(())
        } else {
            Err(IssueDenied::Lint(what))
        }
    };

    check(view.tbs_der == draft.tbs, "one structure")?;
    check(view.version == 3, "version 3")?;
    check(
        view.signature_alg() == Some(alg),
        "algorithm of the issuer's key",
    )?;
    check(view.serial == draft.serial, "serial as recorded")?;
    check(view.serial.len() == SERIAL_LEN_BYTES, "serial length")?;
    check(
        view.serial.first().is_some_and(|b| (1..0x80).contains(b)),
        "serial positive",
    )?;
    let random = view.serial.get(SERIAL_TIME_LEN_BYTES..).unwrap_or_default();
    check(
        random.len() >= 8 && random.iter().any(|b| *b != 0),
        "serial entropy",
    )?;
    check(view.issuer_der == issuer.name.as_der(), "issuer name")?;
    check(view.subject_der == token.names.subject.as_der(), "subject")?;
    let spki = token
        .public_key
        .to_spki_der()
        .map_err(IssueDenied::Crypto)?;
    check(view.spki_der == spki, "public key")?;

    check(
        view.not_before_secs >= issuer.not_before_secs,
        "not before the issuer",
    )?;
    check(
        view.not_after_secs <= issuer.not_after_secs,
        "not after the issuer",
    )?;
    check(view.not_before_secs < view.not_after_secs, "a period")?;
    check(
        view.not_after_secs == draft.not_after_secs,
        "end as recorded",
    )?;
    check(view.not_before_secs <= recorded.0, "valid at once")?;
    check(
        view.not_before_secs >= recorded.0.saturating_sub(BACKDATE_SECS + RECORD_SECS),
        "not backdated",
    )?;
    if let Validity::Secs(secs) = token.validity {
        let length = view.not_after_secs - view.not_before_secs;
        check(length <= secs + BACKDATE_SECS, "lifetime of the profile")?;
    }
    lint_extensions(&view, token, issuer, status)?;
    Ok(LintedTbs {
        tbs: draft.tbs,
        serial: draft.serial,
    })
}

/// Exactly the expected extensions, in order, with the right criticality and values.
fn lint_extensions(
    view: &CertView<'_>,
    token: &IssuanceToken<'_>,
    issuer: &Issuer,
    status: Option<&StatusUrls>,
) -> Result<(), IssueDenied> {
    let build = IssueDenied::Build;
    // Made anew from names and profile: the draft has what the request was checked against.
    let given = given_extensions(&token.names, token.profile).map_err(build)?;
    let expected = extensions(token, given, issuer, status).map_err(build)?;
    let found = view.extensions.iter().map(|e| (e.oid, e.critical, e.value));
    let wanted = expected
        .as_slice()
        .iter()
        .map(|e| (e.oid, e.critical, e.value.as_slice()));
    if !found.eq(wanted) {
        return Err(IssueDenied::Lint("extensions of the profile"));
    }
    if view
        .basic_constraints()
        .map_err(build)?
        .is_some_and(|b| b.ca)
    {
        return Err(IssueDenied::Lint("not a CA"));
    }
    let usage = view.key_usage().map_err(build)?.unwrap_or(0);
    let allowed = token
        .profile
        .key_usage
        .iter()
        .fold(0u16, |bits, u| bits | (1 << u.bit()));
    if usage == 0 || usage != allowed {
        return Err(IssueDenied::Lint("key usage"));
    }
    Ok(())
}

/// Signs. The signature is verified before the certificate leaves this function.
///
/// # Errors
/// The key's failure, or `Lint` if what it made does not verify.
pub fn sign(
    provider: &dyn Provider,
    linted: LintedTbs,
    signer: &dyn Signer,
) -> Result<Vec<u8>, IssueDenied> {
    let alg = signature_alg(signer.public_key().alg()).map_err(IssueDenied::Crypto)?;
    let raw = signer.sign(&linted.tbs).map_err(IssueDenied::Crypto)?;
    provider
        .verify(signer.public_key(), &linted.tbs, &raw)
        .map_err(|_| IssueDenied::Lint("signature"))?;
    assemble_certificate(&linted.tbs, alg, &raw).map_err(IssueDenied::Build)
}

/// 6 bytes of time, so that certificates of one moment are neighbours in the store, then 80 random
/// bits: more than the 64 of a CSPRNG that the CA/Browser Forum asks for.
fn serial_number(rng: &mut dyn Rng, now: UnixMs) -> Result<Vec<u8>, IssueDenied> {
    let mut serial = vec![0; SERIAL_LEN_BYTES];
    let (time, random) = serial.split_at_mut(SERIAL_TIME_LEN_BYTES);
    rng.fill(random).map_err(IssueDenied::Crypto)?;
    for (out, byte) in time.iter_mut().zip(now.0.to_be_bytes().iter().skip(2)) {
        *out = *byte;
    }
    Ok(serial)
}

/// Length of a serial number.
const SERIAL_LEN_BYTES: usize = 16;
/// Length of the time in it: milliseconds fit until the year 6429 with the first bit clear.
const SERIAL_TIME_LEN_BYTES: usize = 6;
/// 99991231235959Z in seconds since 1970.
const NO_END_SECS: u64 = 253_402_300_799;
/// How long drafting may take before it is recorded.
const RECORD_SECS: u64 = 60;

mod asked;
mod denied;
#[cfg(test)]
mod tests;

use asked::Asked;
pub use denied::IssueDenied;
