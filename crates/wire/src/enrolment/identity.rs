//! The hardware identity that a procedure may put into a certificate.

use super::EnrolmentError;
use crate::{cbor::CborError, device::DeviceIdentity, ids::Ueid};
use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
};
use core::fmt;

/// One attribute of a device that templates can name. The number is its CBOR form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
#[non_exhaustive]
pub enum IdentityAttribute {
    /// `{ueid}`: lower-case hexadecimal.
    Ueid = 0,
    /// `{serial}`: the maker's serial number.
    Serial = 1,
    /// `{model}`: the maker's model name.
    Model = 2,
    /// `{imei}`: 15 digits.
    Imei = 3,
    /// `{mac}`: six lower-case hexadecimal pairs with colons.
    Mac = 4,
}

impl IdentityAttribute {
    /// Every attribute.
    pub const ALL: [Self; 5] = [Self::Ueid, Self::Serial, Self::Model, Self::Imei, Self::Mac];

    /// Its name inside braces.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ueid => "ueid",
            Self::Serial => "serial",
            Self::Model => "model",
            Self::Imei => "imei",
            Self::Mac => "mac",
        }
    }

    /// The attribute of a name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|a| a.name() == name)
    }

    /// Its number in CBOR.
    #[must_use]
    pub const fn number(self) -> u8 {
        // The representation is u8 and is the number.
        self as u8
    }

    /// The attribute of a number.
    pub(super) fn from_number(number: u64) -> Result<Self, CborError> {
        Self::ALL
            .into_iter()
            .find(|a| u64::from(a.number()) == number)
            .ok_or(CborError::Range {
                what: "identity attribute",
            })
    }
}

impl fmt::Display for IdentityAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Who a device is, in the form in which certificates say it.
///
/// In the TA it comes from the TEE's properties, at the CA from the device registry; both expand
/// the same procedure with it and must get the same names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Universal entity id.
    pub ueid: Ueid,
    /// Serial number.
    pub serial: Option<String>,
    /// Model name.
    pub model: Option<String>,
    /// IMEI.
    pub imei: Option<String>,
    /// MAC address.
    pub mac: Option<[u8; 6]>,
}

impl Identity {
    /// An identity of nothing but the UEID.
    #[must_use]
    pub const fn new(ueid: Ueid) -> Self {
        Self {
            ueid,
            serial: None,
            model: None,
            imei: None,
            mac: None,
        }
    }

    /// The value of an attribute as templates insert it.
    ///
    /// # Errors
    /// [`EnrolmentError::MissingIdentity`] if the device has none or an empty one.
    pub fn value(&self, attribute: IdentityAttribute) -> Result<String, EnrolmentError> {
        let value = match attribute {
            IdentityAttribute::Ueid => Some(self.ueid.to_string()),
            IdentityAttribute::Serial => self.serial.clone(),
            IdentityAttribute::Model => self.model.clone(),
            IdentityAttribute::Imei => self.imei.clone(),
            IdentityAttribute::Mac => self.mac.map(|mac| mac_text(&mac)),
        };
        value
            .filter(|v| !v.is_empty())
            .ok_or(EnrolmentError::MissingIdentity(attribute))
    }
}

impl From<&DeviceIdentity> for Identity {
    /// The model is left out unless it is text.
    fn from(device: &DeviceIdentity) -> Self {
        Self {
            ueid: device.ueid,
            serial: Some(device.serial.clone()),
            model: core::str::from_utf8(&device.hwmodel)
                .ok()
                .map(ToOwned::to_owned),
            imei: device.imei.clone(),
            mac: device.mac,
        }
    }
}

/// `02:00:5e:10:00:01`.
fn mac_text(mac: &[u8; 6]) -> String {
    use fmt::Write;
    let mut out = String::with_capacity(17);
    for (i, byte) in mac.iter().enumerate() {
        // Writing to a String cannot fail.
        let _ = write!(out, "{}{byte:02x}", if i == 0 { "" } else { ":" });
    }
    out
}
