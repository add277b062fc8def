//! How many connections a peer has: no peer takes those of all others.
//!
//! A peer is an IPv4 address, or the first 64 bits of an IPv6 address: whoever has one of these has all
//! addresses behind it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Connections by peer.
#[derive(Debug, Clone)]
pub struct Peers {
    open: Arc<Mutex<BTreeMap<IpAddr, usize>>>,
    max: usize,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub struct Entered {
    peers: Peers,
    peer: IpAddr,
}

impl Peers {
    /// Each may have so many.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            open: Arc::default(),
            max,
        }
    }

    /// Counts a connection; `None` if its peer has as many as it may.
    #[must_use]
    pub fn enter(&self, address: IpAddr) -> Option<Entered> {
        let peer = peer(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(peer).or_default();
        // An entry that was made just now is below the limit, which is not zero.
        if *count >= self.max {
            return None;
        }
        *count = count.saturating_add(1);
        Some(Entered {
            peers: self.clone(),
            peer,
        })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let open = &self.peers.open;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.peer) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                open.remove(&self.peer);
            }
        }
    }
}

fn peer(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_peer_has_its_own() {
        let peers = Peers::new(2);
        let at = |text: &str| peers.enter(text.parse().unwrap());
        let first = at("192.0.2.1");
        // The same peer by another family.
        let second = at("::ffff:192.0.2.1");
        assert!(first.is_some() && second.is_some());
        assert!(at("192.0.2.1").is_none());
        let others = [at("192.0.2.2"), at("2001:db8::1"), at("2001:db8::2:1")];
        assert!(others.iter().all(Option::is_some));
        assert!(at("2001:db8::3").is_none(), "two of that /64 already");
        assert!(at("2001:db8:0:1::3").is_some());
        drop(second);
        assert!(at("192.0.2.1").is_some());
        drop((first, others));
        assert!(
            peers.open.lock().unwrap().is_empty(),
            "nothing is left behind"
        );
    }
}
