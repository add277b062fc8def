//! The protocol inside commands of an OP-TEE image.
//!
//! Invariants: a call is made once, even if its answer does not fit at first; what an image claims
//! as the size of an answer is judged before memory is made for it.
//!
//! Not trusted: the kernel between us and the image. It can change nothing that it could not do by
//! speaking itself.

use std::time::Duration;

use tegata_wire::cbor;
use tegata_wire::rpc::{
    self, Answer, Call, FrameError, OPTEE_CALL_LEN_BYTES_MAX, OPTEE_CMD_FETCH, OPTEE_CMD_RPC,
    Param, Reply, Request, VERSION,
};

use super::unexpected;
use crate::codes;
use crate::error::{Error, Origin};
use crate::operation::Canceller;

/// A session with an OP-TEE image.
pub(crate) trait Image: Send {
    /// Runs one command: `input` is parameter 0 if there is one, `room` parameter 1. Returns how
    /// many bytes were written.
    fn invoke(
        &mut self,
        command: u32,
        input: Option<&[u8]>,
        room: &mut [u8],
        timeout: Duration,
        canceller: &Canceller,
    ) -> Result<usize, ImageError>;

    /// From now on the session is another's too: dropping this does not close it.
    fn let_go(&mut self);
}

/// Why a command gave no answer.
#[derive(Debug)]
#[cfg_attr(not(feature = "optee"), allow(dead_code))]
pub(crate) enum ImageError {
    /// The answer needs this many bytes and was kept.
    Short {
        /// Bytes.
        needed: usize,
    },
    /// A code.
    Failed {
        /// `TEEC_ERROR_*`.
        code: u32,
        /// Who says so.
        origin: Origin,
    },
    /// Cancelled before it was sent.
    Cancelled,
    /// Cancelled because it took too long.
    TimedOut,
}

/// A connection that has said hello.
pub(crate) struct ImageConnection<I> {
    image: I,
    next: u64,
}

impl<I: Image> ImageConnection<I> {
    pub(crate) fn open(image: I, timeout: Duration) -> Result<Self, Error> {
        let mut connection = Self { image, next: 0 };
        let hello = Request::Hello { version: VERSION };
        match connection.call(hello, timeout, &Canceller::default())? {
            Reply::Hello { version: VERSION } => Ok(connection),
            other => Err(unexpected(other)),
        }
    }

    /// See [`Image::let_go`].
    pub(crate) fn let_go(&mut self) {
        self.image.let_go();
    }

    /// Makes one call and returns its answer.
    pub(crate) fn call(
        &mut self,
        request: Request,
        timeout: Duration,
        canceller: &Canceller,
    ) -> Result<Reply, Error> {
        self.next = self.next.wrapping_add(1);
        let id = self.next;
        let mut room = vec![0; room_for(&request)];
        let call = cbor::to_vec(&Call { id, request }).map_err(FrameError::from)?;
        if call.len() > OPTEE_CALL_LEN_BYTES_MAX {
            let (max, got) = (OPTEE_CALL_LEN_BYTES_MAX, call.len());
            return Err(FrameError::TooLong { max, got }.into());
        }
        let image = &mut self.image;
        let got = match image.invoke(OPTEE_CMD_RPC, Some(&call), &mut room, timeout, canceller) {
            Err(ImageError::Short { needed }) if needed <= OPTEE_CALL_LEN_BYTES_MAX => {
                room = vec![0; needed];
                // The work is done: its answer is not thrown away for a cancellation that is late.
                let late = Canceller::default();
                image.invoke(OPTEE_CMD_FETCH, None, &mut room, timeout, &late)
            }
            other => other,
        };
        let bytes = got.map_err(|error| failed(&error)).and_then(|len| {
            room.get(..len)
                .ok_or(Error::Protocol("a size beyond the room"))
        })?;
        let answer: Answer = rpc::content(bytes)?;
        match answer.reply {
            _ if answer.id != id => Err(Error::Protocol("an answer to another call")),
            Reply::Refused { code, message } => Err(Error::Refused { code, message }),
            reply => Ok(reply),
        }
    }
}

/// Room for the answer, in bytes: it should fit at once, and need not.
fn room_for(request: &Request) -> usize {
    let params = match request {
        Request::OpenSession { params, .. } | Request::Invoke { params, .. } => params,
        _ => return CONTROL_ROOM_LEN_BYTES,
    };
    let outputs = params.iter().filter(|param| {
        matches!(
            param,
            Param::MemrefOutput { .. } | Param::MemrefInout { .. }
        )
    });
    outputs
        .fold(ANSWER_FRAME_LEN_BYTES, |sum, param| {
            sum.saturating_add(param.room())
        })
        .min(OPTEE_CALL_LEN_BYTES_MAX)
}

fn failed(error: &ImageError) -> Error {
    match *error {
        ImageError::Short { .. } => Error::Protocol("an answer longer than any"),
        ImageError::Cancelled => Error::Cancelled,
        ImageError::TimedOut => Error::TimedOut,
        ImageError::Failed { code, origin } => Error::OpTee {
            doing: "calling the TEE's image in OP-TEE",
            code,
            origin,
            mend: mend_call(code).into(),
        },
    }
}

/// What to do when a command of an image fails.
fn mend_call(code: u32) -> &'static str {
    match code {
        codes::TEEC_ERROR_TARGET_DEAD => {
            "The image panicked and its sessions are dead; a new session starts it again. OP-TEE's \
             log (the secure console) says why."
        }
        codes::TEEC_ERROR_OUT_OF_MEMORY => {
            "OP-TEE has no memory left: close other sessions, or build OP-TEE with a larger \
             CFG_TZDRAM_SIZE."
        }
        codes::TEEC_ERROR_BUSY => "Try again.",
        codes::TEEC_ERROR_COMMUNICATION => SUPPLICANT,
        codes::TEEC_ERROR_BAD_PARAMETERS | codes::TEEC_ERROR_NOT_SUPPORTED => {
            "The image does not know this command: agent and images must be of one release."
        }
        _ => "OP-TEE's log (the secure console) may say more.",
    }
}

/// What to do when a session with an image cannot be opened.
#[cfg_attr(not(feature = "optee"), allow(dead_code))]
pub(crate) fn mend_open(code: u32, image: &str) -> String {
    match code {
        codes::TEEC_ERROR_ITEM_NOT_FOUND => format!(
            "OP-TEE has no image {image}: install {image}.ta where tee-supplicant looks \
             (/lib/optee_armtz or /usr/lib/optee_armtz, see its option -t), and see that \
             tee-supplicant runs."
        ),
        codes::TEEC_ERROR_SECURITY => format!(
            "OP-TEE does not believe {image}.ta: it is damaged, or signed by another key than the \
             one that this OP-TEE was built with (TA_SIGN_KEY)."
        ),
        codes::TEEC_ERROR_ACCESS_CONFLICT => {
            format!("{image}.ta is older than one that ran here: install the newer one.")
        }
        codes::TEEC_ERROR_BAD_FORMAT => format!(
            "{image}.ta is encrypted for another device, or cut short: install the one that was \
             made for this device."
        ),
        codes::TEEC_ERROR_OUT_OF_MEMORY => {
            "OP-TEE has no memory for the image: close other sessions, or build OP-TEE with a \
             larger CFG_TZDRAM_SIZE."
                .into()
        }
        other => mend_call(other).into(),
    }
}

/// What to do when OP-TEE cannot be reached at all; `device` is the kernel's file for it.
#[cfg_attr(not(feature = "optee"), allow(dead_code))]
pub(crate) fn mend_reach(device: &std::path::Path) -> String {
    use std::os::unix::fs::MetadataExt;
    let path = device.display();
    let opened = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(device);
    match opened {
        Ok(_) => format!("{path} is there and opens, but what is behind it is not OP-TEE."),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => format!(
            "There is no {path}: load the kernel's driver (`modprobe optee`), and see that the \
             firmware brought OP-TEE (`dmesg | grep optee`) and the device tree has its node."
        ),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let gid = std::fs::metadata(device).map_or(0, |meta| meta.gid());
            format!(
                "This user may not open {path}. Its group is {group}: `usermod -aG {group} USER`, \
                 then log in again.",
                group = group_name(gid)
            )
        }
        Err(error) => format!("{path} does not open: {error}."),
    }
}

/// Name of a group, or its number.
fn group_name(gid: u32) -> String {
    let groups = std::fs::read_to_string("/etc/group").unwrap_or_default();
    let named = groups.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(gid)).then(|| name.to_owned())
    });
    named.unwrap_or_else(|| gid.to_string())
}

const SUPPLICANT: &str = "Is tee-supplicant running? OP-TEE reads images and storage through it \
                          (`systemctl status tee-supplicant`).";
/// Room for the answer to what is no call into a TA, in bytes: a TEEP message with evidence.
const CONTROL_ROOM_LEN_BYTES: usize = 16 * 1024;
/// Bytes of an answer beyond the TA's outputs.
const ANSWER_FRAME_LEN_BYTES: usize = 1024;

#[cfg(test)]
mod tests;
