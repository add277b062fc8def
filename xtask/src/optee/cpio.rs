//! A root file system in memory (initramfs), written as the kernel reads it.
//!
//! Everything belongs to root, and nothing of the host's owners, times or modes gets in.
//!
//! Spec: Linux Documentation/driver-api/early-userspace/buffer-format.rst, "newc".

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

/// The archive as it grows.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// A directory; its parents come first.
    ///
    /// # Errors
    /// Its name is too long.
    pub fn dir(&mut self, name: &str) -> Result<()> {
        self.entry(name, 0o040_755, &[])
    }

    /// A file from these bytes.
    ///
    /// # Errors
    /// It is larger than 4 GiB.
    pub fn bytes(&mut self, name: &str, executable: bool, bytes: &[u8]) -> Result<()> {
        let mode = if executable { 0o100_755 } else { 0o100_644 };
        self.entry(name, mode, bytes)
    }

    /// A file of the host's; links are followed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn file(&mut self, name: &str, executable: bool, from: &Path) -> Result<()> {
        let bytes = fs::read(from).with_context(|| format!("reading {}", from.display()))?;
        self.bytes(name, executable, &bytes)
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// Its name is too long.
    pub fn link(&mut self, name: &str, to: &str) -> Result<()> {
        self.entry(name, 0o120_777, to.as_bytes())
    }

    /// The archive.
    ///
    /// # Errors
    /// As `dir`.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.entries += 1;
        let len = u32::try_from(content.len())?;
        let name_len = u32::try_from(name.len() + 1)?;
        // Number, mode, owner, group, links, time, length, four device numbers, name, checksum.
        let fields = [self.entries, mode, 0, 0, 1, 0, len, 0, 0, 0, 0, name_len, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
