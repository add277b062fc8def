//! Keys, signatures and encryption for every part of Tegata, behind one [`Provider`] trait.
//!
//! Purpose: one table of algorithms ([`KeyAlg`]), one type per kind of key, two providers that
//! pass the same tests ([`rustcrypto::RustCrypto`] on devices, [`aws_lc::AwsLc`] on servers), and
//! the glue that turns "these bytes are signed" into a value that cannot be made otherwise.
//!
//! Invariants: a [`PublicKey`] is always a valid point; a secret is zeroized when dropped, has no
//! `Debug` that shows it, and is compared in constant time only; a check that matters returns a
//! proof type with private fields.
//!
//! Deliberately absent: primitives of our own, clocks, storage, sockets. `now` and randomness are
//! arguments.
//!
//! Trust: who changes this crate can forge everything; it is trusted entirely.
#![no_std]
#![forbid(unsafe_code)]
extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

pub mod alg;
#[cfg(feature = "std")]
pub mod aws_lc;
pub mod chain;
pub mod cmp;
pub mod cose;
pub mod crmf;
pub mod csr;
pub mod csr_auth;
pub mod device_keys;
pub mod ecdsa_sig;
mod error;
mod key;
pub mod ocsp;
mod private_key;
#[cfg(doctest)]
mod proofs;
mod provider;
pub mod provisioning;
mod rng;
pub mod rustcrypto;
pub mod seal;
mod secret;
pub mod suit;

pub use alg::KeyAlg;
pub use error::CryptoError;
pub use key::PublicKey;
pub use private_key::PrivateKey;
pub use provider::{Provider, Signer, ct_eq, hmac_verify};
#[cfg(feature = "std")]
pub use rng::OsRng;
pub use rng::Rng;
pub use secret::Secret;
