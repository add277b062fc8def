//! Whose gpsd it is.
//!
//! gpsd has no authentication and its port is one that any user of the machine may listen on, so
//! `teed` asks the kernel whose process accepted the connection, and believes root and the account
//! that gpsd runs as.
//!
//! The kernel's tables are opened before `teed` confines itself and read through the same
//! descriptors later: a connection that is made anew is looked at as the first one was.
//!
//! Trusted: the kernel's word, and whoever runs as one of these accounts. Not trusted: who listens.

use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Seek};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The account that Debian's gpsd changes to.
const GPSD_USER: &str = "gpsd";
/// Most bytes of a table that are looked through: some 400,000 connections.
const TABLE_LEN_MAX: u64 = 64 << 20;
/// State of a connection in the tables. Spec: `enum` in Linux's `net/tcp_states.h`
const ESTABLISHED: &str = "01";

/// Who may be gpsd, and where the kernel tells who is.
pub struct Owner {
    tables: Vec<File>,
    accounts: Vec<u32>,
}

impl Owner {
    /// Root, and `user`: a name of `/etc/passwd` or a number; when absent, gpsd's own account if
    /// there is one.
    ///
    /// # Errors
    /// A sentence: no such account, or the kernel tells nothing.
    pub fn new(user: Option<&str>) -> Result<Self, String> {
        let passwd = std::fs::read("/etc/passwd").unwrap_or_default();
        let accounts = accounts(user, &String::from_utf8_lossy(&passwd))?;
        let mut tables = Vec::new();
        for path in ["/proc/self/net/tcp", "/proc/self/net/tcp6"] {
            match File::open(path) {
                Ok(table) => tables.push(table),
                // A kernel without IPv6.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(format!("{path}, which tells whose gpsd is: {error}")),
            }
        }
        Ok(Self { tables, accounts })
    }

    /// Looks whose process accepted the connection of `ours` at `gpsd`. Once it has sent something:
    /// before that nobody may have accepted it.
    ///
    /// # Errors
    /// A sentence: somebody else's, or the kernel does not say.
    pub fn check(&self, gpsd: SocketAddr, ours: SocketAddr) -> Result<(), String> {
        for mut table in &self.tables {
            table.rewind().map_err(|e| e.to_string())?;
            if let Some(account) = account(BufReader::new(table), gpsd, ours) {
                return if self.accounts.contains(&account) {
                    Ok(())
                } else {
                    Err(format!(
                        "{gpsd}: user {account} answers there, not root and not the account of \
                         gpsd; set `gpsd_user` in [position] if it is right"
                    ))
                };
            }
        }
        Err(format!("{gpsd}: the kernel does not say who answers there"))
    }
}

/// Numbers of the accounts that may be gpsd.
fn accounts(user: Option<&str>, passwd: &str) -> Result<Vec<u32>, String> {
    let name = user.unwrap_or(GPSD_USER);
    let number = name.parse().ok().or_else(|| {
        passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
        })
    });
    match (number, user) {
        (Some(number), _) => Ok(vec![0, number]),
        (None, None) => Ok(vec![0]),
        (None, Some(name)) => Err(format!("gpsd_user: there is no account {name:?}")),
    }
}

/// The account that holds the end at `gpsd` of the connection with `ours`; nothing if no process
/// holds it.
fn account(table: impl BufRead, gpsd: SocketAddr, ours: SocketAddr) -> Option<u32> {
    let lines = table.take(TABLE_LEN_MAX).lines();
    lines.map_while(Result::ok).find_map(|line| {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let is_it = address(fields.next()?)? == canonical(gpsd)
            && address(fields.next()?)? == canonical(ours)
            && fields.next()? == ESTABLISHED;
        // Queues, timer and retransmits; then user, time-out and inode.
        let account = fields.nth(3)?.parse().ok()?;
        let inode: u64 = fields.nth(1)?.parse().ok()?;
        // Without an inode it is in nobody's hands, and the user of the line means nothing.
        (is_it && inode != 0).then_some(account)
    })
}

/// An IPv4 address is one, also where the socket is IPv6.
fn canonical(address: SocketAddr) -> (IpAddr, u16) {
    (address.ip().to_canonical(), address.port())
}

/// An address of the tables: 32-bit words as this machine stores them, in hexadecimal, and the port.
fn address(text: &str) -> Option<(IpAddr, u16)> {
    let (ip, port) = text.split_once(':')?;
    let words: Vec<[u8; 4]> = ip
        .as_bytes()
        .chunks(8)
        .map(|word| {
            let word = std::str::from_utf8(word).ok()?;
            u32::from_str_radix(word, 16).ok().map(u32::to_ne_bytes)
        })
        .collect::<Option<_>>()?;
    let ip = match words.as_slice() {
        [word] => IpAddr::V4(Ipv4Addr::from(*word)),
        [_, _, _, _] => {
            let bytes: [u8; 16] = words.concat().try_into().ok()?;
            IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
        }
        _ => return None,
    };
    Some((ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::{TcpListener, TcpStream};

    /// As x86-64 writes it: a listener, the client's end, the server's end not yet accepted, and
    /// accepted by 104; then the same by IPv6.
    const TABLE: &str = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
        0: 0100007F:0B83 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 900 1 0 100 0 0 10 0\n   \
        1: 0100007F:9C40 0100007F:0B83 01 00000000:00000000 00:00000000 00000000  1000        0 901 1 0 20 4 30 10 -1\n   \
        2: 0100007F:0B83 0100007F:9C41 01 00000000:00000000 00:00000000 00000000     0        0 0 1 0 20 4 30 10 -1\n   \
        3: 0100007F:0B83 0100007F:9C40 01 00000000:00000000 00:00000000 00000000   104        0 902 1 0 20 4 30 10 -1\n   \
        4: 0000000000000000FFFF00000100007F:0B83 0000000000000000FFFF00000100007F:9C42 01 00000000:00000000 00:00000000 00000000   105        0 903 1 0 20 4 30 10 -1\n   \
        5: 0100007F:0B83 0100007F:9C43 06 00000000:00000000 03:00000000 00000000     0        0 904 3 0\n";

    #[test]
    #[cfg(target_endian = "little")]
    fn the_row_of_a_connection() {
        let gpsd = "127.0.0.1:2947".parse().unwrap();
        let of = |port: u16| account(TABLE.as_bytes(), gpsd, ([127, 0, 0, 1], port).into());
        assert_eq!(of(40_000), Some(104));
        assert_eq!(of(40_001), None, "in nobody's hands yet");
        assert_eq!(of(40_002), Some(105), "an IPv6 socket");
        assert_eq!(of(40_003), None, "closed");
        assert_eq!(of(40_004), None, "no such");
        for noise in ["", "\n\n", "1: x y z\n", "1: 01:02 03:04 01\n"] {
            assert_eq!(
                account(noise.as_bytes(), gpsd, "127.0.0.1:1".parse().unwrap()),
                None
            );
        }
    }

    #[test]
    fn names_and_numbers_of_accounts() {
        let passwd =
            "root:x:0:0::/root:/bin/sh\ngpsd:x:104:20::/run/gpsd:/bin/false\nme:x:1000:1000::/:/\n";
        assert_eq!(accounts(None, passwd).unwrap(), [0, 104]);
        assert_eq!(accounts(None, "").unwrap(), [0]);
        assert_eq!(accounts(Some("me"), passwd).unwrap(), [0, 1000]);
        assert_eq!(accounts(Some("77"), passwd).unwrap(), [0, 77]);
        assert!(accounts(Some("m"), passwd).is_err());
    }

    #[test]
    fn whose_process_answers() {
        let me = rustix::process::geteuid().as_raw();
        for at in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(at) else {
                continue; // No IPv6 here.
            };
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (there, ours) = (client.peer_addr().unwrap(), client.local_addr().unwrap());
            let owner = |accounts| Owner {
                accounts,
                ..Owner::new(None).unwrap()
            };
            assert!(owner(vec![me]).check(there, ours).is_err(), "not accepted");
            let (mut server, _) = listener.accept().unwrap();
            server.write_all(b"{}").unwrap();
            let both = owner(vec![me]);
            both.check(there, ours).unwrap();
            both.check(there, ours).unwrap();
            let said = owner(vec![me + 1]).check(there, ours).unwrap_err();
            assert!(said.contains(&format!("user {me} ")), "{said}");
            drop(server);
            assert!(both.check(there, ours).is_err(), "closed");
        }
    }
}
