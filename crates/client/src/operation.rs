//! Parameters of a call, and its cancellation.

use std::sync::{Arc, Mutex, PoisonError};

use tegata_wire::rpc::{self, Param, ParamOut};

use crate::error::Error;

/// One parameter of a call. Spec: GP TEE Client API 1.0 section 4.3.7.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Parameter {
    /// `TEEC_NONE`.
    #[default]
    None,
    /// `TEEC_VALUE_INPUT`.
    ValueInput(u32, u32),
    /// `TEEC_VALUE_OUTPUT`; what came is in [`Operation::value`].
    ValueOutput,
    /// `TEEC_VALUE_INOUT`.
    ValueInout(u32, u32),
    /// `TEEC_MEMREF_TEMP_INPUT`: bytes that the TA reads.
    MemrefInput(Vec<u8>),
    /// `TEEC_MEMREF_TEMP_OUTPUT`: room in bytes for what the TA writes.
    MemrefOutput(u32),
    /// `TEEC_MEMREF_TEMP_INOUT`: bytes that the TA reads and replaces by no more.
    MemrefInout(Vec<u8>),
}

impl Parameter {
    /// Bytes that the TA reads.
    #[must_use]
    pub fn memref_input(bytes: impl AsRef<[u8]>) -> Self {
        Self::MemrefInput(bytes.as_ref().to_vec())
    }

    /// Room in bytes for what the TA writes.
    #[must_use]
    pub const fn memref_output(room_bytes: u32) -> Self {
        Self::MemrefOutput(room_bytes)
    }

    fn to_wire(&self) -> Param {
        match self {
            Self::None => Param::None,
            Self::ValueInput(a, b) => Param::ValueInput { a: *a, b: *b },
            Self::ValueOutput => Param::ValueOutput,
            Self::ValueInout(a, b) => Param::ValueInout { a: *a, b: *b },
            Self::MemrefInput(bytes) => Param::MemrefInput {
                buffer: bytes.clone(),
            },
            Self::MemrefOutput(size) => Param::MemrefOutput { size: *size },
            Self::MemrefInout(bytes) => Param::MemrefInout {
                buffer: bytes.clone(),
            },
        }
    }
}

/// A call: four parameters, what came back, and a handle to cancel it.
#[derive(Default)]
pub struct Operation {
    params: [Parameter; 4],
    out: [ParamOut; 4],
    cancel: Canceller,
}

impl Operation {
    /// A call with these parameters.
    #[must_use]
    pub fn new(params: [Parameter; 4]) -> Self {
        Self {
            params,
            ..Self::default()
        }
    }

    /// A call without parameters.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// The values that came back in parameter `index`, if it was an output value.
    #[must_use]
    pub fn value(&self, index: usize) -> Option<(u32, u32)> {
        match self.out.get(index)? {
            ParamOut::Value { a, b } => Some((*a, *b)),
            _ => None,
        }
    }

    /// The bytes that came back in parameter `index`; empty if it was no output memory.
    #[must_use]
    pub fn memref(&self, index: usize) -> &[u8] {
        match self.out.get(index) {
            Some(ParamOut::Memref { buffer, .. }) => buffer,
            _ => &[],
        }
    }

    /// The size that the TA reported for parameter `index`: after `TEEC_ERROR_SHORT_BUFFER`, the
    /// room that it needs.
    #[must_use]
    pub fn size(&self, index: usize) -> Option<u32> {
        match self.out.get(index)? {
            ParamOut::Memref { size, .. } => Some(*size),
            _ => None,
        }
    }

    /// A handle with which another thread cancels this call. Spec: GP TEE Client API 1.0 section
    /// 4.5.10.
    #[must_use]
    pub fn canceller(&self) -> Canceller {
        self.cancel.clone()
    }

    pub(crate) fn wire_params(&self) -> Result<[Param; 4], Error> {
        let params = self.params.each_ref().map(Parameter::to_wire);
        if rpc::within_limits(&params) {
            Ok(params)
        } else {
            Err(Error::TooLarge {
                max_bytes: rpc::PARAMS_LEN_BYTES_MAX,
            })
        }
    }

    /// Takes over what came back. A TA can write to outputs only and no more than there is room:
    /// an answer that says otherwise is refused.
    pub(crate) fn take(&mut self, out: [ParamOut; 4]) -> Result<(), Error> {
        for (param, got) in self.params.iter().zip(&out) {
            let fits = match (param, got) {
                (_, ParamOut::None) => true,
                (Parameter::ValueOutput | Parameter::ValueInout(..), ParamOut::Value { .. }) => {
                    true
                }
                (Parameter::MemrefOutput(room), ParamOut::Memref { buffer, .. }) => {
                    u32::try_from(buffer.len()).is_ok_and(|len| len <= *room)
                }
                (Parameter::MemrefInout(bytes), ParamOut::Memref { buffer, .. }) => {
                    buffer.len() <= bytes.len()
                }
                _ => false,
            };
            if !fits {
                return Err(Error::Protocol("a parameter that was not asked for"));
            }
        }
        self.out = out;
        Ok(())
    }

    pub(crate) fn clear(&mut self) {
        self.out = Default::default();
    }
}

/// Cancels one call from another thread.
#[derive(Clone, Default)]
pub struct Canceller(Arc<Mutex<State>>);

/// Asks the TEE to cancel the call that runs.
pub(crate) type CancelRunning = Box<dyn Fn() + Send>;

#[derive(Default)]
struct State {
    requested: bool,
    running: Option<CancelRunning>,
}

impl Canceller {
    /// `TEEC_RequestCancellation`: asks the TEE to cancel the call, or keeps it from starting. The
    /// call itself still returns, with `TEEC_ERROR_CANCEL` if the TA heeded the request.
    pub fn cancel(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.requested = true;
        if let Some(cancel) = &state.running {
            cancel();
        }
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .requested
    }

    /// Runs `begin`, which starts the call and tells how to cancel it, so that a cancellation comes
    /// either before it or after it. What it gives is dropped in [`Self::finish`] at the latest.
    pub(crate) fn start<T>(
        &self,
        begin: impl FnOnce() -> Result<(T, CancelRunning), Error>,
    ) -> Result<T, Error> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if state.requested {
            return Err(Error::Cancelled);
        }
        let (begun, cancel) = begin()?;
        state.running = Some(cancel);
        Ok(begun)
    }

    /// The call has ended: nobody cancels it any more, nor is doing so now.
    pub(crate) fn finish(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.running = None;
    }
}
