//! What is measured: names for programs and for people.

use serde::Serialize;

/// What was measured, in the order in which it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The cryptography alone: what everything else is compared with, where there is such a thing.
    CryptoBound,
    /// The server that does nothing.
    Nothing,
    /// The store alone.
    Commit,
    /// The CA's code, called in this process: no HTTP, one thread, the store in memory.
    Called,
    /// The CA with its store in memory.
    Memory,
    /// The CA with its store on the disk.
    Durable,
    /// The same with millions of certificates in the store.
    Preloaded,
    /// The CA with its store on PostgreSQL.
    Database,
    /// cfssl, which keeps nothing.
    Cfssl,
    /// cfssl with its SQLite on the disk.
    CfsslSqlite,
    /// step-ca with its bbolt on the disk.
    StepCa,
    /// The server that does nothing, a new TLS connection for each request.
    NothingTlsNew,
    /// The same with connections that stay open.
    NothingTlsKept,
    /// EST, a new TLS connection for each certificate.
    EstNew,
    /// EST over connections that stay open.
    EstKept,
    /// OCSP by GET, answered with what was signed before.
    OcspGet,
    /// OCSP by POST, answered with what was signed before.
    OcspPost,
    /// OCSP by POST with a nonce, signed for each request.
    OcspSigned,
    /// The first request of a renewal.
    Kur,
    /// The second request of a renewal.
    CertConf,
    /// Both.
    Renewal,
    /// The encrypted TA, the same for every device.
    Shared,
    /// A session in which nothing is due.
    UpToDate,
    /// A session with a delivery that the CA is asked for.
    DeliveredFirst,
    /// A session with a delivery that was kept.
    DeliveredAgain,
    /// The same where the Update says from where, and the encrypted TA is fetched from there.
    DeliveredFrom,
}

impl Subject {
    /// For programs.
    #[must_use]
    pub fn name(self) -> String {
        let name = serde_json::to_value(self).ok();
        name.as_ref()
            .and_then(serde_json::Value::as_str)
            .unwrap_or_default()
            .to_owned()
    }

    /// For people.
    #[must_use]
    pub fn label(self) -> &'static str {
        self.words().0
    }

    /// For people: what it is.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.words().1
    }

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::CryptoBound => ("cryptography alone", "P-256 and HMAC, one thread"),
            Self::Nothing => (
                "server that does nothing",
                "the same HTTP; the answer is zeros",
            ),
            Self::Commit => ("store alone", "its rows, many in a transaction"),
            Self::Called => ("Tegata, called", "no HTTP, one thread, store in memory"),
            Self::Memory => (
                "Tegata, store in memory",
                "tmpfs: no commit waits for a disk",
            ),
            Self::Durable => ("Tegata, store on the disk", "WAL, synchronous=FULL"),
            Self::Preloaded => ("Tegata, large store", "on the disk, after years"),
            Self::Database => ("Tegata, PostgreSQL", "SERIALIZABLE; its own process"),
            Self::Cfssl => ("cfssl, keeps nothing", "authsign; no durability"),
            Self::StepCa => ("step-ca, bbolt on the disk", "JWK tokens, TLS kept open"),
            Self::CfsslSqlite => ("cfssl, SQLite on the disk", "authsign; its own defaults"),
            Self::NothingTlsNew => ("does nothing, new TLS", "a handshake, both authenticated"),
            Self::NothingTlsKept => ("does nothing, TLS kept", "the same HTTP; zeros"),
            Self::EstNew => ("EST, new TLS", "a handshake, then a certificate"),
            Self::EstKept => ("EST, TLS kept", "simplereenroll, durable"),
            Self::OcspGet => ("OCSP GET, signed ahead", "looked up in the store each time"),
            Self::OcspPost => (
                "OCSP POST, signed ahead",
                "looked up in the store each time",
            ),
            Self::Kur => ("kur", "the new certificate, durable"),
            Self::CertConf => ("certConf", "the device has it"),
            Self::Renewal => ("renewal, both requests", "WAL, synchronous=FULL"),
            Self::Shared => ("shared ciphertext", "GET, the same for all"),
            Self::UpToDate => ("session, nothing due", "evidence appraised, 204"),
            Self::DeliveredFirst => ("session, first delivery", "the CA is asked"),
            Self::DeliveredAgain => ("session, kept delivery", "an Update for one device"),
            Self::DeliveredFrom => ("session, TA fetched", "an Update without it, and a GET"),
            Self::OcspSigned => (
                "OCSP POST, signed on demand",
                "each with a nonce of its own",
            ),
        }
    }
}
