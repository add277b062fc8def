//! The TAM's own manifest for one device, and the Update that carries it.
//!
//! The manifest depends on the two that the CA signed; it says where the payloads are and how this
//! device decrypts them, and it is bound to the device.

use std::borrow::Cow;

use tegata_crypto::suit::{
    DeliveryKeys, SuitError, VerifiedEnvelope, encryption_info_a128kw, generate_cek, open_payload,
    seal_payload, sign_envelope, verify_envelope,
};
use tegata_crypto::{CryptoError, PrivateKey, Provider, PublicKey, Rng, Secret, Signer};
use tegata_wire::cbor::{self, Pieces, Value};
use tegata_wire::enrolment::{Delivery, DeliveryMode, EnrolmentError, ReleasePackage, TamSecrets};
use tegata_wire::ids::{DeviceUuid, TaUuid, Ueid};
use tegata_wire::suit::{
    Command, Condition, Directive, EnvelopeBuilder, Manifest, Parameters, Section, SuitDigest,
    UnverifiedEnvelope,
};
use tegata_wire::teep::{Message, Token, Update};

use super::session::{Appraised, TeepDenied, sign_message, sign_pieces};
use crate::suit_names::part;

/// Everything that goes to one device, from the CA or (paper) made by the TAM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payloads<'a> {
    /// The CA's signed TA envelope.
    pub ta_envelope: &'a [u8],
    /// Digest of its manifest.
    pub ta_digest: SuitDigest,
    /// The TA, encrypted.
    pub ta: TaPayload<'a>,
    /// How this device decrypts it.
    pub ta_encryption_info: Vec<u8>,
    /// The CA's signed personalization envelope.
    pub config_envelope: Cow<'a, [u8]>,
    /// Digest of its manifest.
    pub config_digest: SuitDigest,
    /// The personalization data, encrypted.
    pub config_ciphertext: Vec<u8>,
    /// How this device decrypts it.
    pub config_encryption_info: Vec<u8>,
}

/// Where the encrypted TA is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaPayload<'a> {
    /// In the message.
    Integrated(&'a [u8]),
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

/// A release package and its verified TA manifest: the same for every Update.
#[derive(Debug)]
#[must_use]
pub struct ReadyRelease {
    package: ReleasePackage,
    /// Asymmetric only: in symmetric delivery it was verified when the release was registered.
    of_ta: Option<VerifiedEnvelope>,
}

impl ReadyRelease {
    /// Verifies the TA manifest of a package for asymmetric delivery.
    ///
    /// # Errors
    /// `Suit` unless one of `release_keys` signed it.
    pub fn new(
        provider: &dyn Provider,
        package: ReleasePackage,
        release_keys: &[PublicKey],
    ) -> Result<Self, UpdateError> {
        let of_ta = match package.mode {
            DeliveryMode::Asymmetric => {
                let envelope = UnverifiedEnvelope::decode(&package.ta_envelope)?;
                Some(verify_envelope(provider, envelope, release_keys)?)
            }
            DeliveryMode::Symmetric => None,
        };
        Ok(Self { package, of_ta })
    }

    /// Whether what was verified would be with these keys too.
    #[must_use]
    pub fn stands(&self, release_keys: &[PublicKey]) -> bool {
        let of_ta = self.of_ta.as_ref();
        of_ta.is_none_or(|of_ta| release_keys.contains(of_ta.key()))
    }

    /// The package.
    #[must_use]
    pub fn package(&self) -> &ReleasePackage {
        &self.package
    }
}

/// Payloads of asymmetric delivery: what the CA gave for this device.
///
/// # Errors
/// `OtherDelivery` unless the personalization manifest is of the release key, TA and sequence;
/// `Suit` unless one of `release_keys` signed both; `Mode` for a release of the other mode.
pub fn payloads_from_delivery<'a>(
    provider: &dyn Provider,
    release: &'a ReadyRelease,
    ta: TaPayload<'a>,
    delivery: Delivery,
    release_keys: &[PublicKey],
) -> Result<Payloads<'a>, UpdateError> {
    let of_ta = release.of_ta.as_ref().ok_or(UpdateError::Mode)?;
    if !release.stands(release_keys) {
        return Err(SuitError::Untrusted.into());
    }
    let of_config = UnverifiedEnvelope::decode(&delivery.config_envelope)?;
    let of_config = verify_envelope(provider, of_config, release_keys)?;
    let same = of_ta.signer() == of_config.signer()
        && of_ta.manifest().sequence_number == of_config.manifest().sequence_number
        && of_ta.manifest().reference_uri == of_config.manifest().reference_uri;
    if !same {
        return Err(UpdateError::OtherDelivery);
    }
    Ok(Payloads {
        ta_envelope: &release.package.ta_envelope,
        ta_digest: of_ta.digest().clone(),
        ta,
        ta_encryption_info: delivery.ta_encryption_info,
        config_digest: of_config.digest().clone(),
        config_envelope: delivery.config_envelope.into(),
        config_ciphertext: delivery.config_ciphertext,
        config_encryption_info: delivery.config_encryption_info,
    })
}

/// Payloads of symmetric delivery (the paper's profile): the TAM wraps the keys itself.
///
/// # Errors
/// `Mode` for a release of the other mode; `Secrets` if they are not for `exchange_key`.
pub fn payloads_with_kek<'a>(
    provider: &dyn Provider,
    rng: &mut dyn Rng,
    package: &'a ReleasePackage,
    ta: TaPayload<'a>,
    exchange_key: &PrivateKey,
    kek: &Secret<[u8; 16]>,
    kid: &[u8],
) -> Result<Payloads<'a>, UpdateError> {
    let (Some(sealed), Some(config_envelope)) = (&package.tam_secrets, &package.config_envelope)
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
    let digest = |bytes: &[u8]| -> Result<SuitDigest, UpdateError> {
        Ok(UnverifiedEnvelope::decode(bytes)?.digest().clone())
    };
    Ok(Payloads {
        ta_digest: digest(&package.ta_envelope)?,
        config_digest: digest(config_envelope)?,
        ta_envelope: &package.ta_envelope,
        ta,
        ta_encryption_info,
        config_envelope: config_envelope.into(),
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

/// The TAM's signed envelope for one device, with everything the device needs, in pieces.
///
/// # Errors
/// A manifest or key that fails.
pub fn dependent_envelope<'a>(
    provider: &dyn Provider,
    signer: &dyn Signer,
    ueid: &Ueid,
    ta: &TaUuid,
    sequence: u64,
    payloads: Payloads<'a>,
) -> Result<Pieces<'a>, UpdateError> {
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
    install.extend(depend(2, payloads.ta_digest, DEP_TA));
    install.extend(depend(3, payloads.config_digest, DEP_CONFIG));
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
    Ok(builder.into_pieces()?)
}

/// The signed Update that installs.
///
/// # Errors
/// `Teep`.
pub fn install_message(
    signer: &dyn Signer,
    _appraised: Appraised,
    token: &[u8],
    envelope: Pieces<'_>,
) -> Result<Vec<u8>, UpdateError> {
    let update = Update {
        token: Some(token_of(token)?),
        ..Update::default()
    };
    let message = update.encode_with(envelope).map_err(TeepDenied::Teep)?;
    Ok(sign_pieces(signer, &message)?)
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
