use super::*;
use crate::x509::{RevocationReason, SignatureAlg};
use alloc::vec::Vec;

/// What `openssl ocsp -issuer … -serial 0x0112 -no_nonce` sends: SHA-1, NULL parameters.
fn openssl_request(nonce: Option<&[u8]>) -> Vec<u8> {
    let mut id = hex::decode("300906052b0e03021a0500").unwrap();
    id.extend([0x04, 20]);
    id.extend([0xaa; 20]);
    id.extend([0x04, 20]);
    id.extend([0xbb; 20]);
    id.extend([0x02, 0x02, 0x01, 0x12]);
    let wrap = |tag: u8, body: &[u8]| {
        let mut out = alloc::vec![tag];
        if body.len() > 127 {
            out.push(0x81);
        }
        out.push(u8::try_from(body.len()).unwrap());
        out.extend(body);
        out
    };
    let mut tbs = wrap(0x30, &wrap(0x30, &wrap(0x30, &id)));
    if let Some(nonce) = nonce {
        let mut extension = hex::decode("06092b0601050507300102").unwrap();
        extension.extend(wrap(0x04, &wrap(0x04, nonce)));
        tbs.extend(wrap(0xa2, &wrap(0x30, &wrap(0x30, &extension))));
    }
    wrap(0x30, &wrap(0x30, &tbs))
}

#[test]
fn a_request_names_its_certificate() {
    let request = OcspRequest::from_der(&openssl_request(None)).unwrap();
    let [cert] = request.certificates.as_slice() else {
        panic!("one certificate");
    };
    assert_eq!(cert.hash, IdHash::Sha1);
    assert_eq!(cert.serial, [0x01, 0x12]);
    assert_eq!(cert.issuer_name_hash, [0xaa; 20]);
    assert_eq!(cert.issuer_key_hash, [0xbb; 20]);
    assert_eq!(request.nonce, None);
}

#[test]
fn nonces_have_1_to_128_bytes() {
    let nonce = |len: usize| OcspRequest::from_der(&openssl_request(Some(&alloc::vec![7; len])));
    assert_eq!(nonce(1).unwrap().nonce, Some(alloc::vec![7]));
    assert_eq!(nonce(32).unwrap().nonce, Some(alloc::vec![7; 32]));
    assert_eq!(nonce(0), Err(OcspError::Nonce { got: 0, max: 128 }));
}

#[test]
fn every_prefix_of_a_request_is_refused() {
    let whole = openssl_request(Some(&[7; 16]));
    for end in 0..whole.len() {
        assert!(OcspRequest::from_der(&whole[..end]).is_err(), "{end}");
    }
    let mut longer = whole;
    longer.push(0);
    assert!(OcspRequest::from_der(&longer).is_err());
}

#[test]
fn a_response_names_certificates_as_they_were_asked_for() {
    let request = OcspRequest::from_der(&openssl_request(Some(&[7; 16]))).unwrap();
    let statuses = [
        CertStatus::Good,
        CertStatus::Unknown,
        CertStatus::Revoked {
            at_secs: 1_795_000_000,
            reason: RevocationReason::KeyCompromise,
        },
    ]
    .map(|status| SingleStatus {
        cert: &request.certificates[0],
        status,
    });
    let tbs = ResponseBuilder {
        responder_key_hash: &[9; 20],
        this_update_secs: 1_795_000_000,
        next_update_secs: 1_795_003_600,
        statuses: &statuses,
        nonce: request.nonce.as_deref(),
    }
    .to_tbs()
    .unwrap();
    let id = request.certificates[0].der.as_bytes();
    let named = tbs.windows(id.len()).filter(|w| *w == id).count();
    assert_eq!(named, 3);
    // good, unknown, revoked with its reason.
    for part in ["8000180f", "8200180f", "a116180f"] {
        let part = hex::decode(part).unwrap();
        assert!(tbs.windows(part.len()).any(|w| w == part), "{part:?}");
    }
    let reason = hex::decode("a0030a0101").unwrap();
    assert!(tbs.windows(reason.len()).any(|w| w == reason));
    let der = assemble_response(&tbs, SignatureAlg::Ed25519, &[1; 64], &[0x30, 0x00]).unwrap();
    assert_eq!(der.get(4..7), Some([0x0a, 0x01, 0x00].as_slice()));
}

#[test]
fn a_failure_is_five_octets() {
    let failure = |f| hex::encode(failure_response(f).unwrap());
    assert_eq!(failure(OcspFailure::MalformedRequest), "30030a0101");
    assert_eq!(failure(OcspFailure::InternalError), "30030a0102");
    assert_eq!(failure(OcspFailure::TryLater), "30030a0103");
    assert_eq!(failure(OcspFailure::Unauthorized), "30030a0106");
}
