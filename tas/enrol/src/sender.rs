//! Who a message of ours is from, and so how it is protected.
//!
//! A first certificate, and one after the last has ended, is asked for by the release: with the
//! `CsrAuthKey`. A certificate that serves asks for the one that follows it: with its own key.
//!
//! Spec: RFC 9483 sections 3.1 and 3.2, RFC 9481 section 6.2.1.

use alloc::vec::Vec;

use tegata_ta_sdk::consts::*;
use tegata_ta_sdk::object::Object;
use tegata_ta_sdk::{Error, Result};
use tegata_wire::cmp::{
    MessageToProtect, PkiHeader, ProtectionAlg, RawBody, directory_name_der, null_dn,
};
use tegata_wire::x509::{CertView, RawDer, SignatureAlg, usage};

use crate::device::Orders;
use crate::record::{Name, Record, Slot};
use crate::{enrol, keys};

fn bug<E>(_: E) -> Error {
    Error(TEE_ERROR_GENERIC)
}

/// The certificate that serves under a label, and its key.
pub struct Holder {
    key: Object,
    alg: SignatureAlg,
    /// The certificate.
    pub leaf: Vec<u8>,
    /// Its subjectKeyIdentifier.
    pub key_id: Vec<u8>,
    /// Last second of its validity since 1970.
    pub ends: u64,
}

impl Holder {
    /// The holder of what is installed under a label; `None` if nothing is, or if its key cannot
    /// sign messages: one that only agrees, or one whose certificate has no key identifier.
    ///
    /// # Errors
    /// Storage not available.
    pub fn of(name: &Name) -> Result<Option<Self>> {
        let (key, record) = match Record::load(name, Slot::Installed) {
            Ok(found) => found,
            Err(Error(TEE_ERROR_ITEM_NOT_FOUND | TEE_ERROR_CORRUPT_OBJECT)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(leaf) = record.chain.first().cloned() else {
            return Ok(None);
        };
        let corrupt = |_| Error(TEE_ERROR_CORRUPT_OBJECT);
        let view = CertView::from_der(&leaf).map_err(corrupt)?;
        let key_id = view.subject_key_id().map_err(corrupt)?.map(<[u8]>::to_vec);
        let ends = view.not_after_secs;
        let signs = record.key_usage & usage::DIGITAL_SIGNATURE != 0;
        let alg = enrol::alg_of(&record)?;
        Ok(key_id.filter(|_| signs).map(|key_id| Self {
            key,
            alg,
            leaf,
            key_id,
            ends,
        }))
    }
}

/// Who a message is from.
pub enum Sender<'a> {
    /// This TA of this release on this device.
    Release(&'a Orders),
    /// The holder of the certificate that serves.
    Holder(&'a Holder),
}

impl Sender<'_> {
    /// The header of a message of the record's transaction.
    ///
    /// Sender and recipient of a MAC are told by senderKID and the way the message goes.
    ///
    /// # Errors
    /// Not for a record that this TA made.
    pub fn header(&self, record: &Record) -> Result<PkiHeader> {
        let (sender, recipient, alg) = match self {
            Self::Release(_) => (null_dn(), null_dn(), ProtectionAlg::HMAC_SHA256),
            Self::Holder(holder) => {
                let view = CertView::from_der(&holder.leaf).map_err(bug)?;
                let name = |der| directory_name_der(der).map_err(bug);
                let alg = ProtectionAlg::Signature(holder.alg);
                (name(view.subject_der)?, name(view.issuer_der)?, alg)
            }
        };
        PkiHeader::new(sender, recipient)
            .with_protection(&alg)
            .and_then(|h| h.with_sender_kid(&record.sender_kid))
            .and_then(|h| h.with_transaction_id(&record.transaction_id))
            .and_then(|h| h.with_sender_nonce(&record.nonce))
            .map_err(bug)
    }

    /// The message, protected: DER.
    ///
    /// # Errors
    /// Of the TEE.
    pub fn protect(&self, header: &PkiHeader, body: &RawBody) -> Result<Vec<u8>> {
        let message = MessageToProtect::new(header, body).map_err(bug)?;
        let part = message.protected_part().map_err(bug)?;
        match self {
            Self::Release(orders) => {
                let mac = orders.mac(&part)?;
                message.into_der(Some(&mac), &[]).map_err(bug)
            }
            Self::Holder(holder) => {
                let raw = keys::sign(holder.alg, &holder.key, &part)?;
                let bits = holder.alg.signature_to_bits(&raw).map_err(bug)?;
                let leaf = RawDer::from_bytes(&holder.leaf).map_err(bug)?;
                message.into_der(Some(&bits), &[leaf]).map_err(bug)
            }
        }
    }
}
