//! CMP messages (RFC 9810): bytes only.
