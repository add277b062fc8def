//! A TLS client as blunt as a test needs it.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// Certificate (DER), and key (PKCS#8).
pub type ClientIdentity = (Vec<u8>, Vec<u8>);

/// The one certificate of a PEM file.
pub fn pem_cert(path: &Path) -> Vec<u8> {
    let pem = fs::read(path).unwrap();
    CertificateDer::from_pem_slice(&pem).unwrap().to_vec()
}

/// A connection.
pub struct Tls(StreamOwned<ClientConnection, TcpStream>);

impl Tls {
    /// TLS 1.3 with a server that must be `name` under `root`.
    pub fn connect(
        address: SocketAddr,
        name: &str,
        root: &[u8],
        client: Option<&ClientIdentity>,
    ) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(root.to_vec())).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_root_certificates(roots);
        let config = match client {
            None => builder.with_no_client_auth(),
            Some((cert, key)) => builder
                .with_client_auth_cert(
                    vec![CertificateDer::from(cert.clone())],
                    PrivateKeyDer::Pkcs8(key.clone().into()),
                )
                .unwrap(),
        };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        Ok(Self(StreamOwned::new(connection, socket)))
    }

    /// Sends a request and reads its answer, whose length must be said.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<String> {
        self.0.write_all(request)?;
        let mut answer = Vec::new();
        let mut chunk = [0; 4096];
        loop {
            let text = String::from_utf8_lossy(&answer).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head
                    .lines()
                    .find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                    return Ok(text);
                }
            }
            match self.0.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => answer.extend_from_slice(&chunk[..n]),
            }
        }
    }
}
