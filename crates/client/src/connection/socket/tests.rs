//! Descriptors and time-outs.

use std::os::unix::net::UnixListener;
use std::sync::mpsc;

use super::*;

#[test]
fn a_descriptor_that_became_another_file_stays_open() {
    let (ours, _peer) = UnixStream::pair().unwrap();
    let number = ours.as_raw_fd();
    let connection = |stream: UnixStream, file| SocketConnection {
        stream: Arc::new(stream),
        file,
        next: 0,
        broken: false,
    };
    let is = || std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("of somebody else");
    let theirs = std::fs::File::create(&path).unwrap();

    // The program closes what it inherited, and the number becomes that of a file.
    let file = FileId::of(&ours);
    let mut taken = OwnedFd::from(ours);
    rustix::io::dup2(&theirs, &mut taken).unwrap();
    let mut abandoned = connection(taken.into(), file);
    abandoned.let_go();
    drop(abandoned);
    assert_eq!(is(), path);

    // Our own is closed: the peer hears of it.
    let (ours, mut peer) = UnixStream::pair().unwrap();
    let file = FileId::of(&ours);
    let mut abandoned = connection(ours, file);
    abandoned.let_go();
    drop(abandoned);
    assert_eq!(peer.read(&mut [0; 1]).unwrap(), 0);
}

#[test]
fn a_tee_that_takes_no_connection_is_not_waited_for_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("teed.sock");
    let stuck = UnixListener::bind(&path).unwrap();
    // A queue of one, and it is full.
    rustix::net::listen(&stuck, 0).unwrap();
    let _first = UnixStream::connect(&path).unwrap();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let opened = SocketConnection::open(&path, Duration::from_millis(100));
        let _ = tell.send(opened.err());
    });
    let error = told.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(error, Some(Error::TimedOut)), "{error:?}");
}
