//! COSE helpers over coset: bytes only.
