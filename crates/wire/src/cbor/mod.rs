//! Strict CBOR.
