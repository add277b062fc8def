//! The GlobalPlatform TEE Client API in Rust, over the socket of the TEE or over OP-TEE.
//!
//! Purpose: what a client application, the enrolment driver and the TEEP Broker need to speak to
//! the TEE: [`Context`], [`Session`], [`Operation`], cancellation, and the origin of each error.
//! Blocking, with a time-out for everything.
//!
//! Invariants: a session lives on a connection of its own, so the kernel tells the TEE who opened
//! it, and it ends when the client ends, however that happens. Parameters are copied.
//!
//! Two ways lead to a TEE ([`TeeAddress`]); what is said on them is the same. Over a socket a
//! call ends with its time-out whatever the TEE does. Over OP-TEE it runs in the kernel: at its
//! time-out the TEE is asked to cancel it, again and again, and the call returns when it has. A
//! call into a TA that is busy waits, over both. [`Canceller`] works over both; over OP-TEE a
//! cancellation in the very moment in which the call begins may be lost.
//!
//! Not trusted by anybody: this crate runs in the client. The TEE believes nothing it says but
//! what is to be done.
//!
//! ```no_run
//! use tegata_client::{Context, Login, Operation, Parameter};
//! # fn main() -> Result<(), tegata_client::Error> {
//! let context = Context::new("/run/tegata/teed.sock");
//! let ta = "6ba7b810-9dad-11d1-80b4-00c04fd430c8".parse().unwrap();
//! let session = context.open_session(&ta, Login::User, &mut Operation::empty())?;
//! let mut operation = Operation::new([
//!     Parameter::memref_input(b"label"),
//!     Parameter::memref_output(4096),
//!     Parameter::None,
//!     Parameter::None,
//! ]);
//! session.invoke(4, &mut operation)?;
//! println!("{} bytes", operation.memref(1).len());
//! # Ok(())
//! # }
//! ```
#![warn(missing_docs)]

mod address;
mod broker;
pub mod codes;
mod connection;
mod error;
#[cfg(feature = "optee")]
mod ffi;
pub mod keys;
mod operation;
mod session;
#[cfg(test)]
mod tests;

pub use address::TeeAddress;
pub use broker::{TeepContact, TeepOutcome};
pub use connection::short_socket_path;
pub use error::{Error, Origin};
pub use operation::{Canceller, Operation, Parameter};
pub use session::{Context, Session, Timeouts};
pub use tegata_wire::ids::TaUuid;
pub use tegata_wire::rpc::{Info, Login, Payload, Stats, TrustedApp};
