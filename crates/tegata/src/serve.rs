//! `tegata serve`: opens what the roles need, listens, and stops in good order.
//!
//! Everything that can be wrong is found before the first connection is accepted: configuration,
//! profiles, policy, keys, stores, ports.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZero;
use std::path::Path;

use axum::Router;
use rustix::process::Signal;
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::info;

use crate::cli::{Role, Serve};
use crate::config::{self, Config, Limits};
use crate::fault::{Fault, Outcome};
use crate::files::{self, Readers};
use crate::http::descriptors;
use crate::http::frame::{self, Phase};
use crate::http::places::{ASIDE, Lane};
use crate::http::tls::Tls;
use crate::{roles, supervise, telemetry, vault};

/// Addresses of the roles of this process, once they listen.
#[derive(Debug, Clone, Copy, Default)]
pub struct Addresses {
    /// The CA.
    pub ca: Option<SocketAddr>,
    /// The TAM.
    pub tam: Option<SocketAddr>,
    /// The Verifier.
    pub verifier: Option<SocketAddr>,
    /// The verify role.
    pub verify: Option<SocketAddr>,
    /// The CA's port for services, `[ca.devices]`.
    pub devices: Option<SocketAddr>,
    /// The CA's EST port, `[ca.est]`.
    pub est: Option<SocketAddr>,
}

/// Threads that may block for what a server does unasked: responses signed ahead, sweeping, looking at certificates.
const OWN_THREADS: usize = 8;
/// Name of the CA's port for services in logs and files.
const DEVICES: &str = "devices";
/// Name of the CA's EST port in logs and files.
const EST: &str = "est";

/// Name of a role in logs and files.
#[must_use]
pub fn role_name(role: Role) -> &'static str {
    match role {
        Role::Ca => "ca",
        Role::Tam => "tam",
        Role::Verifier => "verifier",
        Role::Verify => "verify",
    }
}

/// Base URL of the CA on this machine, whatever devices use.
#[must_use]
pub fn ca_listen(config: &Config) -> Option<String> {
    fixed(config.ca.as_ref()?.listen)
}

/// Base URL of the CA's port for services, if this configuration has one and fixes it.
#[must_use]
pub fn devices_listen(config: &Config) -> Option<String> {
    fixed(config.ca.as_ref()?.devices?)
}

/// Base URL of the CA, if the configuration fixes it.
#[must_use]
pub fn ca_base(config: &Config) -> Option<String> {
    let given = config.tam.as_ref().and_then(|tam| tam.ca_url.clone());
    given.or_else(|| fixed(config.ca.as_ref()?.listen))
}

/// The TAM URI as devices see it, if the configuration fixes it.
#[must_use]
pub fn tam_uri(config: &Config) -> Option<String> {
    let tam = config.tam.as_ref()?;
    let listens = || fixed(tam.listen).map(|base| format!("{base}/tam"));
    tam.public_url.clone().or_else(listens)
}

/// Base URL of the Verifier, if the configuration fixes it.
#[must_use]
pub fn verifier_base(config: &Config) -> Option<String> {
    let given = config.tam.as_ref().and_then(|tam| tam.verifier_url.clone());
    given.or_else(|| fixed(config.verifier.as_ref()?.listen))
}

/// An address that others can use as it is written: no wildcard, no port 0.
fn fixed(address: SocketAddr) -> Option<String> {
    let usable = address.port() != 0 && !address.ip().is_unspecified();
    usable.then(|| format!("http://{address}"))
}

/// Runs the roles until SIGTERM or Ctrl-C.
///
/// # Errors
/// Whatever keeps a role from starting, as a sentence.
pub fn run(args: &Serve) -> Outcome<()> {
    vault::undumpable();
    let config = config::load(&args.config)?;
    telemetry::start(&config.log)?;
    if args.end_with_parent {
        supervise::end_with_parent()?;
    }
    let ports = ports(&config, &args.roles);
    // They end after the other: who was accepted is answered.
    let few = Few {
        ca: few_threads()?,
        verifier: few_threads()?,
    };
    runtime(ports, config.limits.in_flight)?.block_on(serve(&config, args, &few))
}

/// Threads for work that keeps a processor busy, for each store: where one stands still the other goes on.
struct Few {
    ca: Runtime,
    verifier: Runtime,
}

/// How many ports these roles have.
fn ports(config: &Config, roles: &[Role]) -> usize {
    let ca = config.ca.as_ref().filter(|_| roles.contains(&Role::Ca));
    let more = ca.map_or(0, |ca| {
        usize::from(ca.devices.is_some()).saturating_add(usize::from(ca.est.is_some()))
    });
    let roles: BTreeSet<_> = roles.iter().map(|role| role_name(*role)).collect();
    roles.len().saturating_add(more)
}

/// The threads of a server with so many ports, of so many places each: those that wait for the network, and those
/// that may block.
///
/// # Errors
/// The limits of this process allow none.
pub fn runtime(ports: usize, places: usize) -> Outcome<Runtime> {
    // Whoever has a place has a thread: the TAM's work waits for that of the CA and the Verifier, perhaps here.
    let of_port = places.saturating_add(ASIDE);
    let threads = ports.saturating_mul(of_port).saturating_add(OWN_THREADS);
    let mut builder = Builder::new_multi_thread();
    builder.enable_all().max_blocking_threads(threads);
    built(&mut builder)
}

/// Threads for work that keeps a processor busy: three for each, so that one works while another commits and a third
/// waits to write.
///
/// # Errors
/// As [`runtime`].
pub fn few_threads() -> Outcome<Runtime> {
    let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
    let mut builder = Builder::new_current_thread();
    builder.max_blocking_threads(processors.saturating_mul(3));
    built(&mut builder)
}

fn built(builder: &mut Builder) -> Outcome<Runtime> {
    builder.build().map_err(|e| {
        Fault::environment(
            "no-threads",
            format!("cannot start threads: {e}"),
            "Raise the limit on processes of this user (`ulimit -u`).",
        )
    })
}

async fn serve(config: &Config, args: &Serve, few: &Few) -> Outcome<()> {
    // 1. Ports first: a port in use is the most common mistake, and found at once.
    let mut listeners: BTreeMap<&'static str, TcpListener> = BTreeMap::new();
    for role in &args.roles {
        let name = role_name(*role);
        if !listeners.contains_key(name) {
            listeners.insert(name, listen(config, *role).await?);
        }
        let Some(ca) = config.ca.as_ref().filter(|_| *role == Role::Ca) else {
            continue;
        };
        let est = ca.est.as_ref().map(|est| est.listen);
        for (name, section, address) in [(DEVICES, "ca.devices", ca.devices), (EST, "ca.est", est)]
        {
            if let Some(address) = address
                && !listeners.contains_key(name)
            {
                listeners.insert(name, bind(config, section, address).await?);
            }
        }
    }
    let bound = |name| listeners.get(name).and_then(|l| l.local_addr().ok());
    let addresses = Addresses {
        ca: bound("ca"),
        tam: bound("tam"),
        verifier: bound("verifier"),
        verify: bound("verify"),
        devices: bound(DEVICES),
        est: bound(EST),
    };
    // 2. Stores, keys, profiles, policy.
    let mut routers: Vec<(&'static str, TcpListener, Option<Tls>, Router)> = Vec::new();
    let limits = &config.limits;
    let mut devices = listeners.remove(DEVICES);
    let mut est = listeners.remove(EST);
    for (name, listener) in listeners {
        let (router, lane) = match name {
            "ca" => {
                let ports = roles::ca::open(config, few.ca.handle())?;
                if let Some(listener) = devices.take() {
                    let router = frame::guard(ports.devices, DEVICES, limits, ports.lane.clone());
                    routers.push((DEVICES, listener, None, router));
                }
                if let (Some(listener), Some((tls, router))) = (est.take(), ports.est) {
                    let router = frame::guard(router, EST, limits, ports.lane.clone());
                    routers.push((EST, listener, Some(tls), router));
                }
                (ports.ca, ports.lane)
            }
            // Their work waits for other servers.
            "tam" => roles::tam::open(config, &addresses)?,
            "verify" => (roles::verify::open(config, &addresses)?, Lane::wide()),
            _ => roles::verifier::open(config, few.verifier.handle())?,
        };
        let router = frame::guard(router, name, limits, lane);
        routers.push((name, listener, None, router));
    }
    let limits = Limits {
        connections: descriptors::connections(routers.len(), config.limits.connections),
        ..config.limits.clone()
    };
    // 3. Stop signals before the first connection, so that none is missed.
    let (phase, phases) = watch::channel(Phase::Serving);
    let signals = stop_signal()?;
    let mut running = JoinSet::new();
    for (name, listener, tls, router) in routers {
        if let Ok(address) = listener.local_addr() {
            info!(role = name, %address, "listening");
        }
        if let Some(tls) = tls.clone() {
            running.spawn(tls.keep(phases.clone()));
        }
        running.spawn(frame::run(
            listener,
            tls,
            router,
            limits.clone(),
            phases.clone(),
        ));
    }
    if let Some(path) = &args.ready_file {
        announce(path, &addresses)?;
    }
    signals.await;
    if !config.limits.leave.is_zero() {
        info!(reason = "told-to-stop", "leaving: still serves what comes");
        let _ = phase.send(Phase::Leaving);
        // Who says it twice means it.
        let again = stop_signal()?;
        let _ = tokio::time::timeout(config.limits.leave, again).await;
    }
    info!(reason = "told-to-stop", "stopping");
    let _ = phase.send(Phase::Stopping);
    while running.join_next().await.is_some() {}
    info!("stopped");
    Ok(())
}

async fn listen(config: &Config, role: Role) -> Outcome<TcpListener> {
    let name = role_name(role);
    let address = match role {
        Role::Ca => config.ca.as_ref().map(|ca| ca.listen),
        Role::Tam => config.tam.as_ref().map(|tam| tam.listen),
        Role::Verifier => config.verifier.as_ref().map(|verifier| verifier.listen),
        Role::Verify => config.verify.as_ref().map(|verify| verify.listen),
    };
    let Some(address) = address else {
        return Err(Fault::usage(
            "role-not-configured",
            format!("{} has no section [{name}]", config.path.display()),
            format!("Add [{name}] with `listen = \"IP:port\"`, or leave {name} out of --roles."),
        ));
    };
    bind(config, name, address).await
}

/// Listens on what section `[name]` says.
async fn bind(config: &Config, name: &str, address: SocketAddr) -> Outcome<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| {
        let port = address.port();
        match e.kind() {
            std::io::ErrorKind::AddrInUse => Fault::environment(
                "port-in-use",
                format!("the {name} cannot listen on {address}: another process uses the port"),
                format!(
                    "Find it with `ss -ltnp 'sport = :{port}'` and stop it, or choose another port \
                     as [{name}] listen in {}.",
                    config.path.display()
                ),
            ),
            std::io::ErrorKind::PermissionDenied => Fault::environment(
                "port-not-allowed",
                format!("the {name} may not listen on {address}"),
                "Use a port above 1023, or give the program CAP_NET_BIND_SERVICE.",
            ),
            std::io::ErrorKind::AddrNotAvailable => Fault::environment(
                "address-not-here",
                format!("the {name} cannot listen on {address}: this machine has no such address"),
                format!("Use an address of this machine as [{name}] listen; `ip addr` lists them."),
            ),
            _ => Fault::environment(
                "cannot-listen",
                format!("the {name} cannot listen on {address}: {e}"),
                format!("Check [{name}] listen in {}.", config.path.display()),
            ),
        }
    })
}

/// Writes the addresses, one `role = "http://…"` a line (`https` where TLS is spoken), whole or not at all.
fn announce(path: &Path, addresses: &Addresses) -> Outcome<()> {
    let rows = [
        ("ca", addresses.ca),
        ("tam", addresses.tam),
        ("verifier", addresses.verifier),
        ("verify", addresses.verify),
        (DEVICES, addresses.devices),
        (EST, addresses.est),
    ];
    let line = |(name, address): &(&str, Option<SocketAddr>)| {
        let scheme = if *name == EST { "https" } else { "http" };
        Some(format!("{name} = \"{scheme}://{}\"\n", (*address)?))
    };
    let text: String = rows.iter().filter_map(line).collect();
    files::replace(path, text.as_bytes(), Readers::Everyone)
}

/// Resolves when the process is told to stop, with the signal that said so.
///
/// # Errors
/// The kernel gives no signal handler.
pub fn stop_signal() -> Outcome<impl Future<Output = Signal>> {
    use tokio::signal::unix::{SignalKind, signal};
    let fault = |e: std::io::Error| {
        Fault::environment(
            "no-signals",
            format!("cannot handle signals: {e}"),
            "Check the limits of this process.",
        )
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(fault)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(fault)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => Signal::TERM,
            _ = interrupt.recv() => Signal::INT,
        }
    })
}
