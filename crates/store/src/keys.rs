//! Keys, trusted keys and named documents of a role.
//!
//! Private keys and other secrets are stored sealed; this module never sees them in clear.

use crate::engine::params;
use crate::{StoreError, Tx};

/// A sealed private key or secret with its public part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// Public half as SubjectPublicKeyInfo (DER); empty for a symmetric secret.
    pub public: Vec<u8>,
    /// The sealed secret.
    pub sealed: Vec<u8>,
}

/// A public key somebody decided to trust for a purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustedKey {
    /// RFC 9679 thumbprint.
    pub kid: [u8; 32],
    /// SubjectPublicKeyInfo (DER).
    pub public: Vec<u8>,
    /// Who it belongs to, for people.
    pub label: String,
}

/// Stores a sealed key under a name that must be free.
///
/// Returns whether it was free; an existing key is never replaced.
pub fn insert(tx: &Tx<'_>, name: &str, key: &SealedKey, now_secs: i64) -> Result<bool, StoreError> {
    let n = tx.execute(
        "INSERT INTO sealed_key(name, public, sealed, made_at) VALUES (?1, ?2, ?3, ?4) \
         ON CONFLICT(name) DO NOTHING",
        params![name, key.public, key.sealed, now_secs],
    )?;
    Ok(n == 1)
}

/// The sealed key of that name.
pub fn find(tx: &Tx<'_>, name: &str) -> Result<Option<SealedKey>, StoreError> {
    tx.query_opt(
        "SELECT public, sealed FROM sealed_key WHERE name = ?1",
        params![name],
        |r| {
            Ok(SealedKey {
                public: r.get(0)?,
                sealed: r.get(1)?,
            })
        },
    )
}

/// Whether there is a key of any name.
pub fn any(tx: &Tx<'_>) -> Result<bool, StoreError> {
    let one = tx.query_opt("SELECT 1 FROM sealed_key LIMIT 1", params![], |r| {
        r.get::<i64>(0)
    })?;
    Ok(one.is_some())
}

/// Stores a document (for example a CA certificate), replacing an older one of that name.
pub fn put_document(tx: &Tx<'_>, name: &str, body: &[u8], now_secs: i64) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO document(name, body, made_at) VALUES (?1, ?2, ?3) \
         ON CONFLICT(name) DO UPDATE SET body = excluded.body, made_at = excluded.made_at",
        params![name, body, now_secs],
    )?;
    Ok(())
}

/// The document of that name.
pub fn document(tx: &Tx<'_>, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    tx.query_opt(
        "SELECT body FROM document WHERE name = ?1",
        params![name],
        |r| r.get(0),
    )
}

/// Trusts a key for a purpose; doing it again changes nothing.
pub fn trust(
    tx: &Tx<'_>,
    purpose: &str,
    key: &TrustedKey,
    now_secs: i64,
) -> Result<(), StoreError> {
    tx.execute(
        "INSERT INTO trusted_key(purpose, kid, public, label, added_at) \
         VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT(purpose, kid) DO NOTHING",
        params![purpose, key.kid, key.public, key.label, now_secs],
    )?;
    Ok(())
}

/// All keys trusted for a purpose, at most 256.
pub fn trusted(tx: &Tx<'_>, purpose: &str) -> Result<Vec<TrustedKey>, StoreError> {
    tx.query_all(
        "SELECT kid, public, label FROM trusted_key WHERE purpose = ?1 ORDER BY kid LIMIT 256",
        params![purpose],
        |r| {
            Ok(TrustedKey {
                kid: r.get(0)?,
                public: r.get(1)?,
                label: r.get(2)?,
            })
        },
    )
}
