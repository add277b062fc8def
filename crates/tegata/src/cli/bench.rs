//! What `tegata bench` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchWhat {
    /// Certificates: a p10cr under a device's CsrAuthKey, answered with the certificate
    Issue,
    /// Five times what the CA can do, beside peers that send slowly: it must refuse early and keep its word
    Overload,
}

/// Another CA in the same run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchPeer {
    /// cfssl, `authsign` with its HMAC key: without a database, and with SQLite
    Cfssl,
}

/// Arguments of `tegata bench`.
#[derive(Debug, Clone, Args)]
pub struct Bench {
    /// What to measure
    #[arg(value_enum)]
    pub what: BenchWhat,
    /// Requests answered in each round, each distinct
    #[arg(long, value_name = "N", default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub requests: u32,
    /// Registered devices that the requests are from
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub devices: u32,
    /// Rounds; in each, everything runs once, in an order that rotates
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Closed loop: connections that each send their next request when the last is answered
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=128))]
    pub clients: u32,
    /// Open loop: requests a second, sent when they are due; 80 % of the closed loop when absent
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// Other CAs to run beside it; one that is not installed is skipped and named
    #[arg(long, value_name = "NAMES", value_enum, value_delimiter = ',')]
    pub peers: Vec<BenchPeer>,
    /// Processor of the servers; the first that this process may use when absent
    #[arg(long, value_name = "CPU")]
    pub server_cpu: Option<usize>,
    /// Processor of the client; the last that this process may use when absent
    #[arg(long, value_name = "CPU")]
    pub client_cpu: Option<usize>,
    /// Where the durable store lies: it decides what is measured; the temporary directory when absent
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where the raw results and the plot are written
    #[arg(long, value_name = "DIR", default_value = "bench")]
    pub out: PathBuf,
    /// Print the results as JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

/// Arguments of the server that does nothing.
#[derive(Debug, Clone, Args)]
pub struct BenchNothing {
    /// Configuration, for limits and log
    #[arg(long)]
    pub config: PathBuf,
    /// Length of the answer, bytes
    #[arg(long)]
    pub answer_bytes: u32,
    /// File that names the address once it listens
    #[arg(long)]
    pub ready_file: PathBuf,
}

/// What `--help` teaches.
pub const HELP: &str = "\
Examples:
    tegata bench issue
    tegata bench issue --clients 64 --rounds 9 --out figures
    tegata bench issue --rate 500 --dir /var/lib/tegata
    tegata bench issue --peers cfssl --json | jq .ratio_to_crypto_bound
    tegata bench overload --requests 20000

Makes an installation in a temporary directory, registers devices, makes their requests before the clock
starts, and lets `tegata serve`, a process of its own on a processor of its own, answer them over HTTP with
connections kept open. Each round measures, on the same processor and in rotated order: the cryptography
alone, a server that does nothing, the store alone, the CA with its store on the disk, and with its store in
memory (tmpfs: the same code, and no commit waits). Ratios are taken within a round. The run fails when an
answer is not 200, is no certificate, or one that openssl refuses. docs/perf.md explains the figures.";
