//! The command line: what can be typed, and what `--help` teaches.
//!
//! Parsing alone; each command lives in its own module. Long help of every command ends in an
//! example that works as written.

pub mod asking;
#[cfg(feature = "bench")]
pub mod bench;
mod revoke;
mod rollover;
pub mod show;

use std::path::PathBuf;

use clap::builder::styling::{AnsiColor, Style, Styles};
use clap::{Args, Parser, Subcommand, ValueEnum};

pub use revoke::{
    CaPrune, CaRevoke, CaRootList, CaStops, CaUnhold, RevokeHow, RevokeReason, RevokeWhat,
};
pub use rollover::CaRollover;

/// Colours of `--help`; clap drops them where no terminal shows them.
const STYLES: Styles = Styles::styled()
    .header(Style::new().bold())
    .usage(Style::new().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(Style::new().dimmed());

/// Certificates that issue themselves, on devices whose own system need not be trusted.
#[derive(Debug, Parser)]
#[command(
    name = "tegata",
    version,
    styles = STYLES,
    max_term_width = 100,
    subcommand_required = true,
    arg_required_else_help = true,
    after_long_help = "\
See it all at once, on this machine, without root or a network:
    tegata demo

The same by hand, each part a process of its own:
    tegata init --dir pki
    tegata serve --roles ca,tam,verifier --config pki/tegata.toml &
    tegata ta release --config pki/tegata.toml --name enrol --profile iot-device
    tegata factory make --config pki/tegata.toml --count 1 --out station
    tegata factory import --config pki/tegata.toml \\
        --manifest station/manifest.cose
    tegata-teed --config station/devices/<ueid>/teed.toml &
    tegata-agent run --config station/devices/<ueid>/agent.toml &
    tegata device enrol --device station/devices/<ueid>

docs/ops/quickstart.md explains each line."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What `tegata` can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make keys, a root and an issuing CA, and the default configuration
    #[command(after_long_help = "\
Examples:
    tegata init --dir pki
    tegata init --dir pki --ca-key ed25519 --name '手形 Example'

Nothing that exists is overwritten: run again, it makes what is missing and says
so. Private keys are sealed under a key for each role in DIR/keys (mode 0600),
or under the 64 hexadecimal digits in TEGATA_SEALING_KEY when that is set; then
no sealing key is written.")]
    Init(Init),
    /// Run server roles until told to stop
    #[command(after_long_help = "\
Examples:
    tegata serve --roles ca,tam,verifier,verify --config pki/tegata.toml
    tegata serve --roles ca --config /etc/tegata/tegata.toml  # one alone
    curl -s http://127.0.0.1:8440/healthz

Each role listens on its own address from the configuration. SIGTERM or Ctrl-C:
no new connections, requests in progress finish, then it ends.
docs/ops/servers.md shows how to run the roles on different machines;
docs/ops/limits.md lists every limit.")]
    Serve(Serve),
    /// Trusted Applications: cut, list, publish and withdraw releases
    #[command(subcommand)]
    Ta(Ta),
    /// The factory station: make devices and import their manifests
    #[command(subcommand)]
    Factory(FactoryCommand),
    /// Devices: enrol one, list and show those that are known
    #[command(subcommand)]
    Device(Device),
    /// The CA: list, show and revoke certificates
    #[command(subcommand)]
    Ca(CaCommand),
    /// Verify statements that devices signed, such as their location, without any server
    #[command(after_long_help = "\
Examples:
    tegata verify --ca ca.pem --max-age 60 statement.cose
    tegata verify --ca ca.pem --nonce 3f2a… statement.cose
    tegata verify --ca ca.pem --any-age archive.cborseq --json \\
        | jq 'select(.verdict==\"fail\")'
    device-log | tegata verify --ca ca.pem --max-age 300 -

Reads COSE_Sign1 messages one after another (a CBOR sequence), or lines of JSON
with a message as base64. The exit code is 1 when any statement fails, or there
is none. docs/ops/verify.md")]
    Verify(VerifyArgs),
    /// Run everything on this machine and tell the story as it happens
    #[cfg(feature = "demo")]
    #[command(after_long_help = "\
Examples:
    tegata demo
    tegata demo --devices 50
    tegata demo --profile paper       # symmetric delivery, one key per release
    tegata demo --dir run --keep      # keep files and leave the servers running
    tegata demo --json | jq -c 'select(.event==\"act\")'

Needs no server, no database, no root and no network but loopback.")]
    Demo(Demo),
    /// Measure this machine's CA beside the cryptography that it cannot do without
    #[cfg(feature = "bench")]
    #[command(after_long_help = bench::HELP)]
    Bench(bench::Bench),
    /// (internal) the server that does nothing, for comparison
    #[cfg(feature = "bench")]
    #[command(hide = true)]
    BenchNothing(bench::BenchNothing),
    /// (internal) a device's TEE process
    #[cfg(feature = "demo")]
    #[command(hide = true, disable_help_flag = true)]
    Teed(Passed),
    /// (internal) a device's agent process
    #[cfg(feature = "demo")]
    #[command(hide = true, disable_help_flag = true)]
    Agent(Passed),
}

/// Arguments handed on to another program's own parser.
#[cfg(feature = "demo")]
#[derive(Debug, Args)]
pub struct Passed {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub args: Vec<std::ffi::OsString>,
}

/// Where the configuration is, and how results are printed.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The configuration file
    #[arg(
        long,
        value_name = "FILE",
        env = "TEGATA_CONFIG",
        default_value = "tegata.toml"
    )]
    pub config: PathBuf,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

/// Kind of a CA key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CaKey {
    /// ECDSA on P-256 with SHA-256
    P256,
    /// ECDSA on P-384 with SHA-384
    P384,
    /// Ed25519
    Ed25519,
}

impl CaKey {
    /// Its algorithm.
    #[must_use]
    pub fn alg(self) -> tegata_crypto::KeyAlg {
        use tegata_crypto::KeyAlg;
        match self {
            Self::P256 => KeyAlg::P256,
            Self::P384 => KeyAlg::P384,
            Self::Ed25519 => KeyAlg::Ed25519,
        }
    }
}

#[derive(Debug, Args)]
pub struct Init {
    /// Directory for keys, stores and configuration; made if missing
    #[arg(long, value_name = "DIR")]
    pub dir: PathBuf,
    /// Key of the root and of the issuing CA
    #[arg(long, value_name = "KIND", value_enum, default_value = "p256")]
    pub ca_key: CaKey,
    /// Name in the CA certificates
    #[arg(long, value_name = "NAME", default_value = "Tegata")]
    pub name: String,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("freshness").required(true)))]
pub struct VerifyArgs {
    /// File with statements; - for standard input
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// Certificates of the root CA, PEM
    #[arg(long, value_name = "FILE", default_value = "ca.pem")]
    pub ca: PathBuf,
    /// Fresh is what carries this nonce, once
    #[arg(long, value_name = "HEX", group = "freshness")]
    pub nonce: Option<String>,
    /// Fresh is what was made at most so many seconds ago, or ahead
    #[arg(long, value_name = "SECS", group = "freshness")]
    pub max_age: Option<u64>,
    /// Freshness is not asked for: an archive, with certificates valid when each was made
    #[arg(long, group = "freshness")]
    pub any_age: bool,
    /// Fastest that a device moves, metres a second
    #[arg(long, value_name = "M/S", default_value_t = 350)]
    pub max_speed: u32,
    /// Least accurate that a place may be: a radius in metres
    #[arg(long, value_name = "M", default_value_t = 1_000)]
    pub max_accuracy: u32,
    /// extKeyUsage that certificates must have; that of signed locations when absent
    #[arg(long, value_name = "OID")]
    pub purpose: Option<String>,
    /// Profile of statements that is also understood; may be repeated
    #[arg(long, value_name = "PROFILE")]
    pub profile: Vec<String>,
    /// Print one JSON object for each statement, and a summary
    #[arg(long)]
    pub json: bool,
    /// Print the summary alone
    #[arg(long, short)]
    pub quiet: bool,
}

/// A server role.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Role {
    /// Issues certificates and cuts TA releases
    Ca,
    /// Delivers TAs to devices
    Tam,
    /// Appraises what devices attest
    Verifier,
    /// Judges statements that devices sign, such as their location
    Verify,
}

#[derive(Debug, Args)]
pub struct Serve {
    /// Roles to run in this process
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        required = true,
        value_name = "ROLE[,ROLE]"
    )]
    pub roles: Vec<Role>,
    /// The configuration file
    #[arg(
        long,
        value_name = "FILE",
        env = "TEGATA_CONFIG",
        default_value = "tegata.toml"
    )]
    pub config: PathBuf,
    /// Write the addresses to this file once every role listens (for port 0 and for scripts)
    #[arg(long, value_name = "FILE")]
    pub ready_file: Option<PathBuf>,
    /// End when the process that started this one ends
    #[arg(long, hide = true)]
    pub end_with_parent: bool,
}

/// How a release reaches devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReleaseMode {
    /// The TAM never sees the TA or a key; one CSR key per device (default)
    Asymmetric,
    /// The paper's keys: the TAM wraps with each device's key; one CSR key for all devices
    Symmetric,
}

#[derive(Debug, Subcommand)]
pub enum Ta {
    /// Cut a release: fix the procedure, sign it, hand it to TAM and Verifier
    #[command(after_long_help = "\
Examples:
    tegata ta release --name enrol --profile iot-device
    tegata ta release --wasm my_ta.wasm --name enrol --profile iot-device \\
        --seq 2 --available 10%
    tegata ta release --name enrol --profile iot-device \\
        --available batch:2026-11-a
    tegata ta release --ta location --name location --profile location
    tegata ta release --name enrol --profile iot-device,iot-signing

Of several profiles the first is the default. Without --wasm the enrolment TA of
this program is released. Without --seq the next sequence number is taken; a
device never goes back to a lower one.")]
    Release(TaRelease),
    /// List releases
    #[command(after_long_help = "Example:\n    tegata ta list --json | jq '.[].digest'")]
    List(Common),
    /// Hand an earlier release to TAM and Verifier again, or widen who may get it
    #[command(after_long_help = "\
Example:
    tegata ta publish --release 3f2a --available all

The release is named by its digest or the beginning of it.")]
    Publish(TaPublish),
    /// Stop delivering a release and have devices remove it
    #[command(after_long_help = "Example:\n    tegata ta withdraw --release 3f2a")]
    Withdraw(TaWithdraw),
}

/// A TA that comes with this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OwnTa {
    /// Keys and certificates for applications
    Enrol,
    /// Signed statements of where the device is
    Location,
}

#[derive(Debug, Args)]
pub struct TaRelease {
    #[command(flatten)]
    pub common: Common,
    /// The TA, a Wasm module; one of this program when absent
    #[arg(long, value_name = "FILE", conflicts_with = "ta")]
    pub wasm: Option<PathBuf>,
    /// Which TA of this program
    #[arg(long, value_enum, default_value = "enrol")]
    pub ta: OwnTa,
    /// Name of the TA; together with the release key it makes the TA's UUID
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Certificate profiles the TA may ask for, from profiles.toml, with commas between them or the
    /// option again; the first is made when a device names none
    #[arg(long, value_name = "PROFILE", required = true, value_delimiter = ',')]
    pub profile: Vec<String>,
    /// How keys are delivered
    #[arg(long, value_enum, default_value = "asymmetric")]
    pub mode: ReleaseMode,
    /// Sequence number; the next one when absent
    #[arg(long, value_name = "N")]
    pub seq: Option<u64>,
    /// Devices that may get it: all, nobody, N%, batch:NAME, model:NAME, device:UEID
    #[arg(long, value_name = "WHO", default_value = "all")]
    pub available: String,
    /// Only cut and sign; publish later with `tegata ta publish`
    #[arg(long)]
    pub no_publish: bool,
}

#[derive(Debug, Args)]
pub struct TaPublish {
    #[command(flatten)]
    pub common: Common,
    /// Digest of the release, or its beginning
    #[arg(long, value_name = "DIGEST")]
    pub release: String,
    /// Devices that may get it: all, nobody, N%, batch:NAME, model:NAME, device:UEID
    #[arg(long, value_name = "WHO", default_value = "all")]
    pub available: String,
}

#[derive(Debug, Args)]
pub struct TaWithdraw {
    #[command(flatten)]
    pub common: Common,
    /// Digest of the release, or its beginning
    #[arg(long, value_name = "DIGEST")]
    pub release: String,
}

#[derive(Debug, Subcommand)]
pub enum FactoryCommand {
    /// Make a batch of devices: identity, keys, and a signed manifest
    #[command(after_long_help = "\
Examples:
    tegata factory make --count 10 --out station
    tegata factory make --count 2 --out station --model 温度計-1 \\
        --batch 2026-11-a
    tegata factory make --count 1 --out station --paper   # and DeliveryKeks

Writes OUT/manifest.cose (public: import it at CA, TAM and Verifier) and one
directory for each device, OUT/devices/<ueid>/, with the device's own secrets
(mode 0600).")]
    Make(FactoryMake),
    /// Take in devices that made their keys themselves: check their reports, endorse them
    #[command(after_long_help = "\
Examples:
    tegata factory adopt --report device.report --out station
    tegata factory adopt --report reports/*.report --out station \\
        --model gateway-2 --batch 2026-11-b

For devices with a hardware TEE (OP-TEE). On each device, in the factory:

    tegata-agent --config agent.toml report --out device.report

Writes OUT/manifest.cose (import it at CA, TAM and Verifier) and, for each
device, OUT/devices/<ueid>/device.cose, the factory's word for it, and
agent.toml. Bring both onto the device and run there:

    tegata-agent --config agent.toml provision --record device.cose

No secret leaves the device or enters it. The TEE's image must be built for this
factory: give its build TEGATA_FACTORY_KEY, the file trust/factory.pem of this
installation. docs/ops/optee.md has the whole way.")]
    Adopt(FactoryAdopt),
    /// Import a factory manifest into the stores of the roles on this machine
    #[command(after_long_help = "\
Examples:
    tegata factory import --manifest station/manifest.cose
    tegata factory import --manifest station/manifest.cose \\
        --keks station/delivery-keks.cbor
    tegata factory import --manifest station/manifest.cose --roles verifier

Importing the same manifest twice changes nothing.")]
    Import(Import),
}

#[derive(Debug, Args)]
pub struct FactoryMake {
    #[command(flatten)]
    pub common: Common,
    /// Number of devices
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub count: u32,
    /// Directory for the batch; made if missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Model name; that of the configuration when absent
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Name of the batch; date and time when absent
    #[arg(long, value_name = "NAME")]
    pub batch: Option<String>,
    /// TAM URI written into the devices; that of the configuration when absent
    #[arg(long, value_name = "URL")]
    pub tam_url: Option<String>,
    /// CA base URL written into the devices; that of the configuration when absent
    #[arg(long, value_name = "URL")]
    pub ca_url: Option<String>,
    /// Also write the devices' symmetric delivery keys for the TAM (secret; paper profile)
    #[arg(long)]
    pub paper: bool,
}

#[derive(Debug, Args)]
pub struct FactoryAdopt {
    #[command(flatten)]
    pub common: Common,
    /// Reports of the devices, as `tegata-agent report` wrote them
    #[arg(long = "report", value_name = "FILE", num_args = 1.., required = true)]
    pub reports: Vec<PathBuf>,
    /// Directory for the batch; made if missing
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// Model name; that of the configuration when absent
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Name of the batch; date and time when absent
    #[arg(long, value_name = "NAME")]
    pub batch: Option<String>,
    /// TAM URI written into the devices; that of the configuration when absent
    #[arg(long, value_name = "URL")]
    pub tam_url: Option<String>,
    /// CA base URL written into the devices; that of the configuration when absent
    #[arg(long, value_name = "URL")]
    pub ca_url: Option<String>,
}

#[derive(Debug, Args)]
pub struct Import {
    #[command(flatten)]
    pub common: Common,
    /// The signed manifest of a batch
    #[arg(long, value_name = "FILE")]
    pub manifest: PathBuf,
    /// Symmetric delivery keys of the batch, for the TAM (paper profile)
    #[arg(long, value_name = "FILE")]
    pub keks: Option<PathBuf>,
    /// Roles whose stores take it; all roles in the configuration when absent
    #[arg(long, value_enum, value_delimiter = ',', value_name = "ROLE[,ROLE]")]
    pub roles: Vec<Role>,
}

#[derive(Debug, Subcommand)]
pub enum Device {
    /// Ask a running device for a certificate, as a client application does
    #[cfg(feature = "demo")]
    #[command(after_long_help = "\
Examples:
    tegata device enrol --device station/devices/<ueid>
    tegata device enrol --device station/devices/<ueid> --label tls \\
        --out tls.pem

The device's teed and agent must run; those that are starting are waited for.
Asking again with the same label gives the certificate that is there; a new
label gives a new key and a new certificate.")]
    Enrol(DeviceEnrol),
    /// List the devices that this machine's roles know
    #[command(after_long_help = "Example:\n    tegata device list --json | jq '.[].ueid'")]
    List(Common),
    /// Show one device with its certificates
    #[command(after_long_help = "Example:\n    tegata device show 01a4")]
    Show(ShowOne),
    /// Import a factory manifest (the same as `tegata factory import`)
    Import(Import),
    /// Register a device with a PSA Root of Trust at the CA, by your own word
    #[command(after_long_help = "\
Examples:
    tegata device add --psa-iak iak.pem --implementation-id 50dd… \\
        --model gateway --serial S0001
    tegata device add --psa-iak iak.pem --implementation-id 50dd… \\
        --instance-id 01fa… --model M --serial S --json

From then on who has the private half of that Initial Attestation Key speaks for
this model and serial number: take the key from the factory's records, not from
the device. The device's name for life is its instance id. The same again
changes nothing. docs/ops/est.md")]
    Add(DeviceAdd),
    /// Have the verify role forget where and when a device was last
    #[command(after_long_help = "\
Examples:
    tegata device forget 01a4…
    tegata device forget 01a4… --numbers

Its next statement is compared with no place or time, and with --numbers with no
number either. For a device whose true statements fail with time-went-back or
too-fast because one with a wrong time or place passed before. With --numbers
also when its numbers went back, as after a TEE's storage was restored; then a
statement that was sent already may pass once more while it is fresh. The UEID
is given whole. The role may run meanwhile.")]
    Forget(DeviceForget),
}

#[derive(Debug, Args)]
pub struct DeviceAdd {
    #[command(flatten)]
    pub common: Common,
    /// Public half of its Initial Attestation Key, PEM: P-256 or P-384
    #[arg(long, value_name = "FILE")]
    pub psa_iak: PathBuf,
    /// The implementation that its tokens name: 64 hexadecimal digits
    #[arg(long, value_name = "HEX")]
    pub implementation_id: String,
    /// Its instance id, 66 hexadecimal digits; 01 and SHA-256 of the key's point when absent
    #[arg(long, value_name = "HEX")]
    pub instance_id: Option<String>,
    /// Hardware model
    #[arg(long, value_name = "NAME")]
    pub model: String,
    /// Serial number
    #[arg(long, value_name = "SERIAL")]
    pub serial: String,
    /// Batch that it is counted to, for revocations by batch
    #[arg(long, value_name = "NAME", default_value = "operator")]
    pub batch: String,
}

#[derive(Debug, Args)]
pub struct DeviceForget {
    #[command(flatten)]
    pub common: Common,
    /// The device: its whole UEID
    #[arg(value_name = "UEID")]
    pub ueid: String,
    /// Forget the numbers of its statements too
    #[arg(long)]
    pub numbers: bool,
}

#[cfg(feature = "demo")]
#[derive(Debug, Args)]
pub struct DeviceEnrol {
    /// Directory of the device
    #[arg(long, value_name = "DIR")]
    pub device: PathBuf,
    /// Name of the key and certificate within the device, 1 to 64 bytes
    #[arg(long, value_name = "LABEL", default_value = "default", value_parser = tegata_agent::enrol::label)]
    pub label: String,
    /// Where the certificate goes; when absent DIR/cert.pem, and for another label than `default`
    /// DIR/cert-LABEL.pem, in which %XX stands for each byte of what is no letter, digit, `-`, `_` or `.`
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Print JSON instead of text
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Args)]
pub struct ShowOne {
    #[command(flatten)]
    pub common: Common,
    /// What to show: an identifier, or the beginning of one
    #[arg(value_name = "ID")]
    pub id: String,
}

#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// List the certificates that were issued
    #[command(after_long_help = "Example:\n    tegata ca list --json | jq '.[].serial'")]
    List(Common),
    /// Show one certificate, by its serial number or the beginning of it
    #[command(after_long_help = "Example:\n    tegata ca show 01:8f")]
    Show(ShowOne),
    /// Revoke a certificate or a device, or put it on hold
    #[command(after_long_help = "\
Examples:
    tegata ca revoke --serial 01:8f:… --reason key-compromise
    tegata ca revoke --device 01a4… --reason cessation-of-operation --dry-run
    tegata ca revoke --device 01a4… --hold
    tegata ca revoke --device 01a4… --profile iot-signing --hold  # one purpose
    tegata ca revoke --batch 2026-11-b --issued-before 2026-11-20 --dry-run
    tegata ca revoke --ta enrol --release-below 7 --reason key-compromise \\
        --stop-issuing --at-most 5000

With --device alone: every certificate of the device that has not ended, and it
gets no other. It is durable when the command returns, and the server's next
answer has it; docs/ops/status.md says how long others may still believe an
older one. Again is the same as once. Only a hold can be lifted: `tegata ca
unhold`.

Everything else is a predicate: all certificates that have not ended and that
everything named is true of. That may be very many, so it says how many it would
be and does it only with --at-most N or --yes. Interrupted, the same command
does the rest. What is issued afterwards is not covered: --stop-issuing also
refuses new certificates of that kind, before the first one is revoked.")]
    Revoke(CaRevoke),
    /// Lift a hold
    #[command(after_long_help = "\
Examples:
    tegata ca unhold --serial 01:8f:…
    tegata ca unhold --device 01a4…
    tegata ca unhold --batch 2026-11-b --at-most 5000

With --device alone every certificate of the device that is on hold is lifted,
and it may have others again.")]
    Unhold(CaUnhold),
    /// Enrolment secrets: make, list and remove them
    #[command(subcommand)]
    Secret(asking::CaSecret),
    /// List requests that await approval (profiles with approval = "operator")
    #[command(after_long_help = "Example:\n    tegata ca waiting --json | jq '.[].request'")]
    Waiting(Common),
    /// Approve a request that waits: its certificate is issued when the client next asks
    #[command(after_long_help = "Example:\n    tegata ca approve 3f2a91c4d07e")]
    Approve(asking::CaDecide),
    /// Reject a request that waits
    #[command(after_long_help = "Example:\n    tegata ca reject 3f2a91c4d07e")]
    Reject(asking::CaDecide),
    /// List whom the CA issues nothing to, or lift one of these stops
    #[command(after_long_help = "\
Examples:
    tegata ca stops
    tegata ca stops --lift 3

A stop is made by `tegata ca revoke … --stop-issuing` and stays until it is
lifted, also when a hold is.")]
    Stops(CaStops),
    /// Move certificates that ended long ago into the archive
    #[command(after_long_help = "\
Examples:
    tegata ca prune --dry-run
    tegata ca prune

The server does it by itself each hour; [ca.retention] keep_days says how long
is long ago. `ca show` and `device show` find what is archived, OCSP still
answers for it, and lists leave it out.")]
    Prune(CaPrune),
    /// Sign a revocation list of the root, for relying parties that want one of every CA
    #[command(after_long_help = "\
Examples:
    tegata ca root-list --out root.crl
    tegata ca root-list --days 30 --out root.crl

NGINX (ssl_crl) asks for a list of every CA in a chain, the root too. It names
the issuing CAs whose keys leaked, as `tegata ca rollover --leaked` says, and
links to such roots. It is written as PEM, and the server hands it out at
/crl/ROOT/full.crl. Sign the next one before it ends: who has it configured
refuses everybody afterwards.")]
    RootList(CaRootList),
    /// List the roots and issuing CAs that this CA has had
    #[command(
        after_long_help = "Example:\n    tegata ca generations --json | jq '.[-1].generation'"
    )]
    Generations(Common),
    /// Go over to a new issuing CA, or to a new root
    #[command(after_long_help = "\
Examples:
    tegata ca rollover --issuing --dry-run
    tegata ca rollover --issuing --generation 2 --yes
    tegata ca rollover --root --generation 3 --ca-key p384 --yes
    tegata ca rollover --root --leaked --generation 4 --yes

A new issuing CA is under the root that there is. With --root there is a new
root too, an issuing CA under it, and the two certificates that link the roots.
With --leaked nothing leads from the new root to those of before, and they leave
ca.pem and the releases to come. It is all or nothing; again, with the same
number, it changes nothing and writes the files anew. A server that runs issues
by the new one from its next request on. What was issued before stays good, with
its lists and OCSP: nothing is removed. docs/ops/rollover.md has the whole way.")]
    Rollover(CaRollover),
}

/// Key profile of the demo.
#[cfg(feature = "demo")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum DemoProfile {
    /// Asymmetric delivery, one CSR key per device
    Default,
    /// Exactly the paper's keys: symmetric delivery, one CSR key per release
    Paper,
}

#[cfg(feature = "demo")]
#[derive(Debug, Args)]
pub struct Demo {
    /// Devices to make and enrol
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=2_000))]
    pub devices: u32,
    /// Keep everything here; a temporary directory, removed at the end, when absent
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Leave the servers and the first device running until Ctrl-C
    #[arg(long)]
    pub keep: bool,
    /// Print one JSON object per event
    #[arg(long)]
    pub json: bool,
    /// Which keys are used
    #[arg(long, value_enum, default_value = "default")]
    pub profile: DemoProfile,
    /// Devices that enrol at the same time
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub at_once: u32,
}

impl Command {
    /// Whether faults are printed as JSON.
    #[must_use]
    pub fn json(&self) -> bool {
        match self {
            Self::Init(args) => args.json,
            Self::Serve(_) => false,
            Self::Verify(args) => args.json,
            Self::Ta(Ta::Release(args)) => args.common.json,
            Self::Ta(Ta::List(common)) => common.json,
            Self::Ta(Ta::Publish(args)) => args.common.json,
            Self::Ta(Ta::Withdraw(args)) => args.common.json,
            Self::Factory(FactoryCommand::Make(args)) => args.common.json,
            Self::Factory(FactoryCommand::Adopt(args)) => args.common.json,
            Self::Factory(FactoryCommand::Import(args)) | Self::Device(Device::Import(args)) => {
                args.common.json
            }
            #[cfg(feature = "demo")]
            Self::Device(Device::Enrol(args)) => args.json,
            Self::Device(Device::List(common)) | Self::Ca(CaCommand::List(common)) => common.json,
            Self::Device(Device::Forget(args)) => args.common.json,
            Self::Device(Device::Add(args)) => args.common.json,
            Self::Device(Device::Show(args)) | Self::Ca(CaCommand::Show(args)) => args.common.json,
            Self::Ca(CaCommand::Revoke(args)) => args.common.json,
            Self::Ca(CaCommand::Unhold(args)) => args.common.json,
            Self::Ca(CaCommand::Secret(asking::CaSecret::Add(args))) => args.common.json,
            Self::Ca(CaCommand::Secret(asking::CaSecret::Remove(args))) => args.common.json,
            Self::Ca(CaCommand::Secret(asking::CaSecret::List(common)))
            | Self::Ca(CaCommand::Waiting(common)) => common.json,
            Self::Ca(CaCommand::Approve(args) | CaCommand::Reject(args)) => args.common.json,
            Self::Ca(CaCommand::Stops(args)) => args.common.json,
            Self::Ca(CaCommand::Prune(args)) => args.common.json,
            Self::Ca(CaCommand::RootList(args)) => args.common.json,
            Self::Ca(CaCommand::Generations(common)) => common.json,
            Self::Ca(CaCommand::Rollover(args)) => args.common.json,
            // The demo reports its own failure as an event of the story.
            #[cfg(feature = "demo")]
            Self::Demo(args) => args.json,
            #[cfg(feature = "bench")]
            Self::Bench(args) => args.json,
            #[cfg(feature = "bench")]
            Self::BenchNothing(_) => false,
            #[cfg(feature = "demo")]
            Self::Teed(_) | Self::Agent(_) => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_tree_is_sound() {
        Cli::command().debug_assert();
    }

    /// As a terminal of 80 columns shows it: what is copied from there must be the command that was meant.
    #[test]
    fn examples_can_be_copied_from_a_narrow_terminal() {
        fn walk(command: &clap::Command, path: &str, seen: &mut usize) {
            let help = command.get_after_long_help().map(ToString::to_string);
            let shown = command
                .clone()
                .term_width(80)
                .render_long_help()
                .to_string();
            for line in help.iter().flat_map(|help| help.lines()) {
                if line.starts_with("    ") {
                    *seen += 1;
                    assert!(
                        shown.lines().any(|l| l == line),
                        "{path}: more than 80 columns: {line}"
                    );
                }
            }
            for sub in command.get_subcommands() {
                walk(sub, &format!("{path} {}", sub.get_name()), seen);
            }
        }
        let (mut command, mut seen) = (Cli::command(), 0);
        command.build();
        walk(&command, "tegata", &mut seen);
        assert!(seen > 80, "{seen} lines of examples");
    }

    #[test]
    fn every_command_that_does_something_has_an_example() {
        fn walk(command: &clap::Command, path: &str) {
            for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
                let path = format!("{path} {}", sub.get_name());
                if sub.has_subcommands() {
                    walk(sub, &path);
                } else if path != "tegata device import" && sub.get_name() != "help" {
                    let help = sub.get_after_long_help().map(ToString::to_string);
                    assert!(help.is_some_and(|h| h.contains("    tegata ") || h.contains("tegata demo")), "{path}");
                }
            }
        }
        walk(&Cli::command(), "tegata");
    }
}
