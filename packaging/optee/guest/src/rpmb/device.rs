//! An RPMB partition as JEDEC eMMC 5.1 describes it, in a file.
//!
//! Purpose: authenticated writes with a counter that only rises, kept in a file that survives a
//! power cycle of the emulated device. Trust: none. The file holds the key; whoever reads it can
//! write what they like. A real RPMB keeps key and counter where no software reaches.
//!
//! Spec: JESD84-B51 section 6.6.22 (replay protected memory block).

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Bytes of a frame.
pub const FRAME: usize = 512;
/// Bytes of a block of data, which a frame carries.
const BLOCK: usize = 256;
/// Size of the partition: one unit of 128 KiB, the least a real one has.
const UNITS: u8 = 1;
/// Blocks in the partition.
const BLOCKS: u64 = 512 * UNITS as u64;
/// Where the state after the data begins: written flag, key, counter.
const STATE: u64 = BLOCKS * BLOCK as u64;

/// Fields of a frame: offset and length.
const MAC: (usize, usize) = (196, 32);
const DATA: (usize, usize) = (228, 256);
const NONCE: (usize, usize) = (484, 16);
const COUNTER: (usize, usize) = (500, 4);
const ADDRESS: (usize, usize) = (504, 2);
const COUNT: (usize, usize) = (506, 2);
const RESULT: (usize, usize) = (508, 2);
const KIND: (usize, usize) = (510, 2);

/// Results.
const OK: u16 = 0;
const GENERAL: u16 = 1;
const AUTHENTICATION: u16 = 2;
const COUNTER_WRONG: u16 = 3;
const ADDRESS_WRONG: u16 = 4;
const NO_KEY: u16 = 7;

/// The partition.
pub struct Device {
    file: File,
    /// Kind and result of the last write, for "read the result".
    last: (u16, u16),
}

impl Device {
    /// Opens or makes the partition's file.
    ///
    /// # Errors
    /// The file cannot be opened or made.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        if file.metadata()?.len() == 0 {
            file.set_len(STATE + 64)?;
        }
        Ok(Self {
            file,
            last: (0, OK),
        })
    }

    /// Identity, size in units of 128 KiB and most blocks of a reliable write.
    #[must_use]
    pub fn info() -> [u8; 19] {
        let mut info = [0; 19];
        info[..16].copy_from_slice(b"TEGATA EMULATED!");
        info[16] = UNITS;
        info[17] = 1;
        info
    }

    /// Answers the frames of a request: as many frames as are asked for.
    ///
    /// # Errors
    /// The file cannot be read or written; nothing is answered then.
    pub fn process(&mut self, frames: &[u8], answers: usize) -> io::Result<Vec<u8>> {
        let Some(first) = frames.get(..FRAME) else {
            return Err(io::Error::other("a request has a frame"));
        };
        match number(first, KIND) {
            1 => self.last = (0x0100, self.program_key(first)?),
            2 => return self.counter(first),
            3 => {
                self.last = (0x0300, self.write(frames)?);
                self.file.sync_data()?;
            }
            4 => return self.read(first, answers),
            5 => {}
            other => return Err(io::Error::other(format!("no request of kind {other}"))),
        }
        // The request that reads the result may ride on the write it asks about.
        let mut answer = [0; FRAME];
        let (kind, result) = self.last;
        put(&mut answer, KIND, &kind.to_be_bytes());
        put(&mut answer, RESULT, &result.to_be_bytes());
        let counter = self.value()?;
        put(&mut answer, COUNTER, &counter.to_be_bytes());
        copy(first, &mut answer, ADDRESS);
        if kind == 0x0300 {
            self.authenticate(&mut answer)?;
        }
        Ok(answer.to_vec())
    }

    /// The key is written once and for ever.
    fn program_key(&mut self, frame: &[u8]) -> io::Result<u16> {
        if self.key()?.is_some() {
            return Ok(GENERAL);
        }
        self.file.write_all_at(field(frame, MAC), STATE + 8)?;
        self.file.write_all_at(&[1], STATE)?;
        self.file.sync_data()?;
        Ok(OK)
    }

    /// The counter, authenticated together with the asker's nonce.
    fn counter(&self, frame: &[u8]) -> io::Result<Vec<u8>> {
        let mut answer = [0; FRAME];
        put(&mut answer, KIND, &0x0200_u16.to_be_bytes());
        copy(frame, &mut answer, NONCE);
        if self.key()?.is_some() {
            put(&mut answer, COUNTER, &self.value()?.to_be_bytes());
            self.authenticate(&mut answer)?;
        } else {
            put(&mut answer, RESULT, &NO_KEY.to_be_bytes());
        }
        Ok(answer.to_vec())
    }

    /// Writes one block, or none: MAC, counter and address are checked first.
    fn write(&self, frames: &[u8]) -> io::Result<u16> {
        let Some(key) = self.key()? else {
            return Ok(NO_KEY);
        };
        let blocks: Vec<&[u8]> = frames.chunks_exact(FRAME).collect();
        let (Some(first), Some(last)) = (blocks.first(), blocks.last()) else {
            return Ok(GENERAL);
        };
        if usize::from(number(first, COUNT)) != blocks.len() {
            return Ok(GENERAL);
        }
        let address = u64::from(number(first, ADDRESS));
        if address + blocks.len() as u64 > BLOCKS {
            return Ok(ADDRESS_WRONG);
        }
        let mut mac = start(&key)?;
        blocks.iter().for_each(|frame| mac.update(&frame[DATA.0..]));
        if mac.verify_slice(field(last, MAC)).is_err() {
            return Ok(AUTHENTICATION);
        }
        let value = self.value()?;
        if field(first, COUNTER) != value.to_be_bytes() || value == u32::MAX {
            return Ok(COUNTER_WRONG);
        }
        for (at, frame) in (address..).zip(&blocks) {
            self.file
                .write_all_at(field(frame, DATA), at * BLOCK as u64)?;
        }
        self.file
            .write_all_at(&(value + 1).to_le_bytes(), STATE + 4)?;
        Ok(OK)
    }

    /// Reads blocks; the last frame authenticates all of them with the asker's nonce.
    fn read(&self, frame: &[u8], answers: usize) -> io::Result<Vec<u8>> {
        let key = self.key()?;
        let address = u64::from(number(frame, ADDRESS));
        let fits = address + answers as u64 <= BLOCKS;
        let result = match (&key, fits) {
            (None, _) => NO_KEY,
            (_, false) => ADDRESS_WRONG,
            _ => OK,
        };
        let mut all = vec![0; FRAME * answers];
        for (at, answer) in (address..).zip(all.chunks_exact_mut(FRAME)) {
            put(answer, KIND, &0x0400_u16.to_be_bytes());
            put(answer, RESULT, &result.to_be_bytes());
            put(
                answer,
                COUNT,
                &u16::try_from(answers).unwrap_or(0).to_be_bytes(),
            );
            copy(frame, answer, NONCE);
            copy(frame, answer, ADDRESS);
            if result == OK {
                let mut block = [0; BLOCK];
                self.file.read_exact_at(&mut block, at * BLOCK as u64)?;
                put(answer, DATA, &block);
            }
        }
        if let Some(key) = key {
            let mut mac = start(&key)?;
            all.chunks_exact(FRAME)
                .for_each(|frame| mac.update(&frame[DATA.0..]));
            let tag = mac.finalize().into_bytes();
            if let Some(last) = all.chunks_exact_mut(FRAME).last() {
                put(last, MAC, &tag);
            }
        }
        Ok(all)
    }

    /// Puts the MAC on one frame.
    fn authenticate(&self, frame: &mut [u8]) -> io::Result<()> {
        if let Some(key) = self.key()? {
            let mut mac = start(&key)?;
            mac.update(&frame[DATA.0..]);
            put(frame, MAC, &mac.finalize().into_bytes());
        }
        Ok(())
    }

    /// The key, once it was written.
    fn key(&self) -> io::Result<Option<[u8; 32]>> {
        let (mut written, mut key) = ([0], [0; 32]);
        self.file.read_exact_at(&mut written, STATE)?;
        self.file.read_exact_at(&mut key, STATE + 8)?;
        Ok((written == [1]).then_some(key))
    }

    /// The counter of writes.
    fn value(&self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        self.file.read_exact_at(&mut bytes, STATE + 4)?;
        Ok(u32::from_le_bytes(bytes))
    }
}

/// A MAC that has taken nothing in yet.
fn start(key: &[u8; 32]) -> io::Result<Hmac<Sha256>> {
    Hmac::new_from_slice(key).map_err(io::Error::other)
}

/// A field of a whole frame.
fn field(frame: &[u8], (at, len): (usize, usize)) -> &[u8] {
    &frame[at..at + len]
}

/// A field of two bytes.
fn number(frame: &[u8], place: (usize, usize)) -> u16 {
    let bytes = field(frame, place);
    u16::from_be_bytes([bytes[0], bytes[1]])
}

/// Fills a field.
fn put(frame: &mut [u8], (at, len): (usize, usize), value: &[u8]) {
    frame[at..at + len].copy_from_slice(value);
}

/// Copies a field from one frame to another.
fn copy(from: &[u8], to: &mut [u8], place: (usize, usize)) {
    put(to, place, field(from, place));
}
