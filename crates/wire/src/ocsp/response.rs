//! OCSPResponse: the bytes to sign, and the whole around them.
//!
//! Spec: RFC 6960 section 4.2.

use super::{CertId, OcspError, request::nonce_extension};
use crate::x509::{RevocationReason, SignatureAlg, oid};
use alloc::vec::Vec;
use core::time::Duration;
use der::{
    Choice, DateTime, Decode, Encode, Enumerated, Sequence,
    asn1::{AnyRef, BitStringRef, GeneralizedTime, Null, ObjectIdentifier, OctetStringRef},
};
use x509_cert::ext::pkix::CrlReason;

/// Why there is no status in a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OcspFailure {
    /// The request could not be read.
    MalformedRequest,
    /// The responder failed.
    InternalError,
    /// It cannot answer now.
    TryLater,
    /// It does not answer for the issuer of these certificates.
    Unauthorized,
}

/// OCSPResponseStatus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enumerated)]
#[asn1(type = "ENUMERATED")]
#[repr(u8)]
enum ResponseStatus {
    /// There are response bytes.
    Successful = 0,
    /// As [`OcspFailure::MalformedRequest`].
    MalformedRequest = 1,
    /// As [`OcspFailure::InternalError`].
    InternalError = 2,
    /// As [`OcspFailure::TryLater`].
    TryLater = 3,
    /// Never sent by us.
    SigRequired = 5,
    /// As [`OcspFailure::Unauthorized`].
    Unauthorized = 6,
}

/// OCSPResponse on the wire.
#[derive(Sequence)]
struct ResponseSeq<'a> {
    /// responseStatus.
    status: ResponseStatus,
    /// responseBytes.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    bytes: Option<ResponseBytesSeq<'a>>,
}

/// ResponseBytes.
#[derive(Sequence)]
struct ResponseBytesSeq<'a> {
    /// id-pkix-ocsp-basic.
    kind: ObjectIdentifier,
    /// DER of BasicOCSPResponse.
    response: &'a OctetStringRef,
}

/// BasicOCSPResponse.
#[derive(Sequence)]
struct BasicResponseSeq<'a> {
    /// tbsResponseData.
    tbs: AnyRef<'a>,
    /// signatureAlgorithm.
    algorithm: spki::AlgorithmIdentifierOwned,
    /// signature.
    signature: BitStringRef<'a>,
    /// certs.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    certs: Option<Vec<AnyRef<'a>>>,
}

/// ResponseData, with a responder named by its key.
#[derive(Sequence)]
struct ResponseDataSeq<'a> {
    /// responderID: byKey.
    #[asn1(context_specific = "2", tag_mode = "EXPLICIT")]
    by_key: &'a OctetStringRef,
    /// producedAt.
    produced_at: GeneralizedTime,
    /// responses.
    responses: Vec<SingleResponseSeq<'a>>,
    /// responseExtensions.
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    extensions: Option<Vec<x509_cert::ext::Extension>>,
}

/// SingleResponse.
#[derive(Sequence)]
struct SingleResponseSeq<'a> {
    /// certID.
    cert: AnyRef<'a>,
    /// certStatus.
    status: StatusChoice,
    /// thisUpdate.
    this_update: GeneralizedTime,
    /// nextUpdate.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    next_update: Option<GeneralizedTime>,
}

/// CertStatus on the wire.
#[derive(Choice)]
enum StatusChoice {
    /// good.
    #[asn1(context_specific = "0", tag_mode = "IMPLICIT")]
    Good(Null),
    /// revoked.
    #[asn1(context_specific = "1", tag_mode = "IMPLICIT", constructed = "true")]
    Revoked(RevokedInfoSeq),
    /// unknown.
    #[asn1(context_specific = "2", tag_mode = "IMPLICIT")]
    Unknown(Null),
}

/// RevokedInfo.
#[derive(Sequence)]
struct RevokedInfoSeq {
    /// revocationTime.
    at: GeneralizedTime,
    /// revocationReason.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    reason: Option<CrlReason>,
}

/// What is known of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertStatus {
    /// Issued, and not revoked.
    Good,
    /// Revoked, or on hold.
    Revoked {
        /// Since when, seconds since 1970.
        at_secs: u64,
        /// Why.
        reason: RevocationReason,
    },
    /// Never issued here.
    Unknown,
}

/// The status of one certificate.
#[derive(Debug, Clone, Copy)]
pub struct SingleStatus<'a> {
    /// The certificate, as the request named it.
    pub cert: &'a CertId,
    /// What is known of it.
    pub status: CertStatus,
}

/// Everything a response says.
#[derive(Debug, Clone)]
pub struct ResponseBuilder<'a> {
    /// SHA-1 of the responder's key: how the response names it.
    pub responder_key_hash: &'a [u8; 20],
    /// When the status was known to be right, and the response made, seconds since 1970.
    pub this_update_secs: u64,
    /// When newer information will be there at the latest, seconds since 1970.
    pub next_update_secs: u64,
    /// Status of each certificate.
    pub statuses: &'a [SingleStatus<'a>],
    /// The request's nonce.
    pub nonce: Option<&'a [u8]>,
}

impl ResponseBuilder<'_> {
    /// The bytes to sign: DER of ResponseData.
    ///
    /// # Errors
    /// A time outside of the years 1970 to 9999.
    pub fn to_tbs(&self) -> Result<Vec<u8>, OcspError> {
        let responses = self.statuses.iter().map(|one| {
            Ok(SingleResponseSeq {
                cert: AnyRef::from_der(one.cert.der.as_bytes())?,
                status: one.status.to_choice()?,
                this_update: time(self.this_update_secs)?,
                next_update: Some(time(self.next_update_secs)?),
            })
        });
        let nonce = self.nonce.map(nonce_extension).transpose()?;
        let extensions = nonce.map(|e| e.to_x509().map(|e| alloc::vec![e]));
        let data = ResponseDataSeq {
            by_key: OctetStringRef::new(self.responder_key_hash)?,
            produced_at: time(self.this_update_secs)?,
            responses: responses.collect::<Result<Vec<_>, OcspError>>()?,
            extensions: extensions.transpose()?,
        };
        Ok(data.to_der()?)
    }
}

impl CertStatus {
    /// The structure to encode.
    fn to_choice(self) -> Result<StatusChoice, OcspError> {
        Ok(match self {
            Self::Good => StatusChoice::Good(Null),
            Self::Unknown => StatusChoice::Unknown(Null),
            Self::Revoked { at_secs, reason } => StatusChoice::Revoked(RevokedInfoSeq {
                at: time(at_secs)?,
                reason: match reason {
                    RevocationReason::Unspecified => None,
                    reason => Some(reason.to_x509()),
                },
            }),
        })
    }
}

/// GeneralizedTime of a second.
fn time(unix_secs: u64) -> Result<GeneralizedTime, OcspError> {
    let at = DateTime::from_unix_duration(Duration::from_secs(unix_secs))?;
    Ok(GeneralizedTime::from_date_time(at))
}

/// Puts a raw signature on the bytes of [`ResponseBuilder::to_tbs`], with the certificate of the
/// key that made it.
///
/// # Errors
/// If the signature has the wrong length for `alg`, or `tbs` or the certificate is not DER.
pub fn assemble_response(
    tbs: &[u8],
    alg: SignatureAlg,
    raw_signature: &[u8],
    responder_cert: &[u8],
) -> Result<Vec<u8>, OcspError> {
    let bits = alg.signature_to_bits(raw_signature)?;
    let basic = BasicResponseSeq {
        tbs: AnyRef::from_der(tbs)?,
        algorithm: alg.identifier(),
        signature: BitStringRef::from_bytes(&bits)?,
        certs: Some(alloc::vec![AnyRef::from_der(responder_cert)?]),
    }
    .to_der()?;
    let response = ResponseSeq {
        status: ResponseStatus::Successful,
        bytes: Some(ResponseBytesSeq {
            kind: oid::OCSP_BASIC,
            response: OctetStringRef::new(&basic)?,
        }),
    };
    Ok(response.to_der()?)
}

/// A response without any status; it is not signed.
///
/// # Errors
/// None in practice.
pub fn failure_response(failure: OcspFailure) -> Result<Vec<u8>, OcspError> {
    let status = match failure {
        OcspFailure::MalformedRequest => ResponseStatus::MalformedRequest,
        OcspFailure::InternalError => ResponseStatus::InternalError,
        OcspFailure::TryLater => ResponseStatus::TryLater,
        OcspFailure::Unauthorized => ResponseStatus::Unauthorized,
    };
    let response = ResponseSeq {
        status,
        bytes: None,
    };
    Ok(response.to_der()?)
}
