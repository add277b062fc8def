//! step-ca: `/1.0/sign` over its own TLS, each CSR with a one-time token (a JWT) that a JWK provisioner's key
//! signed. It keeps tokens and certificates in bbolt, which syncs at each commit, on the disk that ours is on.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use base64ct::{Base64UrlUnpadded, Encoding as _};
use const_oid::db::rfc4519;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::{OsRng, PrivateKey, Rng as _};
use tegata_wire::x509::AllegedCsr;

use super::{Peer, answer_of, started, target, translated, write};
use crate::bench::load::{Clients, Target};
use crate::bench::odd;
use crate::bench::plant::key;
use crate::bench::requests::{Reader, Spool};
use crate::bench::served::Served;
use crate::bench::subject::Subject;
use crate::fault::{Fault, Outcome};
use crate::stores::now_secs;

/// step-ca with keys of its own.
pub struct StepCa {
    dir: PathBuf,
    requests: Spool,
    clients: Arc<Clients>,
    /// The provisioner's public key, a JWK.
    jwk: Value,
}

/// By which name its certificate is verified.
const SERVER: &str = "localhost";
/// Name of the provisioner, and of its key.
const PROVISIONER: &str = "bench";

/// Its files and requests.
pub fn prepare(dir: &Path, requests: &Spool, skipped: &mut Vec<String>) -> Outcome<Option<StepCa>> {
    let mut version = Command::new("step-ca");
    version.arg("version");
    let how = "go install github.com/smallstep/certificates/cmd/step-ca@latest";
    if let Err(why) = answer_of(version, how) {
        skipped.push(why);
        return Ok(None);
    }
    write(
        dir,
        "ca.ext",
        "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n",
    )?;
    for args in OPENSSL {
        let mut openssl = Command::new("openssl");
        openssl.current_dir(dir).args(args.split(' '));
        if let Err(why) = answer_of(openssl, "Debian: openssl") {
            skipped.push(format!("step-ca: what makes its keys, {why}"));
            return Ok(None);
        }
    }
    let private = key()?;
    let (x, y) = match private.public_key().bytes() {
        [4, xy @ ..] if xy.len() == 64 => xy.split_at(32),
        _ => return Err(odd("a public key that is no point of P-256")),
    };
    let base64 = Base64UrlUnpadded::encode_string;
    let jwk = json!({
        "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": PROVISIONER,
        "x": base64(x), "y": base64(y),
    });
    let requests = translated(dir, requests, |csr| {
        Ok(json!({ "csr": csr, "ott": token(&private, csr)? }))
    })?;
    Ok(Some(StepCa {
        clients: Arc::new(clients(&dir.join("root.pem"))?),
        dir: dir.to_path_buf(),
        requests,
        jwk,
    }))
}

impl Peer for StepCa {
    fn subjects(&self) -> Vec<Subject> {
        vec![Subject::StepCa]
    }

    fn requests(&self) -> Outcome<Reader> {
        self.requests.read()
    }

    fn start(&self, _: Subject, dir: PathBuf, cpu: usize) -> Outcome<(Served, Target)> {
        let server = started("step-ca", (&self.dir, dir), cpu, |dir, address| {
            let config = json!({
                "root": "root.pem", "crt": "ca.pem", "key": "ca-key.pem",
                "address": address.to_string(), "dnsNames": [SERVER],
                "logger": { "format": "text" },
                "db": { "type": "bbolt", "dataSource": "step.db" },
                "authority": {
                    // Tokens are made before the clock runs, and so before it starts.
                    "disableIssuedAtCheck": true,
                    "provisioners": [{ "type": "JWK", "name": PROVISIONER, "key": self.jwk,
                        "claims": { "defaultTLSCertDuration": "8760h", "maxTLSCertDuration": "8760h" } }],
                },
            });
            write(dir, "ca.json", &config.to_string())?;
            Ok(vec!["ca.json".to_owned()])
        })?;
        let target = Target {
            tls: Some(Arc::clone(&self.clients)),
            ..target(&server, "/1.0/sign")
        };
        Ok((server, target))
    }

    fn certificate<'a>(&self, answer: &'a Value) -> Option<&'a str> {
        answer.get("crt")?.as_str()
    }
}

/// A one-time token for a CSR.
///
/// Spec: RFC 7519, RFC 7515 section 3.1.
fn token(provisioner: &PrivateKey, csr: &str) -> Outcome<String> {
    let (_, der) = der::pem::decode_vec(csr.as_bytes()).map_err(odd)?;
    let csr = AllegedCsr::from_der(&der).map_err(odd)?;
    let name = csr.subject.text(&rfc4519::COMMON_NAME);
    let name = name.ok_or_else(|| odd("a request without a name"))?;
    let mut id = [0; 16];
    OsRng.fill(&mut id).map_err(odd)?;
    let now = now_secs();
    let base64 = |value: Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
    let signed = format!(
        "{}.{}",
        base64(json!({ "alg": "ES256", "typ": "JWT", "kid": PROVISIONER })),
        base64(json!({
            "iss": PROVISIONER, "aud": format!("https://{SERVER}/1.0/sign"), "sub": name,
            "jti": hex::encode(id), "iat": now, "nbf": now, "exp": now.saturating_add(86_400),
        })),
    );
    let signer = AwsLc.signer(provisioner).map_err(odd)?;
    let signature = signer.sign(signed.as_bytes()).map_err(odd)?;
    Ok(format!(
        "{signed}.{}",
        Base64UrlUnpadded::encode_string(&signature)
    ))
}

/// TLS connections that stay open; clients have no certificates.
fn clients(root: &Path) -> Outcome<Clients> {
    let pem = std::fs::read(root).map_err(|e| Fault::io("read", root, &e))?;
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_slice(&pem).map_err(odd)?;
    roots.add(root).map_err(odd)?;
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(odd)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Clients {
        configs: vec![Arc::new(config)],
        server: ServerName::try_from(SERVER).map_err(odd)?,
        fresh: false,
    })
}

/// A root and an issuing CA, with P-256 keys as ours.
const OPENSSL: [&str; 3] = [
    "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout root-key.pem -out root.pem -days 3650 -subj /CN=root",
    "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca-key.pem -out ca.csr -subj /CN=issuing",
    "x509 -req -in ca.csr -CA root.pem -CAkey root-key.pem -CAcreateserial -days 3650 -extfile ca.ext -out ca.pem",
];
