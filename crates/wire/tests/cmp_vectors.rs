//! Outside CMP vectors: each is decoded and encoded to the same bytes, or listed with a reason.
// Helpers of tests may fail loudly.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::type_complexity
)]

mod cmp_support;

use cmp_support::{files_below, json_strings, judge, outside_vectors, pem_blocks};
use der::{Decode, Encode};
use tegata_wire::{
    cmp::{CertReqMsg, CertRequest, CertTemplate, PkiHeader, RawBody, UnverifiedPkiMessage},
    x509::{AllegedCsr, CertView, List},
};

/// Vectors that cannot pass, each with the reason.
const EXPECTED_FAILURES: cmp_support::Expected<'static> = &[
    (
        "pq_cert_frodokem_976_aes.pem",
        "over 16 KiB: no algorithm Tegata has plans for",
    ),
    (
        "pq_cert_mceliece_6960119.pem",
        "over 16 KiB: a key of 1 MiB",
    ),
    (
        "pq_root_ca_slh_dsa_sha2_256f.pem",
        "over 16 KiB: a signature of 49 KiB",
    ),
];

/// Decodes and encodes one message; the parts must come out as received too.
fn message(bytes: &[u8]) -> Result<(), String> {
    let message = UnverifiedPkiMessage::from_der(bytes).map_err(|e| e.to_string())?;
    same(
        &message.header().to_der().unwrap(),
        message.header_der(),
        "header",
    )?;
    same(
        &message.body().to_der().unwrap(),
        message.body_der(),
        "body",
    )?;
    let protected = message.protected_part().map_err(|e| e.to_string())?;
    let tail = [message.header_der(), message.body_der()].concat();
    if !protected.ends_with(&tail) {
        return Err("protected part is not header and body".into());
    }
    if let Some(alg) = message.header().protection().map_err(|e| e.to_string())? {
        let id = message.header().protection_alg.as_ref().unwrap();
        let anew = alg.to_identifier().map_err(|e| e.to_string())?;
        if anew.oid != id.oid {
            return Err(format!(
                "protection algorithm {} became {}",
                id.oid, anew.oid
            ));
        }
    }
    for certificate in message.extra_certs() {
        cert(certificate.as_bytes())?;
    }
    same(
        &message.reencode().map_err(|e| e.to_string())?,
        bytes,
        "message",
    )
}

/// Reads one certificate; its three outer parts make it up again.
fn cert(bytes: &[u8]) -> Result<(), String> {
    let view = CertView::from_der(bytes).map_err(|e| e.to_string())?;
    let bits = der::asn1::BitStringRef::from_bytes(view.signature)
        .unwrap()
        .to_der()
        .unwrap();
    let content = [view.tbs_der, view.signature_algorithm_der, &bits].concat();
    let anew = der::asn1::AnyRef::new(der::Tag::Sequence, &content)
        .unwrap()
        .to_der()
        .unwrap();
    view.subject()
        .and_then(|_| view.issuer())
        .map_err(|e| e.to_string())?;
    view.basic_constraints().map_err(|e| e.to_string())?;
    view.key_usage().map_err(|e| e.to_string())?;
    view.ext_key_usage().map_err(|e| e.to_string())?;
    view.subject_key_id().map_err(|e| e.to_string())?;
    view.authority_key_id().map_err(|e| e.to_string())?;
    view.san().map_err(|e| e.to_string())?;
    same(&anew, bytes, "certificate")
}

/// Decodes and encodes a request.
fn csr(bytes: &[u8]) -> Result<(), String> {
    let csr = AllegedCsr::from_der(bytes).map_err(|e| e.to_string())?;
    same(&csr.to_der().map_err(|e| e.to_string())?, bytes, "request")
}

/// Decodes and encodes a part of a message.
fn part<'a, T>(bytes: &'a [u8]) -> Result<(), String>
where
    T: Decode<'a, Error = der::Error> + Encode,
{
    let value = T::from_der(bytes).map_err(|e| e.to_string())?;
    same(&value.to_der().map_err(|e| e.to_string())?, bytes, "part")
}

/// Decodes a body entirely and encodes it.
fn body(bytes: &[u8]) -> Result<(), String> {
    let raw = RawBody::from_der(bytes).map_err(|e| e.to_string())?;
    let anew = raw
        .decode()
        .and_then(|b| b.to_raw())
        .map_err(|e| e.to_string())?;
    same(&anew.to_der().unwrap(), bytes, "body")
}

fn same(got: &[u8], want: &[u8], what: &str) -> Result<(), String> {
    if got == want {
        return Ok(());
    }
    let at = got.iter().zip(want).take_while(|(a, b)| a == b).count();
    Err(format!(
        "{what} differs at byte {at} ({} bytes became {})",
        want.len(),
        got.len()
    ))
}

/// What a file holds, by its name. Every file must be known here, so that new vectors are noticed.
fn check(name: &str, bytes: &[u8]) -> Option<Vec<Result<(), String>>> {
    let file = name.rsplit('/').next().unwrap();
    let one = |result| Some(vec![result]);
    match file {
        // Not messages: notes, logs, private keys, configuration.
        "PROVENANCE.md" | "log.txt" | "ca.srl" | "d.cnf" | "e.cnf" => None,
        _ if file.ends_with(".key") || file.starts_with("ec384-") && !file.ends_with(".crt") => {
            None
        }
        "1-req.der" | "2-rsp.der" | "3-certconf.der" | "4-pkiconf.der" => one(message(bytes)),
        "dev.csr.der" => one(csr(bytes)),
        "certrequest.bin" => one(part::<CertRequest>(bytes)),
        "certreqmsg.bin" => one(part::<CertReqMsg>(bytes)),
        "certreqmsgs.bin" => one(part::<List<CertReqMsg, 16>>(bytes)),
        "certtemplate.bin" => one(part::<CertTemplate>(bytes)),
        _ if file.ends_with("_header_01.bin") => one(part::<PkiHeader>(bytes)),
        _ if file.ends_with("_body_01.bin") => one(body(bytes)),
        _ if file.ends_with("_01.bin") => one(message(bytes)),
        _ if file.ends_with(".json") => {
            let text = std::str::from_utf8(bytes).unwrap();
            let certs = [json_strings(text, "x5c"), json_strings(text, "cacert")].concat();
            Some(
                certs
                    .iter()
                    .map(|c| cert(&cmp_support::base64(c)))
                    .collect(),
            )
        }
        _ if [".pem", ".crt", ".csr"].iter().any(|e| file.ends_with(e)) => {
            let mut blocks = pem_blocks(std::str::from_utf8(bytes).unwrap());
            assert!(!blocks.is_empty(), "{name} has no PEM");
            blocks.retain(|(label, _)| label != "PRIVATE KEY");
            (!blocks.is_empty()).then_some(
                blocks
                    .iter()
                    .map(|(label, der)| match label.as_str() {
                        "CERTIFICATE" => cert(der),
                        "CERTIFICATE REQUEST" => csr(der),
                        other => Err(format!("unexpected {other}")),
                    })
                    .collect(),
            )
        }
        _ => panic!("{name}: what is this?"),
    }
}

#[test]
fn every_outside_vector_round_trips_or_is_listed() {
    let Some(folder) = outside_vectors("cmp") else {
        return;
    };
    let mut results = Vec::new();
    for name in files_below(&folder) {
        let bytes = std::fs::read(folder.join(&name)).unwrap();
        let Some(checked) = check(&name, &bytes) else {
            continue;
        };
        assert!(!checked.is_empty(), "{name} holds nothing");
        let several = checked.len() > 1;
        for (i, result) in checked.into_iter().enumerate() {
            let name = if several {
                format!("{name}#{i}")
            } else {
                name.clone()
            };
            results.push((name, result));
        }
    }
    judge(&results, EXPECTED_FAILURES);
}
