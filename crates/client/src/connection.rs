//! A connection to the TEE, by whichever way leads there.

use std::time::Duration;

use tegata_wire::rpc::{Login, Reply, Request};

use crate::address::TeeAddress;
use crate::error::Error;
#[cfg(feature = "optee")]
use crate::ffi::TeecSession;
use crate::operation::Canceller;

#[cfg(any(test, feature = "optee"))]
pub(crate) mod image;
mod socket;

#[cfg(feature = "optee")]
pub(crate) use socket::FileId;
use socket::SocketConnection;
pub use socket::short_socket_path;

/// What a connection is for. Over OP-TEE this decides which image answers, and as whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Everything but sessions with TAs.
    Control,
    /// One session with a TA, opened with this login.
    Session(Login),
}

/// A connection to a TEE that speaks our version of the protocol.
pub(crate) enum Connection {
    Socket(SocketConnection),
    #[cfg(feature = "optee")]
    OpTee(image::ImageConnection<TeecSession>),
}

impl Connection {
    pub(crate) fn open(
        address: &TeeAddress,
        purpose: Purpose,
        timeout: Duration,
    ) -> Result<Self, Error> {
        match address {
            TeeAddress::Socket(path) => SocketConnection::open(path, timeout).map(Self::Socket),
            #[cfg(feature = "optee")]
            TeeAddress::OpTee => {
                let session = TeecSession::open(purpose)?;
                image::ImageConnection::open(session, timeout).map(Self::OpTee)
            }
            #[cfg(not(feature = "optee"))]
            TeeAddress::OpTee => {
                let _ = purpose;
                Err(Error::NoOpTee)
            }
        }
    }

    /// Sends one request and waits for its answer.
    pub(crate) fn call(&mut self, request: Request, timeout: Duration) -> Result<Reply, Error> {
        match self {
            Self::Socket(connection) => connection.call(request, timeout),
            #[cfg(feature = "optee")]
            Self::OpTee(connection) => connection.call(request, timeout, &Canceller::default()),
        }
    }

    /// The same for a call that another thread may cancel.
    pub(crate) fn call_cancellable(
        &mut self,
        request: Request,
        timeout: Duration,
        canceller: &Canceller,
    ) -> Result<Reply, Error> {
        match self {
            Self::Socket(connection) => connection.call_cancellable(request, timeout, canceller),
            #[cfg(feature = "optee")]
            Self::OpTee(connection) => connection.call(request, timeout, canceller),
        }
    }

    /// From now on the connection is another's too: dropping this ends nothing, and closes no
    /// descriptor that means another file by now. The TEE hears of it from the kernel when nobody
    /// holds the connection any more.
    pub(crate) fn let_go(&mut self) {
        match self {
            Self::Socket(connection) => connection.let_go(),
            #[cfg(feature = "optee")]
            Self::OpTee(connection) => connection.let_go(),
        }
    }
}

pub(crate) fn unexpected(_: Reply) -> Error {
    Error::Protocol("an answer of another kind")
}
