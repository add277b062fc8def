//! File descriptors: every connection is one, and so are the files of the stores. A process that has none left
//! cannot even read what it would need to refuse.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::warn;

/// Raises this process's own limit as far as it is allowed to, where so many ports with so many connections need
/// it. Returns how many connections each may have.
pub fn connections(ports: usize, wanted: usize) -> usize {
    let needed = to_u64(needed(ports, wanted));
    // More than that does no harm.
    let Some(limit) = raise(needed.saturating_mul(2)) else {
        return wanted;
    };
    let room = room(ports, usize::try_from(limit).unwrap_or(usize::MAX));
    if room < wanted {
        warn!(
            reason = "few-descriptors",
            limit,
            needed,
            connections = room,
            "each port takes fewer connections than it is configured to: raise the limit on open files (`ulimit -n`, LimitNOFILE=)"
        );
    }
    room.min(wanted)
}

/// Raises this process's own limit to that, or as far as it is allowed to. Returns what it is then; `None`: there is
/// none.
pub fn raise(to: u64) -> Option<u64> {
    let before = getrlimit(Resource::Nofile);
    let raised = before.maximum.map_or(to, |most| most.min(to));
    if before.current.is_some_and(|now| now < raised) {
        let more = Rlimit {
            current: Some(raised),
            maximum: before.maximum,
        };
        // What is refused is seen below.
        let _ = setrlimit(Resource::Nofile, more);
    }
    getrlimit(Resource::Nofile).current
}

/// Descriptors that a server with so many ports takes.
pub fn needed(ports: usize, connections: usize) -> usize {
    let each = connections.saturating_add(super::frame::REFUSALS_AT_ONCE_MAX);
    ports.saturating_mul(each).saturating_add(OWN)
}

/// Connections that each port may have with so many descriptors.
fn room(ports: usize, limit: usize) -> usize {
    let each = limit.saturating_sub(OWN) / ports.max(1);
    each.saturating_sub(super::frame::REFUSALS_AT_ONCE_MAX)
        .max(LEAST)
}

fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

/// Descriptors beside connections: of stores each with 18 connections of two files, or 16 to a database; of
/// the roles' calls to each other; ports, log, the runtime.
const OWN: usize = 256;
/// So many a port takes even so.
const LEAST: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_needed_is_room_enough() {
        for (ports, connections) in [(1, 1), (3, 1024), (6, 65_536)] {
            let limit = needed(ports, connections);
            assert_eq!(room(ports, limit), connections.max(LEAST));
            assert!(room(ports, limit - ports) < connections.max(LEAST + 1));
        }
        assert_eq!(room(6, 0), LEAST);
    }
}
