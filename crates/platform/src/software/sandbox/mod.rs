//! The walls around a worker, around the identity helper and around `teed` itself.
//!
//! Purpose: each `confine_*` function is called by a process on itself, before it reads one byte
//! from anybody. It puts up every wall that this kernel and these privileges allow, and returns
//! the names of those it could not: these go into the evidence, the log and `Info`.
//!
//! Invariant: a wall that is not reported missing stands. Tests try to break each from inside.
//!
//! What no wall here keeps out: root and the kernel of the same machine.

mod filter;
mod landlock;
#[doc(hidden)]
pub mod probe;

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::CapabilitySet;

pub use landlock::Rules;

/// Namespaces of a worker. A new user namespace comes on top when `teed` is not root.
pub const NAMESPACES: i32 = libc::CLONE_NEWNET
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWNS
    | libc::CLONE_NEWPID;

/// Most memory a worker may map, in bytes: the module, its linear memory, the interpreter.
const WORKER_ADDRESS_SPACE_BYTES: u64 = 512 << 20;

/// Most descriptors of a worker.
const WORKER_FILES: u64 = 32;

/// The account that a worker changes to; only root can give it one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Account {
    /// User number.
    pub uid: u32,
    /// Group number.
    pub gid: u32,
}

/// What a worker is to put up, apart from what it always does.
#[derive(Clone, Copy, Debug)]
pub struct WorkerWalls {
    /// The account to change to, when `teed` is root.
    pub account: Option<Account>,
    /// `CLONE_NEW*` flags that the parent got for this process.
    pub namespaces: i32,
    /// False only for tests of the walls behind the filter of system calls.
    pub filter: bool,
}

/// Confines the calling process, which must be a worker with one thread.
///
/// # Errors
/// If a wall that every supported kernel has cannot be put up (dumps, limits, privileges); then
/// the process must end.
pub fn confine_worker(walls: WorkerWalls) -> io::Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    // 1. Nobody of the same account attaches from here on; no dump shows a secret.
    undumpable()?;
    rustix::thread::set_no_new_privs(true)?;
    limit(Resource::Nofile, WORKER_FILES)?;
    limit(Resource::Fsize, 0)?;
    limit(Resource::As, WORKER_ADDRESS_SPACE_BYTES)?;
    // 2. An account of its own, and not one capability.
    match walls.account {
        Some(account) => change_account(account)?,
        None => missing.push("dedicated-uid"),
    }
    no_capabilities()?;
    // After the change of account: the limit counts against the new one.
    limit(Resource::Nproc, 0)?;
    // Linux makes a process dumpable anew when its account changes.
    undumpable()?;
    // 3. Namespaces came with the process; say which did not.
    for (flag, name) in [
        (libc::CLONE_NEWNET, "namespace-net"),
        (libc::CLONE_NEWIPC, "namespace-ipc"),
        (libc::CLONE_NEWUTS, "namespace-uts"),
        (libc::CLONE_NEWNS, "namespace-mount"),
        (libc::CLONE_NEWPID, "namespace-pid"),
    ] {
        if walls.namespaces & flag == 0 {
            missing.push(name);
        }
    }
    // 4. No file, no TCP port, no abstract socket, no signal to anybody outside.
    missing.extend(landlock::restrict(&Rules::default()));
    // 5. Last, because it forbids all of the above.
    if !walls.filter || filter::worker().is_err() {
        missing.push("seccomp");
    }
    Ok(missing)
}

/// Confines the identity helper: it may read programs and `/proc`, and change nothing.
///
/// # Errors
/// As [`confine_worker`].
pub fn confine_helper() -> io::Result<Vec<&'static str>> {
    let mut missing = Vec::new();
    undumpable()?;
    rustix::thread::set_no_new_privs(true)?;
    limit(Resource::Fsize, 0)?;
    // Landlock would forbid looking at processes outside of it, which is this helper's task.
    keep_capabilities(CapabilitySet::SYS_PTRACE | CapabilitySet::DAC_READ_SEARCH)?;
    if filter::helper().is_err() {
        missing.push("seccomp-helper");
    }
    Ok(missing)
}

/// Confines `teed` itself to `rules`. Must be called while it has one thread.
///
/// # Errors
/// As [`confine_worker`].
pub fn confine_parent(rules: &Rules) -> io::Result<Vec<&'static str>> {
    undumpable()?;
    rustix::thread::set_no_new_privs(true)?;
    keep_capabilities(
        CapabilitySet::SETUID
            | CapabilitySet::SETGID
            | CapabilitySet::SETPCAP
            | CapabilitySet::SYS_ADMIN
            | CapabilitySet::KILL
            | CapabilitySet::IPC_LOCK
            // The device directory may belong to the operator's account.
            | CapabilitySet::DAC_OVERRIDE,
    )?;
    let mut missing: Vec<_> = landlock::restrict(rules)
        .into_iter()
        .map(|name| match name {
            "landlock" => "landlock-parent",
            // The parent's other gaps are a subset of the workers'.
            other => other,
        })
        .collect();
    if filter::parent().is_err() {
        missing.push("seccomp-parent");
    }
    Ok(missing)
}

fn undumpable() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    limit(Resource::Core, 0)
}

fn limit(resource: Resource, most: u64) -> io::Result<()> {
    let now = rustix::process::getrlimit(resource);
    // Without privileges a limit can only be lowered.
    let most = now.maximum.map_or(most, |old| old.min(most));
    let limit = Rlimit {
        current: Some(most),
        maximum: Some(most),
    };
    Ok(rustix::process::setrlimit(resource, limit)?)
}

fn change_account(account: Account) -> io::Result<()> {
    let uid = rustix::process::Uid::from_raw(account.uid);
    let gid = rustix::process::Gid::from_raw(account.gid);
    // These change one thread; a worker has no other.
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)?;
    // A change that did not happen must not go unseen.
    let changed = rustix::process::getuid() == uid
        && rustix::process::geteuid() == uid
        && rustix::process::getgid() == gid
        && rustix::process::getegid() == gid;
    if changed {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

fn no_capabilities() -> io::Result<()> {
    let none = CapabilitySet::empty();
    set_capabilities(none)?;
    let left = rustix::thread::capabilities(None)?;
    if left.effective.is_empty() && left.permitted.is_empty() {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Gives up every capability but `wanted`; those that are not there are not missed.
fn keep_capabilities(wanted: CapabilitySet) -> io::Result<()> {
    let now = rustix::thread::capabilities(None)?;
    set_capabilities(now.permitted & wanted)
}

fn set_capabilities(keep: CapabilitySet) -> io::Result<()> {
    let sets = rustix::thread::CapabilitySets {
        effective: keep,
        permitted: keep,
        inheritable: CapabilitySet::empty(),
    };
    Ok(rustix::thread::set_capabilities(None, sets)?)
}
