//! `tegata factory make`: the station where devices get identity and keys. Its sister
//! `tegata factory adopt` takes in devices that made their keys themselves.
//!
//! The station draws each device's root key, exports the public halves into a signed manifest, and
//! writes the rest into the device's own directory alone. What it stands for is a production line
//! that writes fuses; with the software backend a "fuse" is a file of mode 0600.
//! Trusted: it sees the root key of every device it makes, for a moment.

use std::path::{Path, PathBuf};

use serde::Serialize;
use tegata_authority::UnixSecs;
use tegata_authority::factory::{
    BatchSpec, DeviceSecret, FactoryError, make_devices, sign_manifest,
};
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::{OsRng, PrivateKey, Rng as _};
use tegata_wire::device::{DeviceFile, Oem};
use tegata_wire::ids::{SignerId, TaUuid};
use zeroize::Zeroizing;

use crate::cli::{Common, FactoryMake, show};
use crate::config::{self, Config};
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};
use crate::stores::now_secs;
use crate::vault::{self, crypto_fault};
use crate::{serve, trust};

pub mod adopt;

/// What the evidence of the software backend says about its wall.
const SECURITY_LEVEL: &str = "software";
/// Purpose under which the factory's key is sealed.
pub const FACTORY_KEY: &str = "factory key";
/// Name of the enrolment TA; with the release key it makes the UUID that devices ask for.
pub const ENROL_TA_NAME: &str = "enrol";
/// Serial numbers of a batch begin at random below this, so that batches of one day differ.
const SERIALS: u64 = 1_000_000_000;

/// A batch that was made.
#[derive(Debug, Serialize)]
pub struct Batch {
    /// Its name.
    pub batch: String,
    /// The signed manifest.
    pub manifest: PathBuf,
    /// Symmetric delivery keys, paper profile only. Secret.
    pub keks: Option<PathBuf>,
    /// The devices, in order.
    pub devices: Vec<Made>,
}

/// One device that was made.
#[derive(Debug, Clone, Serialize)]
pub struct Made {
    /// UEID, hexadecimal.
    pub ueid: String,
    /// Serial number.
    pub serial: String,
    /// Its directory.
    pub dir: PathBuf,
}

/// What is made.
#[derive(Debug)]
pub struct Order<'a> {
    /// How many devices.
    pub count: u32,
    /// Where.
    pub out: &'a Path,
    /// Model name.
    pub model: &'a str,
    /// Name of the batch; date and a random part when absent.
    pub batch: Option<&'a str>,
    /// TAM URI for the devices.
    pub tam_url: &'a str,
    /// CA base URL for the devices.
    pub ca_url: &'a str,
    /// Whether the symmetric delivery keys are written too.
    pub paper: bool,
}

/// `tegata factory make`.
///
/// # Errors
/// Configuration, keys or files.
pub fn run(args: &FactoryMake) -> Outcome<()> {
    let config = config::load(&args.common.config)?;
    let (ca_url, tam_url) = urls(&config, args.ca_url.as_ref(), args.tam_url.as_ref())?;
    let batch = make(
        &config,
        &Order {
            count: args.count,
            out: &args.out,
            model: args.model.as_deref().unwrap_or(&config.factory.model),
            batch: args.batch.as_deref(),
            tam_url: &tam_url,
            ca_url: &ca_url,
            paper: args.paper,
        },
    )?;
    tell(&batch, &args.common)
}

/// Says what was made, and what to do with it.
fn tell(batch: &Batch, common: &Common) -> Outcome<()> {
    if common.json {
        return show::json(batch);
    }
    let rows: Vec<[String; 3]> = batch
        .devices
        .iter()
        .take(20)
        .map(|d| {
            [
                d.serial.clone(),
                d.ueid.clone(),
                d.dir.display().to_string(),
            ]
        })
        .collect();
    show::table(["SERIAL NUMBER", "UEID", "DIRECTORY"], &rows, "");
    if batch.devices.len() > rows.len() {
        show::lines([format!(
            "and {} more",
            batch.devices.len().saturating_sub(rows.len())
        )]);
    }
    let manifest = batch.manifest.display();
    show::lines([
        String::new(),
        format!(
            "Batch {}: import {manifest} at CA, TAM and Verifier:",
            batch.batch
        ),
        format!(
            "    tegata factory import --config {} --manifest {manifest}{}",
            common.config.display(),
            batch
                .keks
                .as_ref()
                .map(|k| format!(" --keks {}", k.display()))
                .unwrap_or_default()
        ),
    ]);
    Ok(())
}

/// Where devices find CA and TAM: from the command line, else from the configuration.
fn urls(
    config: &Config,
    ca_url: Option<&String>,
    tam_url: Option<&String>,
) -> Outcome<(String, String)> {
    let missing = |what: &str, flag: &str| {
        Fault::usage(
            "no-url",
            format!("the devices' {what} is not known: the configuration has no fixed address"),
            format!(
                "Pass {flag}, or write the address into {}.",
                config.path.display()
            ),
        )
    };
    let checked = |url: &str, flag: &str| {
        config::url::check(url).map_err(|reason| {
            let url = show::visible(url);
            let what = format!("{flag} `{url}` is not an http:// URL: {reason}");
            Fault::usage("bad-url", what, config::url::MEND)
        })
    };
    let ca = match ca_url {
        Some(url) => {
            checked(url, "--ca-url")?;
            url.trim_end_matches('/').to_owned()
        }
        None => serve::ca_base(config).ok_or_else(|| missing("CA URL", "--ca-url"))?,
    };
    let tam = match tam_url {
        Some(url) => {
            checked(url, "--tam-url")?;
            url.clone()
        }
        None => serve::tam_uri(config).ok_or_else(|| missing("TAM URI", "--tam-url"))?,
    };
    Ok((ca, tam))
}

/// Makes a batch.
///
/// # Errors
/// Keys, trust or files; the manifest is written last, so a batch that broke off is no batch.
pub fn make(config: &Config, order: &Order<'_>) -> Outcome<Batch> {
    let manifest_path = new_manifest(order.out)?;
    let factory_key = open_factory_key(config)?;
    let anchors = Anchors::read(config)?;
    let now = now_secs();
    let spec = batch_spec(config, order.model, order.batch, SECURITY_LEVEL, now)?;
    let count = usize::try_from(order.count).unwrap_or(usize::MAX);
    let made =
        make_devices(&AwsLc, &mut OsRng, &spec, count, UnixSecs(now)).map_err(|e| bad(&e))?;
    let signed = sign_manifest(&made.manifest, &factory_key).map_err(|e| bad(&e))?;
    let mut devices = Vec::with_capacity(count);
    for secret in made.secrets {
        devices.push(write_device(secret, order, &anchors)?);
    }
    let keks_path = order.out.join("delivery-keks.cbor");
    if order.paper {
        let secret = made.keks.encode().map_err(|e| bad(&e.into()))?;
        files::write_new(&keks_path, &secret, Readers::Owner)?;
    }
    files::write_new(&manifest_path, &signed, Readers::Everyone)?;
    Ok(Batch {
        batch: spec.batch,
        manifest: manifest_path,
        keks: order.paper.then_some(keks_path),
        devices,
    })
}

/// Where the manifest of a new batch goes.
fn new_manifest(out: &Path) -> Outcome<PathBuf> {
    let path = out.join("manifest.cose");
    if path.exists() {
        return Err(Fault::usage(
            "already-exists",
            format!("{} exists already", path.display()),
            "Choose another --out directory for this batch; nothing is overwritten.",
        ));
    }
    Ok(path)
}

/// What the devices of a new batch have in common. Serial numbers begin at random.
fn batch_spec(
    config: &Config,
    model: &str,
    batch: Option<&str>,
    security_level: &str,
    now: u64,
) -> Outcome<BatchSpec> {
    let mut random = [0; 4];
    OsRng
        .fill(&mut random)
        .map_err(|e| crypto_fault("draw random bytes", &e))?;
    let first_number = u64::from(u32::from_be_bytes(random)) % SERIALS;
    let day: String = show::date(now).replace('-', "").chars().skip(2).collect();
    Ok(BatchSpec {
        batch: batch.map_or_else(|| format!("{day}-{first_number:06}"), str::to_owned),
        maker: config.factory.maker.clone(),
        vendor_domain: config.factory.vendor.clone(),
        oemid: Oem::Pen(u64::from(config.factory.maker_pen)),
        model: model.to_owned(),
        hwversion: config.factory.hwversion.clone(),
        serial_prefix: format!("{day}-"),
        first_number,
        imei_type_code: None,
        with_mac: true,
        security_level: security_level.to_owned(),
    })
}

/// The factory's own key.
fn open_factory_key(config: &Config) -> Outcome<PrivateKey> {
    let sealing = vault::sealing_key(config, "factory")?;
    vault::open_key(&factory_key_path(config), &sealing, FACTORY_KEY)
}

/// File of the factory's sealed key.
#[must_use]
pub fn factory_key_path(config: &Config) -> PathBuf {
    config.keys_dir.join("factory.key")
}

fn bad(error: &FactoryError) -> Fault {
    Fault::usage(
        "bad-batch",
        format!("the batch cannot be made: {error}"),
        "Check --model, --batch, --count and [factory] in the configuration; a model has at most \
         32 bytes, a Japanese character has 3.",
    )
}

fn cose_key(path: &Path) -> Outcome<Vec<u8>> {
    trust::read(path)?
        .to_cose_key()
        .map_err(|e| crypto_fault("encode a public key", &e))
}

/// Whom the devices believe, as COSE_Key.
struct Anchors {
    release: Vec<u8>,
    tam: Vec<u8>,
    /// The enrolment TA that this release key signs.
    enrol_ta: TaUuid,
}

impl Anchors {
    /// As the trust directory has them.
    fn read(config: &Config) -> Outcome<Self> {
        let release = trust::read(&trust::path(config, "release"))?;
        Ok(Self {
            enrol_ta: TaUuid::derive(&SignerId(release.thumbprint()), ENROL_TA_NAME),
            release: cose_key(&trust::path(config, "release"))?,
            tam: cose_key(&trust::path(config, "tam"))?,
        })
    }

    /// Settings of the agent of such a device.
    fn agent_toml(&self, tee: &str, tam_url: &str, ca_url: &str) -> String {
        AGENT_TOML
            .replace("{tee}", tee)
            .replace("{tam_url}", tam_url)
            .replace("{ca_url}", ca_url)
            .replace("{enrol_ta}", &self.enrol_ta.to_string())
    }
}

/// Writes the device's own directory.
fn write_device(secret: DeviceSecret, order: &Order<'_>, anchors: &Anchors) -> Outcome<Made> {
    let ueid = secret.identity.ueid.to_string();
    let serial = secret.identity.serial.clone();
    let dir = order.out.join("devices").join(&ueid);
    files::make_dir(&dir.join("tee"))?;
    let file = DeviceFile {
        tee_key: Zeroizing::new(*secret.tee_key.expose_secret()),
        identity: secret.identity,
        release_keys: vec![anchors.release.clone()],
        tam_keys: vec![anchors.tam.clone()],
        tam_uri: Some(order.tam_url.to_owned()),
    };
    let bytes = file.encode().map_err(|e| {
        Fault::failed(
            "bad-batch",
            format!("a device cannot be written: {e}"),
            "Check [factory] in the configuration.",
        )
    })?;
    files::write_new(&dir.join("device.cbor"), &bytes, Readers::Owner)?;
    files::write_new(
        &dir.join("teed.toml"),
        TEED_TOML.as_bytes(),
        Readers::Everyone,
    )?;
    let agent = anchors.agent_toml("", order.tam_url, order.ca_url);
    files::write_new(&dir.join("agent.toml"), agent.as_bytes(), Readers::Everyone)?;
    Ok(Made { ueid, serial, dir })
}

/// Settings of the TEE process; every key has a default.
const TEED_TOML: &str = "\
# The software TEE of this device. Every key has a default; see docs/ops/software-backend.md.
log = \"info\"
";

/// Settings of the agent.
const AGENT_TOML: &str = "\
# The agent of this device: it carries bytes and holds no secret.
{tee}tam_url = \"{tam_url}\"
ca_url = \"{ca_url}\"
enrol_ta = \"enrol\"

[tas]
enrol = \"{enrol_ta}\"
";
