//! TLS 1.3 for a server port: whose certificate it shows, whose it takes.
//!
//! Invariants: nothing below TLS 1.3 is spoken; a client may come without a certificate, and one that
//! it shows is its own (it signed the handshake with it) and leads to an anchor of this port within its
//! validity. Whether that certificate still counts is asked at each request, by the role. There is no
//! resumption: every connection proves its key anew.
//!
//! Not trusted: who connects. Spec: RFC 8446, RFC 9525, RFC 9325.

use std::io;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::fault::{Fault, Outcome};

/// How often the port looks whether its certificate is to be renewed or was replaced.
const RENEWAL_LOOK: Duration = Duration::from_secs(60);

/// Key and certificates that a server shows.
pub struct Identity {
    /// The key.
    pub key: Zeroizing<PrivateKeyDer<'static>>,
    /// The certificate, then what leads to its root.
    pub chain: Vec<CertificateDer<'static>>,
}

/// Where the identity comes from; asked again from time to time.
pub type Source = Arc<dyn Fn() -> Outcome<Identity> + Send + Sync>;

/// The certificate that a client has shown in the handshake (DER).
#[derive(Debug, Clone)]
pub struct ClientCertificate(pub Arc<[u8]>);

/// TLS of a port.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    shown: Arc<Shown>,
    source: Source,
}

impl Tls {
    /// TLS with what `source` gives now; client certificates may end at `anchors` (DER).
    ///
    /// # Errors
    /// The identity cannot be had, or cannot be used for TLS.
    pub fn new(source: Source, anchors: &[&[u8]]) -> Outcome<Self> {
        let provider = Arc::new(default_provider());
        let shown = Arc::new(Shown(RwLock::new(certified(&source()?)?)));
        let mut roots = RootCertStore::empty();
        for anchor in anchors {
            roots
                .add(CertificateDer::from(anchor.to_vec()))
                .map_err(|e| tls_fault("a certificate of the CA", &e.to_string()))?;
        }
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            // No list of CA names: it would tell everybody whose devices these are.
            .clear_root_hint_subjects()
            .build()
            .map_err(|e| tls_fault("the CA's certificates", &e.to_string()))?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| tls_fault("TLS 1.3", &e.to_string()))?
            .with_client_cert_verifier(clients)
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            shown,
            source,
        })
    }

    /// Shakes hands; gives the stream and the certificate that the client has shown.
    ///
    /// # Errors
    /// What went wrong, for the log.
    pub async fn accept(
        &self,
        stream: TcpStream,
        timeout: Duration,
    ) -> io::Result<(TlsStream<TcpStream>, Option<ClientCertificate>)> {
        let shaking = tokio::time::timeout(timeout, self.acceptor.accept(stream));
        let stream = shaking.await.map_err(|_| io::ErrorKind::TimedOut)??;
        let certs = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let client = certs
            .first()
            .map(|cert| ClientCertificate(cert.as_ref().into()));
        Ok((stream, client))
    }

    /// Renews the identity in time, until told to stop. What fails is logged and tried again.
    pub async fn keep(self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEWAL_LOOK) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            let source = Arc::clone(&self.source);
            let loaded = tokio::task::spawn_blocking(move || certified(&source()?)).await;
            match loaded {
                Ok(Ok(new)) => self.shown.replace(new),
                Ok(Err(fault)) => {
                    warn!(reason = fault.code, cause = %fault.what, "the TLS certificate was not renewed")
                }
                Err(_) => warn!(reason = "internal", "the TLS certificate was not renewed"),
            }
        }
    }
}

/// What is shown now.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    fn replace(&self, new: Arc<CertifiedKey>) {
        if let Ok(mut shown) = self.0.write()
            && shown.cert != new.cert
        {
            *shown = new;
            info!("a new TLS certificate is shown");
        }
    }
}

impl ResolvesServerCert for Shown {
    // The same for every name: who asks for another one verifies the names itself.
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.read().ok().map(|shown| Arc::clone(&shown))
    }
}

/// An identity as rustls has it. That key and certificate belong together is checked.
fn certified(identity: &Identity) -> Outcome<Arc<CertifiedKey>> {
    let key =
        any_supported_type(&identity.key).map_err(|e| tls_fault("the TLS key", &e.to_string()))?;
    let certified = CertifiedKey::new(identity.chain.clone(), key);
    certified.keys_match().map_err(|_| {
        Fault::environment(
            "tls-identity",
            "the TLS certificate is not of the TLS key",
            "Give the key that belongs to the first certificate in the file.",
        )
    })?;
    Ok(Arc::new(certified))
}

fn tls_fault(what: &str, cause: &str) -> Fault {
    Fault::environment(
        "tls-identity",
        format!("{what} cannot be used for TLS: {cause}"),
        "Give a key and its certificate as PEM, or names in [ca.est] and the CA makes its own.",
    )
}
