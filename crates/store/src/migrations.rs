//! The schema, step by step. A step that was released is never edited: a new one is added.

use std::path::Path;

use rusqlite::{Connection, TransactionBehavior};

use crate::StoreError;

/// Runs the steps the file lacks, each in one transaction with its mark.
pub(crate) fn bring_up(path: &Path, conn: &mut Connection) -> Result<(), StoreError> {
    let sql = |e| StoreError::from_sqlite(path, "migrate", e);
    let known = i64::try_from(STEPS.len()).unwrap_or(i64::MAX);
    // A table that others refer to is replaced by its successor. What refers to what is looked at below.
    let enforced = |on: bool| format!("PRAGMA foreign_keys = {on}");
    let keys: bool = conn
        .query_row("PRAGMA foreign_keys", [], |r| r.get(0))
        .map_err(sql)?;
    conn.execute_batch(&enforced(false)).map_err(sql)?;
    let tx = conn
        .transaction_with_behavior(TransactionBehavior::Immediate)
        .map_err(sql)?;
    tx.execute_batch(
        "CREATE TABLE IF NOT EXISTS migration(\
           version INTEGER PRIMARY KEY, what TEXT NOT NULL) STRICT",
    )
    .map_err(sql)?;
    let found: i64 = tx
        .query_row("SELECT coalesce(max(version), 0) FROM migration", [], |r| {
            r.get(0)
        })
        .map_err(sql)?;
    if found > known {
        return Err(StoreError::Newer {
            path: path.to_path_buf(),
            found,
            known,
        });
    }
    for (version, (what, step)) in (1i64..).zip(STEPS).filter(|(v, _)| *v > found) {
        tx.execute_batch(step).map_err(sql)?;
        tx.execute("INSERT INTO migration VALUES (?1, ?2)", (version, what))
            .map_err(sql)?;
    }
    if found < known {
        let dangling: i64 = tx
            .query_row("SELECT count(*) FROM pragma_foreign_key_check", [], |r| {
                r.get(0)
            })
            .map_err(sql)?;
        if dangling != 0 {
            return Err(StoreError::Damaged {
                path: path.to_path_buf(),
                finding: format!("{dangling} rows refer to what is not there"),
            });
        }
    }
    tx.commit().map_err(sql)?;
    conn.execute_batch(&enforced(keys)).map_err(sql)
}

/// What each step is for, and its statements.
pub(crate) const STEPS: &[(&str, &str)] = &[
    (
        "the main job: keys, devices, releases, certificates, sessions",
        FIRST,
    ),
    (
        "decisions on who may get a release are counted, so that a TAM follows the last one",
        "ALTER TABLE release ADD COLUMN rule_number INTEGER NOT NULL DEFAULT 0;",
    ),
    (
        "the last statement of each device, so that a replay, a delay or a leap shows",
        "CREATE TABLE statement_last(\
           ueid BLOB PRIMARY KEY, number INTEGER NOT NULL, made_at INTEGER NOT NULL, \
           latitude REAL, longitude REAL, accuracy REAL, seen_at INTEGER NOT NULL\
         ) STRICT, WITHOUT ROWID;",
    ),
    (
        "statements are counted by certificate: a TA that is installed anew counts from 1",
        // Whose the numbers were is not known, so they go. The times move on by the second that
        // keeps the last statement itself from passing again.
        "CREATE TABLE statement_counted(\
           ueid BLOB NOT NULL, certificate BLOB NOT NULL, number INTEGER NOT NULL, \
           made_at INTEGER NOT NULL, seen_at INTEGER NOT NULL, PRIMARY KEY(ueid, certificate)\
         ) STRICT, WITHOUT ROWID; \
         CREATE TABLE statement_place(\
           ueid BLOB PRIMARY KEY, latitude REAL NOT NULL, longitude REAL NOT NULL, \
           accuracy REAL NOT NULL, made_at INTEGER NOT NULL, seen_at INTEGER NOT NULL\
         ) STRICT, WITHOUT ROWID; \
         INSERT INTO statement_place SELECT ueid, latitude, longitude, accuracy, made_at + 1, \
           seen_at FROM statement_last \
           WHERE latitude IS NOT NULL AND longitude IS NOT NULL AND accuracy IS NOT NULL; \
         DROP TABLE statement_last;",
    ),
    (
        "revocation: what changed by number, shards of certificates, where their status is found",
        REVOCATION,
    ),
    (
        "renewal: what a certificate replaces, and who may confirm it",
        RENEWAL,
    ),
    (
        "stops: whom the CA gives no certificate until the operator says otherwise",
        "CREATE TABLE issuance_stop(\
           id INTEGER PRIMARY KEY AUTOINCREMENT, release BLOB, ta TEXT, below INTEGER, \
           model TEXT, batch TEXT, profile TEXT, device_id INTEGER REFERENCES device(id), \
           at INTEGER NOT NULL\
         ) STRICT;\
         -- What predicates ask for, in the order of issuance: a run must not read the certificates.
         CREATE INDEX certificate_scope ON certificate(\
           serial, not_after, device_id, shard, intended_at, release, profile);",
    ),
    ("when the Verifier last affirmed each device", ATTESTED),
    (
        "retention: certificates that ended long ago are in an archive, and not in lists",
        RETENTION,
    ),
    (
        "enrolment secrets, and requests that await an operator",
        SECRETS,
    ),
    (
        "what is asked of one device, and what may have to come back from the archive, by index",
        BY_DEVICE,
    ),
    (
        "generations: a CA has several issuing CAs and roots",
        GENERATIONS,
    ),
    (
        "generations that were made after a leak: what was before them is not to be trusted any more",
        AFTER_LEAK,
    ),
    (
        "shards are filled in several lanes, so that processes do not wait for one row",
        LANES,
    ),
    (
        "certificates by row number, without the bytes that were signed: a quarter of the pages",
        SHORT_ROWS,
    ),
    (
        "devices without our TEE, by the operator's word, and certificates that came by evidence",
        EVIDENCE,
    ),
    (
        "what is in lists, by index: what was archived is not looked at for them",
        LISTED,
    ),
    (
        "releases from a number on in stops; the runtime that the Verifier affirmed of each device",
        RANGES,
    ),
];

/// Times are seconds since 1970 UTC unless the name says `_ms`.
const FIRST: &str = "
CREATE TABLE sealed_key(
  name TEXT PRIMARY KEY, public BLOB NOT NULL, sealed BLOB NOT NULL, made_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE document(
  name TEXT PRIMARY KEY, body BLOB NOT NULL, made_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE trusted_key(
  purpose TEXT NOT NULL, kid BLOB NOT NULL, public BLOB NOT NULL, label TEXT NOT NULL,
  added_at INTEGER NOT NULL, PRIMARY KEY(purpose, kid)
) STRICT, WITHOUT ROWID;

CREATE TABLE device_batch(
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, batch TEXT NOT NULL, maker TEXT NOT NULL,
  made_at INTEGER NOT NULL, imported_at INTEGER NOT NULL, factory_kid BLOB NOT NULL
) STRICT;

CREATE TABLE device(
  id INTEGER PRIMARY KEY, ueid BLOB NOT NULL UNIQUE, teep_kid BLOB NOT NULL UNIQUE,
  attestation_kid BLOB NOT NULL UNIQUE, batch_id INTEGER NOT NULL REFERENCES device_batch(id),
  model TEXT NOT NULL, serial TEXT NOT NULL, endorsement BLOB NOT NULL,
  sealed_kek BLOB
) STRICT;
CREATE INDEX device_by_serial ON device(serial);

CREATE TABLE release(
  digest BLOB PRIMARY KEY, prefix BLOB NOT NULL UNIQUE, signer BLOB NOT NULL, ta BLOB NOT NULL,
  name TEXT NOT NULL, sequence INTEGER NOT NULL, record BLOB NOT NULL, ciphertext BLOB,
  sealed BLOB, availability BLOB NOT NULL, made_at INTEGER NOT NULL,
  UNIQUE(signer, ta, sequence)
) STRICT;

CREATE TABLE certificate(
  serial BLOB PRIMARY KEY, device_id INTEGER NOT NULL REFERENCES device(id),
  csr_digest BLOB NOT NULL, profile TEXT NOT NULL, release BLOB NOT NULL,
  issuer TEXT NOT NULL, tbs BLOB NOT NULL, not_after INTEGER NOT NULL,
  intended_at INTEGER NOT NULL, der BLOB, issued_at INTEGER, confirmed_at INTEGER,
  rejected_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX certificate_by_request ON certificate(device_id, csr_digest);
CREATE UNIQUE INDEX certificate_unfinished ON certificate(serial) WHERE der IS NULL;

CREATE TABLE cmp_transaction(
  started_at INTEGER NOT NULL, transaction_id BLOB NOT NULL, device_id INTEGER NOT NULL,
  serial BLOB NOT NULL, server_nonce BLOB NOT NULL, device_nonce BLOB NOT NULL,
  PRIMARY KEY(device_id, transaction_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX cmp_transaction_by_time ON cmp_transaction(started_at);

CREATE TABLE delivery(
  device_id INTEGER NOT NULL REFERENCES device(id), release BLOB NOT NULL, body BLOB NOT NULL,
  made_at INTEGER NOT NULL, PRIMARY KEY(device_id, release)
) STRICT, WITHOUT ROWID;

CREATE TABLE teep_challenge(
  challenge BLOB PRIMARY KEY, device_id INTEGER NOT NULL, used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE teep_update(
  token BLOB PRIMARY KEY, device_id INTEGER NOT NULL REFERENCES device(id), ta BLOB NOT NULL,
  release BLOB, sequence INTEGER, sent_at INTEGER NOT NULL, outcome TEXT, detail TEXT,
  reports BLOB, ended_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX teep_update_by_device ON teep_update(device_id, sent_at);

CREATE TABLE installed(
  device_id INTEGER NOT NULL REFERENCES device(id), ta BLOB NOT NULL, release BLOB,
  sequence INTEGER, reported_at INTEGER NOT NULL, PRIMARY KEY(device_id, ta)
) STRICT, WITHOUT ROWID;

CREATE TABLE reference_value(
  release BLOB PRIMARY KEY, record BLOB NOT NULL, added_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE appraisal(
  at_ms INTEGER NOT NULL, device_id INTEGER NOT NULL, status TEXT NOT NULL, ear BLOB NOT NULL,
  evidence_digest BLOB NOT NULL, PRIMARY KEY(device_id, at_ms, evidence_digest)
) STRICT, WITHOUT ROWID;
";

/// Certificates that were there are dealt to shards in the order of their numbers, 65,536 each.
const REVOCATION: &str = "
ALTER TABLE certificate ADD COLUMN shard INTEGER NOT NULL DEFAULT 0;
ALTER TABLE certificate ADD COLUMN status_base INTEGER;
UPDATE certificate SET shard = dealt.shard FROM (
  SELECT serial, (row_number() OVER (ORDER BY serial) - 1) / 65536 AS shard FROM certificate
) AS dealt WHERE dealt.serial = certificate.serial;

CREATE TABLE status_base(id INTEGER PRIMARY KEY, url TEXT NOT NULL UNIQUE) STRICT;

CREATE TABLE status_counter(
  id INTEGER PRIMARY KEY CHECK (id = 1), shard INTEGER NOT NULL, in_shard INTEGER NOT NULL,
  change INTEGER NOT NULL
) STRICT;
INSERT INTO status_counter SELECT 1, coalesce(max(shard), 0), (
  SELECT count(*) FROM certificate WHERE shard = (SELECT max(shard) FROM certificate)
), 0 FROM certificate;

CREATE TABLE revocation(
  serial BLOB PRIMARY KEY, change INTEGER NOT NULL UNIQUE, shard INTEGER NOT NULL,
  at INTEGER NOT NULL, reason INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX revocation_by_shard ON revocation(shard, change);

CREATE TABLE revoked_device(
  device_id INTEGER PRIMARY KEY REFERENCES device(id), at INTEGER NOT NULL,
  reason INTEGER NOT NULL
) STRICT;
";

/// Until then only TAs asked.
const RENEWAL: &str = "
ALTER TABLE certificate ADD COLUMN replaces BLOB;
ALTER TABLE cmp_transaction ADD COLUMN asker TEXT NOT NULL DEFAULT 'ta';
";

const ATTESTED: &str = "
CREATE TABLE attested(
  device_id INTEGER PRIMARY KEY REFERENCES device(id), at INTEGER NOT NULL
) STRICT;
";

/// `kind` is what many certificates have in common; `status_base` in it is 0 where there is none, so
/// that equal kinds are one row.
const RETENTION: &str = "
CREATE TABLE archive_kind(
  id INTEGER PRIMARY KEY, profile TEXT NOT NULL, release BLOB NOT NULL, issuer TEXT NOT NULL,
  status_base INTEGER NOT NULL, UNIQUE(profile, release, issuer, status_base)
) STRICT;

CREATE TABLE archive(
  id INTEGER PRIMARY KEY, serial BLOB NOT NULL UNIQUE,
  device_id INTEGER NOT NULL REFERENCES device(id), csr_digest BLOB NOT NULL,
  kind INTEGER NOT NULL REFERENCES archive_kind(id), not_after INTEGER NOT NULL,
  intended_at INTEGER NOT NULL, issued_at INTEGER, confirmed_at INTEGER, rejected_at INTEGER,
  shard INTEGER NOT NULL, der BLOB NOT NULL, archived_at INTEGER NOT NULL
) STRICT;
CREATE INDEX archive_by_device ON archive(device_id);

CREATE INDEX certificate_by_end ON certificate(not_after);
ALTER TABLE revocation ADD COLUMN listed INTEGER NOT NULL DEFAULT 1;
CREATE INDEX delivery_by_time ON delivery(made_at);
";

/// A device may have several of both.
const SECRETS: &str = "
CREATE TABLE enrolment_secret(
  id TEXT PRIMARY KEY, device_id INTEGER NOT NULL REFERENCES device(id), profile TEXT NOT NULL,
  uses INTEGER NOT NULL, used INTEGER NOT NULL, made_at INTEGER NOT NULL,
  expires_at INTEGER NOT NULL, sealed BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE approval(
  device_id INTEGER NOT NULL REFERENCES device(id), digest BLOB NOT NULL, profile TEXT NOT NULL,
  transaction_id BLOB NOT NULL, asker TEXT NOT NULL, body BLOB NOT NULL,
  asked_at INTEGER NOT NULL, decided_at INTEGER, approved INTEGER,
  PRIMARY KEY(device_id, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX approval_by_time ON approval(asked_at);
";

/// A device's requests and last end are looked up while its next certificate is fixed.
const BY_DEVICE: &str = "
DROP INDEX archive_by_device;
CREATE INDEX archive_by_request ON archive(device_id, csr_digest);
CREATE INDEX archive_by_kind ON archive(device_id, kind, not_after);
CREATE INDEX archive_by_end ON archive(not_after, serial);
CREATE INDEX certificate_by_device ON certificate(device_id, intended_at);
";

/// The certificates of what was the only generation move; its keys stay where they are.
const GENERATIONS: &str = "
CREATE TABLE ca_root(
  number INTEGER PRIMARY KEY, certificate BLOB NOT NULL, new_with_old BLOB, old_with_new BLOB,
  list BLOB, made_at INTEGER NOT NULL
) STRICT;
INSERT INTO ca_root SELECT 1, body, NULL, NULL,
  (SELECT body FROM document WHERE name = 'ca root list'), made_at
  FROM document WHERE name = 'ca root certificate';

CREATE TABLE ca_issuing(
  number INTEGER PRIMARY KEY, root INTEGER NOT NULL REFERENCES ca_root(number),
  certificate BLOB NOT NULL, first_shard INTEGER NOT NULL, made_at INTEGER NOT NULL
) STRICT;
INSERT INTO ca_issuing SELECT 1, 1, body, 0, made_at
  FROM document WHERE name = 'ca issuing certificate';

DELETE FROM document WHERE name IN ('ca root certificate', 'ca issuing certificate', 'ca root list');
";

const AFTER_LEAK: &str = "
ALTER TABLE ca_issuing ADD COLUMN after_leak INTEGER NOT NULL DEFAULT 0;
";

/// A process that has the file to itself fills one lane, the first.
const LANES: &str = "
CREATE TABLE shard_lane(
  lane INTEGER PRIMARY KEY, shard INTEGER NOT NULL, in_shard INTEGER NOT NULL
) STRICT;
INSERT INTO shard_lane SELECT 0, shard, in_shard FROM status_counter;
ALTER TABLE status_counter DROP COLUMN in_shard;
";

/// A table that is its own index moves what is longer than a kilobyte into pages of their own, which a
/// certificate was. Indexes name a row by a few bytes now, and not by its serial number. What was signed is
/// in the certificate.
const SHORT_ROWS: &str = "
CREATE TABLE certificate_short(
  id INTEGER PRIMARY KEY, serial BLOB NOT NULL UNIQUE,
  device_id INTEGER NOT NULL REFERENCES device(id), csr_digest BLOB NOT NULL, profile TEXT NOT NULL,
  release BLOB NOT NULL, issuer TEXT NOT NULL, tbs BLOB NOT NULL, not_after INTEGER NOT NULL,
  intended_at INTEGER NOT NULL, der BLOB, issued_at INTEGER, confirmed_at INTEGER,
  rejected_at INTEGER, shard INTEGER NOT NULL DEFAULT 0, status_base INTEGER, replaces BLOB
) STRICT;
INSERT INTO certificate_short(serial, device_id, csr_digest, profile, release, issuer, tbs, not_after,
    intended_at, der, issued_at, confirmed_at, rejected_at, shard, status_base, replaces)
  SELECT serial, device_id, csr_digest, profile, release, issuer, iif(der IS NULL, tbs, x''),
    not_after, intended_at, der, issued_at, confirmed_at, rejected_at, shard, status_base, replaces
  FROM certificate ORDER BY serial;
DROP TABLE certificate;
ALTER TABLE certificate_short RENAME TO certificate;
CREATE UNIQUE INDEX certificate_by_request ON certificate(device_id, csr_digest);
CREATE UNIQUE INDEX certificate_unfinished ON certificate(serial) WHERE der IS NULL;
CREATE INDEX certificate_scope ON certificate(
  serial, not_after, device_id, shard, intended_at, release, profile);
CREATE INDEX certificate_by_end ON certificate(not_after);
CREATE INDEX certificate_by_device ON certificate(device_id, intended_at);
";

/// A device that has no TEEP Agent has no key of it, and a batch that no factory signed has no factory's.
/// The certificates that refer to devices stay as they are: the rows keep their numbers.
const EVIDENCE: &str = "
CREATE TABLE device_batch_new(
  id INTEGER PRIMARY KEY, digest BLOB NOT NULL UNIQUE, batch TEXT NOT NULL, maker TEXT NOT NULL,
  made_at INTEGER NOT NULL, imported_at INTEGER NOT NULL, factory_kid BLOB
) STRICT;
INSERT INTO device_batch_new SELECT id, digest, batch, maker, made_at, imported_at, factory_kid
  FROM device_batch;
DROP TABLE device_batch;
ALTER TABLE device_batch_new RENAME TO device_batch;

CREATE TABLE device_new(
  id INTEGER PRIMARY KEY, ueid BLOB NOT NULL UNIQUE, teep_kid BLOB UNIQUE,
  attestation_kid BLOB NOT NULL UNIQUE, batch_id INTEGER NOT NULL REFERENCES device_batch(id),
  model TEXT NOT NULL, serial TEXT NOT NULL, endorsement BLOB NOT NULL,
  sealed_kek BLOB
) STRICT;
INSERT INTO device_new SELECT id, ueid, teep_kid, attestation_kid, batch_id, model, serial, endorsement,
  sealed_kek FROM device;
DROP TABLE device;
ALTER TABLE device_new RENAME TO device;
CREATE INDEX device_by_serial ON device(serial);

CREATE TABLE evidence_nonce(
  nonce BLOB PRIMARY KEY, request BLOB NOT NULL, used_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX evidence_nonce_by_time ON evidence_nonce(used_at);
ALTER TABLE certificate ADD COLUMN evidence BLOB;
ALTER TABLE archive ADD COLUMN evidence BLOB;
";

/// It has all that a list needs: the serial number is in each index of that table.
const LISTED: &str = "
CREATE INDEX revocation_listed ON revocation(shard, change, at, reason) WHERE listed = 1;
";

/// `runtime_order` is what versions are compared by: the four numbers of `runtime_version`, big-endian.
const RANGES: &str = "
ALTER TABLE issuance_stop ADD COLUMN at_least INTEGER;
ALTER TABLE attested ADD COLUMN runtime TEXT;
ALTER TABLE attested ADD COLUMN runtime_version TEXT;
ALTER TABLE attested ADD COLUMN runtime_order BLOB;
CREATE INDEX attested_by_runtime ON attested(runtime) WHERE runtime IS NOT NULL;
";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // Tests.

    use super::*;

    #[test]
    fn the_only_generation_there_was_becomes_the_first() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "CREATE TABLE migration(version INTEGER PRIMARY KEY, what TEXT NOT NULL) STRICT",
        )
        .unwrap();
        for (version, (what, step)) in (1i64..).zip(STEPS) {
            if *step == GENERATIONS {
                break;
            }
            conn.execute_batch(step).unwrap();
            conn.execute("INSERT INTO migration VALUES (?1, ?2)", (version, what))
                .unwrap();
        }
        conn.execute_batch(
            "INSERT INTO document VALUES ('ca root certificate', x'01', 7);
             INSERT INTO document VALUES ('ca issuing certificate', x'02', 8);
             INSERT INTO document VALUES ('ca root list', x'03', 9);
             INSERT INTO document VALUES ('other', x'04', 9);",
        )
        .unwrap();
        bring_up(Path::new("t"), &mut conn).unwrap();
        let (root, list): (Vec<u8>, Vec<u8>) = conn
            .query_row(
                "SELECT certificate, list FROM ca_root WHERE number = 1",
                [],
                |r| Ok((r.get(0)?, r.get(1)?)),
            )
            .unwrap();
        assert_eq!((root, list), (vec![1], vec![3]));
        let issuing = "SELECT certificate, root, first_shard FROM ca_issuing WHERE number = 1";
        let issuing: (Vec<u8>, i64, i64) = conn
            .query_row(issuing, [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
            .unwrap();
        assert_eq!(issuing, (vec![2], 1, 0));
        let left: i64 = conn
            .query_row("SELECT count(*) FROM document", [], |r| r.get(0))
            .unwrap();
        assert_eq!(left, 1);
    }

    #[test]
    fn devices_keep_their_numbers_and_what_refers_to_them() {
        let mut conn = Connection::open_in_memory().unwrap();
        conn.execute_batch(
            "PRAGMA foreign_keys = ON;
             CREATE TABLE migration(version INTEGER PRIMARY KEY, what TEXT NOT NULL) STRICT",
        )
        .unwrap();
        for (version, (what, step)) in (1i64..).zip(STEPS) {
            if *step == EVIDENCE {
                break;
            }
            conn.execute_batch(step).unwrap();
            conn.execute("INSERT INTO migration VALUES (?1, ?2)", (version, what))
                .unwrap();
        }
        conn.execute_batch(
            "INSERT INTO device_batch VALUES (3, x'03', 'b', 'm', 1, 2, x'ff');
             INSERT INTO device VALUES (7, x'07', x'17', x'27', 3, 'M', 'S', x'37', x'47');
             INSERT INTO revoked_device VALUES (7, 1, 1);",
        )
        .unwrap();
        bring_up(Path::new("t"), &mut conn).unwrap();
        let row: (i64, Vec<u8>, i64, Vec<u8>) = conn
            .query_row(
                "SELECT device.id, teep_kid, batch_id, factory_kid FROM device \
                 JOIN device_batch ON device_batch.id = batch_id \
                 JOIN revoked_device ON device_id = device.id WHERE serial = 'S'",
                [],
                |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)),
            )
            .unwrap();
        assert_eq!(row, (7, vec![0x17], 3, vec![0xff]));
        // What refers to nothing is refused again, and a device may be without a TEEP key.
        let alone = "INSERT INTO revoked_device VALUES (8, 1, 1)";
        assert!(conn.execute_batch(alone).is_err());
        conn.execute_batch(
            "INSERT INTO device VALUES (8, x'08', NULL, x'28', 3, 'M', 'T', x'38', NULL);
             INSERT INTO device VALUES (9, x'09', NULL, x'29', 3, 'M', 'U', x'39', NULL);
             INSERT INTO revoked_device VALUES (8, 1, 1)",
        )
        .unwrap();
        // Again: nothing to do, and the same is enforced.
        bring_up(Path::new("t"), &mut conn).unwrap();
        assert!(
            conn.execute_batch("DELETE FROM device WHERE id = 8")
                .is_err()
        );
    }
}
