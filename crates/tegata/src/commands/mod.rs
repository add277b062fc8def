//! The operator's commands, one module each.

pub mod ca;
pub mod device;
pub mod device_add;
#[cfg(feature = "demo")]
pub mod enrol;
pub mod factory;
pub mod import;
pub mod init;
pub mod progress;
pub mod ta;
pub mod verify;
