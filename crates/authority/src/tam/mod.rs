//! The TAM's decisions.

pub mod availability;
