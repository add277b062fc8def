//! Cutting a release of a TA: secrets drawn, manifest signed, TA encrypted once for all devices.
//!
//! Spec: draft-ietf-suit-manifest, draft-ietf-suit-firmware-encryption, docs/spec/release-package.md

use serde::{Deserialize, Serialize};
use tegata_crypto::suit::{
    SuitError, encryption_info_ecdh_es, generate_cek, seal_payload, sign_envelope,
};
use tegata_crypto::{CryptoError, Provider, PublicKey, Rng, Secret, Signer};
use tegata_wire::cbor::{self, CborError};
use tegata_wire::enrolment::{
    DeliveryMode, EnrolmentError, MAX_TA_BYTES, PersonalizationData, Procedure, ProtocolProfile,
    ReleasePackage, TamSecrets,
};
use tegata_wire::ids::{DeviceUuid, Digest, ReleaseDigest, SignerId, TaUuid};
use tegata_wire::suit::{
    Command, ComponentId, Condition, Directive, EnvelopeBuilder, Manifest, Parameters, Section,
    SuitDigest,
};
use zeroize::Zeroizing;

use crate::profile::{ProcedureDetails, Profile};
use crate::suit_names::{TaNames, part};

/// What goes into a release.
#[derive(Clone, Copy)]
pub struct ReleaseDraft<'a> {
    /// Name of the TA: with the release key it fixes the TA's UUID. 1 to 64 of `a-z 0-9 -`.
    pub ta_name: &'a str,
    /// The Wasm module.
    pub module: &'a [u8],
    /// The certificates it may ask for, at least one; the first is made when none is named.
    pub profiles: &'a [&'a Profile],
    /// Key scheme.
    pub protocol_profile: ProtocolProfile,
    /// Sequence number: above that of every earlier release of this TA.
    pub sequence: u64,
    /// Root certificates (DER) that the TA trusts.
    pub trust_anchors: &'a [Vec<u8>],
    /// The TAM's exchange key (P-256): needed in the paper profile, and only there.
    pub tam_exchange_key: Option<&'a PublicKey>,
}

/// A release as the CA keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseRecord {
    /// Name of the TA.
    pub ta_name: String,
    /// Digest of the module: the measurement in evidence.
    pub module_digest: Digest,
    /// Length of the module in bytes.
    pub module_len_bytes: u64,
    /// The procedure, encoded.
    #[serde(with = "cbor::bytes")]
    pub procedure: Vec<u8>,
    /// The signed TA envelope: the TAM and the Verifier get it too.
    #[serde(with = "cbor::bytes")]
    pub ta_envelope: Vec<u8>,
    /// Nonce of the TA's encryption.
    #[serde(with = "cbor::bytes")]
    pub ta_iv: Vec<u8>,
    /// Whether it is of the paper profile: one `CsrAuthKey` for all devices.
    pub paper: bool,
}

impl ReleaseRecord {
    /// Encodes the record.
    ///
    /// # Errors
    /// None in practice.
    pub fn encode(&self) -> Result<Vec<u8>, CborError> {
        cbor::to_vec(self)
    }

    /// Decodes the CA's own record.
    ///
    /// # Errors
    /// If it was damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, CborError> {
        cbor::from_slice(bytes)
    }
}

/// What only the CA knows of a release.
#[derive(Debug)]
pub struct ReleaseSecrets {
    /// Master of the `CsrAuthKey`s; in the paper profile the one `CsrAuthKey` itself.
    pub master: Secret<[u8; 32]>,
    /// Key of the TA's ciphertext.
    pub cek: Secret<[u8; 16]>,
}

impl ReleaseSecrets {
    /// 48 bytes to be sealed: master, then CEK.
    #[must_use]
    pub fn expose_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(48));
        out.extend_from_slice(self.master.expose_secret());
        out.extend_from_slice(self.cek.expose_secret());
        out
    }

    /// From the 48 bytes that were sealed.
    ///
    /// # Errors
    /// `Malformed` for another length.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CryptoError> {
        let wrong = CryptoError::Malformed("release secrets");
        let (master, cek) = bytes.split_first_chunk::<32>().ok_or(wrong.clone())?;
        let cek = <[u8; 16]>::try_from(cek).map_err(|_| wrong)?;
        Ok(Self {
            master: Secret::new(*master),
            cek: Secret::new(cek),
        })
    }
}

/// A release that was cut.
#[derive(Debug)]
pub struct Release {
    /// Its name: the SUIT digest of the TA manifest.
    pub digest: ReleaseDigest,
    /// The TA.
    pub ta: TaUuid,
    /// Whose release it is.
    pub signer: SignerId,
    /// Its sequence number.
    pub sequence: u64,
    /// The CA's record.
    pub record: ReleaseRecord,
    /// The CA's secrets.
    pub secrets: ReleaseSecrets,
    /// For the TAM.
    pub package: ReleasePackage,
}

/// Why a release cannot be cut.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReleaseError {
    /// A TA name that cannot be one.
    #[error("\"{0}\" cannot be the name of a TA: use 1 to 64 lower-case letters, digits, hyphens")]
    Name(String),
    /// The module is not a Wasm module.
    #[error("the file is not a Wasm module: it does not begin with \\0asm and version 1")]
    NotWasm,
    /// The module is too large to deliver.
    #[error("the module has {got} bytes, more than {max}")]
    TooLarge {
        /// Length in bytes.
        got: usize,
        /// Limit in bytes.
        max: usize,
    },
    /// Paper profile without the TAM's key, or default profile with it.
    #[error(
        "the paper profile gives secrets to the TAM and needs its exchange key; the default \
         profile gives it none"
    )]
    ExchangeKey,
    /// The procedure cannot be made.
    #[error("the procedure cannot be made: {0}")]
    Enrolment(#[from] EnrolmentError),
    /// The manifest cannot be made or signed.
    #[error("the manifest cannot be made: {0}")]
    Suit(#[from] SuitError),
    /// A key or the random generator failed.
    #[error("a key or the random generator failed: {0}")]
    Crypto(#[from] CryptoError),
}

impl From<tegata_wire::suit::SuitError> for ReleaseError {
    fn from(e: tegata_wire::suit::SuitError) -> Self {
        Self::Suit(e.into())
    }
}

/// Cuts a release.
///
/// # Errors
/// What cannot be released, or a failing key or generator.
pub fn cut(
    provider: &dyn Provider,
    rng: &mut dyn Rng,
    draft: ReleaseDraft<'_>,
    release_key: &dyn Signer,
) -> Result<Release, ReleaseError> {
    check(&draft)?;
    let signer = SignerId(release_key.public_key().thumbprint());
    let ta = TaUuid::derive(&signer, draft.ta_name);
    let details = ProcedureDetails {
        release_name: format!("{} {}", draft.ta_name, draft.sequence),
        protocol_profile: draft.protocol_profile,
        trust_anchors: draft.trust_anchors.to_vec(),
    };
    let procedure = details.procedure(draft.profiles.iter().copied());
    let procedure = procedure.encode()?;
    let mut master = Secret::new([0; 32]);
    rng.fill(master.expose_secret_mut())?;
    let secrets = ReleaseSecrets {
        master,
        cek: generate_cek(rng)?,
    };

    let manifest = ta_manifest(provider, &draft, &ta, &procedure);
    let (ta_envelope, digest) = sign_manifest(provider, &manifest, release_key)?;
    let digest = ReleaseDigest::from(digest);
    let (ta_ciphertext, ta_iv) = seal_payload(provider, rng, &secrets.cek, draft.module)?;

    let mut package = ReleasePackage {
        ta_envelope: ta_envelope.clone(),
        ta_ciphertext,
        ta_iv,
        mode: DeliveryMode::Asymmetric,
        config_envelope: None,
        tam_secrets: None,
        notice: None,
    };
    if let Some(exchange) = draft.tam_exchange_key {
        // Paper: one CsrAuthKey for all devices, and the TAM is told everything it delivers.
        let config =
            PersonalizationData::for_release(secrets.master.expose_secret(), &digest).encode()?;
        let names = TaNames {
            name: draft.ta_name,
            ta,
            sequence: draft.sequence,
        };
        let envelope = config_envelope(provider, &names, None, &config, release_key)?;
        let told = TamSecrets::new(secrets.cek.expose_secret(), &config).encode()?;
        package.mode = DeliveryMode::Symmetric;
        package.config_envelope = Some(envelope);
        package.tam_secrets = Some(seal_to(provider, rng, exchange, &told)?);
    }
    package.encode()?;
    let record = ReleaseRecord {
        ta_name: draft.ta_name.to_owned(),
        module_digest: Digest(provider.sha256(draft.module)),
        module_len_bytes: u64::try_from(draft.module.len()).unwrap_or(u64::MAX),
        procedure,
        ta_envelope,
        ta_iv: ta_iv.to_vec(),
        paper: draft.tam_exchange_key.is_some(),
    };
    Ok(Release {
        digest,
        ta,
        signer,
        sequence: draft.sequence,
        record,
        secrets,
        package,
    })
}

fn check(draft: &ReleaseDraft<'_>) -> Result<(), ReleaseError> {
    let name_fine = (1..=64).contains(&draft.ta_name.len())
        && draft
            .ta_name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if !name_fine {
        return Err(ReleaseError::Name(draft.ta_name.to_owned()));
    }
    if !draft.module.starts_with(b"\0asm\x01\0\0\0") {
        return Err(ReleaseError::NotWasm);
    }
    let max = MAX_TA_BYTES - GCM_TAG_LEN_BYTES;
    if draft.module.len() > max {
        return Err(ReleaseError::TooLarge {
            got: draft.module.len(),
            max,
        });
    }
    let paper = draft.protocol_profile == ProtocolProfile::Paper;
    if paper != draft.tam_exchange_key.is_some() {
        return Err(ReleaseError::ExchangeKey);
    }
    Ok(())
}

/// The TA manifest: the same for every device.
fn ta_manifest(
    provider: &dyn Provider,
    draft: &ReleaseDraft<'_>,
    ta: &TaUuid,
    procedure: &[u8],
) -> Manifest {
    let image = |bytes: &[u8]| Parameters {
        image_digest: Some(SuitDigest::sha256(provider.sha256(bytes))),
        image_size: u64::try_from(bytes.len()).ok(),
        ..Parameters::default()
    };
    let procedure_parameters = Parameters {
        content: Some(procedure.to_vec()),
        ..image(procedure)
    };
    let components = vec![part(ta, "ta"), part(ta, "procedure")];
    let mut manifest = Manifest::new(draft.sequence, components)
        .with_component_id(part(ta, "suit"))
        .with_shared(vec![
            Command::index(0),
            Command::OverrideParameters(image(draft.module)),
            Command::index(1),
            Command::OverrideParameters(procedure_parameters),
        ])
        .with_section(
            Section::Install,
            vec![
                Command::index(0),
                Command::act(Directive::Fetch),
                Command::check(Condition::ImageMatch),
                Command::index(1),
                Command::act(Directive::Write),
                Command::check(Condition::ImageMatch),
            ],
        )
        .with_section(
            Section::Validate,
            vec![
                Command::index(0),
                Command::check(Condition::ImageMatch),
                Command::index(1),
                Command::check(Condition::ImageMatch),
            ],
        )
        .with_section(Section::Uninstall, unlink_all(2));
    manifest.reference_uri = Some(TaUuid::reference_uri(draft.ta_name));
    manifest
}

/// The signed personalization manifest, for one device or (paper) for all of a release.
pub(crate) fn config_envelope(
    provider: &dyn Provider,
    names: &TaNames<'_>,
    device: Option<&DeviceUuid>,
    config: &[u8],
    release_key: &dyn Signer,
) -> Result<Vec<u8>, ReleaseError> {
    let parameters = Parameters {
        image_digest: Some(SuitDigest::sha256(provider.sha256(config))),
        image_size: u64::try_from(config.len()).ok(),
        device_id: device.copied(),
        ..Parameters::default()
    };
    let mut shared = vec![Command::index(0), Command::OverrideParameters(parameters)];
    if device.is_some() {
        shared.push(Command::check(Condition::DeviceIdentifier));
    }
    let components: Vec<ComponentId> = vec![part(&names.ta, "config")];
    let mut manifest = Manifest::new(names.sequence, components)
        .with_component_id(part(&names.ta, "config.suit"))
        .with_shared(shared)
        .with_section(
            Section::Install,
            vec![
                Command::index(0),
                Command::act(Directive::Fetch),
                Command::check(Condition::ImageMatch),
            ],
        )
        .with_section(
            Section::Validate,
            vec![Command::index(0), Command::check(Condition::ImageMatch)],
        )
        .with_section(Section::Uninstall, unlink_all(1));
    manifest.reference_uri = Some(TaUuid::reference_uri(names.name));
    Ok(sign_manifest(provider, &manifest, release_key)?.0)
}

fn unlink_all(components: u64) -> Vec<Command> {
    (0..components)
        .flat_map(|i| [Command::index(i), Command::act(Directive::Unlink)])
        .collect()
}

/// The signed envelope and the digest of its manifest.
pub(crate) fn sign_manifest(
    provider: &dyn Provider,
    manifest: &Manifest,
    signer: &dyn Signer,
) -> Result<(Vec<u8>, Digest), SuitError> {
    let mut builder = EnvelopeBuilder::new(manifest, |bytes| provider.sha256(bytes))?;
    sign_envelope(signer, &mut builder)?;
    let digest = builder.digest().to_sha256()?;
    Ok((builder.finish()?, digest))
}

/// Encrypts a secret to a P-256 key: encryption info and ciphertext as one CBOR array.
fn seal_to(
    provider: &dyn Provider,
    rng: &mut dyn Rng,
    key: &PublicKey,
    plain: &[u8],
) -> Result<Vec<u8>, ReleaseError> {
    let cek = generate_cek(rng)?;
    let (ciphertext, iv) = seal_payload(provider, rng, &cek, plain)?;
    let info = encryption_info_ecdh_es(provider, rng, key, &cek, &iv)?;
    let both = cbor::Value::Array(vec![
        cbor::Value::Bytes(info),
        cbor::Value::Bytes(ciphertext),
    ]);
    cbor::encode(&both).map_err(|e| ReleaseError::Enrolment(e.into()))
}

/// The procedure of a release's record.
///
/// # Errors
/// If the record was damaged.
pub fn procedure_of(record: &ReleaseRecord) -> Result<Procedure, EnrolmentError> {
    Procedure::decode(&record.procedure)
}

/// Length of the tag of AES-GCM.
const GCM_TAG_LEN_BYTES: usize = 16;
