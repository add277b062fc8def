//! RATS messages: Evidence and Attestation Results.
