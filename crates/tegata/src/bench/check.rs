//! Whether the answers are what was asked for: all of them by our own parser, some by OpenSSL.

use std::collections::HashSet;
use std::path::Path;
use std::process::Command;

use tegata_wire::x509::CertView;

use super::plant::Plant;
use super::{PROGRAM_LIMIT, odd};
use crate::certificate::to_pem;
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};
use crate::supervise;

/// Certificates that were looked at: their serial numbers, each there once.
#[derive(Debug, Default)]
pub struct Certificates {
    serials: HashSet<Vec<u8>>,
}

impl Certificates {
    /// Certificates (DER) in the order of their requests, each of the key (SubjectPublicKeyInfo) that was asked for.
    ///
    /// # Errors
    /// A refusal, another key, or a serial number that was there before.
    pub fn each(
        &mut self,
        certificates: impl Iterator<Item = Outcome<Vec<u8>>>,
        keys: &mut dyn Iterator<Item = Outcome<Vec<u8>>>,
    ) -> Outcome<Vec<Vec<u8>>> {
        let one = |der: Outcome<Vec<u8>>| {
            let der = der?;
            let key = keys.next();
            let key = key.ok_or_else(|| odd("more answers than requests"))??;
            self.one(&der, &key)?;
            Ok(der)
        };
        certificates.map(one).collect()
    }

    /// One (DER), of the key that was asked for.
    ///
    /// # Errors
    /// As above.
    pub fn one(&mut self, der: &[u8], key: &[u8]) -> Outcome<()> {
        let view = CertView::from_der(der).map_err(odd)?;
        if view.spki_der != key {
            return Err(refused("a certificate is of another key".to_owned()));
        }
        self.add(&view)
    }

    /// One that there is.
    ///
    /// # Errors
    /// Its serial number was there before.
    pub fn add(&mut self, certificate: &CertView<'_>) -> Outcome<()> {
        match self.serials.insert(certificate.serial.to_vec()) {
            true => Ok(()),
            false => Err(refused("two requests got the same certificate".to_owned())),
        }
    }
}

/// An answer that is not what was asked for: the run fails.
pub fn refused(why: String) -> Fault {
    Fault::failed(
        "bench-refused",
        why,
        "A run with refusals measures nothing; the server's log says why it refused.",
    )
}

/// Has `openssl verify` look at a sample; gives how many, or `None` if it is not installed or does not answer.
///
/// # Errors
/// It refuses one.
pub fn with_openssl(plant: &Plant, sample: &[Vec<u8>], dir: &Path) -> Outcome<Option<usize>> {
    // What issued nothing has nothing to be verified.
    if sample.is_empty() {
        return Ok(Some(0));
    }
    files::make_dir(dir)?;
    let write = |name: &str, der: &[u8]| {
        let path = dir.join(name);
        files::replace(&path, to_pem(der)?.as_bytes(), Readers::Everyone)?;
        Ok::<_, Fault>(path)
    };
    let root = write("root.pem", &plant.root)?;
    let issuing = write("issuing.pem", &plant.issuing)?;
    let mut command = Command::new("openssl");
    command.args(["verify", "-x509_strict", "-CAfile"]);
    command.arg(root).arg("-untrusted").arg(issuing);
    for (number, der) in sample.iter().enumerate() {
        command.arg(write(&format!("{number}.pem"), der)?);
    }
    let output = match supervise::output(command, None, PROGRAM_LIMIT) {
        Ok(output) => output,
        // It is not there, or it hangs: what was measured is worth no less.
        Err(_) => return Ok(None),
    };
    let said = String::from_utf8_lossy(&output.stdout);
    let good = said.lines().filter(|line| line.ends_with(": OK")).count();
    if output.status.success() && good == sample.len() {
        return Ok(Some(good));
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(Fault::failed(
        "bench-refused",
        format!(
            "openssl refuses a certificate that was issued: {}",
            why.trim()
        ),
        "Please report this: it is a fault of the CA.",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tegata_wire::x509::{
        AttributeSpec, CertBuilder, ExtensionSet, NameBuilder, SerialNumber, SignatureAlg,
        Validity, assemble_certificate,
    };

    fn certificate(serial: u8, spki_der: &[u8]) -> Vec<u8> {
        let cn = AttributeSpec::by_name("CN").unwrap();
        let name = NameBuilder::new()
            .push(cn, "x")
            .and_then(NameBuilder::build)
            .unwrap();
        let builder = CertBuilder {
            serial: SerialNumber::from_bytes(&[serial]).unwrap(),
            signature_alg: SignatureAlg::EcdsaSha256,
            issuer: name.clone(),
            validity: Validity {
                not_before_secs: 0,
                not_after_secs: Some(1),
            },
            subject: name,
            spki_der: spki_der.to_vec(),
            extensions: ExtensionSet::new(),
        };
        let tbs = builder.to_tbs().unwrap();
        assemble_certificate(&tbs, SignatureAlg::EcdsaSha256, &[1; 64]).unwrap()
    }

    #[test]
    fn another_key_and_an_old_certificate_are_found() {
        let new = || crate::bench::plant::key().unwrap();
        let [mine, other] = [new(), new()].map(|key| key.public_key().to_spki_der().unwrap());
        let each = |seen: &mut Certificates, der: &[u8], keys: &[&Vec<u8>]| {
            let mut keys = keys.iter().map(|key| Ok((*key).clone()));
            let found = seen.each(std::iter::once(Ok(der.to_vec())), &mut keys);
            found.map_err(|fault| fault.what)
        };
        let (old, der) = (certificate(1, &mine), certificate(2, &mine));
        let mut seen = Certificates::default();
        seen.add(&CertView::from_der(&old).unwrap()).unwrap();
        assert_eq!(each(&mut seen, &der, &[&mine]).unwrap(), [&der[..]]);
        let mut wrong = |der: &[u8], keys: &[&Vec<u8>]| each(&mut seen, der, keys).unwrap_err();
        assert!(wrong(&der, &[&mine]).contains("same certificate"));
        assert!(wrong(&old, &[&mine]).contains("same certificate"));
        let third = certificate(3, &mine);
        assert!(wrong(&third, &[&other]).contains("another key"));
        assert!(wrong(&third, &[]).contains("more answers"));
    }
}
