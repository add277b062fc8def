//! General messages: what is asked, and what is answered.
//!
//! Spec: RFC 9810 section 5.3.19, RFC 9483 section 4.3.

use super::{
    BodyKind, CertTemplate, CmpError, InfoTypeAndValue, MAX_ENTRIES, MAX_INFO_VALUES, RawBody,
    RegInfo, oid,
};
use crate::x509::{DistinguishedName, Extension, List, RawDer, walk::wrap};
use alloc::{string::String, vec::Vec};
use der::{Choice, Decode, Encode, Sequence, Tag};
use x509_cert::{
    ext::pkix::name::{DistributionPointName, GeneralName},
    time::Time,
};

impl RawBody {
    /// The items of genm or genp.
    ///
    /// # Errors
    /// If the body is of another kind or malformed.
    pub fn infos(&self) -> Result<Vec<InfoTypeAndValue>, CmpError> {
        match self.kind {
            BodyKind::Genm | BodyKind::Genp => {
                let list: List<InfoTypeAndValue, MAX_INFO_VALUES> = self.content.decode_as()?;
                Ok(list.into_vec())
            }
            got => Err(CmpError::BodyKind {
                expected: BodyKind::Genm,
                got,
            }),
        }
    }

    /// A genp body.
    ///
    /// # Errors
    /// If there are too many items.
    pub fn genp(items: Vec<InfoTypeAndValue>) -> Result<Self, CmpError> {
        let list: List<_, MAX_INFO_VALUES> = List::new(items)?;
        Self::new(BodyKind::Genp, &list)
    }
}

/// What a client has of a revocation list: CRLStatus.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CrlStatus {
    /// Where it has it from: URLs of the distribution point; empty if it names the issuer alone.
    pub urls: Vec<String>,
    /// Who signs it, if it names that one: DER of a directoryName.
    pub issuer: Option<Vec<u8>>,
    /// thisUpdate of the list it has, seconds since 1970; `None` if it has none.
    pub this_update_secs: Option<u64>,
}

/// CRLStatus on the wire.
#[derive(Sequence)]
struct CrlStatusSeq {
    /// source.
    source: CrlSource,
    /// thisUpdate.
    this_update: Option<Time>,
}

/// CRLSource.
#[derive(Choice)]
enum CrlSource {
    /// dpn.
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", constructed = "true")]
    DistributionPoint(RawDer),
    /// issuer.
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", constructed = "true")]
    Issuer(RawDer),
}

impl CrlStatus {
    /// Reads the value of crlStatusList.
    ///
    /// # Errors
    /// If it is not one, or has more than [`MAX_ENTRIES`] entries.
    pub fn read_list(value: &RawDer) -> Result<Vec<Self>, CmpError> {
        let list: List<CrlStatusSeq, MAX_ENTRIES> = value.decode_as()?;
        list.into_vec()
            .into_iter()
            .map(|entry| {
                let (urls, issuer) = match &entry.source {
                    CrlSource::DistributionPoint(raw) => (urls(raw)?, None),
                    CrlSource::Issuer(raw) => (Vec::new(), directory_name(raw)?),
                };
                let this_update = entry.this_update.map(|t| t.to_unix_duration().as_secs());
                Ok(Self {
                    urls,
                    issuer,
                    this_update_secs: this_update,
                })
            })
            .collect()
    }
}

/// The URLs of a DistributionPointName.
fn urls(raw: &RawDer) -> Result<Vec<String>, CmpError> {
    let DistributionPointName::FullName(names) = DistributionPointName::from_der(raw.as_bytes())?
    else {
        return Ok(Vec::new());
    };
    let urls = names.into_iter().filter_map(|name| match name {
        GeneralName::UniformResourceIdentifier(url) => Some(String::from(url.as_str())),
        _ => None,
    });
    Ok(urls.take(MAX_ENTRIES).collect())
}

/// The first directoryName of GeneralNames, DER.
fn directory_name(raw: &RawDer) -> Result<Option<Vec<u8>>, CmpError> {
    let names: List<GeneralName, MAX_ENTRIES> = raw.decode_as()?;
    let mut names = names.into_vec().into_iter();
    let name = names.find_map(|name| match name {
        GeneralName::DirectoryName(name) => Some(name),
        _ => None,
    });
    Ok(name.map(|name| name.to_der()).transpose()?)
}

/// The value of certReqTemplate: names and extensions that a request should have, and the keys (DER
/// of their AlgorithmIdentifier) that it may be for.
///
/// # Errors
/// If a part cannot be encoded.
///
/// Spec: RFC 9810 section 5.3.19.16.
pub fn cert_req_template(
    subject: &DistinguishedName,
    extensions: &[Extension],
    keys: &[Vec<u8>],
) -> Result<RawDer, CmpError> {
    let extensions = extensions
        .iter()
        .map(Extension::to_x509)
        .collect::<der::Result<Vec<_>>>()?;
    let template = CertTemplate {
        subject: Some(Decode::from_der(subject.as_der())?),
        extensions: Some(List::new(extensions)?),
        ..CertTemplate::default()
    };
    let keys = keys
        .iter()
        .map(|alg| {
            Ok(RegInfo {
                oid: oid::REG_CTRL_ALG_ID,
                value: RawDer::from_bytes(alg)?,
            })
        })
        .collect::<der::Result<Vec<_>>>()?;
    let keys: List<RegInfo, MAX_ENTRIES> = List::new(keys)?;
    let parts = [template.to_der()?, keys.to_der()?].concat();
    Ok(RawDer::from_bytes(&wrap(Tag::Sequence, &parts)?)?)
}

/// A SEQUENCE OF the elements, each whole DER: the value of caCerts and of crls.
///
/// # Errors
/// If it would be too long.
pub fn sequence_of(elements: &[&[u8]]) -> Result<RawDer, CmpError> {
    let whole = wrap(Tag::Sequence, &elements.concat())?;
    Ok(RawDer::from_bytes(&whole)?)
}
