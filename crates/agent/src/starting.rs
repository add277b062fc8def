//! A TEE or an agent that is only starting: its socket is not there yet, and will be in a moment.

use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

use tegata_client::{Context, Error, TeeAddress};
use tegata_wire::rpc::Info;

/// Time that a process gets to make its socket, from when it is first asked.
pub const LIMIT: Duration = Duration::from_secs(5);
/// Pause between two looks for the socket.
const POLL: Duration = Duration::from_millis(20);

/// Asks; where that fails and there is no socket, waits for one, no longer than `limit`. Whatever else is wrong is said
/// at once: a socket that refuses, one of another user, a directory that does not exist.
///
/// # Errors
/// The last failure.
pub fn ask<T, E>(
    socket: &Path,
    limit: Duration,
    mut ask: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    let until = Instant::now() + limit;
    loop {
        // Looked for before: what is made while this one fails is asked again.
        let absent = is_absent(socket);
        match ask() {
            Err(_) if absent && Instant::now() < until => std::thread::sleep(POLL),
            result => return result,
        }
    }
}

/// What the TEE is, which may be starting.
///
/// # Errors
/// As of [`Context::info`].
pub fn tee_info(tee: &Context) -> Result<Info, Error> {
    match tee.address() {
        TeeAddress::Socket(socket) => ask(socket, LIMIT, || tee.info()),
        _ => tee.info(),
    }
}

/// Waits for a TEE that may be starting. What else is wrong with it, whoever asks it next hears.
///
/// # Errors
/// There is still no socket.
pub fn tee(tee: &Context) -> Result<(), Error> {
    match (tee.address(), tee_info(tee)) {
        (TeeAddress::Socket(socket), Err(error)) if is_absent(socket) => Err(error),
        _ => Ok(()),
    }
}

/// Whether nothing of that name is in a directory that exists.
#[must_use]
pub fn is_absent(socket: &Path) -> bool {
    let missing = |path: &Path| {
        path.symlink_metadata()
            .is_err_and(|e| e.kind() == ErrorKind::NotFound)
    };
    missing(socket)
        && socket
            .parent()
            .is_some_and(|dir| dir.as_os_str().is_empty() || dir.is_dir())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    #[test]
    fn a_socket_that_is_made_late_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let late = path.clone();
        let maker = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(200));
            UnixListener::bind(late).unwrap()
        });
        ask(&path, Duration::from_secs(20), || {
            UnixStream::connect(&path)
        })
        .unwrap();
        drop(maker.join().unwrap());
    }

    #[test]
    fn only_what_may_come_is_waited_for_and_not_for_ever() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let limit = Duration::from_millis(300);
        let asked = |path: &Path, limit| {
            let begun = Instant::now();
            let error = ask(path, limit, || UnixStream::connect(path)).unwrap_err();
            (error.kind(), begun.elapsed())
        };
        let (kind, took) = asked(&path, limit);
        assert_eq!(kind, ErrorKind::NotFound);
        assert!(took >= limit && took < Duration::from_secs(20), "{took:?}");
        // Whoever is wrong at once hears it at once.
        let far = Duration::from_secs(60);
        drop(UnixListener::bind(&path).unwrap());
        for (path, kind) in [
            (path.clone(), ErrorKind::ConnectionRefused),
            (dir.path().join("nowhere/s"), ErrorKind::NotFound),
        ] {
            let (found, took) = asked(&path, far);
            assert_eq!(found, kind);
            assert!(took < Duration::from_secs(20), "{took:?}");
        }
    }
}
