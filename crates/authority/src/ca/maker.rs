//! Makers' certificates: the identity that a device has from its factory (IDevID, IEEE 802.1AR) as proof of
//! who asks this CA for its first certificate.
//!
//! Trusted: a maker's CA can speak for every registered device of the models that it is configured for,
//! and for no other. Whether a maker has revoked what it issued is not asked: an operator who hears of it
//! revokes the device.
//!
//! Spec: RFC 9483 sections 3.3 and 4.1.1.

use const_oid::ObjectIdentifier;
use tegata_crypto::chain::TrustAnchor;
use tegata_wire::x509::{AttributeSpec, CertView, DistinguishedName, oid};

/// A maker's CA, and what it may speak for.
#[derive(Debug, Clone)]
pub struct Maker {
    /// Roots of its device certificates.
    pub anchors: Vec<TrustAnchor>,
    /// Models of registered devices, exactly as they are registered.
    pub models: Vec<String>,
}

/// A maker's certificate that authenticated a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MakerCertificate {
    /// SHA-256 of the certificate.
    pub fingerprint: [u8; 32],
    /// SHA-256 thumbprint of its key: this CA certifies another.
    pub key: [u8; 32],
    /// Its issuer. Programs put it into what they ask for, unless they are told not to.
    pub issuer: DistinguishedName,
}

/// The serial number by which a certificate names its device: serialNumber of the subject, the only one.
///
/// Spec: IEEE 802.1AR section 8.6.
#[must_use]
pub fn named_serial(certificate: &[u8]) -> Option<String> {
    let oid: ObjectIdentifier = AttributeSpec::by_name("serialNumber")?.oid;
    let view = CertView::from_der(certificate).ok()?;
    let subject = DistinguishedName::from_der(view.subject_der).ok()?;
    let attributes = subject.attributes().ok()?;
    let mut serials = attributes.iter().filter(|a| a.oid == oid);
    let (one, another) = (serials.next()?, serials.next());
    let text = one.text().filter(|_| another.is_none())?;
    (!text.is_empty() && !text.contains(char::is_control)).then(|| text.to_owned())
}

/// Whether a certificate is of a kind that asks: a maker's CA may also have certified servers, people and code
/// with a serial number in the subject.
#[must_use]
pub fn is_clients(certificate: &CertView<'_>) -> bool {
    let asks = [oid::KP_CLIENT_AUTH, oid::KP_ANY];
    let purposes = certificate.ext_key_usage();
    purposes.is_ok_and(|purposes| purposes.is_empty() || asks.iter().any(|p| purposes.contains(p)))
}

/// Anchors of everybody who may speak for devices of that model.
pub fn anchors_for<'a>(
    makers: &'a [Maker],
    model: &'a str,
) -> impl Iterator<Item = &'a TrustAnchor> {
    let speaks = move |maker: &&Maker| maker.models.iter().any(|m| m == model);
    makers
        .iter()
        .filter(speaks)
        .flat_map(|maker| &maker.anchors)
}
