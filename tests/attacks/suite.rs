//! The list of attacks, how they are run, and the table of what came of them.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// The lines of "What must never happen" in THREAT_MODEL.md, in their order.
pub const LINES: [&str; 7] = [
    "The REE, with root, reads or alters a TA, a `CsrAuthKey` or a `DeviceKey`; installs an older TA; installs another device's TA.",
    "A CSR made outside the TA, altered on the way, or made by device A naming device B, is signed.",
    "A certificate not from the CA, for another key or another identity, is installed.",
    "A client application uses a key that another application's request created.",
    "An answered issuance is missing after a crash; two different certificates share a serial; a revoked certificate reads good.",
    "Input from a peer panics a process, grows memory without bound, or changes state before it is authenticated.",
    "A secret reaches a log, an error text, a core dump, swap or a `Debug` print.",
];

/// One attack.
#[derive(Clone, Copy)]
pub struct Attack {
    /// Which line of [`LINES`] it is aimed at, from 1.
    pub line: usize,
    /// Who the attacker is.
    pub attacker: &'static str,
    /// What is done.
    pub what: &'static str,
    /// What is seen instead of harm.
    pub outcome: &'static str,
    /// Tries it; gives the number of attempts. Panics if one of them hurts.
    pub run: fn() -> Tried,
}

/// What was tried.
pub enum Tried {
    /// So many attempts, none of which hurt.
    Times(usize),
    /// It cannot be tried on this machine.
    NotHere(String),
}

struct Done {
    attack: usize,
    took: Duration,
    result: Result<Tried, String>,
}

/// Runs the attacks whose text contains one of `wanted` (all if there is none); true if none hurt.
pub fn run(attacks: &[Attack], wanted: &[String], threads: usize) -> bool {
    let chosen: Vec<usize> = (0..attacks.len())
        .filter(|&n| {
            let text = format!("{}: {}", attacks[n].attacker, attacks[n].what);
            wanted.is_empty() || wanted.iter().any(|w| text.contains(w.as_str()))
        })
        .collect();
    let begun = Instant::now();
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<Done>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(&number) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let attack = &attacks[number];
                    let begun = Instant::now();
                    let result = catch_unwind(AssertUnwindSafe(attack.run)).map_err(|panic| {
                        let text = panic.downcast_ref::<String>().cloned();
                        text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
                            .unwrap_or_default()
                    });
                    let took = begun.elapsed();
                    let word = match &result {
                        Ok(Tried::Times(n)) => format!("held, {n} attempts"),
                        Ok(Tried::NotHere(why)) => format!("not tried: {why}"),
                        Err(_) => "HURT".to_owned(),
                    };
                    println!(
                        "{:>6.1}s  {}: {} ... {word}",
                        took.as_secs_f32(),
                        attack.attacker,
                        attack.what
                    );
                    let done_one = Done {
                        attack: number,
                        took,
                        result,
                    };
                    done.lock().unwrap().push(done_one);
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|d| d.attack);
    print!("{}", summary(attacks, &done));
    println!(
        "\n{} attacks in {:.1} s",
        done.len(),
        begun.elapsed().as_secs_f32()
    );
    for one in &done {
        if let Err(why) = &one.result {
            println!(
                "HURT by {}: {}\n    {why}",
                attacks[one.attack].attacker, attacks[one.attack].what
            );
        }
    }
    done.iter().all(|d| d.result.is_ok())
}

fn summary(attacks: &[Attack], done: &[Done]) -> String {
    let mut out = String::new();
    for (index, line) in LINES.iter().enumerate() {
        let _ = writeln!(out, "\n{}. {line}", index + 1);
        for one in done.iter().filter(|d| attacks[d.attack].line == index + 1) {
            let attack = &attacks[one.attack];
            let (count, word) = match &one.result {
                Ok(Tried::Times(n)) => (n.to_string(), attack.outcome),
                Ok(Tried::NotHere(why)) => ("-".to_owned(), why.as_str()),
                Err(_) => ("!".to_owned(), "HURT"),
            };
            let _ = writeln!(
                out,
                "   {count:>7}  {:<14} {}\n            {:<14} -> {word} ({:.1} s)",
                attack.attacker,
                attack.what,
                "",
                one.took.as_secs_f32()
            );
        }
    }
    out
}

/// The table as docs/attacks.md has it.
pub fn document(attacks: &[Attack]) -> String {
    let mut out = String::from(HEAD);
    for (index, line) in LINES.iter().enumerate() {
        let _ = writeln!(out, "\n## {}. {line}\n", index + 1);
        let _ = writeln!(out, "| attacker | tries | and |\n|---|---|---|");
        for attack in attacks.iter().filter(|a| a.line == index + 1) {
            let _ = writeln!(
                out,
                "| {} | {} | {} |",
                attack.attacker, attack.what, attack.outcome
            );
        }
    }
    out.push_str(TAIL);
    out
}

const HEAD: &str = "\
# Attacks: what is tried, and what comes of it

Each line of \"What must never happen\" (THREAT_MODEL.md) is attacked by code. `tests/attacks` runs
in two rigs: in one process (real stores and decisions of CA, TAM and Verifier, the real TEE core,
the real enrolment TA) for what must be tried at every position, and with the real programs as
processes of their own for what only they can show.

    cargo test -p tegata-tests --test attacks                  # all, with a table at the end
    cargo test -p tegata-tests --test attacks -- insider       # those whose text has that word

This file is made from the list of attacks (`TEGATA_WRITE_DOCS=1` writes it anew); a test compares.
";

const TAIL: &str = "
## What is not tried here
- Root, the kernel, `ptrace` and a copied disk against the `software` backend: they win, and
  THREAT_MODEL.md says so. A rollback of the *whole* storage is noticed only with a hardware counter.
- Revocation: there is no status service yet that could read good.
- Fault and side channels: out of scope.
- The sandbox of a worker from inside: `crates/platform/tests/sandbox.rs`.
- A CA that lies with its own key (wrong names, wrong key, wrong usages): twenty-six lies in
  `crates/tee/tests/enrol.rs` and `renew.rs`. Random programs in the manifest processor:
  `crates/tee/tests/suit_random.rs`. Decoders alone: `fuzz/`.
- A message that a network withheld and never delivered still works once, even late: an Update
  carries no challenge of the device (docs/divergences/teep.md).
";
