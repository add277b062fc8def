//! Where the stores of tests are: in files, or in schemas of one database.
//!
//! `TEGATA_TEST_POSTGRES=postgres://…` runs the suite on that database (see `.ci/postgres`), each store in
//! a schema named after the file that it would have been.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tegata_store::{Faults, Store, StoreError};

/// The database of the suite, if it runs on one.
pub fn database() -> Option<String> {
    std::env::var("TEGATA_TEST_POSTGRES").ok()
}

/// Whether stores are files. What is about files alone is left out on a database, and says so.
pub fn on_files(what: &str) -> bool {
    if database().is_some() {
        println!("left out on a database: {what}");
    }
    database().is_none()
}

/// Where the store of that file is.
pub fn place(path: impl AsRef<Path>) -> PathBuf {
    let path = path.as_ref();
    match database() {
        Some(database) if !tegata_store::is_address(path) => {
            let sign = if database.contains('?') { '&' } else { '?' };
            format!("{database}{sign}schema={}", schema(path)).into()
        }
        _ => path.to_owned(),
    }
}

/// The schema that the store of that file is in.
pub fn schema(path: &Path) -> String {
    let mut hash = DefaultHasher::new();
    path.hash(&mut hash);
    let name = path.file_stem().unwrap().to_str().unwrap();
    let plain: String = name.chars().filter(char::is_ascii_lowercase).collect();
    format!("t{:016x}_{plain}", hash.finish())
}

pub fn open_store(path: impl AsRef<Path>) -> Result<Store, StoreError> {
    Store::open(place(path))
}

pub fn open_store_with(
    path: impl AsRef<Path>,
    faults: Arc<dyn Faults>,
) -> Result<Store, StoreError> {
    Store::open_with(place(path), faults)
}

/// A connection beside the store's own, for what no program of ours would do.
pub enum Sql {
    File(rusqlite::Connection),
    Database(Database),
}

/// A connection to a database, and what drives it.
pub struct Database {
    runtime: tokio::runtime::Runtime,
    client: tokio_postgres::Client,
}

impl Sql {
    /// To the store of that file.
    pub fn open(path: &Path) -> Self {
        let Some(database) = database() else {
            let conn = rusqlite::Connection::open(path).unwrap();
            conn.busy_timeout(std::time::Duration::from_secs(5))
                .unwrap();
            conn.execute_batch("PRAGMA synchronous=OFF; PRAGMA cache_size=-200000")
                .unwrap();
            return Self::File(conn);
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let path = format!("SET search_path TO \"{}\"", schema(path));
        let client = runtime.block_on(async {
            let try_to = async || {
                let to = tokio_postgres::connect(&database, tokio_postgres::NoTls);
                let (client, connection) = to.await?;
                tokio::spawn(connection);
                client.batch_execute(&path).await?;
                Ok::<_, tokio_postgres::Error>(client)
            };
            // It may be on its way back from a crash that a test made.
            let mut tries = 0;
            loop {
                match try_to().await {
                    Ok(client) => return client,
                    Err(e) => assert!(tries < 3_000, "the database does not come back: {e}"),
                }
                tries += 1;
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        });
        Self::Database(Database { runtime, client })
    }

    /// Runs statements.
    pub fn run(&self, statements: &str) {
        match self {
            Self::File(conn) => conn.execute_batch(statements).unwrap(),
            Self::Database(db) => {
                let done = db.client.batch_execute(statements);
                db.runtime.block_on(done).unwrap();
            }
        }
    }

    /// The whole number that a query gives.
    pub fn number(&self, query: &str) -> i64 {
        match self {
            Self::File(conn) => conn.query_row(query, [], |r| r.get(0)).unwrap(),
            Self::Database(db) => {
                let row = db.client.query_one(query, &[]);
                db.runtime.block_on(row).unwrap().get(0)
            }
        }
    }

    /// A process of the database that is another one after each of its crashes, unless it is in one now.
    pub fn incarnation(&self) -> Option<i32> {
        let Self::Database(db) = self else {
            return None;
        };
        let query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'checkpointer'";
        let row = db.runtime.block_on(db.client.query_one(query, &[]));
        row.ok().map(|row| row.get(0))
    }

    /// Bytes as they are written in a statement.
    pub fn bytes(&self, bytes: &[u8]) -> String {
        match self {
            Self::File(_) => format!("X'{}'", hex::encode(bytes)),
            Self::Database(_) => format!("'\\x{}'", hex::encode(bytes)),
        }
    }
}
