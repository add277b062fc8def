//! PKCS#10 requests that leave the names to the CA.
#![allow(dead_code, clippy::unwrap_used)] // Helpers of tests.

use tegata_crypto::{PrivateKey, Signer as _};
use tegata_wire::x509::{
    AllegedCsr, CsrAttribute, CsrBuilder, NameBuilder, SignatureAlg, assemble_csr,
};

use super::sign_csr;

/// A request that names nothing but its key.
pub fn nameless(key: &PrivateKey) -> Vec<u8> {
    nameless_as(key, key.public_key().to_spki_der().unwrap())
}

/// The same with the key written in another way.
pub fn nameless_as(key: &PrivateKey, spki_der: Vec<u8>) -> Vec<u8> {
    let builder = CsrBuilder {
        subject: NameBuilder::new().build().unwrap(),
        spki_der,
        san: Vec::new(),
        extensions: Vec::new(),
    };
    sign_csr(&builder, key)
}

/// A request with an attribute more, signed anew.
pub fn with_attribute(
    csr: &[u8],
    oid: der::asn1::ObjectIdentifier,
    value: &[u8],
    key: &PrivateKey,
) -> Vec<u8> {
    let mut alleged = AllegedCsr::from_der(csr).unwrap();
    let len = u16::try_from(value.len()).unwrap().to_be_bytes();
    let set = match value.len() {
        0..=127 => vec![0x31, len[1]],
        128..=255 => vec![0x31, 0x81, len[1]],
        _ => vec![0x31, 0x82, len[0], len[1]],
    };
    alleged.attributes.push(CsrAttribute {
        oid,
        values: [&set, value].concat(),
    });
    let tbs = AllegedCsr::from_der(&alleged.to_der().unwrap())
        .unwrap()
        .tbs_der;
    let alg = SignatureAlg::from_oid(&key.public_key().alg().signature_oid()).unwrap();
    assemble_csr(&tbs, alg, &key.sign(&tbs).unwrap()).unwrap()
}
