//! `tegata-teed` as a process of a test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]
#![allow(dead_code)] // Each test program uses its part.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tegata_client::Context;

pub const TEED: &str = env!("CARGO_BIN_EXE_tegata-teed");

/// A running `tegata-teed`; it ends with this value.
pub struct Teed {
    pub child: Child,
    pub dir: PathBuf,
}

impl Teed {
    /// Starts one and waits until it answers.
    pub fn start(dir: &Path) -> Self {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(dir.join("log"));
        let child = Command::new(TEED)
            .arg("--dir")
            .arg(dir)
            .stdin(Stdio::null())
            .stderr(log.unwrap())
            .spawn()
            .unwrap();
        let mut teed = Self {
            child,
            dir: dir.into(),
        };
        let begun = Instant::now();
        while teed.context().info().is_err() {
            let ended = teed.child.try_wait().unwrap();
            assert!(
                ended.is_none() && begun.elapsed() < Duration::from_secs(20),
                "{}",
                teed.log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        teed
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("teed.sock")
    }

    pub fn context(&self) -> Context {
        Context::new(self.socket())
    }

    pub fn log(&self) -> String {
        let mut text = String::new();
        let log = std::fs::File::open(self.dir.join("log")).unwrap();
        // One that is `/dev/full` would have no end.
        log.take(4 << 20).read_to_string(&mut text).unwrap();
        text
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Teed {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
