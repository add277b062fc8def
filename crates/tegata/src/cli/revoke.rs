//! The command line of `tegata ca revoke`, `unhold`, `stops`, `prune` and `root-list`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::Common;

/// Which certificates a word is about: one, or all that everything named is true of.
#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub struct RevokeWhat {
    /// One certificate: its whole serial number, hexadecimal
    #[arg(
        long,
        value_name = "HEX",
        conflicts_with_all = ["device", "devices", "release", "ta", "release_from", "release_below", "runtime",
            "model", "batch", "profile", "issued_before", "issued_after"]
    )]
    pub serial: Option<String>,
    /// The device: its whole UEID
    #[arg(long, value_name = "UEID", conflicts_with = "devices")]
    pub device: Option<String>,
    /// Devices: a file of UEIDs, one a line
    #[arg(long, value_name = "FILE")]
    pub devices: Option<PathBuf>,
    /// Issued to this release of a TA: its digest, or the beginning of it
    #[arg(long, value_name = "DIGEST", conflicts_with = "ta")]
    pub release: Option<String>,
    /// Issued to any release of this TA
    #[arg(long, value_name = "NAME")]
    pub ta: Option<String>,
    /// Only to its releases with a lower sequence number
    #[arg(long, value_name = "SEQUENCE", requires = "ta")]
    pub release_below: Option<u64>,
    /// Only to its releases with this sequence number or a higher one
    #[arg(long, value_name = "SEQUENCE", requires = "ta")]
    pub release_from: Option<u64>,
    /// Of devices that had this runtime (swname of the evidence) when the Verifier last affirmed them
    #[arg(long, value_name = "NAME")]
    pub runtime: Option<String>,
    /// Only of a lower version of it, such as 1.4 or 1.4.0.2
    #[arg(long, value_name = "VERSION", requires = "runtime")]
    pub runtime_below: Option<String>,
    /// Only of this version of it or a higher one
    #[arg(long, value_name = "VERSION", requires = "runtime")]
    pub runtime_from: Option<String>,
    /// Of devices of this model
    #[arg(long, value_name = "NAME")]
    pub model: Option<String>,
    /// Of devices of this factory batch
    #[arg(long, value_name = "NAME")]
    pub batch: Option<String>,
    /// Of this certificate profile
    #[arg(long, value_name = "NAME")]
    pub profile: Option<String>,
    /// Issued before this moment: 2026-11-20 or 2026-11-20T08:30:00Z
    #[arg(long, value_name = "TIME")]
    pub issued_before: Option<String>,
    /// Issued at this moment or later
    #[arg(long, value_name = "TIME")]
    pub issued_after: Option<String>,
}

/// Whether it is meant.
#[derive(Debug, Args)]
pub struct RevokeHow {
    /// Change nothing; show how many it would be, and some of them
    #[arg(long)]
    pub dry_run: bool,
    /// For a predicate: do it, if no more than this many certificates would change
    #[arg(long, value_name = "N", conflicts_with_all = ["dry_run", "yes"])]
    pub at_most: Option<u64>,
    /// For a predicate: do it, however many there are
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
    /// Where standard error is no terminal: time between two lines on how far it has come
    #[arg(long, value_name = "N", default_value_t = crate::commands::progress::EVERY_SECS, hide = true)]
    pub progress_secs: u64,
}

/// Why a certificate is revoked. Spec: RFC 5280 section 5.3.1
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RevokeReason {
    /// No reason is told
    Unspecified,
    /// The key may be known to others
    KeyCompromise,
    /// Names in the certificate are no longer right
    AffiliationChanged,
    /// Another certificate took its place
    Superseded,
    /// The device is out of service
    CessationOfOperation,
    /// A privilege was withdrawn
    PrivilegeWithdrawn,
}

#[derive(Debug, Args)]
pub struct CaRevoke {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub what: Box<RevokeWhat>,
    #[command(flatten)]
    pub how: RevokeHow,
    /// Why
    #[arg(
        long,
        value_enum,
        default_value = "unspecified",
        conflicts_with = "hold"
    )]
    pub reason: RevokeReason,
    /// Until further notice, not for good
    #[arg(long)]
    pub hold: bool,
    /// For a predicate without times and runtimes: issue nothing of that kind from now on; `ca stops` lifts it
    #[arg(
        long,
        conflicts_with_all = ["serial", "devices", "issued_before", "issued_after", "runtime"]
    )]
    pub stop_issuing: bool,
}

#[derive(Debug, Args)]
pub struct CaUnhold {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub what: Box<RevokeWhat>,
    #[command(flatten)]
    pub how: RevokeHow,
}

#[derive(Debug, Args)]
pub struct CaStops {
    #[command(flatten)]
    pub common: Common,
    /// Number of the stop that ends
    #[arg(long, value_name = "N")]
    pub lift: Option<i64>,
}

#[derive(Debug, Args)]
pub struct CaRootList {
    #[command(flatten)]
    pub common: Common,
    /// Where the list goes, PEM
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
    /// How long it is good for
    #[arg(long, value_name = "N", default_value_t = 365, value_parser = clap::value_parser!(u64).range(1..=3_650))]
    pub days: u64,
}

#[derive(Debug, Args)]
pub struct CaPrune {
    #[command(flatten)]
    pub common: Common,
    /// Move nothing; show how many it would be
    #[arg(long)]
    pub dry_run: bool,
}
