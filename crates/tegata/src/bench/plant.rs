//! The installation that is measured, and the requests of its devices, made before any clock runs.
//!
//! It is one as `tegata init` makes it: a CA with its keys and profiles. A factory endorses the
//! devices; the CA cuts a release and delivers it to each, encrypted to its key. What the device's TA
//! would do with the delivery is done here with the same code: decrypt it, take the `CsrAuthKey`,
//! sign a CSR with a new key, put the request under the MAC.
//! Trusted: it holds the keys of all its devices; they are of no use elsewhere.

use std::path::{Path, PathBuf};

use axum::body::Bytes;
use indicatif::ProgressBar;
use tegata_authority::UnixSecs;
use tegata_authority::factory::{BatchSpec, DeviceSecret, make_devices, sign_manifest};
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_crypto::device_keys::{delivery_ecdh_key, software_derive};
use tegata_crypto::suit::{DeliveryKeys, open_payload};
use tegata_crypto::{KeyAlg, OsRng, PrivateKey, Provider as _, PublicKey, Rng as _};
use tegata_store::issuer::{Issuer, NewRelease};
use tegata_store::role::{Role as RoleStore, Trust};
use tegata_wire::cmp::{
    BodyKind, MessageToProtect, PkiHeader, ProtectionAlg, RawBody, UnverifiedPkiMessage, null_dn,
};
use tegata_wire::device::{DeviceIdentity, Oem};
use tegata_wire::enrolment::{
    CertificateOrder, Delivery, DeliveryRequest, Identity, PersonalizationData,
};
use tegata_wire::ids::{ReleaseDigest, Ueid};
use tegata_wire::x509::{CsrBuilder, SignatureAlg, assemble_csr};

use super::odd;
use crate::commands::import::role_fault;
use crate::commands::init::{self, Names};
use crate::config::{self, Config};
use crate::fault::Outcome;
use crate::files::{self, Readers};
use crate::roles;
use crate::stores::now_secs;

/// Name of the certificate profile, and last part of the path.
pub const PROFILE: &str = "bench";

/// The installation, whole and closed: a copy of its directory is one too.
pub struct Plant {
    /// Its directory.
    pub dir: PathBuf,
    /// Certificate of the root (DER).
    pub root: Vec<u8>,
    /// Certificate of the issuing CA (DER).
    pub issuing: Vec<u8>,
    /// Devices of the registry.
    pub devices: Vec<Ueid>,
    /// The requests, each another key.
    pub requests: Vec<Request>,
}

impl Plant {
    /// The requests' bodies.
    #[must_use]
    pub fn bodies(&self) -> Vec<Bytes> {
        self.requests.iter().map(|r| r.body.clone()).collect()
    }
}

/// One request, and what of it the cryptography alone needs.
pub struct Request {
    /// The whole message (DER).
    pub body: Bytes,
    /// The CSR in it (DER).
    pub csr: Vec<u8>,
    /// The bytes that the CSR's signature is over.
    pub csr_tbs: Vec<u8>,
    /// That signature, r ‖ s.
    pub csr_signature: Vec<u8>,
    /// The key that made it.
    pub public_key: PublicKey,
    /// The bytes that the MAC is over.
    pub part: Vec<u8>,
    /// The key of the MAC.
    pub mac_key: [u8; 32],
}

/// A device with its TA installed.
struct Device {
    identity: DeviceIdentity,
    kid: Vec<u8>,
    mac_key: [u8; 32],
}

/// Makes all of it in `dir`, with `requests` requests of `devices` devices.
///
/// # Errors
/// Files, keys, or what the CA would refuse from a device too.
pub fn make(dir: &Path, devices: usize, requests: usize, bar: &ProgressBar) -> Outcome<Plant> {
    let config = configure(dir)?;
    init::make(&config, dir, &Names::default())?;
    let issuer = roles::ca::issuer(&config)?;
    let now = UnixSecs(now_secs());

    // 1. A factory, a TAM, the devices.
    bar.set_message("devices");
    let tam = key()?;
    let role = issuer.role();
    role.trust(Trust::Tam, tam.public_key(), "the bench's TAM", now)
        .map_err(|e| role_fault(&e))?;
    let secrets = register(role, devices, now)?;

    // 2. A release, delivered to each.
    bar.set_message("deliveries");
    let new = NewRelease {
        ta_name: "bench",
        module: b"\0asm\x01\0\0\0",
        profiles: &[PROFILE],
        paper_exchange_key: None,
    };
    let cut = issuer
        .release(&new, &mut OsRng, now)
        .map_err(|e| role_fault(&e))?;
    let installed = secrets
        .into_iter()
        .map(|secret| install(&issuer, &tam, &cut.digest, secret))
        .collect::<Outcome<Vec<_>>>()?;

    // 3. What they ask.
    bar.set_message("requests");
    bar.set_length(u64::try_from(requests).unwrap_or(u64::MAX));
    let profile = issuer.profiles().find(PROFILE);
    let order = profile
        .ok_or_else(|| odd("the bench's profile is missing"))?
        .to_order();
    let asked = installed.iter().cycle().take(requests).map(|device| {
        bar.inc(1);
        p10cr(device, &order)
    });
    let requests = asked.collect::<Outcome<Vec<_>>>()?;
    let plant = Plant {
        dir: dir.to_path_buf(),
        root: issuer.root_certificate().to_vec(),
        issuing: issuer.issuing_certificate().to_vec(),
        devices: installed.iter().map(|d| d.identity.ueid).collect(),
        requests,
    };
    Ok(plant)
}

/// The configuration as shipped, but for the port, the status service and the profile.
fn configure(dir: &Path) -> Outcome<Config> {
    files::make_dir(dir)?;
    let path = dir.join("tegata.toml");
    files::write_new(&path, TEGATA_TOML.as_bytes(), Readers::Everyone)?;
    let profiles = dir.join("profiles.toml");
    files::write_new(&profiles, PROFILES_TOML.as_bytes(), Readers::Everyone)?;
    config::load(&path)
}

fn key() -> Outcome<PrivateKey> {
    AwsLc.generate(KeyAlg::P256, &mut OsRng).map_err(odd)
}

/// Makes devices at a factory that the CA trusts, and imports its manifest.
fn register(role: &RoleStore, count: usize, now: UnixSecs) -> Outcome<Vec<DeviceSecret>> {
    let factory = key()?;
    role.trust(
        Trust::Factory,
        factory.public_key(),
        "the bench's factory",
        now,
    )
    .map_err(|e| role_fault(&e))?;
    let spec = BatchSpec {
        batch: "bench".to_owned(),
        maker: "Example Devices".to_owned(),
        vendor_domain: "devices.example".to_owned(),
        oemid: Oem::Pen(32_473),
        model: "sensor-1".to_owned(),
        hwversion: "1.0".to_owned(),
        serial_prefix: "bench-".to_owned(),
        first_number: 1,
        imei_type_code: None,
        with_mac: true,
        security_level: "software".to_owned(),
    };
    let made = make_devices(&AwsLc, &mut OsRng, &spec, count, now).map_err(odd)?;
    let signed = sign_manifest(&made.manifest, &factory).map_err(odd)?;
    role.import_devices(&signed, now)
        .map_err(|e| role_fault(&e))?;
    Ok(made.secrets)
}

/// A TAM's signed request for a release, for a device.
fn delivery_request(
    tam: &PrivateKey,
    release: &ReleaseDigest,
    ueid: &Ueid,
    now: UnixSecs,
) -> Outcome<Vec<u8>> {
    let request = DeliveryRequest {
        release_digest: *release,
        ueid: *ueid,
        issued_at_secs: now.0,
    };
    let payload = request.encode().map_err(odd)?;
    sign1(tam, &payload, &Sign1Headers::default(), b"", false).map_err(odd)
}

/// Has the release delivered and opens what is the device's.
fn install(
    issuer: &Issuer,
    tam: &PrivateKey,
    release: &ReleaseDigest,
    secret: DeviceSecret,
) -> Outcome<Device> {
    let now = UnixSecs(now_secs());
    let DeviceSecret { identity, tee_key } = secret;
    let asked = delivery_request(tam, release, &identity.ueid, now)?;
    let answer = issuer
        .deliver(&asked, &mut OsRng, now)
        .map_err(|e| role_fault(&e))?;
    let delivery = Delivery::decode(&answer).map_err(odd)?;
    let derive = |label: &str, context: &[u8]| software_derive(&AwsLc, &tee_key, label, context);
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

/// A request for a certificate on a new key, under the device's `CsrAuthKey`.
fn p10cr(device: &Device, order: &CertificateOrder) -> Outcome<Request> {
    let private = key()?;
    let signer = AwsLc.signer(&private).map_err(odd)?;
    let identity = Identity::from(&device.identity);
    let builder = CsrBuilder {
        subject: order.subject(&identity).map_err(odd)?,
        spki_der: private.public_key().to_spki_der().map_err(odd)?,
        san: order.san(&identity).map_err(odd)?,
        extensions: Vec::new(),
    };
    let csr_tbs = builder.to_tbs().map_err(odd)?;
    let csr_signature = signer.sign(&csr_tbs).map_err(odd)?;
    let csr = assemble_csr(&csr_tbs, SignatureAlg::EcdsaSha256, &csr_signature).map_err(odd)?;

    let mut random = [0; 32];
    OsRng.fill(&mut random).map_err(odd)?;
    let (transaction, nonce) = random.split_at(16);
    let header = PkiHeader::new(null_dn(), null_dn())
        .with_transaction_id(transaction)
        .and_then(|h| h.with_sender_nonce(nonce))
        .and_then(|h| h.with_sender_kid(&device.kid))
        .and_then(|h| h.with_protection(&ProtectionAlg::HMAC_SHA256))
        .and_then(PkiHeader::with_implicit_confirm)
        .map_err(odd)?;
    let body = RawBody::p10cr(&csr).map_err(odd)?;
    let message = MessageToProtect::new(&header, &body).map_err(odd)?;
    let part = message.protected_part().map_err(odd)?;
    let mac = AwsLc.hmac_sha256(&device.mac_key, &part);
    let body = message.into_der(Some(&mac), &[]).map_err(odd)?;
    Ok(Request {
        body: Bytes::from(body),
        csr,
        csr_tbs,
        csr_signature,
        public_key: private.public_key().clone(),
        part,
        mac_key: device.mac_key,
    })
}

/// The certificate in an answer to [`p10cr`], or why there is none.
///
/// # Errors
/// A sentence.
pub fn certificate_in(answer: &[u8]) -> Result<Vec<u8>, String> {
    let message = UnverifiedPkiMessage::from_der(answer)
        .map_err(|e| format!("an answer is no CMP message: {e}"))?;
    if message.kind() != BodyKind::Cp {
        let why = message.body().error_content().ok();
        let text = why.as_ref().and_then(|why| why.status.text());
        return Err(format!(
            "a request was refused: {}",
            text.unwrap_or("without a reason")
        ));
    }
    let content = message.body().cert_rep().map_err(|e| e.to_string())?;
    let first = content.response.first();
    let certificate = first.and_then(|response| response.certificate());
    certificate.map(<[u8]>::to_vec).ok_or_else(|| {
        let text = first.and_then(|response| response.status.text());
        format!(
            "a request was refused: {}",
            text.unwrap_or("without a reason")
        )
    })
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
const PROFILES_TOML: &str = "\
[profile.bench]
description = \"Operational identity of a device (LDevID), renewed by the device itself\"
key_algorithms = [\"P-256\"]
subject = [{ O = \"Example Devices\" }, { CN = \"{model} {serial}\" }, { serialNumber = \"{serial}\" }]
key_usage = [\"digitalSignature\", \"keyAgreement\"]
extended_key_usage = [\"clientAuth\"]
validity = \"365d\"
renewal_window = \"30d\"
implicit_confirm = true
daily_limit = 1000000

[profile.bench.san]
hardware_module_type = \"1.3.6.1.4.1.32473.1\"
permanent_identifier = \"{ueid}\"
";
