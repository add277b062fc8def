//! The GlobalPlatform TEE Internal Core API, as the host offers it to a TA.
