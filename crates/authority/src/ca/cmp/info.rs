//! genm: what a client may ask about the CA, and the answers.
//!
//! Spec: RFC 9810 section 5.3.19, RFC 9483 section 4.3.

use der::{Encode as _, Sequence};
use tegata_crypto::KeyAlg;
use tegata_wire::cmp::{
    CrlStatus, InfoTypeAndValue, MAX_MESSAGE_BYTES, cert_req_template, oid, sequence_of,
};
use tegata_wire::enrolment::{CertificateOrder, Identity};
use tegata_wire::x509::RawDer;

use super::denial::CmpDenial;
use crate::ca::issue::{ExpectedNames, requested_extensions};
use crate::profile::Profile;

/// RootCaKeyUpdateContent. Spec: RFC 9810 section 5.3.19.15.
#[derive(Debug, Clone, PartialEq, Eq, Sequence)]
struct RootCaKeyUpdate {
    new_with_new: RawDer,
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT", optional = "true")]
    new_with_old: Option<RawDer>,
    #[asn1(context_specific = "1", tag_mode = "EXPLICIT", optional = "true")]
    old_with_new: Option<RawDer>,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum InfoAsked {
    /// Nothing: whether the CA answers at all.
    Nothing,
    /// Certificates of CAs below the root.
    CaCerts,
    /// The root after this one (DER), or after whichever.
    RootUpdate(Option<Vec<u8>>),
    /// What a request should say.
    Template,
    /// Lists that are newer than these.
    Crls(Vec<CrlStatus>),
    /// The whole list.
    CurrentCrl,
}

impl InfoAsked {
    /// Reads the one question of a genm.
    ///
    /// # Errors
    /// `Info` for several at once, or one that is not known here.
    pub fn read(items: &[InfoTypeAndValue]) -> Result<Self, CmpDenial> {
        let item = match items {
            [] => return Ok(Self::Nothing),
            [item] => item,
            _ => return Err(CmpDenial::Info("several questions at once")),
        };
        match item.info_type {
            oid::IT_CA_CERTS => Ok(Self::CaCerts),
            oid::IT_ROOT_CA_CERT => {
                let root = item.info_value.as_ref();
                Ok(Self::RootUpdate(root.map(|der| der.as_bytes().to_vec())))
            }
            oid::IT_CERT_REQ_TEMPLATE => Ok(Self::Template),
            oid::IT_CURRENT_CRL => Ok(Self::CurrentCrl),
            oid::IT_CRL_STATUS_LIST => {
                let value = item.info_value.as_ref();
                let value = value.ok_or(CmpDenial::Info("a crlStatusList without a value"))?;
                let list = CrlStatus::read_list(value).map_err(CmpDenial::Malformed)?;
                Ok(Self::Crls(list))
            }
            _ => Err(CmpDenial::Info("a question that is not known")),
        }
    }
}

/// The answer to `CaCerts`.
///
/// # Errors
/// `Failed` if it cannot be encoded; so for all below.
pub fn ca_certs(certs: &[&[u8]]) -> Result<Vec<InfoTypeAndValue>, CmpDenial> {
    let value = sequence_of(certs).map_err(|_| CmpDenial::Failed("caCerts"))?;
    Ok(item(oid::IT_CA_CERTS, Some(value)))
}

/// The answer to `RootUpdate`: the new root, and what links it to the one before, as far as there are
/// links (DER each).
///
/// # Errors
/// As [`ca_certs`].
pub fn root_update(
    new_with_new: &[u8],
    new_with_old: Option<&[u8]>,
    old_with_new: Option<&[u8]>,
) -> Result<Vec<InfoTypeAndValue>, CmpDenial> {
    let failed = |_: der::Error| CmpDenial::Failed("rootCaKeyUpdate");
    let raw = |der: Option<&[u8]>| der.map(RawDer::from_bytes).transpose().map_err(failed);
    let update = RootCaKeyUpdate {
        new_with_new: RawDer::from_bytes(new_with_new).map_err(failed)?,
        new_with_old: raw(new_with_old)?,
        old_with_new: raw(old_with_new)?,
    };
    let value = update.to_der().and_then(|der| RawDer::from_bytes(&der));
    let value = value.map_err(failed)?;
    Ok(item(oid::IT_ROOT_CA_KEY_UPDATE, Some(value)))
}

/// The answer to `RootUpdate` where there is no new root.
#[must_use]
pub fn no_new_root() -> Vec<InfoTypeAndValue> {
    item(oid::IT_ROOT_CA_KEY_UPDATE, None)
}

/// The answer to `Crls`: lists that are newer than what the client has; none if there is none.
///
/// # Errors
/// As [`ca_certs`]; `ListsTooLong` before anything is put together: anybody may ask.
pub fn crls(lists: &[&[u8]]) -> Result<Vec<InfoTypeAndValue>, CmpDenial> {
    check_room(lists)?;
    let value = match lists {
        [] => None,
        lists => Some(sequence_of(lists).map_err(|_| CmpDenial::Failed("crls"))?),
    };
    Ok(item(oid::IT_CRLS, value))
}

/// The answer to `CurrentCrl`.
///
/// # Errors
/// As [`crls`].
pub fn current_crl(list: &[u8]) -> Result<Vec<InfoTypeAndValue>, CmpDenial> {
    check_room(&[list])?;
    let value = RawDer::from_bytes(list).map_err(|_| CmpDenial::Failed("currentCRL"))?;
    Ok(item(oid::IT_CURRENT_CRL, Some(value)))
}

/// Whether an answer has room for these lists.
fn check_room(lists: &[&[u8]]) -> Result<(), CmpDenial> {
    let got = lists.iter().map(|list| list.len()).sum();
    match got <= LISTS_BYTES_MAX {
        true => Ok(()),
        false => Err(CmpDenial::ListsTooLong {
            got,
            max: LISTS_BYTES_MAX,
        }),
    }
}

/// The answer to `Template`: what a request of this device for this profile should say. Without a
/// device nothing can be said of names, so there is no value: the CA fills them in.
///
/// # Errors
/// As [`ca_certs`]; `Issue` if the profile cannot name the device.
pub fn template(
    profile: &Profile,
    order: &CertificateOrder,
    identity: Option<&Identity>,
) -> Result<Vec<InfoTypeAndValue>, CmpDenial> {
    let Some(identity) = identity else {
        return Ok(item(oid::IT_CERT_REQ_TEMPLATE, None));
    };
    let failed = |_| CmpDenial::Failed("certReqTemplate");
    let names = ExpectedNames::of(order, identity).map_err(CmpDenial::Issue)?;
    let extensions = requested_extensions(&names, profile).map_err(CmpDenial::Issue)?;
    let keys: Vec<Vec<u8>> = profile.key_algs.iter().filter_map(key_spec).collect();
    let value = cert_req_template(&names.subject, extensions.as_slice(), &keys);
    Ok(item(
        oid::IT_CERT_REQ_TEMPLATE,
        Some(value.map_err(failed)?),
    ))
}

/// AlgorithmIdentifier of a kind of key (DER). Spec: RFC 5480 section 2.1.1, RFC 8410 section 3.
fn key_spec(alg: &KeyAlg) -> Option<Vec<u8>> {
    match alg {
        KeyAlg::P256 => hex::decode("301306072a8648ce3d020106082a8648ce3d030107").ok(),
        KeyAlg::P384 => hex::decode("301006072a8648ce3d020106052b81040022").ok(),
        KeyAlg::Ed25519 => hex::decode("300506032b6570").ok(),
        _ => None,
    }
}

fn item(
    info_type: der::asn1::ObjectIdentifier,
    info_value: Option<RawDer>,
) -> Vec<InfoTypeAndValue> {
    vec![InfoTypeAndValue {
        info_type,
        info_value,
    }]
}

/// What a message has room for beside its header, its protection and the issuer's certificate.
const LISTS_BYTES_MAX: usize = MAX_MESSAGE_BYTES - 16 * 1024;
