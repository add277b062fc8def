//! Arguments of `tegata ca rollover`.

use std::path::PathBuf;

use clap::Args;

use super::{CaKey, Common};

#[derive(Debug, Args)]
pub struct CaRollover {
    #[command(flatten)]
    pub common: Common,
    #[command(flatten)]
    pub what: RolloverWhat,
    /// Number of the generation to make, so that the command again makes no other; `--dry-run` says it
    #[arg(long, value_name = "N", required_unless_present = "dry_run")]
    pub generation: Option<u32>,
    /// Key of what is made; as before when absent
    #[arg(long, value_name = "KIND", value_enum)]
    pub ca_key: Option<CaKey>,
    /// Keys of before leaked: no issuing CA of before is to be trusted any more, and with --root no root
    #[arg(long)]
    pub leaked: bool,
    /// The clock is right, although what the CA has recorded says otherwise
    #[arg(long)]
    pub clock_is_right: bool,
    /// Who knows the oldest roots alone need not find the new one: only three roots back are linked
    #[arg(long)]
    pub leave_behind: bool,
    /// Where ca.pem, issuing.pem and cross.pem go; next to the configuration when absent
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Make nothing; show what it would be
    #[arg(long)]
    pub dry_run: bool,
    /// Do it
    #[arg(long, conflicts_with = "dry_run")]
    pub yes: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct RolloverWhat {
    /// A new issuing CA under the root that there is
    #[arg(long)]
    pub issuing: bool,
    /// A new root, and an issuing CA under it
    #[arg(long)]
    pub root: bool,
}
