//! The attacker's suite: each line of "What must never happen" is tried by code that plays the
//! attacker and must fail to hurt. A program of its own, so that it ends in a table.
//!
//!     cargo test -p tegata-tests --test attacks [-- WORD...]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)] // What cannot be made is a broken test.

mod delivery;
mod enrolment;
mod input;
mod list;
mod processes;
mod renewal;
mod rig;
mod secrets;
mod storage;
mod suite;

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, socket, ta] = args.as_slice()
        && flag == "--as-another-user"
    {
        processes::attacks::as_another_user(socket, ta);
        return ExitCode::SUCCESS;
    }
    if args.iter().any(|arg| arg == "--list") {
        for attack in list::ATTACKS {
            println!("{}: {}: test", attack.attacker, attack.what);
        }
        return ExitCode::SUCCESS;
    }
    // Options of the usual harness, some of which have a value, mean nothing here.
    let mut wanted: Vec<String> = Vec::new();
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--test-threads" | "--skip" | "--format" | "--color" => drop(args.next()),
            option if option.starts_with('-') => {}
            _ => wanted.push(arg),
        }
    }
    let threads = std::thread::available_parallelism().map_or(2, |n| n.get().clamp(2, 8));
    // A panic is an attack that hurt; it is told once, in the table.
    std::panic::set_hook(Box::new(|_| {}));
    let held = suite::run(list::ATTACKS, &wanted, threads);
    let documented = document();
    if held && documented {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// docs/attacks.md says what is tried, no more and no less.
fn document() -> bool {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/attacks.md");
    let text = suite::document(list::ATTACKS);
    if std::env::var_os("TEGATA_WRITE_DOCS").is_some() {
        std::fs::write(path, text).expect("docs/attacks.md can be written");
        return true;
    }
    let same = std::fs::read_to_string(path).is_ok_and(|there| there == text);
    if !same {
        println!("docs/attacks.md is not what is tried: run with TEGATA_WRITE_DOCS=1");
    }
    same
}
