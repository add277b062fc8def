//! OCSP requests, octet by octet.
#![allow(dead_code, clippy::unwrap_used)] // Helpers of tests.

use tegata_crypto::Provider as _;
use tegata_crypto::rustcrypto::RustCrypto;
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
    let key = tegata_crypto::PublicKey::from_spki_der(issuing.spki_der).unwrap();
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

/// A request for one certificate.
pub fn request(id: &[u8]) -> Vec<u8> {
    tlv(0x30, &tlv(0x30, &tlv(0x30, &tlv(0x30, id))))
}
