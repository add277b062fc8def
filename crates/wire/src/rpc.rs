//! The local protocol between client and TEE: bytes only.
