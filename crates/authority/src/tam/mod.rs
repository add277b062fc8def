//! The TAM's decisions.

pub mod availability;
pub mod package;
