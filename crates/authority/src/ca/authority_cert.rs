//! Root and issuing CA certificates, and what links one root to the next.
//!
//! A CA that follows another has a name of its own, with a number: whoever builds a path, or looks for a
//! list, tells the two apart by name already, and not by key identifiers alone.
//!
//! Spec: RFC 5280 section 4, RFC 9810 section 4.4; checked by `pkilint` and `openssl` in CI.

use tegata_crypto::{PublicKey, Rng, Signer};
use tegata_wire::x509::{
    AttributeSpec, CertBuilder, CertView, DistinguishedName, ExtensionSet, KeyUsages, NameBuilder,
    SerialNumber, Validity, assemble_certificate, oid,
};

use super::{CaCertError, signature_alg};
use crate::UnixSecs;

/// Names and lifetimes of a new CA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaDraft {
    /// Country of the organization, two capital letters.
    pub country: Option<String>,
    /// Organization, 1 to 64 characters.
    pub organization: String,
    /// Common name of the root, 1 to 64 characters.
    pub root_common_name: String,
    /// Common name of the issuing CA, 1 to 64 characters; not the root's.
    pub issuing_common_name: String,
    /// Lifetime of the root in seconds.
    pub root_validity_secs: u64,
    /// Lifetime of the issuing CA in seconds; it ends with the root at the latest.
    pub issuing_validity_secs: u64,
    /// CRL URLs of the root, for the issuing certificate.
    pub root_crl_urls: Vec<String>,
    /// URLs of the root certificate, for the issuing certificate.
    pub root_urls: Vec<String>,
}

impl CaDraft {
    /// Twenty years of root, ten of issuing CA, names after the organization.
    #[must_use]
    pub fn for_organization(organization: &str) -> Self {
        Self {
            country: None,
            organization: organization.to_owned(),
            root_common_name: format!("{organization} Device Root CA"),
            issuing_common_name: format!("{organization} Device Issuing CA"),
            root_validity_secs: 20 * YEAR_SECS,
            issuing_validity_secs: 10 * YEAR_SECS,
            root_crl_urls: Vec::new(),
            root_urls: Vec::new(),
        }
    }

    /// Names and lifetimes of what follows a root and all issuing CAs that there were, oldest first: the
    /// same organization, the common names of the last with these numbers. An issuing CA lives as long as
    /// the longest of them was to: one that was made late ended with its root, and the next one need not.
    ///
    /// # Errors
    /// `NotACa` if there is none, or their names are not as [`make_root`] and [`make_issuing`] make them.
    pub fn after(
        root: &Issuer,
        issuing: &[&Issuer],
        root_number: u32,
        issuing_number: u32,
    ) -> Result<Self, CaCertError> {
        let text = |ca: &Issuer, attribute: &str| {
            AttributeSpec::by_name(attribute).and_then(|spec| ca.name.text(&spec.oid))
        };
        let common_name = |ca, number| {
            let before = text(ca, "CN").ok_or(CaCertError::NotACa)?;
            Ok::<_, CaCertError>(numbered(&before, number))
        };
        let life = |ca: &Issuer| {
            let from = ca.not_before_secs.saturating_add(BACKDATE_SECS);
            ca.not_after_secs.saturating_sub(from)
        };
        let last = issuing.last().ok_or(CaCertError::NotACa)?;
        let longest = issuing.iter().map(|ca| life(ca)).max();
        Ok(Self {
            country: text(root, "C"),
            organization: text(root, "O").ok_or(CaCertError::NotACa)?,
            root_common_name: common_name(root, root_number)?,
            issuing_common_name: common_name(last, issuing_number)?,
            root_validity_secs: life(root),
            issuing_validity_secs: longest.ok_or(CaCertError::NotACa)?,
            root_crl_urls: Vec::new(),
            root_urls: Vec::new(),
        })
    }

    /// Whether certificates can have these names.
    ///
    /// # Errors
    /// One that is empty, too long or not writable.
    pub fn check_names(&self) -> Result<(), CaCertError> {
        self.name(&self.root_common_name)?;
        self.name(&self.issuing_common_name)?;
        Ok(())
    }

    fn name(&self, common_name: &str) -> Result<DistinguishedName, CaCertError> {
        let mut name = NameBuilder::new();
        let country = self.country.as_deref().map(|c| ("C", c));
        let rest = [("O", self.organization.as_str()), ("CN", common_name)];
        for (attribute, text) in country.into_iter().chain(rest) {
            let spec = AttributeSpec::by_name(attribute).ok_or(CaCertError::NotACa)?;
            name = name.push(spec, text)?;
        }
        Ok(name.build()?)
    }
}

/// Makes the self-signed root certificate (DER).
///
/// # Errors
/// A name or lifetime that cannot be in a certificate; a failing key or generator.
pub fn make_root(
    draft: &CaDraft,
    root: &dyn Signer,
    rng: &mut dyn Rng,
    now: UnixSecs,
) -> Result<Vec<u8>, CaCertError> {
    let name = draft.name(&draft.root_common_name)?;
    let mut extensions = ExtensionSet::new();
    extensions.basic_constraints(true, None)?;
    extensions.key_usage(KeyUsages::KeyCertSign | KeyUsages::CRLSign)?;
    extensions.subject_key_id(&root.public_key().x509_key_id())?;
    let builder = CertBuilder {
        serial: random_serial(rng)?,
        signature_alg: signature_alg(root.public_key().alg())?,
        issuer: name.clone(),
        validity: Validity {
            not_before_secs: backdated(now),
            not_after_secs: Some(now.0.saturating_add(draft.root_validity_secs)),
        },
        subject: name,
        spki_der: root.public_key().to_spki_der()?,
        extensions,
    };
    sign(&builder, root)
}

/// Makes the certificate of the issuing CA under the root (DER). Its path length is 0.
///
/// # Errors
/// As [`make_root`]; `NotACa` if `root_cert` is not the certificate of `root`.
pub fn make_issuing(
    draft: &CaDraft,
    root: &dyn Signer,
    root_cert: &[u8],
    issuing: &PublicKey,
    rng: &mut dyn Rng,
    now: UnixSecs,
) -> Result<Vec<u8>, CaCertError> {
    let parent = Issuer::from_cert(root_cert)?;
    if parent.public_key != *root.public_key() {
        return Err(CaCertError::NotACa);
    }
    let mut extensions = ExtensionSet::new();
    extensions.authority_key_id(&parent.key_id)?;
    extensions.subject_key_id(&issuing.x509_key_id())?;
    extensions.basic_constraints(true, Some(0))?;
    extensions
        .key_usage(KeyUsages::KeyCertSign | KeyUsages::CRLSign | KeyUsages::DigitalSignature)?;
    extensions.crl_distribution_points(&draft.root_crl_urls)?;
    extensions.authority_info_access(&[], &draft.root_urls)?;
    let end = now
        .0
        .saturating_add(draft.issuing_validity_secs)
        .min(parent.not_after_secs);
    let builder = CertBuilder {
        serial: random_serial(rng)?,
        signature_alg: signature_alg(root.public_key().alg())?,
        issuer: parent.name,
        validity: Validity {
            not_before_secs: backdated(now),
            not_after_secs: Some(end),
        },
        subject: draft.name(&draft.issuing_common_name)?,
        spki_der: issuing.to_spki_der()?,
        extensions,
    };
    sign(&builder, root)
}

/// The certificates (DER) between a root and the one before. The first root has none; one that was made
/// after the root before had ended has none; one that was made after a leak has no `old_with_new`.
///
/// Spec: RFC 9810 section 4.4.1.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links {
    /// This root's key, under the root before.
    pub new_with_old: Option<Vec<u8>>,
    /// The key of the root before, under this one.
    pub old_with_new: Option<Vec<u8>>,
}

/// Which links a new root has to the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrossKind {
    /// Both.
    Both,
    /// `newWithOld` alone: who knows the new root is not led to the old one, whose key leaked.
    NewWithOld,
}

/// Makes the certificates (DER) that link a new root to the one before: `newWithOld`, the new
/// root's key under the old one, and `oldWithNew`, the other way round. None is made if the old root
/// has ended: no link outlives it.
///
/// Both end with the root that ends first. Who knows the old root alone finds a path to it from what is
/// issued under the new one, and who knows the new root alone one from what was issued before.
///
/// # Errors
/// As [`make_root`]; `NotACa` if a signer is not of its certificate.
///
/// Spec: RFC 9810 section 4.4.1.
pub fn make_cross(
    old: (&Issuer, &dyn Signer),
    new: (&Issuer, &dyn Signer),
    kind: CrossKind,
    rng: &mut dyn Rng,
    now: UnixSecs,
) -> Result<Links, CaCertError> {
    for (ca, signer) in [old, new] {
        if ca.public_key != *signer.public_key() {
            return Err(CaCertError::NotACa);
        }
    }
    let end = old.0.not_after_secs.min(new.0.not_after_secs);
    if end <= now.0 {
        return Ok(Links::default());
    }
    let from = backdated(now).max(old.0.not_before_secs);
    let new_with_old = link(new.0, old, (from, end), rng)?;
    let old_with_new = match kind {
        CrossKind::Both => Some(link(old.0, new, (old.0.not_before_secs, end), rng)?),
        CrossKind::NewWithOld => None,
    };
    Ok(Links {
        new_with_old: Some(new_with_old),
        old_with_new,
    })
}

/// The key and name of a root under the key of another.
fn link(
    subject: &Issuer,
    (by, signer): (&Issuer, &dyn Signer),
    (from, end): (u64, u64),
    rng: &mut dyn Rng,
) -> Result<Vec<u8>, CaCertError> {
    let mut extensions = ExtensionSet::new();
    extensions.authority_key_id(&by.key_id)?;
    extensions.subject_key_id(&subject.public_key.x509_key_id())?;
    extensions.basic_constraints(true, None)?;
    extensions.key_usage(KeyUsages::KeyCertSign | KeyUsages::CRLSign)?;
    let builder = CertBuilder {
        serial: random_serial(rng)?,
        signature_alg: signature_alg(by.public_key.alg())?,
        issuer: by.name.clone(),
        validity: Validity {
            not_before_secs: from,
            not_after_secs: Some(end),
        },
        subject: subject.name.clone(),
        spki_der: subject.public_key.to_spki_der()?,
        extensions,
    };
    sign(&builder, signer)
}

/// A common name with the number of a generation in place of the one that it may have: `… G2`.
fn numbered(common_name: &str, number: u32) -> String {
    let base = match common_name.rsplit_once(" G") {
        Some((base, digits)) if digits.parse::<u32>().is_ok() => base,
        _ => common_name,
    };
    let suffix = format!(" G{number}");
    let room = COMMON_NAME_CHARS_MAX.saturating_sub(suffix.chars().count());
    base.chars().take(room).chain(suffix.chars()).collect()
}

/// A CA certificate as the issuer of others.
#[derive(Debug, Clone)]
pub struct Issuer {
    /// The certificate (DER).
    pub cert_der: Vec<u8>,
    /// Its subject, copied byte for byte into what it issues.
    pub name: DistinguishedName,
    /// Its key.
    pub public_key: PublicKey,
    /// Its subjectKeyIdentifier.
    pub key_id: Vec<u8>,
    /// First second of its validity.
    pub not_before_secs: u64,
    /// Last second of its validity.
    pub not_after_secs: u64,
}

impl Issuer {
    /// Reads a CA certificate that is our own.
    ///
    /// # Errors
    /// `NotACa` unless it is a version 3 CA certificate that may sign certificates.
    pub fn from_cert(der: &[u8]) -> Result<Self, CaCertError> {
        let view = CertView::from_der(der)?;
        let ca = view.basic_constraints()?.is_some_and(|b| b.ca);
        let signs = view.key_usage()?.is_some_and(|u| u & KEY_CERT_SIGN != 0);
        let key_id = view
            .extension(&oid::SUBJECT_KEY_IDENTIFIER)
            .and_then(|e| e.value.get(2..));
        let (true, true, Some(key_id)) = (ca, signs, key_id) else {
            return Err(CaCertError::NotACa);
        };
        Ok(Self {
            cert_der: der.to_vec(),
            name: DistinguishedName::from_der(view.subject_der)?,
            public_key: PublicKey::from_spki_der(view.spki_der)?,
            key_id: key_id.to_vec(),
            not_before_secs: view.not_before_secs,
            not_after_secs: view.not_after_secs,
        })
    }
}

fn sign(builder: &CertBuilder, signer: &dyn Signer) -> Result<Vec<u8>, CaCertError> {
    let tbs = builder.to_tbs()?;
    let raw = signer.sign(&tbs)?;
    Ok(assemble_certificate(&tbs, builder.signature_alg, &raw)?)
}

/// A serial number for a certificate of the CA itself.
pub(crate) fn random_serial(rng: &mut dyn Rng) -> Result<SerialNumber, CaCertError> {
    let mut random = [0; 16];
    rng.fill(&mut random)?;
    Ok(SerialNumber::from_random(&random))
}

/// Devices' clocks are a little behind: a certificate is valid from five minutes ago.
pub(crate) fn backdated(now: UnixSecs) -> u64 {
    now.0.saturating_sub(BACKDATE_SECS)
}

/// How far notBefore lies before the moment of issuance.
pub const BACKDATE_SECS: u64 = 300;
/// keyCertSign is bit 5.
const KEY_CERT_SIGN: u16 = 1 << 5;
/// Longest common name, characters. Spec: RFC 5280 appendix A.1.
const COMMON_NAME_CHARS_MAX: usize = 64;
/// A year of 365 days, in seconds.
const YEAR_SECS: u64 = 365 * 86_400;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // Tests.

    use super::*;
    use tegata_crypto::{KeyAlg, OsRng, PrivateKey};

    fn key() -> PrivateKey {
        PrivateKey::generate(KeyAlg::P256, &mut OsRng).unwrap()
    }

    #[test]
    fn an_issuing_ca_that_was_cut_short_shortens_none_after_it() {
        let at = |year| UnixSecs(1_800_000_000 + year * YEAR_SECS);
        let life = |ca: &Issuer| ca.not_after_secs - ca.not_before_secs - BACKDATE_SECS;
        let root = |draft: &CaDraft, key: &PrivateKey, year| {
            Issuer::from_cert(&make_root(draft, key, &mut OsRng, at(year)).unwrap()).unwrap()
        };
        let issuing = |draft: &CaDraft, of: &Issuer, by: &PrivateKey, year| {
            let (under, key) = (&of.cert_der, key());
            let made = make_issuing(draft, by, under, key.public_key(), &mut OsRng, at(year));
            Issuer::from_cert(&made.unwrap()).unwrap()
        };
        let draft = CaDraft::for_organization("X");
        let (key_1, key_2) = (key(), key());
        let root_1 = root(&draft, &key_1, 0);
        let first = issuing(&draft, &root_1, &key_1, 0);
        // One year before its root ends, then a new root.
        let draft = CaDraft::after(&root_1, &[&first], 1, 2).unwrap();
        let second = issuing(&draft, &root_1, &key_1, 19);
        assert_eq!(life(&second), YEAR_SECS);
        let draft = CaDraft::after(&root_1, &[&first, &second], 2, 3).unwrap();
        let root_2 = root(&draft, &key_2, 19);
        let third = issuing(&draft, &root_2, &key_2, 19);
        assert_eq!(
            (life(&root_2), life(&third)),
            (20 * YEAR_SECS, 10 * YEAR_SECS)
        );
        assert!(third.name.to_display().contains("Issuing CA G3"));
        assert!(CaDraft::after(&root_1, &[], 2, 3).is_err());
    }

    #[test]
    fn no_link_outlives_the_old_root_and_a_leaked_one_gets_none_from_the_new() {
        let draft = CaDraft::for_organization("X");
        let (old_key, new_key) = (key(), key());
        let root = |key: &PrivateKey, at| {
            Issuer::from_cert(&make_root(&draft, key, &mut OsRng, at).unwrap()).unwrap()
        };
        let old = root(&old_key, UnixSecs(1_800_000_000));
        let at = |secs| {
            let now = UnixSecs(secs);
            let new = root(&new_key, now);
            [CrossKind::Both, CrossKind::NewWithOld].map(|kind| {
                let made = make_cross((&old, &old_key), (&new, &new_key), kind, &mut OsRng, now);
                let Links {
                    new_with_old,
                    old_with_new,
                } = made.unwrap();
                for der in [&new_with_old, &old_with_new].into_iter().flatten() {
                    assert!(Issuer::from_cert(der).unwrap().not_after_secs <= old.not_after_secs);
                }
                (new_with_old.is_some(), old_with_new.is_some())
            })
        };
        assert_eq!(at(old.not_after_secs - 1), [(true, true), (true, false)]);
        for ended in [0, 1, 299, 300, 301, YEAR_SECS] {
            assert_eq!(at(old.not_after_secs + ended), [(false, false); 2]);
        }
    }

    #[test]
    fn names_are_numbered_and_never_too_long() {
        assert_eq!(numbered("X Root CA", 2), "X Root CA G2");
        assert_eq!(numbered("X Root CA G2", 3), "X Root CA G3");
        assert_eq!(numbered("X Good", 2), "X Good G2");
        let long = "あ".repeat(64);
        assert_eq!(numbered(&long, 12).chars().count(), 64);
        assert!(numbered(&long, 12).ends_with("あ G12"));
    }
}
