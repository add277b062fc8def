//! Files as this program makes them: whole or not at all, and never over another.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use crate::fault::{Fault, Outcome};

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readers {
    /// Its owner alone (0600): keys and secrets.
    Owner,
    /// Everyone (0644).
    Everyone,
}

impl Readers {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => 0o600,
            Self::Everyone => 0o644,
        }
    }
}

/// Makes a directory with its parents; new ones are its owner's alone (0700).
///
/// # Errors
/// It cannot be made.
pub fn make_dir(path: &Path) -> Outcome<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|e| Fault::io("make the directory", path, &e))
}

/// Writes a new file, durable when this returns. `false` if there is one of that name already,
/// which is left as it is.
///
/// # Errors
/// The file cannot be written.
pub fn write_new(path: &Path, content: &[u8], readers: Readers) -> Outcome<bool> {
    if path.exists() {
        return Ok(false);
    }
    let temporary = temporary_name(path);
    let result = write_temporary(&temporary, content, readers)
        // A hard link fails when the name is taken, even by a process that was faster.
        .and_then(|()| fs::hard_link(&temporary, path));
    let _ = fs::remove_file(&temporary);
    match result {
        Ok(()) => {
            sync_parent(path);
            Ok(true)
        }
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && path.exists() => Ok(false),
        Err(e) => Err(Fault::io("write", path, &e)),
    }
}

/// Writes a file in place of one that may be there; readers see the old one or the new one.
///
/// # Errors
/// The file cannot be written.
pub fn replace(path: &Path, content: &[u8], readers: Readers) -> Outcome<()> {
    let temporary = temporary_name(path);
    write_temporary(&temporary, content, readers)
        .and_then(|()| fs::rename(&temporary, path))
        .map_err(|e| {
            let _ = fs::remove_file(&temporary);
            Fault::io("write", path, &e)
        })?;
    sync_parent(path);
    Ok(())
}

fn temporary_name(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", std::process::id()));
    path.with_file_name(name)
}

fn write_temporary(path: &Path, content: &[u8], readers: Readers) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(readers.mode())
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn sync_parent(path: &Path) {
    // A file system that cannot sync a directory still has the file.
    if let Some(parent) = path.parent()
        && let Ok(dir) = File::open(parent)
    {
        let _ = dir.sync_all();
    }
}

/// Reads a file of at most `len_bytes_max`.
///
/// # Errors
/// It cannot be read, or is longer.
pub fn read(path: &Path, len_bytes_max: u64) -> Outcome<Vec<u8>> {
    let fault = |e| Fault::io("read", path, &e);
    let file = File::open(path).map_err(fault)?;
    let mut content = Vec::new();
    file.take(len_bytes_max.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(fault)?;
    if u64::try_from(content.len()).unwrap_or(u64::MAX) > len_bytes_max {
        return Err(Fault::failed(
            "file-too-long",
            format!("{} is longer than {len_bytes_max} bytes", path.display()),
            "Check that this is the right file.",
        ));
    }
    Ok(content)
}

/// Refuses a secret file that others can read.
///
/// # Errors
/// The file is missing or its mode is not 0600 or stricter.
pub fn check_private(path: &Path) -> Outcome<()> {
    let meta = fs::metadata(path).map_err(|e| Fault::io("read", path, &e))?;
    if meta.mode() & 0o077 == 0 {
        return Ok(());
    }
    Err(Fault::environment(
        "secret-readable",
        format!(
            "{} can be read by other users (mode {:03o})",
            path.display(),
            meta.mode() & 0o777
        ),
        format!("Run `chmod 600 {}`.", path.display()),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_exists_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        assert!(write_new(&path, b"one", Readers::Owner).unwrap());
        assert!(!write_new(&path, b"two", Readers::Owner).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        check_private(&path).unwrap();
        replace(&path, b"three", Readers::Everyone).unwrap();
        assert_eq!(check_private(&path).unwrap_err().code, "secret-readable");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert_eq!(read(&path, 4).unwrap_err().code, "file-too-long");
    }
}
