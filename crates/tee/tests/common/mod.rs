//! A device in memory with a CA and a TAM around it.
#![allow(dead_code)] // Each test program uses its part.
#![allow(clippy::result_large_err)] // A failure is looked into, not passed around.

use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::suit::DeliveryKeys;
use tegata_tee::platform::Platform;
use tegata_tee::suit::{Context, Failure, Outcome, SuitError, process_uninstall, process_update};
use tegata_tee::ta_store::{InstalledTa, TaStore};
use tegata_tee::teep::Payloads;
use tegata_tee::testing::TestPlatform;
use tegata_tee::testing::release::{
    Delivery, DeviceInfo, ReleaseSpec, TestCa, TestConfig, TestRelease, TestTam,
};
use tegata_tee::{DeviceKeys, TrustAnchors};
use tegata_wire::ids::TaUuid;
use tegata_wire::suit::Report;

/// One device, its CA and its TAM.
pub struct World {
    pub platform: TestPlatform,
    pub keys: DeviceKeys,
    pub anchors: TrustAnchors,
    pub ca: TestCa,
    pub other_ca: TestCa,
    pub tam: TestTam,
    pub payloads: Payloads,
}

pub const NAME: &str = "enrol";

impl World {
    pub fn new() -> Self {
        Self::with_platform(TestPlatform::new(1))
    }

    pub fn with_platform(platform: TestPlatform) -> Self {
        let (ca, other_ca, tam) = (TestCa::new(101), TestCa::new(102), TestTam::new(103));
        let release_keys = vec![
            ca.key.public_key().clone(),
            other_ca.key.public_key().clone(),
        ];
        let anchors = TrustAnchors::new(release_keys, vec![tam.key.public_key().clone()]).unwrap();
        let keys = DeviceKeys::derive(&platform).unwrap();
        Self {
            platform,
            keys,
            anchors,
            ca,
            other_ca,
            tam,
            payloads: Payloads::new(),
        }
    }

    pub fn device(&self) -> DeviceInfo {
        DeviceInfo {
            ueid: self.platform.identity().ueid,
            delivery: self.keys.delivery_ecdh.public_key().clone(),
        }
    }

    pub fn uuid(&self) -> TaUuid {
        self.ca.uuid(NAME)
    }

    pub fn release(&self, version: u64) -> TestRelease {
        self.ca.release(&spec(version))
    }

    pub fn config(&self, version: u64) -> TestConfig {
        self.ca
            .config(NAME, version, &self.device(), &config_data(version))
    }

    /// The envelope of a whole delivery of that version.
    pub fn delivery(&self, version: u64) -> Vec<u8> {
        let (release, config) = (self.release(version), self.config(version));
        self.tam
            .dependent(&release, &config, &self.device(), Delivery::Integrated)
    }

    pub fn store(&self) -> TaStore<'_, TestPlatform> {
        TaStore::new(&self.platform, &RustCrypto).unwrap()
    }

    pub fn installed(&self) -> Option<InstalledTa> {
        self.store().load(&self.uuid()).unwrap()
    }

    pub fn version(&self) -> Option<u64> {
        self.installed().map(|ta| ta.record.sequence_number)
    }

    /// Processes an envelope and commits what passed. `Ok(true)` if something changed.
    pub fn apply(&self, envelope: &[u8]) -> Result<bool, Failure> {
        match self.process(envelope) {
            Outcome::Passed { changes, .. } => {
                self.store().apply(&changes).unwrap();
                Ok(!changes.is_empty())
            }
            Outcome::Failed(failure) => Err(failure),
            Outcome::NeedPayload { uri, .. } => panic!("needs {uri}"),
        }
    }

    pub fn process(&self, envelope: &[u8]) -> Outcome {
        let store = self.store();
        process_update(&self.context(&store), envelope, Some(b"nonce-16-bytes.."))
    }

    pub fn uninstall(&self) -> Result<(), SuitError> {
        let store = self.store();
        let changes = process_uninstall(&self.context(&store), &self.uuid())?;
        store.apply(&changes).unwrap();
        Ok(())
    }

    pub fn context<'a>(
        &'a self,
        store: &'a TaStore<'a, TestPlatform>,
    ) -> Context<'a, TestPlatform> {
        Context {
            platform: &self.platform,
            provider: &RustCrypto,
            anchors: &self.anchors,
            delivery: DeliveryKeys {
                kek: Some(&self.keys.delivery_kek),
                ecdh: Some(&self.keys.delivery_ecdh),
            },
            store,
            payloads: &self.payloads,
        }
    }

    /// The envelope must fail with this code, and leave the device as it was.
    #[track_caller]
    pub fn refuses(&self, envelope: &[u8], code: &str) -> Failure {
        let before = self.platform.snapshot();
        let failure = self.apply(envelope).expect_err("must be refused");
        assert_eq!(failure.error.code(), code, "{}", failure.error);
        assert_eq!(self.platform.snapshot(), before, "nothing may change");
        failure
    }

    /// The installed TA is wholly of this version.
    #[track_caller]
    pub fn assert_version(&self, version: u64) {
        let ta = self.installed().expect("installed");
        assert_eq!(ta.record.sequence_number, version);
        assert_eq!(ta.module, spec(version).module);
        assert_eq!(ta.procedure.unwrap(), spec(version).procedure);
        assert_eq!(ta.config.unwrap().expose_secret(), &config_data(version));
    }
}

/// What release number `version` is made of.
pub fn spec(version: u64) -> ReleaseSpec {
    ReleaseSpec {
        name: NAME.to_string(),
        sequence_number: version,
        module: format!("\0asm module of version {version}")
            .repeat(20)
            .into_bytes(),
        procedure: format!("procedure of version {version}").into_bytes(),
    }
}

/// What personalization data number `version` is.
pub fn config_data(version: u64) -> Vec<u8> {
    format!("secret of version {version}").into_bytes()
}

/// The report of a failure survives its encoding.
pub fn check_report(report: &Report) {
    let bytes = report.encode().unwrap();
    assert_eq!(&Report::decode(&bytes).unwrap(), report);
}
