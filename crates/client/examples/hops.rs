//! What each hop to a TA costs: `hops SOCKET TA LABEL [ROUNDS]`, median times. Used by
//! `.ci/keys-perf`; trusts nothing, decides nothing.

use std::time::{Duration, Instant};

use tegata_client::{Context, Error, Login, Operation, Parameter, Session, TaUuid};

fn main() {
    if let Err(problem) = run() {
        eprintln!("hops: {problem}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let mut args = std::env::args().skip(1);
    let mut next = |what: &str| args.next().ok_or(format!("missing: {what}"));
    let socket = next("socket")?;
    let ta: TaUuid = next("TA")?.parse().map_err(|_| "the TA is no UUID")?;
    let label = next("label")?;
    let rounds = next("rounds").map_or(Ok(500), |text| text.parse());
    let rounds: usize = rounds.map_err(|_| "rounds are a number")?;

    let tee = Context::new(socket);
    row(
        "connect, hello and info: teed answers itself, two round trips",
        rounds,
        || tee.info().map(drop),
    )?;
    let open = || tee.open_session(&ta, Login::User, &mut Operation::empty());
    row(
        "a session opened and closed: a worker started, the TA loaded",
        rounds.min(50),
        || open()?.close(),
    )?;
    let session = open().map_err(|error| error.to_string())?;
    // The TA refuses this one at once: what is left is the way there and back.
    row(
        "a call that the TA refuses at once: socket, teed, worker, Wasm",
        rounds,
        || {
            let refused = session.invoke(0xFFFF, &mut Operation::empty());
            match refused {
                Err(Error::Returned { .. }) => Ok(()),
                other => other,
            }
        },
    )?;
    row(
        "GET_PUBLIC_KEY: and the key read from sealed storage",
        rounds,
        || call(&session, 8, &label, Parameter::None),
    )?;
    row("SIGN: and a P-256 signature", rounds, || {
        call(&session, 5, &label, Parameter::memref_input([7; 32]))
    })
}

fn call(session: &Session, command: u32, label: &str, input: Parameter) -> Result<(), Error> {
    let mut operation = Operation::new([
        Parameter::memref_input(label),
        input,
        Parameter::memref_output(256),
        Parameter::None,
    ]);
    session.invoke(command, &mut operation)
}

fn row(
    what: &str,
    rounds: usize,
    mut work: impl FnMut() -> Result<(), Error>,
) -> Result<(), String> {
    let mut took = Vec::with_capacity(rounds);
    for _ in 0..rounds.max(1) {
        let begun = Instant::now();
        work().map_err(|error| format!("{what}: {error}"))?;
        took.push(begun.elapsed());
    }
    took.sort_unstable();
    let at = |share: usize| {
        let found = took.get(took.len().saturating_sub(1) * share / 100);
        found.map_or(0, Duration::as_micros)
    };
    println!("| {what} | {} / {} |", at(50), at(99));
    Ok(())
}
