//! Checkpoints, off the way of commits: a thread moves the log into the file while others commit.
//!
//! SQLite begins its log anew once all of it is in the file and nobody reads from it. While commits
//! never stop it is never all of it, and the log would grow without end. So when it is long, the
//! thread moves what is left between two commits: that is little, since the most was moved before. And
//! it waits there until the last reader of the log has ended; new ones read the file.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::wal::CheckpointMode;
use rusqlite::{Connection, DEFAULT_NAME};

use super::writer::Writer;
use crate::StoreError;

/// The thread; dropping this ends it. The writer is to be there still: the last connection of a file moves
/// the log into it as it closes, and of two that close at once neither is the last.
pub(super) struct Checkpoints {
    thread: Option<JoinHandle<()>>,
    pokes: SyncSender<()>,
    over: Arc<AtomicBool>,
    soon: Arc<AtomicI32>,
}

/// What a connection tells of its log.
pub(super) struct Told {
    poke: SyncSender<()>,
    pokes: Receiver<()>,
    /// Pages in the log from which on it tells.
    soon: Arc<AtomicI32>,
}

/// Takes the checkpoints away from a connection's commits; what is told when the log is long.
pub(super) fn take_from(conn: &mut Connection) -> rusqlite::Result<Told> {
    let (poke, pokes): (SyncSender<()>, _) = sync_channel(1);
    let soon = Arc::new(AtomicI32::new(LOG_PAGES_SOON));
    let told = Told {
        poke: poke.clone(),
        pokes,
        soon: Arc::clone(&soon),
    };
    // The hook takes the place of SQLite's own checkpoints.
    conn.wal_hook(Some(move |_: &mut _, pages| {
        if pages >= soon.load(Ordering::Relaxed) {
            // Full: the thread is told already.
            let _ = poke.try_send(());
        }
        Ok(())
    }))?;
    Ok(told)
}

impl Checkpoints {
    /// Begins the thread, on a connection of its own.
    pub(super) fn begin(
        path: &Path,
        conn: Connection,
        told: Told,
        writer: Weak<Writer>,
    ) -> Result<Self, StoreError> {
        let name = "store checkpoints".to_owned();
        let thread = std::thread::Builder::new().name(name);
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let Told { poke, pokes, soon } = told;
        let is_soon = Arc::clone(&soon);
        let thread = thread.spawn(move || {
            let mut not_before = Instant::now();
            for () in pokes {
                if is_over.load(Ordering::SeqCst) {
                    return;
                }
                // Somebody reads for long, a backup: commits are not stopped for it over and over.
                if Instant::now() >= not_before && !checkpoint(&conn, &writer, &is_soon) {
                    not_before = Instant::now() + PAUSE;
                }
            }
        });
        let thread = thread.map_err(|e| StoreError::NotAccessible {
            path: path.to_path_buf(),
            cause: format!("no thread for its checkpoints: {e}"),
        })?;
        Ok(Self {
            thread: Some(thread),
            pokes: poke,
            over,
            soon,
        })
    }

    /// See [`crate::Store::dangerous_checkpoint_at`].
    pub(super) fn dangerous_checkpoint_at(&self, pages: i32) {
        self.soon.store(pages, Ordering::Relaxed);
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Full: it is about to look anyway.
        let _ = self.pokes.try_send(());
        if let Some(thread) = self.thread.take() {
            // A panic in it was told when it happened.
            let _ = thread.join();
        }
    }
}

/// Moves what is in the log into the file. A failure loses nothing: the log has it, and the next
/// commit tells this thread again. `false` if the log is long and could not be begun anew.
fn checkpoint(conn: &Connection, writer: &Weak<Writer>, soon: &AtomicI32) -> bool {
    let soon = soon.load(Ordering::Relaxed);
    let pass = |mode| conn.wal_checkpoint_v2(DEFAULT_NAME, mode);
    let Ok((log, _)) = pass(CheckpointMode::PASSIVE) else {
        return true;
    };
    if log < soon.saturating_mul(LONG_TO_SOON) {
        return true;
    }
    // What came in during the first pass; then the few pages that came in during this one.
    let left = pass(CheckpointMode::PASSIVE).map(|(log, moved)| log.saturating_sub(moved));
    left.is_ok_and(|left| left < soon)
        && writer.upgrade().is_some_and(|writer| {
            let done = writer.between("checkpoint", |_| pass(CheckpointMode::RESTART));
            done.is_ok()
        })
}

/// How long commits wait for the last readers of the log.
pub(super) const READERS_WAIT: Duration = Duration::from_millis(50);
/// How long it is let alone after that was in vain.
const PAUSE: Duration = Duration::from_secs(1);

/// Pages in the log, of 4 KiB, from which on it is moved: 4 MB. Commits wait for the disk meanwhile, and the 99 % of
/// latencies is theirs: with four times as much it was longer, with sixteen three times as long.
const LOG_PAGES_SOON: i32 = 1_024;
/// So many times that, and commits wait for the log's end: 16 MB.
const LONG_TO_SOON: i32 = 4;
