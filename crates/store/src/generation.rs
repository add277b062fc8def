//! The generations of a CA: its roots and its issuing CAs, and how the next ones come about.
//!
//! A generation is one issuing CA. The newest one issues and signs what is said over CMP; those before it
//! keep answering for what they issued, for as long as anybody may ask. So nothing here is ever removed.
//!
//! Invariants: a generation is there with key, certificate and, with a new root, its links, or it is not
//! there. It has a number that its operator gave: the same command again finds it and makes no other. Its
//! shards begin where those before it end, so each shard, and each list, is of one issuer. What is not to
//! be trusted any more follows from the generations that were made after a leak; no row is changed.
//!
//! Trusted: as the CA. What a row says is read with the key that belongs to it, or the CA does not open.

mod next;

use tegata_authority::UnixSecs;
use tegata_authority::ca::authority_cert::Issuer;
use tegata_authority::ca::status::ocsp::IssuerHashes;
use tegata_crypto::Signer;
use tegata_wire::x509::{CertView, DistinguishedName};

use crate::engine::params;
use crate::keys::{self, SealedKey};
use crate::role::{Role, RoleError, secs};
use crate::{StoreError, Tx, revocation};

pub use tegata_authority::ca::authority_cert::Links;

pub use next::{ClockDoubt, Kind, Made, Next, Sure, roll_over, would_roll_over};

/// A root.
#[derive(Debug, Clone)]
pub struct Root {
    /// Which one it is, from 1 on.
    pub number: u32,
    /// Its certificate.
    pub ca: Issuer,
    /// Its subjectKeyIdentifier, hexadecimal.
    pub id: String,
    /// What links it to the root before.
    pub links: Links,
    /// Since when it is not to be trusted any more: a key leaked that was trusted through it.
    pub distrusted: Option<UnixSecs>,
}

impl Root {
    /// Whether it is to be trusted, and has not ended.
    fn is_anchor(&self, now: UnixSecs) -> bool {
        self.distrusted.is_none() && now.0 <= self.ca.not_after_secs
    }
}

/// One issuing CA.
pub struct Generation {
    /// Which one it is, from 1 on.
    pub number: u32,
    /// Number of its root.
    pub root: u32,
    /// Its certificate.
    pub ca: Issuer,
    /// Its subjectKeyIdentifier, hexadecimal: the name it has in rows and URLs.
    pub id: String,
    /// Since when it is not to be trusted any more: its key leaked, or may have.
    pub distrusted: Option<UnixSecs>,
    /// How OCSP requests name it.
    pub(crate) hashes: IssuerHashes,
    /// The first of its shards.
    pub(crate) first_shard: u64,
    /// Whether it was made because keys of before leaked.
    after_leak: bool,
    /// Its key.
    pub(crate) key: Box<dyn Signer>,
}

/// All of a CA, as the store had it at one moment.
pub struct Generations {
    /// Oldest first.
    older_roots: Vec<Root>,
    newest_root: Root,
    /// Oldest first.
    older: Vec<Generation>,
    newest: Generation,
    names: Vec<DistinguishedName>,
}

impl Generations {
    /// Reads them, and opens the key of each issuing CA. The roots' keys stay sealed.
    ///
    /// # Errors
    /// `NoKey` if there is no CA, `Sealed` under a wrong sealing key or if a key is another's.
    pub fn load(role: &Role) -> Result<Self, RoleError> {
        let (mut roots, rows) = role.store.read("open CA", |tx| {
            Ok::<_, RoleError>((roots(tx)?, issuing(tx)?))
        })?;
        let open = |row: &IssuingRow| {
            let ca = Issuer::from_cert(&row.certificate)?;
            Ok::<_, RoleError>(Generation {
                number: row.number,
                root: row.root,
                distrusted: row.distrusted,
                id: hex::encode(&ca.key_id),
                hashes: IssuerHashes::of(role.provider.as_ref(), &ca),
                first_shard: row.first_shard,
                after_leak: row.after_leak,
                key: open_signer(role, ISSUING_KEY, row.number, &ca)?,
                ca,
            })
        };
        let mut all = rows.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let names = all.iter().map(|one| one.ca.name.clone()).collect();
        Ok(Self {
            newest_root: roots.pop().ok_or(RoleError::NoKey(ROOT_KEY))?,
            older_roots: roots,
            newest: all.pop().ok_or(RoleError::NoKey(ISSUING_KEY))?,
            older: all,
            names,
        })
    }

    /// The issuing CA that issues.
    #[must_use]
    pub fn newest(&self) -> &Generation {
        &self.newest
    }

    /// The root above it.
    #[must_use]
    pub fn newest_root(&self) -> &Root {
        &self.newest_root
    }

    /// The issuing CA of that name.
    #[must_use]
    pub fn of(&self, id: &str) -> Option<&Generation> {
        self.iter().find(|one| one.id == id)
    }

    /// The issuing CA that a shard belongs to.
    #[must_use]
    pub fn of_shard(&self, shard: u64) -> &Generation {
        let mut newest_first = self.iter().rev();
        let found = newest_first.find(|one| one.first_shard <= shard);
        found.unwrap_or(&self.newest)
    }

    /// The issuing CA whose name a certificate (DER) has as its issuer.
    #[must_use]
    pub fn issuer_of(&self, certificate: &[u8]) -> Option<&Generation> {
        let view = CertView::from_der(certificate).ok()?;
        self.iter()
            .find(|one| one.ca.name.as_der() == view.issuer_der)
    }

    /// All issuing CAs, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Generation> {
        self.older.iter().chain([&self.newest])
    }

    /// All roots, oldest first.
    pub fn roots(&self) -> impl DoubleEndedIterator<Item = &Root> {
        self.older_roots.iter().chain([&self.newest_root])
    }

    /// The root of that number.
    #[must_use]
    pub fn root(&self, number: u32) -> Option<&Root> {
        self.roots().find(|root| root.number == number)
    }

    /// The names of all issuing CAs, oldest first.
    pub(crate) fn names(&self) -> &[DistinguishedName] {
        &self.names
    }

    /// The roots (DER) that are to be trusted and have not ended, the newest first: what a procedure
    /// trusts.
    #[must_use]
    pub fn anchors(&self, now: UnixSecs) -> Vec<Vec<u8>> {
        let live = self.roots().rev().filter(|root| root.is_anchor(now));
        live.map(|root| root.ca.cert_der.clone())
            .take(ANCHORS_MAX)
            .collect()
    }

    /// The roots (DER) that are to be trusted, those that have ended too, the newest first: for what was
    /// signed before.
    #[must_use]
    pub fn archive_roots(&self) -> Vec<Vec<u8>> {
        let trusted = self.roots().rev().filter(|root| root.distrusted.is_none());
        trusted.map(|root| root.ca.cert_der.clone()).collect()
    }

    /// The certificates (DER) from an issuing CA on, its own first, that lead from its root to the roots
    /// before: what somebody needs who knows an old root alone. Also to a root that is not to be trusted
    /// any more: who knows no other cannot be reached but through it.
    #[must_use]
    pub fn path_from(&self, of: &Generation, now: UnixSecs) -> Vec<Vec<u8>> {
        let mut path = vec![of.ca.cert_der.clone()];
        for root in self.roots().rev().filter(|root| root.number <= of.root) {
            // A link ends with its old root: beyond it nobody is left to be led there.
            let before = self.root(root.number.saturating_sub(1));
            let (Some(link), Some(before)) = (&root.links.new_with_old, before) else {
                break;
            };
            if before.ca.not_after_secs < now.0 || path.len() >= PATH_MAX {
                break;
            }
            path.push(link.clone());
        }
        path
    }

    /// Everything (DER) that a path to any root may need, each root first: roots, issuing CAs, and the
    /// links between roots, that have not ended and are to be trusted.
    #[must_use]
    pub fn certificates(&self, now: UnixSecs) -> Vec<Vec<u8>> {
        let mut found = self.anchors(now);
        found.extend(self.intermediates(now));
        found
    }

    /// Those of them (DER) that are no roots; the issuing CA that issues is the first, and links are
    /// before what can only have come with a certificate.
    #[must_use]
    pub fn intermediates(&self, now: UnixSecs) -> Vec<Vec<u8>> {
        let mut issuing = self.issuing(now).into_iter();
        let mut found: Vec<_> = issuing.next().into_iter().collect();
        found.extend(self.links(now));
        found.extend(issuing);
        found.truncate(INTERMEDIATES_MAX);
        found
    }

    /// The issuing CAs (DER) that are to be trusted and have not ended, the newest first.
    #[must_use]
    pub fn issuing(&self, now: UnixSecs) -> Vec<Vec<u8>> {
        let live = self.iter().rev().filter(|one| one.distrusted.is_none());
        let live = live.filter(|one| now.0 <= one.ca.not_after_secs);
        live.map(|one| one.ca.cert_der.clone()).collect()
    }

    /// The CAs (DER) that a client's certificate may be of, as a handshake sees it: all that have not
    /// ended. Whether the certificate counts is asked of the store, which knows it byte for byte.
    #[must_use]
    pub fn of_clients(&self, now: UnixSecs) -> Vec<Vec<u8>> {
        let roots = self.roots().rev().map(|root| &root.ca);
        let all = roots.chain(self.iter().rev().map(|one| &one.ca));
        let live = all.filter(|ca| now.0 <= ca.not_after_secs);
        live.map(|ca| ca.cert_der.clone()).collect()
    }

    /// The links (DER) between roots that are to be trusted and have not ended, newest first.
    #[must_use]
    pub fn links(&self, now: UnixSecs) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        for root in self.roots().rev().filter(|root| root.is_anchor(now)) {
            let before = self.root(root.number.saturating_sub(1));
            if before.is_some_and(|before| before.is_anchor(now)) {
                found.extend(root.links.new_with_old.clone());
                found.extend(root.links.old_with_new.clone());
            }
        }
        found
    }

    /// The next root after this one (DER) that is to be trusted, and what links the two: what CMP's
    /// rootCaKeyUpdate tells. The newest one, if it followed another, where none is named.
    ///
    /// Spec: RFC 9483 section 4.3.2.
    #[must_use]
    pub fn root_after(&self, root_der: Option<&[u8]>) -> Option<(&Root, Links)> {
        let before = match root_der {
            Some(der) => {
                let known = self.roots().find(|root| root.ca.cert_der == der)?;
                known.number
            }
            None => self.newest_root.number.saturating_sub(1),
        };
        let mut after = self
            .roots()
            .filter(|root| root.number > before && before > 0);
        let next = after.find(|root| root.distrusted.is_none())?;
        let links = match next.number == before.saturating_add(1) {
            true => next.links.clone(),
            // There was one between them, which led there once.
            false => Links::default(),
        };
        Some((next, links))
    }

    /// Whether the CA needs a rollover, certificates being asked for that last `life_secs`.
    #[must_use]
    pub fn ends_soon(&self, now: UnixSecs, life_secs: u64) -> Option<EndsSoon> {
        let soon = |kind, number, ca: &Issuer, notice_secs: u64| {
            let left = ca.not_after_secs.saturating_sub(now.0);
            (left <= life_secs.saturating_add(notice_secs)).then_some(EndsSoon {
                kind,
                number,
                at: UnixSecs(ca.not_after_secs),
            })
        };
        let (root, issuing) = (&self.newest_root, &self.newest);
        // With a new root there is a new issuing CA, too.
        soon(Kind::Root, root.number, &root.ca, ROOT_NOTICE_SECS).or_else(|| {
            soon(
                Kind::Issuing,
                issuing.number,
                &issuing.ca,
                ISSUING_NOTICE_SECS,
            )
        })
    }
}

/// A root, or an issuing CA, after which there should be another soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndsSoon {
    /// Which of the two it is, and what rollover there should be.
    pub kind: Kind,
    /// Its number.
    pub number: u32,
    /// Its last second.
    pub at: UnixSecs,
}

/// Number of the newest generation.
///
/// # Errors
/// `NoKey` if there is no CA.
pub fn newest(tx: &Tx<'_>) -> Result<u32, RoleError> {
    let newest: Option<Option<u32>> =
        tx.query_opt("SELECT max(number) FROM ca_issuing", params![], |r| {
            r.get(0)
        })?;
    newest.flatten().ok_or(RoleError::NoKey(ISSUING_KEY))
}

/// The last shard of an issuing CA: where the next one begins, or the last that there is.
pub(crate) fn last_shard(tx: &Tx<'_>, of: &Generation) -> Result<u64, StoreError> {
    let next: Option<Option<i64>> = tx.query_opt(
        "SELECT min(first_shard) FROM ca_issuing WHERE number > ?1",
        params![of.number],
        |r| r.get(0),
    )?;
    match next.flatten() {
        Some(next) => Ok(u64::try_from(next).unwrap_or(0).saturating_sub(1)),
        None => revocation::last_shard(tx),
    }
}

/// Stores a generation, unless another is the newest meanwhile.
fn store(tx: &Tx<'_>, draft: &next::Draft, now: UnixSecs) -> Result<bool, RoleError> {
    let number = draft.made.number;
    if newest(tx)?.saturating_add(1) != number {
        return Ok(false);
    }
    let certificate = &draft.made.root.cert_der;
    if let Some((key, links)) = &draft.root {
        put_root(tx, draft.root_number, certificate, links, key, now)?;
    }
    let first_shard = revocation::begin_shard(tx)?;
    let row = IssuingRow {
        number,
        root: draft.root_number,
        certificate: draft.made.issuing.cert_der.clone(),
        first_shard,
        after_leak: draft.after_leak,
        distrusted: None,
    };
    put_issuing(tx, &row, &draft.issuing_key, now)?;
    Ok(true)
}

/// Stores the first generation. Returns whether there was none.
pub(crate) fn put_first(
    tx: &Tx<'_>,
    (root, root_key): (&[u8], &SealedKey),
    (issuing, issuing_key): (&[u8], &SealedKey),
    now: UnixSecs,
) -> Result<bool, RoleError> {
    match newest(tx) {
        Ok(_) => return Ok(false),
        Err(RoleError::NoKey(_)) => {}
        Err(e) => return Err(e),
    }
    put_root(tx, 1, root, &Links::default(), root_key, now)?;
    let row = IssuingRow {
        number: 1,
        root: 1,
        certificate: issuing.to_vec(),
        first_shard: 0,
        after_leak: false,
        distrusted: None,
    };
    put_issuing(tx, &row, issuing_key, now)?;
    Ok(true)
}

/// The signer of a root, for what roots sign.
pub(crate) fn root_signer(role: &Role, root: &Root) -> Result<Box<dyn Signer>, RoleError> {
    open_signer(role, ROOT_KEY, root.number, &root.ca)
}

fn open_signer(
    role: &Role,
    purpose: &'static str,
    number: u32,
    of: &Issuer,
) -> Result<Box<dyn Signer>, RoleError> {
    let key = role.open_key_of(purpose, &row_name(purpose, number))?;
    if *key.public_key() != of.public_key {
        return Err(RoleError::Sealed(purpose));
    }
    Ok(role.provider.signer(&key)?)
}

/// Name of a key's row: the first ones have none of their numbers.
fn row_name(purpose: &str, number: u32) -> String {
    match number {
        1 => purpose.to_owned(),
        _ => format!("{purpose} {number}"),
    }
}

fn put_key(
    tx: &Tx<'_>,
    purpose: &'static str,
    number: u32,
    key: &SealedKey,
    now: UnixSecs,
) -> Result<(), RoleError> {
    match keys::insert(tx, &row_name(purpose, number), key, secs(now))? {
        true => Ok(()),
        false => Err(RoleError::HasKey(purpose)),
    }
}

fn put_root(
    tx: &Tx<'_>,
    number: u32,
    certificate: &[u8],
    links: &Links,
    key: &SealedKey,
    now: UnixSecs,
) -> Result<(), RoleError> {
    put_key(tx, ROOT_KEY, number, key, now)?;
    tx.execute(
        "INSERT INTO ca_root(number, certificate, new_with_old, old_with_new, made_at) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            number,
            certificate,
            links.new_with_old,
            links.old_with_new,
            secs(now)
        ],
    )?;
    Ok(())
}

fn put_issuing(
    tx: &Tx<'_>,
    row: &IssuingRow,
    key: &SealedKey,
    now: UnixSecs,
) -> Result<(), RoleError> {
    put_key(tx, ISSUING_KEY, row.number, key, now)?;
    tx.execute(
        "INSERT INTO ca_issuing(number, root, certificate, first_shard, made_at, after_leak) \
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
        params![
            row.number,
            row.root,
            row.certificate,
            revocation::signed(row.first_shard),
            secs(now),
            row.after_leak
        ],
    )?;
    Ok(())
}

/// The roots, oldest first. A root is not to be trusted any more once a later one was made after a leak:
/// it may lead to the key that leaked.
pub(crate) fn roots(tx: &Tx<'_>) -> Result<Vec<Root>, RoleError> {
    type Row = (u32, Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>);
    let rows: Vec<Row> = tx.query_all(
        "SELECT number, certificate, new_with_old, old_with_new, \
         (SELECT min(i.made_at) FROM ca_issuing AS i \
          WHERE i.after_leak = 1 AND i.root > ca_root.number \
          AND i.number = (SELECT min(number) FROM ca_issuing WHERE root = i.root)) \
         FROM ca_root ORDER BY number",
        params![],
        |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?, r.get(4)?)),
    )?;
    let root = |(number, certificate, new_with_old, old_with_new, distrusted): Row| {
        let ca = Issuer::from_cert(&certificate)?;
        Ok(Root {
            number,
            id: hex::encode(&ca.key_id),
            ca,
            links: Links {
                new_with_old,
                old_with_new,
            },
            distrusted: distrusted.map(moment),
        })
    };
    rows.into_iter().map(root).collect()
}

/// An issuing CA as the store has it.
pub(crate) struct IssuingRow {
    number: u32,
    pub(crate) root: u32,
    /// DER.
    pub(crate) certificate: Vec<u8>,
    first_shard: u64,
    after_leak: bool,
    /// Since when it is not to be trusted any more.
    pub(crate) distrusted: Option<UnixSecs>,
}

/// The issuing CAs, oldest first. One is not to be trusted any more once a later one was made after a leak.
pub(crate) fn issuing(tx: &Tx<'_>) -> Result<Vec<IssuingRow>, StoreError> {
    tx.query_all(
        "SELECT number, root, certificate, first_shard, after_leak, \
         (SELECT min(i.made_at) FROM ca_issuing AS i \
          WHERE i.after_leak = 1 AND i.number > ca_issuing.number) \
         FROM ca_issuing ORDER BY number",
        params![],
        |r| {
            Ok(IssuingRow {
                number: r.get(0)?,
                root: r.get(1)?,
                certificate: r.get(2)?,
                first_shard: r.get::<i64>(3)?.try_into().unwrap_or(0),
                after_leak: r.get(4)?,
                distrusted: r.get::<Option<i64>>(5)?.map(moment),
            })
        },
    )
}

/// The moment of the last record: a certificate's intent, or a generation.
pub(crate) fn last_recorded(tx: &Tx<'_>) -> Result<UnixSecs, StoreError> {
    let made: Option<Option<i64>> =
        tx.query_opt("SELECT max(made_at) FROM ca_issuing", params![], |r| {
            r.get(0)
        })?;
    // Serial numbers are in the order of time.
    let intended: Option<i64> = tx.query_opt(
        "SELECT intended_at FROM certificate ORDER BY serial DESC LIMIT 1",
        params![],
        |r| r.get(0),
    )?;
    Ok(moment(made.flatten().max(intended).unwrap_or(0)))
}

fn moment(at: i64) -> UnixSecs {
    UnixSecs(u64::try_from(at).unwrap_or(0))
}

/// Sealing purpose of roots' keys, and name of the first one's row.
pub(crate) const ROOT_KEY: &str = "ca root key";
/// Sealing purpose of issuing keys, and name of the first one's row.
pub(crate) const ISSUING_KEY: &str = "ca issuing key";
/// Most roots that a procedure trusts; it may have eight.
const ANCHORS_MAX: usize = 4;
/// Most certificates below the roots that are told of: messages have room for some, and what matters
/// comes first.
const INTERMEDIATES_MAX: usize = 12;
/// Longest path that is sent, the issuing CA included and the leaf not: verifiers follow so many (with the
/// leaf five, `tegata_crypto::chain::PATH_LEN_MAX`), and so do devices.
const PATH_MAX: usize = 4;
/// A rollover is due this long before an issuing CA would cut certificates short, seconds: 90 days.
const ISSUING_NOTICE_SECS: u64 = 90 * 86_400;
/// The same of a root, seconds: two years. Devices learn of the next one by a release only.
const ROOT_NOTICE_SECS: u64 = 2 * 365 * 86_400;
