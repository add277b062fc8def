use tegata_authority::ca::issue::{Draft, sign};
use tegata_crypto::{Provider, Signer};

fn unlinted(provider: &dyn Provider, draft: Draft, signer: &dyn Signer) {
    let _ = sign(provider, draft, signer);
}

fn main() {}
