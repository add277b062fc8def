//! Answers clients: one thread reads each connection, a second one runs its calls into TAs.
//!
//! Invariants: a client is who the kernel says it is; a slow or silent client holds its own two
//! threads and nothing else; when a connection ends, whatever the reason, its running call is
//! cancelled and its sessions are closed; every limit is told as busy, never by hanging.
//!
//! Not trusted: clients and brokers. What a broker carries is judged by the TEEP Agent.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tegata_tee::gp::consts::{
    TEE_ERROR_ACCESS_DENIED, TEE_ERROR_BUSY, TEE_ERROR_OUT_OF_MEMORY, TEE_SUCCESS,
};
use tegata_tee::session::{CallControl, Caller, ClientIdentity, Exclusive, SessionManager};
use tegata_tee::{Tee, TeeError};
use tegata_wire::ids::TaUuid;
use tegata_wire::rpc::{
    self, Answer, BROKER_FRAME_LEN_BYTES_MAX, Call, Contact, FRAME_LEN_BYTES_MAX, Info, Login,
    ORIGIN_TEE, Param, Payload, Processed, RefusalCode, Reply, Request, Stats, VERSION,
};

use super::frames::{self, FrameIoError};
use super::identity::{Helper, LoginError, Peer};
use super::launcher::WorkerStats;
use super::machine::SoftwareMachine;
use super::worker::memory_kib;

/// The TEE behind a lock that is held for short work only, never while a TA runs.
pub struct Lock(Mutex<Tee<SoftwareMachine>>);

impl Lock {
    /// Puts the TEE behind it.
    #[must_use]
    pub fn new(tee: Tee<SoftwareMachine>) -> Self {
        Self(Mutex::new(tee))
    }

    fn hold(&self) -> MutexGuard<'_, Tee<SoftwareMachine>> {
        // A thread that died while it held the lock left no half-made change: every change of the
        // core is one write.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exclusive<Tee<SoftwareMachine>> for Lock {
    fn with<R>(&self, work: impl FnOnce(&mut Tee<SoftwareMachine>) -> R) -> R {
        work(&mut self.hold())
    }
}

/// Limits and permissions of the server.
#[derive(Clone, Debug)]
pub struct ServerSettings {
    /// Most connections at once.
    pub connections_max: u32,
    /// Most connections of one user at once.
    pub connections_per_user_max: u32,
    /// Most sessions of one user at once.
    pub sessions_per_user_max: u32,
    /// Users that may act as TEEP Broker.
    pub brokers: Vec<u32>,
}

/// All that the threads share.
pub struct Server {
    tee: Arc<Lock>,
    sessions: SessionManager,
    helper: Arc<Helper>,
    settings: ServerSettings,
    workers: Arc<WorkerStats>,
    open: Mutex<HashMap<u32, u32>>,
    /// Sessions, by user.
    seated: Mutex<HashMap<u32, u32>>,
    /// How many a user may open now, for users that opened some of late.
    openings: Mutex<HashMap<u32, Openings>>,
    next_owner: AtomicU64,
    calls: AtomicU64,
    started: Instant,
    status: Option<File>,
}

impl Server {
    /// A server; answers nobody yet. `status` is this process's own, opened before it was confined.
    #[must_use]
    pub fn new(
        tee: Arc<Lock>,
        sessions: SessionManager,
        helper: Arc<Helper>,
        settings: ServerSettings,
        workers: Arc<WorkerStats>,
        status: Option<File>,
    ) -> Self {
        Self {
            tee,
            sessions,
            helper,
            settings,
            workers,
            open: Mutex::default(),
            seated: Mutex::default(),
            openings: Mutex::default(),
            next_owner: AtomicU64::new(1),
            calls: AtomicU64::new(0),
            started: Instant::now(),
            status,
        }
    }

    /// Answers clients for ever.
    pub fn run(self: &Arc<Self>, listener: &UnixListener) -> ! {
        loop {
            match listener.accept() {
                Ok((stream, _)) => self.accept(stream),
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    // Out of descriptors: others must end first.
                    std::thread::sleep(Duration::from_millis(100));
                }
            }
        }
    }

    fn accept(self: &Arc<Self>, stream: UnixStream) {
        let peer = match Peer::of(&stream) {
            Ok(peer) => peer,
            Err(error) => {
                tracing::warn!(%error, "a client without identity was refused");
                return;
            }
        };
        let Some(place) = self.enter(peer.uid) else {
            tracing::warn!(uid = peer.uid, pid = peer.pid, "too many connections");
            // Short and without a thread: the answer fits into the socket's buffer.
            let answer = refusal(1, RefusalCode::Busy, "too many connections to the TEE");
            let _ = frames::send(
                &stream,
                &answer,
                FRAME_LEN_BYTES_MAX,
                Duration::from_millis(10),
            );
            return;
        };
        let server = Arc::clone(self);
        let thread = std::thread::Builder::new()
            .name("client".into())
            .spawn(move || {
                let _place = place;
                Connection::new(&server, stream, peer).run();
            });
        if let Err(error) = thread {
            tracing::warn!(%error, "no thread for a client");
        }
    }

    fn enter(self: &Arc<Self>, uid: u32) -> Option<Place> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let total: u32 = open.values().sum();
        let own = open.get(&uid).copied().unwrap_or(0);
        if total >= self.settings.connections_max || own >= self.settings.connections_per_user_max {
            return None;
        }
        open.insert(uid, own.saturating_add(1));
        Some(Place {
            server: Arc::clone(self),
            uid,
        })
    }

    /// Waits until that user may open one more session, which is at once for who opens a few.
    ///
    /// A TA's limits (so many new keys, so many signatures a second) are of a session: without
    /// this, who opens session after session has none.
    fn pace(&self, uid: u32) -> bool {
        let now = Instant::now();
        let wait = {
            let mut openings = lock(&self.openings);
            // Whoever has all of its room back needs no entry.
            openings.retain(|_, own| !own.is_full(now));
            openings
                .entry(uid)
                .or_insert_with(|| Openings::full(now))
                .take(now)
        };
        match wait {
            Some(wait) => {
                std::thread::sleep(wait);
                true
            }
            None => false,
        }
    }

    /// Room for one more session of that user.
    fn seat(self: &Arc<Self>, uid: u32) -> Option<Seat> {
        let mut seated = lock(&self.seated);
        let own = seated.entry(uid).or_insert(0);
        if *own >= self.settings.sessions_per_user_max {
            return None;
        }
        *own = own.saturating_add(1);
        Some(Seat {
            server: Arc::clone(self),
            uid,
        })
    }

    fn is_broker(&self, uid: u32) -> bool {
        uid == 0
            || uid == rustix::process::geteuid().as_raw()
            || self.settings.brokers.contains(&uid)
    }

    fn info(&self) -> Result<Info, TeeError> {
        let (sessions, _) = self.sessions.counts();
        let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let connections = {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            open.values().sum()
        };
        let load = |n: &AtomicU64| n.load(Ordering::Relaxed);
        let largest = self.workers.measure();
        let stats = Stats {
            uptime_secs: self.started.elapsed().as_secs(),
            rss_kib: self
                .status
                .as_ref()
                .map_or(0, |status| memory_kib(status, "VmRSS:")),
            worker_rss_kib: largest,
            worker_rss_peak_kib: load(&self.workers.rss_peak_kib),
            workers: self.workers.running.load(Ordering::Relaxed),
            workers_started: load(&self.workers.started),
            spawn_ready_us: load(&self.workers.spawn_ready_us),
            connections,
            sessions: number(sessions),
            calls: load(&self.calls),
        };
        self.tee.hold().info(stats)
    }

    fn process(&self, message: &[u8], payloads: Vec<Payload>) -> Result<Processed, TeeError> {
        self.sessions
            .process_teep(&*self.tee, message, payloads, |ta, change| {
                tracing::info!(%ta, "{change}");
            })
    }
}

/// A connection's share of the limits.
struct Place {
    server: Arc<Server>,
    uid: u32,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self
            .server
            .open
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.uid) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                open.remove(&self.uid);
            }
        }
    }
}

/// When a user may open its next session: so many at once, and then one after each pause.
struct Openings {
    /// When all of the room is there again.
    full_at: Instant,
}

impl Openings {
    fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    /// Takes one; how long to wait for it. `None` if that is too long.
    fn take(&mut self, now: Instant) -> Option<Duration> {
        let full_at = self.full_at.max(now) + OPENING_EACH;
        let wait = full_at.saturating_duration_since(now + OPENING_EACH * OPENINGS_AT_ONCE);
        if wait > OPENING_WAIT_MAX {
            return None;
        }
        self.full_at = full_at;
        Some(wait)
    }
}

/// A session's share of the limits.
struct Seat {
    server: Arc<Server>,
    uid: u32,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut seated = lock(&self.server.seated);
        if let Some(own) = seated.get_mut(&self.uid) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                seated.remove(&self.uid);
            }
        }
    }
}

/// A call into a TA.
struct Job {
    id: u64,
    caller: Caller,
    what: TaCall,
    control: CallControl,
}

enum TaCall {
    Open {
        ta: TaUuid,
        params: [Param; 4],
        seat: Seat,
    },
    Invoke {
        session: u32,
        command: u32,
        params: [Param; 4],
    },
}

struct Connection<'a> {
    server: &'a Arc<Server>,
    stream: Arc<UnixStream>,
    peer: Peer,
    owner: u64,
    /// The call into a TA that runs now.
    running: Arc<Mutex<Option<(u64, CallControl)>>>,
    /// Its sessions' shares of the limits, by session.
    seats: Arc<Mutex<HashMap<u32, Seat>>>,
    /// A session here is of a program, so nobody but the process that connected may use it.
    of_program: bool,
    /// Where calls go; the executor is started with the first one.
    jobs: Option<mpsc::SyncSender<Job>>,
    executor: Option<std::thread::JoinHandle<()>>,
}

impl<'a> Connection<'a> {
    fn new(server: &'a Arc<Server>, stream: UnixStream, peer: Peer) -> Self {
        Self {
            server,
            stream: Arc::new(stream),
            peer,
            owner: server.next_owner.fetch_add(1, Ordering::Relaxed),
            running: Arc::default(),
            seats: Arc::default(),
            of_program: false,
            jobs: None,
            executor: None,
        }
    }

    fn run(mut self) {
        tracing::debug!(peer = ?self.peer, "client connected");
        match self.converse() {
            Ok(()) | Err(FrameIoError::Closed) => {}
            Err(error) => {
                tracing::info!(peer = ?self.peer, %error, "client dropped");
                // Unless the executor may be answering on the same socket.
                if lock(&self.running).is_none() {
                    let code = RefusalCode::BadRequest;
                    let _ = self.send(&refusal(0, code, "not a frame of this protocol"));
                }
            }
        }
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
        if let Some((_, control)) = &*lock(&self.running) {
            control.cancel();
        }
        self.server.sessions.owner_gone(self.owner);
        self.jobs = None;
        if let Some(executor) = self.executor.take() {
            let _ = executor.join();
            // A session that was being opened meanwhile is closed too.
            self.server.sessions.owner_gone(self.owner);
        }
        tracing::debug!(peer = ?self.peer, "client gone");
    }

    fn converse(&mut self) -> Result<(), FrameIoError> {
        let broker = self.server.is_broker(self.peer.uid);
        let max = if broker {
            BROKER_FRAME_LEN_BYTES_MAX
        } else {
            FRAME_LEN_BYTES_MAX
        };
        let hello: Call = frames::receive(&self.stream, max, Some(HELLO_TIMEOUT), WHOLE)?;
        match hello.request {
            Request::Hello { version: VERSION } => {
                self.send(&Answer {
                    id: hello.id,
                    reply: Reply::Hello { version: VERSION },
                })?;
            }
            Request::Hello { .. } => {
                let text = format!("this TEE speaks version {VERSION} of the protocol");
                return self.send(&refusal(hello.id, RefusalCode::Version, &text));
            }
            _ => {
                let text = "the first request of a connection is hello";
                return self.send(&refusal(hello.id, RefusalCode::BadRequest, text));
            }
        }
        loop {
            let (call, own): (Call, bool) =
                frames::receive_of(&self.stream, max, None, WHOLE, self.peer.pid)?;
            if self.of_program && !own {
                // A descriptor can be handed on, a program's identity cannot.
                tracing::info!(peer = ?self.peer, "another process writes to a program's connection");
                return Ok(());
            }
            if let Request::Cancel { call } = call.request {
                match &*lock(&self.running) {
                    Some((id, control)) if *id == call => control.cancel(),
                    // What has ended cannot be cancelled any more.
                    _ => {}
                }
                continue;
            }
            if lock(&self.running).is_some() {
                let text = "one call at a time on one connection";
                // The executor may be about to answer on the same socket: end it here.
                tracing::info!(peer = ?self.peer, text);
                return Ok(());
            }
            self.handle(call, own)?;
        }
    }

    /// The identity that a session is opened with. `own` says whether the process that connected
    /// asks for it.
    fn identity(&mut self, login: Login, own: bool) -> Result<ClientIdentity, LoginError> {
        let of_program = !matches!(login, Login::Public | Login::User | Login::Group { .. });
        if of_program && !own {
            return Err(LoginError::NoProgram);
        }
        let client = self.peer.identity(login, &self.server.helper)?;
        if of_program {
            // What lies in the socket already may be of the program that this process was before.
            if rustix::io::ioctl_fionread(&*self.stream) != Ok(0) {
                return Err(LoginError::NoProgram);
            }
            self.of_program = true;
        }
        Ok(client)
    }

    fn handle(&mut self, call: Call, own: bool) -> Result<(), FrameIoError> {
        let id = call.id;
        let owner = self.owner;
        let caller = |client| Caller { owner, client };
        let reply = match call.request {
            Request::OpenSession { ta, login, params } => {
                return match self.identity(login, own) {
                    Ok(client) => {
                        if !self.server.pace(self.peer.uid) {
                            tracing::info!(peer = ?self.peer, "sessions opened too fast");
                            let reply = returned(TEE_ERROR_BUSY);
                            return self.send(&Answer { id, reply });
                        }
                        let Some(seat) = self.server.seat(self.peer.uid) else {
                            tracing::info!(peer = ?self.peer, "too many sessions of this user");
                            let reply = returned(TEE_ERROR_OUT_OF_MEMORY);
                            return self.send(&Answer { id, reply });
                        };
                        self.execute(id, caller(client), TaCall::Open { ta, params, seat })
                    }
                    Err(error) => {
                        tracing::info!(peer = ?self.peer, ?login, %error, "login refused");
                        self.send(&Answer {
                            id,
                            reply: returned(TEE_ERROR_ACCESS_DENIED),
                        })
                    }
                };
            }
            Request::Invoke {
                session,
                command,
                params,
            } => {
                let caller = caller(self.nobody());
                return self.execute(
                    id,
                    caller,
                    TaCall::Invoke {
                        session,
                        command,
                        params,
                    },
                );
            }
            Request::CloseSession { session } => {
                self.server
                    .sessions
                    .close_session(&caller(self.nobody()), session);
                lock(&self.seats).remove(&session);
                Reply::Done
            }
            Request::Info => match self.server.info() {
                Ok(info) => Reply::Info(info),
                Err(error) => environment(&error),
            },
            Request::DeviceReport | Request::Provision { .. } => Reply::Refused {
                code: RefusalCode::BadRequest,
                message: "this TEE was made at the factory with its keys and its device.cbor \
                          (`tegata factory make`): it makes no report and takes no record"
                    .into(),
            },
            request => self.broker(request),
        };
        self.send(&Answer { id, reply })
    }

    fn broker(&self, request: Request) -> Reply {
        if !self.server.is_broker(self.peer.uid) {
            tracing::info!(peer = ?self.peer, "not a broker");
            return Reply::Refused {
                code: RefusalCode::AccessDenied,
                message: format!(
                    "user {} is no TEEP Broker of this TEE: add it to broker_users in teed.toml",
                    self.peer.uid
                ),
            };
        }
        let contact = |contact: Option<tegata_tee::teep::Contact>| {
            Reply::Contact(contact.map(|contact| Contact {
                tam_uri: contact.tam_uri.unwrap_or_default(),
                message: contact.message.unwrap_or_default(),
            }))
        };
        let result = match request {
            Request::RequestTa { ta } => self.server.tee.hold().request_ta(&ta).map(contact),
            Request::UnrequestTa { ta } => self.server.tee.hold().unrequest_ta(&ta).map(contact),
            Request::PolicyCheck => Ok(contact(self.server.tee.hold().policy_check())),
            Request::Process { message, payloads } if payloads.len() <= rpc::PAYLOADS_MAX => self
                .server
                .process(&message, payloads)
                .map(Reply::Processed),
            Request::ProcessError => {
                self.server.tee.hold().process_error();
                Ok(Reply::Done)
            }
            _ => Ok(Reply::Refused {
                code: RefusalCode::BadRequest,
                message: "not a request that has a place here".into(),
            }),
        };
        result.unwrap_or_else(|error| environment(&error))
    }

    /// Sessions are used by their connection; the identity was fixed when they were opened.
    fn nobody(&self) -> tegata_tee::session::ClientIdentity {
        tegata_tee::session::ClientIdentity::public()
    }

    fn execute(&mut self, id: u64, caller: Caller, what: TaCall) -> Result<(), FrameIoError> {
        self.server.calls.fetch_add(1, Ordering::Relaxed);
        let control = CallControl::default();
        *lock(&self.running) = Some((id, control.clone()));
        let job = Job {
            id,
            caller,
            what,
            control,
        };
        if self.jobs.is_none() {
            match self.start_executor() {
                Ok(jobs) => self.jobs = Some(jobs),
                Err(error) => {
                    *lock(&self.running) = None;
                    tracing::warn!(%error, "no thread for a call");
                    return self.send(&refusal(id, RefusalCode::Busy, "no thread for the call"));
                }
            }
        }
        let Some(jobs) = &self.jobs else {
            return Err(FrameIoError::Closed);
        };
        jobs.send(job).map_err(|_| FrameIoError::Closed)
    }

    fn start_executor(&mut self) -> std::io::Result<mpsc::SyncSender<Job>> {
        let (sender, receiver) = mpsc::sync_channel::<Job>(1);
        let sessions = self.server.sessions.clone();
        let (stream, running) = (Arc::clone(&self.stream), Arc::clone(&self.running));
        let seats = Arc::clone(&self.seats);
        let thread = std::thread::Builder::new()
            .name("call".into())
            .spawn(move || {
                while let Ok(job) = receiver.recv() {
                    let Job {
                        id,
                        caller,
                        what,
                        control,
                    } = job;
                    let reply = match what {
                        TaCall::Open { ta, params, seat } => {
                            let reply = sessions.open_session(&caller, &ta, params, &control);
                            if reply.code == TEE_SUCCESS {
                                lock(&seats).insert(reply.session, seat);
                            }
                            reply
                        }
                        TaCall::Invoke {
                            session,
                            command,
                            params,
                        } => sessions.invoke(&caller, session, command, params, &control),
                    };
                    let reply = Reply::Operation {
                        code: reply.code,
                        origin: reply.origin,
                        session: reply.session,
                        params: reply.params,
                    };
                    // Free for the next call before the client can send it.
                    *lock(&running) = None;
                    let sent =
                        frames::send(&stream, &Answer { id, reply }, FRAME_LEN_BYTES_MAX, WHOLE);
                    if sent.is_err() {
                        let _ = stream.shutdown(std::net::Shutdown::Both);
                        break;
                    }
                }
            })?;
        self.executor = Some(thread);
        Ok(sender)
    }

    fn send(&self, answer: &Answer) -> Result<(), FrameIoError> {
        frames::send(&self.stream, answer, BROKER_FRAME_LEN_BYTES_MAX, WHOLE)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn refusal(id: u64, code: RefusalCode, message: &str) -> Answer {
    Answer {
        id,
        reply: Reply::Refused {
            code,
            message: message.into(),
        },
    }
}

/// An answer of the TEE to a call that reaches no TA.
fn returned(code: u32) -> Reply {
    Reply::Operation {
        code,
        origin: ORIGIN_TEE,
        session: 0,
        params: Default::default(),
    }
}

/// The machine failed: the log has the reason, the client only that.
fn environment(error: &TeeError) -> Reply {
    tracing::error!(%error, "the machine failed");
    Reply::Refused {
        code: RefusalCode::Environment,
        message: "the TEE's machine failed; the log of teed says how".into(),
    }
}

/// Sessions that a user opens without a wait: a start of many PKCS#11 programs at once.
const OPENINGS_AT_ONCE: u32 = 256;
/// Then one in this time. Each is a process of its own and costs more than this pause anyway.
const OPENING_EACH: Duration = Duration::from_millis(50);
/// Who would have to wait longer is told that the TEE is busy.
const OPENING_WAIT_MAX: Duration = Duration::from_secs(5);
/// A new connection says hello within this time.
const HELLO_TIMEOUT: Duration = Duration::from_secs(10);
/// A frame that has begun ends within this time, and an answer is taken within it.
const WHOLE: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_are_opened_at_once_and_then_at_a_pace() {
        let begun = Instant::now();
        let mut openings = Openings::full(begun);
        for n in 0..OPENINGS_AT_ONCE {
            assert_eq!(openings.take(begun), Some(Duration::ZERO), "{n}");
        }
        // From here on each waits for its turn, and at the end nobody does.
        let waits: Vec<_> = std::iter::from_fn(|| openings.take(begun)).collect();
        assert_eq!(waits.len(), 100);
        let turns: Vec<_> = (1..=100).map(|n| OPENING_EACH * n).collect();
        assert_eq!(waits, turns);
        // Time brings it back, and no more than there was.
        let later = begun + Duration::from_secs(3600);
        assert!(openings.is_full(later));
        for _ in 0..OPENINGS_AT_ONCE {
            assert_eq!(openings.take(later), Some(Duration::ZERO));
        }
        assert_eq!(openings.take(later), Some(OPENING_EACH));
    }
}
