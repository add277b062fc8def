//! The TAM's own manifest for one device, and the Update that carries it.
//!
//! The manifest depends on the two that the CA signed; it says where the payloads are and how this
//! device decrypts them, and it is bound to the device.

use tegata_crypto::suit::{
    DeliveryKeys, SuitError, encryption_info_a128kw, generate_cek, open_payload, seal_payload,
    sign_envelope, verify_envelope,
};
use tegata_crypto::{CryptoError, PrivateKey, Provider, PublicKey, Rng, Secret, Signer};
use tegata_wire::cbor::{self, Value};
use tegata_wire::enrolment::{Delivery, EnrolmentError, ReleasePackage, TamSecrets};
use tegata_wire::ids::{DeviceUuid, TaUuid, Ueid};
use tegata_wire::suit::{
    Command, Condition, Directive, EnvelopeBuilder, Manifest, Parameters, Section, SuitDigest,
    UnverifiedEnvelope,
};
use tegata_wire::teep::{Message, Token, Update};

use super::session::{Appraised, TeepDenied, sign_message};
use crate::suit_names::part;

/// Everything that goes to one device, from the CA or (paper) made by the TAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payloads {
    /// The CA's signed TA envelope.
    pub ta_envelope: Vec<u8>,
    /// The TA, encrypted.
    pub ta: TaPayload,
    /// How this device decrypts it.
    pub ta_encryption_info: Vec<u8>,
    /// The CA's signed personalization envelope.
    pub config_envelope: Vec<u8>,
    /// The personalization data, encrypted.
    pub config_ciphertext: Vec<u8>,
    /// How this device decrypts it.
    pub config_encryption_info: Vec<u8>,
}

/// Where the encrypted TA is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaPayload {
    /// In the message.
    Integrated(Vec<u8>),
    /// At this address: the same bytes for every device, so any cache may hold them.
    At(String),
}

/// Why an Update cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UpdateError {
    /// A manifest cannot be made, or one of the CA's cannot be read.
    #[error("the manifest cannot be made: {0}")]
    Suit(#[from] SuitError),
    /// The release's secrets cannot be read.
    #[error("the release's secrets cannot be read: {0}")]
    Secrets(#[from] EnrolmentError),
    /// The release is not of the mode asked for.
    #[error("the release is of the other delivery mode")]
    Mode,
    /// The CA's delivery is for another device or release.
    #[error("the CA's delivery is not for this device and release")]
    OtherDelivery,
    /// The message cannot be made.
    #[error(transparent)]
    Teep(#[from] TeepDenied),
    /// A key or the random generator failed.
    #[error("a key or the random generator failed: {0}")]
    Crypto(#[from] CryptoError),
}

impl From<tegata_wire::suit::SuitError> for UpdateError {
    fn from(e: tegata_wire::suit::SuitError) -> Self {
        Self::Suit(e.into())
    }
}

/// Payloads of asymmetric delivery: what the CA gave for this device.
///
/// # Errors
/// `OtherDelivery` unless the personalization manifest is of the release key, TA and sequence.
pub fn payloads_from_delivery(
    provider: &dyn Provider,
    package: ReleasePackage,
    ta: TaPayload,
    delivery: Delivery,
    release_keys: &[PublicKey],
) -> Result<Payloads, UpdateError> {
    let verify = |bytes: &[u8]| -> Result<_, UpdateError> {
        Ok(verify_envelope(
            provider,
            UnverifiedEnvelope::decode(bytes)?,
            release_keys,
        )?)
    };
    let (of_ta, of_config) = (
        verify(&package.ta_envelope)?,
        verify(&delivery.config_envelope)?,
    );
    let same = of_ta.signer() == of_config.signer()
        && of_ta.manifest().sequence_number == of_config.manifest().sequence_number
        && of_ta.manifest().reference_uri == of_config.manifest().reference_uri;
    if !same {
        return Err(UpdateError::OtherDelivery);
    }
    Ok(Payloads {
        ta_envelope: package.ta_envelope,
        ta,
        ta_encryption_info: delivery.ta_encryption_info,
        config_envelope: delivery.config_envelope,
        config_ciphertext: delivery.config_ciphertext,
        config_encryption_info: delivery.config_encryption_info,
    })
}

/// Payloads of symmetric delivery (the paper's profile): the TAM wraps the keys itself.
///
/// # Errors
/// `Mode` for a release of the other mode; `Secrets` if they are not for `exchange_key`.
pub fn payloads_with_kek(
    provider: &dyn Provider,
    rng: &mut dyn Rng,
    package: ReleasePackage,
    ta: TaPayload,
    exchange_key: &PrivateKey,
    kek: &Secret<[u8; 16]>,
    kid: &[u8],
) -> Result<Payloads, UpdateError> {
    let (Some(sealed), Some(config_envelope)) = (&package.tam_secrets, package.config_envelope)
    else {
        return Err(UpdateError::Mode);
    };
    let secrets = open_secrets(provider, sealed, exchange_key)?;
    let cek = Secret::new(*secrets.expose_cek());
    let config_cek = generate_cek(rng)?;
    let (config_ciphertext, config_iv) =
        seal_payload(provider, rng, &config_cek, secrets.expose_config())?;
    let ta_encryption_info = encryption_info_a128kw(provider, kek, kid, &cek, &package.ta_iv)?;
    let config_encryption_info =
        encryption_info_a128kw(provider, kek, kid, &config_cek, &config_iv)?;
    Ok(Payloads {
        ta_envelope: package.ta_envelope,
        ta,
        ta_encryption_info,
        config_envelope,
        config_ciphertext,
        config_encryption_info,
    })
}

/// Opens what the CA encrypted to the TAM: an array of encryption info and ciphertext.
fn open_secrets(
    provider: &dyn Provider,
    sealed: &[u8],
    exchange_key: &PrivateKey,
) -> Result<TamSecrets, UpdateError> {
    let wrong = |e: cbor::CborError| UpdateError::Secrets(e.into());
    let items = cbor::decode(sealed, 2).map_err(wrong)?;
    let mut items = cbor::into_array(items, "TAM secrets", 2, 2)
        .map_err(wrong)?
        .into_iter();
    let mut next = || {
        let item = items.next().unwrap_or(Value::Null);
        cbor::into_bytes(item, "TAM secrets").map_err(wrong)
    };
    let (info, ciphertext) = (next()?, next()?);
    let keys = DeliveryKeys {
        ecdh: Some(exchange_key),
        ..DeliveryKeys::default()
    };
    let plain = open_payload(provider, &info, &ciphertext, keys)?;
    Ok(TamSecrets::decode(plain.expose_secret())?)
}

/// The TAM's signed envelope for one device, with everything the device needs.
///
/// # Errors
/// A manifest or key that fails.
pub fn dependent_envelope(
    provider: &dyn Provider,
    signer: &dyn Signer,
    ueid: &Ueid,
    ta: &TaUuid,
    sequence: u64,
    payloads: Payloads,
) -> Result<Vec<u8>, UpdateError> {
    let digest = |bytes: &[u8]| -> Result<SuitDigest, UpdateError> {
        Ok(UnverifiedEnvelope::decode(bytes)?.digest().clone())
    };
    let fetch = |info: &[u8], uri: &str| {
        Command::OverrideParameters(Parameters {
            encryption_info: Some(info.to_vec()),
            uri: Some(uri.to_owned()),
            ..Parameters::default()
        })
    };
    let depend = |index: u64, digest: SuitDigest, uri: &str| {
        [
            Command::index(index),
            Command::OverrideParameters(Parameters {
                image_digest: Some(digest),
                uri: Some(uri.to_owned()),
                ..Parameters::default()
            }),
            Command::act(Directive::Fetch),
            Command::check(Condition::DependencyIntegrity),
            Command::act(Directive::ProcessDependency),
        ]
    };
    let ta_uri = match &payloads.ta {
        TaPayload::Integrated(_) => TA,
        TaPayload::At(uri) => uri.as_str(),
    };
    let mut install = vec![
        Command::index(0),
        fetch(&payloads.ta_encryption_info, ta_uri),
        Command::index(1),
        fetch(&payloads.config_encryption_info, CONFIG),
    ];
    install.extend(depend(2, digest(&payloads.ta_envelope)?, DEP_TA));
    install.extend(depend(3, digest(&payloads.config_envelope)?, DEP_CONFIG));
    let device = Parameters {
        device_id: Some(DeviceUuid::derive(ueid)),
        ..Parameters::default()
    };
    let manifest = Manifest::new(sequence, vec![part(ta, "ta"), part(ta, "config")])
        .with_component_id(part(ta, "tam.suit"))
        .with_dependency(2, Some(part(ta, "suit")))
        .with_dependency(3, Some(part(ta, "config.suit")))
        .with_shared(vec![
            Command::index(0),
            Command::OverrideParameters(device),
            Command::check(Condition::DeviceIdentifier),
        ])
        .with_section(Section::Install, install);
    let mut builder = EnvelopeBuilder::new(&manifest, |bytes| provider.sha256(bytes))?;
    sign_envelope(signer, &mut builder)?;
    builder.integrate(DEP_TA, payloads.ta_envelope)?;
    builder.integrate(DEP_CONFIG, payloads.config_envelope)?;
    builder.integrate(CONFIG, payloads.config_ciphertext)?;
    if let TaPayload::Integrated(ciphertext) = payloads.ta {
        builder.integrate(TA, ciphertext)?;
    }
    Ok(builder.finish()?)
}

/// The signed Update that installs.
///
/// # Errors
/// `Teep`.
pub fn install_message(
    signer: &dyn Signer,
    _appraised: Appraised,
    token: &[u8],
    envelope: Vec<u8>,
) -> Result<Vec<u8>, UpdateError> {
    let update = Update {
        token: Some(token_of(token)?),
        manifest_list: Some(vec![envelope]),
        ..Update::default()
    };
    Ok(sign_message(signer, &Message::Update(update))?)
}

/// The signed Update that removes a TA.
///
/// # Errors
/// `Teep`.
pub fn removal_message(
    signer: &dyn Signer,
    _appraised: Appraised,
    token: &[u8],
    ta: &TaUuid,
) -> Result<Vec<u8>, UpdateError> {
    let update = Update {
        token: Some(token_of(token)?),
        unneeded_manifest_list: Some(vec![part(ta, "suit")]),
        ..Update::default()
    };
    Ok(sign_message(signer, &Message::Update(update))?)
}

fn token_of(bytes: &[u8]) -> Result<Token, UpdateError> {
    Token::new(bytes.to_vec()).map_err(|e| UpdateError::Teep(TeepDenied::Teep(e.into())))
}

const TA: &str = "#ta";
const CONFIG: &str = "#config";
const DEP_TA: &str = "#dep-ta";
const DEP_CONFIG: &str = "#dep-config";
