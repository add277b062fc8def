//! Addresses of servers, in the configuration and on the command line: such as every program here can ask.

use std::net::Ipv6Addr;

/// Longest, in bytes.
const LEN_BYTES_MAX: usize = 1024;
/// What may stand in a path beside letters and digits. Spec: RFC 3986 section 3.3
const IN_PATHS: &[u8] = b"-._~!$&'()*+,;=:@/%";

/// How to mend a wrong one.
pub const MEND: &str = "Write for example \"http://10.0.0.5:8440\". Messages are signed end to end; \
                        put TLS in front with a reverse proxy or a tunnel.";

/// Whether this is scheme, host, perhaps a port, perhaps a path.
///
/// # Errors
/// What is wrong with it.
pub fn check(url: &str) -> Result<(), &'static str> {
    if url.len() > LEN_BYTES_MAX {
        return Err("it has more than 1024 bytes");
    }
    let rest = url
        .strip_prefix("http://")
        .ok_or("it does not begin with http://")?;
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let after_host = match authority.strip_prefix('[') {
        Some(inner) => {
            let (address, after) = inner.split_once(']').ok_or("its host has no ]")?;
            let found = address.parse::<Ipv6Addr>();
            found.map_err(|_| "what is in brackets is no IPv6 address")?;
            after
        }
        None => {
            let (host, after) = authority.split_at(authority.find(':').unwrap_or(authority.len()));
            let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
            if host.is_empty() {
                return Err("it names no host");
            }
            if !host.bytes().all(plain) {
                return Err("its host is no name or address in ASCII");
            }
            after
        }
    };
    let port = match after_host.strip_prefix(':') {
        Some(digits) => {
            digits.bytes().all(|b| b.is_ascii_digit()) && matches!(digits.parse(), Ok(1..=u16::MAX))
        }
        None => after_host.is_empty(),
    };
    if !port {
        return Err("its port is no number from 1 to 65535");
    }
    let plain = |b: u8| b.is_ascii_alphanumeric() || IN_PATHS.contains(&b);
    if !path.bytes().all(plain) {
        return Err("its path has a character that no path has");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_device_can_ask_is_taken() {
        for url in [
            "http://10.0.0.5:8440",
            "http://tam.example/tam",
            "http://[::1]:8441/tam",
            "http://a_b-c:1/",
            "http://x:65535/a%20b/~c",
        ] {
            assert_eq!(check(url), Ok(()), "{url}");
        }
    }

    #[test]
    fn what_nobody_can_ask_is_refused_with_the_reason() {
        let long = format!("http://x/{}", "a".repeat(LEN_BYTES_MAX));
        for (url, says) in [
            ("", "http://"),
            ("not a url", "http://"),
            ("HTTP://x:80/tam", "http://"),
            ("ftp://x/", "http://"),
            ("https://x/", "http://"),
            ("http://", "host"),
            ("http:///tam", "host"),
            ("http://:80/", "host"),
            ("http://a b/", "host"),
            ("http://u:p@x/", "port"),
            ("http://日本.example/", "host"),
            ("http://x\"\n", "host"),
            ("http://[::1", "]"),
            ("http://[x]/", "IPv6"),
            ("http://[::1]x/", "port"),
            ("http://x:99999/tam", "port"),
            ("http://x:+80/", "port"),
            ("http://x:0/", "port"),
            ("http://x:/", "port"),
            ("http://x/a b", "path"),
            ("http://x/a\"", "path"),
            ("http://x/?a", "path"),
            ("http://x/#a", "path"),
            (long.as_str(), "1024"),
        ] {
            assert!(check(url).unwrap_err().contains(says), "{url}");
        }
    }
}
