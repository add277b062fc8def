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
    CertificateOrder, ConfirmMode, IdentityAttribute, KeyKind, Procedure, ProtocolProfile,
    SanTemplate, Template,
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

/// The labels that each kind of certificate has.
const ORDER_LABELS: [u8; 11] = [3, 5, 6, 7, 8, 9, 10, 11, 12, 14, 15];
/// Most kinds of certificate.
const CERTIFICATES_MAX: usize = 8;

/// A kind of certificate whose entries are still coming.
#[derive(Default)]
struct Order {
    profile: Option<String>,
    key_kind: Option<KeyKind>,
    subject: Option<Vec<(&'static AttributeSpec, Template)>>,
    san: Option<Vec<SanTemplate>>,
    required: Option<Vec<IdentityAttribute>>,
    key_usage: Option<u16>,
    ext_key_usage: Option<Vec<ObjectIdentifier>>,
    validity_secs: Option<u64>,
    renewal_window_secs: Option<u64>,
    cmp_path: Option<String>,
    confirm_mode: Option<ConfirmMode>,
}

impl Order {
    /// Takes the entry of that label, one of [`ORDER_LABELS`].
    fn entry(&mut self, label: u8, d: &mut Decoder<'_>) -> Option<()> {
        match label {
            3 => self.profile = Some(text(d)?),
            5 => self.key_kind = Some(KeyKind::from_cose_alg(d.i64().ok()?)?),
            6 => self.subject = Some(list(d, subject_entry)?),
            7 => self.san = Some(list(d, san_entry)?),
            8 => {
                self.required = Some(list(d, |d| {
                    let number = d.u8().ok()?;
                    IdentityAttribute::ALL
                        .into_iter()
                        .find(|attribute| attribute.number() == number)
                })?);
            }
            9 => self.key_usage = Some(d.u16().ok()?),
            10 => self.ext_key_usage = Some(list(d, oid)?),
            11 => self.validity_secs = Some(d.u64().ok()?),
            12 => self.renewal_window_secs = Some(d.u64().ok()?),
            14 => self.cmp_path = Some(text(d)?),
            15 => {
                self.confirm_mode = Some(match d.u8().ok()? {
                    0 => ConfirmMode::Explicit,
                    1 => ConfirmMode::Implicit,
                    _ => return None,
                });
            }
            _ => return None,
        }
        Some(())
    }

    /// The kind, if nothing is missing but perhaps the validity.
    fn whole(self) -> Option<CertificateOrder> {
        let order = CertificateOrder {
            profile: self.profile?,
            key_kind: self.key_kind?,
            subject: self.subject?,
            san: self.san?,
            required: self.required?,
            key_usage: self.key_usage?,
            ext_key_usage: self.ext_key_usage?,
            validity_secs: self.validity_secs,
            renewal_window_secs: self.renewal_window_secs?,
            cmp_path: self.cmp_path?,
            confirm_mode: self.confirm_mode?,
        };
        // Without a name nothing would be identified.
        let named = !(order.subject.is_empty() && order.san.is_empty());
        (named && order.key_usage != 0).then_some(order)
    }
}

/// The entries of a map, in ascending order of their labels.
fn entries<'b>(
    d: &mut Decoder<'b>,
    mut entry: impl FnMut(u8, &mut Decoder<'b>) -> Option<()>,
) -> Option<()> {
    let mut last = None;
    for _ in 0..d.map().ok()?? {
        let label = d.u8().ok()?;
        if last.is_some_and(|last| label <= last) {
            return None;
        }
        last = Some(label);
        entry(label, d)?;
    }
    Some(())
}

/// Decodes a procedure of version 1; an unknown label makes it `None`, as does a missing one.
#[must_use]
pub fn procedure(bytes: &[u8]) -> Option<Procedure> {
    let mut d = Decoder::new(bytes);
    let (mut version, mut release_name, mut protocol_profile) = (None, None, None);
    let (mut trust_anchors, mut further) = (None, Vec::new());
    let mut first = Order::default();
    entries(&mut d, |label, d| {
        match label {
            1 => version = Some(d.u8().ok()?),
            2 => release_name = Some(text(d)?),
            4 => {
                protocol_profile = Some(match d.u8().ok()? {
                    0 => ProtocolProfile::Default,
                    1 => ProtocolProfile::Paper,
                    _ => return None,
                });
            }
            13 => trust_anchors = Some(list(d, |d| Some(d.bytes().ok()?.to_vec()))?),
            16 => {
                further = list(d, |d| {
                    let mut order = Order::default();
                    entries(d, |label, d| order.entry(label, d))?;
                    order.whole()
                })?;
            }
            label if ORDER_LABELS.contains(&label) => first.entry(label, d)?,
            _ => return None,
        }
        Some(())
    })?;
    let trust_anchors = trust_anchors?;
    let mut certificates = Vec::from([first.whole()?]);
    certificates.append(&mut further);
    let mut names = certificates.iter().enumerate();
    let once = names.all(|(at, order)| {
        let mut others = certificates.iter().skip(at + 1);
        others.all(|other| other.profile != order.profile)
    });
    // Without an anchor nothing could ever be checked.
    let usable = version == Some(1)
        && d.position() == bytes.len()
        && !trust_anchors.is_empty()
        && once
        && certificates.len() <= CERTIFICATES_MAX;
    usable.then_some(Procedure {
        release_name: release_name?,
        protocol_profile: protocol_profile?,
        certificates,
        trust_anchors,
    })
}
