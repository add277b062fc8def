use alloc::format;
use alloc::string::ToString;

use super::*;

#[test]
fn namespaces_are_what_their_documentation_says() {
    assert_eq!(NS_DEVICE, Uuid::new_v5(&NS_TEGATA, b"device"));
}

#[test]
fn text_forms_round_trip() {
    let ueid = Ueid::from_random([0xab; 16]);
    assert_eq!(ueid.as_bytes().len(), 17);
    assert_eq!(ueid.to_string(), format!("01{}", "ab".repeat(16)));
    assert_eq!(ueid.to_string().parse(), Ok(ueid));
    let digest = Digest([7; 32]);
    assert_eq!(digest.to_string().parse(), Ok(digest));
    let uuid = TaUuid::derive(&SignerId([1; 32]), "enrol");
    assert_eq!(uuid.to_string().parse(), Ok(uuid));
    assert_eq!(uuid.to_string().len(), 36);
}

#[test]
fn lengths_are_never_mended() {
    assert_eq!(
        Ueid::from_slice(&[1; 6]),
        Err(IdError::Length {
            expected: 7,
            got: 6
        })
    );
    assert_eq!(
        Ueid::from_slice(&[1; 34]),
        Err(IdError::Length {
            expected: 7,
            got: 34
        })
    );
    assert!(Ueid::from_slice(&[1; 33]).is_ok());
    assert!("0102".parse::<Ueid>().is_err());
    assert!("01".repeat(34).parse::<Ueid>().is_err());
    assert!("01020304050607f".parse::<Ueid>().is_err());
    assert!(Digest::from_slice(&[0; 31]).is_err());
    assert_eq!("zz".repeat(32).parse::<Digest>(), Err(IdError::Text));
    assert!("00".repeat(33).parse::<Digest>().is_err());
}

/// Spec: draft-ietf-suit-manifest section 8.4.8.1 gives the construction; the number is the vendor
/// identifier of its examples. Their class identifier is of a model that they do not name.
#[test]
fn vendor_ids_match_the_suit_examples() {
    let vendor = VendorId::derive("arm.com");
    assert_eq!(vendor.to_string(), "fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe");
    assert_ne!(ClassId::derive(&vendor, "a"), ClassId::derive(&vendor, "b"));
}

#[test]
fn different_signers_never_share_a_ta_uuid() {
    assert_ne!(
        TaUuid::derive(&SignerId([1; 32]), "enrol"),
        TaUuid::derive(&SignerId([2; 32]), "enrol")
    );
}

#[test]
fn a_reference_uri_names_a_ta_of_its_signer_alone() {
    let (one, two) = (SignerId([1; 32]), SignerId([2; 32]));
    let uri = TaUuid::reference_uri("enrol");
    assert_eq!(uri, "tegata:ta:enrol");
    assert_eq!(
        TaUuid::from_reference_uri(&one, &uri),
        Some(TaUuid::derive(&one, "enrol"))
    );
    assert_ne!(
        TaUuid::from_reference_uri(&two, &uri),
        Some(TaUuid::derive(&one, "enrol"))
    );
    assert_eq!(TaUuid::from_reference_uri(&one, "tegata:ta:"), None);
    assert_eq!(
        TaUuid::from_reference_uri(&one, "https://example.com/enrol"),
        None
    );
}
