//! The generations of a CA: its roots and its issuing CAs, and how the next ones come about.
//!
//! A generation is one issuing CA. The newest one issues and signs what is said over CMP; those before it
//! keep answering for what they issued, for as long as anybody may ask. So nothing here is ever removed.
//!
//! Invariants: a generation is there with key, certificate and, with a new root, both links, or it is not
//! there. It has a number that its operator gave: the same command again finds it and makes no other. Its
//! shards begin where those before it end, so each shard, and each list, is of one issuer.
//!
//! Trusted: as the CA. What a row says is read with the key that belongs to it, or the CA does not open.

use tegata_authority::UnixSecs;
use tegata_authority::ca::authority_cert::{CaDraft, Issuer, make_cross, make_issuing, make_root};
use tegata_authority::ca::status::ocsp::IssuerHashes;
use tegata_crypto::{KeyAlg, Rng, Signer};
use tegata_wire::x509::{CertView, DistinguishedName};

use crate::engine::params;
use crate::keys::{self, SealedKey};
use crate::role::{Role, RoleError, secs};
use crate::{StoreError, Tx, revocation};

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
    pub links: Option<Links>,
}

/// The two certificates (DER) between a root and the one before. Spec: RFC 9810 section 4.4.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Links {
    /// This root's key, under the root before.
    pub new_with_old: Vec<u8>,
    /// The key of the root before, under this one.
    pub old_with_new: Vec<u8>,
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
    /// How OCSP requests name it.
    pub(crate) hashes: IssuerHashes,
    /// The first of its shards.
    pub(crate) first_shard: u64,
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
                id: hex::encode(&ca.key_id),
                hashes: IssuerHashes::of(role.provider.as_ref(), &ca),
                first_shard: row.first_shard,
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

    /// The roots (DER) that have not ended, the newest first: what a procedure trusts.
    #[must_use]
    pub fn anchors(&self, now: UnixSecs) -> Vec<Vec<u8>> {
        let live = self.roots().rev();
        live.filter(|root| now.0 <= root.ca.not_after_secs)
            .map(|root| root.ca.cert_der.clone())
            .take(ANCHORS_MAX)
            .collect()
    }

    /// The certificates (DER) from an issuing CA on, its own first, that lead from its root to the roots
    /// before: what somebody needs who knows an old root alone.
    #[must_use]
    pub fn path_from(&self, of: &Generation, now: UnixSecs) -> Vec<Vec<u8>> {
        let mut path = vec![of.ca.cert_der.clone()];
        for root in self.roots().rev().filter(|root| root.number <= of.root) {
            // A link ends with its old root: beyond it nobody is left to be led there.
            let before = self.root(root.number.saturating_sub(1));
            let (Some(links), Some(before)) = (&root.links, before) else {
                break;
            };
            if before.ca.not_after_secs < now.0 || path.len() >= PATH_MAX {
                break;
            }
            path.push(links.new_with_old.clone());
        }
        path
    }

    /// Everything (DER) that a path to any root may need, each root first: roots that have not ended,
    /// issuing CAs likewise, and the links between them.
    #[must_use]
    pub fn certificates(&self, now: UnixSecs) -> Vec<Vec<u8>> {
        let mut found = self.anchors(now);
        found.extend(self.intermediates(now));
        found
    }

    /// Those of them (DER) that are no roots; the issuing CA that issues is the first.
    #[must_use]
    pub fn intermediates(&self, now: UnixSecs) -> Vec<Vec<u8>> {
        let live = self.iter().rev();
        let live = live.filter(|one| now.0 <= one.ca.not_after_secs);
        let mut found: Vec<_> = live.map(|one| one.ca.cert_der.clone()).collect();
        found.extend(self.links(now));
        found.truncate(INTERMEDIATES_MAX);
        found
    }

    /// The links (DER) between roots that have not ended, newest first.
    #[must_use]
    pub fn links(&self, now: UnixSecs) -> Vec<Vec<u8>> {
        let ended = |number: u32| {
            self.root(number)
                .is_none_or(|root| root.ca.not_after_secs < now.0)
        };
        let mut found = Vec::new();
        for root in self.roots().rev() {
            if let Some(links) = &root.links
                && !ended(root.number)
                && !ended(root.number.saturating_sub(1))
            {
                found.push(links.new_with_old.clone());
                found.push(links.old_with_new.clone());
            }
        }
        found
    }

    /// The root after this one (DER), with its links: what CMP's rootCaKeyUpdate tells. The newest one,
    /// if it followed another, where none is named.
    ///
    /// Spec: RFC 9483 section 4.3.2.
    #[must_use]
    pub fn root_after(&self, root_der: Option<&[u8]>) -> Option<(&Root, &Links)> {
        let next = match root_der {
            Some(der) => {
                let known = self.roots().find(|root| root.ca.cert_der == der)?;
                self.root(known.number.saturating_add(1))?
            }
            None => &self.newest_root,
        };
        Some((next, next.links.as_ref()?))
    }
}

/// What the next generation is to have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An issuing CA under the root that there is.
    Issuing,
    /// A new root, and an issuing CA under it.
    Root,
}

/// The next generation as its operator wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// Its number.
    pub number: u32,
    /// What it has.
    pub kind: Kind,
    /// Algorithm of its keys; absent, as before.
    pub alg: Option<KeyAlg>,
}

/// A generation that was made, or would be.
#[derive(Debug, Clone)]
pub struct Made {
    /// Its number.
    pub number: u32,
    /// The issuing CA.
    pub issuing: Issuer,
    /// Its root.
    pub root: Issuer,
    /// Whether it had been made before.
    pub again: bool,
}

/// What a generation is stored as.
struct Draft {
    made: Made,
    root_number: u32,
    root: Option<(SealedKey, Links)>,
    issuing_key: SealedKey,
}

/// Makes the next generation, all of it or nothing; what was made before under this number is found.
///
/// It is durable when this returns. A process that serves sees it at its next request.
///
/// # Errors
/// `Generation` for a number that is neither there nor the next; `OtherGeneration` for one that was
/// made the other way; a sealing key that does not open the root's; the store's failure.
pub fn roll_over(
    role: &Role,
    next: Next,
    rng: &mut dyn Rng,
    now: UnixSecs,
) -> Result<Made, RoleError> {
    if let Some(made) = find(role, next)? {
        return Ok(made);
    }
    // 1. Keys and certificates. A crash here leaves nothing; what was signed was seen by nobody.
    let draft = draft(role, next, rng, now)?;
    // 2. All of it at once, with the shards that are its own.
    let stored = role
        .store
        .run_tx("roll over", |tx| store(tx, &draft, now))?;
    if stored {
        return Ok(draft.made);
    }
    // Another command was faster, with this number: its generation is the one.
    find(role, next)?.ok_or(RoleError::Generation {
        asked: next.number,
        newest: next.number,
    })
}

/// What [`roll_over`] would make now; the keys are thrown away.
///
/// # Errors
/// As [`roll_over`].
pub fn would_roll_over(
    role: &Role,
    next: Next,
    rng: &mut dyn Rng,
    now: UnixSecs,
) -> Result<Made, RoleError> {
    match find(role, next)? {
        Some(made) => Ok(made),
        None => Ok(draft(role, next, rng, now)?.made),
    }
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

/// The generation of that number, if it is there.
fn find(role: &Role, next: Next) -> Result<Option<Made>, RoleError> {
    let present = Generations::load(role)?;
    let newest = present.newest().number;
    if next.number == newest.saturating_add(1) {
        return Ok(None);
    }
    let number = |number| present.iter().find(|one| one.number == number);
    let before = number(next.number.saturating_sub(1));
    let (Some(found), Some(before)) = (number(next.number), before) else {
        return Err(RoleError::Generation {
            asked: next.number,
            newest,
        });
    };
    let kind = match found.root == before.root {
        true => Kind::Issuing,
        false => Kind::Root,
    };
    match present.root(found.root) {
        Some(root) if kind == next.kind => Ok(Some(Made {
            number: found.number,
            issuing: found.ca.clone(),
            root: root.ca.clone(),
            again: true,
        })),
        _ => Err(RoleError::OtherGeneration(next.number)),
    }
}

fn draft(role: &Role, next: Next, rng: &mut dyn Rng, now: UnixSecs) -> Result<Draft, RoleError> {
    let present = Generations::load(role)?;
    let (old, before) = (present.newest_root(), present.newest());
    let root_number = match next.kind {
        Kind::Issuing => old.number,
        Kind::Root => old.number.saturating_add(1),
    };
    let names = CaDraft::after(&old.ca, &before.ca, root_number, next.number)?;
    let old_key = open_signer(role, ROOT_KEY, old.number, &old.ca)?;
    let issuing = role
        .provider
        .generate(next.alg.unwrap_or(before.ca.public_key.alg()), rng)?;
    let issuing_key = role.seal_key(ISSUING_KEY, &issuing, rng)?;
    let public = issuing.public_key();
    let (root, cert, sealed) = match next.kind {
        Kind::Issuing => {
            let under = &old.ca.cert_der;
            let cert = make_issuing(&names, old_key.as_ref(), under, public, rng, now)?;
            (old.ca.clone(), cert, None)
        }
        Kind::Root => {
            let alg = next.alg.unwrap_or(old.ca.public_key.alg());
            let key = role.provider.generate(alg, rng)?;
            let root = Issuer::from_cert(&make_root(&names, &key, rng, now)?)?;
            let cert = make_issuing(&names, &key, &root.cert_der, public, rng, now)?;
            let from = (&old.ca, old_key.as_ref());
            let (new_with_old, old_with_new) = make_cross(from, (&root, &key), rng, now)?;
            let links = Links {
                new_with_old,
                old_with_new,
            };
            let sealed = role.seal_key(ROOT_KEY, &key, rng)?;
            (root, cert, Some((sealed, links)))
        }
    };
    Ok(Draft {
        made: Made {
            number: next.number,
            issuing: Issuer::from_cert(&cert)?,
            root,
            again: false,
        },
        root_number,
        root: sealed,
        issuing_key,
    })
}

/// Stores a generation, unless another is the newest meanwhile.
fn store(tx: &Tx<'_>, draft: &Draft, now: UnixSecs) -> Result<bool, RoleError> {
    let number = draft.made.number;
    if newest(tx)?.saturating_add(1) != number {
        return Ok(false);
    }
    let certificate = &draft.made.root.cert_der;
    if let Some((key, links)) = &draft.root {
        put_root(tx, draft.root_number, certificate, Some(links), key, now)?;
    }
    let first_shard = revocation::begin_shard(tx)?;
    let row = IssuingRow {
        number,
        root: draft.root_number,
        certificate: draft.made.issuing.cert_der.clone(),
        first_shard,
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
    put_root(tx, 1, root, None, root_key, now)?;
    let row = IssuingRow {
        number: 1,
        root: 1,
        certificate: issuing.to_vec(),
        first_shard: 0,
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
    links: Option<&Links>,
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
            links.map(|links| &links.new_with_old),
            links.map(|links| &links.old_with_new),
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
        "INSERT INTO ca_issuing(number, root, certificate, first_shard, made_at) \
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            row.number,
            row.root,
            row.certificate,
            revocation::signed(row.first_shard),
            secs(now)
        ],
    )?;
    Ok(())
}

/// The roots, oldest first.
pub(crate) fn roots(tx: &Tx<'_>) -> Result<Vec<Root>, RoleError> {
    type Row = (u32, Vec<u8>, Option<Vec<u8>>, Option<Vec<u8>>);
    let rows: Vec<Row> = tx.query_all(
        "SELECT number, certificate, new_with_old, old_with_new FROM ca_root ORDER BY number",
        params![],
        |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)),
    )?;
    let root = |(number, certificate, new_with_old, old_with_new): Row| {
        let ca = Issuer::from_cert(&certificate)?;
        let links = new_with_old.zip(old_with_new);
        Ok(Root {
            number,
            id: hex::encode(&ca.key_id),
            ca,
            links: links.map(|(new_with_old, old_with_new)| Links {
                new_with_old,
                old_with_new,
            }),
        })
    };
    rows.into_iter().map(root).collect()
}

struct IssuingRow {
    number: u32,
    root: u32,
    certificate: Vec<u8>,
    first_shard: u64,
}

fn issuing(tx: &Tx<'_>) -> Result<Vec<IssuingRow>, StoreError> {
    tx.query_all(
        "SELECT number, root, certificate, first_shard FROM ca_issuing ORDER BY number",
        params![],
        |r| {
            Ok(IssuingRow {
                number: r.get(0)?,
                root: r.get(1)?,
                certificate: r.get(2)?,
                first_shard: r.get::<i64>(3)?.try_into().unwrap_or(0),
            })
        },
    )
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
/// Longest path that is sent, the issuing CA included: verifiers follow four, and so do devices.
const PATH_MAX: usize = 4;
