//! Attestations in a certification request: the attribute id-aa-attestation.
//!
//! A bundle has statements, each of a type that its OID names, and certificates that may help to
//! verify them. What a statement says is not read here, and nothing in a bundle is believed.
//!
//! Spec: draft-ietf-lamps-csr-attestation, module CSR-ATTESTATION-2025.

use super::{
    AllegedCsr, MAX_CERT_BYTES, X509Error, at_most, oid,
    walk::{Element, Flaw, Walk, context, put, put_oid, put_sequence, wrap},
};
use crate::rats::{RatsError, cmw::CmwRecord};
use alloc::vec::Vec;
use der::{Tag, asn1::ObjectIdentifier};

/// Most statements in a bundle. Devices have one for the key and one for the platform.
const MAX_STATEMENTS: usize = 8;
/// Most certificates in a bundle.
const MAX_BUNDLED_CERTS: usize = 16;
/// Longest hint, bytes.
const MAX_HINT_BYTES: usize = 256;

/// One attestation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationStatement {
    /// What kind it is of.
    pub kind: ObjectIdentifier,
    /// DER of the statement.
    pub statement: Vec<u8>,
}

impl AttestationStatement {
    /// The CMW record that the statement is; `None` if it is of another kind, or a CMW in JSON.
    ///
    /// # Errors
    /// If it says to be a CMW in CBOR and is none.
    ///
    /// Spec: RFC 9999 section 4.4 (`CMW ::= CHOICE { json UTF8String, cbor OCTET STRING }`)
    pub fn cmw(&self) -> Result<Option<CmwRecord>, RatsError> {
        let malformed = |_| RatsError::Claim { what: "CMW" };
        if self.kind != oid::CMW {
            return Ok(None);
        }
        let element = Element::only(&self.statement).map_err(malformed)?;
        match element.tag {
            Tag::OctetString => CmwRecord::decode(element.value).map(Some),
            Tag::Utf8String => Ok(None),
            _ => Err(malformed(Flaw)),
        }
    }

    /// A statement that is this record.
    ///
    /// # Errors
    /// If the record cannot be encoded.
    pub fn of_cmw(record: &CmwRecord) -> Result<Self, RatsError> {
        let statement = wrap(Tag::OctetString, &record.encode()?);
        Ok(Self {
            kind: oid::CMW,
            statement: statement.map_err(|_| RatsError::Claim { what: "CMW" })?,
        })
    }
}

/// A certificate that came with the statements.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum BundledCert {
    /// X.509, DER.
    X509(Vec<u8>),
    /// Another format.
    Other {
        /// Which.
        format: ObjectIdentifier,
        /// DER of what holds it.
        value: Vec<u8>,
    },
}

/// What the attribute holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestationBundle {
    /// At least one statement.
    pub statements: Vec<AttestationStatement>,
    /// Certificates, in no order that means anything.
    pub certs: Vec<BundledCert>,
}

impl AttestationBundle {
    /// The bundle of a request; `None` if it has none.
    ///
    /// # Errors
    /// As [`Self::from_der`], or the attribute has more than one value.
    pub fn of_request(csr: &AllegedCsr) -> Result<Option<Self>, X509Error> {
        let found = csr.attributes.iter().find(|a| a.oid == oid::ATTESTATION);
        found
            .map(|attribute| {
                let value = Element::only(&attribute.values)?.expect(Tag::Set)?;
                // `only` refuses a second value as trailing data.
                Self::from_der(Element::only(value)?.der)
            })
            .transpose()
    }

    /// Reads a bundle.
    ///
    /// Statements may end with a hint, as earlier drafts had it and requests still have; it is skipped.
    ///
    /// # Errors
    /// If the bytes are not a bundle in DER, or exceed a limit.
    pub fn from_der(bytes: &[u8]) -> Result<Self, X509Error> {
        at_most("attestation bundle", bytes.len(), MAX_CERT_BYTES)?;
        let mut bundle = Element::only(bytes)?.sequence()?;
        let mut list = bundle.next()?.sequence()?;
        let mut statements = Vec::new();
        while !list.is_finished() {
            at_most("attestations", statements.len() + 1, MAX_STATEMENTS)?;
            statements.push(read_statement(list.next()?.sequence()?)?);
        }
        if statements.is_empty() {
            return Err(X509Error::Empty {
                what: "attestations",
            });
        }
        let mut certs = Vec::new();
        if let Some(element) = bundle.optional(Tag::Sequence)? {
            let mut list = element.sequence()?;
            while !list.is_finished() {
                at_most(
                    "attestation certificates",
                    certs.len() + 1,
                    MAX_BUNDLED_CERTS,
                )?;
                certs.push(read_cert(list.next()?)?);
            }
            if certs.is_empty() {
                return Err(X509Error::Empty {
                    what: "attestation certificates",
                });
            }
        }
        bundle.finish()?;
        Ok(Self { statements, certs })
    }

    /// DER of the bundle.
    ///
    /// # Errors
    /// If a part is not one DER element, or there is no statement.
    pub fn to_der(&self) -> Result<Vec<u8>, X509Error> {
        if self.statements.is_empty() {
            return Err(X509Error::Empty {
                what: "attestations",
            });
        }
        let mut list = Vec::new();
        for statement in &self.statements {
            let mut contents = Vec::new();
            put_oid(&mut contents, &statement.kind)?;
            contents.extend_from_slice(Element::only(&statement.statement)?.der);
            put_sequence(&mut list, &contents)?;
        }
        let mut bundle = wrap(Tag::Sequence, &list)?;
        let mut certs = Vec::new();
        for cert in &self.certs {
            match cert {
                BundledCert::X509(der) => certs.extend_from_slice(Element::only(der)?.der),
                BundledCert::Other { format, value } => {
                    let mut contents = Vec::new();
                    put_oid(&mut contents, format)?;
                    contents.extend_from_slice(Element::only(value)?.der);
                    put(&mut certs, context(3), &contents)?;
                }
            }
        }
        if !certs.is_empty() {
            put_sequence(&mut bundle, &certs)?;
        }
        Ok(wrap(Tag::Sequence, &bundle)?)
    }
}

fn read_statement(mut walk: Walk<'_>) -> Result<AttestationStatement, X509Error> {
    let kind = walk.next()?.oid()?;
    let statement = walk.next()?.der.to_vec();
    if !walk.is_finished() {
        let hint = walk.next()?;
        if !matches!(hint.tag, Tag::Utf8String | Tag::Ia5String) {
            return Err(Flaw.into());
        }
        at_most("attestation hint", hint.value.len(), MAX_HINT_BYTES)?;
        walk.finish()?;
    }
    Ok(AttestationStatement { kind, statement })
}

/// LimitedCertChoices: certificate, or other [3].
fn read_cert(element: Element<'_>) -> Result<BundledCert, X509Error> {
    if element.tag == context(3) {
        let mut walk = Walk::new(element.value);
        let format = walk.next()?.oid()?;
        let value = walk.next()?.der.to_vec();
        walk.finish()?;
        return Ok(BundledCert::Other { format, value });
    }
    element.expect(Tag::Sequence)?;
    Ok(BundledCert::X509(element.der.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const KIND: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.23.133.20.1");

    fn bundle() -> AttestationBundle {
        AttestationBundle {
            statements: vec![AttestationStatement {
                kind: KIND,
                statement: vec![4, 2, 1, 2],
            }],
            certs: vec![
                BundledCert::X509(vec![0x30, 1, 5]),
                BundledCert::Other {
                    format: KIND,
                    value: vec![4, 1, 9],
                },
            ],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let der = bundle().to_der().unwrap();
        assert_eq!(AttestationBundle::from_der(&der).unwrap(), bundle());
        for len in 0..der.len() {
            assert!(AttestationBundle::from_der(&der[..len]).is_err(), "{len}");
        }
        assert!(AttestationBundle::from_der(&[&der[..], &[0]].concat()).is_err());
    }

    #[test]
    fn limits_stand_before_the_lists() {
        let mut many = bundle();
        many.statements = vec![many.statements[0].clone(); MAX_STATEMENTS + 1];
        let der = many.to_der().unwrap();
        assert!(matches!(
            AttestationBundle::from_der(&der),
            Err(X509Error::TooLarge { .. })
        ));
        let mut many = bundle();
        many.certs = vec![many.certs[0].clone(); MAX_BUNDLED_CERTS + 1];
        let der = many.to_der().unwrap();
        assert!(matches!(
            AttestationBundle::from_der(&der),
            Err(X509Error::TooLarge { .. })
        ));
        assert!(AttestationBundle::from_der(&[0x30, 2, 0x30, 0]).is_err());
        let mut none = bundle();
        none.statements.clear();
        assert!(none.to_der().is_err());
    }

    #[test]
    fn other_certificate_choices_are_refused() {
        let mut der = bundle().to_der().unwrap();
        let at = der.iter().position(|byte| *byte == 0xa3).unwrap();
        // [2]: an attribute certificate.
        der[at] = 0xa2;
        assert!(AttestationBundle::from_der(&der).is_err());
    }

    #[test]
    fn a_hint_of_earlier_drafts_is_skipped() {
        let statement = [
            &[0x06, 5, 0x67, 0x81, 5, 0x14, 1][..],
            &[5, 0, 0x16, 1, b'x'],
        ]
        .concat();
        let list = wrap(Tag::Sequence, &wrap(Tag::Sequence, &statement).unwrap()).unwrap();
        let read = AttestationBundle::from_der(&wrap(Tag::Sequence, &list).unwrap()).unwrap();
        assert_eq!(read.statements[0].kind, KIND);
        assert_eq!(read.statements[0].statement, [5, 0]);
    }
}
