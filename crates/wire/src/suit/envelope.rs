//! Envelopes: a manifest with its signatures and what travels along.

use alloc::string::String;
use alloc::vec::Vec;

use super::manifest::refuse_rest;
use super::{
    CBOR_LIMITS, MAX_AUTH_BLOCKS, MAX_INTEGRATED, MAX_MANIFEST_LEN, MAX_SEQUENCE_LEN, MAX_URI_LEN,
    Manifest, Section, Sequence, Severable, SuitDigest, SuitError, TAG_ENVELOPE,
};
use crate::cbor::{self, MapReader, Value};

/// Labels of raw severable members: CoSWID and text.
const SEVERABLE_RAW: [i64; 2] = [14, 23];

/// One signature or MAC over the digest of the manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum AuthBlock {
    /// An encoded, tagged COSE_Sign1 with detached payload.
    Sign1(Vec<u8>),
    /// Another COSE structure, which Tegata does not accept as authentication.
    Other {
        /// CBOR tag: 17 COSE_Mac0, 97 COSE_Mac, 98 COSE_Sign.
        tag: u64,
        /// Encoded, with its tag.
        bytes: Vec<u8>,
    },
}

impl AuthBlock {
    /// The encoded COSE structure with its tag.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Sign1(bytes) | Self::Other { bytes, .. } => bytes,
        }
    }
}

/// An envelope as it came: nothing in it has been checked but its form.
///
/// To use it: verify one of [`Self::auth_blocks`] with a trusted key over [`Self::signed_payload`]
/// (the crypto crate does), then [`Self::check_digests`].
///
/// Spec: draft-ietf-suit-manifest section 8.2
#[derive(Debug, Clone, PartialEq)]
pub struct UnverifiedEnvelope {
    digest: SuitDigest,
    digest_bytes: Vec<u8>,
    auth_blocks: Vec<AuthBlock>,
    manifest: Vec<u8>,
    severed: Vec<(i64, Vec<u8>)>,
    integrated: Vec<(String, Vec<u8>)>,
}

impl UnverifiedEnvelope {
    /// Decodes an envelope, tagged or not.
    ///
    /// The caller limits the length of `bytes`: integrated payloads may be large.
    ///
    /// # Errors
    /// `SuitError` if the bytes are none, or exceed a limit.
    pub fn decode(bytes: &[u8]) -> Result<Self, SuitError> {
        let value = cbor::strip_tag(cbor::decode_limited(bytes, CBOR_LIMITS)?, TAG_ENVELOPE);
        let mut map = MapReader::new(value, "SUIT_Envelope")?;
        let wrapper = map.require(2, "suit-authentication-wrapper")?;
        let wrapper =
            cbor::into_bytes_sized(wrapper, "suit-authentication-wrapper", 0, MAX_SEQUENCE_LEN)?;
        let (digest, digest_bytes, auth_blocks) = authentication(&wrapper)?;
        let manifest = map.require(3, "suit-manifest")?;
        let manifest = cbor::into_bytes_sized(manifest, "suit-manifest", 0, MAX_MANIFEST_LEN)?;

        let mut severed = Vec::new();
        let sections = Section::ALL
            .iter()
            .filter(|s| s.is_severable())
            .map(|s| s.label());
        for label in sections.chain(SEVERABLE_RAW) {
            if let Some(value) = map.take(label) {
                let bytes = cbor::into_bytes_sized(value, "severed member", 0, MAX_SEQUENCE_LEN)?;
                severed.push((label, bytes));
            }
        }
        let mut integrated = Vec::new();
        let mut unknown = Vec::new();
        for (key, value) in map.into_rest() {
            match key {
                Value::Text(name) => {
                    cbor::check_len(name.len(), "integrated payload name", 0, MAX_URI_LEN)?;
                    integrated.push((name, cbor::into_bytes(value, "integrated payload")?));
                }
                other => unknown.push((other, value)),
            }
        }
        refuse_rest(
            MapReader::new(Value::Map(unknown), "SUIT_Envelope")?,
            "SUIT_Envelope",
        )?;
        if integrated.len() > MAX_INTEGRATED {
            return Err(SuitError::Limit {
                what: "integrated payloads",
                max: MAX_INTEGRATED,
            });
        }
        Ok(Self {
            digest,
            digest_bytes,
            auth_blocks,
            manifest,
            severed,
            integrated,
        })
    }

    /// The alleged digest of the manifest.
    #[must_use]
    pub const fn digest(&self) -> &SuitDigest {
        &self.digest
    }

    /// The detached payload of every authentication block: the encoded SUIT_Digest as it came.
    #[must_use]
    pub fn signed_payload(&self) -> &[u8] {
        &self.digest_bytes
    }

    /// The signatures and MACs.
    #[must_use]
    pub fn auth_blocks(&self) -> &[AuthBlock] {
        &self.auth_blocks
    }

    /// The bytes that the digest is about: the manifest's byte string *with its header*.
    ///
    /// # Errors
    /// Only if memory is not enough.
    pub fn digest_input(&self) -> Result<Vec<u8>, SuitError> {
        bstr(&self.manifest)
    }

    /// Reads the manifest without checking anything: for tools that show envelopes to people.
    ///
    /// # Errors
    /// `SuitError` if the manifest is malformed.
    pub fn dangerous_unverified_manifest(&self) -> Result<Manifest, SuitError> {
        Manifest::decode(&self.manifest)
    }

    /// Checks the manifest against its digest and severed members against theirs, and opens them.
    ///
    /// Whether the digest itself is authentic is for the caller to have verified.
    ///
    /// # Errors
    /// `SuitError` if a digest does not match or is not SHA-256, or if the manifest is malformed.
    pub fn check_digests(
        self,
        sha256: impl Fn(&[u8]) -> [u8; 32],
    ) -> Result<CheckedEnvelope, SuitError> {
        check(&self.digest, &self.manifest, "the manifest", &sha256)?;
        let mut manifest = Manifest::decode(&self.manifest)?;
        for (label, bytes) in self.severed {
            let not_severed = SuitError::NotSevered { label };
            let section = Section::ALL
                .into_iter()
                .find(|section| section.label() == label);
            if let Some(section) = section {
                let member = manifest.sections.get_mut(&section).ok_or(not_severed)?;
                let Severable::Severed(digest) = member else {
                    return Err(SuitError::NotSevered { label });
                };
                check(digest, &bytes, "a severed command sequence", &sha256)?;
                *member = Severable::Here(Sequence::decode(&bytes)?);
            } else {
                let member = if label == 23 {
                    &mut manifest.text
                } else {
                    &mut manifest.coswid
                };
                let Some(Severable::Severed(digest)) = member else {
                    return Err(not_severed);
                };
                check(digest, &bytes, "a severed member", &sha256)?;
                *member = Some(Severable::Here(bytes));
            }
        }
        Ok(CheckedEnvelope {
            digest: self.digest,
            manifest,
            integrated: self.integrated,
        })
    }
}

/// An envelope whose contents fit the digest that its signatures cover.
///
/// Integrated payloads are *not* covered: commands of the manifest check them.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct CheckedEnvelope {
    digest: SuitDigest,
    manifest: Manifest,
    integrated: Vec<(String, Vec<u8>)>,
}

impl CheckedEnvelope {
    /// The digest of the manifest: it names this manifest in dependents and reports.
    #[must_use]
    pub const fn digest(&self) -> &SuitDigest {
        &self.digest
    }

    /// The manifest, with severed members put back that the envelope had.
    #[must_use]
    pub const fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The integrated payload or dependency with this name (its URI in the manifest).
    #[must_use]
    pub fn integrated(&self, name: &str) -> Option<&[u8]> {
        self.integrated
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, bytes)| bytes.as_slice())
    }

    /// Names of what is integrated.
    pub fn integrated_names(&self) -> impl Iterator<Item = &str> {
        self.integrated.iter().map(|(name, _)| name.as_str())
    }

    /// Takes it apart: digest, manifest, integrated payloads by name.
    #[must_use]
    pub fn into_parts(self) -> (SuitDigest, Manifest, Vec<(String, Vec<u8>)>) {
        (self.digest, self.manifest, self.integrated)
    }
}

/// `bytes` as a CBOR byte string, header and all.
pub(super) fn bstr(bytes: &[u8]) -> Result<Vec<u8>, SuitError> {
    Ok(cbor::encode(&Value::Bytes(bytes.to_vec()))?)
}

fn check(
    digest: &SuitDigest,
    content: &[u8],
    what: &'static str,
    sha256: impl Fn(&[u8]) -> [u8; 32],
) -> Result<(), SuitError> {
    if digest.to_sha256()?.0 == sha256(&bstr(content)?) {
        Ok(())
    } else {
        Err(SuitError::DigestMismatch { what })
    }
}

fn authentication(bytes: &[u8]) -> Result<(SuitDigest, Vec<u8>, Vec<AuthBlock>), SuitError> {
    let value = cbor::decode_limited(bytes, CBOR_LIMITS)?;
    let items = cbor::into_array(value, "SUIT_Authentication", 1, 1 + MAX_AUTH_BLOCKS)?;
    let mut items = items.into_iter();
    let digest = items.next().ok_or(SuitError::Invalid {
        what: "SUIT_Authentication",
    })?;
    let digest_bytes = cbor::into_bytes(digest, "SUIT_Digest")?;
    let digest = SuitDigest::decode(&digest_bytes)?;
    let blocks = items
        .map(|item| {
            let bytes = cbor::into_bytes(item, "SUIT_Authentication_Block")?;
            match cbor::decode_limited(&bytes, CBOR_LIMITS)? {
                Value::Tag(18, _) => Ok(AuthBlock::Sign1(bytes)),
                Value::Tag(tag @ (17 | 97 | 98), _) => Ok(AuthBlock::Other { tag, bytes }),
                _ => Err(SuitError::Invalid {
                    what: "SUIT_Authentication_Block",
                }),
            }
        })
        .collect::<Result<_, SuitError>>()?;
    Ok((digest, digest_bytes, blocks))
}
