//! Proof types cannot be made by hand, copied or used twice. Each example here must fail to
//! compile; the first one is the same code with nothing forged, and compiles.
//!
//! ```
//! use tegata_authority::ca::issue::{IssuanceToken, LintedTbs};
//! fn takes(_token: IssuanceToken, _linted: LintedTbs) {}
//! ```
//! Not made:
//! ```compile_fail
//! let _ = tegata_authority::ca::issue::IssuanceToken {};
//! ```
//! ```compile_fail
//! let _ = tegata_authority::ca::issue::LintedTbs {};
//! ```
//! ```compile_fail
//! let _ = tegata_authority::ca::cmp::Authenticated {};
//! ```
//! ```compile_fail
//! let _ = tegata_authority::ca::delivery::DeliveryAsked {};
//! ```
//! ```compile_fail,E0599
//! let _ = tegata_authority::ca::delivery::DeliveryAsked::default();
//! ```
//! Not copied:
//! ```compile_fail,E0599
//! fn copy(proof: tegata_authority::ca::cmp::Authenticated) { let _ = (proof.clone(), proof); }
//! ```
//! ```compile_fail,E0599
//! fn copy(linted: tegata_authority::ca::issue::LintedTbs) { let _ = (linted.clone(), linted); }
//! ```
//! Not used twice:
//! ```compile_fail,E0382
//! use tegata_authority::UnixSecs;
//! use tegata_authority::ca::authority_cert::Issuer;
//! use tegata_authority::ca::issue::{Draft, IssuanceToken, lint};
//! fn twice(token: IssuanceToken, issuer: &Issuer, draft: Draft) {
//!     let _ = lint(token, issuer, None, draft.clone(), UnixSecs(0));
//!     let _ = lint(token, issuer, None, draft, UnixSecs(0));
//! }
//! ```
//! Once, it compiles:
//! ```
//! use tegata_authority::UnixSecs;
//! use tegata_authority::ca::authority_cert::Issuer;
//! use tegata_authority::ca::issue::{Draft, IssuanceToken, lint};
//! fn once(token: &IssuanceToken, issuer: &Issuer, draft: Draft) {
//!     let _ = lint(token, issuer, None, draft, UnixSecs(0));
//! }
//! ```
//! Not done without:
//! ```compile_fail,E0308
//! use tegata_authority::ca::issue::{Draft, sign};
//! use tegata_crypto::{Provider, Signer};
//! fn unlinted(provider: &dyn Provider, draft: Draft, signer: &dyn Signer) {
//!     let _ = sign(provider, draft, signer);
//! }
//! ```
//! ```compile_fail,E0308
//! use tegata_authority::tam::session::FromDevice;
//! use tegata_authority::tam::update::install_message;
//! use tegata_crypto::Signer;
//! fn unappraised(signer: &dyn Signer, from: FromDevice) {
//!     let _ = install_message(signer, from, b"token", Default::default());
//! }
//! ```
//! ```compile_fail,E0382
//! use tegata_authority::tam::session::Appraised;
//! use tegata_authority::tam::update::install_message;
//! use tegata_crypto::Signer;
//! fn twice(signer: &dyn Signer, appraised: Appraised) {
//!     let _ = install_message(signer, appraised, b"token", Default::default());
//!     let _ = install_message(signer, appraised, b"token", Default::default());
//! }
//! ```
//! ```
//! use tegata_authority::tam::session::Appraised;
//! use tegata_authority::tam::update::install_message;
//! use tegata_crypto::Signer;
//! fn once(signer: &dyn Signer, appraised: Appraised) {
//!     let _ = install_message(signer, appraised, b"token", Default::default());
//! }
//! ```
