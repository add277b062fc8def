//! OCSP requests, octet by octet.
#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing)] // Helpers of tests.

use tegata_crypto::rustcrypto::RustCrypto;
use tegata_crypto::{Provider as _, PublicKey, ecdsa_sig};
use tegata_store::issuer::Issuer;
use tegata_wire::x509::CertView;

/// One element of DER, of less than 256 octets.
pub fn tlv(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    if body.len() > 127 {
        out.push(0x81);
    }
    out.push(u8::try_from(body.len()).unwrap());
    out.extend(body);
    out
}

/// The CertID of a certificate, with SHA-1 or SHA-256.
pub fn cert_id(ca: &Issuer, serial: &[u8], sha1: bool) -> Vec<u8> {
    cert_id_by(ca.issuing_certificate(), serial, sha1)
}

/// The CertID of a certificate of that issuing CA (DER).
pub fn cert_id_by(issuing: &[u8], serial: &[u8], sha1: bool) -> Vec<u8> {
    let issuing = CertView::from_der(issuing).unwrap();
    let key = PublicKey::from_spki_der(issuing.spki_der).unwrap();
    let hash = |data: &[u8]| match sha1 {
        true => tegata_crypto::ocsp::name_hash_sha1(data).to_vec(),
        false => RustCrypto.sha256(data).to_vec(),
    };
    let alg = match sha1 {
        true => "300906052b0e03021a0500",
        false => "300b0609608648016503040201",
    };
    let parts = [
        hex::decode(alg).unwrap(),
        tlv(4, &hash(issuing.subject_der)),
        tlv(4, &hash(key.bytes())),
        tlv(2, serial),
    ];
    tlv(0x30, &parts.concat())
}

/// The contents of the elements of DER that follow one another, with the elements themselves.
fn elements(mut der: &[u8]) -> Vec<(&[u8], &[u8])> {
    let mut found = Vec::new();
    while let [_, len, ..] = der {
        let (head, len) = match len {
            short @ 0..=0x7f => (2, usize::from(*short)),
            long => {
                let more = usize::from(long & 0x7f);
                let len = der[2..2 + more].iter();
                (2 + more, len.fold(0, |n, b| n << 8 | usize::from(*b)))
            }
        };
        found.push((&der[head..head + len], &der[..head + len]));
        der = &der[head + len..];
    }
    found
}

fn check(key: &PublicKey, message: &[u8], signature: &[u8]) {
    let raw = ecdsa_sig::from_der(key.alg(), signature).unwrap();
    RustCrypto.verify(key, message, &raw).unwrap();
}

/// Whether a response is signed by a responder whose certificate the issuing CA's key signed.
pub fn check_response(der: &[u8], issuing: &[u8]) {
    let inner = |der| elements(der);
    // OCSPResponse: status, [0] { type, OCTET STRING of BasicOCSPResponse }.
    let response = inner(inner(der)[0].0);
    assert_eq!(response[0].0, [0]);
    let basic = inner(inner(response[1].0)[0].0)[1].0;
    let basic = inner(inner(basic)[0].0);
    // The response and its signature, then [0] the certificates.
    let (signed, signature) = (basic[0].1, &basic[2].0[1..]);
    let responder = inner(inner(basic[3].0)[0].0)[0].1;
    let by = |cert: &[u8]| {
        let view = CertView::from_der(cert).unwrap();
        PublicKey::from_spki_der(view.spki_der).unwrap()
    };
    let responder_view = CertView::from_der(responder).unwrap();
    check(
        &by(issuing),
        responder_view.tbs_der,
        responder_view.signature,
    );
    check(&by(responder), signed, signature);
}

/// A request for one certificate.
pub fn request(id: &[u8]) -> Vec<u8> {
    tlv(0x30, &tlv(0x30, &tlv(0x30, &tlv(0x30, id))))
}
