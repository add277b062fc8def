//! High-water marks of heap and stack, and time by kind of work, for docs/perf.md.
//!
//! Only with the feature `measure`, which no image that ships has: it reads this instance's own
//! memory. OP-TEE gives an instance zeroed memory, so a page that is not all zero was used, at any
//! time; the heap's figure is therefore no less than its peak, but for pages full of zeros.

use alloc::format;
use alloc::string::String;
use core::sync::atomic::{AtomicU64, Ordering};

/// Time spent in one kind of work since the last report, in milliseconds, and how often.
pub struct Clock {
    name: &'static str,
    ms: AtomicU64,
    times: AtomicU64,
}

impl Clock {
    /// A clock for `name`.
    #[must_use]
    pub const fn new(name: &'static str) -> Self {
        Self {
            name,
            ms: AtomicU64::new(0),
            times: AtomicU64::new(0),
        }
    }

    /// Runs `work` on this clock.
    pub fn run<R>(&self, work: impl FnOnce() -> R) -> R {
        let started = super::system_time_ms();
        let done = work();
        let took = super::system_time_ms().saturating_sub(started);
        self.ms.fetch_add(took, Ordering::Relaxed);
        self.times.fetch_add(1, Ordering::Relaxed);
        done
    }

    fn take(&self) -> String {
        let (ms, times) = (
            self.ms.swap(0, Ordering::Relaxed),
            self.times.swap(0, Ordering::Relaxed),
        );
        format!("; {} {times}x {ms} ms", self.name)
    }
}

/// Runs a command and tells what it took.
pub fn command<R>(
    command: u32,
    heap: &'static [u8],
    stack_len: usize,
    clocks: &[&Clock],
    work: impl FnOnce() -> R,
) -> R {
    let started = super::system_time_ms();
    let done = work();
    let took = super::system_time_ms().saturating_sub(started);
    let parts: String = clocks.iter().map(|clock| clock.take()).collect();
    super::log(&format!(
        "measure: command {command} took {took} ms{parts}; heap {} of {} bytes, stack {} of {stack_len}",
        used(heap),
        heap.len(),
        stack(stack_len),
    ));
    done
}

/// Bytes of the pages that were ever written to.
#[allow(unsafe_code)]
fn used(memory: &[u8]) -> usize {
    const PAGE: usize = 1024;
    let written = |page: &&[u8]| {
        // SAFETY: within the slice. Volatile, for the allocator writes it behind the compiler's
        // back.
        page.iter()
            .any(|byte| unsafe { core::ptr::from_ref(byte).read_volatile() } != 0)
    };
    memory
        .chunks(PAGE)
        .filter(written)
        .count()
        .saturating_mul(PAGE)
}

/// Most of the stack that was ever used, in bytes.
#[allow(unsafe_code)]
fn stack(len: usize) -> usize {
    const PAGE: usize = 4096;
    let here = 0u8;
    // Entry points run near the top of the stack, which ends on a page.
    let top = core::ptr::from_ref(&here).addr().next_multiple_of(PAGE);
    let mut at = top.saturating_sub(len).saturating_add(2 * PAGE);
    // SAFETY: between the stack's lower end, with two pages to spare for what is not known of it,
    // and this function's own frame: memory of this instance.
    while at < top && unsafe { core::ptr::with_exposed_provenance::<u8>(at).read_volatile() } == 0 {
        at += 1;
    }
    top.saturating_sub(at)
}
