//! What a CA has of certificates.
#![allow(dead_code, clippy::unwrap_used)] // Helpers of tests.

use tegata_authority::ca::revocation::Standing;
use tegata_store::certificate;
use tegata_store::issuer::Issuer;
use tegata_wire::x509::CertView;

/// How many there are.
pub fn count(ca: &Issuer) -> usize {
    let store = &ca.role().store;
    let rows = store.read("t", |tx| certificate::list(tx, &[], 1000));
    rows.unwrap().len()
}

/// How one of them stands.
pub fn standing(ca: &Issuer, der: &[u8]) -> Standing {
    let serial = CertView::from_der(der).unwrap().serial;
    let store = &ca.role().store;
    let row = store.read("t", |tx| certificate::find(tx, serial));
    row.unwrap().unwrap().standing
}
