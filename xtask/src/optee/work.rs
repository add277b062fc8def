//! The work directory: where things lie, what is already done, and how progress is told.
//!
//! A step has inputs (texts, files). Their hash is kept as its stamp; a step whose stamp is
//! the same and whose outputs are there is not done again. The hash guards against forgetting, not
//! against an attacker: the directory is the developer's own.

use std::collections::hash_map::DefaultHasher;
use std::fs::{self, File};
use std::hash::Hasher;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The work directory and the repository it serves.
pub struct Work {
    /// The repository.
    pub root: PathBuf,
    /// The work directory, absolute.
    pub dir: PathBuf,
    /// Programs stay as cargo built them last.
    as_built: bool,
    started: Instant,
}

impl Work {
    /// Opens or makes the directory.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn open(root: &Path, dir: &Path, as_built: bool) -> Result<Self> {
        for part in ["stamps", "logs"] {
            let part = dir.join(part);
            fs::create_dir_all(&part).with_context(|| format!("making {}", part.display()))?;
        }
        Ok(Self {
            root: root.to_path_buf(),
            dir: dir.canonicalize()?,
            as_built,
            started: Instant::now(),
        })
    }

    /// A path in the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Says something, with the time since the start.
    pub fn say(&self, what: &str) {
        println!("{:7.1} s  {what}", self.started.elapsed().as_secs_f64());
    }

    /// Does `work` unless it was done with the same inputs and all `outputs` are there.
    ///
    /// # Errors
    /// What `work` says, with the name of the step.
    pub fn step(
        &self,
        name: &str,
        inputs: &Inputs,
        outputs: &[PathBuf],
        work: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let stamp = self.path("stamps").join(name.replace(' ', "-"));
        let now = format!("{:016x}", inputs.0.finish());
        let same = fs::read_to_string(&stamp).is_ok_and(|then| then == now);
        if same && outputs.iter().all(|output| output.exists()) {
            return Ok(());
        }
        self.say(&format!("{name} …"));
        let _ = fs::remove_file(&stamp);
        let started = Instant::now();
        work().with_context(|| name.to_owned())?;
        if let Some(missing) = outputs.iter().find(|output| !output.exists()) {
            bail!("{name}: {} was not made", missing.display());
        }
        fs::write(&stamp, now)?;
        self.say(&format!("{name}: {}", seconds(started.elapsed())));
        Ok(())
    }

    /// Runs cargo, which knows itself what is already done; says the time if it took any.
    ///
    /// # Errors
    /// As [`Work::quiet`].
    pub fn built(&self, what: &str, log: &str, cargo: &mut Command) -> Result<()> {
        if self.as_built {
            return Ok(());
        }
        let started = Instant::now();
        self.quiet(log, cargo)
            .with_context(|| format!("building the {what}"))?;
        if started.elapsed() > Duration::from_secs(2) {
            self.say(&format!("{what}: {}", seconds(started.elapsed())));
        }
        Ok(())
    }

    /// Runs a program whose output goes to `logs/NAME.log`; a failure shows the end of it.
    ///
    /// # Errors
    /// The program cannot be started or fails.
    pub fn quiet(&self, log: &str, command: &mut Command) -> Result<()> {
        let path = self.path("logs").join(format!("{log}.log"));
        let file = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
        let status = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()
            .with_context(|| format!("starting {command:?}"))?;
        if status.success() {
            return Ok(());
        }
        let said = fs::read(&path).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        let from = said.lines().count().saturating_sub(LINES_SHOWN);
        for line in said.lines().skip(from) {
            eprintln!("    {line}");
        }
        bail!("{command:?}: {status}; all of it: {}", path.display())
    }
}

/// The hash of what a step depends on.
#[derive(Default)]
pub struct Inputs(DefaultHasher);

impl Inputs {
    /// A text, such as a list of packages or of options.
    pub fn text(mut self, text: &str) -> Self {
        self.0.write(text.as_bytes());
        self.0.write_u8(0xff);
        self
    }

    /// A file's name and contents; a missing one counts as missing.
    pub fn file(mut self, path: &Path) -> Self {
        self.0.write(path.as_os_str().as_encoded_bytes());
        match fs::read(path) {
            Ok(bytes) => self.0.write(&bytes),
            Err(_) => self.0.write_u8(0),
        }
        self
    }
}

/// What a program prints.
///
/// # Errors
/// It cannot be started, fails, or prints something that is not text.
pub fn output(command: &mut Command) -> Result<String> {
    let out = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("starting {command:?}"))?;
    if !out.status.success() {
        let said = String::from_utf8_lossy(&out.stderr);
        bail!("{command:?}: {}: {}", out.status, said.trim());
    }
    Ok(String::from_utf8(out.stdout)?)
}

/// A time as people read it.
pub fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Lines of a log that a failure shows.
const LINES_SHOWN: usize = 25;
