//! Sessions and instances of TAs: lifetimes, callers, limits, cancellation, panics.

pub mod launch;
