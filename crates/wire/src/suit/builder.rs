//! Making envelopes: manifest in, bytes to sign out, signatures in, envelope out.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use super::envelope::bstr;
use super::{
    MAX_AUTH_BLOCKS, MAX_INTEGRATED, MAX_URI_LEN, Manifest, Section, Severable, SuitDigest,
    SuitError, TAG_ENVELOPE,
};
use crate::cbor::{self, Pieces, Value};

/// Puts an envelope together.
///
/// ```
/// # fn main() -> Result<(), tegata_wire::suit::SuitError> {
/// use tegata_wire::suit::{Command, ComponentId, Condition, EnvelopeBuilder, Manifest, Section};
/// # fn sha256(_: &[u8]) -> [u8; 32] { [0; 32] }
/// # fn sign1_detached(payload: &[u8]) -> Vec<u8> { vec![0xd2, 0x80] }
/// let manifest = Manifest::new(1, vec![ComponentId::new(&["app"])])
///     .with_section(Section::Validate, vec![Command::check(Condition::ImageMatch)]);
/// let mut builder = EnvelopeBuilder::new(&manifest, sha256)?;
/// let signature = sign1_detached(builder.signed_payload());
/// builder.add_sign1(signature)?;
/// builder.integrate("#app", b"payload".to_vec())?;
/// let envelope = builder.finish()?;
/// # Ok(()) }
/// ```
#[derive(Debug, Clone)]
pub struct EnvelopeBuilder<'a> {
    digest: SuitDigest,
    digest_bytes: Vec<u8>,
    auth_blocks: Vec<Vec<u8>>,
    manifest: Vec<u8>,
    severed: Vec<(i64, Vec<u8>)>,
    integrated: Vec<(String, Cow<'a, [u8]>)>,
    tagged: bool,
}

impl<'a> EnvelopeBuilder<'a> {
    /// Begins with a manifest as it is.
    ///
    /// # Errors
    /// `SuitError` if the manifest cannot be encoded.
    pub fn new(manifest: &Manifest, sha256: impl Fn(&[u8]) -> [u8; 32]) -> Result<Self, SuitError> {
        Self::severing(manifest, &[], sha256)
    }

    /// Begins with a manifest of which `sections` are moved out into the envelope.
    ///
    /// # Errors
    /// `SuitError::Invalid` if a section cannot be severed or is not there.
    pub fn severing(
        manifest: &Manifest,
        sections: &[Section],
        sha256: impl Fn(&[u8]) -> [u8; 32],
    ) -> Result<Self, SuitError> {
        let mut manifest = manifest.clone();
        let mut severed = Vec::new();
        for section in sections {
            let invalid = SuitError::Invalid {
                what: "section to sever",
            };
            let member = manifest.sections.get_mut(section);
            let (Some(member), true) = (member, section.is_severable()) else {
                return Err(invalid);
            };
            let Severable::Here(sequence) = &*member else {
                return Err(invalid);
            };
            let bytes = sequence.encode()?;
            *member = Severable::Severed(SuitDigest::sha256(sha256(&bstr(&bytes)?)));
            severed.push((section.label(), bytes));
        }
        let manifest = manifest.encode()?;
        let digest = SuitDigest::sha256(sha256(&bstr(&manifest)?));
        let digest_bytes = digest.encode()?;
        Ok(Self {
            digest,
            digest_bytes,
            auth_blocks: Vec::new(),
            manifest,
            severed,
            integrated: Vec::new(),
            tagged: true,
        })
    }

    /// Leaves the envelope's CBOR tag away (TEEP does not ask for it).
    #[must_use]
    pub const fn untagged(mut self) -> Self {
        self.tagged = false;
        self
    }

    /// The digest of the manifest.
    #[must_use]
    pub const fn digest(&self) -> &SuitDigest {
        &self.digest
    }

    /// What a signature is made over: the detached payload of a COSE_Sign1.
    #[must_use]
    pub fn signed_payload(&self) -> &[u8] {
        &self.digest_bytes
    }

    /// Adds a signature: an encoded, tagged COSE_Sign1 with detached payload.
    ///
    /// # Errors
    /// `SuitError::Limit` if there are too many, `SuitError::Invalid` if the tag is missing.
    pub fn add_sign1(&mut self, sign1: Vec<u8>) -> Result<&mut Self, SuitError> {
        if self.auth_blocks.len() >= MAX_AUTH_BLOCKS {
            return Err(SuitError::Limit {
                what: "signatures",
                max: MAX_AUTH_BLOCKS,
            });
        }
        if sign1.first() != Some(&0xd2) {
            return Err(SuitError::Invalid {
                what: "COSE_Sign1 without tag",
            });
        }
        self.auth_blocks.push(sign1);
        Ok(self)
    }

    /// Adds an integrated payload, or the envelope of an integrated dependency.
    ///
    /// # Errors
    /// `SuitError` if the name is used already or too long, or if there are too many.
    pub fn integrate(
        &mut self,
        name: &str,
        bytes: impl Into<Cow<'a, [u8]>>,
    ) -> Result<&mut Self, SuitError> {
        cbor::check_len(name.len(), "integrated payload name", 0, MAX_URI_LEN)?;
        if self.integrated.len() >= MAX_INTEGRATED {
            return Err(SuitError::Limit {
                what: "integrated payloads",
                max: MAX_INTEGRATED,
            });
        }
        if self.integrated.iter().any(|(n, _)| n == name) {
            return Err(SuitError::Invalid {
                what: "integrated payload name",
            });
        }
        self.integrated.push((name.into(), bytes.into()));
        Ok(self)
    }

    /// The encoded envelope.
    ///
    /// # Errors
    /// Only if memory is not enough.
    pub fn finish(self) -> Result<Vec<u8>, SuitError> {
        Ok(self.into_pieces()?.to_vec())
    }

    /// The encoded envelope, with what was integrated still where it is.
    ///
    /// # Errors
    /// Only if memory is not enough.
    pub fn into_pieces(self) -> Result<Pieces<'a>, SuitError> {
        let wrapper = core::iter::once(self.digest_bytes)
            .chain(self.auth_blocks)
            .map(Value::Bytes)
            .collect::<Vec<_>>();
        let mut entries = vec![
            (
                2.into(),
                Pieces::bytes(cbor::encode(&Value::Array(wrapper))?)?,
            ),
            (3.into(), Pieces::bytes(self.manifest)?),
        ];
        for (label, bytes) in self.severed {
            entries.push((label.into(), Pieces::bytes(bytes)?));
        }
        for (name, bytes) in self.integrated {
            entries.push((name.into(), Pieces::bytes(bytes)?));
        }
        let map = Pieces::map(entries)?;
        Ok(if self.tagged {
            map.tagged(TAG_ENVELOPE)?
        } else {
            map
        })
    }
}
