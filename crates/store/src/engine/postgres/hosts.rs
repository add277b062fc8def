//! The hosts of an address, and a connection to the one of them that takes writes.
//!
//! The client library goes from one to the next only where a socket cannot be made: a host that takes the
//! connection and says nothing would hold it for ever, and the next one would never be asked. Here each
//! host has its own time, which the addresses of its name share: no connection takes longer than all of them
//! together.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout, timeout_at};
use tokio_postgres::config::{Host, LoadBalanceHosts};
use tokio_postgres::{CancelToken, Client, Config, NoTls};
use zeroize::Zeroizing;

use super::tls::Tls;
use crate::engine::EngineError;

/// Where a connection may go.
pub(super) struct Hosts {
    /// One host each, by its name or its socket.
    each: Vec<Config>,
    /// Which one a connection begins with: the one that served last.
    first: AtomicUsize,
    tls: Option<Tls>,
    /// How long one host may take, from the look-up of its name to its word that it takes writes.
    wait: Duration,
}

impl Hosts {
    /// `None` where there are not as many ports or addresses as hosts.
    pub(super) fn new(config: &Config, tls: Option<Tls>, wait: Duration) -> Option<Self> {
        let hosts = config.get_hosts();
        let (addresses, ports) = (config.get_hostaddrs(), config.get_ports());
        let fits = (addresses.is_empty() || addresses.len() == hosts.len())
            && (ports.len() < 2 || ports.len() == hosts.len());
        let first = match config.get_load_balance_hosts() {
            LoadBalanceHosts::Random => super::any(),
            _ => 0,
        };
        let each = hosts.iter().enumerate().map(|(n, host)| {
            let mut one = without_hosts(config);
            match host {
                Host::Tcp(name) => one.host(name),
                Host::Unix(path) => one.host_path(path),
            };
            if let Some(port) = ports.get(n).or(ports.first()) {
                one.port(*port);
            }
            if let Some(address) = addresses.get(n) {
                one.hostaddr(*address);
            }
            one
        });
        fits.then(|| Self {
            each: each.collect(),
            first: AtomicUsize::new(usize::try_from(first).unwrap_or(0)),
            tls,
            wait,
        })
    }

    #[cfg(test)]
    pub(super) fn by_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// The longest that [`Hosts::connect`] takes.
    pub(super) fn longest(&self) -> Duration {
        let hosts = u32::try_from(self.each.len()).unwrap_or(u32::MAX);
        self.wait.saturating_mul(hosts)
    }

    /// Connects to the first that takes writes, with that password if there is one.
    ///
    /// # Errors
    /// Why none of them does: what a server said, rather than why there is no answer of another.
    pub(super) async fn connect(
        &self,
        password: Option<Zeroizing<String>>,
    ) -> Result<Client, EngineError> {
        let mut why = EngineError::Silent(self.wait);
        let first = self.first.load(Ordering::Relaxed) % self.each.len().max(1);
        let hosts = self.each.iter().enumerate();
        for (n, host) in hosts.clone().skip(first).chain(hosts.take(first)) {
            let mut host = host.clone();
            if let Some(password) = &password {
                host.password(password.as_bytes());
            }
            match self.connect_to(&host).await {
                Ok(client) => {
                    self.first.store(n, Ordering::Relaxed);
                    return Ok(client);
                }
                Err(e) if e.is_of_server() || !why.is_of_server() => why = e,
                Err(_) => {}
            }
        }
        Err(why)
    }

    /// Has the server give up what a connection is at: nobody waits for it any more.
    pub(super) async fn cancel(&self, token: CancelToken) {
        let asked = async {
            match self.tls.clone() {
                None => token.cancel_query(NoTls).await,
                Some(tls) => token.cancel_query(tls).await,
            }
        };
        // Who cannot be asked has ended it, or ends it when it finds that nobody is there.
        let _ = timeout(self.wait, asked).await;
    }

    async fn connect_to(&self, host: &Config) -> Result<Client, EngineError> {
        let until = Instant::now() + self.wait;
        let silent = || EngineError::Silent(self.wait);
        let found = timeout_at(until, addresses(host)).await;
        let found = found.map_err(|_| silent())??;
        let mut why = EngineError::Said("its name has no address".to_owned());
        for (address, left) in found.iter().zip((1..=found.len()).rev()) {
            // Each has as much of what is left as those after it.
            let left = u32::try_from(left).unwrap_or(u32::MAX);
            let part = until.saturating_duration_since(Instant::now()) / left;
            match timeout(part, self.open(address)).await {
                Ok(Ok(client)) => return Ok(client),
                Ok(Err(e)) => why = EngineError::Postgres(e),
                Err(_) => why = silent(),
            }
        }
        Err(why)
    }

    async fn open(&self, config: &Config) -> Result<Client, tokio_postgres::Error> {
        // The connection is driven here until its client is gone.
        match self.tls.clone() {
            None => {
                let (client, connection) = config.connect(NoTls).await?;
                tokio::spawn(connection);
                Ok(client)
            }
            Some(tls) => {
                let (client, connection) = config.connect(tls).await?;
                tokio::spawn(connection);
                Ok(client)
            }
        }
    }
}

/// The host at each address of its name.
async fn addresses(host: &Config) -> Result<Vec<Config>, EngineError> {
    let (Some(Host::Tcp(name)), []) = (host.get_hosts().first(), host.get_hostaddrs()) else {
        return Ok(vec![host.clone()]);
    };
    let port = host.get_ports().first().copied().unwrap_or(PORT);
    let found = tokio::net::lookup_host((name.as_str(), port)).await;
    let found = found.map_err(|e| EngineError::Said(format!("{name}: {e}")))?;
    Ok(found
        .map(|address| {
            let mut at = host.clone();
            at.hostaddr(address.ip());
            at
        })
        .collect())
}

/// All that is the same for each host. The library has no way to take hosts away.
fn without_hosts(config: &Config) -> Config {
    let mut bare = Config::new();
    if let Some(is) = config.get_user() {
        bare.user(is);
    }
    if let Some(is) = config.get_password() {
        bare.password(is);
    }
    if let Some(is) = config.get_dbname() {
        bare.dbname(is);
    }
    if let Some(is) = config.get_options() {
        bare.options(is);
    }
    if let Some(is) = config.get_application_name() {
        bare.application_name(is);
    }
    if let Some(is) = config.get_connect_timeout() {
        bare.connect_timeout(*is);
    }
    if let Some(is) = config.get_tcp_user_timeout() {
        bare.tcp_user_timeout(*is);
    }
    if let Some(is) = config.get_keepalives_interval() {
        bare.keepalives_interval(is);
    }
    if let Some(is) = config.get_keepalives_retries() {
        bare.keepalives_retries(is);
    }
    bare.keepalives(config.get_keepalives())
        .keepalives_idle(config.get_keepalives_idle())
        .ssl_mode(config.get_ssl_mode())
        .ssl_negotiation(config.get_ssl_negotiation())
        .target_session_attrs(config.get_target_session_attrs())
        .channel_binding(config.get_channel_binding())
        .load_balance_hosts(config.get_load_balance_hosts());
    bare
}

/// Where a server listens if nobody says otherwise.
const PORT: u16 = 5432;

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests.

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_host_has_all_that_the_address_says() {
        let all = "application_name=a&options=-c%20b%3Dc&sslmode=require&sslnegotiation=direct\
            &connect_timeout=11&tcp_user_timeout=12&keepalives=0&keepalives_idle=13\
            &keepalives_interval=14&keepalives_retries=15&target_session_attrs=read-write\
            &channel_binding=require&load_balance_hosts=random";
        let address = format!("postgres://u:p@h:7/d?{all}&hostaddr=192.0.2.1");
        let config: Config = address.parse().unwrap();
        let hosts = Hosts::new(&config, None, SECOND).unwrap();
        assert_eq!(hosts.each, [config]);
    }

    #[test]
    fn each_host_has_its_port_and_its_address() {
        let two = |address: &str| Hosts::new(&address.parse().unwrap(), None, SECOND);
        let hosts = two("postgres://u@a:1,%2Fb:2/d").unwrap();
        let one = |address: &str| address.parse::<Config>().unwrap();
        assert_eq!(
            hosts.each,
            [one("postgres://u@a:1/d"), one("postgres://u@%2Fb:2/d")]
        );
        assert_eq!(hosts.longest(), 2 * SECOND);
        let both = "postgres://u@a,b/d?hostaddr=192.0.2.1";
        assert!(two(both).is_none());
        let hosts = two(&format!("{both},192.0.2.2")).unwrap();
        let second = one("postgres://u@b/d?hostaddr=192.0.2.2");
        assert_eq!(hosts.each[1], second);
    }
}
