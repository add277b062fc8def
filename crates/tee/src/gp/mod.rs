//! The GlobalPlatform TEE Internal Core API, as the host offers it to a TA.

pub mod consts;
pub mod host;
pub mod params;
