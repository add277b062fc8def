//! Releases, deliveries and TEEP messages as a real CA and TAM make them, for tests.
//!
//! Each step can be taken apart: a test takes the [`Manifest`], changes what an attacker would
//! change, and signs it with whatever key the attacker has.

use alloc::string::{String, ToString};
use alloc::vec;
use alloc::vec::Vec;

use tegata_crypto::cose::{Sign1Headers, sign1};
use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::suit::{encryption_info_a128kw, encryption_info_ecdh_es, seal_payload};
use tegata_crypto::{KeyAlg, PrivateKey, Provider, PublicKey, Rng, Secret};
use tegata_wire::ids::{DeviceUuid, Digest, ReleaseDigest, SignerId, TaUuid, Ueid};
use tegata_wire::suit::{
    Command, Condition, Directive, EnvelopeBuilder, Manifest, Parameters, Section, SuitDigest,
};

use crate::platform::PlatformRng;
use crate::suit::{Part, TaComponent, config_manifest_id, release_manifest_id, tam_manifest_id};
use crate::testing::TestPlatform;

/// A CA as far as a TEE knows it: the key that signs its releases.
pub struct TestCa {
    /// The release key.
    pub key: PrivateKey,
}

/// A TAM as far as a TEE knows it: the key that signs its messages.
pub struct TestTam {
    /// The TAM key.
    pub key: PrivateKey,
}

/// What a release is made of.
#[derive(Clone)]
pub struct ReleaseSpec {
    /// Name of the TA; its UUID is derived from it.
    pub name: String,
    /// Sequence number.
    pub sequence_number: u64,
    /// The Wasm module (any bytes: nothing here runs it).
    pub module: Vec<u8>,
    /// The procedure, in clear.
    pub procedure: Vec<u8>,
}

/// A release as the TAM holds it.
pub struct TestRelease {
    /// UUID of the TA.
    pub uuid: TaUuid,
    /// SUIT digest of the release manifest.
    pub digest: ReleaseDigest,
    /// Sequence number.
    pub sequence_number: u64,
    /// The signed release manifest.
    pub envelope: Vec<u8>,
    /// The module under the content key.
    pub ciphertext: Vec<u8>,
    /// The content key.
    pub cek: Secret<[u8; 16]>,
    /// Nonce of the ciphertext.
    pub iv: [u8; 12],
}

/// Personalization data for one device, as the CA hands it to the TAM.
pub struct TestConfig {
    /// The signed personalization manifest.
    pub envelope: Vec<u8>,
    /// SUIT digest of that manifest.
    pub digest: Digest,
    /// The data, encrypted to the device.
    pub ciphertext: Vec<u8>,
    /// How to decrypt it.
    pub encryption_info: Vec<u8>,
}

/// Where the device finds the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery<'a> {
    /// In the envelope.
    Integrated,
    /// At this URI.
    Uri(&'a str),
}

/// Public data of a device that CA and TAM know.
pub struct DeviceInfo {
    /// The device.
    pub ueid: Ueid,
    /// Its delivery key.
    pub delivery: PublicKey,
}

/// Deterministic randomness of a test: seeded, never repeats.
pub fn rng(seed: u8) -> impl Rng {
    struct Owned(TestPlatform);
    impl Rng for Owned {
        fn fill(&mut self, out: &mut [u8]) -> Result<(), tegata_crypto::CryptoError> {
            PlatformRng(&self.0).fill(out)
        }
    }
    Owned(TestPlatform::new(seed))
}

impl TestCa {
    /// CA number `seed`.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        Self { key: key(seed) }
    }

    /// Who signs: thumbprint of the release key.
    #[must_use]
    pub fn signer(&self) -> SignerId {
        SignerId(self.key.public_key().thumbprint())
    }

    /// UUID of this CA's TA of that name.
    #[must_use]
    pub fn uuid(&self, name: &str) -> TaUuid {
        TaUuid::derive(&self.signer(), name)
    }

    /// Cuts a release.
    #[must_use]
    pub fn release(&self, spec: &ReleaseSpec) -> TestRelease {
        self.release_of(&self.release_manifest(spec), spec)
    }

    /// Cuts a release with another manifest than the usual.
    #[must_use]
    pub fn release_of(&self, manifest: &Manifest, spec: &ReleaseSpec) -> TestRelease {
        let (envelope, digest) = signed(manifest, &self.key, &[]);
        let cek = Secret::new([spec.module.len() as u8; 16]);
        let mut rng = rng(7);
        let (ciphertext, iv) = seal_payload(&RustCrypto, &mut rng, &cek, &spec.module).unwrap();
        TestRelease {
            uuid: self.uuid(&spec.name),
            digest: digest.into(),
            sequence_number: spec.sequence_number,
            envelope,
            ciphertext,
            cek,
            iv,
        }
    }

    /// The manifest of a release.
    #[must_use]
    pub fn release_manifest(&self, spec: &ReleaseSpec) -> Manifest {
        let uuid = self.uuid(&spec.name);
        let part = |part| TaComponent { uuid, part }.to_id();
        let mut manifest = Manifest::new(
            spec.sequence_number,
            vec![part(Part::Ta), part(Part::Procedure)],
        )
        .with_component_id(release_manifest_id(&uuid))
        .with_shared(vec![
            Command::index(0),
            Command::OverrideParameters(image(&spec.module)),
            Command::index(1),
            Command::OverrideParameters(Parameters {
                content: Some(spec.procedure.clone()),
                ..image(&spec.procedure)
            }),
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
            Section::Uninstall,
            vec![
                Command::index(0),
                Command::act(Directive::Unlink),
                Command::index(1),
                Command::act(Directive::Unlink),
            ],
        );
        manifest.reference_uri = Some(TaUuid::reference_uri(&spec.name));
        manifest
    }

    /// The manifest of personalization data for one device (`None`: for any, as in the paper).
    #[must_use]
    pub fn config_manifest(
        &self,
        name: &str,
        sequence_number: u64,
        ueid: Option<&Ueid>,
        config: &[u8],
    ) -> Manifest {
        let uuid = self.uuid(name);
        let mut shared = vec![
            Command::index(0),
            Command::OverrideParameters(Parameters {
                device_id: ueid.map(DeviceUuid::derive),
                ..image(config)
            }),
        ];
        if ueid.is_some() {
            shared.push(Command::check(Condition::DeviceIdentifier));
        }
        let id = TaComponent {
            uuid,
            part: Part::Config,
        }
        .to_id();
        let mut manifest = Manifest::new(sequence_number, vec![id])
            .with_component_id(config_manifest_id(&uuid))
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
                Section::Uninstall,
                vec![Command::index(0), Command::act(Directive::Unlink)],
            );
        manifest.reference_uri = Some(TaUuid::reference_uri(name));
        manifest
    }

    /// Personalization data for one device, encrypted to its delivery key.
    #[must_use]
    pub fn config(
        &self,
        name: &str,
        sequence_number: u64,
        device: &DeviceInfo,
        config: &[u8],
    ) -> TestConfig {
        let manifest = self.config_manifest(name, sequence_number, Some(&device.ueid), config);
        self.config_of(&manifest, device, config)
    }

    /// Personalization data with another manifest than the usual.
    #[must_use]
    pub fn config_of(&self, manifest: &Manifest, device: &DeviceInfo, config: &[u8]) -> TestConfig {
        let (envelope, digest) = signed(manifest, &self.key, &[]);
        let mut rng = rng(8);
        let cek = Secret::new([0xc0; 16]);
        let (ciphertext, iv) = seal_payload(&RustCrypto, &mut rng, &cek, config).unwrap();
        let encryption_info =
            encryption_info_ecdh_es(&RustCrypto, &mut rng, &device.delivery, &cek, &iv).unwrap();
        TestConfig {
            envelope,
            digest,
            ciphertext,
            encryption_info,
        }
    }
}

impl TestTam {
    /// TAM number `seed`.
    #[must_use]
    pub fn new(seed: u8) -> Self {
        Self { key: key(seed) }
    }

    /// The manifest that brings a release and its personalization to one device.
    #[must_use]
    pub fn dependent_manifest(
        &self,
        release: &TestRelease,
        config: &TestConfig,
        device: &DeviceInfo,
        delivery: Delivery<'_>,
    ) -> Manifest {
        let mut rng = rng(9);
        let info = encryption_info_ecdh_es(
            &RustCrypto,
            &mut rng,
            &device.delivery,
            &release.cek,
            &release.iv,
        );
        self.dependent_with(release, config, device, delivery, info.unwrap())
    }

    /// The same by a key that device and TAM share (the paper's way).
    #[must_use]
    pub fn dependent_manifest_symmetric(
        &self,
        release: &TestRelease,
        config: &TestConfig,
        device: &DeviceInfo,
        kek: &Secret<[u8; 16]>,
    ) -> Manifest {
        let info =
            encryption_info_a128kw(&RustCrypto, kek, b"kek", &release.cek, &release.iv).unwrap();
        self.dependent_with(release, config, device, Delivery::Integrated, info)
    }

    fn dependent_with(
        &self,
        release: &TestRelease,
        config: &TestConfig,
        device: &DeviceInfo,
        delivery: Delivery<'_>,
        encryption_info: Vec<u8>,
    ) -> Manifest {
        let uuid = release.uuid;
        let part = |part| TaComponent { uuid, part }.to_id();
        let uri = match delivery {
            Delivery::Integrated => "#ta",
            Delivery::Uri(uri) => uri,
        };
        let payload = |info: Vec<u8>, uri: &str| {
            Command::OverrideParameters(Parameters {
                encryption_info: Some(info),
                uri: Some(uri.to_string()),
                ..Parameters::default()
            })
        };
        let dependency = |index, digest: Digest, uri: &str| {
            vec![
                Command::index(index),
                Command::OverrideParameters(Parameters {
                    image_digest: Some(SuitDigest::sha256(digest)),
                    uri: Some(uri.to_string()),
                    ..Parameters::default()
                }),
                Command::act(Directive::Fetch),
                Command::check(Condition::DependencyIntegrity),
                Command::act(Directive::ProcessDependency),
            ]
        };
        let mut install = vec![
            Command::index(0),
            payload(encryption_info, uri),
            Command::index(1),
            payload(config.encryption_info.clone(), "#config"),
        ];
        install.extend(dependency(2, release.digest.into(), "#dep-ta"));
        install.extend(dependency(3, config.digest, "#dep-config"));
        Manifest::new(
            release.sequence_number,
            vec![part(Part::Ta), part(Part::Config)],
        )
        .with_component_id(tam_manifest_id(&uuid))
        .with_dependency(2, Some(release_manifest_id(&uuid)))
        .with_dependency(3, Some(config_manifest_id(&uuid)))
        .with_shared(vec![
            Command::index(0),
            Command::OverrideParameters(Parameters {
                device_id: Some(DeviceUuid::derive(&device.ueid)),
                ..Parameters::default()
            }),
            Command::check(Condition::DeviceIdentifier),
        ])
        .with_section(Section::Install, install)
    }

    /// The envelope that brings a release and its personalization to one device.
    #[must_use]
    pub fn dependent(
        &self,
        release: &TestRelease,
        config: &TestConfig,
        device: &DeviceInfo,
        delivery: Delivery<'_>,
    ) -> Vec<u8> {
        let manifest = self.dependent_manifest(release, config, device, delivery);
        self.envelope(&manifest, release, config, delivery)
    }

    /// An envelope around another manifest than the usual.
    #[must_use]
    pub fn envelope(
        &self,
        manifest: &Manifest,
        release: &TestRelease,
        config: &TestConfig,
        delivery: Delivery<'_>,
    ) -> Vec<u8> {
        let mut integrated = vec![
            ("#dep-ta", release.envelope.clone()),
            ("#dep-config", config.envelope.clone()),
            ("#config", config.ciphertext.clone()),
        ];
        if delivery == Delivery::Integrated {
            integrated.push(("#ta", release.ciphertext.clone()));
        }
        signed(manifest, &self.key, &integrated).0
    }
}

/// Signs a manifest and puts an envelope together; returns it with its SUIT digest.
#[must_use]
pub fn signed(
    manifest: &Manifest,
    key: &PrivateKey,
    integrated: &[(&str, Vec<u8>)],
) -> (Vec<u8>, Digest) {
    let mut builder = EnvelopeBuilder::new(manifest, |data| RustCrypto.sha256(data)).unwrap();
    let digest = builder.digest().to_sha256().unwrap();
    let headers = Sign1Headers::default();
    let signature = sign1(key, builder.signed_payload(), &headers, b"", true).unwrap();
    builder.add_sign1(signature).unwrap();
    for (name, bytes) in integrated {
        builder.integrate(name, bytes.clone()).unwrap();
    }
    (builder.finish().unwrap(), digest)
}

/// Digest and size of an image.
#[must_use]
pub fn image(bytes: &[u8]) -> Parameters {
    Parameters {
        image_digest: Some(SuitDigest::sha256(Digest(RustCrypto.sha256(bytes)))),
        image_size: u64::try_from(bytes.len()).ok(),
        ..Parameters::default()
    }
}

/// A P-256 key of that number.
#[must_use]
pub fn key(seed: u8) -> PrivateKey {
    RustCrypto.generate(KeyAlg::P256, &mut rng(seed)).unwrap()
}
