//! A PKCS#11 module over the keys that the TEE of this device keeps for its caller.
//!
//! Purpose: OpenSSL, GnuTLS, OpenSSH, curl, mosquitto and everything else that speaks PKCS#11 use
//! keys and certificates that were enrolled, without knowing of TEEs. One token is one TEE as one
//! identity of the caller; its objects are certificates, public keys and private keys.
//!
//! Invariants: no private key is ever here. There is no PIN: who calls is what the kernel tells
//! the TEE. Objects are read from the TEE when they are looked for, so a renewed certificate is
//! seen by programs that run. A private key's handle means one key, not one label: after a renewal
//! it never signs with the new key. `unsafe` is in [`wall`] alone, and no panic crosses it.
//!
//! Absent on purpose: making, importing and deleting token objects (keys come by enrolment); PINs;
//! encryption; RSA, of which the TEE has none.
//!
//! Not trusted by anybody: this library runs in the client and can do what the client can.
//!
//! Spec: PKCS #11 Cryptographic Token Interface Base Specification 3.1.
#![warn(missing_docs)]
// Other people's programs load this library: a fault of it must not end them.
#[cfg(not(panic = "unwind"))]
compile_error!("tegata-pkcs11 catches panics at its wall: build it with panic = \"unwind\"");

mod config;
mod key;
mod module;
mod object;
mod operation;
mod rv;
mod session;
#[cfg(test)]
mod tests;
mod token;
pub mod wall;
