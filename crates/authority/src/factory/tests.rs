use tegata_crypto::PrivateKey;
use tegata_crypto::rustcrypto::RustCrypto;

use super::*;

struct Counting(u8);

impl Rng for Counting {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), CryptoError> {
        for byte in out {
            self.0 = self.0.wrapping_mul(5).wrapping_add(3);
            *byte = self.0;
        }
        self.0 = self.0.wrapping_add(1);
        Ok(())
    }
}

fn spec() -> BatchSpec {
    BatchSpec {
        batch: "2026-11".into(),
        maker: "手形工業".into(),
        vendor_domain: "example.com".into(),
        oemid: Oem::Pen(32473),
        model: "門番".into(),
        hwversion: "1".into(),
        serial_prefix: "TG-".into(),
        first_number: 41,
        imei_type_code: Some(49_015_420),
        with_mac: true,
        security_level: "software".into(),
    }
}

#[test]
fn imei_and_mac_are_well_formed() {
    // The example of 3GPP TS 23.003: 49015420323751 has the check digit 8.
    assert_eq!(imei(49_015_420, 323_751).unwrap(), "490154203237518");
    assert!(imei(1, 1).is_err());
    assert_eq!(mac(0x01_0203), [2, 0, 0, 1, 2, 3]);
}

#[test]
fn a_batch_is_believed_if_a_trusted_factory_signed_it() {
    let (p, mut rng) = (&RustCrypto, Counting(1));
    let factory = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
    let other = PrivateKey::generate(KeyAlg::P256, &mut rng).unwrap();
    let made = make_devices(p, &mut rng, &spec(), 3, UnixSecs(5)).unwrap();
    assert_eq!((made.secrets.len(), made.keks.len()), (3, 3));
    assert_eq!(made.manifest.devices[2].identity.serial, "TG-000043");
    let signed = sign_manifest(&made.manifest, &factory).unwrap();
    let keys = [factory.public_key().clone()];
    let batch = verify_manifest(p, &signed, &keys).unwrap();
    assert_eq!(batch.devices().len(), 3);
    let device = &batch.devices()[0];
    assert_eq!(
        (device.model().as_str(), device.batch()),
        ("門番", "2026-11")
    );
    let again = EndorsedDevice::from_own_record(&device.to_record().unwrap()).unwrap();
    assert_eq!(again.kids(), device.kids());

    assert!(matches!(
        verify_manifest(p, &signed, &[other.public_key().clone()]),
        Err(FactoryError::Untrusted(_))
    ));
    for at in (0..signed.len()).step_by(41) {
        let mut altered = signed.clone();
        altered[at] ^= 1;
        assert!(verify_manifest(p, &altered, &keys).is_err(), "byte {at}");
    }
    // One key for two purposes.
    let mut twice = made.manifest.clone();
    twice.devices[0].teep_key = twice.devices[0].attestation_key.clone();
    let signed = sign_manifest(&twice, &factory).unwrap();
    assert!(matches!(
        verify_manifest(p, &signed, &keys),
        Err(FactoryError::RepeatedKey)
    ));
}

#[test]
fn too_many_devices_are_refused_before_any_is_made() {
    let made = make_devices(
        &RustCrypto,
        &mut Counting(1),
        &spec(),
        MAX_FACTORY_DEVICES + 1,
        UnixSecs(0),
    );
    assert!(matches!(made, Err(FactoryError::TooMany)));
}
