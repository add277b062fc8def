//! The profile file: its shape, and every check on it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use const_oid::ObjectIdentifier;
use serde::Deserialize;
use tegata_crypto::KeyAlg;
use tegata_wire::enrolment::{IdentityAttribute, Template};
use toml::Spanned;

use super::{
    Authentication, EKU_NAMES, KeyUsage, Profile, SubjectAltNames, SubjectAttribute,
    TemplateMistake, Validity,
};
use crate::config::{ConfigError, Mistakes, choose_from, from_toml, parse_span_secs};

type Texts = Vec<Spanned<String>>;
/// One table with one attribute for each RDN, in order.
type Rdns = Vec<Spanned<BTreeMap<Spanned<String>, Spanned<String>>>>;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    profile: BTreeMap<Spanned<String>, Spanned<RawProfile>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawProfile {
    #[serde(default)]
    description: String,
    key_algorithms: Spanned<Texts>,
    subject: Spanned<Rdns>,
    san: Option<RawSan>,
    key_usage: Spanned<Texts>,
    #[serde(default)]
    extended_key_usage: Texts,
    validity: Spanned<String>,
    renewal_window: Option<Spanned<String>>,
    renewal_grace: Option<Spanned<String>>,
    evidence_max_age: Option<Spanned<String>>,
    #[serde(default)]
    require: Texts,
    #[serde(default)]
    implicit_confirm: bool,
    authentication: Option<Spanned<Texts>>,
    approval: Option<Spanned<String>>,
    #[serde(default)]
    reuse_key: bool,
    #[serde(default)]
    policies: Texts,
    #[serde(default)]
    crl_urls: Texts,
    #[serde(default)]
    ocsp_urls: Texts,
    #[serde(default)]
    ca_issuers_urls: Texts,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSan {
    hardware_module_type: Option<Spanned<String>>,
    permanent_identifier: Option<Spanned<String>>,
    #[serde(default)]
    dns: Texts,
    #[serde(default)]
    uri: Texts,
}

/// Parses the file into checked profiles.
pub(super) fn parse(text: &str) -> Result<BTreeMap<String, Profile>, ConfigError> {
    let file: File = from_toml(text)?;
    let mut mistakes = Mistakes::new(text);
    let mut out = BTreeMap::new();
    if file.profile.is_empty() {
        mistakes.add(
            0..0,
            "no profile is defined",
            "Write a section [profile.NAME].",
        );
    }
    for (name, raw) in file.profile {
        let span = name.span();
        if !is_name(name.get_ref()) {
            mistakes.add(
                span,
                format!("\"{}\" cannot be the name of a profile", name.get_ref()),
                "Use 1 to 64 lower-case letters, digits and hyphens; put other text into `description`.",
            );
            continue;
        }
        let name = name.into_inner();
        let profile = check(&name, raw, &mut mistakes);
        out.insert(name, profile);
    }
    mistakes.finish(Some(out))
}

/// Checks one profile; mistakes are noted and a placeholder stands where a value was wrong, which
/// never leaves this module because `finish` then fails.
fn check(name: &str, raw: Spanned<RawProfile>, mistakes: &mut Mistakes<'_>) -> Profile {
    let section = raw.span();
    let raw = raw.into_inner();
    let required = required(&raw.require, mistakes);
    let mut names = Names {
        required: &required,
        mistakes,
    };
    let subject = names.subject(&raw.subject);
    let san = names.san(raw.san);
    if subject.is_empty() && san.is_empty() {
        mistakes.add(
            raw.subject.span(),
            "the certificate would name nobody: subject and san are both empty",
            "Write for example subject = [{ serialNumber = \"{serial}\" }].",
        );
    }
    let required = with_named(required, &subject, &san);
    let key_algs = key_algs(&raw.key_algorithms, mistakes);
    let key_usage = key_usage(&raw.key_usage, &key_algs, mistakes);
    let validity = validity(&raw.validity, mistakes);
    let renewal_window_secs = validity.map_or(0, |validity| {
        renewal_window(
            raw.renewal_window,
            &raw.validity,
            validity,
            section,
            mistakes,
        )
    });
    let authentication = authentication(raw.authentication, mistakes);
    Profile {
        name: name.to_owned(),
        description: raw.description,
        key_algs,
        subject,
        san,
        key_usage,
        extended_key_usage: oids(&raw.extended_key_usage, &EKU_NAMES, "purpose", mistakes),
        validity: validity.unwrap_or(Validity::Indefinite),
        renewal_window_secs,
        renewal_grace_secs: span_or(raw.renewal_grace, GRACE_SECS, 0, mistakes),
        evidence_max_age_secs: span_or(raw.evidence_max_age, EVIDENCE_AGE_SECS, 1, mistakes),
        required,
        implicit_confirm: raw.implicit_confirm,
        approval: approval(raw.approval, &authentication, mistakes),
        authentication,
        reuse_key: raw.reuse_key,
        policies: oids(&raw.policies, &[], "policy", mistakes),
        crl_urls: urls(&raw.crl_urls, mistakes),
        ocsp_urls: urls(&raw.ocsp_urls, mistakes),
        ca_issuers_urls: urls(&raw.ca_issuers_urls, mistakes),
    }
}

/// The names of a certificate, checked against the identity the profile requires.
struct Names<'r, 'm, 't> {
    required: &'r [IdentityAttribute],
    mistakes: &'m mut Mistakes<'t>,
}

impl Names<'_, '_, '_> {
    fn subject(&mut self, raw: &Spanned<Rdns>) -> Vec<(SubjectAttribute, Template)> {
        let known = SubjectAttribute::ALL.map(SubjectAttribute::name);
        let mut out = Vec::new();
        if raw.get_ref().len() > ITEMS_MAX {
            self.mistakes.add(
                raw.span(),
                "more than 16 subject attributes",
                "Remove some.",
            );
        }
        for rdn in raw.get_ref() {
            let [(key, value)] = rdn.get_ref().iter().collect::<Vec<_>>()[..] else {
                self.mistakes.add(
                    rdn.span(),
                    "each part of the subject holds exactly one attribute",
                    "Write [{ O = \"Example\" }, { CN = \"{serial}\" }]: the order is the order in the certificate.",
                );
                continue;
            };
            let Some(attribute) = SubjectAttribute::from_name(key.get_ref()) else {
                self.mistakes.add(
                    key.span(),
                    format!("there is no subject attribute called \"{}\"", key.get_ref()),
                    choose_from(key.get_ref(), &known),
                );
                continue;
            };
            if let Some(template) = self.template(value) {
                self.check_attribute(attribute, &template, value.span());
                out.push((attribute, template));
            }
        }
        out
    }

    fn check_attribute(&mut self, attribute: SubjectAttribute, t: &Template, span: Range<usize>) {
        let (max, fixed) = (attribute.chars_max(), super::template::fixed_chars(t));
        if fixed > max {
            self.mistakes.add(
                span,
                format!(
                    "{} has {fixed} characters; RFC 5280 allows {max}",
                    attribute.name()
                ),
                "Shorten the text.",
            );
        } else if attribute == SubjectAttribute::Country
            && !(t.as_str().len() == 2 && t.as_str().bytes().all(|b| b.is_ascii_uppercase()))
        {
            self.mistakes.add(
                span,
                "C is not a country code",
                "Write two capital letters, for example \"JP\".",
            );
        } else if attribute == SubjectAttribute::SerialNumber
            && !t.as_str().chars().all(is_printable_string_or_brace)
        {
            self.mistakes.add(
                span,
                "serialNumber holds a character that PrintableString lacks",
                "Use letters, digits, space and ' ( ) + , - . / : = ?; put other text into CN or OU.",
            );
        }
    }

    fn san(&mut self, raw: Option<RawSan>) -> SubjectAltNames {
        let Some(raw) = raw else {
            return SubjectAltNames::default();
        };
        let dns = self.list(
            &raw.dns,
            |c| c.is_ascii_alphanumeric() || "-.{}".contains(c),
            "a DNS name",
            "Use letters, digits, hyphens and dots; write other scripts in their xn-- form.",
        );
        let uri = self.list(
            &raw.uri,
            |c| c.is_ascii_graphic(),
            "a URI",
            "Use ASCII; write other characters as %XX.",
        );
        for (t, at) in uri.iter().zip(&raw.uri) {
            if !t
                .as_str()
                .split_once(':')
                .is_some_and(|(s, r)| is_scheme(s) && !r.is_empty())
            {
                self.mistakes.add(
                    at.span(),
                    "a URI begins with a scheme",
                    "Write for example \"urn:dev:ueid:{ueid}\".",
                );
            }
        }
        SubjectAltNames {
            hardware_module_type: raw
                .hardware_module_type
                .and_then(|t| self.hardware_type(&t)),
            permanent_identifier: raw.permanent_identifier.and_then(|p| self.template(&p)),
            dns,
            uri,
        }
    }

    fn list(
        &mut self,
        raw: &Texts,
        allowed: impl Fn(char) -> bool,
        kind: &str,
        mend: &str,
    ) -> Vec<Template> {
        let mut out = Vec::new();
        for text in raw {
            if let Some(c) = text.get_ref().chars().find(|c| !allowed(*c)) {
                self.mistakes.add(
                    text.span(),
                    format!("the character {c:?} may not stand in {kind}"),
                    mend,
                );
            } else if let Some(template) = self.template(text) {
                out.push(template);
            }
        }
        if let Some(extra) = raw.get(ITEMS_MAX) {
            self.mistakes.add(
                extra.span(),
                format!("more than {ITEMS_MAX} entries"),
                "Remove some.",
            );
        }
        out
    }

    fn template(&mut self, text: &Spanned<String>) -> Option<Template> {
        match super::template::check(text.get_ref()) {
            Ok(template) => {
                let missing = template
                    .attributes()
                    .into_iter()
                    .find(|v| !self.is_required(*v));
                if let Some(v) = missing {
                    self.mistakes.add(
                        text.span(),
                        format!("\"{{{}}}\" is used, but devices need not have it", v.name()),
                        format!("Add \"{}\" to `require`.", v.name()),
                    );
                }
                Some(template)
            }
            Err(e) => {
                let mend = match &e {
                    TemplateMistake::Unknown(word) => choose_from(word, &ATTRIBUTE_NAMES),
                    TemplateMistake::Brace => "Write variables as {serial}.".into(),
                    TemplateMistake::Empty => "Write a text, or remove the line.".into(),
                    TemplateMistake::TooLong { .. } => "Shorten it.".into(),
                    TemplateMistake::Character(_) => "Remove it.".into(),
                };
                self.mistakes.add(text.span(), e.to_string(), mend);
                None
            }
        }
    }

    fn hardware_type(&mut self, text: &Spanned<String>) -> Option<ObjectIdentifier> {
        let oid = ObjectIdentifier::new(text.get_ref()).ok();
        if oid.is_none() {
            self.mistakes.add(
                text.span(),
                format!("\"{}\" is not an object identifier", text.get_ref()),
                "Write the number of your hardware type under your enterprise number, for example \
                 \"1.3.6.1.4.1.32473.1\".",
            );
        }
        oid
    }

    /// Every device has a UEID, a model and a serial number.
    fn is_required(&self, v: IdentityAttribute) -> bool {
        matches!(
            v,
            IdentityAttribute::Ueid | IdentityAttribute::Serial | IdentityAttribute::Model
        ) || self.required.contains(&v)
    }
}

fn required(raw: &Texts, mistakes: &mut Mistakes<'_>) -> Vec<IdentityAttribute> {
    let known = ATTRIBUTE_NAMES;
    let mut out = BTreeSet::new();
    for word in raw {
        match IdentityAttribute::from_name(word.get_ref()) {
            Some(v) => drop(out.insert(v)),
            None => mistakes.add(
                word.span(),
                format!(
                    "there is no identity attribute called \"{}\"",
                    word.get_ref()
                ),
                choose_from(word.get_ref(), &known),
            ),
        }
    }
    out.into_iter().collect()
}

/// The required attributes and those that the names use: a device must have all of them.
fn with_named(
    required: Vec<IdentityAttribute>,
    subject: &[(SubjectAttribute, Template)],
    san: &SubjectAltNames,
) -> Vec<IdentityAttribute> {
    let mut all: BTreeSet<IdentityAttribute> = required.into_iter().collect();
    let templates = subject
        .iter()
        .map(|(_, t)| t)
        .chain(&san.permanent_identifier);
    let templates = templates.chain(&san.dns).chain(&san.uri);
    all.extend(templates.flat_map(Template::attributes));
    if san.hardware_module_type.is_some() {
        all.insert(IdentityAttribute::Serial);
    }
    // Every device has a UEID: a procedure need not ask for it.
    all.remove(&IdentityAttribute::Ueid);
    all.into_iter().collect()
}

fn key_algs(raw: &Spanned<Texts>, mistakes: &mut Mistakes<'_>) -> Vec<KeyAlg> {
    let mut out: Vec<KeyAlg> = Vec::new();
    for word in raw.get_ref() {
        let known = KEY_ALG_NAMES.iter().find(|(n, _)| n == word.get_ref());
        match known {
            Some((_, alg)) if !out.contains(alg) => out.push(*alg),
            Some(_) => mistakes.add(word.span(), "the algorithm is listed twice", "Remove one."),
            None => mistakes.add(
                word.span(),
                format!("there is no key algorithm called \"{}\"", word.get_ref()),
                choose_from(word.get_ref(), &KEY_ALG_NAMES.map(|(n, _)| n)),
            ),
        }
    }
    if raw.get_ref().is_empty() {
        mistakes.add(
            raw.span(),
            "no key algorithm is allowed",
            "Write for example key_algorithms = [\"P-256\"].",
        );
    }
    out
}

fn key_usage(raw: &Spanned<Texts>, algs: &[KeyAlg], mistakes: &mut Mistakes<'_>) -> Vec<KeyUsage> {
    let mut out = BTreeSet::new();
    for word in raw.get_ref() {
        match KeyUsage::ALL
            .into_iter()
            .find(|u| u.name() == word.get_ref())
        {
            Some(KeyUsage::KeyAgreement) if algs.contains(&KeyAlg::Ed25519) => mistakes.add(
                word.span(),
                "an Ed25519 key cannot agree on keys",
                "Remove keyAgreement, or Ed25519 from key_algorithms.",
            ),
            Some(usage) => drop(out.insert(usage)),
            None => mistakes.add(
                word.span(),
                format!(
                    "there is no key usage called \"{}\" for devices",
                    word.get_ref()
                ),
                choose_from(word.get_ref(), &KeyUsage::ALL.map(KeyUsage::name)),
            ),
        }
    }
    if raw.get_ref().is_empty() {
        mistakes.add(
            raw.span(),
            "no key usage is given",
            "Write for example key_usage = [\"digitalSignature\"].",
        );
    }
    out.into_iter().collect()
}

fn authentication(raw: Option<Spanned<Texts>>, mistakes: &mut Mistakes<'_>) -> Vec<Authentication> {
    let Some(raw) = raw else {
        return vec![Authentication::Ta];
    };
    let mut out = BTreeSet::new();
    for word in raw.get_ref() {
        let known = Authentication::ALL
            .into_iter()
            .find(|a| a.name() == word.get_ref());
        match known {
            Some(authentication) => drop(out.insert(authentication)),
            None => mistakes.add(
                word.span(),
                format!("there is no authentication called \"{}\"", word.get_ref()),
                choose_from(
                    word.get_ref(),
                    &Authentication::ALL.map(Authentication::name),
                ),
            ),
        }
    }
    if raw.get_ref().is_empty() {
        mistakes.add(
            raw.span(),
            "nobody could get a certificate of this profile",
            "Write for example authentication = [\"ta\"], or remove the line, which is the same.",
        );
    }
    out.into_iter().collect()
}

fn approval(
    raw: Option<Spanned<String>>,
    authentication: &[Authentication],
    mistakes: &mut Mistakes<'_>,
) -> bool {
    let Some(raw) = raw else {
        return false;
    };
    match raw.get_ref().as_str() {
        "none" => false,
        // A TA answers for itself, and does not wait.
        "operator" if authentication.contains(&Authentication::Ta) => {
            mistakes.add(
                raw.span(),
                "what a TA asks for needs no approval, and no TA polls",
                "Remove the line, or write authentication = [\"secret\"].",
            );
            true
        }
        "operator" => true,
        other => {
            mistakes.add(
                raw.span(),
                format!("there is no approval called \"{other}\""),
                choose_from(other, &["none", "operator"]),
            );
            false
        }
    }
}

fn validity(raw: &Spanned<String>, mistakes: &mut Mistakes<'_>) -> Option<Validity> {
    if raw.get_ref() == "indefinite" {
        return Some(Validity::Indefinite);
    }
    match parse_span_secs(raw.get_ref()) {
        Some(secs) if (VALIDITY_MIN_SECS..=VALIDITY_MAX_SECS).contains(&secs) => {
            Some(Validity::Secs(secs))
        }
        Some(_) => {
            mistakes.add(
                raw.span(),
                "the lifetime is shorter than an hour or longer than 100 years",
                "Write for example \"365d\", or \"indefinite\" for a certificate that has no end.",
            );
            None
        }
        None => {
            mistakes.add(
                raw.span(),
                format!("\"{}\" is not a span of time", raw.get_ref()),
                "Write a number and a unit, for example \"365d\" or \"10y\", or \"indefinite\".",
            );
            None
        }
    }
}

/// A span of time of at least `min_secs`; `default_secs` where the file says none.
fn span_or(
    raw: Option<Spanned<String>>,
    default_secs: u64,
    min_secs: u64,
    mistakes: &mut Mistakes<'_>,
) -> u64 {
    let Some(text) = raw else {
        return default_secs;
    };
    let found = parse_span_secs(text.get_ref()).filter(|secs| *secs >= min_secs);
    found.unwrap_or_else(|| {
        let (what, help) = (
            format!("\"{}\" is no span of time for this", text.get_ref()),
            "Write a number and a unit of s, m, h, d, w or y: for example \"90d\".",
        );
        mistakes.add(text.span(), what, help);
        default_secs
    })
}

fn renewal_window(
    raw: Option<Spanned<String>>,
    validity_text: &Spanned<String>,
    validity: Validity,
    section: Range<usize>,
    mistakes: &mut Mistakes<'_>,
) -> u64 {
    match (raw, validity) {
        (None, Validity::Indefinite) => 0,
        (None, Validity::Secs(_)) => {
            mistakes.add(
                section,
                "the profile has an end but no renewal_window",
                format!(
                    "Write for example renewal_window = \"30d\" (validity is \"{}\").",
                    validity_text.get_ref()
                ),
            );
            0
        }
        (Some(text), validity) => match (parse_span_secs(text.get_ref()), validity) {
            (Some(window), Validity::Secs(whole)) if window > 0 && window < whole => window,
            (Some(_), Validity::Indefinite) => {
                mistakes.add(
                    text.span(),
                    "a certificate without an end is not renewed",
                    "Remove renewal_window.",
                );
                0
            }
            (Some(_), Validity::Secs(_)) => {
                mistakes.add(
                    text.span(),
                    "the renewal window must be shorter than the validity, and not zero",
                    format!("Write less than \"{}\".", validity_text.get_ref()),
                );
                0
            }
            (None, _) => {
                mistakes.add(
                    text.span(),
                    format!("\"{}\" is not a span of time", text.get_ref()),
                    "Write a number and a unit, for example \"30d\".",
                );
                0
            }
        },
    }
}

fn oids(
    raw: &Texts,
    names: &[(&str, ObjectIdentifier)],
    kind: &str,
    mistakes: &mut Mistakes<'_>,
) -> Vec<ObjectIdentifier> {
    let mut out: Vec<ObjectIdentifier> = Vec::new();
    for word in raw {
        let named = names
            .iter()
            .find(|(n, _)| n == word.get_ref())
            .map(|(_, oid)| *oid);
        match named.or_else(|| ObjectIdentifier::new(word.get_ref()).ok()) {
            Some(oid) if !out.contains(&oid) => out.push(oid),
            Some(_) => mistakes.add(
                word.span(),
                format!("the {kind} is listed twice"),
                "Remove one.",
            ),
            None => {
                let known: Vec<&str> = names.iter().map(|(n, _)| *n).collect();
                let mend = if known.is_empty() {
                    "Write an object identifier in dotted form, for example \"1.3.6.1.4.1.32473.1\".".into()
                } else {
                    format!(
                        "{} Or write an object identifier in dotted form.",
                        choose_from(word.get_ref(), &known)
                    )
                };
                mistakes.add(
                    word.span(),
                    format!("\"{}\" is not a {kind}", word.get_ref()),
                    mend,
                );
            }
        }
    }
    out
}

fn urls(raw: &Texts, mistakes: &mut Mistakes<'_>) -> Vec<String> {
    for text in raw {
        let t = text.get_ref();
        let rest = t
            .strip_prefix("http://")
            .or_else(|| t.strip_prefix("https://"));
        let fine = rest.is_some_and(|r| !r.is_empty() && !r.starts_with('/'))
            && t.len() <= 2048
            && t.chars().all(|c| c.is_ascii_graphic());
        if !fine {
            mistakes.add(
                text.span(),
                format!("\"{t}\" is not a web address"),
                "Write for example \"http://pki.example.com/issuing.crl\" (ASCII).",
            );
        }
    }
    raw.iter().map(|t| t.get_ref().clone()).collect()
}

fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
}

fn is_printable_string_or_brace(c: char) -> bool {
    c.is_ascii_alphanumeric() || " '()+,-./:=?{}".contains(c)
}

/// Key algorithms by the names that profile files use.
const KEY_ALG_NAMES: [(&str, KeyAlg); 3] = [
    ("P-256", KeyAlg::P256),
    ("P-384", KeyAlg::P384),
    ("Ed25519", KeyAlg::Ed25519),
];
/// Identity attributes by the names that templates use.
const ATTRIBUTE_NAMES: [&str; 5] = ["serial", "ueid", "model", "imei", "mac"];
/// Most entries of one list in a profile: names of one device, not of a fleet.
const ITEMS_MAX: usize = 16;
/// Shortest lifetime: clocks of devices differ by minutes.
const VALIDITY_MIN_SECS: u64 = 3_600;
/// How long after the end a device may return, where the profile says nothing.
const GRACE_SECS: u64 = 90 * 86_400;
/// How old its evidence may be then, where the profile says nothing.
const EVIDENCE_AGE_SECS: u64 = 3_600;
/// Longest lifetime that is a number.
const VALIDITY_MAX_SECS: u64 = 100 * 365 * 86_400;
