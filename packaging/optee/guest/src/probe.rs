//! `probe trap TA OTHER`: traps one of several instances of a TA and sees what becomes of the others.
//!
//! Purpose: a client of the TEE for the suite; `probe alter` is in `alter`. TA is the one that traps
//! (its module is in the suite): command 1 counts and gives the count, command 2 traps, command 3
//! waits until it is cancelled. OTHER is the enrolment TA, whose command 6 lists keys. Exit code 0
//! and a line for each thing seen when all is as it must be.

mod alter;

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use alter::Ended;
use tegata_client::{Context, Error, Login, Operation, Parameter, Session, TaUuid, TeeAddress};

/// Exit code: start the device anew and call again.
const RESTART: u8 = 75;
/// GlobalPlatform's code for an instance that is dead.
const TARGET_DEAD: u32 = 0xffff_3024;
/// And for a call that was cancelled.
const CANCELLED: u32 = 0xffff_0002;
/// How long command 3 waits if nobody cancels it; the client would give up after 90 s.
const WAIT: Duration = Duration::from_secs(80);
/// When it is cancelled: not before it has begun to wait.
const CANCELLED_AFTER: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    match run() {
        Ok(Ended::Whole) => ExitCode::SUCCESS,
        Ok(Ended::Restart) => ExitCode::from(RESTART),
        Err(message) => {
            eprintln!("probe: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<Ended, String> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    match args.as_slice() {
        ["trap", ta, other] => trap(&uuid(ta)?, &uuid(other)?).map(|()| Ended::Whole),
        ["alter", directory, rpmb, ta, label, uid, kept] => {
            let asked = alter::Asked {
                ta: uuid(ta)?,
                label: (*label).to_owned(),
                uid: uid.parse().map_err(|_| "UID is a number")?,
            };
            let [directory, rpmb, kept] = [*directory, *rpmb, *kept].map(Path::new);
            alter::run(directory, rpmb, &asked, kept)
        }
        _ => Err("trap TA OTHER, or alter DIRECTORY RPMB TA LABEL UID KEPT".into()),
    }
}

fn uuid(text: &str) -> Result<TaUuid, String> {
    text.parse().map_err(|_| format!("{text} is no UUID"))
}

fn trap(ta: &TaUuid, other: &TaUuid) -> Result<(), String> {
    let context = Context::at(TeeAddress::OpTee);
    let open = |ta: &TaUuid| {
        context
            .open_session(ta, Login::User, &mut Operation::empty())
            .map_err(|error| format!("opening a session with {ta}: {error}"))
    };
    let (victim, witness, stranger) = (open(ta)?, open(ta)?, open(other)?);
    expect("the victim counts", count(&victim)?, 1)?;
    expect("the witness counts for itself", count(&witness)?, 1)?;
    expect("and goes on", count(&witness)?, 2)?;
    list(&stranger)?;

    dead("the trap", victim.invoke(2, &mut Operation::empty()))?;
    dead("and after it", victim.invoke(1, &mut counter()))?;
    expect("the witness lives and remembers", count(&witness)?, 3)?;
    list(&stranger)?;
    victim.abandon();
    let again = open(ta)?;
    expect("a new instance begins anew", count(&again)?, 1)?;

    cancel(&witness)?;
    expect("and its instance lives on", count(&witness)?, 4)
}

/// A call that waits returns when another thread cancels it.
fn cancel(session: &Session) -> Result<(), String> {
    let mut operation = Operation::empty();
    let canceller = operation.canceller();
    let started = Instant::now();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(CANCELLED_AFTER);
        canceller.cancel();
    });
    let ended = session.invoke(3, &mut operation);
    let _ = thread.join();
    let waited = started.elapsed();
    match ended {
        Err(error) if error.code() == CANCELLED && waited < WAIT => {
            println!("a call that waits is cancelled: it ends");
            Ok(())
        }
        other => Err(format!("cancelled after {waited:?}: {other:?}")),
    }
}

/// Room for the count.
fn counter() -> Operation {
    Operation::new([
        Parameter::ValueOutput,
        Parameter::None,
        Parameter::None,
        Parameter::None,
    ])
}

fn count(session: &Session) -> Result<u32, String> {
    let mut operation = counter();
    session
        .invoke(1, &mut operation)
        .map_err(|error| format!("counting: {error}"))?;
    Ok(operation.value(0).map_or(0, |(a, _)| a))
}

/// The enrolment TA answers.
fn list(session: &Session) -> Result<(), String> {
    let mut operation = Operation::new([
        Parameter::None,
        Parameter::None,
        Parameter::memref_output(4096),
        Parameter::None,
    ]);
    session
        .invoke(6, &mut operation)
        .map_err(|error| format!("the other TA: {error}"))?;
    println!("the other TA answers");
    Ok(())
}

fn expect(what: &str, got: u32, wanted: u32) -> Result<(), String> {
    println!("{what}: {got}");
    if got == wanted {
        Ok(())
    } else {
        Err(format!("{what}: {got}, not {wanted}"))
    }
}

fn dead(what: &str, result: Result<(), Error>) -> Result<(), String> {
    match result {
        Err(error) if error.code() == TARGET_DEAD => {
            println!("{what}: dead, as it must be");
            Ok(())
        }
        Err(error) => Err(format!("{what}: {error}, not that the target is dead")),
        Ok(()) => Err(format!("{what}: no error")),
    }
}
