//! Enrolment over Secure Transport: what its messages carry beside PKCS#10 and certificates.
//!
//! Purpose: the certs-only CMS of `/cacerts` and the enrolments, the attributes of `/csrattrs`, and the
//! base64 that every body is in. The HTTP around it is the server's.
//!
//! Not trusted: bodies and headers of requests.
//!
//! Spec: RFC 7030 sections 4.1.3, 4.2 and 4.5.2, RFC 8951 section 3, RFC 5652 sections 3 and 5.1,
//! RFC 9908.

use alloc::{string::String, vec::Vec};

use base64ct::{Base64, Encoding as _};
use der::{Tag, asn1::ObjectIdentifier};
use zeroize::Zeroizing;

use crate::x509::{
    Extension, MAX_CERT_BYTES, X509Error, at_most, oid,
    walk::{Element, context, put, put_oid, put_sequence, wrap},
};

/// Longest body of an enrolment, bytes: the base64 of the longest request, and as much white space.
pub const MAX_BODY_BYTES: usize = 3 * MAX_CERT_BYTES;
/// Most certificates in one certs-only message.
pub const MAX_CERTS: usize = 16;
/// Longest value of an `Authorization` header, bytes.
pub const MAX_AUTHORIZATION_BYTES: usize = 1024;

/// A certs-only message: SignedData without content and signers.
///
/// The certificates stand in the order that DER gives a SET OF, whatever their roles.
///
/// # Errors
/// If there is none or too many, or one is not a single DER element.
///
/// Spec: RFC 5652 section 5.1, RFC 7030 section 4.1.3.
pub fn certs_only(certs: &[&[u8]]) -> Result<Vec<u8>, X509Error> {
    at_most("certificates", certs.len(), MAX_CERTS)?;
    if certs.is_empty() {
        return Err(X509Error::Empty {
            what: "certificates",
        });
    }
    let mut each = Vec::new();
    for cert in certs {
        at_most("certificate", cert.len(), MAX_CERT_BYTES)?;
        each.push(Element::only(cert)?.der);
    }
    each.sort_unstable();
    each.dedup();
    let mut data = Vec::new();
    put(&mut data, Tag::Integer, &[1])?;
    put(&mut data, Tag::Set, &[])?;
    let mut content = Vec::new();
    put_oid(&mut content, &ID_DATA)?;
    put_sequence(&mut data, &content)?;
    put(&mut data, context(0), &each.concat())?;
    put(&mut data, Tag::Set, &[])?;
    let mut info = Vec::new();
    put_oid(&mut info, &ID_SIGNED_DATA)?;
    put(&mut info, context(0), &wrap(Tag::Sequence, &data)?)?;
    Ok(wrap(Tag::Sequence, &info)?)
}

/// What a request should have, as `/csrattrs` says it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CsrAttrs {
    /// Kind of key: the algorithm, and its curve where it has one.
    pub key: Option<(ObjectIdentifier, Option<ObjectIdentifier>)>,
    /// Signature algorithm of the request.
    pub signature: Option<ObjectIdentifier>,
    /// Extensions with their values, in one extensionRequest.
    pub extensions: Vec<Extension>,
    /// Whether the request may have id-aa-attestation. What is in it, no attribute says.
    pub attestation: bool,
}

impl CsrAttrs {
    /// DER of CsrAttrs.
    ///
    /// # Errors
    /// If an extension is too long to be encoded.
    ///
    /// Spec: RFC 8951 section 3.4 (the ASN.1), RFC 9908 section 3.1 (extensions with values).
    pub fn to_der(&self) -> Result<Vec<u8>, X509Error> {
        let mut list = Vec::new();
        let mut attribute = |oid: &ObjectIdentifier, value: &[u8]| {
            let mut contents = Vec::new();
            put_oid(&mut contents, oid)?;
            put(&mut contents, Tag::Set, value)?;
            put_sequence(&mut list, &contents)
        };
        if let Some((key, Some(curve))) = &self.key {
            attribute(key, &wrap(Tag::ObjectIdentifier, curve.as_bytes())?)?;
        }
        if !self.extensions.is_empty() {
            let mut extensions = Vec::new();
            for extension in &self.extensions {
                extension.write(&mut extensions)?;
            }
            attribute(&oid::EXTENSION_REQUEST, &wrap(Tag::Sequence, &extensions)?)?;
        }
        if let Some((key, None)) = &self.key {
            put_oid(&mut list, key)?;
        }
        if let Some(signature) = &self.signature {
            put_oid(&mut list, signature)?;
        }
        if self.attestation {
            put_oid(&mut list, &oid::ATTESTATION)?;
        }
        Ok(wrap(Tag::Sequence, &list)?)
    }
}

/// A body as it is sent: base64 in one piece. Receivers should tolerate white space (RFC 8951 section
/// 3.1), and some do not.
#[must_use]
pub fn to_body(der: &[u8]) -> Vec<u8> {
    Base64::encode_string(der).into_bytes()
}

/// Why a body is not the base64 of anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// Longer than [`MAX_BODY_BYTES`].
    #[error("the body is longer than {MAX_BODY_BYTES} bytes")]
    TooLong,
    /// There is nothing in it.
    #[error("the body is empty")]
    Empty,
    /// It has the lines of PEM around it.
    #[error("the body is PEM: send the base64 alone, without the lines that begin with -----")]
    Pem,
    /// It is something else.
    #[error("the body is not base64: send the request in DER, base64-encoded")]
    NotBase64,
}

/// The bytes that a body carries.
///
/// # Errors
/// [`BodyError`]; nothing beyond the body's own length was allocated.
///
/// Spec: RFC 8951 section 3.1.
pub fn from_body(body: &[u8]) -> Result<Vec<u8>, BodyError> {
    if body.len() > MAX_BODY_BYTES {
        return Err(BodyError::TooLong);
    }
    let text: Vec<u8> = body
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n'))
        .collect();
    if text.is_empty() {
        return Err(BodyError::Empty);
    }
    if text.starts_with(b"-----BEGIN") {
        return Err(BodyError::Pem);
    }
    let text = core::str::from_utf8(&text).map_err(|_| BodyError::NotBase64)?;
    Base64::decode_vec(text).map_err(|_| BodyError::NotBase64)
}

/// Name and secret of HTTP Basic.
pub struct BasicCredentials {
    /// The name.
    pub user: String,
    /// The secret.
    pub password: Zeroizing<String>,
}

impl BasicCredentials {
    /// Reads the value of an `Authorization` header; `None` if it is not Basic, or not in its form.
    ///
    /// Spec: RFC 7617 section 2.
    #[must_use]
    pub fn from_header(value: &[u8]) -> Option<Self> {
        if value.len() > MAX_AUTHORIZATION_BYTES {
            return None;
        }
        let (scheme, token) = core::str::from_utf8(value).ok()?.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("Basic") {
            return None;
        }
        let bytes = Zeroizing::new(Base64::decode_vec(token.trim()).ok()?);
        let text = core::str::from_utf8(&bytes).ok()?;
        if text.contains(char::is_control) {
            return None;
        }
        let (user, password) = text.split_once(':')?;
        Some(Self {
            user: user.into(),
            password: Zeroizing::new(password.into()),
        })
    }
}

/// id-data. Spec: RFC 5652 section 4.
const ID_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
/// id-signedData. Spec: RFC 5652 section 5.1.
const ID_SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");
#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, vec};

    #[test]
    fn certs_only_is_degenerate_signed_data() {
        let (a, b): (&[u8], &[u8]) = (&[0x30, 1, 9], &[0x30, 1, 2]);
        let der = certs_only(&[a, b, a]).unwrap();
        // By hand from RFC 5652: each line one element, its length before what it holds.
        let signed = "301c 020101 3100 300b06092a864886f70d010701 a006300102300109 3100";
        let expected = format!("302b 06092a864886f70d010702 a01e {signed}").replace(' ', "");
        assert_eq!(hex::encode(&der), expected);
        assert!(certs_only(&[]).is_err());
        assert!(certs_only(&[&[0x30, 1]]).is_err());
        assert!(certs_only(&[a; MAX_CERTS + 1]).is_err());
    }

    #[test]
    fn attributes_name_key_extensions_and_signature() {
        let attrs = CsrAttrs {
            key: Some((oid::EC_PUBLIC_KEY, Some(oid::SECP256R1))),
            signature: Some(oid::ECDSA_WITH_SHA256),
            extensions: vec![Extension {
                oid: oid::KEY_USAGE,
                critical: true,
                value: vec![3, 2, 7, 0x80],
            }],
            attestation: false,
        };
        let der = attrs.to_der().unwrap();
        let key = "3015 06072a8648ce3d0201 310a06082a8648ce3d030107";
        let usage = "300e 0603551d0f 0101ff 040403020780";
        let request = format!("301f 06092a864886f70d01090e 3112 3010 {usage}");
        let expected = format!("3042 {key} {request} 06082a8648ce3d040302").replace(' ', "");
        assert_eq!(hex::encode(&der), expected);
        assert_eq!(CsrAttrs::default().to_der().unwrap(), [0x30, 0]);
        let attested = CsrAttrs {
            attestation: true,
            ..CsrAttrs::default()
        };
        let expected = "300d 060b2a864886f70d010910023b".replace(' ', "");
        assert_eq!(hex::encode(attested.to_der().unwrap()), expected);
    }

    #[test]
    fn bodies_come_with_any_white_space_and_without_pem() {
        let der = vec![0x30; 200];
        let body = to_body(&der);
        assert!(body.iter().all(|byte| byte.is_ascii_graphic()));
        assert_eq!(from_body(&body).unwrap(), der);
        let lines = body.chunks(64).collect::<Vec<_>>().join(&b"\r\n"[..]);
        assert_eq!(from_body(&lines).unwrap(), der);
        assert_eq!(from_body(b" MAA=\r\n\t").unwrap(), [0x30, 0]);
        let refused = |body: &[u8]| from_body(body).unwrap_err();
        assert_eq!(refused(b" \r\n"), BodyError::Empty);
        assert_eq!(
            refused(b"-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n"),
            BodyError::Pem
        );
        assert_eq!(refused(&[0x30, 0]), BodyError::NotBase64);
        assert_eq!(refused(b"MAA"), BodyError::NotBase64);
        assert_eq!(refused(&[b'A'; MAX_BODY_BYTES + 1]), BodyError::TooLong);
    }

    #[test]
    fn basic_credentials_are_read_or_there_are_none() {
        let read = BasicCredentials::from_header;
        let found = read(b"basic QWxhZGRpbjpvcGVuOnNlc2FtZQ==").unwrap();
        assert_eq!(found.user, "Aladdin");
        assert_eq!(found.password.as_str(), "open:sesame");
        for none in [
            &b"Basic"[..],
            b"Bearer QWxhZGRpbjpvcGVu",
            b"Basic QWxhZGRpbg==",
            b"Basic !!!!",
            b"Basic //86//8=",
            &[b'B'; MAX_AUTHORIZATION_BYTES + 1],
        ] {
            assert!(read(none).is_none());
        }
    }
}
