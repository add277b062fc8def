//! The installation that is measured, and its devices, made before any clock runs.
//!
//! It is one as `tegata init` makes it: a CA, a TAM and a Verifier with their keys. A factory endorses the
//! devices; the CA cuts a release and delivers it to each, encrypted to its key. What the device's TA
//! would do with the delivery is done here with the same code: decrypt it, take the `CsrAuthKey`.
//! Trusted: it holds the keys of all its devices; they are of no use elsewhere.

use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use tegata_authority::UnixSecs;
use tegata_authority::factory::{BatchSpec, DeviceSecret, make_devices, sign_manifest};
use tegata_authority::tam::availability::Availability;
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_crypto::device_keys::{delivery_ecdh_key, software_derive};
use tegata_crypto::suit::{DeliveryKeys, open_payload};
use tegata_crypto::{KeyAlg, OsRng, PrivateKey, Provider as _};
use tegata_store::issuer::{CutRelease, Issuer, NewRelease};
use tegata_store::role::{Role as RoleStore, Trust};
use tegata_wire::device::{DeviceIdentity, Oem};
use tegata_wire::enrolment::{
    CertificateOrder, Delivery, DeliveryRequest, MAX_FACTORY_DEVICES, PersonalizationData,
};
use tegata_wire::ids::{ReleaseDigest, Ueid};

use super::cpus::by_all;
use super::odd;
use crate::cli::Role;
use crate::commands::import::role_fault;
use crate::commands::init::{self, Names};
use crate::config::{self, Config};
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};
use crate::roles;
use crate::stores::{self, now_secs};

/// Name of the certificate profile, and last part of the path.
pub const PROFILE: &str = "bench";
/// The program of the bench's TA: nobody runs it.
pub const MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// The installation, whole and closed: a copy of its directory is one too.
#[derive(Debug, Clone)]
pub struct Plant {
    /// Its directory.
    pub dir: PathBuf,
    /// Certificate of the root (DER).
    pub root: Vec<u8>,
    /// Certificate of the issuing CA (DER).
    pub issuing: Vec<u8>,
    /// Devices of the registry.
    pub devices: Vec<Ueid>,
}

/// A device with its TA installed.
pub struct Device {
    /// Who it is.
    pub identity: DeviceIdentity,
    /// How the CA knows its `CsrAuthKey`: the senderKID of its messages.
    pub kid: Vec<u8>,
    /// That key.
    pub mac_key: [u8; 32],
}

/// The installation while it is furnished: its CA is open.
pub struct Nursery {
    /// Its directory.
    pub dir: PathBuf,
    /// Its configuration.
    pub config: Config,
    /// Its CA.
    pub issuer: Issuer,
    /// What the TA asks for.
    pub order: CertificateOrder,
    factory: PrivateKey,
    tam: PrivateKey,
}

impl Nursery {
    /// Makes an installation in `dir`; what `more` says stands in its configuration too.
    ///
    /// # Errors
    /// Files or keys.
    pub fn open(dir: &Path, more: &str) -> Outcome<Self> {
        Self::with_profile(dir, more, ("365d", "30d"))
    }

    /// The same, with another validity and renewal window.
    ///
    /// # Errors
    /// Files or keys.
    pub fn with_profile(dir: &Path, more: &str, profile: (&str, &str)) -> Outcome<Self> {
        let config = configure(dir, more, profile)?;
        if stores::has_keys(&config, Role::Ca)? {
            return Err(Fault::usage(
                "has-installation",
                format!(
                    "{} has an installation already",
                    stores::place(&config, Role::Ca).display()
                ),
                "A bench makes its own, and leaves thousands of devices in it: give the address of an empty database.",
            ));
        }
        init::make(&config, dir, &Names::default())?;
        let issuer = roles::ca::issuer(&config)?;
        let (factory, tam) = (key()?, key()?);
        let nursery = Self {
            dir: dir.to_path_buf(),
            order: order(&issuer)?,
            config,
            issuer,
            factory,
            tam,
        };
        let role = nursery.issuer.role();
        role.trust(
            Trust::Tam,
            nursery.tam.public_key(),
            "the bench's TAM",
            now(),
        )
        .map_err(|e| role_fault(&e))?;
        Ok(nursery)
    }

    /// Makes devices at a factory, and imports its manifest at the CA and at those roles.
    ///
    /// # Errors
    /// Keys or stores.
    pub fn register(&self, count: usize, others: &[&RoleStore]) -> Outcome<Vec<DeviceSecret>> {
        let mut secrets = Vec::with_capacity(count);
        while secrets.len() < count {
            let some = MAX_FACTORY_DEVICES.min(count - secrets.len());
            secrets.extend(self.batch(secrets.len(), some, others)?);
        }
        Ok(secrets)
    }

    /// The next devices, as many as a factory makes at once.
    fn batch(
        &self,
        first: usize,
        count: usize,
        others: &[&RoleStore],
    ) -> Outcome<Vec<DeviceSecret>> {
        let first_number = u64::try_from(first).map_err(odd)? + 1;
        let spec = BatchSpec {
            batch: format!("bench-{first_number}"),
            maker: "Example Devices".to_owned(),
            vendor_domain: "devices.example".to_owned(),
            oemid: Oem::Pen(32_473),
            model: "sensor-1".to_owned(),
            hwversion: "1.0".to_owned(),
            serial_prefix: "bench-".to_owned(),
            first_number,
            imei_type_code: None,
            with_mac: true,
            security_level: "software".to_owned(),
        };
        let made = make_devices(&AwsLc, &mut OsRng, &spec, count, now()).map_err(odd)?;
        let signed = sign_manifest(&made.manifest, &self.factory).map_err(odd)?;
        for role in [self.issuer.role()].iter().chain(others) {
            let key = self.factory.public_key();
            role.trust(Trust::Factory, key, "the bench's factory", now())
                .map_err(|e| role_fault(&e))?;
            role.import_devices(&signed, now())
                .map_err(|e| role_fault(&e))?;
        }
        Ok(made.secrets)
    }

    /// Cuts a release of that program.
    ///
    /// # Errors
    /// The CA's.
    pub fn release(&self, module: &[u8]) -> Outcome<CutRelease> {
        let new = NewRelease {
            ta_name: "bench",
            module,
            profiles: &[PROFILE],
            paper_exchange_key: None,
            available: &Availability::Everybody,
        };
        let cut = self.issuer.release(&new, &mut OsRng, now());
        cut.map_err(|e| role_fault(&e))
    }

    /// Has the release delivered and opens what is the device's.
    ///
    /// # Errors
    /// What the CA would refuse from a TAM too.
    pub fn install(&self, release: &ReleaseDigest, secret: DeviceSecret) -> Outcome<Device> {
        let DeviceSecret { identity, tee_key } = secret;
        let asked = delivery_request(&self.tam, release, &identity.ueid)?;
        let answer = self
            .issuer
            .deliver(&asked, &mut OsRng, now())
            .map_err(|e| role_fault(&e))?;
        let delivery = Delivery::decode(&answer).map_err(odd)?;
        let derive =
            |label: &str, context: &[u8]| software_derive(&AwsLc, &tee_key, label, context);
        let private = delivery_ecdh_key(&AwsLc, &derive).map_err(odd)?;
        let keys = DeliveryKeys {
            kek: None,
            ecdh: Some(&private),
        };
        let (info, ciphertext) = (
            &delivery.config_encryption_info,
            &delivery.config_ciphertext,
        );
        let plain = open_payload(&AwsLc, info, ciphertext, keys).map_err(odd)?;
        let data = PersonalizationData::decode(plain.expose_secret()).map_err(odd)?;
        let kid = data.sender_kid(&identity.ueid).map_err(odd)?;
        Ok(Device {
            kid: kid.to_bytes(),
            mac_key: *data.expose_csr_auth_key(),
            identity,
        })
    }

    /// Registers devices and installs a release on each.
    ///
    /// # Errors
    /// As [`Nursery::register`], [`Nursery::release`] and [`Nursery::install`].
    pub fn devices(&self, count: usize, bar: &ProgressBar) -> Outcome<Vec<Device>> {
        bar.set_message("devices");
        let secrets = self.register(count, &[])?;
        bar.set_message("deliveries");
        bar.set_length(u64::try_from(count).unwrap_or(0));
        let digest = self.release(MODULE)?.digest;
        by_all(secrets, |secret| {
            bar.inc(1);
            self.install(&digest, secret)
        })
    }

    /// Closes it.
    #[must_use]
    pub fn close<'a>(self, devices: impl Iterator<Item = &'a DeviceIdentity>) -> Plant {
        Plant {
            root: self.issuer.root_certificate().to_vec(),
            issuing: self.issuer.issuing_certificate().to_vec(),
            devices: devices.map(|identity| identity.ueid).collect(),
            dir: self.dir,
        }
    }
}

fn now() -> UnixSecs {
    UnixSecs(now_secs())
}

/// What the bench's profile asks for.
fn order(issuer: &Issuer) -> Outcome<CertificateOrder> {
    let profile = issuer.profiles().find(PROFILE);
    let profile = profile.ok_or_else(|| odd("the bench's profile is missing"))?;
    Ok(profile.to_order())
}

/// The configuration as shipped, but for the port, the status service and the profile.
fn configure(dir: &Path, more: &str, (validity, window): (&str, &str)) -> Outcome<Config> {
    files::make_dir(dir)?;
    let path = dir.join("tegata.toml");
    let text = format!("{TEGATA_TOML}{more}");
    files::write_new(&path, text.as_bytes(), Readers::Everyone)?;
    let text = profiles(validity, window);
    let profiles = dir.join("profiles.toml");
    files::write_new(&profiles, text.as_bytes(), Readers::Everyone)?;
    config::load(&path)
}

/// A new key.
///
/// # Errors
/// The generator.
pub fn key() -> Outcome<PrivateKey> {
    AwsLc.generate(KeyAlg::P256, &mut OsRng).map_err(odd)
}

/// A TAM's signed request for a release, for a device.
fn delivery_request(tam: &PrivateKey, release: &ReleaseDigest, ueid: &Ueid) -> Outcome<Vec<u8>> {
    let request = DeliveryRequest {
        release_digest: *release,
        ueid: *ueid,
        issued_at_secs: now_secs(),
    };
    let payload = request.encode().map_err(odd)?;
    sign1(tam, &payload, &Sign1Headers::default(), b"", false).map_err(odd)
}

/// Each run has a port of its own.
const TEGATA_TOML: &str = "\
[ca]
listen = \"127.0.0.1:0\"
status_url = \"http://ca.example:8440\"

[tam]
listen = \"127.0.0.1:0\"

[verifier]
listen = \"127.0.0.1:0\"
";

/// `iot-device` as shipped, but that a device may go without certConf: one exchange, as with the peers.
#[must_use]
pub fn profiles(validity: &str, renewal_window: &str) -> String {
    format!(
        "\
[profile.{PROFILE}]
description = \"Operational identity of a device (LDevID), renewed by the device itself\"
key_algorithms = [\"P-256\"]
subject = [{{ O = \"Example Devices\" }}, {{ CN = \"{{model}} {{serial}}\" }}, {{ serialNumber = \"{{serial}}\" }}]
key_usage = [\"digitalSignature\", \"keyAgreement\"]
extended_key_usage = [\"clientAuth\"]
validity = \"{validity}\"
renewal_window = \"{renewal_window}\"
implicit_confirm = true
daily_limit = 1000000

[profile.{PROFILE}.san]
hardware_module_type = \"1.3.6.1.4.1.32473.1\"
permanent_identifier = \"{{ueid}}\"
"
    )
}
