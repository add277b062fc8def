//! TEEP messages: the repository's vectors both ways, round trips, hostile bytes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod vector_files;

use proptest::prelude::*;
use tegata_wire::suit::{ComponentId, Parameters, SystemProperties};
use tegata_wire::teep::{
    Attestation, CipherSuite, DataItems, ErrCode, Error, Message, QueryRequest, QueryResponse,
    RequestedTc, Success, SuitCoseProfile, TeepError, Token, Update,
};
use vector_files::{bit_flips_do_not_panic, every_prefix_fails, repository};

#[test]
fn vectors_both_ways_and_hostile() {
    for name in [
        "query_request",
        "query_response",
        "teep_success",
        "teep_error",
        "update",
    ] {
        let bytes = repository(&format!("teep/{name}.hex"));
        let message = Message::decode(&bytes).unwrap();
        assert_eq!(message.token().unwrap().as_bytes().len(), 16);
        let again = message.encode().unwrap();
        assert_eq!(Message::decode(&again).unwrap(), message);
        // The draft's examples put the token first; ours are sorted, so only the length is equal.
        assert_eq!(again.len(), bytes.len(), "{name}");
        every_prefix_fails(&bytes, |b| Message::decode(b).map_err(|e| e.to_string()));
        bit_flips_do_not_panic(&bytes, Message::decode);
    }
}

#[test]
fn content_of_the_query_request() {
    let Message::QueryRequest(request) =
        Message::decode(&repository("teep/query_request.hex")).unwrap()
    else {
        panic!("another type");
    };
    let suites: Vec<_> = request
        .supported_teep_cipher_suites
        .iter()
        .map(CipherSuite::as_sign1)
        .collect();
    assert_eq!(suites, [Some(-9), Some(-19)]);
    assert!(
        request
            .supported_suit_cose_profiles
            .contains(&SuitCoseProfile::SHA256_ESP256_ECDH_A128GCM)
    );
    let wanted = DataItems::ATTESTATION.with(DataItems::TRUSTED_COMPONENTS);
    assert_eq!(request.data_item_requested, wanted);
    assert!(
        !request
            .data_item_requested
            .contains(DataItems::SUIT_REPORTS)
    );
    assert_eq!(CipherSuite::sign1(-7).as_sign1(), Some(-9));
}

#[test]
fn limits_and_errors() {
    assert_eq!(
        Message::decode(&[0x82, 0x04, 0xa0]),
        Err(TeepError::MessageType { got: 4 })
    );
    assert!(matches!(
        Message::decode(&[0x83, 0x06, 0xa0, 0x00]),
        Err(TeepError::ErrorCode { got: 0 })
    ));
    assert!(Token::new(vec![0; 7]).is_err());
    assert!(Token::new(vec![0; 65]).is_err());
    let unknown = Message::decode(&[0x82, 0x05, 0xa1, 0x18, 0x63, 0x01]).unwrap();
    let Message::Success(success) = &unknown else {
        panic!("another type")
    };
    assert_eq!(success.unknown.len(), 1);
    assert_eq!(
        unknown.encode().unwrap(),
        [0x82, 0x05, 0xa1, 0x18, 0x63, 0x01]
    );
    let long = Success {
        msg: Some("x".repeat(129)),
        ..Success::default()
    };
    assert!(Message::from(long).encode().is_err());
    // A list of 1000 empty component identifiers.
    let mut bomb = vec![0x82, 0x03, 0xa1, 0x0f, 0x99, 0x03, 0xe8];
    bomb.resize(7 + 1000, 0x80);
    assert!(Message::decode(&bomb).is_err());
    let mut deep = vec![0x82, 0x05, 0xa1, 0x18, 0x63];
    deep.resize(5000, 0x81);
    assert!(Message::decode(&deep).is_err());
    let binary = RequestedTc {
        component_id: ComponentId::new(&["ta"]),
        tc_manifest_sequence_number: None,
        have_binary: Some(true),
    };
    let response = QueryResponse {
        requested_tc_list: Some(vec![binary]),
        ..QueryResponse::default()
    };
    assert!(Message::from(response).encode().is_err());
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..max)
}

fn token() -> impl Strategy<Value = Option<Token>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 8..=64))
        .prop_map(|t| t.map(|t| Token::new(t).unwrap()))
}

fn component() -> impl Strategy<Value = ComponentId> {
    proptest::collection::vec(bytes(20), 0..5).prop_map(ComponentId)
}

fn some_list<S: Strategy>(item: S) -> impl Strategy<Value = Option<Vec<S::Value>>>
where
    S::Value: Clone,
{
    proptest::option::of(proptest::collection::vec(item, 1..4))
}

fn attestation() -> impl Strategy<Value = Option<Attestation>> {
    proptest::option::of(
        (proptest::option::of("[a-z/+]{1,40}"), bytes(80))
            .prop_map(|(format, payload)| Attestation { format, payload }),
    )
}

fn message() -> impl Strategy<Value = Message> {
    let request = (token(), attestation(), any::<u64>()).prop_map(|(token, attestation, bits)| {
        Message::from(QueryRequest {
            token,
            supported_freshness_mechanisms: None,
            challenge: None,
            versions: Some(vec![0, 7]),
            attestation,
            suit_reports: None,
            supported_teep_cipher_suites: vec![CipherSuite::sign1_esp256()],
            supported_suit_cose_profiles: vec![SuitCoseProfile::SHA256_ESP256_ECDH_A128GCM],
            data_item_requested: DataItems::from_bits(bits),
            unknown: Vec::new(),
        })
    });
    let tc = (component(), any::<u64>()).prop_map(|(component_id, size)| SystemProperties {
        component_id,
        properties: Parameters {
            image_size: Some(size),
            ..Parameters::default()
        },
    });
    let wanted = (component(), any::<u64>(), any::<bool>()).prop_map(|(component_id, n, have)| {
        RequestedTc {
            component_id,
            tc_manifest_sequence_number: Some(n),
            have_binary: Some(have),
        }
    });
    let response = (
        token(),
        attestation(),
        some_list(tc),
        some_list(wanted),
        some_list(component()),
    )
        .prop_map(
            |(token, attestation, tc_list, requested_tc_list, unneeded_manifest_list)| {
                Message::from(QueryResponse {
                    token,
                    attestation,
                    tc_list,
                    requested_tc_list,
                    unneeded_manifest_list,
                    ..QueryResponse::default()
                })
            },
        );
    let update = (
        token(),
        some_list(bytes(60)),
        proptest::option::of(1u64..40),
    )
        .prop_map(|(token, manifest_list, code)| {
            Message::from(Update {
                token,
                manifest_list,
                err_code: code.map(|code| ErrCode::from_number(code).unwrap()),
                ..Update::default()
            })
        });
    let error = (token(), 1u64..40, proptest::option::of("[ -~]{1,128}")).prop_map(
        |(token, code, err_msg)| {
            let code = ErrCode::from_number(code).unwrap();
            Message::from(Error {
                token,
                err_msg,
                ..Error::new(code)
            })
        },
    );
    prop_oneof![request, response, update, error]
}

proptest! {
    #[test]
    fn round_trip(message in message()) {
        let bytes = message.encode().unwrap();
        prop_assert_eq!(Message::decode(&bytes).unwrap(), message);
    }

    #[test]
    fn any_bytes(bytes in bytes(200)) {
        let _ = Message::decode(&bytes);
    }
}
