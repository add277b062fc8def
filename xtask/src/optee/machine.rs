//! An emulated device: QEMU with TrustZone, a disk that survives the power, and the channel on which
//! the suite drives the normal world.
//!
//! QEMU ends with this program however that ends: dropped, it is killed; if this program dies, the
//! kernel kills it. Killing is what cutting the power is.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};

use super::firmware::Built;
use super::image::Image;
use super::work::{Work, output, seconds};

/// Longest time for a start; on an idle machine it is four to ten seconds.
const BOOT_LIMIT: Duration = Duration::from_secs(300);
/// Longest time for one command in the device.
const COMMAND_LIMIT: Duration = Duration::from_secs(900);
/// Bytes of the disk.
const DISK_LEN: u64 = 32 * 1024 * 1024;
/// Where Linux and its file system are put.
const KERNEL_AT: &str = "0x60000000";
const INITRD_AT: &str = "0x68000000";

/// A device, on or off.
pub struct Machine<'a> {
    work: &'a Work,
    image: &'a Image,
    /// Which flash it has.
    device: String,
    dir: PathBuf,
    running: Option<Running>,
    /// Starts so far.
    boots: u32,
    /// How long the last start took.
    pub boot_took: Duration,
}

/// The processes of a device that is on.
struct Running {
    qemu: Child,
    port: u16,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

/// What a command in the device gave.
#[derive(Debug)]
pub struct Ran {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: Vec<u8>,
    /// Standard error.
    pub err: Vec<u8>,
}

impl Ran {
    /// Output as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// Output and errors as text.
    pub fn all(&self) -> String {
        let (out, err) = (self.text(), String::from_utf8_lossy(&self.err));
        format!("{}\n{}", out.trim_end(), err.trim_end())
            .trim()
            .to_owned()
    }

    /// The output if the command succeeded.
    ///
    /// # Errors
    /// It failed; the error shows what it said.
    pub fn ok(self) -> Result<String> {
        ensure!(
            self.code == 0,
            "exit code {} in the device: {}",
            self.code,
            self.all()
        );
        Ok(self.text())
    }
}

impl<'a> Machine<'a> {
    /// A device with the flash of `device` and an empty disk, off.
    ///
    /// # Errors
    /// The disk cannot be made.
    pub fn new(work: &'a Work, image: &'a Image, device: &str, dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir)?;
        let disk = dir.join("disk.img");
        if !disk.exists() {
            fs::File::create(&disk)?.set_len(DISK_LEN)?;
            let mut make = Command::new("/usr/sbin/mke2fs");
            output(make.args(["-q", "-t", "ext4"]).arg(&disk))?;
        }
        Ok(Self {
            work,
            image,
            device: device.to_owned(),
            dir: dir.to_path_buf(),
            running: None,
            boots: 0,
            boot_took: Duration::ZERO,
        })
    }

    /// Where its disk and its consoles' logs lie.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The console of the secure world since the last start.
    fn secure_log(&self) -> PathBuf {
        self.dir.join("secure.log")
    }

    /// The last that the secure world said.
    pub fn last_words(&self) -> String {
        let said = fs::read(self.secure_log()).unwrap_or_default();
        last_lines(&String::from_utf8_lossy(&said))
    }

    /// Puts another flash in: the same disk in another chip.
    pub fn set_chip(&mut self, device: &str) {
        device.clone_into(&mut self.device);
    }

    /// Switches it on and waits until it can be driven.
    ///
    /// # Errors
    /// It does not start in time; the end of its console is in the error.
    pub fn boot(&mut self) -> Result<()> {
        self.cut_power();
        let started = Instant::now();
        // Free now; QEMU takes it in a moment, and says so if another was faster.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let console = self.dir.join("console.log");
        fs::write(&console, "")?;
        // What the secure world said before this start is kept: it tells why a later test fails.
        let secure = self.secure_log();
        if secure.exists() {
            fs::rename(&secure, self.dir.join(format!("secure-{}.log", self.boots)))?;
        }
        self.boots += 1;
        self.running = Some(Running {
            qemu: self.start(port, &console)?,
            port,
        });
        loop {
            let said = fs::read(&console).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            if said.contains("guest: ready") {
                break;
            }
            let ended = match &mut self.running {
                Some(running) => running.qemu.try_wait()?,
                None => None,
            };
            if ended.is_some() || started.elapsed() > BOOT_LIMIT {
                self.cut_power();
                let qemu = fs::read_to_string(self.dir.join("qemu.log")).unwrap_or_default();
                bail!(
                    "device {} did not start in {}: {}\n{}",
                    self.device,
                    seconds(started.elapsed()),
                    qemu.trim(),
                    last_lines(&said)
                );
            }
            std::thread::sleep(POLL);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let set = format!("date -s @{now}");
        while self.run(0, &set).is_err() {
            ensure!(started.elapsed() < BOOT_LIMIT, "the device does not listen");
            std::thread::sleep(POLL);
        }
        self.boot_took = started.elapsed();
        Ok(())
    }

    /// Whether it is switched on.
    pub fn is_on(&self) -> bool {
        self.running.is_some()
    }

    /// Cuts the power: nothing in the device gets to run another instruction.
    pub fn cut_power(&mut self) {
        self.running = None;
    }

    /// Runs a shell script in the device as this user.
    ///
    /// # Errors
    /// The device is off or does not answer. A script that fails is no error.
    pub fn run(&self, uid: u32, script: &str) -> Result<Ran> {
        self.run_with(uid, script, &[])
    }

    /// The same with input.
    ///
    /// # Errors
    /// The same.
    pub fn run_with(&self, uid: u32, script: &str, input: &[u8]) -> Result<Ran> {
        let running = self.running.as_ref().context("the device is off")?;
        let mut stream = TcpStream::connect(("127.0.0.1", running.port))?;
        stream.set_read_timeout(Some(COMMAND_LIMIT))?;
        stream.set_write_timeout(Some(COMMAND_LIMIT))?;
        let head = format!("{uid} {} {}\n", script.len(), input.len());
        stream.write_all(head.as_bytes())?;
        stream.write_all(script.as_bytes())?;
        stream.write_all(input)?;
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader
            .read_line(&mut line)
            .context("the device is silent")?;
        let mut words = line.split_whitespace();
        let mut word = || words.next().context("the device hung up");
        let code = word()?.parse()?;
        let (out_len, err_len) = (word()?.parse()?, word()?.parse()?);
        let mut out = vec![0; out_len];
        reader.read_exact(&mut out)?;
        let mut err = vec![0; err_len];
        reader.read_exact(&mut err)?;
        Ok(Ran { code, out, err })
    }

    /// Writes a file in the device.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn put(&self, path: &str, bytes: &[u8]) -> Result<()> {
        // Synced: the power may be cut next.
        let script = format!("mkdir -p \"$(dirname {path})\" && cat > {path} && sync");
        self.run_with(0, &script, bytes)?.ok()?;
        Ok(())
    }

    /// Reads a file of the device.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        let ran = self.run(0, &format!("cat {path}"))?;
        ensure!(ran.code == 0, "reading {path}: {}", ran.all());
        Ok(ran.out)
    }

    fn start(&self, port: u16, console: &Path) -> Result<Child> {
        let image = self.image;
        let initrd_len = fs::metadata(&image.initrd)?.len();
        let log = fs::File::create(self.dir.join("qemu.log"))?;
        // The boot loader wants a kernel option to exist; Linux itself is loaded beside it.
        let nothing = self.dir.join("nothing");
        fs::write(&nothing, "x")?;
        let place = |file: &Path, at: &str| {
            format!("loader,file={},addr={at},force-raw=on", file.display())
        };
        let serial = |file: &Path| format!("file:{}", file.display());
        let mut qemu = Command::new("setpriv");
        qemu.args(["--pdeathsig", "KILL", "qemu-system-aarch64"])
            .args(["-nodefaults", "-display", "none", "-no-reboot"])
            .args(["-machine", "virt,secure=on,gic-version=3"])
            .args(["-cpu", "cortex-a57", "-smp", "2", "-m", "1024"])
            .arg("-bios")
            .arg(Built::flash(self.work, &self.device))
            .arg("-kernel")
            .arg(&nothing)
            .arg("-append")
            .arg(format!(
                "console=ttyAMA0 quiet panic=-1 initrdmem={INITRD_AT},{initrd_len}"
            ))
            .args(["-device", &place(&image.kernel, KERNEL_AT)])
            .args(["-device", &place(&image.initrd, INITRD_AT)])
            // What the device has written is in the host's page cache, which killing QEMU does not
            // empty: a write that was answered survives our power cut without a sync on the host.
            .arg("-drive")
            .arg(format!(
                "if=none,id=disk,format=raw,cache=unsafe,file={}",
                self.dir.join("disk.img").display()
            ))
            .args(["-device", "virtio-blk-pci,drive=disk"])
            .arg("-netdev")
            .arg(format!("user,id=net,hostfwd=tcp:127.0.0.1:{port}-:7000"))
            .args(["-device", "virtio-net-pci,netdev=net,romfile="])
            .args(["-serial", &serial(console)])
            .args(["-serial", &serial(&self.secure_log())])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        qemu.spawn().context("starting qemu-system-aarch64")
    }
}

/// The end of a console.
fn last_lines(said: &str) -> String {
    let lines: Vec<&str> = said.lines().collect();
    let from = lines.len().saturating_sub(20);
    lines.get(from..).unwrap_or_default().join("\n")
}

/// How often to look whether something has happened.
const POLL: Duration = Duration::from_millis(50);
