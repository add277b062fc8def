//! Checkpoints, off the way of commits: a thread moves the log into the file while others commit.
//!
//! SQLite begins its log anew once all of it is in the file and nobody reads from it. While commits
//! never stop it is never all of it, and the log would grow without end. So when it is long, the
//! thread moves what is left between two commits: that is little, since the most was moved before. And
//! it waits there until the last reader of the log has ended; new ones read the file.

use std::path::Path;
use std::sync::Weak;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, DEFAULT_NAME};

use super::writer::Writer;
use crate::StoreError;

/// The thread; dropping this waits for its end, which comes when the writer is gone.
pub(super) struct Checkpoints {
    thread: Option<JoinHandle<()>>,
}

/// Takes the checkpoints away from a connection's commits; what is told when the log is long.
pub(super) fn take_from(conn: &mut Connection) -> rusqlite::Result<Receiver<()>> {
    let (poke, pokes): (SyncSender<()>, _) = sync_channel(1);
    // The hook takes the place of SQLite's own checkpoints.
    conn.wal_hook(Some(move |_: &mut _, pages| {
        if pages >= LOG_PAGES_SOON {
            // Full: the thread is told already.
            let _ = poke.try_send(());
        }
        Ok(())
    }))?;
    Ok(pokes)
}

impl Checkpoints {
    /// Begins the thread, on a connection of its own.
    pub(super) fn begin(
        path: &Path,
        conn: Connection,
        pokes: Receiver<()>,
        writer: Weak<Writer>,
    ) -> Result<Self, StoreError> {
        let name = "store checkpoints".to_owned();
        let thread = std::thread::Builder::new().name(name);
        let thread = thread.spawn(move || {
            for () in pokes {
                checkpoint(&conn, &writer);
            }
        });
        let thread = thread.map_err(|e| StoreError::NotAccessible {
            path: path.to_path_buf(),
            cause: format!("no thread for its checkpoints: {e}"),
        })?;
        Ok(Self {
            thread: Some(thread),
        })
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take() {
            // A panic in it was told when it happened.
            let _ = thread.join();
        }
    }
}

/// Moves what is in the log into the file. A failure loses nothing: the log has it, and the next
/// commit tells this thread again.
fn checkpoint(conn: &Connection, writer: &Weak<Writer>) {
    let pass = |mode| conn.wal_checkpoint_v2(DEFAULT_NAME, mode);
    let Ok((log, _)) = pass(CheckpointMode::PASSIVE) else {
        return;
    };
    if log < LOG_PAGES_LONG {
        return;
    }
    // What came in during the first pass; then the few pages that came in during this one.
    let ended = pass(CheckpointMode::PASSIVE).is_ok()
        && writer.upgrade().is_some_and(|writer| {
            let done = writer.between("checkpoint", |_| pass(CheckpointMode::RESTART));
            done.is_ok()
        });
    // Somebody reads for long, a backup: commits are not stopped for it over and over.
    if !ended {
        std::thread::sleep(PAUSE);
    }
}

/// How long commits wait for the last readers of the log.
pub(super) const READERS_WAIT: Duration = Duration::from_millis(50);
/// How long it is let alone after that was in vain.
const PAUSE: Duration = Duration::from_secs(1);

/// Pages in the log, of 4 KiB, from which on it is moved: 16 MB.
const LOG_PAGES_SOON: i32 = 4_096;
/// Pages in the log from which on commits wait for its end: 64 MB.
const LOG_PAGES_LONG: i32 = 16_384;
