//! A device as Verifier and TAM see it: keys, evidence, TEEP messages. What its TEE would do is done here with
//! the same code.

use tegata_authority::factory::DeviceSecret;
use tegata_crypto::PublicKey;
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_crypto::device_keys::{attestation_key, delivery_ecdh_key, software_derive, teep_key};
use tegata_crypto::{PrivateKey, Provider as _, Signer};
use tegata_store::issuer::CutRelease;
use tegata_wire::device::{DeviceIdentity, Oem};
use tegata_wire::ids::Digest;
use tegata_wire::rats::eat::{
    Confirmation, ContentItem, EatClaims, MeasuredComponent, OemId, Profile, TegataClaims, Version,
};
use tegata_wire::suit::{ComponentId, Reference, SuitDigest};
use tegata_wire::teep::{Attestation, Message, QueryResponse, RequestedTc};

use super::odd;
use crate::fault::Outcome;

/// A device with its keys ready to sign.
pub struct Attester {
    /// Who it is.
    pub identity: DeviceIdentity,
    /// The key that what is delivered is encrypted to.
    pub delivery: PrivateKey,
    attestation: Box<dyn Signer>,
    teep: Box<dyn Signer>,
}

/// A TA that evidence tells of.
pub struct Runs {
    manifest: ContentItem,
    measurement: ContentItem,
}

impl Runs {
    /// A release of that program.
    ///
    /// # Errors
    /// None in practice.
    pub fn new(release: &CutRelease, module: &[u8]) -> Outcome<Self> {
        let reference = Reference {
            uri: String::new(),
            digest: SuitDigest::sha256(release.digest),
        };
        let digest = Digest(AwsLc.sha256(module));
        let measured = MeasuredComponent::sha256(&release.ta.to_string(), None, digest);
        Ok(Self {
            manifest: ContentItem::suit_reference(&reference).map_err(odd)?,
            measurement: ContentItem::measured_component(&measured).map_err(odd)?,
        })
    }
}

impl Attester {
    /// The keys that the TEE of a device derives.
    ///
    /// # Errors
    /// The provider's.
    pub fn new(device: &DeviceSecret) -> Outcome<Self> {
        let key = &device.tee_key;
        let derive = |label: &str, context: &[u8]| software_derive(&AwsLc, key, label, context);
        let signer = |key: PrivateKey| AwsLc.signer(&key).map_err(odd);
        Ok(Self {
            identity: device.identity.clone(),
            delivery: delivery_ecdh_key(&AwsLc, &derive).map_err(odd)?,
            attestation: signer(attestation_key(&AwsLc, &derive).map_err(odd)?)?,
            teep: signer(teep_key(&AwsLc, &derive).map_err(odd)?)?,
        })
    }

    /// The key that signs evidence.
    #[must_use]
    pub fn attestation_key(&self) -> &PublicKey {
        self.attestation.public_key()
    }

    /// Signs with the key of evidence.
    ///
    /// # Errors
    /// The key's.
    pub fn attest(&self, bytes: &[u8]) -> Outcome<Vec<u8>> {
        self.attestation.sign(bytes).map_err(odd)
    }

    /// Evidence with a nonce: an EAT as `teed` makes it.
    ///
    /// # Errors
    /// None in practice.
    pub fn evidence(&self, nonce: &[u8], runs: Option<&Runs>) -> Outcome<Vec<u8>> {
        let identity = &self.identity;
        let oemid = match &identity.oemid {
            Oem::Pen(pen) => OemId::Pen(*pen),
            _ => return Err(odd("the bench's devices have another maker")),
        };
        let text = |version: &str| Version {
            version: version.to_owned(),
            scheme: None,
        };
        let teep = self.teep.public_key();
        let claims = EatClaims {
            cnf: Some(Confirmation {
                cose_key: Some(teep.to_cose_key_value()),
                kid: Some(teep.thumbprint().to_vec()),
                other: Vec::new(),
            }),
            eat_nonce: vec![nonce.to_vec()],
            ueid: Some(identity.ueid),
            oemid: Some(oemid),
            hwmodel: Some(identity.hwmodel.clone()),
            hwversion: Some(text(&identity.hwversion)),
            uptime: Some(3_600),
            eat_profile: Some(Profile::Uri(EVIDENCE_PROFILE.to_owned())),
            swname: Some("tegata-tee".to_owned()),
            swversion: Some(text(env!("CARGO_PKG_VERSION"))),
            manifests: runs.iter().map(|runs| runs.manifest.clone()).collect(),
            measurements: runs.iter().map(|runs| runs.measurement.clone()).collect(),
            tegata: TegataClaims {
                security_level: Some("software".to_owned()),
                missing: Some(Vec::new()),
                ..TegataClaims::default()
            },
            ..EatClaims::default()
        };
        let payload = claims.encode().map_err(odd)?;
        let signer = self.attestation.as_ref();
        sign1(signer, &payload, &Sign1Headers::default(), b"", false).map_err(odd)
    }

    /// The answer to a TAM's QueryRequest, with that evidence, asking for a TA or for none.
    ///
    /// Spec: draft-ietf-teep-protocol section 4.3
    ///
    /// # Errors
    /// None in practice.
    pub fn query_response(
        &self,
        evidence: Vec<u8>,
        wants: Option<&CutRelease>,
    ) -> Outcome<Vec<u8>> {
        let wanted = |release: &CutRelease| RequestedTc {
            component_id: ComponentId::new(&[
                b"TEEP-Device".as_slice(),
                b"SecureFS",
                release.ta.as_bytes(),
                b"ta",
            ]),
            tc_manifest_sequence_number: None,
            have_binary: None,
        };
        let response = QueryResponse {
            attestation: Some(Attestation {
                format: None,
                payload: evidence,
            }),
            requested_tc_list: wants.map(|release| vec![wanted(release)]),
            ..QueryResponse::default()
        };
        let payload = Message::QueryResponse(response).encode().map_err(odd)?;
        let signer = self.teep.as_ref();
        sign1(signer, &payload, &Sign1Headers::default(), b"", false).map_err(odd)
    }
}

/// Spec: docs/spec/evidence.md
const EVIDENCE_PROFILE: &str = "tag:tegata.dev,2026:evidence#1";
