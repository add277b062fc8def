//! The procedure and the personalization data, decoded without floating point.
//!
//! `tegata_wire` decodes both too, with an engine that knows CBOR's floating-point numbers; Wasm
//! that mentions those does not load in this TEE. The format is docs/spec/procedure.md and
//! personalization.md. Both components are authentic: the CA signed the manifest that names their
//! digests. What is checked here is that this TA understands them.

use alloc::string::String;
use alloc::vec::Vec;

use der::asn1::ObjectIdentifier;
use minicbor::Decoder;
use tegata_wire::enrolment::{
    ConfirmMode, IdentityAttribute, KeyKind, Procedure, ProtocolProfile, SanTemplate, Template,
};
use tegata_wire::x509::AttributeSpec;
use zeroize::Zeroizing;

/// Most entries of any list in a procedure.
const LIST_MAX: u64 = 16;

/// What the config component holds; wiped when dropped.
pub struct Personalization {
    /// The `CsrAuthKey`.
    pub csr_auth_key: Zeroizing<[u8; 32]>,
    /// First 16 bytes of the release digest, and the UEID unless it is for all devices.
    kid: Vec<u8>,
}

impl Personalization {
    /// Decodes the config component.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut d = Decoder::new(bytes);
        if d.map().ok()?? != 2 || d.u8().ok()? != 1 {
            return None;
        }
        let csr_auth_key = Zeroizing::new(<[u8; 32]>::try_from(d.bytes().ok()?).ok()?);
        if d.u8().ok()? != 2 {
            return None;
        }
        let kid = d.bytes().ok()?.to_vec();
        (d.position() == bytes.len() && kid.len() >= 16).then_some(Self { csr_auth_key, kid })
    }

    /// The senderKID of `ueid`; `None` if the data is another device's.
    #[must_use]
    pub fn sender_kid(&self, ueid: &[u8]) -> Option<Vec<u8>> {
        let (release, device) = self.kid.split_at_checked(16)?;
        if !device.is_empty() && device != ueid {
            return None;
        }
        Some([release, ueid].concat())
    }
}

fn list<'b, T>(
    d: &mut Decoder<'b>,
    mut item: impl FnMut(&mut Decoder<'b>) -> Option<T>,
) -> Option<Vec<T>> {
    let len = d.array().ok()??;
    if len > LIST_MAX {
        return None;
    }
    (0..len).map(|_| item(d)).collect()
}

fn text(d: &mut Decoder<'_>) -> Option<String> {
    d.str().ok().map(String::from)
}

fn template(d: &mut Decoder<'_>) -> Option<Template> {
    Template::new(d.str().ok()?).ok()
}

fn oid(d: &mut Decoder<'_>) -> Option<ObjectIdentifier> {
    ObjectIdentifier::from_bytes(d.bytes().ok()?).ok()
}

fn subject_entry(d: &mut Decoder<'_>) -> Option<(&'static AttributeSpec, Template)> {
    if d.array().ok()?? != 2 {
        return None;
    }
    Some((AttributeSpec::by_name(d.str().ok()?)?, template(d)?))
}

fn san_entry(d: &mut Decoder<'_>) -> Option<SanTemplate> {
    let len = d.array().ok()??;
    let (kind, template) = (d.u8().ok()?, template(d)?);
    let extra = if len == 3 { Some(oid(d)?) } else { None };
    match (kind, extra, len) {
        (0, None, 2) => Some(SanTemplate::Dns(template)),
        (1, None, 2) => Some(SanTemplate::Uri(template)),
        (2, Some(hw_type), 3) => Some(SanTemplate::HardwareModule {
            hw_type,
            serial: template,
        }),
        (3, assigner, 2 | 3) => Some(SanTemplate::PermanentIdentifier {
            value: template,
            assigner,
        }),
        _ => None,
    }
}

/// Decodes a procedure of version 1; an unknown label makes it `None`, as does a missing one.
#[must_use]
pub fn procedure(bytes: &[u8]) -> Option<Procedure> {
    let mut d = Decoder::new(bytes);
    let entries = d.map().ok()??;
    let expect = |d: &mut Decoder<'_>, label: u8| (d.u8().ok()? == label).then_some(());
    expect(&mut d, 1)?;
    if d.u8().ok()? != 1 {
        return None;
    }
    expect(&mut d, 2)?;
    let release_name = text(&mut d)?;
    expect(&mut d, 3)?;
    let profile = text(&mut d)?;
    expect(&mut d, 4)?;
    let protocol_profile = match d.u8().ok()? {
        0 => ProtocolProfile::Default,
        1 => ProtocolProfile::Paper,
        _ => return None,
    };
    expect(&mut d, 5)?;
    let key_kind = KeyKind::from_cose_alg(d.i64().ok()?)?;
    expect(&mut d, 6)?;
    let subject = list(&mut d, subject_entry)?;
    expect(&mut d, 7)?;
    let san = list(&mut d, san_entry)?;
    expect(&mut d, 8)?;
    let required = list(&mut d, |d| {
        let number = d.u8().ok()?;
        IdentityAttribute::ALL
            .into_iter()
            .find(|attribute| attribute.number() == number)
    })?;
    expect(&mut d, 9)?;
    let key_usage = d.u16().ok()?;
    expect(&mut d, 10)?;
    let ext_key_usage = list(&mut d, oid)?;
    let validity_secs = if entries == 15 {
        expect(&mut d, 11)?;
        Some(d.u64().ok()?)
    } else if entries == 14 {
        None
    } else {
        return None;
    };
    expect(&mut d, 12)?;
    let renewal_window_secs = d.u64().ok()?;
    expect(&mut d, 13)?;
    let trust_anchors = list(&mut d, |d| Some(d.bytes().ok()?.to_vec()))?;
    expect(&mut d, 14)?;
    let cmp_path = text(&mut d)?;
    expect(&mut d, 15)?;
    let confirm_mode = match d.u8().ok()? {
        0 => ConfirmMode::Explicit,
        1 => ConfirmMode::Implicit,
        _ => return None,
    };
    let whole = d.position() == bytes.len();
    // Without an anchor nothing could ever be checked, without a name nothing be identified.
    let usable = !trust_anchors.is_empty() && !(subject.is_empty() && san.is_empty());
    (whole && usable && key_usage != 0).then_some(Procedure {
        release_name,
        profile,
        protocol_profile,
        key_kind,
        subject,
        san,
        required,
        key_usage,
        ext_key_usage,
        validity_secs,
        renewal_window_secs,
        trust_anchors,
        cmp_path,
        confirm_mode,
    })
}
