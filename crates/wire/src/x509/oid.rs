//! Object identifiers used by certificates and requests, as constants.

use der::asn1::ObjectIdentifier;

/// Makes a constant from its dotted form; a mistake fails the build.
const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// ecdsa-with-SHA256. Spec: RFC 5758 section 3.2.
pub const ECDSA_WITH_SHA256: ObjectIdentifier = oid("1.2.840.10045.4.3.2");
/// ecdsa-with-SHA384. Spec: RFC 5758 section 3.2.
pub const ECDSA_WITH_SHA384: ObjectIdentifier = oid("1.2.840.10045.4.3.3");
/// id-Ed25519, both key and signature. Spec: RFC 8410 section 3.
pub const ED25519: ObjectIdentifier = oid("1.3.101.112");
/// id-ecPublicKey. Spec: RFC 5480 section 2.1.1.
pub const EC_PUBLIC_KEY: ObjectIdentifier = oid("1.2.840.10045.2.1");
/// secp256r1 (P-256).
pub const SECP256R1: ObjectIdentifier = oid("1.2.840.10045.3.1.7");
/// secp384r1 (P-384).
pub const SECP384R1: ObjectIdentifier = oid("1.3.132.0.34");

/// extensionRequest attribute. Spec: RFC 2985 section 5.4.2.
pub const EXTENSION_REQUEST: ObjectIdentifier = oid("1.2.840.113549.1.9.14");
/// id-regCtrl-oldCertID: a control of CRMF, and here an attribute. Spec: RFC 4211 section 6.5.
pub const REG_CTRL_OLD_CERT_ID: ObjectIdentifier = oid("1.3.6.1.5.5.7.5.1.5");
/// id-aa-attestation, registered as id-aa-evidence. Spec: draft-ietf-lamps-csr-attestation.
pub const ATTESTATION: ObjectIdentifier = oid("1.2.840.113549.1.9.16.2.59");
/// challengePassword attribute. Spec: RFC 2985 section 5.4.1.
pub const CHALLENGE_PASSWORD: ObjectIdentifier = oid("1.2.840.113549.1.9.7");

/// subjectKeyIdentifier extension.
pub const SUBJECT_KEY_IDENTIFIER: ObjectIdentifier = oid("2.5.29.14");
/// keyUsage extension.
pub const KEY_USAGE: ObjectIdentifier = oid("2.5.29.15");
/// subjectAltName extension.
pub const SUBJECT_ALT_NAME: ObjectIdentifier = oid("2.5.29.17");
/// basicConstraints extension.
pub const BASIC_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.19");
/// nameConstraints extension.
pub const NAME_CONSTRAINTS: ObjectIdentifier = oid("2.5.29.30");
/// cRLDistributionPoints extension.
pub const CRL_DISTRIBUTION_POINTS: ObjectIdentifier = oid("2.5.29.31");
/// certificatePolicies extension.
pub const CERTIFICATE_POLICIES: ObjectIdentifier = oid("2.5.29.32");
/// authorityKeyIdentifier extension.
pub const AUTHORITY_KEY_IDENTIFIER: ObjectIdentifier = oid("2.5.29.35");
/// extKeyUsage extension.
pub const EXT_KEY_USAGE: ObjectIdentifier = oid("2.5.29.37");
/// cRLNumber extension of a CRL.
pub const CRL_NUMBER: ObjectIdentifier = oid("2.5.29.20");
/// reasonCode extension of a CRL entry.
pub const CRL_REASON: ObjectIdentifier = oid("2.5.29.21");
/// deltaCRLIndicator extension of a CRL.
pub const DELTA_CRL_INDICATOR: ObjectIdentifier = oid("2.5.29.27");
/// issuingDistributionPoint extension of a CRL.
pub const ISSUING_DISTRIBUTION_POINT: ObjectIdentifier = oid("2.5.29.28");
/// freshestCRL extension of a CRL.
pub const FRESHEST_CRL: ObjectIdentifier = oid("2.5.29.46");
/// authorityInfoAccess extension.
pub const AUTHORITY_INFO_ACCESS: ObjectIdentifier = oid("1.3.6.1.5.5.7.1.1");

/// id-pe-cmw: a Conceptual Message Wrapper. Spec: RFC 9999 section 4.4.
pub const CMW: ObjectIdentifier = oid("1.3.6.1.5.5.7.1.35");

/// id-pkix-ocsp-basic. Spec: RFC 6960 section 4.2.1.
pub const OCSP_BASIC: ObjectIdentifier = oid("1.3.6.1.5.5.7.48.1.1");
/// id-pkix-ocsp-nonce. Spec: RFC 9654 section 2.1.
pub const OCSP_NONCE: ObjectIdentifier = oid("1.3.6.1.5.5.7.48.1.2");
/// id-pkix-ocsp-nocheck. Spec: RFC 6960 section 4.2.2.2.1.
pub const OCSP_NO_CHECK: ObjectIdentifier = oid("1.3.6.1.5.5.7.48.1.5");
/// SHA-1, which names issuers in OCSP. Spec: RFC 3370 section 2.1.
pub const SHA1: ObjectIdentifier = oid("1.3.14.3.2.26");
/// SHA-256. Spec: RFC 5754 section 2.2.
pub const SHA256: ObjectIdentifier = oid("2.16.840.1.101.3.4.2.1");

/// Access method OCSP of authorityInfoAccess.
pub const AD_OCSP: ObjectIdentifier = oid("1.3.6.1.5.5.7.48.1");
/// Access method caIssuers of authorityInfoAccess.
pub const AD_CA_ISSUERS: ObjectIdentifier = oid("1.3.6.1.5.5.7.48.2");

/// Extended usage: TLS server.
pub const KP_SERVER_AUTH: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.1");
/// Extended usage: TLS client.
pub const KP_CLIENT_AUTH: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.2");
/// anyExtendedKeyUsage. Spec: RFC 5280 section 4.2.1.12.
pub const KP_ANY: ObjectIdentifier = oid("2.5.29.37.0");
/// Extended usage: code signing.
pub const KP_CODE_SIGNING: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.3");
/// Extended usage: electronic mail.
pub const KP_EMAIL_PROTECTION: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.4");
/// Extended usage: time stamping.
pub const KP_TIME_STAMPING: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.8");
/// Extended usage: OCSP responses.
pub const KP_OCSP_SIGNING: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.9");
/// Extended usage: a CA speaking CMP. Spec: RFC 9480 section 2.2.
pub const KP_CMC_CA: ObjectIdentifier = oid("1.3.6.1.5.5.7.3.27");

/// id-on-permanentIdentifier. Spec: RFC 4043 section 2.
pub const ON_PERMANENT_IDENTIFIER: ObjectIdentifier = oid("1.3.6.1.5.5.7.8.3");
/// id-on-hardwareModuleName. Spec: RFC 4108 section 5.
pub const ON_HARDWARE_MODULE_NAME: ObjectIdentifier = oid("1.3.6.1.5.5.7.8.4");
