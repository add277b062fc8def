use tegata_authority::UnixSecs;
use tegata_authority::ca::authority_cert::Issuer;
use tegata_authority::ca::issue::{Draft, IssuanceToken, lint};

fn twice(token: IssuanceToken, issuer: &Issuer, draft: Draft) {
    let _ = lint(token, issuer, draft.clone(), UnixSecs(0));
    let _ = lint(token, issuer, draft, UnixSecs(0));
}

fn main() {}
