//! The Wasm host: one TA module, compiled under limits, run in slices, killed by its own mistakes.
//!
//! Purpose: turns an [`Entry`] into a call of the module's entry point with its parameters in the
//! TA's memory, and the result into an [`Outcome`].
//!
//! Invariants: validation is always on; no floats, no start function, no SIMD, threads, tail calls,
//! 64-bit or second memory; memory, table, stack, recursion and fuel are bounded; between two
//! slices of fuel the deadline is looked at. After a trap or panic nothing of the instance runs
//! again.
//!
//! Trusted: the interpreter. Its own faults are why the software backend puts each instance into a
//! sandboxed process. Not trusted: the module.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use wasmi::{
    Config, CustomFuelCosts, EnforcedLimits, Engine, Error, ExternType, Instance, Linker, Module,
    Store, StoreLimitsBuilder, TypedFunc, TypedResumableCall, WasmParams, WasmResults,
};

use crate::gp::consts::*;
use crate::gp::host::HostServices;
use crate::gp::imports::{Host, define};
use crate::gp::mem::Mem;
use crate::gp::params::{Param, ParamOut, Params, ParamsOut, param_types, wipe, within_limits};
use crate::gp::property::{PropertiesError, TaProperties};
use crate::gp::state::GpState;
use crate::session::launch::{Entry, LaunchError, Lifetime, Outcome, Panic, TaInstance};
use crate::storage::TaId;

/// Name of the custom section that holds the TA's properties.
pub const PROPERTY_SECTION: &str = "tegata.ta";

/// Largest module in bytes.
pub const MODULE_LEN_BYTES_MAX: usize = 2 * 1024 * 1024;

/// Most linear memory of a TA in bytes, whatever it declares.
pub const MEMORY_LEN_BYTES_MAX: u32 = 16 * 1024 * 1024;

/// Fuel of one entry point in all: some seconds of pure Wasm.
pub const ENTRY_FUEL_MAX: u64 = 4_000_000_000;

/// Fuel of one slice: a few milliseconds.
pub const SLICE_FUEL: u64 = 5_000_000;

const STACK_LEN_BYTES_MAX: usize = 512 * 1024;
const RECURSION_MAX: usize = 512;
const TABLE_ELEMENTS_MAX: usize = 8192;

/// A module that passed validation and has what a TA must have.
pub struct TaModule {
    engine: Engine,
    module: Module,
    properties: TaProperties,
}

/// Why a module is not a TA this TEE runs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// Longer than [`MODULE_LEN_BYTES_MAX`].
    #[error("module of {got} bytes is larger than {MODULE_LEN_BYTES_MAX}")]
    TooLarge {
        /// Its length in bytes.
        got: usize,
    },
    /// Not valid Wasm of the allowed kind.
    #[error("module is not valid: {0}")]
    Invalid(#[source] Error),
    /// Not well-formed Wasm.
    #[error("module is not well-formed at byte {at}")]
    NotWellFormed {
        /// Where it ceases to be.
        at: usize,
    },
    /// It has a code section without a function in it.
    #[error("module has no function of its own")]
    NoFunctions,
    /// An export that a TA must have is missing or of another type.
    #[error("module lacks export {name}")]
    Export {
        /// The export.
        name: &'static str,
    },
    /// Its property section is wrong.
    #[error("module properties: {0}")]
    Properties(#[from] PropertiesError),
}

fn config() -> Config {
    let mut config = Config::default();
    // A function is translated when it is first called, and wasmi 2.0.0 cannot go on with a call that runs out of fuel
    // there: translation is free. What it may cost is bounded by the module's length, and is paid once.
    let costs = CustomFuelCosts {
        bytes_copied_per_fuel: 64,
        fuel_per_bytes_translated: 0,
        fuel_per_bytes_validated: 0,
    };
    config
        .consume_fuel(true)
        .fuel_cost(costs)
        .floats(false)
        .allow_start_fn(false)
        .wasm_multi_memory(false)
        .wasm_tail_call(false)
        .wasm_custom_page_sizes(false)
        .wasm_wide_arithmetic(false)
        .ignore_custom_sections(false)
        .enforced_limits(EnforcedLimits::strict())
        .set_min_stack_height(4 * 1024)
        .set_max_stack_height(STACK_LEN_BYTES_MAX)
        .set_max_recursion_depth(RECURSION_MAX);
    config
}

/// Refuses a code section that counts no functions: wasmi 2.0.0 divides its length by their number
/// before it validates, and panics.
fn refuse_empty_code(bytes: &[u8]) -> Result<(), ModuleError> {
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(wasmparser::Payload::CodeSectionStart { count: 0, .. }) => {
                return Err(ModuleError::NoFunctions);
            }
            Ok(_) => {}
            // Not well-formed from here on: wasmi reads the same way, and says what is wrong.
            Err(_) => break,
        }
    }
    Ok(())
}

/// What a module declares of itself, without compiling it: for who hands modules to others to run.
///
/// # Errors
/// [`ModuleError`] if it is too long, is not well-formed up to its property section, or its
/// properties are wrong.
pub fn declared_properties(bytes: &[u8]) -> Result<TaProperties, ModuleError> {
    if bytes.len() > MODULE_LEN_BYTES_MAX {
        return Err(ModuleError::TooLarge { got: bytes.len() });
    }
    for payload in wasmparser::Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(wasmparser::Payload::CustomSection(section))
                if section.name() == PROPERTY_SECTION =>
            {
                return Ok(TaProperties::parse(section.data())?);
            }
            Ok(_) => {}
            Err(error) => return Err(ModuleError::NotWellFormed { at: error.offset() }),
        }
    }
    Ok(TaProperties::default())
}

impl TaModule {
    /// Validates and compiles a module.
    ///
    /// # Errors
    /// [`ModuleError`] says what keeps it from being a TA.
    pub fn new(bytes: &[u8]) -> Result<Self, ModuleError> {
        if bytes.len() > MODULE_LEN_BYTES_MAX {
            return Err(ModuleError::TooLarge { got: bytes.len() });
        }
        refuse_empty_code(bytes)?;
        // A text module would need the interpreter's `wat` feature, which is off: bytes only.
        let engine = Engine::new(&config());
        let module = Module::new(&engine, bytes).map_err(ModuleError::Invalid)?;
        let section = module
            .custom_sections()
            .find(|s| s.name() == PROPERTY_SECTION);
        let properties = match section {
            Some(section) => TaProperties::parse(section.data())?,
            None => TaProperties::default(),
        };
        for (name, params, results) in ENTRY_POINTS {
            let fits = match module.get_export(name) {
                Some(ExternType::Func(ty)) => {
                    ty.params().len() == params
                        && ty.results().len() == results
                        && ty
                            .params()
                            .iter()
                            .chain(ty.results())
                            .all(|v| *v == wasmi::ValType::I32)
                }
                _ => false,
            };
            if !fits {
                return Err(ModuleError::Export { name });
            }
        }
        if !matches!(module.get_export("memory"), Some(ExternType::Memory(_))) {
            return Err(ModuleError::Export { name: "memory" });
        }
        Ok(Self {
            engine,
            module,
            properties,
        })
    }

    /// What the module declares of itself.
    #[must_use]
    pub const fn properties(&self) -> &TaProperties {
        &self.properties
    }
}

/// Exports of a TA: name, number of parameters, number of results; all are `i32`.
const ENTRY_POINTS: [(&str, usize, usize); 7] = [
    ("TA_CreateEntryPoint", 0, 1),
    ("TA_DestroyEntryPoint", 0, 0),
    ("TA_OpenSessionEntryPoint", 3, 1),
    ("TA_CloseSessionEntryPoint", 1, 0),
    ("TA_InvokeCommandEntryPoint", 4, 1),
    ("gp_alloc", 1, 1),
    ("gp_free", 1, 0),
];

/// A running instance of a TA.
pub struct WasmInstance {
    store: Store<Host>,
    instance: Instance,
    contexts: BTreeMap<u32, (u32, crate::session::launch::ClientIdentity)>,
    dead: Option<Panic>,
}

impl WasmInstance {
    /// Makes an instance; no code of the TA runs yet.
    ///
    /// # Errors
    /// [`LaunchError`] if it imports what this TEE does not have, or asks for too much memory.
    pub fn new(
        module: &TaModule,
        ta: TaId,
        mut services: Box<dyn HostServices>,
    ) -> Result<Self, LaunchError> {
        let info = services.info().map_err(|error| LaunchError::Start {
            reason: error.to_string(),
        })?;
        let memory_max = module.properties.data_size.min(MEMORY_LEN_BYTES_MAX);
        let limits = StoreLimitsBuilder::new()
            .memory_size(usize::try_from(memory_max).unwrap_or(0))
            .table_elements(TABLE_ELEMENTS_MAX)
            .instances(1)
            .tables(1)
            .memories(1)
            .build();
        let gp = GpState::new(services, ta, module.properties.clone(), info);
        let mut store = Store::new(
            &module.engine,
            Host {
                gp,
                memory: None,
                limits,
            },
        );
        store.limiter(|host| &mut host.limits);
        let refuse = |error: &dyn core::fmt::Display| LaunchError::Module {
            reason: error.to_string(),
        };
        store.set_fuel(SLICE_FUEL).map_err(|error| refuse(&error))?;
        let mut linker = Linker::new(&module.engine);
        define(&mut linker).map_err(|error| refuse(&error))?;
        let instance = linker
            .instantiate_and_start(&mut store, &module.module)
            .map_err(|error| refuse(&error))?;
        let memory = instance.get_memory(&store, "memory");
        store.data_mut().memory = memory;
        Ok(Self {
            store,
            instance,
            contexts: BTreeMap::new(),
            dead: None,
        })
    }

    fn function<P: WasmParams, R: WasmResults>(
        &self,
        name: &str,
    ) -> Result<TypedFunc<P, R>, Panic> {
        self.instance
            .get_typed_func::<P, R>(&self.store, name)
            .map_err(|_| fault(TEE_ERROR_BAD_STATE, name))
    }

    /// Runs guest code in slices until it ends, one way or another.
    fn run<P: WasmParams, R: WasmResults>(&mut self, name: &str, params: P) -> Result<R, Panic> {
        let function = self.function::<P, R>(name)?;
        let ended = |error: &Error| panic_of(error, name);
        let mut budget = ENTRY_FUEL_MAX;
        self.store
            .set_fuel(SLICE_FUEL)
            .map_err(|error| ended(&error))?;
        let mut call = function
            .call_resumable(&mut self.store, params)
            .map_err(|error| ended(&error))?;
        loop {
            match call {
                TypedResumableCall::Finished(results) => return Ok(results),
                TypedResumableCall::HostTrap(trap) => return Err(ended(trap.host_error())),
                TypedResumableCall::OutOfFuel(pause) => {
                    let slice = pause.required_fuel().max(SLICE_FUEL);
                    budget = budget
                        .checked_sub(slice)
                        .ok_or_else(|| fault(TEE_ERROR_OUT_OF_MEMORY, "fuel"))?;
                    if self.store.data_mut().gp.poll().stop {
                        return Err(fault(TEE_ERROR_TARGET_DEAD, "stopped"));
                    }
                    self.store.set_fuel(slice).map_err(|error| ended(&error))?;
                    call = pause
                        .resume(&mut self.store)
                        .map_err(|error| ended(&error))?;
                }
            }
        }
    }

    fn with_memory<R>(
        &mut self,
        body: impl FnOnce(&mut Mem<'_>) -> crate::gp::fail::Res<R>,
    ) -> Result<R, Panic> {
        let Some(memory) = self.store.data().memory else {
            return Err(fault(TEE_ERROR_BAD_STATE, "memory"));
        };
        let bytes = memory.data_mut(&mut self.store);
        body(&mut Mem(bytes)).map_err(|fail| {
            let (crate::gp::fail::Fail::Code(code) | crate::gp::fail::Fail::Panic(code)) = fail;
            fault(code, "parameters")
        })
    }

    /// Puts parameters into the TA's memory, calls, and takes them out again.
    fn with_params(
        &mut self,
        params: &mut Params,
        call: impl FnOnce(&mut Self, u32, u32, u32) -> Result<u32, Panic>,
    ) -> Result<(u32, ParamsOut), Panic> {
        if !within_limits(params) {
            return Ok((TEE_ERROR_OUT_OF_MEMORY, ParamsOut::default()));
        }
        let types = param_types(params);
        let Some((total, places)) = layout(params) else {
            return Ok((TEE_ERROR_OUT_OF_MEMORY, ParamsOut::default()));
        };
        let block: u32 = self.run::<(u32,), u32>("gp_alloc", (total,))?;
        if block == 0 {
            return Ok((TEE_ERROR_OUT_OF_MEMORY, ParamsOut::default()));
        }
        self.with_memory(|mem| {
            mem.bytes(block, total)?;
            mem.put_words(block, &[0; 10])?;
            for (index, (param, place)) in (0u32..).zip(params.iter().zip(places)) {
                let at = block.saturating_add(8 * index);
                let buffer_at = block.saturating_add(place);
                match param {
                    Param::ValueInput { a, b } | Param::ValueInout { a, b } => {
                        mem.put_words(at, &[*a, *b])?;
                    }
                    Param::MemrefInput { buffer } | Param::MemrefInout { buffer } => {
                        let len = u32::try_from(buffer.len()).unwrap_or(u32::MAX);
                        mem.put_words(at, &[buffer_at, len])?;
                        mem.write(buffer_at, buffer)?;
                    }
                    Param::MemrefOutput { size } => {
                        mem.put_words(at, &[buffer_at, *size])?;
                        let zeros = alloc::vec![0; usize::try_from(*size).unwrap_or(0)];
                        mem.write(buffer_at, &zeros)?;
                    }
                    _ => {}
                }
            }
            Ok(())
        })?;
        // Of an inout buffer the length is the room, and wiping empties it.
        let rooms = params
            .each_ref()
            .map(|param| u32::try_from(param.room()).unwrap_or(0));
        params.iter_mut().for_each(wipe);
        let code = call(self, types, block, block.saturating_add(32))?;
        let out = self.with_memory(|mem| {
            let mut out = ParamsOut::default();
            for ((index, slot), ((param, place), room)) in (0u32..)
                .zip(&mut out)
                .zip(params.iter().zip(places).zip(rooms))
            {
                let at = block.saturating_add(8 * index);
                let (a, b) = (mem.u32(at)?, mem.u32(at.saturating_add(4))?);
                *slot = match param {
                    Param::ValueOutput | Param::ValueInout { .. } => ParamOut::Value { a, b },
                    // The TA may not move the buffer: it is read where it was put.
                    Param::MemrefOutput { .. } | Param::MemrefInout { .. } if b <= room => {
                        let from = block.saturating_add(place);
                        ParamOut::Memref {
                            buffer: mem.bytes(from, b)?.to_vec(),
                            size: b,
                        }
                    }
                    Param::MemrefOutput { .. } | Param::MemrefInout { .. } => ParamOut::Memref {
                        buffer: Vec::new(),
                        size: b,
                    },
                    _ => ParamOut::None,
                };
            }
            // What came in and went out may be secret; the TA's allocator hands the place on.
            mem.fill(block, total, 0)?;
            Ok(out)
        })?;
        self.run::<(u32,), ()>("gp_free", (block,))?;
        Ok((code, out))
    }

    fn enter(&mut self, entry: Entry) -> Result<Outcome, Panic> {
        let client = match &entry {
            Entry::OpenSession { client, .. } => Some(*client),
            Entry::CloseSession { session } | Entry::InvokeCommand { session, .. } => {
                self.contexts.get(session).map(|(_, client)| *client)
            }
            Entry::Create | Entry::Destroy => None,
        };
        self.store.data_mut().gp.begin(client);
        let returned = |code, params| Outcome::Returned { code, params };
        match entry {
            Entry::Create => {
                let code = self.run::<(), u32>("TA_CreateEntryPoint", ())?;
                Ok(returned(code, ParamsOut::default()))
            }
            Entry::Destroy => {
                self.run::<(), ()>("TA_DestroyEntryPoint", ())?;
                Ok(returned(TEE_SUCCESS, ParamsOut::default()))
            }
            Entry::OpenSession {
                session,
                client,
                mut params,
            } => {
                let mut context = 0;
                let (code, out) =
                    self.with_params(&mut params, |this, types, at, context_at| {
                        let arguments = (types, at, context_at);
                        let code = this
                            .run::<(u32, u32, u32), u32>("TA_OpenSessionEntryPoint", arguments)?;
                        context = this.with_memory(|mem| mem.u32(context_at))?;
                        Ok(code)
                    })?;
                if code == TEE_SUCCESS {
                    self.contexts.insert(session, (context, client));
                }
                Ok(returned(code, out))
            }
            Entry::CloseSession { session } => {
                if let Some((context, _)) = self.contexts.remove(&session) {
                    self.run::<(u32,), ()>("TA_CloseSessionEntryPoint", (context,))?;
                }
                Ok(returned(TEE_SUCCESS, ParamsOut::default()))
            }
            Entry::InvokeCommand {
                session,
                command,
                mut params,
            } => {
                let Some((context, _)) = self.contexts.get(&session).copied() else {
                    return Ok(returned(TEE_ERROR_BAD_STATE, ParamsOut::default()));
                };
                let (code, out) = self.with_params(&mut params, |this, types, at, _| {
                    let arguments = (context, command, types, at);
                    this.run::<(u32, u32, u32, u32), u32>("TA_InvokeCommandEntryPoint", arguments)
                })?;
                Ok(returned(code, out))
            }
        }
    }
}

impl TaInstance for WasmInstance {
    fn lifetime(&self) -> Lifetime {
        Lifetime::of(&self.store.data().gp.properties)
    }

    fn call(&mut self, entry: Entry) -> Outcome {
        if let Some(panic) = &self.dead {
            return Outcome::Panicked(panic.clone());
        }
        match self.enter(entry) {
            Ok(outcome) => outcome,
            Err(panic) => {
                self.dead = Some(panic.clone());
                Outcome::Panicked(panic)
            }
        }
    }
}

/// Size of the block for parameters, and where in it each buffer stands.
fn layout(params: &Params) -> Option<(u32, [u32; 4])> {
    // Four TEE_Param of 8 bytes and the session context with its padding.
    let mut total: u32 = 40;
    let mut places = [0; 4];
    for (param, place) in params.iter().zip(&mut places) {
        *place = total;
        let room = u32::try_from(param.room()).ok()?;
        total = total.checked_add(room)?.checked_next_multiple_of(8)?;
    }
    Some((total, places))
}

fn fault(code: u32, function: &str) -> Panic {
    Panic {
        code,
        function: function.to_string(),
    }
}

fn panic_of(error: &Error, entry: &str) -> Panic {
    if let Some(panic) = error.downcast_ref::<Panic>() {
        return panic.clone();
    }
    let function: String = match error.as_trap_code() {
        Some(trap) => format!("{entry}: {trap:?}"),
        None => entry.to_string(),
    };
    Panic {
        code: TEE_ERROR_GENERIC,
        function,
    }
}
