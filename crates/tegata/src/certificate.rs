//! A certificate as people read it, and as a PEM file.
//!
//! Everything shown is decoded from the certificate's bytes; nothing comes from a database.

use std::path::Path;

use der::pem::LineEnding;
use tegata_crypto::{KeyAlg, PublicKey};
use tegata_wire::x509::{CertView, SanEntry, SignatureAlg, X509Error, oid};

use crate::cli::show;
use crate::fault::{Fault, Outcome};
use crate::files;

/// Longest PEM file with certificates, bytes.
const PEM_LEN_BYTES_MAX: u64 = 256 * 1024;

/// Names of purposes; others are shown as object identifiers.
const PURPOSES: [(&str, &str); 5] = [
    ("1.3.6.1.5.5.7.3.1", "serverAuth"),
    ("1.3.6.1.5.5.7.3.2", "clientAuth"),
    ("1.3.6.1.5.5.7.3.3", "codeSigning"),
    ("1.3.6.1.5.5.7.3.4", "emailProtection"),
    ("1.3.6.1.5.5.7.3.17", "ipsecIKE"),
];
/// Names of the bits of keyUsage. Spec: RFC 5280 section 4.2.1.3.
const USAGES: [&str; 9] = [
    "digitalSignature",
    "nonRepudiation",
    "keyEncipherment",
    "dataEncipherment",
    "keyAgreement",
    "keyCertSign",
    "cRLSign",
    "encipherOnly",
    "decipherOnly",
];
/// The certificate as PEM.
///
/// # Errors
/// Only by a fault of this program.
pub fn to_pem(der: &[u8]) -> Outcome<String> {
    der::pem::encode_string("CERTIFICATE", LineEnding::LF, der).map_err(|e| {
        Fault::failed(
            "bug",
            format!("cannot write a certificate as PEM: {e}"),
            "Please report this.",
        )
    })
}

/// Serial number as `01:8f:…`.
#[must_use]
pub fn serial_text(serial: &[u8]) -> String {
    let pairs: Vec<String> = serial.iter().map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":")
}

/// Names and values of a certificate, in its own order.
///
/// # Errors
/// The bytes are not a certificate.
pub fn fields(der: &[u8]) -> Result<Vec<(String, String)>, X509Error> {
    let cert = CertView::from_der(der)?;
    let mut out: Vec<(String, String)> = Vec::new();
    let mut put = |name: &str, value: String| out.push((name.to_owned(), show::visible(&value)));
    put("subject", cert.subject()?.to_display());
    put("issuer", cert.issuer()?.to_display());
    put("serial number", serial_text(cert.serial));
    let until = if cert.not_after_secs == show::NO_END_SECS {
        "no end (99991231235959Z)".to_owned()
    } else {
        show::time(cert.not_after_secs)
    };
    put(
        "valid",
        format!("{} to {until}", show::time(cert.not_before_secs)),
    );
    match PublicKey::from_spki_der(cert.spki_der) {
        Ok(key) => {
            put("public key", key_text(key.alg()).to_owned());
            put("thumbprint", hex::encode(key.thumbprint()));
        }
        Err(error) => put("public key", format!("not one of ours: {error}")),
    }
    for extension in &cert.extensions {
        let critical = if extension.critical {
            "  (critical)"
        } else {
            ""
        };
        let (name, value) = extension_text(&cert, &extension.oid)?;
        put(&name, format!("{value}{critical}"));
    }
    let signed = match cert.signature_alg() {
        Some(SignatureAlg::EcdsaSha256) => "ECDSA with SHA-256",
        Some(SignatureAlg::EcdsaSha384) => "ECDSA with SHA-384",
        Some(SignatureAlg::Ed25519) => "Ed25519",
        _ => "unknown algorithm",
    };
    put(
        "signature",
        format!("{signed}, {} bytes", cert.signature.len()),
    );
    Ok(out)
}

fn key_text(alg: KeyAlg) -> &'static str {
    match alg {
        KeyAlg::P256 => "P-256",
        KeyAlg::P384 => "P-384",
        KeyAlg::Ed25519 => "Ed25519",
        _ => "another kind",
    }
}

fn extension_text(
    cert: &CertView<'_>,
    id: &der::asn1::ObjectIdentifier,
) -> Result<(String, String), X509Error> {
    let text = |name: &str, value: String| Ok((name.to_owned(), value));
    if *id == oid::BASIC_CONSTRAINTS {
        let constraints = cert.basic_constraints()?;
        let value = match constraints {
            Some(c) if c.ca => match c.path_len {
                Some(len) => format!("a CA, with at most {len} CAs below"),
                None => "a CA".to_owned(),
            },
            _ => "not a CA".to_owned(),
        };
        text("basic constraints", value)
    } else if *id == oid::KEY_USAGE {
        let bits = cert.key_usage()?.unwrap_or(0);
        let names: Vec<&str> = USAGES
            .iter()
            .enumerate()
            .filter(|(position, _)| bits & (1 << position) != 0)
            .map(|(_, name)| *name)
            .collect();
        text("key usage", names.join(", "))
    } else if *id == oid::EXT_KEY_USAGE {
        let names: Vec<String> = cert.ext_key_usage()?.iter().map(purpose).collect();
        text("extended key usage", names.join(", "))
    } else if *id == oid::SUBJECT_KEY_IDENTIFIER {
        let id = cert.subject_key_id()?.unwrap_or_default();
        text("subject key id", hex::encode(id))
    } else if *id == oid::AUTHORITY_KEY_IDENTIFIER {
        let id = cert.authority_key_id()?.unwrap_or_default();
        text("authority key id", hex::encode(id))
    } else if *id == oid::SUBJECT_ALT_NAME {
        let names: Vec<String> = cert.san()?.iter().map(san_text).collect();
        text("alternative names", names.join("; "))
    } else {
        let len = cert.extension(id).map_or(0, |e| e.value.len());
        let name = match *id {
            oid::CRL_DISTRIBUTION_POINTS => "CRL distribution points".to_owned(),
            oid::AUTHORITY_INFO_ACCESS => "authority info access".to_owned(),
            _ => id.to_string(),
        };
        text(&name, format!("{len} bytes"))
    }
}

fn purpose(id: &der::asn1::ObjectIdentifier) -> String {
    let id = id.to_string();
    PURPOSES
        .iter()
        .find(|(known, _)| *known == id)
        .map_or(id, |(_, name)| (*name).to_owned())
}

/// One alternative name, in words.
#[must_use]
pub fn san_text(name: &SanEntry) -> String {
    match name {
        SanEntry::Dns(text) => format!("DNS {text}"),
        SanEntry::Uri(text) => format!("URI {text}"),
        SanEntry::Email(text) => format!("email {text}"),
        SanEntry::Ip(bytes) => format!("IP {}", hex::encode(bytes)),
        SanEntry::Directory(name) => format!("directory {}", name.to_display()),
        SanEntry::RegisteredId(id) => format!("registered id {id}"),
        SanEntry::HardwareModule { hw_type, hw_serial } => {
            let serial = match std::str::from_utf8(hw_serial) {
                Ok(text) if !text.chars().any(char::is_control) => text.to_owned(),
                _ => hex::encode(hw_serial),
            };
            format!("HardwareModuleName type {hw_type} serial {serial}")
        }
        SanEntry::PermanentIdentifier { value, assigner } => {
            let value = value.as_deref().unwrap_or("as in the subject");
            match assigner {
                Some(assigner) => format!("PermanentIdentifier {value} assigned by {assigner}"),
                None => format!("PermanentIdentifier {value}"),
            }
        }
        SanEntry::Other { type_id, value } => format!("{type_id} ({} bytes)", value.len()),
        _ => "a name of another kind".to_owned(),
    }
}

/// The certificates (DER) of a PEM file, in order.
///
/// # Errors
/// The file is missing or not PEM.
pub fn read_pem(path: &Path) -> Outcome<Vec<Vec<u8>>> {
    let bytes = files::read(path, PEM_LEN_BYTES_MAX)?;
    from_pem(&String::from_utf8_lossy(&bytes))
}

/// The certificates (DER) of a text, in order.
///
/// # Errors
/// One of them is not PEM.
pub fn from_pem(pem: &str) -> Outcome<Vec<Vec<u8>>> {
    let end = "-----END CERTIFICATE-----";
    pem.split_inclusive(end)
        .map(str::trim)
        .filter(|block| block.ends_with(end))
        .map(|block| {
            der::pem::decode_vec(block.as_bytes())
                .map(|(_, der)| der)
                .map_err(|e| {
                    Fault::failed(
                        "bad-pem",
                        format!("a certificate is not PEM: {e}"),
                        "Take the file as it was written.",
                    )
                })
        })
        .collect()
}
