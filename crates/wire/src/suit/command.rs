//! Commands and command sequences.

use alloc::vec::Vec;

use super::{
    CBOR_LIMITS, MAX_COMMANDS, MAX_COMPONENTS, MAX_DEPENDENCIES, MAX_SEQUENCE_DEPTH,
    MAX_SEQUENCE_LEN, Parameters, SuitError,
};
use crate::cbor::{self, Value};

macro_rules! coded {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $code:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// The command number.
            #[must_use]
            pub const fn code(self) -> i64 {
                match self { $(Self::$variant => $code,)* }
            }

            /// The one with this command number, if it is one.
            #[must_use]
            pub const fn from_code(code: i64) -> Option<Self> {
                match code { $($code => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

coded! {
    /// Conditions: commands that compare, and fail where there is a difference.
    ///
    /// Spec: draft-ietf-suit-manifest section 8.4.9
    Condition {
        /// The device's vendor is the parameter's.
        VendorIdentifier = 1,
        /// The device's class is the parameter's.
        ClassIdentifier = 2,
        /// The component's digest and size are the parameters'.
        ImageMatch = 3,
        /// It is not yet too late (update-management; not supported).
        UseBefore = 4,
        /// The component is in the parameter's slot.
        ComponentSlot = 5,
        /// The component's content is the parameter's.
        CheckContent = 6,
        /// The dependency's manifest digest is the parameter's, and it is authentic.
        DependencyIntegrity = 7,
        /// The current component is a dependency.
        IsDependency = 8,
        /// Fails always.
        Abort = 14,
        /// The device is the parameter's.
        DeviceIdentifier = 24,
        /// The component's digest is not the parameter's (update-management; not supported).
        ImageNotMatch = 25,
        /// The battery is full enough (update-management; not supported).
        MinimumBattery = 26,
        /// The update is authorized by the application (update-management; not supported).
        UpdateAuthorized = 27,
        /// The component's version compares as asked (update-management; not supported).
        Version = 28,
    }
}

impl Condition {
    /// Whether Tegata can judge it; the others are known, and must be refused when reached.
    #[must_use]
    pub const fn is_supported(self) -> bool {
        !matches!(
            self,
            Self::UseBefore
                | Self::ImageNotMatch
                | Self::MinimumBattery
                | Self::UpdateAuthorized
                | Self::Version
        )
    }
}

coded! {
    /// Directives that take nothing but a reporting policy: commands that act.
    ///
    /// Spec: draft-ietf-suit-manifest section 8.4.10
    Directive {
        /// Processes the current component as a dependency manifest.
        ProcessDependency = 11,
        /// Writes the content parameter to the component.
        Write = 18,
        /// Fetches the component from its URI.
        Fetch = 21,
        /// Copies the source component.
        Copy = 22,
        /// Starts the component.
        Invoke = 23,
        /// Waits for an event (update-management; not supported).
        Wait = 29,
        /// Exchanges component and source component.
        Swap = 31,
        /// Gives the component up.
        Unlink = 33,
    }
}

impl Directive {
    /// Whether Tegata knows how to do it; the others must be refused when reached.
    #[must_use]
    pub const fn is_supported(self) -> bool {
        !matches!(self, Self::Wait)
    }
}

/// Which outcomes of a command are to be reported: four bits.
///
/// Spec: draft-ietf-suit-manifest section 8.4.7
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RepPolicy(u8);

impl RepPolicy {
    /// Reports nothing.
    pub const NONE: Self = Self(0);
    /// Reports records and system information, of success and of failure.
    pub const ALL: Self = Self(15);
    /// Reports records and system information of failure.
    pub const FAILURE: Self = Self(0b1010);

    /// Whether a record of success is wanted.
    #[must_use]
    pub const fn record_success(self) -> bool {
        self.0 & 1 != 0
    }

    /// Whether a record of failure is wanted.
    #[must_use]
    pub const fn record_failure(self) -> bool {
        self.0 & 2 != 0
    }

    /// Whether system information is wanted with success.
    #[must_use]
    pub const fn sysinfo_success(self) -> bool {
        self.0 & 4 != 0
    }

    /// Whether system information is wanted with failure.
    #[must_use]
    pub const fn sysinfo_failure(self) -> bool {
        self.0 & 8 != 0
    }

    /// The four bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// A policy of these bits.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits < 16 { Some(Self(bits)) } else { None }
    }
}

/// Which components the commands that follow are about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum IndexArg {
    /// The component (or dependency) with this index.
    One(u64),
    /// All of them, one after the other.
    All,
    /// These, one after the other.
    Many(Vec<u64>),
}

/// One command with its argument.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Command {
    /// A comparison.
    Condition(Condition, RepPolicy),
    /// An action on the current component.
    Directive(Directive, RepPolicy),
    /// Chooses the current component (12).
    SetComponentIndex(IndexArg),
    /// Runs the sequences in turn until one succeeds (15).
    TryEach {
        /// The sequences, at least one.
        sequences: Vec<Sequence>,
        /// Whether it is a success if all of them fail (a final nil).
        or_nothing: bool,
    },
    /// Sets parameters that are not yet set (19).
    SetParameters(Parameters),
    /// Sets parameters, whatever they were before (20).
    OverrideParameters(Parameters),
    /// Runs a sequence (32).
    RunSequence(Sequence),
    /// A command that Tegata does not know, or knows and does not support: must be refused when
    /// reached. Custom commands have negative numbers.
    Unsupported {
        /// Command number.
        code: i64,
        /// Its argument, unread.
        argument: Value,
    },
}

impl Command {
    /// A condition that reports everything.
    #[must_use]
    pub const fn check(condition: Condition) -> Self {
        Self::Condition(condition, RepPolicy::ALL)
    }

    /// A directive that reports everything.
    #[must_use]
    pub const fn act(directive: Directive) -> Self {
        Self::Directive(directive, RepPolicy::ALL)
    }

    /// Chooses one component.
    #[must_use]
    pub const fn index(index: u64) -> Self {
        Self::SetComponentIndex(IndexArg::One(index))
    }

    /// The command number.
    #[must_use]
    pub const fn code(&self) -> i64 {
        match self {
            Self::Condition(condition, _) => condition.code(),
            Self::Directive(directive, _) => directive.code(),
            Self::SetComponentIndex(_) => 12,
            Self::TryEach { .. } => 15,
            Self::SetParameters(_) => 19,
            Self::OverrideParameters(_) => 20,
            Self::RunSequence(_) => 32,
            Self::Unsupported { code, .. } => *code,
        }
    }

    fn from_parts(code: i64, argument: Value, budget: &mut Budget) -> Result<Self, SuitError> {
        if let Some(condition) = Condition::from_code(code) {
            return Ok(Self::Condition(condition, policy(&argument)?));
        }
        if let Some(directive) = Directive::from_code(code) {
            return Ok(Self::Directive(directive, policy(&argument)?));
        }
        Ok(match code {
            12 => Self::SetComponentIndex(index_arg(argument)?),
            15 => try_each(argument, budget)?,
            19 => Self::SetParameters(parameters(argument)?),
            20 => Self::OverrideParameters(parameters(argument)?),
            32 => Self::RunSequence(budget.nested(argument)?),
            code => Self::Unsupported { code, argument },
        })
    }

    fn argument(&self) -> Result<Value, SuitError> {
        Ok(match self {
            Self::Condition(_, policy) | Self::Directive(_, policy) => policy.0.into(),
            Self::SetComponentIndex(IndexArg::One(index)) => (*index).into(),
            Self::SetComponentIndex(IndexArg::All) => Value::Bool(true),
            Self::SetComponentIndex(IndexArg::Many(list)) => {
                Value::Array(list.iter().map(|index| (*index).into()).collect())
            }
            Self::TryEach {
                sequences,
                or_nothing,
            } => {
                let mut items = sequences
                    .iter()
                    .map(|s| Ok(Value::Bytes(s.encode()?)))
                    .collect::<Result<Vec<_>, SuitError>>()?;
                if *or_nothing {
                    items.push(Value::Null);
                }
                Value::Array(items)
            }
            Self::SetParameters(parameters) | Self::OverrideParameters(parameters) => {
                parameters.to_value()?
            }
            Self::RunSequence(sequence) => Value::Bytes(sequence.encode()?),
            Self::Unsupported { argument, .. } => argument.clone(),
        })
    }
}

/// Commands in their order.
///
/// Spec: draft-ietf-suit-manifest section 8.4.6
#[derive(Debug, Clone, Default)]
pub struct Sequence {
    commands: Vec<Command>,
    /// Byte offset of each command; empty for a sequence that was not decoded.
    offsets: Vec<usize>,
}

impl PartialEq for Sequence {
    /// Compares the commands; where they stood in the bytes does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.commands == other.commands
    }
}

impl From<Vec<Command>> for Sequence {
    fn from(commands: Vec<Command>) -> Self {
        Self {
            commands,
            offsets: Vec::new(),
        }
    }
}

impl Sequence {
    /// The commands.
    #[must_use]
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// Byte offset of the command with this index, from the start of the sequence's array, as a
    /// SUIT Record wants it (0 for a sequence that was not decoded).
    #[must_use]
    pub fn offset(&self, index: usize) -> u64 {
        self.offsets
            .get(index)
            .and_then(|offset| u64::try_from(*offset).ok())
            .unwrap_or(0)
    }

    /// Decodes a sequence (the content of its byte string).
    ///
    /// # Errors
    /// `SuitError` if the bytes are none, or exceed the limits of nesting, number or size.
    pub fn decode(bytes: &[u8]) -> Result<Self, SuitError> {
        Self::decode_within(bytes, &mut Budget::new())
    }

    pub(super) fn decode_within(bytes: &[u8], budget: &mut Budget) -> Result<Self, SuitError> {
        cbor::check_len(bytes.len(), "command sequence", 0, MAX_SEQUENCE_LEN)?;
        let value = cbor::decode_limited(bytes, CBOR_LIMITS)?;
        let items = cbor::into_array(value, "command sequence", 2, MAX_COMMANDS * 2)?;
        let offsets = cbor::array_item_offsets(bytes, CBOR_LIMITS)?;
        let mut commands = Vec::new();
        let mut items = items.into_iter();
        while let Some(code) = items.next() {
            budget.spend()?;
            let argument = items.next().ok_or(SuitError::Invalid {
                what: "command without argument",
            })?;
            let code = cbor::int(&code, "command")?;
            commands.push(Command::from_parts(code, argument, budget)?);
        }
        Ok(Self {
            commands,
            offsets: offsets.into_iter().step_by(2).collect(),
        })
    }

    /// Encodes the sequence (the content of its byte string).
    ///
    /// # Errors
    /// `SuitError` if it is empty or holds parameters with a label twice.
    pub fn encode(&self) -> Result<Vec<u8>, SuitError> {
        if self.commands.is_empty() {
            return Err(SuitError::Invalid {
                what: "empty command sequence",
            });
        }
        let mut items = Vec::with_capacity(self.commands.len() * 2);
        for command in &self.commands {
            items.push(command.code().into());
            items.push(command.argument()?);
        }
        Ok(cbor::encode(&Value::Array(items))?)
    }
}

/// What one manifest may still spend on commands and nesting.
#[derive(Debug)]
pub(super) struct Budget {
    commands: usize,
    depth: usize,
}

impl Budget {
    pub(super) const fn new() -> Self {
        Self {
            commands: MAX_COMMANDS,
            depth: MAX_SEQUENCE_DEPTH,
        }
    }

    fn spend(&mut self) -> Result<(), SuitError> {
        let limit = SuitError::Limit {
            what: "commands",
            max: MAX_COMMANDS,
        };
        self.commands = self.commands.checked_sub(1).ok_or(limit)?;
        Ok(())
    }

    fn nested(&mut self, value: Value) -> Result<Sequence, SuitError> {
        let bytes = cbor::into_bytes(value, "nested command sequence")?;
        let limit = SuitError::Limit {
            what: "nested sequences",
            max: MAX_SEQUENCE_DEPTH,
        };
        self.depth = self.depth.checked_sub(1).ok_or(limit)?;
        let sequence = Sequence::decode_within(&bytes, self);
        self.depth += 1;
        sequence
    }
}

fn policy(argument: &Value) -> Result<RepPolicy, SuitError> {
    const WHAT: &str = "SUIT_Rep_Policy";
    let bits = u8::try_from(cbor::uint(argument, WHAT)?).ok();
    let range = SuitError::Cbor(cbor::CborError::Range { what: WHAT });
    bits.and_then(RepPolicy::from_bits).ok_or(range)
}

fn index_arg(argument: Value) -> Result<IndexArg, SuitError> {
    const WHAT: &str = "component index";
    match argument {
        Value::Bool(true) => Ok(IndexArg::All),
        Value::Array(list) => {
            cbor::check_len(list.len(), WHAT, 1, MAX_COMPONENTS + MAX_DEPENDENCIES)?;
            let list = list
                .iter()
                .map(|v| cbor::uint(v, WHAT))
                .collect::<Result<_, _>>()?;
            Ok(IndexArg::Many(list))
        }
        other => Ok(IndexArg::One(cbor::uint(&other, WHAT)?)),
    }
}

fn parameters(argument: Value) -> Result<Parameters, SuitError> {
    let parameters = Parameters::from_value(argument)?;
    if parameters.is_empty() {
        return Err(SuitError::Invalid {
            what: "empty parameters",
        });
    }
    Ok(parameters)
}

fn try_each(argument: Value, budget: &mut Budget) -> Result<Command, SuitError> {
    let mut items = cbor::into_array(argument, "try-each", 2, MAX_COMMANDS)?;
    let or_nothing = matches!(items.last(), Some(Value::Null));
    if or_nothing {
        items.pop();
    }
    let sequences = items
        .into_iter()
        .map(|item| budget.nested(item))
        .collect::<Result<_, SuitError>>()?;
    Ok(Command::TryEach {
        sequences,
        or_nothing,
    })
}
