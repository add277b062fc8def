//! What a request asks for, in whichever form it came: PKCS#10 or CRMF.

use der::Encode as _;
use tegata_crypto::crmf::verify_crmf;
use tegata_crypto::csr::verify_alleged_csr;
use tegata_crypto::{Provider, PublicKey};
use tegata_wire::cmp::{BodyKind, CertId, CertRequest, CertTemplate, oid as cmp_oid};
use tegata_wire::ids::Ueid;
use tegata_wire::x509::{
    AllegedCsr, AttributeValue, DistinguishedName, Extension, ExtensionSet, oid,
};

use super::{Against, ExpectedNames, Follows, IssueDenied};
use crate::ca::cmp::{AskedCertificate, RequestBody};
use crate::ca::means::Means;

/// A request whose proof of possession was verified.
pub(super) struct Asked {
    /// SHA-256 of the PKCS#10 request, or of the CertRequest: two proofs of possession for one
    /// CertRequest differ, what they ask for does not.
    pub(super) digest: [u8; 32],
    /// The key whose possession is proved.
    pub(super) public_key: PublicKey,
    /// DER of the subject; `None` if it is left to the CA.
    subject: Option<Vec<u8>>,
    extensions: Vec<Extension>,
    /// The certificate that a kur is to replace, or a p10cr is in place of.
    old: Option<CertId>,
    kind: BodyKind,
}

impl Asked {
    /// `appraised`: whether the attestation that a PKCS#10 request may have was looked at.
    pub(super) fn read(
        provider: &dyn Provider,
        body: RequestBody,
        issuers: &[&[DistinguishedName]],
        appraised: bool,
    ) -> Result<Self, IssueDenied> {
        match body {
            RequestBody::P10cr(csr) => Self::from_csr(provider, *csr, appraised),
            RequestBody::Crmf(asked) => Self::from_crmf(provider, &asked, issuers),
            _ => Err(IssueDenied::Template("no certification request")),
        }
    }

    fn from_csr(
        provider: &dyn Provider,
        csr: AllegedCsr,
        appraised: bool,
    ) -> Result<Self, IssueDenied> {
        let proven = verify_alleged_csr(provider, csr).map_err(IssueDenied::Csr)?;
        let (request, public_key) = proven.into_parts();
        let known = |oid| match oid {
            oid::EXTENSION_REQUEST | oid::REG_CTRL_OLD_CERT_ID => true,
            oid::ATTESTATION => appraised,
            _ => false,
        };
        if request.attributes.iter().any(|a| !known(a.oid)) {
            return Err(IssueDenied::Attribute);
        }
        Ok(Self {
            digest: provider.sha256(request.as_der()),
            public_key,
            old: CertId::of_request(&request).map_err(|_| IssueDenied::Attribute)?,
            subject: (!request.subject.is_empty()).then(|| request.subject.as_der().to_vec()),
            extensions: request.extensions.into_vec(),
            kind: BodyKind::P10cr,
        })
    }

    fn from_crmf(
        provider: &dyn Provider,
        asked: &AskedCertificate,
        issuers: &[&[DistinguishedName]],
    ) -> Result<Self, IssueDenied> {
        let proven = verify_crmf(provider, &asked.message).map_err(IssueDenied::Crmf)?;
        let CertRequest {
            cert_template: template,
            controls,
            ..
        } = proven.request();
        check_template(template, issuers)?;
        let known = [cmp_oid::REG_CTRL_OLD_CERT_ID, cmp_oid::REG_CTRL_REG_TOKEN];
        let mut controls = controls.iter().flat_map(|list| list.iter());
        if controls.any(|control| !known.contains(&control.oid)) {
            return Err(IssueDenied::Template("a control that is not known"));
        }
        let subject = template.subject.as_ref().map(|name| name.to_der());
        let subject = subject.transpose().map_err(malformed)?;
        let extensions = template.extensions.iter().flat_map(|list| list.iter());
        Ok(Self {
            digest: provider.sha256(asked.message.cert_req.as_bytes()),
            public_key: proven.public_key().clone(),
            subject: subject.and_then(given),
            extensions: extensions
                .map(|e| Extension {
                    oid: e.extn_id,
                    critical: e.critical,
                    value: e.extn_value.as_bytes().to_vec(),
                })
                .collect(),
            old: asked.old.clone(),
            kind: asked.kind,
        })
    }

    /// Names exactly those of the device, or left to the CA; usages only as the profile gives them;
    /// nothing else.
    ///
    /// A TA was told what to ask for: if it asks for less, it is another than we think. `given` is what the
    /// profile gives: where status will be found is the CA's to say, and no request can ask for it.
    pub(super) fn check_names(
        &self,
        names: &ExpectedNames,
        given: &ExtensionSet,
        all: bool,
    ) -> Result<(), IssueDenied> {
        let fits = match &self.subject {
            Some(subject) if all => subject == names.subject.as_der(),
            Some(subject) => reads_the_same(subject, &names.subject),
            None => !all || names.subject.is_empty(),
        };
        if !fits {
            return Err(IssueDenied::Subject);
        }
        let san = &oid::SUBJECT_ALT_NAME;
        let asked = self.extensions.iter().find(|e| e.oid == *san);
        let expected = given.find(san).map(|e| &e.value);
        if asked.map(|e| &e.value) != expected && (all || asked.is_some()) {
            return Err(IssueDenied::AltNames);
        }
        for extension in &self.extensions {
            if given.find(&extension.oid).map(|e| &e.value) != Some(&extension.value) {
                return Err(IssueDenied::Extension(extension.oid));
            }
        }
        Ok(())
    }

    /// The certificate that the new one is to follow: of this device and profile, and the one that
    /// signed the request, if one did. A TA whose kur was refused names it in its p10cr; one that the
    /// CA does not have any more stands in nobody's way.
    ///
    /// Spec: RFC 9483 section 4.1.3.
    pub(super) fn check_old(
        &self,
        ueid: &Ueid,
        means: &Means,
        against: &Against<'_, '_>,
    ) -> Result<Follows, IssueDenied> {
        let denied = IssueDenied::OldCertificate;
        let in_place = self.kind == BodyKind::P10cr && matches!(means, Means::Ta(_));
        let id = match (self.kind, &self.old) {
            (BodyKind::Kur, None) => return Err(denied("a key update needs it")),
            (_, None) => return Ok(Follows::None),
            (BodyKind::Kur, Some(id)) => id,
            (_, Some(_)) if in_place && against.old.is_none() => return Ok(Follows::None),
            (_, Some(id)) if in_place => id,
            (_, Some(_)) => return Err(denied("only a key update has one")),
        };
        let old = against.old.ok_or(denied("no such certificate"))?;
        let view = old.view().map_err(IssueDenied::Build)?;
        if id.serial() != view.serial || id.issuer_der().as_deref() != Some(view.issuer_der) {
            return Err(denied("no such certificate"));
        }
        if old.ueid != *ueid {
            return Err(denied("it is another device's"));
        }
        if old.profile != against.profile.name {
            return Err(denied("it is of another profile"));
        }
        match means {
            Means::Certificate(holder) if holder.serial != view.serial => {
                Err(denied("it is not the certificate that signed the request"))
            }
            // Whoever enrols a device by a secret has no say over what it has.
            Means::Secret(_) => Err(denied("an enrolment secret updates none")),
            Means::Evidence(_) => Err(denied("evidence updates none")),
            Means::Maker(_) => Err(denied("a maker's certificate updates none")),
            _ if in_place => Ok(Follows::InPlace(view.serial.to_vec())),
            Means::Certificate(_) | Means::Ta(_) => Ok(Follows::Update(view.serial.to_vec())),
        }
    }
}

/// Refuses what a template may not say. What it says of the lifetime is passed over: that is the
/// CA's alone.
///
/// Spec: RFC 4211 section 5.
fn check_template(
    template: &CertTemplate,
    issuers: &[&[DistinguishedName]],
) -> Result<(), IssueDenied> {
    let none = |there: bool, what| match there {
        true => Err(IssueDenied::Template(what)),
        false => Ok(()),
    };
    none(template.serial_number.is_some(), "a serial number")?;
    none(template.signing_alg.is_some(), "a signature algorithm")?;
    none(template.issuer_uid.is_some(), "an issuer's unique id")?;
    none(template.subject_uid.is_some(), "a subject's unique id")?;
    none(template.version.is_some_and(|v| v != V3), "another version")?;
    let named = template.issuer.as_ref().map(|name| name.to_der());
    if let Some(named) = named.transpose().map_err(malformed)? {
        let mut taken = issuers.iter().copied().flatten();
        let fits = taken.any(|name| name.as_der() == named) || given(named).is_none();
        none(!fits, "another issuer")?;
    }
    Ok(())
}

/// Whether a name has the same attributes with the same texts, whichever string types they are in:
/// programs that people use have their own preference. What is issued has the CA's.
fn reads_the_same(asked: &[u8], name: &DistinguishedName) -> bool {
    let Ok(asked) = DistinguishedName::from_der(asked) else {
        return false;
    };
    let (Ok(asked), Ok(name)) = (asked.attributes(), name.attributes()) else {
        return false;
    };
    let same = |(a, b): (&AttributeValue<'_>, &AttributeValue<'_>)| {
        a.oid == b.oid && a.text().is_some() && a.text() == b.text()
    };
    asked.len() == name.len() && asked.iter().zip(&name).all(same)
}

/// A name, unless it is the empty one.
fn given(name_der: Vec<u8>) -> Option<Vec<u8>> {
    let empty = DistinguishedName::from_der(&name_der).is_ok_and(|name| name.is_empty());
    (!empty).then_some(name_der)
}

fn malformed(e: der::Error) -> IssueDenied {
    IssueDenied::Crmf(tegata_crypto::crmf::CrmfError::Malformed(e))
}

/// Version 3 in a template.
const V3: u8 = 2;
