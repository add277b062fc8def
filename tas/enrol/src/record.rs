//! What the TA keeps: one object for a request under way, one for an installed certificate.
//!
//! The key pair is the object's own key, the record its data stream: both change in one atomic
//! write. The object's identifier is made of digests of the owner and of owner and label, so another
//! owner's label names nothing, in the same time as one that never was; owner and label are compared
//! again after reading. No owner's objects are opened for another one's call.
//!
//! Each session is an instance of its own, so two of one owner may want one object at once: the
//! later one waits a little.

use alloc::string::String;
use alloc::vec::Vec;

use minicbor::{Decoder, Encoder};
use tegata_ta_sdk::consts::*;
use tegata_ta_sdk::object::Object;
use tegata_ta_sdk::{Error, Identity, Result, crypto, system};

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
    /// The certificate in whose place the request is, a CertId in DER; empty if there is none, and of a kur.
    pub in_place_of: Vec<u8>,
}

/// Longest label in bytes.
const LABEL_LEN_MAX: usize = 64;
const FORMAT: u64 = 3;
/// The format before, without the last field.
const FORMAT_BEFORE: u64 = 2;
/// Bytes of the owner's digest in an object's identifier: with the two of slot and class and a
/// label's 32 it stays below GP's 64.
const OWNER_TAG_BYTES: usize = 16;
/// Bytes of an identifier: slot, class, owner, label.
const ID_BYTES: usize = 2 + OWNER_TAG_BYTES + 32;
/// How long a session waits for another one's handle, in milliseconds: a write takes some.
const CONFLICT_WAIT_MS: u64 = 2_000;
/// Longest pause between two attempts.
const PAUSE_MS_MAX: u32 = 10;

/// Which share of the store an owner's labels count against.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Class {
    /// In an object's identifier.
    letter: u8,
    labels_max: usize,
}

impl Class {
    const fn of(owner: &Identity) -> Self {
        match owner.login {
            // One user has as many programs as it cares to make, and may be in many groups.
            TEE_LOGIN_APPLICATION | TEE_LOGIN_APPLICATION_USER | TEE_LOGIN_APPLICATION_GROUP => {
                Self {
                    letter: b'a',
                    labels_max: limits::LABELS_OF_PROGRAMS,
                }
            }
            TEE_LOGIN_GROUP => Self {
                letter: b'g',
                labels_max: limits::LABELS_OF_GROUPS,
            },
            _ => Self {
                letter: b'u',
                labels_max: limits::LABELS,
            },
        }
    }
}

/// Does what needs a handle that another session may hold, again and again for a while.
///
/// # Errors
/// Of `what`; `TEE_ERROR_CANCEL` if the client gave up waiting.
pub fn patiently<T>(mut what: impl FnMut() -> Result<T>) -> Result<T> {
    let begun = system::time_ms();
    let mut pause_ms = 1;
    loop {
        match what() {
            Err(Error(TEE_ERROR_ACCESS_CONFLICT))
                if system::time_ms().saturating_sub(begun) < CONFLICT_WAIT_MS =>
            {
                system::wait(pause_ms)?;
                pause_ms = pause_ms.saturating_mul(2).min(PAUSE_MS_MAX);
            }
            done => return done,
        }
    }
}

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

    /// Checks that this label has room: among this owner's, those of its class, and all. It counts
    /// too, whether it is there already or not.
    ///
    /// # Errors
    /// `TEE_ERROR_STORAGE_NO_SPACE` if it has not.
    pub fn check_room(&self) -> Result<()> {
        let own = self.object_id(Slot::Pending)?;
        let ids = tegata_ta_sdk::object::list()?;
        // What follows the slot is the same of both objects of a label.
        let labels = ids.iter().filter(|id| is_id(id));
        let mut labels: Vec<&[u8]> = labels.chain([&own]).filter_map(|id| id.get(1..)).collect();
        labels.sort_unstable();
        labels.dedup();
        let like_own = |bytes: usize| {
            let start = own.get(1..1 + bytes);
            let like = labels.iter().filter(|label| label.get(..bytes) == start);
            like.count()
        };
        let fits = like_own(1 + OWNER_TAG_BYTES) <= limits::LABELS_PER_OWNER
            && like_own(1) <= Class::of(&self.owner).labels_max
            && labels.len() <= limits::LABELS;
        if fits {
            Ok(())
        } else {
            Err(Error(TEE_ERROR_STORAGE_NO_SPACE))
        }
    }
}

impl Slot {
    const fn letter(self) -> u8 {
        match self {
            Self::Pending => b'p',
            Self::Installed => b'c',
        }
    }

    /// How the identifiers of all objects of an owner in this slot begin.
    fn prefix_of(self, owner: &Identity) -> Result<Vec<u8>> {
        let mut input = b"tegata enrol v2 owner".to_vec();
        input.extend_from_slice(&owner.to_bytes());
        let mut id = Vec::from([self.letter(), Class::of(owner).letter]);
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
            e.array(14)?.u64(FORMAT)?.bytes(&name.owner.to_bytes())?;
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
            e.bytes(&self.in_place_of)?;
            Ok(())
        };
        write().map_err(|_| Error(TEE_ERROR_GENERIC))?;
        Ok(e.into_writer())
    }

    fn decode(data: &[u8]) -> Option<(Vec<u8>, String, Self)> {
        let mut d = Decoder::new(data);
        let is_newest = match (d.array().ok()??, d.u64().ok()?) {
            (14, FORMAT) => true,
            (13, FORMAT_BEFORE) => false,
            _ => return None,
        };
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
        let in_place_of = match is_newest {
            true => d.bytes().ok()?.to_vec(),
            false => Vec::new(),
        };
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
            in_place_of,
        };
        Some((owner, label, record))
    }

    /// Writes key and record in one atomic step; what was there is replaced.
    ///
    /// # Errors
    /// No space, or storage not available; then the old object stands.
    pub fn store(&self, name: &Name, slot: Slot, key: &Object) -> Result<()> {
        let flags = TEE_DATA_FLAG_ACCESS_READ | TEE_DATA_FLAG_OVERWRITE;
        let (id, record) = (name.object_id(slot)?, self.encode(name)?);
        patiently(|| Object::create(&id, flags, Some(key), &record)).map(drop)
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
        let id = name.object_id(slot)?;
        match patiently(|| Object::open(&id, TEE_DATA_FLAG_ACCESS_WRITE_META)) {
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
            let object = match open(&id) {
                Ok(object) => object,
                // Deleted since it was listed; one that is damaged counts as none.
                Err(Error(TEE_ERROR_ITEM_NOT_FOUND | TEE_ERROR_CORRUPT_OBJECT)) => continue,
                Err(error) => return Err(error),
            };
            if let Some((by, label, record)) = Self::decode(&object.read_all()?)
                && by == owner.to_bytes()
            {
                out.push((label, record));
            }
        }
        Ok(out)
    }
}

/// True if that is the identifier of a record, and not of what another TA keeps beside them.
fn is_id(id: &[u8]) -> bool {
    let slots = [Slot::Pending.letter(), Slot::Installed.letter()];
    id.len() == ID_BYTES && id.first().is_some_and(|letter| slots.contains(letter))
}

fn open(id: &[u8]) -> Result<Object> {
    let flags = TEE_DATA_FLAG_ACCESS_READ | TEE_DATA_FLAG_SHARE_READ;
    patiently(|| Object::open(id, flags))
}
