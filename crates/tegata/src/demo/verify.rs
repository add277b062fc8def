//! Checking the certificate: by our own path validation, and by OpenSSL when it is installed.

use std::path::Path;
use std::process::{Command, Stdio};

use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::chain::{Purpose, TrustAnchor, verify_chain};

use crate::story::Event;

/// Our path validation from the leaf over `issuing` to `root`, all DER.
#[must_use]
pub fn ours(leaf: &[u8], issuing: &[u8], root: &[u8], now_secs: u64) -> Event {
    let checked = TrustAnchor::from_cert_der(root).and_then(|anchor| {
        verify_chain(
            &AwsLc,
            leaf,
            &[issuing],
            &[anchor],
            Purpose::EndEntity,
            now_secs,
        )
    });
    let (ok, detail) = match checked {
        Ok(chain) => (
            true,
            format!(
                "path of {} certificates to ca.pem: signatures, names, constraints, key usage, validity",
                chain.path_der().count() + 1
            ),
        ),
        Err(error) => (false, error.to_string()),
    };
    Event::Verified {
        by: "tegata".to_owned(),
        ok,
        detail,
    }
}

/// `openssl verify`; nothing when there is no such program.
#[must_use]
pub fn openssl(root_pem: &Path, chain_pem: &Path) -> Option<Event> {
    let output = Command::new("openssl")
        .arg("verify")
        .arg("-x509_strict")
        .arg("-CAfile")
        .arg(root_pem)
        .arg("-untrusted")
        .arg(chain_pem)
        .arg(chain_pem)
        .stdin(Stdio::null())
        .output()
        .ok()?;
    let ok = output.status.success();
    let said = if ok { &output.stdout } else { &output.stderr };
    let said = String::from_utf8_lossy(said);
    let last = said.lines().last().unwrap_or("").trim();
    let detail = if ok {
        "openssl verify -x509_strict -CAfile ca.pem: OK".to_owned()
    } else {
        last.to_owned()
    };
    Some(Event::Verified {
        by: "openssl".to_owned(),
        ok,
        detail,
    })
}
