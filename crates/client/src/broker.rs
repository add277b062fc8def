//! What a TEEP Broker asks of the TEE. Spec: RFC 9397 section 6.2.1.

use tegata_wire::ids::TaUuid;
use tegata_wire::rpc::{Payload, Processed, Reply, Request};

use crate::connection::unexpected;
use crate::error::Error;
use crate::session::Context;

/// A TAM to contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TeepContact {
    /// Its URI; `None` leaves the choice to the broker.
    pub tam_uri: Option<String>,
    /// What to send first; empty if the TAM begins.
    pub message: Vec<u8>,
}

/// What came of a message of the TAM.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TeepOutcome {
    /// Send this to the TAM.
    Reply(Vec<u8>),
    /// Fetch this and hand the same message in again with it.
    NeedPayload {
        /// Where it is.
        uri: String,
        /// Most bytes it may have.
        max_bytes: u64,
    },
    /// There is nothing to send.
    Done,
}

impl Context {
    /// `RequestTA`: a TA is wanted; `None` if it is there already.
    ///
    /// # Errors
    /// [`Error`]; `TEEC_ERROR_ACCESS_DENIED` if this user is no broker of the TEE.
    pub fn request_ta(&self, ta: &TaUuid) -> Result<Option<TeepContact>, Error> {
        self.contact(Request::RequestTa { ta: *ta })
    }

    /// `UnrequestTA`: a TA is wanted no more; `None` if it is not there.
    ///
    /// # Errors
    /// As [`Self::request_ta`].
    pub fn unrequest_ta(&self, ta: &TaUuid) -> Result<Option<TeepContact>, Error> {
        self.contact(Request::UnrequestTa { ta: *ta })
    }

    /// `RequestPolicyCheck`: whom to ask whether there is something new.
    ///
    /// # Errors
    /// As [`Self::request_ta`].
    pub fn policy_check(&self) -> Result<Option<TeepContact>, Error> {
        self.contact(Request::PolicyCheck)
    }

    /// `ProcessTeepMessage`: hands in a message of the TAM, with payloads fetched for it.
    ///
    /// # Errors
    /// As [`Self::request_ta`].
    pub fn process_teep(&self, message: &[u8], payloads: &[Payload]) -> Result<TeepOutcome, Error> {
        let request = Request::Process {
            message: message.to_vec(),
            payloads: payloads.to_vec(),
        };
        match self.connect()?.call(request, self.timeouts.call)? {
            Reply::Processed(Processed::Reply(message)) => Ok(TeepOutcome::Reply(message)),
            Reply::Processed(Processed::NeedPayload { uri, max_bytes }) => {
                Ok(TeepOutcome::NeedPayload { uri, max_bytes })
            }
            Reply::Processed(Processed::Done) => Ok(TeepOutcome::Done),
            other => Err(unexpected(other)),
        }
    }

    /// `ProcessError`: the TAM could not be reached.
    ///
    /// # Errors
    /// As [`Self::request_ta`].
    pub fn process_error(&self) -> Result<(), Error> {
        match self
            .connect()?
            .call(Request::ProcessError, self.timeouts.control)?
        {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    /// What the TEE reports of itself to its factory: a signed
    /// [`DeviceReport`](tegata_wire::device::DeviceReport).
    ///
    /// # Errors
    /// [`Error`]; `TEEC_ERROR_BAD_PARAMETERS` from a TEE that the factory made with its keys.
    pub fn device_report(&self) -> Result<Vec<u8>, Error> {
        match self
            .connect()?
            .call(Request::DeviceReport, self.timeouts.call)?
        {
            Reply::DeviceReport(report) => Ok(report),
            other => Err(unexpected(other)),
        }
    }

    /// Hands in the factory's word for this device: a signed
    /// [`DeviceRecord`](tegata_wire::device::DeviceRecord). The same again changes nothing.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Refused`] says what is wrong with the record.
    pub fn provision(&self, record: &[u8]) -> Result<(), Error> {
        let request = Request::Provision {
            record: record.to_vec(),
        };
        match self.connect()?.call(request, self.timeouts.call)? {
            Reply::Done => Ok(()),
            other => Err(unexpected(other)),
        }
    }

    fn contact(&self, request: Request) -> Result<Option<TeepContact>, Error> {
        match self.connect()?.call(request, self.timeouts.control)? {
            Reply::Contact(contact) => Ok(contact.map(|contact| TeepContact {
                tam_uri: Some(contact.tam_uri).filter(|uri| !uri.is_empty()),
                message: contact.message,
            })),
            other => Err(unexpected(other)),
        }
    }
}
