//! Sessions, instances and caller identity.
