//! Requests of devices for certificates: made once, kept in a file, read a piece at a time.
//!
//! A million of them would be a gigabyte; the client has some thousand in memory.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use axum::body::Bytes;
use indicatif::ProgressBar;
use tegata_authority::UnixMs;
use tegata_crypto::aws_lc::AwsLc;
use tegata_crypto::{OsRng, PrivateKey, Provider as _, PublicKey, Rng as _};
use tegata_store::issuer::CmpOutcome;
use tegata_wire::cmp::{
    BodyKind, MessageToProtect, PkiHeader, ProtectionAlg, RawBody, UnverifiedPkiMessage, null_dn,
};
use tegata_wire::enrolment::{CertificateOrder, Identity};
use tegata_wire::x509::{AllegedCsr, CsrBuilder, SignatureAlg, assemble_csr};

use super::bed::Asks;
use super::cpus::by_all;
use super::load::Ask;
use super::odd;
use super::plant::{Device, Nursery, PROFILE, key};
use crate::fault::{Fault, Outcome};
use crate::stores::now_ms;

/// Most requests whose parts are kept for what is measured without a server.
pub const BOUND_MAX: usize = 10_000;
/// Requests that are made before they are written.
const MADE_AT_ONCE: usize = 1_000;
/// Longest request, bytes.
const LEN_BYTES_MAX: u32 = 64 * 1024;

/// One request, and what of it the cryptography alone needs.
pub struct Request {
    /// The whole message (DER).
    pub body: Bytes,
    /// The bytes that the CSR's signature is over.
    pub csr_tbs: Vec<u8>,
    /// That signature, r ‖ s.
    pub csr_signature: Vec<u8>,
    /// The key that made it.
    pub public_key: PublicKey,
    /// The bytes that the MAC is over.
    pub part: Vec<u8>,
    /// The key of the MAC.
    pub mac_key: [u8; 32],
    /// The new key.
    pub key: PrivateKey,
}

/// A certificate and its key.
pub struct Current {
    /// The key.
    pub key: PrivateKey,
    /// The certificate (DER).
    pub der: Vec<u8>,
}

/// Has a certificate issued to a device, by the CA directly.
///
/// # Errors
/// A refusal.
pub fn issue_to(nursery: &Nursery, device: &Device) -> Outcome<Current> {
    let Request { body, key, .. } = p10cr(device, &nursery.order)?;
    let now = UnixMs(now_ms());
    let answer = nursery.issuer.cmp(PROFILE, &body, &mut OsRng, now);
    match answer.outcome {
        CmpOutcome::Issued { certificate, .. } => Ok(Current {
            key,
            der: certificate,
        }),
        other => Err(odd(format!("no certificate: {other:?}"))),
    }
}

/// Makes so many requests of the devices by turns, each for another key; gives them, and the first of
/// them in parts.
///
/// # Errors
/// Files or keys.
pub fn make(
    path: &Path,
    devices: &[Device],
    order: &CertificateOrder,
    count: usize,
    bar: &ProgressBar,
) -> Outcome<(Spool, Vec<Request>)> {
    bar.set_message("requests");
    bar.set_length(u64::try_from(count).unwrap_or(u64::MAX));
    let mut spool = Spooler::new(path)?;
    let mut some = Vec::new();
    let mut of = devices.iter().cycle().take(count);
    loop {
        let next: Vec<&Device> = of.by_ref().take(MADE_AT_ONCE).collect();
        if next.is_empty() {
            break;
        }
        for request in by_all(next, |device| p10cr(device, order))? {
            spool.put(&request.body)?;
            if some.len() < BOUND_MAX {
                some.push(request);
            }
            bar.inc(1);
        }
    }
    Ok((spool.close()?, some))
}

/// Bodies in a file: for each its length, four bytes, big-endian, then itself.
#[derive(Debug, Clone)]
pub struct Spool {
    path: PathBuf,
}

impl Spool {
    /// From the first one on.
    ///
    /// # Errors
    /// The file is gone.
    pub fn read(&self) -> Outcome<Reader> {
        let file = File::open(&self.path).map_err(|e| Fault::io("read", &self.path, &e))?;
        Ok(Reader {
            path: self.path.clone(),
            file: BufReader::new(file),
        })
    }
}

/// Writes a [`Spool`].
pub struct Spooler {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Spooler {
    /// A new file.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn new(path: &Path) -> Outcome<Self> {
        let file = File::create(path).map_err(|e| Fault::io("write", path, &e))?;
        Ok(Self {
            path: path.to_path_buf(),
            file: BufWriter::new(file),
        })
    }

    /// One more body.
    ///
    /// # Errors
    /// The disk is full, say.
    pub fn put(&mut self, body: &[u8]) -> Outcome<()> {
        let len = u32::try_from(body.len()).map_err(odd)?;
        self.file
            .write_all(&len.to_be_bytes())
            .and_then(|()| self.file.write_all(body))
            .map_err(|e| Fault::io("write", &self.path, &e))
    }

    /// All of it, to be read.
    ///
    /// # Errors
    /// As [`Spooler::put`].
    pub fn close(mut self) -> Outcome<Spool> {
        let done = self.file.flush();
        done.map_err(|e| Fault::io("write", &self.path, &e))?;
        Ok(Spool { path: self.path })
    }
}

/// Reads a [`Spool`].
pub struct Reader {
    path: PathBuf,
    file: BufReader<File>,
}

impl Reader {
    /// The next body.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn next_body(&mut self) -> Outcome<Option<Bytes>> {
        let io = |path: &Path, e: &std::io::Error| Fault::io("read", path, e);
        let mut len = [0; 4];
        match self.file.read_exact(&mut len) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(e) => return Err(io(&self.path, &e)),
        }
        let len = u32::from_be_bytes(len);
        if len > LEN_BYTES_MAX {
            return Err(odd("the file of requests is damaged"));
        }
        let mut body = vec![0; usize::try_from(len).map_err(odd)?];
        self.file
            .read_exact(&mut body)
            .map_err(|e| io(&self.path, &e))?;
        Ok(Some(Bytes::from(body)))
    }
}

impl Reader {
    /// The keys of the requests from here on, each as `key_in` finds it in a body; this one stays where it is.
    ///
    /// # Errors
    /// The file is gone.
    pub fn keys(
        &mut self,
        key_in: fn(&[u8]) -> Outcome<Vec<u8>>,
    ) -> Outcome<impl Iterator<Item = Outcome<Vec<u8>>> + use<>> {
        let io = |e: std::io::Error| Fault::io("read", &self.path, &e);
        let mut file = File::open(&self.path).map_err(io)?;
        let at = self.file.stream_position().map_err(io)?;
        file.seek(SeekFrom::Start(at)).map_err(io)?;
        let mut again = Self {
            path: self.path.clone(),
            file: BufReader::new(file),
        };
        let bodies = std::iter::from_fn(move || again.next_body().transpose());
        Ok(bodies.map(move |body| key_in(&body?)))
    }
}

impl Asks for Reader {
    fn take_some(&mut self, at_most: usize) -> Outcome<Vec<Ask>> {
        let mut some = Vec::new();
        while some.len() < at_most
            && let Some(body) = self.next_body()?
        {
            some.push(Ask::Post(body));
        }
        Ok(some)
    }
}

/// A request for a certificate on a new key, under the device's `CsrAuthKey`.
///
/// # Errors
/// Keys.
pub fn p10cr(device: &Device, order: &CertificateOrder) -> Outcome<Request> {
    let private = key()?;
    let signer = AwsLc.signer(&private).map_err(odd)?;
    let identity = Identity::from(&device.identity);
    let builder = CsrBuilder {
        subject: order.subject(&identity).map_err(odd)?,
        spki_der: private.public_key().to_spki_der().map_err(odd)?,
        san: order.san(&identity).map_err(odd)?,
        extensions: Vec::new(),
    };
    let csr_tbs = builder.to_tbs().map_err(odd)?;
    let csr_signature = signer.sign(&csr_tbs).map_err(odd)?;
    let csr = assemble_csr(&csr_tbs, SignatureAlg::EcdsaSha256, &csr_signature).map_err(odd)?;

    let mut random = [0; 32];
    OsRng.fill(&mut random).map_err(odd)?;
    let (transaction, nonce) = random.split_at(16);
    let header = PkiHeader::new(null_dn(), null_dn())
        .with_transaction_id(transaction)
        .and_then(|h| h.with_sender_nonce(nonce))
        .and_then(|h| h.with_sender_kid(&device.kid))
        .and_then(|h| h.with_protection(&ProtectionAlg::HMAC_SHA256))
        .and_then(PkiHeader::with_implicit_confirm)
        .map_err(odd)?;
    let body = RawBody::p10cr(&csr).map_err(odd)?;
    let message = MessageToProtect::new(&header, &body).map_err(odd)?;
    let part = message.protected_part().map_err(odd)?;
    let mac = AwsLc.hmac_sha256(&device.mac_key, &part);
    let body = message.into_der(Some(&mac), &[]).map_err(odd)?;
    Ok(Request {
        body: Bytes::from(body),
        csr_tbs,
        csr_signature,
        public_key: private.public_key().clone(),
        key: private,
        part,
        mac_key: device.mac_key,
    })
}

/// The key (SubjectPublicKeyInfo) that a p10cr asks for.
///
/// # Errors
/// It is none.
pub fn key_in(request: &[u8]) -> Outcome<Vec<u8>> {
    let message = UnverifiedPkiMessage::from_der(request).map_err(odd)?;
    let csr = message.body().p10cr_csr().map_err(odd)?;
    Ok(AllegedCsr::from_der(csr).map_err(odd)?.spki_der)
}

/// The certificate in a cp or kup, or why there is none.
///
/// # Errors
/// A sentence.
pub fn certificate_in(answer: &[u8]) -> Result<Vec<u8>, String> {
    let message = UnverifiedPkiMessage::from_der(answer)
        .map_err(|e| format!("an answer is no CMP message: {e}"))?;
    if !matches!(message.kind(), BodyKind::Cp | BodyKind::Kup) {
        let why = message.body().error_content().ok();
        let text = why.as_ref().and_then(|why| why.status.text());
        return Err(format!(
            "a request was refused: {}",
            text.unwrap_or("without a reason")
        ));
    }
    let content = message.body().cert_rep().map_err(|e| e.to_string())?;
    let first = content.response.first();
    let certificate = first.and_then(|response| response.certificate());
    certificate.map(<[u8]>::to_vec).ok_or_else(|| {
        let text = first.and_then(|response| response.status.text());
        format!(
            "a request was refused: {}",
            text.unwrap_or("without a reason")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_put_in_comes_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("requests");
        let mut spool = Spooler::new(&path).unwrap();
        for body in [b"one".as_slice(), b"", b"three"] {
            spool.put(body).unwrap();
        }
        let spool = spool.close().unwrap();
        let mut read = spool.read().unwrap();
        assert_eq!(read.next_body().unwrap().unwrap(), "one");
        assert_eq!(read.take_some(9).unwrap().len(), 2);
        assert!(read.take_some(9).unwrap().is_empty());
        assert_eq!(spool.read().unwrap().take_some(2).unwrap().len(), 2);
        // A second look from where the first one is.
        let mut read = spool.read().unwrap();
        assert_eq!(read.next_body().unwrap().unwrap(), "one");
        let keys = read.keys(|body| Ok(body.to_vec())).unwrap();
        let keys: Vec<Vec<u8>> = keys.map(Outcome::unwrap).collect();
        assert_eq!(keys, [b"".to_vec(), b"three".to_vec()]);
        assert_eq!(read.take_some(9).unwrap().len(), 2);

        // A length beyond the limit, and a body that is not all there.
        std::fs::write(&path, [0xff; 8]).unwrap();
        assert!(spool.read().unwrap().next_body().is_err());
        std::fs::write(&path, [0, 0, 0, 9, 1]).unwrap();
        assert!(spool.read().unwrap().next_body().is_err());
    }
}
