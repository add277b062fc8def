//! `tegata ca secret` and `tegata ca approve`: devices that ask without a TA.

use clap::{Args, Subcommand};

use super::Common;

/// Enrolment secrets.
#[derive(Debug, Subcommand)]
pub enum CaSecret {
    /// Make a secret for one device and one profile, and show it once
    #[command(after_long_help = "\
Examples:
    tegata ca secret add --device 01a4… --profile workshop
    tegata ca secret add --device 01a4… --profile workshop \\
        --uses 3 --expires 2h --json

The profile must allow it: authentication = [\"secret\"]. The id is the
reference value of CMP (`openssl cmp -ref ID -secret file:FILE`). The text is
not shown again. docs/ops/cmp.md")]
    Add(SecretAdd),
    /// List the secrets, without their texts
    #[command(after_long_help = "\
Example:
    tegata ca secret list --json")]
    List(Common),
    /// Forget a secret; certificates that it gave stay
    #[command(after_long_help = "\
Example:
    tegata ca secret remove 5f0c9a…    # the id, from `tegata ca secret list`")]
    Remove(SecretRemove),
}

#[derive(Debug, Args)]
pub struct SecretAdd {
    #[command(flatten)]
    pub common: Common,
    /// The device: its whole UEID
    #[arg(long, value_name = "UEID")]
    pub device: String,
    /// The profile
    #[arg(long, value_name = "NAME")]
    pub profile: String,
    /// How many certificates it gives
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub uses: u32,
    /// How long it is good for: 30m, 12h, 7d
    #[arg(long, value_name = "SPAN", default_value = "7d")]
    pub expires: String,
}

#[derive(Debug, Args)]
pub struct SecretRemove {
    #[command(flatten)]
    pub common: Common,
    /// Its id, from `tegata ca secret list`
    #[arg(value_name = "ID")]
    pub id: String,
}

#[derive(Debug, Args)]
pub struct CaDecide {
    #[command(flatten)]
    pub common: Common,
    /// The request: its digits from `tegata ca waiting`, the beginning of SHA-256 of what the client signed
    #[arg(value_name = "REQUEST")]
    pub request: String,
    /// Of this device (UEID), where two devices ask the same
    #[arg(long, value_name = "UEID")]
    pub device: Option<String>,
}
