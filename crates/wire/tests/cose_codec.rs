//! COSE: the repository's vectors both ways, thumbprints, hostile bytes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod vector_files;

use proptest::prelude::*;
use tegata_wire::cose::{
    ALG_ESP256, CoseError, CoseKey, EncryptionInfo, Recipient, Sign1Builder, UnverifiedSign1,
    kdf_context_a128kw,
};
use vector_files::{bit_flips_do_not_panic, every_prefix_fails, repository, sha256};

#[test]
fn thumbprint() {
    let bytes = repository("cose/thumbprint_key.hex");
    let key = CoseKey::decode(&bytes).unwrap();
    assert_eq!(key.thumbprint_input().unwrap(), bytes);
    assert_eq!(
        hex::encode(sha256(&bytes)),
        "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec"
    );
    // Identifier and algorithm are not part of it.
    let named = key.to_value_with(Some(b"kid"), Some(ALG_ESP256)).unwrap();
    assert_eq!(CoseKey::from_value(named).unwrap(), key);
    every_prefix_fails(&bytes, |b| CoseKey::decode(b).map_err(|e| e.to_string()));
    bit_flips_do_not_panic(&bytes, CoseKey::decode);
    let private = hex::decode(
        "a4010120062158200000000000000000000000000000000000000000000000000000000000000000234100",
    )
    .unwrap();
    assert_eq!(CoseKey::decode(&private), Err(CoseError::Key));
}

#[test]
fn signed_bytes() {
    let bytes = repository("cose/sign1.hex");
    let sign1 = UnverifiedSign1::decode(&bytes).unwrap();
    assert_eq!((sign1.alg(), sign1.kid()), (-7, Some(&b"11"[..])));
    let external = hex::decode("11aa22bb33cc44dd55006699").unwrap();
    assert_eq!(
        hex::encode(sign1.to_be_signed(&external, None).unwrap()),
        "846a5369676e61747572653143a101264c11aa22bb33cc44dd5500669954546869732069732074686520636f\
         6e74656e742e"
            .replace(' ', "")
    );
    assert!(sign1.to_be_signed(&external, Some(b"other")).is_err());
    every_prefix_fails(&bytes, |b| {
        UnverifiedSign1::decode(b).map_err(|e| e.to_string())
    });
    bit_flips_do_not_panic(&bytes, UnverifiedSign1::decode);
    // A critical header is never passed over; an algorithm counts only where it is protected.
    let critical = hex::decode("8447a20126028118634 0f640".replace(' ', "")).unwrap();
    assert!(UnverifiedSign1::decode(&critical).is_err());
    let critical = hex::decode("8447a2012602811863a0f640").unwrap();
    assert_eq!(UnverifiedSign1::decode(&critical), Err(CoseError::Critical));
    assert!(UnverifiedSign1::decode(&hex::decode("8440a10126f640").unwrap()).is_err());
    assert!(UnverifiedSign1::decode(&hex::decode("8443a10126a10126f640").unwrap()).is_ok());
}

#[test]
fn built_signatures_are_read() {
    for payload in [Some(&b"payload"[..]), None] {
        let builder = Sign1Builder::new(ALG_ESP256)
            .kid(&[1; 32])
            .content_type("application/teep+cbor")
            .x5chain(&[vec![0x30; 9], vec![0x30; 8]]);
        let signed = builder.to_be_signed(b"aad", b"payload").unwrap();
        let bytes = builder.finish(payload, &[2; 64]).unwrap();
        let read = UnverifiedSign1::decode(&bytes).unwrap();
        let detached = payload.is_none().then_some(&b"payload"[..]);
        assert_eq!(read.to_be_signed(b"aad", detached).unwrap(), signed);
        assert_eq!(read.x5chain().len(), 2);
        assert_eq!(
            read.content_type().unwrap().as_text(),
            Some("application/teep+cbor")
        );
        assert_eq!(read.signature(), [2; 64]);
    }
}

#[test]
fn encryption_infos() {
    for name in [
        "aes_kw_aes_ctr",
        "aes_kw_aes_gcm",
        "es_ecdh_aes_ctr",
        "es_ecdh_aes_gcm",
    ] {
        let bytes = repository(&format!("cose/encryption_info_{name}.hex"));
        let info = EncryptionInfo::decode(&bytes).unwrap();
        assert_eq!(info.encode().unwrap(), bytes);
        every_prefix_fails(&bytes, |b| {
            EncryptionInfo::decode(b).map_err(|e| e.to_string())
        });
        bit_flips_do_not_panic(&bytes, EncryptionInfo::decode);
    }
    let protected = Recipient::ecdh_es_protected().unwrap();
    assert_eq!(
        kdf_context_a128kw(&protected).unwrap(),
        repository("cose/kdf_context.hex")
    );
    let recipient = Recipient::a128kw(Some(b"kid-1"), vec![3; 24]);
    assert!(recipient.protected.is_empty());
    let info = EncryptionInfo::a128gcm(&[4; 12], vec![recipient]).unwrap();
    let read = EncryptionInfo::decode(&info.encode().unwrap()).unwrap();
    assert_eq!(read, info);
    assert_eq!(
        read.aad(&[]).unwrap(),
        EncryptionInfo::a128gcm_aad().unwrap()
    );
}

proptest! {
    #[test]
    fn keys_round_trip(x in any::<[u8; 32]>(), y in any::<[u8; 32]>()) {
        for key in [CoseKey::P256 { x, y }, CoseKey::Ed25519 { x }] {
            prop_assert_eq!(CoseKey::decode(&key.encode().unwrap()).unwrap(), key);
        }
    }

    #[test]
    fn infos_round_trip(
        iv in any::<[u8; 16]>(),
        kid in proptest::collection::vec(any::<u8>(), 0..40),
        x in any::<[u8; 32]>(),
    ) {
        let key = CoseKey::P256 { x, y: x };
        let info = EncryptionInfo::a128ctr(&iv, vec![
            Recipient::ecdh_es_a128kw(Some(&kid), key, vec![5; 24]).unwrap(),
            Recipient::a128kw(None, vec![6; 24]),
        ]);
        prop_assert_eq!(EncryptionInfo::decode(&info.encode().unwrap()).unwrap(), info);
    }

    #[test]
    fn any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = UnverifiedSign1::decode(&bytes);
        let _ = EncryptionInfo::decode(&bytes);
        let _ = CoseKey::decode(&bytes);
    }
}
