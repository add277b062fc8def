//! `tegata ta`: releases of Trusted Applications, cut by the CA, registered with TAM and Verifier.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tegata_authority::UnixSecs;
use tegata_authority::ca::release::ReleaseRecord;
use tegata_authority::statement::StatementPolicy;
use tegata_authority::tam::availability::Availability;
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::{OsRng, Provider as _};
use tegata_store::Store;
use tegata_store::issuer::{Issuer, NewRelease};
use tegata_store::release::{self, Release};
use tegata_wire::cbor;
use tegata_wire::enrolment::{MAX_TA_BYTES, ReleasePackage};
use tegata_wire::ids::{ReleaseDigest, TaUuid};

use crate::cli::{Common, OwnTa, ReleaseMode, Role, TaPublish, TaRelease, TaWithdraw, show};
use crate::commands::import::role_fault;
use crate::config::{self, Config};
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};
use crate::http::client::{Client, expect_success};
use crate::roles::verifier::SUIT_ENVELOPE;
use crate::stores::{self, now_secs, store_fault};
use crate::{roles, serve, trust};

/// Longest release package, bytes.
const PACKAGE_LEN_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// The enrolment TA of this program; `cargo xtask tas` rebuilds it.
const ENROL_TA: &[u8] = include_bytes!("../../../../tas/enrol/enrol.wasm");

/// The location TA of this program.
const LOCATION_TA: &[u8] = include_bytes!("../../../../tas/location/location.wasm");

/// What is to be released.
#[derive(Debug)]
pub struct Order<'a> {
    /// The module; one of this program when absent.
    pub wasm: Option<&'a Path>,
    /// Which of this program.
    pub own: OwnTa,
    /// Name of the TA.
    pub name: &'a str,
    /// Certificate profiles, at least one.
    pub profiles: &'a [&'a str],
    /// Key scheme.
    pub mode: ReleaseMode,
    /// Sequence number that is expected; the next one when absent.
    pub sequence: Option<u64>,
    /// Who may get it.
    pub available: &'a str,
}

/// A release that was cut.
#[derive(Debug, Clone, Serialize)]
pub struct Released {
    /// Its digest, hexadecimal: its name.
    pub digest: String,
    /// The TA.
    #[serde(serialize_with = "as_text")]
    pub ta: TaUuid,
    /// Name of the TA.
    pub name: String,
    /// Sequence number.
    pub sequence: u64,
    /// Length of the Wasm module in bytes.
    pub module_len_bytes: u64,
    /// SHA-256 of the module, hexadecimal: the measurement in evidence.
    pub module_digest: String,
    /// Who may get it.
    pub available: String,
    /// Whether TAM and Verifier have it.
    pub published: bool,
}

fn as_text<S: serde::Serializer>(ta: &TaUuid, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(ta)
}

/// A release in a list.
#[derive(Debug, Serialize)]
struct Listed {
    name: String,
    sequence: u64,
    digest: String,
    ta: String,
    available: String,
    at: u64,
    module_len_bytes: Option<u64>,
}

/// `tegata ta release`.
///
/// # Errors
/// Configuration, profile, module, store; TAM or Verifier that refuse.
pub fn release(args: &TaRelease) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    let profiles: Vec<&str> = args.profile.iter().map(String::as_str).collect();
    let order = Order {
        wasm: args.wasm.as_deref(),
        own: args.ta,
        name: &args.name,
        profiles: &profiles,
        mode: args.mode,
        sequence: args.seq,
        available: &args.available,
    };
    let released = if args.no_publish {
        cut(&config, &order)?.0
    } else {
        cut_and_publish(&config, &order)?
    };
    if args.common.json {
        return show::json(&released);
    }
    show::record(&[
        ("release", released.digest.clone()),
        ("TA", format!("{}  {}", released.name, released.ta)),
        ("sequence", released.sequence.to_string()),
        (
            "module",
            format!(
                "{} bytes, SHA-256 {}",
                released.module_len_bytes, released.module_digest
            ),
        ),
        ("available to", released.available.clone()),
        (
            "published",
            if released.published {
                "to TAM and Verifier"
            } else {
                "not yet: `tegata ta publish`"
            }
            .to_owned(),
        ),
    ]);
    Ok(())
}

/// Cuts a release and hands it to TAM and Verifier.
///
/// # Errors
/// As [`release`]. A release that was cut but not published is published by `tegata ta publish`.
pub fn cut_and_publish(config: &Config, order: &Order<'_>) -> Outcome<Released> {
    let (mut released, issuer, digest) = cut(config, order)?;
    hand_over(config, &issuer, &digest).map_err(|fault| Fault {
        mend: format!(
            "{} The release is cut; hand it over with `tegata ta publish --config {} --release {} \
             --available {}`.",
            fault.mend,
            config.path.display(),
            released.digest.get(..16).unwrap_or(&released.digest),
            released.available
        ),
        ..fault
    })?;
    released.published = true;
    Ok(released)
}

fn cut(config: &Config, order: &Order<'_>) -> Outcome<(Released, Issuer, ReleaseDigest)> {
    let rule = availability(order.available)?;
    let module = match order.wasm {
        Some(path) => read_module(path)?,
        None => match order.own {
            OwnTa::Enrol => ENROL_TA.to_vec(),
            OwnTa::Location => LOCATION_TA.to_vec(),
        },
    };
    let exchange_key = match order.mode {
        ReleaseMode::Asymmetric => None,
        ReleaseMode::Symmetric => Some(trust::read(&trust::path(config, "tam-exchange"))?),
    };
    let issuer = roles::ca::issuer(config)?;
    check_sequence(&issuer, order)?;
    check_purpose(&issuer, order)?;
    let new = NewRelease {
        ta_name: order.name,
        module: &module,
        profiles: order.profiles,
        paper_exchange_key: exchange_key.as_ref(),
        available: &rule,
    };
    let cut = issuer
        .release(&new, &mut OsRng, UnixSecs(now_secs()))
        .map_err(|e| match &e {
            tegata_store::role::RoleError::NoProfile(_) => {
                let names: Vec<&str> = issuer.profiles().iter().map(|p| p.name.as_str()).collect();
                Fault::usage(
                    e.code(),
                    e.to_string(),
                    format!("Choose one of: {}.", names.join(", ")),
                )
            }
            _ => role_fault(&e),
        })?;
    let path = package_path(config, &cut.digest.to_string());
    if let Some(parent) = path.parent() {
        files::make_dir(parent)?;
    }
    files::write_new(&path, &cut.package, Readers::Everyone)?;
    let released = Released {
        digest: cut.digest.to_string(),
        ta: cut.ta,
        name: order.name.to_owned(),
        sequence: cut.sequence,
        module_len_bytes: u64::try_from(module.len()).unwrap_or(u64::MAX),
        module_digest: hex::encode(AwsLc.sha256(&module)),
        available: rule.to_string(),
        published: false,
    };
    Ok((released, issuer, cut.digest))
}

fn availability(text: &str) -> Outcome<Availability> {
    text.parse()
        .map_err(|e: tegata_authority::tam::availability::NotAvailability| {
            Fault::usage(
                "bad-availability",
                e.to_string(),
                "See `tegata ta release --help`.",
            )
        })
}

fn read_module(path: &Path) -> Outcome<Vec<u8>> {
    let limit = u64::try_from(MAX_TA_BYTES).unwrap_or(u64::MAX);
    let module = files::read(path, limit)?;
    // `\0asm`. Spec: WebAssembly Core section 5.5.16.
    if module.starts_with(b"\0asm") {
        return Ok(module);
    }
    Err(Fault::usage(
        "not-wasm",
        format!("{} is not a Wasm module", path.display()),
        "Build the TA for wasm32-unknown-unknown; `cargo xtask tas` shows how.",
    ))
}

/// The enrolment TA signs what its owner brings: under a certificate for statements it would let any
/// application make them up.
fn check_purpose(issuer: &Issuer, order: &Order<'_>) -> Outcome<()> {
    let purpose = StatementPolicy::location().purpose;
    let for_statements = |name: &&&str| {
        let mut profiles = issuer.profiles().iter().filter(|p| p.name == **name);
        profiles.any(|p| p.extended_key_usage.contains(&purpose))
    };
    let enrol = order.wasm.is_none() && order.own == OwnTa::Enrol;
    match order.profiles.iter().find(for_statements).filter(|_| enrol) {
        None => Ok(()),
        Some(name) => Err(Fault::usage(
            "statement-purpose",
            format!("the profile “{name}” is for statements, and the enrolment TA signs anything"),
            "Release it with --ta location.",
        )),
    }
}

/// A sequence number on the command line is a claim that is checked, not a wish.
fn check_sequence(issuer: &Issuer, order: &Order<'_>) -> Outcome<()> {
    let Some(wanted) = order.sequence else {
        return Ok(());
    };
    let rows = rows(&issuer.role().store)?;
    let last = rows
        .iter()
        .filter(|row| row.name == order.name)
        .map(|row| row.sequence)
        .max();
    let next = last.unwrap_or(0).saturating_add(1);
    if wanted == next {
        return Ok(());
    }
    Err(Fault::usage(
        "bad-sequence",
        format!(
            "the next sequence number of “{}” is {next}, not {wanted}",
            order.name
        ),
        format!("Pass --seq {next}, or leave it out."),
    ))
}

/// Sends the release to the TAM, with the CA's word on who may get it, and its envelope to the
/// Verifier. Both take it again unharmed.
fn hand_over(config: &Config, issuer: &Issuer, digest: &ReleaseDigest) -> Outcome<()> {
    let (package, rule) = noticed_package(config, issuer, digest)?;
    let client = Client::for_command();
    // The Verifier first: a device that gets the TA at once must find its reference value.
    let verifier = serve::verifier_base(config)
        .ok_or_else(|| no_url(config, "Verifier", "[tam] verifier_url"))?;
    let answer = client.post(
        &format!("{verifier}/verifier/v1/reference-values"),
        SUIT_ENVELOPE,
        "application/json",
        &package.ta_envelope,
    )?;
    expect_success("the reference value", answer)?;
    tell_tam(config, &package, &rule)
}

/// Registers the release at the TAM, or tells it the CA's latest decision.
fn tell_tam(config: &Config, package: &ReleasePackage, rule: &Availability) -> Outcome<()> {
    let tam = serve::tam_uri(config).ok_or_else(|| no_url(config, "TAM", "[tam] public_url"))?;
    let tam = tam.strip_suffix("/tam").unwrap_or(&tam);
    let body = package.encode().map_err(|e| unsendable(&e))?;
    let answer = Client::for_command().post(
        &format!("{tam}/tam/v1/releases"),
        "application/cbor",
        "application/json",
        &body,
    )?;
    let answer = expect_success("the release", answer)?;
    let told: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let stands = told.get("available").and_then(serde_json::Value::as_str);
    if stands == Some(rule.to_string().as_str()) {
        return Ok(());
    }
    Err(Fault::failed(
        "tam-disagrees",
        format!(
            "the TAM has the release, and gives it to {}, not to {rule}",
            stands.unwrap_or("unknown devices")
        ),
        "It heard a later decision, as after this CA's store was restored from a backup: run \
         `tegata ta publish` or `tegata ta withdraw` again until its number is passed.",
    ))
}

fn no_url(config: &Config, what: &str, key: &str) -> Fault {
    Fault::usage(
        "no-url",
        format!("the address of the {what} is not known"),
        format!("Write `{key}` into {}.", config.path.display()),
    )
}

fn unsendable(error: &dyn std::fmt::Display) -> Fault {
    Fault::usage(
        "bad-package",
        format!("the release cannot be sent: {error}"),
        "Name fewer devices, or their batch or model instead.",
    )
}

fn rows(store: &Store) -> Outcome<Vec<Release>> {
    store
        .read("list releases", release::list)
        .map_err(|e| store_fault(&e))
}

/// `tegata ta list`.
///
/// # Errors
/// Configuration or store.
pub fn list(common: &Common) -> Outcome<()> {
    let config = config::load(&common.config)?;
    let role = if stores::exists(&config, Role::Ca)? {
        Role::Ca
    } else {
        Role::Tam
    };
    let store = stores::open(&config, role)?;
    let listed: Vec<Listed> = rows(&store)?
        .into_iter()
        .map(|row| Listed {
            name: row.name,
            sequence: row.sequence,
            digest: row.digest.to_string(),
            ta: row.ta.to_string(),
            available: rule_text(&row.availability),
            at: u64::try_from(row.made_at).unwrap_or(0),
            module_len_bytes: ReleaseRecord::decode(&row.record)
                .ok()
                .map(|r| r.module_len_bytes),
        })
        .collect();
    if common.json {
        return show::json(&listed);
    }
    let table: Vec<[String; 5]> = listed
        .iter()
        .map(|row| {
            [
                row.name.clone(),
                row.sequence.to_string(),
                row.digest.clone(),
                row.available.clone(),
                show::date(row.at),
            ]
        })
        .collect();
    show::table(
        ["TA", "#", "RELEASE", "AVAILABLE TO", "CUT"],
        &table,
        "No release was cut yet; cut one with `tegata ta release`.",
    );
    Ok(())
}

fn rule_text(bytes: &[u8]) -> String {
    cbor::from_slice::<Availability>(bytes).map_or_else(|_| "?".to_owned(), |rule| rule.to_string())
}

/// The one release whose digest begins with `wanted`.
pub(crate) fn find(store: &Store, wanted: &str) -> Outcome<ReleaseDigest> {
    let wanted = super::beginning("the digest of a release", wanted)?;
    let mut found: Vec<ReleaseDigest> = rows(store)?
        .into_iter()
        .map(|row| row.digest)
        .filter(|digest| digest.to_string().starts_with(&wanted))
        .collect();
    match (found.pop(), found.is_empty()) {
        (Some(digest), true) => Ok(digest),
        _ => Err(Fault::failed(
            "not-one",
            format!("no single release has a digest that begins with {wanted}"),
            "`tegata ta list` shows all; give enough of the beginning.",
        )),
    }
}

/// `tegata ta publish`.
///
/// # Errors
/// Configuration, store; TAM or Verifier that refuse.
pub fn publish(args: &TaPublish) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    let rule = availability(&args.available)?;
    let issuer = roles::ca::issuer(&config)?;
    let store = &issuer.role().store;
    let digest = find(store, &args.release)?;
    issuer
        .set_availability(&digest, &rule)
        .map_err(|e| role_fault(&e))?;
    hand_over(&config, &issuer, &digest)?;
    changed(args.common.json, &digest, &rule, "published")
}

/// `tegata ta withdraw`.
///
/// # Errors
/// Configuration or store.
pub fn withdraw(args: &TaWithdraw) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    let issuer = roles::ca::issuer(&config)?;
    let digest = find(&issuer.role().store, &args.release)?;
    let rule = Availability::Nobody;
    // The CA first: from now on it delivers the release to nobody, whatever a TAM asks.
    issuer
        .set_availability(&digest, &rule)
        .map_err(|e| role_fault(&e))?;
    let (package, rule) = noticed_package(&config, &issuer, &digest)?;
    tell_tam(&config, &package, &rule).map_err(|fault| Fault {
        mend: format!(
            "{} The CA delivers the release to nobody from now on; run this again to tell the TAM.",
            fault.mend
        ),
        ..fault
    })?;
    changed(args.common.json, &digest, &rule, "withdrawn")
}

fn changed(json: bool, digest: &ReleaseDigest, rule: &Availability, what: &str) -> Outcome<()> {
    if json {
        return show::json(&serde_json::json!({
            "release": digest.to_string(), "available": rule.to_string(), "state": what,
        }));
    }
    show::lines([format!("{what}: release {digest}, available to {rule}")]);
    Ok(())
}

/// File of a release's package: signed, and its secrets encrypted to others, so not secret itself.
fn package_path(config: &Config, digest: &str) -> PathBuf {
    config
        .store_dir
        .join("releases")
        .join(format!("{digest}.cbor"))
}

/// The package as it was cut, with the CA's latest word on who may get it, and that word.
fn noticed_package(
    config: &Config,
    issuer: &Issuer,
    digest: &ReleaseDigest,
) -> Outcome<(ReleasePackage, Availability)> {
    let path = package_path(config, &digest.to_string());
    // A command that was killed right after it cut the release leaves one that nobody else has heard of.
    let again = "Restore the file from your backup, or cut the release again.";
    let package =
        files::read(&path, PACKAGE_LEN_BYTES_MAX).map_err(|fault| match path.exists() {
            true => fault,
            false => Fault {
                mend: again.to_owned(),
                ..fault
            },
        })?;
    let mut package = ReleasePackage::decode(&package).map_err(|e| {
        Fault::environment(
            "bad-package",
            format!("{} is not a release package: {e}", path.display()),
            again,
        )
    })?;
    let (rule, notice) = issuer.notice(digest).map_err(|e| role_fault(&e))?;
    package.notice = Some(notice);
    Ok((package, rule))
}
