//! OCSPRequest, as anybody may send it.
//!
//! Spec: RFC 6960 section 4.1.

use super::OcspError;
use crate::x509::{Extension, List, RawDer, at_most, oid};
use alloc::vec::Vec;
use der::{
    Decode, Encode, Sequence,
    asn1::{Any, AnyRef, IntRef, OctetStringRef},
};

/// Longest request that is read, bytes. With one certificate it has 70 to 130.
pub const MAX_REQUEST_BYTES: usize = 4 * 1024;
/// Most certificates asked for at once; clients that look up a chain ask for two or three.
pub const MAX_REQUESTS: usize = 16;
/// Longest nonce, bytes. Spec: RFC 9654 section 2.1.
pub const NONCE_BYTES_MAX: usize = 128;
/// Most extensions in one place of a request.
const MAX_REQUEST_EXTENSIONS: usize = 8;

/// Extensions in a request.
type Extensions = List<x509_cert::ext::Extension, MAX_REQUEST_EXTENSIONS>;

/// OCSPRequest on the wire.
#[derive(Sequence)]
struct RequestSeq<'a> {
    /// tbsRequest.
    tbs: TbsRequestSeq<'a>,
    /// optionalSignature: read over.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    _signature: Option<AnyRef<'a>>,
}

/// TBSRequest.
#[derive(Sequence)]
struct TbsRequestSeq<'a> {
    /// v1 (0).
    #[asn1(
        context_specific = "0",
        tag_mode = "EXPLICIT",
        default = "Default::default"
    )]
    version: u16,
    /// requestorName: read over.
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    _requestor: Option<AnyRef<'a>>,
    /// requestList.
    list: List<SingleRequestSeq, MAX_REQUESTS>,
    /// requestExtensions.
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Extensions>,
}

/// Request: one certificate.
#[derive(Sequence)]
struct SingleRequestSeq {
    /// reqCert.
    cert: RawDer,
    /// singleRequestExtensions.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Extensions>,
}

/// CertID.
#[derive(Sequence)]
struct CertIdSeq<'a> {
    /// hashAlgorithm.
    hash_algorithm: spki::AlgorithmIdentifierOwned,
    /// Hash of the issuer's name.
    issuer_name_hash: &'a OctetStringRef,
    /// Hash of the issuer's key.
    issuer_key_hash: &'a OctetStringRef,
    /// serialNumber.
    serial: IntRef<'a>,
}

/// The hash that names the issuer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdHash {
    /// SHA-1: what RFC 5019 clients send.
    Sha1,
    /// SHA-256.
    Sha256,
    /// Another one, by which no issuer of ours is known.
    Other,
}

/// A certificate as the request names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertId {
    /// The whole CertID, byte for byte: the response names the certificate with it.
    pub der: RawDer,
    /// How the issuer is named.
    pub hash: IdHash,
    /// Whether the algorithm has no parameters, or NULL: SHA-1 and SHA-256 have none, and who makes up
    /// others makes up any number of names for one certificate.
    pub plain: bool,
    /// Hash of the issuer's name.
    pub issuer_name_hash: Vec<u8>,
    /// Hash of the issuer's key.
    pub issuer_key_hash: Vec<u8>,
    /// Serial number, big-endian, without leading zeros.
    pub serial: Vec<u8>,
}

impl CertId {
    /// As most clients name a certificate: hashes of its issuer's name and key with SHA-1, and its serial
    /// number as it is in the certificate.
    ///
    /// # Errors
    /// The serial number is none.
    ///
    /// Spec: RFC 5019 section 2.1.1, RFC 3370 section 2.1 (parameters NULL)
    pub fn with_sha1(
        issuer_name_hash: &[u8; 20],
        issuer_key_hash: &[u8; 20],
        serial: &[u8],
    ) -> Result<Self, OcspError> {
        let seq = CertIdSeq {
            hash_algorithm: spki::AlgorithmIdentifierOwned {
                oid: oid::SHA1,
                parameters: Some(Any::null()),
            },
            issuer_name_hash: OctetStringRef::new(issuer_name_hash)?,
            issuer_key_hash: OctetStringRef::new(issuer_key_hash)?,
            serial: IntRef::new(serial)?,
        };
        Self::read(RawDer::from_bytes(&seq.to_der()?)?)
    }

    /// Reads a CertID.
    fn read(der: RawDer) -> Result<Self, OcspError> {
        let seq: CertIdSeq<'_> = der.decode_as()?;
        let algorithm = seq.hash_algorithm.oid;
        let hash = if algorithm == oid::SHA1 {
            IdHash::Sha1
        } else if algorithm == oid::SHA256 {
            IdHash::Sha256
        } else {
            IdHash::Other
        };
        let parameters = seq.hash_algorithm.parameters.as_ref();
        let plain = parameters.is_none_or(|any| *any == Any::null());
        let serial = seq.serial.as_bytes();
        let start = serial.iter().position(|b| *b != 0).unwrap_or(serial.len());
        Ok(Self {
            hash,
            plain,
            issuer_name_hash: seq.issuer_name_hash.as_bytes().to_vec(),
            issuer_key_hash: seq.issuer_key_hash.as_bytes().to_vec(),
            serial: serial.get(start..).unwrap_or_default().to_vec(),
            der,
        })
    }
}

/// A request: well-formed, from anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OcspRequest {
    /// The certificates asked for, 1 to [`MAX_REQUESTS`].
    pub certificates: Vec<CertId>,
    /// The nonce to be sent back, 1 to [`NONCE_BYTES_MAX`] bytes.
    pub nonce: Option<Vec<u8>>,
}

impl OcspRequest {
    /// Reads a request.
    ///
    /// # Errors
    /// If the bytes are not a request of version 1 in DER, exceed a limit, ask for nothing, have a
    /// nonce of a length that is not allowed or a critical extension that is not understood.
    pub fn from_der(bytes: &[u8]) -> Result<Self, OcspError> {
        at_most("OCSPRequest", bytes.len(), MAX_REQUEST_BYTES)?;
        let seq = RequestSeq::from_der(bytes)?;
        if seq.tbs.version != 0 {
            return Err(OcspError::Version {
                got: seq.tbs.version.saturating_add(1),
            });
        }
        let mut nonce = None;
        for extension in seq.tbs.extensions.iter().flat_map(|list| list.iter()) {
            if extension.extn_id == oid::OCSP_NONCE {
                nonce = Some(read_nonce(extension.extn_value.as_bytes())?);
            } else if extension.critical {
                return Err(OcspError::Critical(extension.extn_id));
            }
        }
        let mut certificates = Vec::new();
        for single in seq.tbs.list.into_vec() {
            let mut extensions = single.extensions.iter().flat_map(|list| list.iter());
            if let Some(critical) = extensions.find(|e| e.critical) {
                return Err(OcspError::Critical(critical.extn_id));
            }
            certificates.push(CertId::read(single.cert)?);
        }
        if certificates.is_empty() {
            return Err(OcspError::Nothing);
        }
        Ok(Self {
            certificates,
            nonce,
        })
    }
}

/// An OCTET STRING inside the extension's own. Spec: RFC 9654 section 2.1.
fn read_nonce(value: &[u8]) -> Result<Vec<u8>, OcspError> {
    let nonce = <&OctetStringRef>::from_der(value)?.as_bytes();
    if nonce.is_empty() || nonce.len() > NONCE_BYTES_MAX {
        return Err(OcspError::Nonce {
            got: nonce.len(),
            max: NONCE_BYTES_MAX,
        });
    }
    Ok(nonce.to_vec())
}

/// The nonce as an extension of the response.
pub(super) fn nonce_extension(nonce: &[u8]) -> Result<Extension, OcspError> {
    Ok(Extension {
        oid: oid::OCSP_NONCE,
        critical: false,
        value: OctetStringRef::new(nonce)?.to_der()?,
    })
}
