//! How many connections a peer has: no peer takes those of all others.
//!
//! A peer is an IPv4 address, or the first 64 bits of an IPv6 address: whoever has one of these has all
//! addresses behind it. Sites are given 48 to 56 bits, hundreds of such peers: those that share 48 bits have twice as
//! many connections together as one of them.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

/// Bits of an IPv6 address that a peer, and that a site has to itself.
const PEER_BITS: u32 = 64;
const SITE_BITS: u32 = 48;

/// An address whose later bits are zero, and how many those before are.
type Network = (IpAddr, u32);

/// A peer and its site.
type Networks = [Option<Network>; 2];

/// Connections by peer, and by site.
#[derive(Debug, Clone)]
pub struct Peers {
    open: Arc<Mutex<BTreeMap<Network, usize>>>,
    max: usize,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub struct Entered {
    peers: Peers,
    networks: Networks,
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

    /// Counts a connection; `None` if its peer or its site has as many as it may.
    #[must_use]
    pub fn enter(&self, address: IpAddr) -> Option<Entered> {
        let networks = networks(address);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = |network: &Network| {
            let max = match network.1 {
                SITE_BITS => self.max.saturating_mul(2),
                _ => self.max,
            };
            open.get(network).is_some_and(|count| *count >= max)
        };
        if networks.iter().flatten().any(is_full) {
            return None;
        }
        for network in networks.iter().flatten() {
            let count = open.entry(*network).or_default();
            *count = count.saturating_add(1);
        }
        Some(Entered {
            peers: self.clone(),
            networks,
        })
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let open = &self.peers.open;
        let mut open = open.lock().unwrap_or_else(PoisonError::into_inner);
        for network in self.networks.iter().flatten() {
            if let Some(count) = open.get_mut(network) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    open.remove(network);
                }
            }
        }
    }
}

/// The peer that an address is of, and its site if it can have one.
fn networks(address: IpAddr) -> Networks {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let first = |bits: u32| {
                let mask = u128::MAX << (128 - bits);
                (IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask)), bits)
            };
            [Some(first(PEER_BITS)), Some(first(SITE_BITS))]
        }
        v4 => [Some((v4, 32)), None],
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
        let same_site = [at("2001:db8:0:1::3"), at("2001:db8:0:ffff::3")];
        assert!(same_site.iter().all(Option::is_some));
        assert!(at("2001:db8:0:2::3").is_none(), "four of that /48 already");
        assert!(at("2001:db8:1::3").is_some(), "another /48");
        drop(second);
        assert!(at("192.0.2.1").is_some());
        drop((first, others, same_site));
        assert!(
            peers.open.lock().unwrap().is_empty(),
            "nothing is left behind"
        );
    }
}
