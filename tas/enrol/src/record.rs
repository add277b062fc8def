//! What the TA keeps: one object for a request under way, one for an installed certificate.
//!
//! The key pair is the object's own key, the record its data stream: both change in one atomic
//! write. The object's identifier is made of digests of the owner and of owner and label, so another
//! owner's label names nothing, in the same time as one that never was; owner and label are compared
//! again after reading. No owner's objects are opened for another one's call.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decoder, Encoder};
use tegata_ta_sdk::consts::*;
use tegata_ta_sdk::object::Object;
use tegata_ta_sdk::{Error, Identity, Result, crypto};

use crate::limits;

/// Whose key it is, and what they call it.
#[derive(Clone, PartialEq, Eq)]
pub struct Name {
    /// Who opened the session.
    pub owner: Identity,
    /// The owner's name for it.
    pub label: String,
}

/// Which of the two objects.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// A request under way.
    Pending,
    /// An installed certificate.
    Installed,
}

/// The data stream of either object.
#[derive(Clone, Default)]
pub struct Record {
    /// Profile of the certificate.
    pub profile: String,
    /// keyUsage of the certificate, and so what the key may do.
    pub key_usage: u16,
    /// Signature algorithm of the key, as COSE names it.
    pub cose_alg: i64,
    /// senderKID of the request: release and device.
    pub sender_kid: Vec<u8>,
    /// transactionID, 16 bytes.
    pub transaction_id: Vec<u8>,
    /// senderNonce of the last message sent.
    pub nonce: Vec<u8>,
    /// The p10cr as it was sent.
    pub request: Vec<u8>,
    /// The certConf as it was sent; empty before.
    pub confirm: Vec<u8>,
    /// SHA-256 of the cp that was accepted; empty before.
    pub response_digest: Vec<u8>,
    /// Leaf first, then its issuers without the root; empty before.
    pub chain: Vec<Vec<u8>>,
}

/// Longest label in bytes.
const LABEL_LEN_MAX: usize = 64;
const FORMAT: u64 = 2;
/// Bytes of the owner's digest in an object's identifier: with a slot's two and a label's 32 it
/// stays below GP's 64.
const OWNER_TAG_BYTES: usize = 16;

impl Name {
    /// A name, if the label is one: 1 to 64 bytes of printable text.
    ///
    /// # Errors
    /// `TEE_ERROR_BAD_PARAMETERS` otherwise.
    pub fn new(owner: Identity, label: &[u8]) -> Result<Self> {
        let label = core::str::from_utf8(label).map_err(|_| Error(TEE_ERROR_BAD_PARAMETERS))?;
        let plain = !label.is_empty()
            && label.len() <= LABEL_LEN_MAX
            && !label.chars().any(char::is_control);
        if !plain {
            return Err(Error(TEE_ERROR_BAD_PARAMETERS));
        }
        Ok(Self {
            owner,
            label: String::from(label),
        })
    }

    fn object_id(&self, slot: Slot) -> Result<Vec<u8>> {
        let mut input = b"tegata enrol v2 label".to_vec();
        input.extend_from_slice(&self.owner.to_bytes());
        input.extend_from_slice(self.label.as_bytes());
        let mut id = slot.prefix_of(&self.owner)?;
        id.extend(crypto::digest(TEE_ALG_SHA256, &input)?);
        Ok(id)
    }

    /// Checks that one more label has room: this owner's, and among all.
    ///
    /// # Errors
    /// `TEE_ERROR_STORAGE_NO_SPACE` if it has not.
    pub fn check_room(&self) -> Result<()> {
        let own = [
            self.object_id(Slot::Pending)?,
            self.object_id(Slot::Installed)?,
        ];
        let ids = tegata_ta_sdk::object::list()?;
        if ids.iter().any(|id| own.contains(id)) {
            return Ok(());
        }
        // What follows the slot is the same of both objects of a label.
        let mut labels: Vec<&[u8]> = ids.iter().filter_map(|id| id.get(2..)).collect();
        labels.sort_unstable();
        labels.dedup();
        let tag = own.iter().find_map(|id| id.get(2..2 + OWNER_TAG_BYTES));
        let of_owner = labels
            .iter()
            .filter(|label| label.get(..OWNER_TAG_BYTES) == tag)
            .count();
        if of_owner < limits::LABELS_PER_OWNER && labels.len() < limits::LABELS {
            Ok(())
        } else {
            Err(Error(TEE_ERROR_STORAGE_NO_SPACE))
        }
    }
}

impl Slot {
    const fn prefix(self) -> &'static [u8] {
        match self {
            Self::Pending => b"p.",
            Self::Installed => b"c.",
        }
    }

    /// How the identifiers of all objects of an owner in this slot begin.
    fn prefix_of(self, owner: &Identity) -> Result<Vec<u8>> {
        let mut input = b"tegata enrol v2 owner".to_vec();
        input.extend_from_slice(&owner.to_bytes());
        let mut id = self.prefix().to_vec();
        let digest = crypto::digest(TEE_ALG_SHA256, &input)?;
        id.extend_from_slice(digest.get(..OWNER_TAG_BYTES).unwrap_or_default());
        Ok(id)
    }
}

impl Record {
    /// CBOR array of the format, owner, label and all fields in their order.
    fn encode(&self, name: &Name) -> Result<Vec<u8>> {
        let mut e = Encoder::new(Vec::new());
        let mut write = || -> core::result::Result<(), minicbor::encode::Error<_>> {
            e.array(13)?.u64(FORMAT)?.bytes(&name.owner.to_bytes())?;
            e.str(&name.label)?
                .str(&self.profile)?
                .u16(self.key_usage)?
                .i64(self.cose_alg)?
                .bytes(&self.sender_kid)?;
            e.bytes(&self.transaction_id)?
                .bytes(&self.nonce)?
                .bytes(&self.request)?;
            e.bytes(&self.confirm)?.bytes(&self.response_digest)?;
            e.array(u64::try_from(self.chain.len()).unwrap_or(0))?;
            for der in &self.chain {
                e.bytes(der)?;
            }
            Ok(())
        };
        write().map_err(|_| Error(TEE_ERROR_GENERIC))?;
        Ok(e.into_writer())
    }

    fn decode(data: &[u8]) -> Option<(Vec<u8>, String, Self)> {
        let mut d = Decoder::new(data);
        if d.array().ok()?? != 13 || d.u64().ok()? != FORMAT {
            return None;
        }
        let owner = d.bytes().ok()?.to_vec();
        let label = String::from(d.str().ok()?);
        let profile = String::from(d.str().ok()?);
        let key_usage = d.u16().ok()?;
        let cose_alg = d.i64().ok()?;
        let mut bytes = || d.bytes().ok().map(<[u8]>::to_vec);
        let (sender_kid, transaction_id, nonce) = (bytes()?, bytes()?, bytes()?);
        let (request, confirm, response_digest) = (bytes()?, bytes()?, bytes()?);
        let len = d.array().ok()??;
        let chain = (0..len).map(|_| d.bytes().ok().map(<[u8]>::to_vec));
        let chain = chain.collect::<Option<_>>()?;
        let record = Self {
            profile,
            key_usage,
            cose_alg,
            sender_kid,
            transaction_id,
            nonce,
            request,
            confirm,
            response_digest,
            chain,
        };
        Some((owner, label, record))
    }

    /// Writes key and record in one atomic step; what was there is replaced.
    ///
    /// # Errors
    /// No space, or storage not available; then the old object stands.
    pub fn store(&self, name: &Name, slot: Slot, key: &Object) -> Result<()> {
        let flags = TEE_DATA_FLAG_ACCESS_READ | TEE_DATA_FLAG_OVERWRITE;
        Object::create(
            &name.object_id(slot)?,
            flags,
            Some(key),
            &self.encode(name)?,
        )
        .map(drop)
    }

    /// Reads a record and its key; the key comes as a copy, so that no handle on the stored object
    /// stays open and it can be replaced.
    ///
    /// # Errors
    /// `TEE_ERROR_ITEM_NOT_FOUND` if this owner has none of that label.
    pub fn load(name: &Name, slot: Slot) -> Result<(Object, Self)> {
        let object = open(&name.object_id(slot)?)?;
        let found = Self::decode(&object.read_all()?);
        let Some((owner, label, record)) = found else {
            return Err(Error(TEE_ERROR_CORRUPT_OBJECT));
        };
        if owner != name.owner.to_bytes() || label != name.label {
            return Err(Error(TEE_ERROR_ITEM_NOT_FOUND));
        }
        Ok((object.transient_copy()?, record))
    }

    /// Reads a record, if this owner has one of that label. One that is damaged counts as none.
    ///
    /// # Errors
    /// Storage not available.
    pub fn find(name: &Name, slot: Slot) -> Result<Option<Self>> {
        match Self::load(name, slot) {
            Ok((_, record)) => Ok(Some(record)),
            Err(Error(TEE_ERROR_ITEM_NOT_FOUND | TEE_ERROR_CORRUPT_OBJECT)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Deletes a record and its key; `false` if there was none.
    ///
    /// # Errors
    /// Storage not available.
    pub fn delete(name: &Name, slot: Slot) -> Result<bool> {
        match Object::open(&name.object_id(slot)?, TEE_DATA_FLAG_ACCESS_WRITE_META) {
            Ok(object) => object.delete().map(|()| true),
            Err(Error(TEE_ERROR_ITEM_NOT_FOUND)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Labels and records of an owner in a slot.
    ///
    /// # Errors
    /// Storage not available.
    pub fn list(owner: &Identity, slot: Slot) -> Result<Vec<(String, Self)>> {
        let prefix = slot.prefix_of(owner)?;
        let mut out = Vec::new();
        for id in tegata_ta_sdk::object::list()? {
            if !id.starts_with(&prefix) {
                continue;
            }
            let Ok(object) = open(&id) else { continue };
            if let Some((by, label, record)) = Self::decode(&object.read_all()?)
                && by == owner.to_bytes()
            {
                out.push((label, record));
            }
        }
        Ok(out)
    }
}

fn open(id: &[u8]) -> Result<Object> {
    Object::open(id, TEE_DATA_FLAG_ACCESS_READ | TEE_DATA_FLAG_SHARE_READ)
}
