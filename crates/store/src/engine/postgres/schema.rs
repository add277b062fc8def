//! The schema in PostgreSQL: the same tables as in SQLite, in the same steps.
//!
//! Only what CockroachDB and YugabyteDB have too. Keys that are read by equality alone may be distributed
//! by hash there; which those are stands in docs/ops/scale.md. SQLite has indexes that this has not:
//! those that spare it the large columns of a row.

use super::Address;
use super::session::{Failure, Session};
use crate::engine::{EngineError, params};
use crate::{StoreError, migrations};

/// Runs the steps that the schema lacks, with their marks, all or none; what comes before a later part of
/// a step stays even if that fails, and is run again then.
pub(super) fn bring_up(session: &mut Session, address: &Address) -> Result<(), StoreError> {
    for _ in 0..TRIES_MAX {
        match try_to(session, address) {
            // Two processes that begin at once: the other one did it, or some of it.
            Err(Trouble::Engine(e)) if is_passing(session, &e) => {
                session
                    .run("ROLLBACK")
                    .map_err(|e| address.failed(STEP, e))?;
            }
            Err(Trouble::Engine(e)) => return Err(address.failed(STEP, e)),
            Err(Trouble::Said(e)) => return Err(e),
            Ok(()) => return Ok(()),
        }
    }
    Err(StoreError::Contended { step: STEP })
}

/// Refuses a database that cannot keep every name: of devices, makers, batches, in any script.
pub(super) fn check_encoding(session: &mut Session, address: &Address) -> Result<(), StoreError> {
    let utf8 = "SELECT count(*) FROM (SELECT current_setting('server_encoding') AS has) AS now \
                WHERE upper(has) IN ('UTF8', 'UTF-8')";
    match session.number(utf8, params![]) {
        Ok(0) => Err(address.refused(
            "its encoding is not UTF8, so names in some scripts could not be kept: make one with ENCODING 'UTF8'"
                .to_owned(),
        )),
        Ok(_) => Ok(()),
        Err(e) => Err(address.failed("connect", e)),
    }
}

/// Whether the schema has a store in it.
pub(super) fn exists(session: &mut Session, address: &Address) -> Result<bool, StoreError> {
    let named = format!("{TABLES} AND table_name = 'migration'");
    let found = session.number(&named, params![address.schema]);
    Ok(found.map_err(|e| address.failed(STEP, e))? != 0)
}

/// Whether somebody was in between, or made the schema or the table since we looked.
fn is_passing(session: &Session, e: &EngineError) -> bool {
    use tokio_postgres::error::SqlState;
    if matches!(session.failure(e), Failure::Conflict | Failure::Taken) {
        return true;
    }
    let there = [
        &SqlState::DUPLICATE_SCHEMA,
        &SqlState::DUPLICATE_TABLE,
        &SqlState::DUPLICATE_OBJECT,
    ];
    match e {
        EngineError::Postgres(e) => e.code().is_some_and(|code| there.contains(&code)),
        _ => false,
    }
}

enum Trouble {
    Engine(EngineError),
    Said(StoreError),
}

impl<E: Into<EngineError>> From<E> for Trouble {
    fn from(e: E) -> Self {
        Self::Engine(e.into())
    }
}

fn try_to(session: &mut Session, address: &Address) -> Result<(), Trouble> {
    let schema = &address.schema;
    session.run(BEGIN)?;
    let is_there = "SELECT count(*) FROM information_schema.schemata WHERE schema_name = ?1";
    if session.number(is_there, params![schema])? == 0 {
        // Checked to be a plain name.
        session.run(&format!("CREATE SCHEMA \"{schema}\""))?;
    }
    let named = format!("{TABLES} AND table_name = 'migration'");
    if session.number(&named, params![schema])? == 0 {
        if session.number(TABLES, params![schema])? != 0 {
            let path = address.place.clone();
            return Err(Trouble::Said(StoreError::NotOurs { path }));
        }
        session.run("CREATE TABLE migration(version BIGINT PRIMARY KEY, what TEXT NOT NULL)")?;
    }
    let last = "SELECT coalesce(max(version), 0) FROM migration";
    let found = session.number(last, params![])?;
    let known = i64::try_from(migrations::STEPS.len()).unwrap_or(i64::MAX);
    if found > known {
        return Err(Trouble::Said(StoreError::Newer {
            path: address.place.clone(),
            found,
            known,
        }));
    }
    for (version, what, parts) in STEPS.iter().filter(|(version, ..)| *version > found) {
        for (n, part) in parts.iter().enumerate() {
            if n > 0 {
                session.run("COMMIT")?;
                session.run(BEGIN)?;
            }
            session.run_long(part)?;
        }
        session.execute(
            "INSERT INTO migration VALUES (?1, ?2)",
            params![version, what],
        )?;
    }
    Ok(session.run("COMMIT")?)
}

const TABLES: &str = "SELECT count(*) FROM information_schema.tables WHERE table_schema = ?1";
const BEGIN: &str = "BEGIN ISOLATION LEVEL SERIALIZABLE; SET LOCAL statement_timeout = 0";
const STEP: &str = "migrate";
const TRIES_MAX: usize = 8;

/// By the number of the step in SQLite. The first is everything that there was when PostgreSQL came.
/// A step of several parts begins a transaction with each but the first, and each can be run twice.
const STEPS: &[(i64, &str, &[&str])] = &[
    (15, "the schema as it was then", &[FIRST]),
    (
        16,
        "devices without our TEE, by the operator's word, and certificates that came by evidence",
        &[EVIDENCE],
    ),
    (17, "what is in lists, by index", &[LISTED]),
    (
        18,
        "ranges of releases in stops, runtimes",
        &[RANGES, BY_RUNTIME],
    ),
];

const EVIDENCE: &str = "
ALTER TABLE device_batch ALTER COLUMN factory_kid DROP NOT NULL;
ALTER TABLE device ALTER COLUMN teep_kid DROP NOT NULL;
CREATE TABLE evidence_nonce(
  nonce BYTEA PRIMARY KEY, request BYTEA NOT NULL, used_at BIGINT NOT NULL
);
CREATE INDEX evidence_nonce_by_time ON evidence_nonce(used_at);
ALTER TABLE certificate ADD COLUMN evidence BYTEA;
ALTER TABLE archive ADD COLUMN evidence BYTEA;
";

/// Times are seconds since 1970 UTC unless the name says `_ms`.
const FIRST: &str = "
CREATE TABLE sealed_key(
  name TEXT PRIMARY KEY, public BYTEA NOT NULL, sealed BYTEA NOT NULL, made_at BIGINT NOT NULL
);
CREATE TABLE document(
  name TEXT PRIMARY KEY, body BYTEA NOT NULL, made_at BIGINT NOT NULL
);
CREATE TABLE trusted_key(
  purpose TEXT NOT NULL, kid BYTEA NOT NULL, public BYTEA NOT NULL, label TEXT NOT NULL,
  added_at BIGINT NOT NULL, PRIMARY KEY(purpose, kid)
);
CREATE TABLE device_batch(
  id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, digest BYTEA NOT NULL UNIQUE,
  batch TEXT NOT NULL, maker TEXT NOT NULL, made_at BIGINT NOT NULL, imported_at BIGINT NOT NULL,
  factory_kid BYTEA NOT NULL
);
CREATE TABLE device(
  id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, ueid BYTEA NOT NULL UNIQUE,
  teep_kid BYTEA NOT NULL UNIQUE, attestation_kid BYTEA NOT NULL UNIQUE,
  batch_id BIGINT NOT NULL REFERENCES device_batch(id), model TEXT NOT NULL, serial TEXT NOT NULL,
  endorsement BYTEA NOT NULL, sealed_kek BYTEA
);
CREATE INDEX device_by_serial ON device(serial);
CREATE TABLE release(
  digest BYTEA PRIMARY KEY, prefix BYTEA NOT NULL UNIQUE, signer BYTEA NOT NULL, ta BYTEA NOT NULL,
  name TEXT NOT NULL, sequence BIGINT NOT NULL, record BYTEA NOT NULL, ciphertext BYTEA,
  sealed BYTEA, availability BYTEA NOT NULL, made_at BIGINT NOT NULL,
  rule_number BIGINT NOT NULL DEFAULT 0, UNIQUE(signer, ta, sequence)
);
CREATE TABLE certificate(
  serial BYTEA PRIMARY KEY, device_id BIGINT NOT NULL REFERENCES device(id),
  csr_digest BYTEA NOT NULL, profile TEXT NOT NULL, release BYTEA NOT NULL, issuer TEXT NOT NULL,
  tbs BYTEA NOT NULL, not_after BIGINT NOT NULL, intended_at BIGINT NOT NULL, der BYTEA,
  issued_at BIGINT, confirmed_at BIGINT, rejected_at BIGINT, shard BIGINT NOT NULL DEFAULT 0,
  status_base BIGINT, replaces BYTEA
);
CREATE UNIQUE INDEX certificate_by_request ON certificate(device_id, csr_digest);
CREATE UNIQUE INDEX certificate_unfinished ON certificate(serial) WHERE der IS NULL;
CREATE INDEX certificate_by_end ON certificate(not_after);
CREATE INDEX certificate_by_device ON certificate(device_id, intended_at);
CREATE TABLE cmp_transaction(
  started_at BIGINT NOT NULL, transaction_id BYTEA NOT NULL, device_id BIGINT NOT NULL,
  serial BYTEA NOT NULL, server_nonce BYTEA NOT NULL, device_nonce BYTEA NOT NULL,
  asker TEXT NOT NULL DEFAULT 'ta', PRIMARY KEY(device_id, transaction_id)
);
CREATE INDEX cmp_transaction_by_time ON cmp_transaction(started_at);
CREATE TABLE delivery(
  device_id BIGINT NOT NULL REFERENCES device(id), release BYTEA NOT NULL, body BYTEA NOT NULL,
  made_at BIGINT NOT NULL, PRIMARY KEY(device_id, release)
);
CREATE INDEX delivery_by_time ON delivery(made_at);
CREATE TABLE teep_challenge(
  challenge BYTEA PRIMARY KEY, device_id BIGINT NOT NULL, used_at BIGINT NOT NULL
);
CREATE TABLE teep_update(
  token BYTEA PRIMARY KEY, device_id BIGINT NOT NULL REFERENCES device(id), ta BYTEA NOT NULL,
  release BYTEA, sequence BIGINT, sent_at BIGINT NOT NULL, outcome TEXT, detail TEXT,
  reports BYTEA, ended_at BIGINT
);
CREATE INDEX teep_update_by_device ON teep_update(device_id, sent_at);
CREATE TABLE installed(
  device_id BIGINT NOT NULL REFERENCES device(id), ta BYTEA NOT NULL, release BYTEA,
  sequence BIGINT, reported_at BIGINT NOT NULL, PRIMARY KEY(device_id, ta)
);
CREATE TABLE reference_value(
  release BYTEA PRIMARY KEY, record BYTEA NOT NULL, added_at BIGINT NOT NULL
);
CREATE TABLE appraisal(
  at_ms BIGINT NOT NULL, device_id BIGINT NOT NULL, status TEXT NOT NULL, ear BYTEA NOT NULL,
  evidence_digest BYTEA NOT NULL, PRIMARY KEY(device_id, at_ms, evidence_digest)
);
CREATE TABLE statement_counted(
  ueid BYTEA NOT NULL, certificate BYTEA NOT NULL, number BIGINT NOT NULL, made_at BIGINT NOT NULL,
  seen_at BIGINT NOT NULL, PRIMARY KEY(ueid, certificate)
);
CREATE TABLE statement_place(
  ueid BYTEA PRIMARY KEY, latitude DOUBLE PRECISION NOT NULL, longitude DOUBLE PRECISION NOT NULL,
  accuracy DOUBLE PRECISION NOT NULL, made_at BIGINT NOT NULL, seen_at BIGINT NOT NULL
);
CREATE TABLE status_base(
  id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, url TEXT NOT NULL UNIQUE
);
CREATE TABLE status_counter(
  id BIGINT PRIMARY KEY CHECK (id = 1), shard BIGINT NOT NULL, change BIGINT NOT NULL
);
INSERT INTO status_counter VALUES (1, 0, 0);
-- Rows of lanes change in place, so that they stay apart from each other.
CREATE TABLE shard_lane(
  lane BIGINT PRIMARY KEY, shard BIGINT NOT NULL, in_shard BIGINT NOT NULL
) WITH (fillfactor = 10);
INSERT INTO shard_lane VALUES (0, 0, 0);
CREATE TABLE revocation(
  serial BYTEA PRIMARY KEY, change BIGINT NOT NULL UNIQUE, shard BIGINT NOT NULL,
  at BIGINT NOT NULL, reason BIGINT NOT NULL, listed BIGINT NOT NULL DEFAULT 1
);
CREATE UNIQUE INDEX revocation_by_shard ON revocation(shard, change);
CREATE TABLE revoked_device(
  device_id BIGINT PRIMARY KEY REFERENCES device(id), at BIGINT NOT NULL, reason BIGINT NOT NULL
);
CREATE TABLE issuance_stop(
  id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, release BYTEA, ta TEXT, below BIGINT,
  model TEXT, batch TEXT, profile TEXT, device_id BIGINT REFERENCES device(id), at BIGINT NOT NULL
);
CREATE TABLE attested(
  device_id BIGINT PRIMARY KEY REFERENCES device(id), at BIGINT NOT NULL
);
CREATE TABLE archive_kind(
  id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, profile TEXT NOT NULL,
  release BYTEA NOT NULL, issuer TEXT NOT NULL, status_base BIGINT NOT NULL,
  UNIQUE(profile, release, issuer, status_base)
);
CREATE TABLE archive(
  id BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, serial BYTEA NOT NULL UNIQUE,
  device_id BIGINT NOT NULL REFERENCES device(id), csr_digest BYTEA NOT NULL,
  kind BIGINT NOT NULL REFERENCES archive_kind(id), not_after BIGINT NOT NULL,
  intended_at BIGINT NOT NULL, issued_at BIGINT, confirmed_at BIGINT, rejected_at BIGINT,
  shard BIGINT NOT NULL, der BYTEA NOT NULL, archived_at BIGINT NOT NULL
);
CREATE INDEX archive_by_request ON archive(device_id, csr_digest);
CREATE INDEX archive_by_kind ON archive(device_id, kind, not_after);
CREATE INDEX archive_by_end ON archive(not_after, serial);
CREATE TABLE enrolment_secret(
  id TEXT PRIMARY KEY, device_id BIGINT NOT NULL REFERENCES device(id), profile TEXT NOT NULL,
  uses BIGINT NOT NULL, used BIGINT NOT NULL, made_at BIGINT NOT NULL, expires_at BIGINT NOT NULL,
  sealed BYTEA NOT NULL
);
CREATE TABLE approval(
  device_id BIGINT NOT NULL REFERENCES device(id), digest BYTEA NOT NULL, profile TEXT NOT NULL,
  transaction_id BYTEA NOT NULL, asker TEXT NOT NULL, body BYTEA NOT NULL, asked_at BIGINT NOT NULL,
  decided_at BIGINT, approved BIGINT, PRIMARY KEY(device_id, digest)
);
CREATE INDEX approval_by_time ON approval(asked_at);
CREATE TABLE ca_root(
  number BIGINT PRIMARY KEY, certificate BYTEA NOT NULL, new_with_old BYTEA, old_with_new BYTEA,
  list BYTEA, made_at BIGINT NOT NULL
);
CREATE TABLE ca_issuing(
  number BIGINT PRIMARY KEY, root BIGINT NOT NULL REFERENCES ca_root(number),
  certificate BYTEA NOT NULL, first_shard BIGINT NOT NULL, made_at BIGINT NOT NULL,
  after_leak BIGINT NOT NULL DEFAULT 0
);
";

const LISTED: &str = "
CREATE INDEX revocation_listed ON revocation(shard, change) WHERE listed = 1;
";

const RANGES: &str = "
ALTER TABLE issuance_stop ADD COLUMN IF NOT EXISTS at_least BIGINT;
ALTER TABLE attested ADD COLUMN IF NOT EXISTS runtime TEXT;
ALTER TABLE attested ADD COLUMN IF NOT EXISTS runtime_version TEXT;
ALTER TABLE attested ADD COLUMN IF NOT EXISTS runtime_order BYTEA;
";

/// CockroachDB has no partial index by a column that came in the same transaction.
const BY_RUNTIME: &str = "
CREATE INDEX IF NOT EXISTS attested_by_runtime ON attested(runtime) WHERE runtime IS NOT NULL;
";

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // Tests.

    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    /// Tables with their columns, of what both engines understand of a schema's text.
    fn tables_of_postgres() -> BTreeSet<(String, BTreeSet<String>)> {
        let mut found = BTreeMap::new();
        for step in STEPS.iter().flat_map(|(_, _, parts)| *parts) {
            for part in step.split("CREATE TABLE ").skip(1) {
                let (name, rest) = part.split_once('(').unwrap();
                let body = rest.split("\n)").next().unwrap();
                let mut depth = 0_i32;
                let outside: String = body
                    .chars()
                    .map(|c| {
                        depth += i32::from(c == '(') - i32::from(c == ')');
                        match depth > 0 && c == ',' {
                            true => ' ',
                            false => c,
                        }
                    })
                    .collect();
                let columns = outside.split(',').filter_map(|column| {
                    let column = column.split_whitespace().next()?;
                    let first = column.chars().next()?;
                    first.is_lowercase().then(|| column.to_owned())
                });
                found.insert(name.trim().to_owned(), columns.collect::<BTreeSet<_>>());
            }
            for added in step.split("ALTER TABLE ").skip(1) {
                let mut words = added.split_whitespace();
                let table = words.next().unwrap();
                if (words.next(), words.next()) == (Some("ADD"), Some("COLUMN")) {
                    let column = words.find(|word| !["IF", "NOT", "EXISTS"].contains(word));
                    let columns = found.get_mut(table).unwrap();
                    columns.insert(column.unwrap().to_owned());
                }
            }
        }
        found.into_iter().collect()
    }

    #[test]
    fn both_engines_have_the_same_tables_and_columns() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("t.db");
        drop(crate::Store::open(&path).unwrap());
        let sqlite = rusqlite::Connection::open(&path).unwrap();
        let mut names = sqlite
            .prepare(
                "SELECT name FROM sqlite_master WHERE type = 'table' \
                 AND name NOT LIKE 'sqlite_%' AND name <> 'migration'",
            )
            .unwrap();
        let names = names.query_map([], |r| r.get::<_, String>(0)).unwrap();
        let tables: BTreeSet<(String, BTreeSet<String>)> = names
            .map(|name| {
                let name = name.unwrap();
                // Certificates have no number but the engine's own in PostgreSQL.
                let own = if name == "certificate" { "id" } else { "" };
                let sql =
                    format!("SELECT name FROM pragma_table_info('{name}') WHERE name <> '{own}'");
                let mut columns = sqlite.prepare(&sql).unwrap();
                let columns = columns.query_map([], |r| r.get(0)).unwrap();
                (name, columns.map(std::result::Result::unwrap).collect())
            })
            .collect();
        assert_eq!(tables_of_postgres(), tables);
    }

    #[test]
    fn no_partial_index_is_by_a_column_of_its_own_transaction() {
        let mut partial = 0;
        for step in STEPS.iter().flat_map(|(_, _, parts)| *parts) {
            let added: Vec<&str> = step
                .split(" ADD COLUMN ")
                .skip(1)
                .map(|added| added.trim_start_matches("IF NOT EXISTS "))
                .filter_map(|added| added.split_whitespace().next())
                .collect();
            for index in step.split(" INDEX ").skip(1) {
                let index = index.split(';').next().unwrap();
                let Some((_, by)) = index.split_once(" WHERE ") else {
                    continue;
                };
                partial += 1;
                assert!(!added.iter().any(|column| by.contains(column)), "{index}");
            }
        }
        assert_eq!(partial, 3);
    }

    #[test]
    fn both_engines_are_at_the_same_step() {
        let (last, ..) = STEPS.last().unwrap();
        assert_eq!(usize::try_from(*last).unwrap(), migrations::STEPS.len());
    }
}
