//! Blobs as files: atomic, durable, one directory.
//!
//! Write order, and what a crash leaves: (1) a temporary file is written and synced: the old blob
//! stands, the temporary file is removed at the next start; (2) it is renamed over the old one:
//! either name leads to whole content; (3) the directory is synced: from here on the new blob
//! stands for good, and only now is success reported.
//!
//! Not trusted: the medium. What is written here is sealed by the core above.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use tegata_tee::platform::{BlobName, MAX_BLOB_BYTES, PlatformError};

/// A directory of blobs. One `teed` holds it at a time.
pub struct BlobDir {
    dir: OwnedFd,
    _lock: OwnedFd,
    counter: AtomicU64,
}

/// Why a directory cannot hold blobs now.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another `teed` holds it.
    #[error("another process holds the lock")]
    Locked,
    /// The kernel refuses.
    #[error("{what}: {errno}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// The kernel's word.
        errno: Errno,
    },
}

impl BlobDir {
    /// Opens (or makes) the directory, takes its lock, proves that it can be written to, and
    /// removes what an interrupted write left.
    ///
    /// # Errors
    /// [`OpenError`]; nothing of the content changed.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let io = |what: &'static str| move |errno: Errno| OpenError::Io { what, errno };
        match rustix::fs::mkdir(path, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => {
                return Err(OpenError::Io {
                    what: "making the directory",
                    errno,
                });
            }
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let dir = rustix::fs::open(path, flags, Mode::empty()).map_err(io("opening"))?;
        rustix::fs::fchmod(&dir, Mode::RWXU)
            .map_err(io("restricting the directory to its owner"))?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = rustix::fs::openat(&dir, LOCK, flags, OWNER_ONLY).map_err(io("writing"))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(OpenError::Locked),
            Err(errno) => {
                return Err(OpenError::Io {
                    what: "locking",
                    errno,
                });
            }
        }
        let blobs = Self {
            dir,
            _lock: lock,
            counter: AtomicU64::new(0),
        };
        blobs.clean().map_err(io("reading"))?;
        // A read-only or full medium is found here, not at the first enrolment.
        blobs.write_file(PROBE, &[0; 512]).map_err(io("writing"))?;
        blobs.remove_file(PROBE).map_err(io("removing a file"))?;
        Ok(blobs)
    }

    /// Reads a blob whole.
    ///
    /// # Errors
    /// [`PlatformError::Storage`], [`PlatformError::TooLarge`].
    pub fn read(&self, name: &BlobName) -> Result<Option<Vec<u8>>, PlatformError> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let fd = match rustix::fs::openat(&self.dir, name.as_str(), flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(failed(name, errno)),
        };
        let max = u64::try_from(MAX_BLOB_BYTES).unwrap_or(u64::MAX);
        let file = File::from(fd);
        let len = file.metadata().map_err(|_| failed(name, Errno::IO))?.len();
        if len > max {
            let blob = name.to_string();
            return Err(PlatformError::TooLarge {
                blob,
                got_bytes: len,
                max_bytes: max,
            });
        }
        let mut data = Vec::with_capacity(usize::try_from(len).unwrap_or(0));
        // The length may have changed since: read no more than the limit in any case.
        file.take(max)
            .read_to_end(&mut data)
            .map_err(|_| failed(name, Errno::IO))?;
        Ok(Some(data))
    }

    /// Creates or replaces a blob.
    ///
    /// # Errors
    /// [`PlatformError`]; the old blob stands then.
    pub fn write(&self, name: &BlobName, data: &[u8]) -> Result<(), PlatformError> {
        if data.len() > MAX_BLOB_BYTES {
            let bytes = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
            return Err(PlatformError::TooLarge {
                blob: name.to_string(),
                got_bytes: bytes(data.len()),
                max_bytes: bytes(MAX_BLOB_BYTES),
            });
        }
        self.write_file(name.as_str(), data)
            .map_err(|errno| failed(name, errno))
    }

    /// Removes a blob, if it is there.
    ///
    /// # Errors
    /// [`PlatformError::Storage`].
    pub fn remove(&self, name: &BlobName) -> Result<(), PlatformError> {
        self.remove_file(name.as_str())
            .map_err(|errno| failed(name, errno))
    }

    /// Names of all blobs that begin with `prefix`.
    ///
    /// # Errors
    /// [`PlatformError::Storage`].
    pub fn list(&self, prefix: &str) -> Result<Vec<BlobName>, PlatformError> {
        let names = self.names().map_err(|errno| {
            tracing::error!(%errno, "storage directory cannot be listed");
            PlatformError::Storage {
                blob: format!("{prefix}*"),
            }
        })?;
        Ok(names
            .iter()
            .filter(|name| name.starts_with(prefix))
            .filter_map(|name| BlobName::new(name))
            .collect())
    }

    fn write_file(&self, name: &str, data: &[u8]) -> Result<(), Errno> {
        let temp = format!("{TEMP}{}", self.counter.fetch_add(1, Ordering::Relaxed));
        let result = self.write_temp(&temp, data).and_then(|()| {
            // 2.
            rustix::fs::renameat(&self.dir, temp.as_str(), &self.dir, name)
        });
        if result.is_err() {
            let _ = rustix::fs::unlinkat(&self.dir, temp.as_str(), AtFlags::empty());
            return result;
        }
        // 3.
        rustix::fs::fsync(&self.dir)
    }

    fn write_temp(&self, temp: &str, data: &[u8]) -> Result<(), Errno> {
        // 1.
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let mut file = File::from(rustix::fs::openat(&self.dir, temp, flags, OWNER_ONLY)?);
        let errno = |e: std::io::Error| Errno::from_io_error(&e).unwrap_or(Errno::IO);
        file.write_all(data).map_err(errno)?;
        file.sync_all().map_err(errno)
    }

    fn remove_file(&self, name: &str) -> Result<(), Errno> {
        match rustix::fs::unlinkat(&self.dir, name, AtFlags::empty()) {
            Ok(()) => rustix::fs::fsync(&self.dir),
            Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    fn names(&self) -> Result<Vec<String>, Errno> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.dir)? {
            if let Ok(name) = entry?.file_name().to_str() {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    fn clean(&self) -> Result<(), Errno> {
        for name in self.names()?.iter().filter(|name| name.starts_with(TEMP)) {
            self.remove_file(name)?;
        }
        Ok(())
    }
}

fn failed(name: &BlobName, errno: Errno) -> PlatformError {
    let blob = name.to_string();
    tracing::error!(%blob, %errno, "storage failed");
    match errno {
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => PlatformError::NoSpace { blob },
        _ => PlatformError::Storage { blob },
    }
}

/// No blob has such names: they begin with a dot.
const LOCK: &str = ".lock";
const TEMP: &str = ".tmp-";
const PROBE: &str = ".probe";
const OWNER_ONLY: Mode = Mode::from_raw_mode(0o600);

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> BlobName {
        BlobName::new(text).unwrap()
    }

    #[test]
    fn blobs_are_written_replaced_listed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(dir.path()).unwrap();
        assert_eq!(blobs.read(&name("a")).unwrap(), None);
        blobs.write(&name("a"), b"one").unwrap();
        blobs.write(&name("a"), b"two").unwrap();
        blobs.write(&name("ab.c"), b"").unwrap();
        assert_eq!(blobs.read(&name("a")).unwrap().unwrap(), b"two");
        assert_eq!(blobs.list("ab").unwrap(), [name("ab.c")]);
        assert_eq!(blobs.list("").unwrap().len(), 2);
        blobs.remove(&name("a")).unwrap();
        blobs.remove(&name("a")).unwrap();
        assert_eq!(blobs.list("").unwrap(), [name("ab.c")]);
    }

    #[test]
    fn one_holder_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let first = BlobDir::open(dir.path()).unwrap();
        assert!(matches!(BlobDir::open(dir.path()), Err(OpenError::Locked)));
        drop(first);
        assert!(BlobDir::open(dir.path()).is_ok());
    }

    #[test]
    fn what_an_interrupted_write_left_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        drop(BlobDir::open(dir.path()).unwrap());
        std::fs::write(dir.path().join(".tmp-7"), b"half").unwrap();
        std::fs::write(dir.path().join("kept"), b"whole").unwrap();
        let blobs = BlobDir::open(dir.path()).unwrap();
        assert!(!dir.path().join(".tmp-7").exists());
        assert_eq!(blobs.read(&name("kept")).unwrap().unwrap(), b"whole");
    }

    #[test]
    fn too_much_is_refused_both_ways() {
        let dir = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(dir.path()).unwrap();
        let big = vec![0; MAX_BLOB_BYTES + 1];
        let refused = |r| matches!(r, PlatformError::TooLarge { .. });
        assert!(refused(blobs.write(&name("big"), &big).unwrap_err()));
        std::fs::write(dir.path().join("big"), &big).unwrap();
        assert!(refused(blobs.read(&name("big")).unwrap_err()));
    }

    #[test]
    fn only_the_owner_reads_and_links_are_not_followed() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let blobs = BlobDir::open(dir.path()).unwrap();
        blobs.write(&name("a"), b"x").unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(dir.path()), 0o700);
        assert_eq!(mode(&dir.path().join("a")), 0o600);
        std::os::unix::fs::symlink("/etc/passwd", dir.path().join("link")).unwrap();
        assert!(blobs.read(&name("link")).is_err());
    }
}
