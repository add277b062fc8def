//! `[ca.est]`: Enrolment over Secure Transport, a port of its own under TLS.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tegata_wire::x509::SanEntry;
use toml::Spanned;

use super::Check;
use crate::fault::Outcome;

/// The EST port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Est {
    /// Address it listens on.
    pub listen: SocketAddr,
    /// Where its TLS certificate comes from.
    pub identity: ServerIdentity,
    /// Profile of paths that name none; the only one there is when absent.
    pub profile: Option<String>,
    /// File with the policy for PSA tokens in requests; without it no profile may take evidence.
    pub evidence_policy: Option<PathBuf>,
}

/// Where the server's TLS certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerIdentity {
    /// The CA issues and renews it, for these names; the key lies sealed in its store.
    Issued(Vec<SanEntry>),
    /// The operator gives it.
    Files {
        /// PEM: the certificate, then what leads to its root.
        certificate: PathBuf,
        /// PEM: the key in PKCS#8.
        key: PathBuf,
    },
}

/// `[ca.est]` as written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawEst {
    listen: Spanned<String>,
    names: Option<Spanned<Vec<Spanned<String>>>>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    profile: Option<Spanned<String>>,
    evidence_policy: Option<PathBuf>,
}

impl RawEst {
    pub(super) fn checked(&self, check: &Check<'_>, base: &Path) -> Outcome<Est> {
        let one_of = "Write names = [\"ca.example\"] and the CA issues its own certificate, or \
                      certificate and key as PEM files.";
        let identity = match (&self.names, &self.certificate, &self.key) {
            (Some(names), None, None) => ServerIdentity::Issued(self::names(check, names)?),
            (None, Some(certificate), Some(key)) => ServerIdentity::Files {
                certificate: base.join(certificate.get_ref()),
                key: base.join(key.get_ref()),
            },
            (Some(names), _, _) => {
                let what = "names and files of a certificate are both given";
                return Err(check.fault(names.span(), what, one_of));
            }
            (None, Some(file), None) | (None, None, Some(file)) => {
                let what = "a certificate needs its key, and a key its certificate";
                return Err(check.fault(file.span(), what, one_of));
            }
            (None, None, None) => {
                let what = "nothing says by which names devices reach this port";
                return Err(check.fault(self.listen.span(), what, one_of));
            }
        };
        Ok(Est {
            listen: check.address(&self.listen)?,
            identity,
            profile: self.profile.as_ref().map(|name| name.get_ref().clone()),
            evidence_policy: self.evidence_policy.as_ref().map(|path| base.join(path)),
        })
    }
}

/// Most names of the server's certificate.
const NAMES_MAX: usize = 16;

fn names(check: &Check<'_>, names: &Spanned<Vec<Spanned<String>>>) -> Outcome<Vec<SanEntry>> {
    let given = names.get_ref();
    if given.is_empty() || given.len() > NAMES_MAX {
        return Err(check.fault(
            names.span(),
            &format!("there must be 1 to {NAMES_MAX} names"),
            "Write the host names and addresses at which devices reach this port.",
        ));
    }
    let mut out: Vec<SanEntry> = Vec::new();
    for name in given {
        let entry = entry(name.get_ref()).ok_or_else(|| {
            check.fault(
                name.span(),
                &format!(
                    "`{}` is neither a host name nor an IP address",
                    name.get_ref()
                ),
                "Write for example \"ca.example\" or \"192.0.2.7\", without port and scheme.",
            )
        })?;
        if !out.contains(&entry) {
            out.push(entry);
        }
    }
    Ok(out)
}

/// A host name in lower case, or an address.
///
/// Spec: RFC 9525 section 6.3, RFC 1123 section 2.1. No wildcards: the CA knows its names.
fn entry(name: &str) -> Option<SanEntry> {
    if let Ok(address) = name.parse::<IpAddr>() {
        return Some(SanEntry::Ip(match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        }));
    }
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    let fine = name.len() <= 253 && name.split('.').all(label);
    fine.then(|| SanEntry::Dns(name.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::parse;

    fn est(text: &str) -> Outcome<Est> {
        let text = format!("[ca]\nlisten = \"127.0.0.1:1\"\n[ca.est]\n{text}");
        let config = parse(Path::new("/etc/tegata/tegata.toml"), &text)?;
        Ok(config.ca.unwrap().est.unwrap())
    }

    #[test]
    fn names_or_files_never_both_and_never_neither() {
        let listen = "listen = \"127.0.0.1:2\"\n";
        let issued = est(&format!(
            "{listen}names = [\"CA.example\", \"::1\", \"ca.example\"]"
        ));
        let ServerIdentity::Issued(names) = issued.unwrap().identity else {
            panic!("issued");
        };
        assert_eq!(names.len(), 2);
        assert_eq!(names[0], SanEntry::Dns("ca.example".into()));
        let files = est(&format!(
            "{listen}certificate = \"est.pem\"\nkey = \"/k/est.key\""
        ));
        assert_eq!(
            files.unwrap().identity,
            ServerIdentity::Files {
                certificate: "/etc/tegata/est.pem".into(),
                key: "/k/est.key".into(),
            }
        );
        for (wrong, says) in [
            ("", "by which names"),
            ("names = []", "1 to 16"),
            ("names = [\"https://ca\"]", "neither a host name"),
            ("names = [\"a..b\"]", "neither a host name"),
            ("names = [\"*.example\"]", "neither a host name"),
            ("certificate = \"a\"", "needs its key"),
            ("key = \"a\"", "needs its key"),
            ("names = [\"a\"]\nkey = \"a\"", "both given"),
        ] {
            let fault = est(&format!("{listen}{wrong}")).unwrap_err();
            assert!(fault.what.contains(says), "{wrong:?} gave {}", fault.what);
        }
    }
}
