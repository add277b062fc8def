//! Certificates and certification requests: bytes only.
