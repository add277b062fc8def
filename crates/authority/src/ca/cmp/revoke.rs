//! rr: a device takes back one of its own certificates.
//!
//! Spec: RFC 9810 section 5.3.9, RFC 9483 section 4.2.

use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode as _, Tag, Tagged as _};
use tegata_wire::cmp::RevDetails;
use tegata_wire::x509::RevocationReason;

use super::denial::{CmpDenial, RevokeDenied};
use super::request::RequestBody;
use crate::ca::means::{Authenticated, HeldCertificate, Means};
use crate::ca::revocation::{FinalReason, Standing};

/// Proof that a device may have this certificate of its own revoked, and why it wants it.
#[derive(Debug)]
#[must_use]
pub struct RevocationAsked {
    serial: Vec<u8>,
    reason: FinalReason,
}

impl RevocationAsked {
    /// Serial number of the certificate.
    #[must_use]
    pub fn serial(&self) -> &[u8] {
        &self.serial
    }

    /// Why.
    #[must_use]
    pub fn reason(&self) -> FinalReason {
        self.reason
    }
}

/// The serial number that a revocation request names, big-endian, to look the certificate up.
#[must_use]
pub fn named_serial(details: &RevDetails) -> Option<&[u8]> {
    let number = details.cert_details.serial_number.as_ref();
    number.map(der::asn1::Int::as_bytes)
}

/// Checks a revocation request against the certificate that it names, if this CA issued it.
///
/// # Errors
/// `WrongProtection` unless it is signed by a certificate; `Revoke` with the reason.
pub fn check_revocation(
    request: Authenticated,
    named: Option<&HeldCertificate>,
) -> Result<RevocationAsked, CmpDenial> {
    let (ueid, means, body) = request.into_parts();
    let RequestBody::Rr(details) = body else {
        return Err(CmpDenial::Failed("rr"));
    };
    // Whoever enrols a device by a secret has no say over what it has.
    let Means::Certificate(holder) = means else {
        return Err(CmpDenial::WrongProtection);
    };
    let denied = CmpDenial::Revoke;
    let reason = reason(&details)?;
    // Another device's certificates are as unknown as those of nobody.
    let named = named.filter(|named| named.ueid == ueid);
    let named = named.ok_or(denied(RevokeDenied::NoCertificate))?;
    let view = named
        .view()
        .map_err(|_| CmpDenial::Failed("a certificate of ours"))?;
    let issuer = details.cert_details.issuer.as_ref();
    let issuer = issuer.and_then(|name| der::Encode::to_der(name).ok());
    if issuer.as_deref() != Some(view.issuer_der) {
        return Err(denied(RevokeDenied::NoCertificate));
    }
    // Who has ended may hear again what was done, and have nothing new done.
    let done = matches!(named.standing, Standing::Revoked { .. });
    if holder.ended && !done {
        return Err(denied(RevokeDenied::SignerEnded));
    }
    Ok(RevocationAsked {
        serial: view.serial.to_vec(),
        reason,
    })
}

/// Why, by the extensions of the entry.
fn reason(details: &RevDetails) -> Result<FinalReason, CmpDenial> {
    let mut reason = FinalReason::Unspecified;
    for extension in details.crl_entry_details.iter().flat_map(|l| l.iter()) {
        let value = extension.extn_value.as_bytes();
        match extension.extn_id {
            REASON_CODE => {
                let code = AnyRef::from_der(value)
                    .ok()
                    .filter(|v| v.tag() == Tag::Enumerated);
                let code = code.and_then(|v| match v.value() {
                    [code] => RevocationReason::from_code(*code),
                    _ => None,
                });
                let named = code.and_then(final_reason);
                reason = named.ok_or(CmpDenial::Revoke(RevokeDenied::Reason))?;
            }
            // When the key may have become known: lists have no place for it yet.
            INVALIDITY_DATE => {}
            _ if !extension.critical => {}
            _ => return Err(CmpDenial::Revoke(RevokeDenied::Extension)),
        }
    }
    Ok(reason)
}

/// A reason for good: a hold, and the lifting of one, are the operator's.
fn final_reason(reason: RevocationReason) -> Option<FinalReason> {
    FinalReason::ALL.into_iter().find(|f| f.reason() == reason)
}

/// id-ce-cRLReasons.
const REASON_CODE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.21");
/// id-ce-invalidityDate.
const INVALIDITY_DATE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.24");
