//! Contexts and sessions.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tegata_wire::ids::TaUuid;
use tegata_wire::rpc::{Info, Login, Reply, Request};

use crate::address::TeeAddress;
use crate::connection::{Connection, Purpose, unexpected};
use crate::error::{Error, Origin};
use crate::operation::Operation;

/// How long a client waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For the answer to a call into a TA. The TEE ends a call that takes too long by itself, so
    /// this is longer than its limit (60 s unless configured).
    pub call: Duration,
    /// For the answer to anything else.
    pub control: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            call: Duration::from_secs(90),
            control: Duration::from_secs(30),
        }
    }
}

/// `TEEC_Context`: a TEE that a client speaks to. Holds no connection.
#[derive(Clone, Debug)]
pub struct Context {
    address: TeeAddress,
    pub(crate) timeouts: Timeouts,
}

impl Context {
    /// The TEE that listens on `socket`. Nothing is contacted yet.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self::at(TeeAddress::Socket(socket.into()))
    }

    /// The TEE at `address`. Nothing is contacted yet.
    #[must_use]
    pub fn at(address: TeeAddress) -> Self {
        Self {
            address,
            timeouts: Timeouts::default(),
        }
    }

    /// The same with other time-outs.
    #[must_use]
    pub const fn with_timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// Where the TEE is.
    #[must_use]
    pub const fn address(&self) -> &TeeAddress {
        &self.address
    }

    pub(crate) fn connect(&self) -> Result<Connection, Error> {
        Connection::open(&self.address, Purpose::Control, self.timeouts.control)
    }

    /// What the TEE is, and how it is doing.
    ///
    /// # Errors
    /// [`Error`].
    pub fn info(&self) -> Result<Info, Error> {
        match self.connect()?.call(Request::Info, self.timeouts.control)? {
            Reply::Info(info) => Ok(info),
            other => Err(unexpected(other)),
        }
    }

    /// `TEEC_OpenSession`: opens a session with a TA. Blocks while the TA is loaded.
    ///
    /// # Errors
    /// [`Error::Returned`] with `TEEC_ERROR_ITEM_NOT_FOUND` if the TA is not installed, with the
    /// TA's own code if it refuses; other [`Error`]s.
    ///
    /// Spec: GP TEE Client API 1.0 section 4.5.5.
    pub fn open_session(
        &self,
        ta: &TaUuid,
        login: Login,
        operation: &mut Operation,
    ) -> Result<Session, Error> {
        let params = operation.wire_params()?;
        let purpose = Purpose::Session(login);
        let mut connection = Connection::open(&self.address, purpose, self.timeouts.control)?;
        let request = Request::OpenSession {
            ta: *ta,
            login,
            params,
        };
        let session = run(&mut connection, request, operation, self.timeouts.call)?;
        Ok(Session {
            connection: Mutex::new(connection),
            session,
            timeouts: self.timeouts,
            closed: false,
        })
    }
}

/// `TEEC_Session`: an open session with a TA. Dropping it closes it.
pub struct Session {
    connection: Mutex<Connection>,
    session: u32,
    timeouts: Timeouts,
    closed: bool,
}

impl Session {
    /// `TEEC_InvokeCommand`: one call, one at a time; threads that share a session wait.
    ///
    /// # Errors
    /// [`Error::Returned`] with the TA's code, or `TEEC_ERROR_TARGET_DEAD` if its instance died:
    /// then a new session must be opened. Other [`Error`]s. With `TEEC_ERROR_SHORT_BUFFER`,
    /// [`Operation::size`] tells how much room is needed.
    ///
    /// Spec: GP TEE Client API 1.0 section 4.5.7.
    pub fn invoke(&self, command: u32, operation: &mut Operation) -> Result<(), Error> {
        let params = operation.wire_params()?;
        let mut connection = self
            .connection
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let request = Request::Invoke {
            session: self.session,
            command,
            params,
        };
        run(&mut connection, request, operation, self.timeouts.call).map(|_| ())
    }

    /// `TEEC_CloseSession`.
    ///
    /// # Errors
    /// [`Error`] if the TEE did not confirm; the session is closed in any case.
    ///
    /// Spec: GP TEE Client API 1.0 section 4.5.6.
    pub fn close(mut self) -> Result<(), Error> {
        self.closed = true;
        let connection = self
            .connection
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let request = Request::CloseSession {
            session: self.session,
        };
        match connection.call(request, self.timeouts.control)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// Lets go of the connection without a word. The TEE closes the session when nobody holds the
    /// connection any more: for the child after a fork, whose connection is the parent's too, and
    /// for a connection that is broken.
    pub fn abandon(mut self) {
        self.closed = true;
        let connection = self.connection.get_mut();
        connection.unwrap_or_else(PoisonError::into_inner).let_go();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.closed {
            // Waits for the TA's own cleaning up, as `TEEC_CloseSession` does; if the TEE is gone,
            // the session is too.
            let session = self.session;
            let connection = self
                .connection
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner);
            let _ = connection.call(Request::CloseSession { session }, self.timeouts.control);
        }
    }
}

fn run(
    connection: &mut Connection,
    request: Request,
    operation: &mut Operation,
    timeout: Duration,
) -> Result<u32, Error> {
    operation.clear();
    let cancel = operation.canceller();
    if cancel.is_requested() {
        return Err(Error::Cancelled);
    }
    let reply = connection.call_cancellable(request, timeout, &cancel);
    match reply? {
        Reply::Operation {
            code,
            origin,
            session,
            params,
        } => {
            operation.take(params)?;
            match code {
                0 => Ok(session),
                code => Err(Error::Returned {
                    code,
                    origin: Origin::from_number(origin),
                }),
            }
        }
        other => Err(unexpected(other)),
    }
}
