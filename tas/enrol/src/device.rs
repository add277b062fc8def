//! Who this device is and what its CA ordered: from the TEE alone, never from a client.

use alloc::string::String;
use alloc::vec::Vec;

use tegata_ta_sdk::consts::*;
use tegata_ta_sdk::object::Object;
use tegata_ta_sdk::{Error, Result, crypto, property, system};
use tegata_wire::enrolment::{CertificateOrder, Identity, Procedure};
use tegata_wire::ids::Ueid;

use crate::orders::{self, Personalization};

/// Everything a request is made of, beside the key.
pub struct Orders {
    /// The CA's procedure.
    pub procedure: Procedure,
    /// `CsrAuthKey` and release; secret.
    pub personalization: Personalization,
    /// This device.
    pub identity: Identity,
}

fn optional<T>(found: Result<T>) -> Result<Option<T>> {
    match found {
        Ok(value) => Ok(Some(value)),
        Err(Error(TEE_ERROR_ITEM_NOT_FOUND)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Step 7: the hardware identity, write-once data of the platform.
fn identity() -> Result<Identity> {
    let set = TEE_PROPSET_TEE_IMPLEMENTATION;
    let ueid = property::binary(set, "dev.tegata.ueid")?;
    let mut identity =
        Identity::new(Ueid::from_slice(&ueid).map_err(|_| Error(TEE_ERROR_BAD_STATE))?);
    identity.serial = optional(property::string(set, "dev.tegata.serial"))?;
    identity.model = optional(property::binary(set, "dev.tegata.hwmodel"))?
        .and_then(|model| String::from_utf8(model).ok());
    identity.imei = optional(property::string(set, "dev.tegata.imei"))?;
    identity.mac = optional(property::binary(set, "dev.tegata.mac"))?
        .and_then(|mac| <[u8; 6]>::try_from(mac).ok());
    Ok(identity)
}

impl Orders {
    /// Reads the components of this TA's release and the device's identity.
    ///
    /// # Errors
    /// `TEE_ERROR_BAD_STATE` if the release has no usable procedure or personalization data, or if
    /// that data is another device's.
    pub fn load() -> Result<Self> {
        let unusable = Error(TEE_ERROR_BAD_STATE);
        let procedure = system::component(system::COMPONENT_PROCEDURE)?;
        let procedure = orders::procedure(&procedure).ok_or(unusable)?;
        let config = system::component(system::COMPONENT_CONFIG)?;
        let personalization = Personalization::decode(&config).ok_or(unusable)?;
        let identity = identity()?;
        personalization
            .sender_kid(identity.ueid.as_bytes())
            .ok_or(unusable)?;
        Ok(Self {
            procedure,
            personalization,
            identity,
        })
    }

    /// What is ordered of a profile; of the first one if none is named.
    ///
    /// # Errors
    /// `TEE_ERROR_ITEM_NOT_FOUND` if the release has none of that name, `TEE_ERROR_BAD_STATE` if
    /// the device lacks an attribute that it needs.
    pub fn certificate(&self, profile: Option<&str>) -> Result<&CertificateOrder> {
        let order = match profile {
            Some(name) => self.procedure.certificate(name),
            None => self.procedure.certificates.first(),
        };
        let order = order.ok_or(Error(TEE_ERROR_ITEM_NOT_FOUND))?;
        order
            .check_identity(&self.identity)
            .map_err(|_| Error(TEE_ERROR_BAD_STATE))?;
        Ok(order)
    }

    /// HMAC-SHA256 under the `CsrAuthKey`.
    ///
    /// # Errors
    /// Of the TEE.
    pub fn mac(&self, message: &[u8]) -> Result<Vec<u8>> {
        let secret = self.personalization.csr_auth_key.as_slice();
        let key = Object::secret(TEE_TYPE_HMAC_SHA256, secret)?;
        crypto::mac(TEE_ALG_HMAC_SHA256, &key, message)
    }

    /// senderKID of this release and device.
    ///
    /// # Errors
    /// Not for a value made by [`Orders::load`].
    pub fn sender_kid(&self) -> Result<Vec<u8>> {
        self.personalization
            .sender_kid(self.identity.ueid.as_bytes())
            .ok_or(Error(TEE_ERROR_BAD_STATE))
    }
}
