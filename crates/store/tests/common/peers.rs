//! A TAM's peers without a network between.
#![allow(dead_code)] // Each test uses some.

use tegata_authority::UnixSecs;
use tegata_store::issuer::Issuer;
use tegata_store::tam::{PeerFailure, Peers};
use tegata_store::verifier::VerifierServer;

use super::Seeded;

/// The TAM's peers, called directly.
pub struct Direct<'a> {
    pub ca: &'a Issuer,
    pub verifier: &'a VerifierServer,
    pub now: UnixSecs,
}

impl Peers for Direct<'_> {
    fn appraise(&self, request: &[u8]) -> Result<Vec<u8>, PeerFailure> {
        let answer = self.verifier.appraise(request, self.now);
        answer.map(|a| a.ear).map_err(|e| PeerFailure {
            who: "Verifier",
            why: e.to_string(),
        })
    }

    fn deliver(&self, request: &[u8]) -> Result<Vec<u8>, PeerFailure> {
        let mut rng = Seeded(77);
        let answer = self.ca.deliver(request, &mut rng, self.now);
        answer.map_err(|e| PeerFailure {
            who: "CA",
            why: e.to_string(),
        })
    }

    fn attested(&self, word: &[u8]) -> Result<(), PeerFailure> {
        let noted = self.ca.note_attested(word, self.now);
        noted.map(drop).map_err(|e| PeerFailure {
            who: "CA",
            why: e.to_string(),
        })
    }
}
