//! TEE backends: what stands under the TEE core of `tegata-tee` on a machine.
//!
//! [`software`] is the embedded default: a process of its own, with one confined process for each
//! instance of a TA. It keeps TAs from each other, and clients from TAs. It does not keep out root
//! or the kernel, and says so in its evidence.
#![warn(missing_docs)]

pub mod software;
