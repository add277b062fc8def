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

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::aws_lc_rs::{default_provider, sign::any_supported_type};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tracing::{info, warn};
use zeroize::Zeroizing;

use super::frame::Phase;
use crate::fault::{Fault, Outcome};

/// How often the port looks whether its certificate is to be renewed or was replaced.
const RENEWAL_LOOK: Duration = Duration::from_secs(60);

/// Key and certificates that a server shows.
pub struct Identity {
    /// The key.
    pub key: Zeroizing<PrivateKeyDer<'static>>,
    /// The certificate, then what leads to its root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Certificates (DER) that those of clients may end at.
    pub clients: Vec<Vec<u8>>,
}

/// Where the identity comes from; asked again from time to time.
pub type Source = Arc<dyn Fn() -> Outcome<Identity> + Send + Sync>;

/// The certificate that a client has shown in the handshake (DER).
#[derive(Debug, Clone)]
pub struct ClientCertificate(pub Arc<[u8]>);

/// TLS of a port.
#[derive(Clone)]
pub struct Tls {
    shown: Arc<RwLock<Shown>>,
    source: Source,
}

/// What is shown and taken now.
struct Shown {
    acceptor: TlsAcceptor,
    chain: Vec<CertificateDer<'static>>,
    clients: Vec<Vec<u8>>,
}

impl Tls {
    /// TLS with what `source` gives now.
    ///
    /// # Errors
    /// The identity cannot be had, or cannot be used for TLS.
    pub fn new(source: Source) -> Outcome<Self> {
        let shown = Shown::of(source()?)?;
        Ok(Self {
            shown: Arc::new(RwLock::new(shown)),
            source,
        })
    }

    /// Shakes hands; gives the stream and the certificate that the client has shown.
    ///
    /// # Errors
    /// What went wrong, for the log.
    pub async fn accept<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: S,
        timeout: Duration,
    ) -> io::Result<(TlsStream<S>, Option<ClientCertificate>)> {
        let acceptor = match self.shown.read() {
            Ok(shown) => shown.acceptor.clone(),
            Err(_) => return Err(io::ErrorKind::Other.into()),
        };
        let shaking = tokio::time::timeout(timeout, acceptor.accept(stream));
        let stream = shaking.await.map_err(|_| io::ErrorKind::TimedOut)??;
        let certs = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let client = certs
            .first()
            .map(|cert| ClientCertificate(cert.as_ref().into()));
        Ok((stream, client))
    }

    /// Renews the identity in time, until told to stop. What fails is logged and tried again.
    pub async fn keep(self, mut phase: watch::Receiver<Phase>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RENEWAL_LOOK) => {}
                _ = phase.wait_for(|phase| *phase == Phase::Stopping) => return,
            }
            let tls = self.clone();
            let looked = tokio::task::spawn_blocking(move || tls.look()).await;
            match looked {
                Ok(Ok(())) => {}
                Ok(Err(fault)) => {
                    warn!(reason = fault.code, cause = %fault.what, "the TLS certificate was not renewed")
                }
                Err(_) => warn!(reason = "internal", "the TLS certificate was not renewed"),
            }
        }
    }

    /// Takes over what the source gives, if it is something else.
    fn look(&self) -> Outcome<()> {
        let new = (self.source)()?;
        let same = self
            .shown
            .read()
            .is_ok_and(|shown| shown.chain == new.chain && shown.clients == new.clients);
        if same {
            return Ok(());
        }
        let new = Shown::of(new)?;
        if let Ok(mut shown) = self.shown.write() {
            *shown = new;
            info!("TLS has a new certificate, or other certificates of clients are taken");
        }
        Ok(())
    }
}

impl Shown {
    /// An identity as rustls has it. That key and certificate belong together is checked.
    fn of(identity: Identity) -> Outcome<Self> {
        let provider = Arc::new(default_provider());
        let mut roots = RootCertStore::empty();
        for anchor in &identity.clients {
            roots
                .add(CertificateDer::from(anchor.clone()))
                .map_err(|e| tls_fault("a certificate of the CA", &e.to_string()))?;
        }
        let clients = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
            .allow_unauthenticated()
            // No list of CA names: it would tell everybody whose devices these are.
            .clear_root_hint_subjects()
            .build()
            .map_err(|e| tls_fault("the CA's certificates", &e.to_string()))?;
        let certified = certified(&identity)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|e| tls_fault("TLS 1.3", &e.to_string()))?
            .with_client_cert_verifier(Arc::new(Short(clients)))
            // The same for every name: who asks for another one verifies the names itself.
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            chain: identity.chain,
            clients: identity.clients,
        })
    }
}

/// Refuses what no client of ours needs to show before anything of it is verified: anybody may send a chain that looks
/// as if it led somewhere, and a handshake is done on the threads of all connections.
#[derive(Debug)]
struct Short(Arc<dyn ClientCertVerifier>);

impl ClientCertVerifier for Short {
    fn offer_client_auth(&self) -> bool {
        self.0.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.0.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[rustls::DistinguishedName] {
        self.0.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let lens = intermediates.iter().map(|cert| cert.len());
        let len_bytes = lens.fold(end_entity.len(), usize::saturating_add);
        if intermediates.len() > INTERMEDIATES_MAX || len_bytes > CHAIN_LEN_BYTES_MAX {
            return Err(rustls::Error::General(format!(
                "{} certificates of {len_bytes} bytes, more than any client needs",
                intermediates.len().saturating_add(1)
            )));
        }
        self.0.verify_client_cert(end_entity, intermediates, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Most certificates between that of a client and the root that it leads to.
const INTERMEDIATES_MAX: usize = 6;
/// Longest chain of a client, bytes.
const CHAIN_LEN_BYTES_MAX: usize = 16 * 1024;

/// Key and certificate as rustls has them.
fn certified(identity: &Identity) -> Outcome<CertifiedKey> {
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
    Ok(certified)
}

fn tls_fault(what: &str, cause: &str) -> Fault {
    Fault::environment(
        "tls-identity",
        format!("{what} cannot be used for TLS: {cause}"),
        "Give a key and its certificate as PEM, or names in [ca.est] and the CA makes its own.",
    )
}
