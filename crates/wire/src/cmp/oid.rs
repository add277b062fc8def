//! Object identifiers of CMP and its protection algorithms, as constants.

use der::asn1::ObjectIdentifier;

/// Makes a constant from its dotted form; a mistake fails the build.
const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// id-PasswordBasedMac. Spec: RFC 9481 section 6.1.1.
pub const PASSWORD_BASED_MAC: ObjectIdentifier = oid("1.2.840.113533.7.66.13");
/// id-PBMAC1. Spec: RFC 9481 section 6.1.2.
pub const PBMAC1: ObjectIdentifier = oid("1.2.840.113549.1.5.14");
/// id-PBKDF2. Spec: RFC 8018 appendix A.2.
pub const PBKDF2: ObjectIdentifier = oid("1.2.840.113549.1.5.12");
/// id-hmacWithSHA1. Spec: RFC 8018 appendix B.1.1.
pub const HMAC_WITH_SHA1: ObjectIdentifier = oid("1.2.840.113549.2.7");
/// id-hmacWithSHA256. Spec: RFC 9481 section 6.2.1.
pub const HMAC_WITH_SHA256: ObjectIdentifier = oid("1.2.840.113549.2.9");
/// id-hmacWithSHA384.
pub const HMAC_WITH_SHA384: ObjectIdentifier = oid("1.2.840.113549.2.10");
/// id-hmacWithSHA512.
pub const HMAC_WITH_SHA512: ObjectIdentifier = oid("1.2.840.113549.2.11");
/// hMAC-SHA1 of IPsec, the name PasswordBasedMac uses for HMAC-SHA1. Spec: RFC 2459.
pub const HMAC_SHA1_IPSEC: ObjectIdentifier = oid("1.3.6.1.5.5.8.1.2");
/// id-sha1.
pub const SHA1: ObjectIdentifier = oid("1.3.14.3.2.26");
/// id-sha256.
pub const SHA256: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.1");
/// id-sha384.
pub const SHA384: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.2");
/// id-sha512.
pub const SHA512: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.3");

/// id-it-implicitConfirm. Spec: RFC 9810 section 5.1.1.1.
pub const IT_IMPLICIT_CONFIRM: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.13");
/// id-it-confirmWaitTime. Spec: RFC 9810 section 5.1.1.2.
pub const IT_CONFIRM_WAIT_TIME: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.14");
/// id-it-caCerts. Spec: RFC 9810 section 5.3.19.14.
pub const IT_CA_CERTS: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.17");
/// id-it-certProfile. Spec: RFC 9810 section 5.1.1.4.
pub const IT_CERT_PROFILE: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.21");

/// id-regCtrl-regToken. Spec: RFC 4211 section 6.1.
pub const REG_CTRL_REG_TOKEN: ObjectIdentifier = oid("1.3.6.1.5.5.7.5.1.1");
pub use crate::x509::oid::REG_CTRL_OLD_CERT_ID;
/// id-regCtrl-algId. Spec: RFC 9483 section 4.3.3.
pub const REG_CTRL_ALG_ID: ObjectIdentifier = oid("1.3.6.1.5.5.7.5.1.11");

/// id-it-currentCRL. Spec: RFC 9810 section 5.3.19.6.
pub const IT_CURRENT_CRL: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.6");
/// id-it-rootCaKeyUpdate. Spec: RFC 9810 section 5.3.19.15.
pub const IT_ROOT_CA_KEY_UPDATE: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.18");
/// id-it-certReqTemplate. Spec: RFC 9810 section 5.3.19.16.
pub const IT_CERT_REQ_TEMPLATE: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.19");
/// id-it-rootCaCert. Spec: RFC 9810 section 5.3.19.15.
pub const IT_ROOT_CA_CERT: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.20");
/// id-it-crlStatusList. Spec: RFC 9810 section 5.3.19.17.
pub const IT_CRL_STATUS_LIST: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.22");
/// id-it-crls. Spec: RFC 9810 section 5.3.19.17.
pub const IT_CRLS: ObjectIdentifier = oid("1.3.6.1.5.5.7.4.23");
