//! What needs no TEE: interfaces, attributes, templates, digests, signatures. The rest is tried
//! against a real one by `.ci/keys.d/pkcs11`.
#![allow(
    unsafe_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic
)] // Tests call the wall as programs do.

use std::ptr;
use std::sync::Arc;

use cryptoki_sys as ck;
use p256::ecdsa::signature::hazmat::PrehashSigner;
use zeroize::Zeroizing;

use crate::key::{Key, Kind};
use crate::object::{Object, Template};
use crate::operation::{KeyUse, Mechanism, Parameter};
use crate::rv::{Rv, rv};
use crate::wall::{C_GetFunctionList, C_GetInterface, C_GetInterfaceList};

mod played;

fn key(kind: Kind, point: Vec<u8>) -> Arc<Key> {
    Arc::new(Key {
        label: "k".into(),
        digest: [1; 32],
        spki_der: vec![0x30, 0],
        kind,
        point,
        signs: true,
        derives: kind != Kind::Ed25519,
    })
}

fn mechanism(kind: ck::CK_MECHANISM_TYPE, parameter: Parameter) -> Mechanism {
    Mechanism { kind, parameter }
}

fn template(rows: &[(ck::CK_ATTRIBUTE_TYPE, &[u8])]) -> Template {
    rows.iter()
        .map(|(kind, value)| (*kind, Zeroizing::new(value.to_vec())))
        .collect()
}

#[test]
fn interfaces_are_found_by_name_and_version() {
    let mut count: ck::CK_ULONG = 0;
    // SAFETY: pointers are null or to locals.
    unsafe {
        assert_eq!(C_GetInterfaceList(ptr::null_mut(), &mut count), ck::CKR_OK);
        assert_eq!(count, 3);
        let mut found = [ck::CK_INTERFACE::default(); 3];
        count = 2;
        let rv = C_GetInterfaceList(found.as_mut_ptr(), &mut count);
        assert_eq!((rv, count), (ck::CKR_BUFFER_TOO_SMALL, 3));
        assert_eq!(C_GetInterfaceList(found.as_mut_ptr(), &mut count), 0);
        assert_eq!(
            C_GetInterfaceList(ptr::null_mut(), ptr::null_mut()),
            ck::CKR_ARGUMENTS_BAD
        );

        for (wanted, is) in [
            (None, (3, 1)),
            (Some((3, 0)), (3, 0)),
            (Some((2, 40)), (2, 40)),
        ] {
            let mut version = wanted.map(|(major, minor)| ck::CK_VERSION { major, minor });
            let version = version.as_mut().map_or(ptr::null_mut(), ptr::from_mut);
            let mut interface = ptr::null_mut();
            let name = c"PKCS 11".as_ptr().cast_mut().cast();
            assert_eq!(C_GetInterface(name, version, &mut interface, 0), ck::CKR_OK);
            // A child after a fork has to initialise itself: not what "fork safe" promises.
            assert_eq!((*interface).flags, 0);
            let list = (*interface).pFunctionList.cast::<ck::CK_VERSION>();
            assert_eq!(((*list).major, (*list).minor), is);
        }
        let mut interface = ptr::null_mut();
        let other = c"Vendor".as_ptr().cast_mut().cast();
        let rv = C_GetInterface(other, ptr::null_mut(), &mut interface, 0);
        assert_eq!(rv, ck::CKR_ARGUMENTS_BAD);
        let rv = C_GetInterface(ptr::null_mut(), ptr::null_mut(), ptr::null_mut(), 0);
        assert_eq!(rv, ck::CKR_ARGUMENTS_BAD);
        assert_eq!(C_GetFunctionList(ptr::null_mut()), ck::CKR_ARGUMENTS_BAD);

        // Version 3: no function is missing, and none works before C_Initialize.
        let mut interface = ptr::null_mut();
        assert_eq!(
            C_GetInterface(ptr::null_mut(), ptr::null_mut(), &mut interface, 0),
            0
        );
        let list = (*interface)
            .pFunctionList
            .cast::<ck::CK_FUNCTION_LIST_3_0>();
        let words = size_of::<ck::CK_FUNCTION_LIST_3_0>() / size_of::<usize>();
        for word in 1..words {
            assert_ne!(list.cast::<usize>().add(word).read(), 0, "{word}");
        }
        let rv = ((*list).C_SessionCancel.unwrap())(1, 0);
        assert_eq!(rv, ck::CKR_CRYPTOKI_NOT_INITIALIZED);
        let rv = ((*list).C_MessageSignInit.unwrap())(1, ptr::null_mut(), 1);
        assert_eq!(rv, ck::CKR_CRYPTOKI_NOT_INITIALIZED);
    }
}

#[test]
fn digests_are_cut_and_filled_as_ecdsa_does() {
    let p256 = key(Kind::P256, Vec::new());
    assert_eq!(p256.fit(&[9; 48]), [9; 32]);
    let mut short = [0; 32];
    short[12..].fill(9);
    assert_eq!(p256.fit(&[9; 20]), short);
    assert_eq!(key(Kind::P384, Vec::new()).fit(&[9; 64]), [9; 48]);
}

#[test]
fn signatures_of_every_curve_are_checked() {
    let digest = [5; 32];
    let secret = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let point = secret
        .verifying_key()
        .to_sec1_point(false)
        .as_bytes()
        .to_vec();
    let public = key(Kind::P256, point);
    let signature: p256::ecdsa::Signature = secret.sign_prehash(&digest).unwrap();
    let mut signature = signature.to_bytes().to_vec();
    assert_eq!(public.verify(&digest, &signature), Ok(()));
    assert_eq!(
        public.verify(&[6; 32], &signature),
        Err(rv!(CKR_SIGNATURE_INVALID))
    );
    signature.pop();
    assert_eq!(
        public.verify(&digest, &signature),
        Err(rv!(CKR_SIGNATURE_LEN_RANGE))
    );
    assert_eq!(
        public.verify(&digest, &[0; 64]),
        Err(rv!(CKR_SIGNATURE_INVALID))
    );

    let secret = p384::ecdsa::SigningKey::from_slice(&[7; 48]).unwrap();
    let point = secret
        .verifying_key()
        .to_sec1_point(false)
        .as_bytes()
        .to_vec();
    let public = key(Kind::P384, point);
    let signature: p384::ecdsa::Signature = secret.sign_prehash(&public.fit(&digest)).unwrap();
    assert_eq!(
        public.verify(&public.fit(&digest), &signature.to_bytes()),
        Ok(())
    );

    let secret = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    let public = key(Kind::Ed25519, secret.verifying_key().as_bytes().to_vec());
    let signature = ed25519_dalek::ed25519::signature::Signer::sign(&secret, b"message");
    assert_eq!(public.verify(b"message", &signature.to_bytes()), Ok(()));
    assert!(public.verify(b"massage", &signature.to_bytes()).is_err());
}

#[test]
fn mechanisms_fit_keys_and_their_parameters() {
    let begin =
        |key: &Arc<Key>, kind, parameter| KeyUse::begin(key, &mechanism(kind, parameter)).map(drop);
    let ec = key(Kind::P256, Vec::new());
    let ed = key(Kind::Ed25519, Vec::new());
    let plain = |prehash, context| Parameter::Eddsa { prehash, context };
    assert_eq!(begin(&ec, ck::CKM_ECDSA_SHA384, Parameter::None), Ok(()));
    assert_eq!(begin(&ed, ck::CKM_EDDSA, Parameter::None), Ok(()));
    assert_eq!(begin(&ed, ck::CKM_EDDSA, plain(false, false)), Ok(()));
    let wrong_key = Err(rv!(CKR_KEY_TYPE_INCONSISTENT));
    assert_eq!(begin(&ec, ck::CKM_EDDSA, Parameter::None), wrong_key);
    assert_eq!(begin(&ed, ck::CKM_ECDSA, Parameter::None), wrong_key);
    let wrong_parameter = Err(rv!(CKR_MECHANISM_PARAM_INVALID));
    assert_eq!(
        begin(&ed, ck::CKM_EDDSA, plain(true, false)),
        wrong_parameter
    );
    assert_eq!(
        begin(&ed, ck::CKM_EDDSA, plain(false, true)),
        wrong_parameter
    );
    assert_eq!(
        begin(&ec, ck::CKM_ECDSA, Parameter::Unknown),
        wrong_parameter
    );
    assert_eq!(
        begin(&ec, ck::CKM_RSA_PKCS, Parameter::None),
        Err(rv!(CKR_MECHANISM_INVALID))
    );
    let mut silent = (*ec).clone();
    silent.signs = false;
    let refused = Err(rv!(CKR_KEY_FUNCTION_NOT_PERMITTED));
    assert_eq!(
        begin(&Arc::new(silent), ck::CKM_ECDSA, Parameter::None),
        refused
    );

    // Ed25519 takes messages whole, up to a limit; ECDSA digests only.
    let mut eddsa = KeyUse::begin(&ed, &mechanism(ck::CKM_EDDSA, Parameter::None)).unwrap();
    assert_eq!(eddsa.update(&[0; 256 * 1024]), Ok(()));
    assert_eq!(eddsa.update(&[0]), Err(rv!(CKR_DATA_LEN_RANGE)));
    let mut ecdsa = KeyUse::begin(&ec, &mechanism(ck::CKM_ECDSA, Parameter::None)).unwrap();
    assert_eq!(ecdsa.update(&[0; 129]), Err(rv!(CKR_DATA_LEN_RANGE)));
    assert!(matches!(ecdsa.finish(), Err(Rv(ck::CKR_DATA_LEN_RANGE))));
}

#[test]
fn a_private_key_shows_nothing_and_claims_nothing() {
    let object = Object::private(&key(Kind::P256, vec![4; 65]), &[0x30, 0]).unwrap();
    let sensitive = Err(rv!(CKR_ATTRIBUTE_SENSITIVE));
    assert_eq!(object.attribute(ck::CKA_VALUE), sensitive);
    assert_eq!(
        object.attribute(ck::CKA_MODULUS),
        Err(rv!(CKR_ATTRIBUTE_TYPE_INVALID))
    );
    for (kind, is) in [
        (ck::CKA_TOKEN, 1),
        (ck::CKA_PRIVATE, 1),
        (ck::CKA_SENSITIVE, 1),
        (ck::CKA_ALWAYS_SENSITIVE, 1),
        (ck::CKA_NEVER_EXTRACTABLE, 1),
        (ck::CKA_EXTRACTABLE, 0),
        (ck::CKA_MODIFIABLE, 0),
        (ck::CKA_SIGN, 1),
        (ck::CKA_DERIVE, 1),
        (ck::CKA_DECRYPT, 0),
    ] {
        assert_eq!(object.attribute(kind), Ok([is].as_slice()), "{kind:x}");
    }
    // No search finds it by its value.
    assert!(!object.matches(&template(&[(ck::CKA_VALUE, &[])])));
    assert!(object.matches(&template(&[(ck::CKA_LABEL, b"k")])));
    assert!(object.matches(&Template::new()));
    let p256 = [6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
    assert_eq!(object.attribute(ck::CKA_EC_PARAMS), Ok(p256.as_slice()));
}

#[test]
fn a_secret_is_as_its_template_wants_it() {
    let shared: Vec<u8> = (0..32).collect();
    let make = |rows: &[(ck::CK_ATTRIBUTE_TYPE, &[u8])]| {
        Object::secret(3, Zeroizing::new(shared.clone()), &template(rows), &[1; 8])
    };
    let number = |value: ck::CK_ULONG| value.to_ne_bytes();
    let whole = make(&[]).unwrap();
    assert_eq!(whole.attribute(ck::CKA_VALUE), Ok(shared.as_slice()));
    // The leading bytes go.
    let short = make(&[(ck::CKA_VALUE_LEN, &number(16))]).unwrap();
    assert_eq!(short.attribute(ck::CKA_VALUE), Ok(&shared[16..]));
    let aes = make(&[(ck::CKA_KEY_TYPE, &number(ck::CKK_AES))]).unwrap();
    assert_eq!(aes.attribute(ck::CKA_VALUE_LEN), Ok(number(16).as_slice()));
    for hidden in [(ck::CKA_SENSITIVE, [1]), (ck::CKA_EXTRACTABLE, [0])] {
        let object = make(&[(hidden.0, &hidden.1)]).unwrap();
        assert_eq!(
            object.attribute(ck::CKA_VALUE),
            Err(rv!(CKR_ATTRIBUTE_SENSITIVE))
        );
    }
    let refused = |rows: &[(ck::CK_ATTRIBUTE_TYPE, &[u8])]| make(rows).err().map(|rv| rv.0);
    for (rows, why) in [
        (
            vec![(ck::CKA_VALUE_LEN, number(33).to_vec())],
            ck::CKR_ATTRIBUTE_VALUE_INVALID,
        ),
        (
            vec![(ck::CKA_VALUE_LEN, number(0).to_vec())],
            ck::CKR_ATTRIBUTE_VALUE_INVALID,
        ),
        (
            vec![(ck::CKA_VALUE_LEN, vec![1])],
            ck::CKR_ATTRIBUTE_VALUE_INVALID,
        ),
        (
            vec![(ck::CKA_TOKEN, vec![1])],
            ck::CKR_TEMPLATE_INCONSISTENT,
        ),
        (
            vec![(ck::CKA_TOKEN, vec![2])],
            ck::CKR_ATTRIBUTE_VALUE_INVALID,
        ),
        (
            vec![(ck::CKA_CLASS, number(ck::CKO_DATA).to_vec())],
            ck::CKR_TEMPLATE_INCONSISTENT,
        ),
        (vec![(ck::CKA_VALUE, vec![1])], ck::CKR_ATTRIBUTE_READ_ONLY),
        (
            vec![(ck::CKA_MODULUS, vec![1])],
            ck::CKR_ATTRIBUTE_TYPE_INVALID,
        ),
        (
            vec![(ck::CKA_LABEL, vec![1]), (ck::CKA_LABEL, vec![1])],
            ck::CKR_TEMPLATE_INCONSISTENT,
        ),
        (
            vec![(ck::CKA_LABEL, vec![1; 300])],
            ck::CKR_ATTRIBUTE_VALUE_INVALID,
        ),
    ] {
        let rows: Vec<_> = rows
            .iter()
            .map(|(kind, value)| (*kind, value.as_slice()))
            .collect();
        assert_eq!(refused(&rows), Some(why), "{rows:?}");
    }
}
