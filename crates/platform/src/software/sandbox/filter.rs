//! seccomp: which system calls a process can make at all.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

type Error = Box<dyn std::error::Error>;
type Calls = BTreeMap<i64, Vec<SeccompRule>>;

/// What a worker needs: its channel, memory without executable pages, clocks, its end.
const WORKER: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_pread64,
    libc::SYS_lseek,
    libc::SYS_close,
    libc::SYS_fstat,
    libc::SYS_ppoll,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mlock,
    libc::SYS_mlock2,
    libc::SYS_munlock,
    libc::SYS_brk,
    libc::SYS_futex,
    libc::SYS_getrandom,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_getpid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getrusage,
    libc::SYS_sched_yield,
    libc::SYS_sigaltstack,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_restart_syscall,
    libc::SYS_exit,
    libc::SYS_exit_group,
];

/// What nobody who is honest tries: the process ends at once.
const FATAL: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
];

/// What the parent has no use for: ways into other processes and into the kernel.
const PARENT_DENIED: &[i64] = &[
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_setns,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_open_by_handle_at,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
];

pub(super) fn worker() -> Result<(), Error> {
    let mut calls = plain(WORKER);
    no_exec_pages(&mut calls)?;
    look_at_descriptors(&mut calls)?;
    allow(calls, &fatal_filter(FATAL)?)
}

/// Reads files, and looks at processes through `/proc`; writes only to its channel.
pub(super) fn helper() -> Result<(), Error> {
    let mut calls = plain(WORKER);
    calls.extend(plain(&[
        libc::SYS_readlinkat,
        libc::SYS_statx,
        libc::SYS_newfstatat,
        libc::SYS_fstatfs,
    ]));
    no_exec_pages(&mut calls)?;
    look_at_descriptors(&mut calls)?;
    let changes = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | libc::O_APPEND;
    let read_only = SeccompRule::new(vec![masked(2, changes, libc::O_RDONLY)?])?;
    calls.insert(libc::SYS_openat, vec![read_only]);
    allow(calls, &fatal_filter(FATAL)?)
}

pub(super) fn parent() -> Result<(), Error> {
    let filter = SeccompFilter::new(
        plain(PARENT_DENIED),
        SeccompAction::Allow,
        SeccompAction::Errno(EPERM),
        arch()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    Ok(seccompiler::apply_filter(&program)?)
}

const EPERM: u32 = 1;

fn plain(calls: &[i64]) -> Calls {
    calls.iter().map(|call| (*call, Vec::new())).collect()
}

/// Looking whether a descriptor is open, as Rust's library does when it closes one.
fn look_at_descriptors(calls: &mut Calls) -> Result<(), Error> {
    let only = SeccompCondition::new(
        1,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::Eq,
        u64::try_from(libc::F_GETFD)?,
    )?;
    calls.insert(libc::SYS_fcntl, vec![SeccompRule::new(vec![only])?]);
    Ok(())
}

/// `mmap` and `mprotect` only without execution: an interpreter needs no other page, an attacker
/// who brings code does.
fn no_exec_pages(calls: &mut Calls) -> Result<(), Error> {
    for call in [libc::SYS_mmap, libc::SYS_mprotect] {
        calls.insert(
            call,
            vec![SeccompRule::new(vec![masked(2, libc::PROT_EXEC, 0)?])?],
        );
    }
    Ok(())
}

fn masked(arg: u8, mask: i32, value: i32) -> Result<SeccompCondition, Error> {
    let mask = SeccompCmpOp::MaskedEq(u64::try_from(mask)?);
    Ok(SeccompCondition::new(
        arg,
        SeccompCmpArgLen::Dword,
        mask,
        u64::try_from(value)?,
    )?)
}

fn fatal_filter(calls: &[i64]) -> Result<BpfProgram, Error> {
    let filter = SeccompFilter::new(
        plain(calls),
        SeccompAction::Allow,
        SeccompAction::KillProcess,
        arch()?,
    )?;
    Ok(filter.try_into()?)
}

/// Installs `fatal` and then the allow-list; of two filters the harsher answer counts.
fn allow(calls: Calls, fatal: &BpfProgram) -> Result<(), Error> {
    let filter = SeccompFilter::new(
        calls,
        SeccompAction::Errno(EPERM),
        SeccompAction::Allow,
        arch()?,
    )?;
    let program: BpfProgram = filter.try_into()?;
    seccompiler::apply_filter(fatal)?;
    // The call that installs the second filter is not yet forbidden by the first.
    Ok(seccompiler::apply_filter(&program)?)
}

fn arch() -> Result<TargetArch, Error> {
    Ok(std::env::consts::ARCH.try_into()?)
}
