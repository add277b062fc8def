//! PKCS#10 certification requests.
//!
//! Spec: RFC 2986, RFC 2985 section 5.4.2 (extensionRequest).

use super::{
    CertView, DistinguishedName, Extension, ExtensionSet, MAX_CERT_BYTES, MAX_CSR_ATTRIBUTES,
    RawDer, SanEntry, SignatureAlg, X509Error, at_most, decode_san, oid, san_extension,
    walk::{Element, Flaw, context, put, put_algorithm, put_bits, put_oid, put_sequence, wrap},
};
use alloc::vec::Vec;
use der::{
    Decode, Encode, Reader, Sequence, SliceReader, Tag, Tagged,
    asn1::{AnyRef, BitStringRef, ObjectIdentifier},
};

/// What goes into a certification request.
#[derive(Debug, Clone)]
pub struct CsrBuilder {
    /// Subject asked for; may be empty if there are alternative names.
    pub subject: DistinguishedName,
    /// DER of SubjectPublicKeyInfo.
    pub spki_der: Vec<u8>,
    /// Alternative names asked for.
    pub san: Vec<SanEntry>,
    /// Other extensions asked for.
    pub extensions: Vec<Extension>,
}

/// DER of the CertId that names a certificate.
///
/// # Errors
/// Not for a certificate that was read.
///
/// Spec: RFC 4211 section 6.5.
pub fn cert_id(of: &CertView<'_>) -> Result<Vec<u8>, X509Error> {
    let mut id = Vec::new();
    // GeneralName: directoryName, explicit as a CHOICE must be.
    put(&mut id, context(4), Element::only(of.issuer_der)?.der)?;
    put(&mut id, Tag::Integer, of.serial)?;
    Ok(wrap(Tag::Sequence, &id)?)
}

/// Appends an attribute; `values` is the DER of the SET of its values.
fn write_attribute(out: &mut Vec<u8>, oid: &ObjectIdentifier, values: &[u8]) -> Result<(), Flaw> {
    let mut attribute = Vec::new();
    put_oid(&mut attribute, oid)?;
    attribute.extend_from_slice(values);
    put_sequence(out, &attribute)
}

/// DER of CertificationRequestInfo; `attributes` is the contents of their SET, in its order, which
/// is there even when empty.
fn write_info(subject_der: &[u8], spki_der: &[u8], attributes: &[u8]) -> Result<Vec<u8>, Flaw> {
    let mut info = Vec::new();
    put(&mut info, Tag::Integer, &[0])?;
    for part in [subject_der, spki_der] {
        info.extend_from_slice(Element::only(part)?.der);
    }
    put(&mut info, context(0), attributes)?;
    wrap(Tag::Sequence, &info)
}

impl CsrBuilder {
    /// The bytes to sign: DER of CertificationRequestInfo.
    ///
    /// # Errors
    /// If a part is not what its name says, exceeds a limit, or an extension occurs twice.
    pub fn to_tbs(&self) -> Result<Vec<u8>, X509Error> {
        self.to_tbs_in_place_of(None)
    }

    /// As [`Self::to_tbs`], of a request that names the certificate in whose place it asks ([`cert_id`]): in
    /// the attribute `id-regCtrl-oldCertID`, the control that a key update has for it.
    ///
    /// # Errors
    /// As [`Self::to_tbs`].
    ///
    /// Spec: RFC 4211 section 6.5.
    pub fn to_tbs_in_place_of(&self, old: Option<&[u8]>) -> Result<Vec<u8>, X509Error> {
        let mut set = ExtensionSet::new();
        if !self.san.is_empty() {
            set.push(san_extension(&self.san, self.subject.is_empty())?)?;
        }
        for extension in &self.extensions {
            set.push(extension.clone())?;
        }
        let mut attributes = Vec::new();
        if !set.as_slice().is_empty() {
            let mut list = Vec::new();
            for extension in set.as_slice() {
                extension.write(&mut list)?;
            }
            // One value: Extensions.
            let values = wrap(Tag::Set, &wrap(Tag::Sequence, &list)?)?;
            write_attribute(&mut attributes, &oid::EXTENSION_REQUEST, &values)?;
        }
        if let Some(old) = old {
            let mut element = Vec::new();
            let values = wrap(Tag::Set, Element::only(old)?.der)?;
            write_attribute(&mut element, &oid::REG_CTRL_OLD_CERT_ID, &values)?;
            // The order that DER gives a SET OF.
            let at = if element < attributes {
                0
            } else {
                attributes.len()
            };
            attributes.splice(at..at, element);
        }
        let tbs = write_info(self.subject.as_der(), &self.spki_der, &attributes)?;
        at_most("certification request", tbs.len(), MAX_CERT_BYTES)?;
        Ok(tbs)
    }
}

/// A signed structure: the bytes signed, the algorithm, the signature.
#[derive(Sequence)]
pub(super) struct Signed<'a> {
    /// The bytes signed.
    pub(super) tbs: AnyRef<'a>,
    /// The algorithm.
    pub(super) alg: spki::AlgorithmIdentifierOwned,
    /// The signature.
    pub(super) signature: BitStringRef<'a>,
}

/// Puts a raw signature (r‖s or Ed25519) on signed bytes.
pub(super) fn assemble(
    tbs: &[u8],
    alg: SignatureAlg,
    raw_signature: &[u8],
) -> Result<Vec<u8>, X509Error> {
    let bits = alg.signature_to_bits(raw_signature)?;
    Ok(write_signed(tbs, &alg.identifier(), &bits)?)
}

/// DER of a signed structure.
fn write_signed(
    tbs: &[u8],
    alg: &spki::AlgorithmIdentifierOwned,
    bits: &[u8],
) -> Result<Vec<u8>, Flaw> {
    let mut signed = Element::only(tbs)?.der.to_vec();
    put_algorithm(&mut signed, alg)?;
    put_bits(&mut signed, bits)?;
    wrap(Tag::Sequence, &signed)
}

/// Puts a raw signature on the bytes of [`CsrBuilder::to_tbs`].
///
/// # Errors
/// If the signature has the wrong length for `alg`, or `tbs` is not DER.
pub fn assemble_csr(
    tbs: &[u8],
    alg: SignatureAlg,
    raw_signature: &[u8],
) -> Result<Vec<u8>, X509Error> {
    assemble(tbs, alg, raw_signature)
}

/// One attribute of a request, uninterpreted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CsrAttribute {
    /// Its type.
    pub oid: ObjectIdentifier,
    /// DER of the SET of its values.
    pub values: Vec<u8>,
}

/// A request as a peer sent it: well-formed, nothing in it believed yet.
///
/// The caller must verify [`Self::signature`] over [`Self::tbs_der`] with the key in
/// [`Self::spki_der`] before the request proves possession of that key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AllegedCsr {
    /// The whole request.
    der: Vec<u8>,
    /// The bytes signed: DER of CertificationRequestInfo.
    pub tbs_der: Vec<u8>,
    /// Subject asked for.
    pub subject: DistinguishedName,
    /// DER of SubjectPublicKeyInfo.
    pub spki_der: Vec<u8>,
    /// Attributes in order, extensionRequest among them.
    pub attributes: Vec<CsrAttribute>,
    /// Extensions asked for; empty without extensionRequest.
    pub extensions: ExtensionSet,
    /// Signature algorithm as named by the request.
    pub signature_algorithm: spki::AlgorithmIdentifierOwned,
    /// Octets of the signature BIT STRING.
    pub signature: Vec<u8>,
}

impl AllegedCsr {
    /// Reads a request.
    ///
    /// # Errors
    /// If the bytes are not a version 1 request in DER, exceed a limit, or an attribute or
    /// extension occurs twice.
    ///
    /// Spec: RFC 2986 section 4.
    pub fn from_der(bytes: &[u8]) -> Result<Self, X509Error> {
        at_most("certification request", bytes.len(), MAX_CERT_BYTES)?;
        let signed = Signed::from_der(bytes)?;
        let signature = signed
            .signature
            .as_bytes()
            .ok_or(X509Error::SignatureForm)?
            .to_vec();
        signed.tbs.tag().assert_eq(Tag::Sequence)?;
        let mut reader = SliceReader::new(signed.tbs.value())?;
        let version = u8::decode(&mut reader)?;
        if version != 0 {
            return Err(X509Error::Version {
                got: version,
                expected: 0,
            });
        }
        let subject = DistinguishedName::from_der(reader.tlv_bytes()?)?;
        let spki_der = reader.tlv_bytes()?.to_vec();
        spki::SubjectPublicKeyInfoRef::from_der(&spki_der)?;
        let attributes = read_attributes(&mut reader)?;
        reader.finish()?;
        let extensions = requested_extensions(&attributes)?;
        Ok(Self {
            der: bytes.to_vec(),
            tbs_der: signed.tbs.to_der()?,
            subject,
            spki_der,
            attributes,
            extensions,
            signature_algorithm: signed.alg,
            signature,
        })
    }

    /// The whole request as received.
    pub fn as_der(&self) -> &[u8] {
        &self.der
    }

    /// Encodes the request anew from its parts.
    ///
    /// # Errors
    /// If a part was replaced by one that cannot be encoded.
    pub fn to_der(&self) -> Result<Vec<u8>, X509Error> {
        let mut attributes = Vec::new();
        for attribute in &self.attributes {
            let mut element = Vec::new();
            let values = Element::only(&attribute.values)?.der;
            write_attribute(&mut element, &attribute.oid, values)?;
            attributes.push(element);
        }
        // The order that DER gives a SET OF.
        attributes.sort();
        let tbs = write_info(self.subject.as_der(), &self.spki_der, &attributes.concat())?;
        Ok(write_signed(
            &tbs,
            &self.signature_algorithm,
            &self.signature,
        )?)
    }

    /// The signature algorithm, if it is one of ours.
    pub fn signature_alg(&self) -> Option<SignatureAlg> {
        SignatureAlg::from_identifier(&self.signature_algorithm)
    }

    /// The alternative names asked for; empty if none.
    ///
    /// # Errors
    /// If the extension's value is not a list of supported names.
    pub fn san(&self) -> Result<Vec<SanEntry>, X509Error> {
        match self.extensions.find(&oid::SUBJECT_ALT_NAME) {
            Some(extension) => decode_san(&extension.value),
            None => Ok(Vec::new()),
        }
    }

    /// The public key as one DER element.
    ///
    /// # Errors
    /// Not for a value made by [`Self::from_der`].
    pub fn spki(&self) -> der::Result<RawDer> {
        RawDer::from_bytes(&self.spki_der)
    }
}

/// Reads `[0] IMPLICIT SET OF Attribute`.
fn read_attributes(reader: &mut SliceReader<'_>) -> Result<Vec<CsrAttribute>, X509Error> {
    let field = AnyRef::decode(reader)?;
    let expected = Tag::ContextSpecific {
        constructed: true,
        number: der::TagNumber(0),
    };
    field.tag().assert_eq(expected)?;
    let mut items = SliceReader::new(field.value())?;
    let mut attributes: Vec<CsrAttribute> = Vec::new();
    while !items.is_finished() {
        at_most("attributes", attributes.len() + 1, MAX_CSR_ATTRIBUTES)?;
        let attribute = AnyRef::decode(&mut items)?;
        let (oid, values) = attribute.sequence(|r| {
            Ok::<_, der::Error>((ObjectIdentifier::decode(r)?, r.tlv_bytes()?.to_vec()))
        })?;
        let set = AnyRef::from_der(&values)?;
        set.tag().assert_eq(Tag::Set)?;
        if set.value().is_empty() {
            return Err(X509Error::Empty {
                what: "attribute values",
            });
        }
        if attributes.iter().any(|a| a.oid == oid) {
            return Err(X509Error::Duplicate { oid });
        }
        attributes.push(CsrAttribute { oid, values });
    }
    Ok(attributes)
}

/// Reads the extensions of the extensionRequest attribute, which must have one value.
fn requested_extensions(attributes: &[CsrAttribute]) -> Result<ExtensionSet, X509Error> {
    let mut set = ExtensionSet::new();
    if let Some(request) = attributes.iter().find(|a| a.oid == oid::EXTENSION_REQUEST) {
        let values = AnyRef::from_der(&request.values)?;
        // from_der refuses a second value as trailing data.
        let list = Vec::<x509_cert::ext::Extension>::from_der(values.value())?;
        for extension in list {
            set.push(Extension::from_x509(extension))?;
        }
    }
    Ok(set)
}
