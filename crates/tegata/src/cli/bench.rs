//! What `tegata bench` takes.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Serialize;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchWhat {
    /// Certificates: a p10cr under a device's CsrAuthKey, answered with the certificate
    Issue,
    /// OCSP: responses that were signed ahead, by GET and POST, and such that are signed for each request
    Ocsp,
    /// Renewals: a kur by the key that serves, with the release's token, then its certConf
    Renew,
    /// Appraisals: evidence of many devices at the Verifier, each with a nonce of its own
    Appraise,
    /// Deliveries: TEEP sessions with an Update for one device, beside one ciphertext shared by all
    Deliver,
    /// Five times what a server can do, beside peers that send slowly or flood it with connections: it must
    /// refuse early, keep its word, and let an honest peer through
    Overload,
}

/// Most devices of which each has its keys or a connection ready, in the client's memory.
const DEVICES_WITH_KEYS_MAX: u32 = 20_000;

/// The server that is overloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BenchServer {
    /// The CA: certificates by CMP
    Ca,
    /// The TAM: a device's QueryResponse, answered with an Update
    Tam,
    /// The Verifier: evidence, answered with a result
    Verifier,
    /// The CA's EST port: certificates over TLS, both sides authenticated
    Est,
}

/// Another CA in the same run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum BenchPeer {
    /// cfssl, `authsign` with its HMAC key: without a database, and with SQLite
    Cfssl,
    /// step-ca with bbolt, over its own TLS, each CSR with a one-time token of a JWK provisioner
    StepCa,
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
    /// Registered devices that the requests are from; above 20,000 only for `issue` without --tls
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=200_000))]
    pub devices: u32,
    /// Rounds; in each, everything runs once, in an order that rotates; 5 when absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: Option<u32>,
    /// Closed loop: connections that each send their next request when the last is answered; 16 when absent
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=128))]
    pub clients: Option<u32>,
    /// Open loop: requests a second, sent when they are due; 80 % of the closed loop when absent
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// `issue`: certificates that are written into a second store before, as of years; 1.6 GB a million
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1_000..=20_000_000))]
    pub preload: Option<u32>,
    /// `issue`: over EST with a new TLS connection for each certificate, both sides authenticated, and with
    /// connections kept open, in place of CMP
    #[arg(long, conflicts_with_all = ["preload", "peers"])]
    pub tls: bool,
    /// `issue`: with the store in this PostgreSQL, in which there is no installation yet; it stays there
    #[arg(long, value_name = "ADDRESS", conflicts_with_all = ["preload", "peers", "tls"])]
    pub database: Option<String>,
    /// `overload`: the server; the CA when absent
    #[arg(long, value_name = "NAME", value_enum)]
    pub server: Option<BenchServer>,
    /// `issue`: other CAs to run beside it; one that is not installed is skipped and named
    #[arg(long, value_name = "NAMES", value_enum, value_delimiter = ',')]
    pub peers: Vec<BenchPeer>,
    /// `issue`: only these, by the names that --json has, as `durable` or `cfssl-sqlite`
    #[arg(long, value_name = "NAMES", value_delimiter = ',', conflicts_with_all = ["tls", "database"])]
    pub only: Vec<String>,
    /// Processor of the servers; the first that this process may use when absent
    #[arg(long, value_name = "CPU")]
    pub server_cpu: Option<usize>,
    /// Processor of the client; the last that this process may use when absent
    #[arg(long, value_name = "CPU")]
    pub client_cpu: Option<usize>,
    /// Where the durable store lies: a directory, on the disk that is to be measured; the temporary directory when
    /// absent
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Where the results are written: as JSON; of all but `overload` as Markdown too; of `issue` with neither --tls
    /// nor --database a plot. Those of an earlier run are not overwritten
    #[arg(long, value_name = "DIR", default_value = "bench")]
    pub out: PathBuf,
    /// Print the results as JSON instead of a table
    #[arg(long)]
    pub json: bool,
}

impl Bench {
    /// How many rounds.
    #[must_use]
    pub fn rounds(&self) -> u32 {
        self.rounds.unwrap_or(5)
    }

    /// How many connections of the closed loop.
    #[must_use]
    pub fn clients(&self) -> u32 {
        self.clients.unwrap_or(16)
    }

    /// Which server is overloaded.
    #[must_use]
    pub fn server(&self) -> BenchServer {
        self.server.unwrap_or(BenchServer::Ca)
    }

    /// More devices than this subject can have: how many those are.
    #[must_use]
    pub fn too_many_devices(&self) -> Option<u32> {
        let of_keys = self.what != BenchWhat::Issue || self.tls;
        (of_keys && self.devices > DEVICES_WITH_KEYS_MAX).then_some(DEVICES_WITH_KEYS_MAX)
    }

    /// An option that was given and changes nothing about what is measured, and the subjects that it belongs to.
    #[must_use]
    pub fn misplaced(&self) -> Option<(&'static str, &'static str)> {
        use BenchWhat::{Appraise, Issue, Ocsp, Overload};
        let (issue, what) = (self.what == Issue, self.what);
        let open = matches!(what, Issue | Ocsp | Appraise);
        let rounds = what != Overload;
        let all_but_overload = "issue, ocsp, renew, appraise, deliver";
        let options = [
            (self.preload.is_some(), issue, "--preload", "issue"),
            (self.tls, issue, "--tls", "issue"),
            (self.database.is_some(), issue, "--database", "issue"),
            (!self.peers.is_empty(), issue, "--peers", "issue"),
            (!self.only.is_empty(), issue, "--only", "issue"),
            (self.server.is_some(), !rounds, "--server", "overload"),
            (self.rate.is_some(), open, "--rate", "issue, ocsp, appraise"),
            (self.rounds.is_some(), rounds, "--rounds", all_but_overload),
            (
                self.clients.is_some(),
                rounds,
                "--clients",
                all_but_overload,
            ),
        ];
        let found = options.iter().find(|(given, has, ..)| *given && !has);
        found.map(|(_, _, option, subjects)| (*option, *subjects))
    }
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
    /// Speak the TLS of the configuration's EST port
    #[arg(long)]
    pub tls: bool,
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
    tegata bench issue --peers cfssl,step-ca --json | jq .ratio_to_crypto_bound
    tegata bench issue --preload 10000000 --dir /var/lib/tegata
    tegata bench issue --tls
    tegata bench issue \\
        --database 'postgres://tegata@localhost/bench?host=/var/run/postgresql'
    tegata bench issue --requests 1000000 --devices 200000 --rounds 1 \\
        --only durable
    tegata bench ocsp
    tegata bench renew
    tegata bench appraise
    tegata bench deliver --requests 1000
    tegata bench overload --requests 20000
    tegata bench overload --server tam --requests 5000

Makes an installation in a temporary directory, registers devices, makes their
requests before the clock starts, and lets `tegata serve`, a process of its own
on a processor of its own, answer them over HTTP with connections kept open.
Each round measures everything once, on the same processor and in rotated order;
ratios are taken within a round. The run fails when an answer is not what it
must be, and leaves its directory then, with the servers' logs; interrupted
(Ctrl-C, SIGTERM) it leaves nothing, and exits with 130 or 143.

issue: the cryptography alone, a server that does nothing, the store alone, the
CA with its store on the disk, and with its store in memory (tmpfs: the same
code, and no commit waits). A sample is verified by openssl. Requests lie in a
file and are read five thousand at a time: for a million, 1 GB, and 2.5 GB for
each store. The server's memory is looked at after each of these; from 50,000
requests on, whether it grows is a target. --preload measures a second store
beside the empty one, with that many certificates in it from the beginning (1.6
GB a million in --dir), its start, look-ups and counts. --tls measures EST with
a new TLS connection for each certificate beside an echo of the same stack; CMP
is served in clear. --database measures the CA over a PostgreSQL that runs
already; the database's own processor time is in no figure.

ocsp: responses that were signed ahead, by GET and by POST, and such that are
signed for each request, because a nonce is in it.

renew: kur and certConf, of certificates that are due. Each is measured alone,
and a renewal is both.

appraise: evidence at the Verifier's own resource; the cryptography alone is one
signature verified and one made.

deliver: TEEP sessions, by processor time of the TAM alone: one in which nothing
is due, one with the first delivery of a device (the TAM asks the CA and keeps
what it says), one with a kept delivery (the Update is made and signed anew).
Their measure is a TAM that would serve one ciphertext to all: a session in
which nothing is due, and that ciphertext.

overload: five times what a server can do in a closed loop, sent by 750
connections that ask again at once when they are refused. An honest peer is
measured alone, beside 256 connections that send slowly, beside a peer that
opens and closes 2,000 a second, and beside all of it. One run, no rounds.
--server says which: the CA, the TAM (CA and Verifier run beside it, on the
client's processor), the Verifier, or the CA's EST port with TLS.

docs/perf.md explains the figures.";

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench: Bench,
    }

    fn misplaced(line: &str) -> Option<&'static str> {
        let line = Line::try_parse_from(["bench"].into_iter().chain(line.split(' '))).unwrap();
        line.bench.misplaced().map(|(option, _)| option)
    }

    #[test]
    fn many_devices_are_for_issuance() {
        let too_many = |line: &str| {
            let line = Line::try_parse_from(["bench"].into_iter().chain(line.split(' ')));
            line.unwrap().bench.too_many_devices()
        };
        assert_eq!(too_many("issue --devices 200000"), None);
        assert_eq!(too_many("renew --devices 20000"), None);
        for line in ["issue --tls", "overload", "deliver", "appraise"] {
            assert_eq!(too_many(&format!("{line} --devices 20001")), Some(20_000));
        }
    }

    #[test]
    fn an_option_that_would_be_ignored_is_found() {
        for good in [
            "issue --preload 1000 --rate 5 --rounds 1 --clients 1 --peers cfssl --only durable",
            "issue --tls --rate 5",
            "issue --database x",
            "ocsp --rate 5 --rounds 1 --clients 1",
            "appraise --rate 5",
            "deliver --rounds 2 --clients 2",
            "overload --server est",
            "overload --requests 10 --devices 10 --out x --json --server-cpu 0 --dir x",
        ] {
            assert_eq!(misplaced(good), None, "{good}");
        }
        for (line, option) in [
            ("ocsp --preload 1000", "--preload"),
            ("renew --tls", "--tls"),
            ("renew --server tam", "--server"),
            ("appraise --database x", "--database"),
            ("deliver --peers step-ca", "--peers"),
            ("deliver --only durable", "--only"),
            ("renew --rate 5", "--rate"),
            ("deliver --rate 5", "--rate"),
            ("overload --rounds 5", "--rounds"),
            ("overload --clients 16", "--clients"),
            ("overload --rate 5", "--rate"),
        ] {
            assert_eq!(misplaced(line), Some(option), "{line}");
        }
    }
}
