//! A certificate every part of which can be anything, made from a good one and written octet by octet;
//! and a message with other certificates beside it.

use der::asn1::AnyRef;
use der::{Decode, Reader, SliceReader};
use tegata_crypto::{PrivateKey, Signer};

/// One element of DER.
pub fn tlv(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match body.len() {
        n @ 0..=127 => out.push(n as u8),
        n @ 128..=255 => out.extend([0x81, n as u8]),
        n => out.extend([0x82, (n >> 8) as u8, n as u8]),
    }
    out.extend_from_slice(body);
    out
}

/// A copy of the element `der` with more at its end.
pub fn with_more(der: &[u8], more: &[u8]) -> Vec<u8> {
    let any = AnyRef::from_der(der).unwrap();
    tlv(0x30, &[any.value(), more].concat())
}

/// What is inside the element `der`, one after another.
fn elements(der: &[u8]) -> Vec<Vec<u8>> {
    let any = AnyRef::from_der(der).unwrap();
    let mut reader = SliceReader::new(any.value()).unwrap();
    let mut out = Vec::new();
    while !reader.is_finished() {
        out.push(reader.tlv_bytes().unwrap().to_vec());
    }
    out
}

/// A certificate in its parts, DER each.
#[derive(Clone)]
pub struct Raw {
    pub version: Vec<u8>,
    pub serial: Vec<u8>,
    /// The signature's algorithm, as it is said in what is signed and beside it.
    pub alg: Vec<u8>,
    pub issuer: Vec<u8>,
    pub validity: Vec<u8>,
    pub subject: Vec<u8>,
    pub spki: Vec<u8>,
    /// The extensions; none of version 1.
    pub extensions: Option<Vec<Vec<u8>>>,
}

impl Raw {
    /// The parts of a good one of version 3.
    pub fn of(der: &[u8]) -> Self {
        let parts = elements(&elements(der)[0]);
        let [
            version,
            serial,
            alg,
            issuer,
            validity,
            subject,
            spki,
            extensions,
        ] = &parts[..]
        else {
            panic!("{} parts", parts.len())
        };
        Self {
            version: version.clone(),
            serial: serial.clone(),
            alg: alg.clone(),
            issuer: issuer.clone(),
            validity: validity.clone(),
            subject: subject.clone(),
            spki: spki.clone(),
            extensions: Some(elements(&elements(extensions)[0])),
        }
    }

    /// The same name and key, under another name.
    pub fn under(mut self, issuer: &[u8]) -> Self {
        self.issuer = issuer.to_vec();
        self
    }

    /// Another name and key at the same place.
    pub fn named(mut self, subject: &[u8], key: &PrivateKey) -> Self {
        self.subject = subject.to_vec();
        self.spki = key.public_key().to_spki_der().unwrap();
        self
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    /// From and to, seconds since 1970.
    pub fn valid(self, from: u64, to: u64) -> Self {
        let time = |secs: u64| {
            let time = der::DateTime::from_unix_duration(std::time::Duration::from_secs(secs));
            let time = time.unwrap();
            let text = format!(
                "{:04}{:02}{:02}{:02}{:02}{:02}Z",
                time.year(),
                time.month(),
                time.day(),
                time.hour(),
                time.minutes(),
                time.seconds()
            );
            tlv(0x18, text.as_bytes())
        };
        let validity = tlv(0x30, &[time(from), time(to)].concat());
        self.with(|raw| raw.validity = validity)
    }

    /// Without the extension 2.5.29.`arc`.
    pub fn without(self, arc: u8) -> Self {
        let oid = [6, 3, 0x55, 0x1d, arc];
        self.with(|raw| {
            let extensions = raw.extensions.as_mut().unwrap();
            extensions.retain(|one| elements(one)[0] != oid);
        })
    }

    /// With the extension 2.5.29.`arc` of that value in the place of the one that it has.
    pub fn set(self, arc: u8, critical: bool, value: &[u8]) -> Self {
        let critical: &[u8] = if critical { &[1, 1, 0xff] } else { &[] };
        let parts = [&[6, 3, 0x55, 0x1d, arc], critical, &tlv(4, value)];
        let extension = tlv(0x30, &parts.concat());
        let without = self.without(arc);
        without.with(|raw| raw.extensions.as_mut().unwrap().push(extension))
    }

    /// Signed, whatever it says.
    pub fn signed(&self, by: &PrivateKey) -> Vec<u8> {
        let extensions = self.extensions.as_ref();
        let extensions = extensions.map(|all| tlv(0xa3, &tlv(0x30, &all.concat())));
        let parts = [
            &self.version[..],
            &self.serial,
            &self.alg,
            &self.issuer,
            &self.validity,
            &self.subject,
            &self.spki,
            &extensions.unwrap_or_default(),
        ];
        let tbs = tlv(0x30, &parts.concat());
        let signature = by.sign(&tbs).unwrap();
        let bits = by.alg().signature_alg().signature_to_bits(&signature);
        let bits = tlv(3, &[&[0], &bits.unwrap()[..]].concat());
        tlv(0x30, &[&tbs[..], &self.alg, &bits].concat())
    }
}

/// A Name of one commonName, as `NameBuilder` writes it.
pub fn common_name(text: &str) -> Vec<u8> {
    let attribute = [&[6, 3, 0x55, 4, 3], &tlv(0x13, text.as_bytes())[..]].concat();
    tlv(0x30, &tlv(0x31, &tlv(0x30, &attribute)))
}

/// A PKIMessage with other certificates beside it: nobody signs those.
pub fn with_certificates(message: &[u8], beside: &[Vec<u8>]) -> Vec<u8> {
    let mut parts = elements(message);
    parts.truncate(3);
    parts.push(tlv(0xa1, &tlv(0x30, &beside.concat())));
    tlv(0x30, &parts.concat())
}
