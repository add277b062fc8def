//! `control`: lets the suite on the host drive the emulated device. Listens on TCP port 7000.
//!
//! Purpose: one request per connection: run a shell script as some user, with some input; answer
//! with its exit code, output and errors. Absent: any access control. Trust: whoever connects is
//! root on this device, which is what the suite plays: a REE that its attacker owns.
//!
//! Request: `UID SCRIPT_LEN INPUT_LEN\n`, script, input. Answer: `EXIT OUT_LEN ERR_LEN\n`, output,
//! errors. Lengths in bytes, decimal. A script that leaves a process behind must redirect it.

use std::io::{BufRead, BufReader, Error, Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

/// Most bytes of a script or an input: the largest thing carried is a program.
const LEN_MAX: u64 = 64 * 1024 * 1024;

fn main() -> Result<()> {
    let listener = TcpListener::bind("0.0.0.0:7000")?;
    for stream in listener.incoming().flatten() {
        std::thread::spawn(move || {
            if let Err(error) = serve(&stream) {
                eprintln!("control: {error}");
            }
        });
    }
    Ok(())
}

/// Answers one request.
fn serve(stream: &TcpStream) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace().map(str::parse::<u64>);
    let mut number = || words.next().and_then(|word| word.ok());
    let (Some(uid), Some(script), Some(input)) = (number(), number(), number()) else {
        return Err(Error::other("a request begins with three numbers"));
    };
    let uid = u32::try_from(uid).map_err(|_| Error::other("no such user"))?;
    let script = take(&mut reader, script)?;
    let input = take(&mut reader, input)?;
    let (code, out, err) = run(uid, &script, input).unwrap_or_else(|error| {
        let said = format!("control: {error}\n");
        (255, Vec::new(), said.into_bytes())
    });
    let mut stream = stream;
    stream.write_all(format!("{code} {} {}\n", out.len(), err.len()).as_bytes())?;
    stream.write_all(&out)?;
    stream.write_all(&err)?;
    stream.flush()
}

/// Exactly `len` bytes.
fn take(reader: &mut impl Read, len: u64) -> Result<Vec<u8>> {
    if len > LEN_MAX {
        return Err(Error::other("longer than anything that is carried"));
    }
    let mut bytes = Vec::new();
    reader.take(len).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != len {
        return Err(Error::other("the request ends early"));
    }
    Ok(bytes)
}

/// Runs `script` as `uid`, of a group of its own; a signal is 128 and its number.
fn run(uid: u32, script: &[u8], input: Vec<u8>) -> Result<(i32, Vec<u8>, Vec<u8>)> {
    let script = std::str::from_utf8(script).map_err(Error::other)?;
    let mut child = Command::new("/bin/sh")
        .args(["-c", script])
        .current_dir("/tmp")
        .uid(uid)
        .gid(uid)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let stdin = child.stdin.take();
    let feeder = std::thread::spawn(move || {
        // A script need not read its input.
        let _ = stdin.map(|mut pipe| pipe.write_all(&input));
    });
    let output = child.wait_with_output()?;
    let _ = feeder.join();
    let status = output.status;
    let code = status
        .code()
        .unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok((code, output.stdout, output.stderr))
}
