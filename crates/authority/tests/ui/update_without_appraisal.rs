use tegata_authority::tam::session::{Appraised, FromDevice};
use tegata_authority::tam::update::install_message;
use tegata_crypto::Signer;

fn unappraised(signer: &dyn Signer, from: FromDevice) {
    let _ = install_message(signer, from, b"token", Vec::new());
}

fn twice(signer: &dyn Signer, appraised: Appraised) {
    let _ = install_message(signer, appraised, b"token", Vec::new());
    let _ = install_message(signer, appraised, b"token", Vec::new());
}

fn main() {}
