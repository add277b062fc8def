//! The agent of a Tegata device; see `tegata_agent`.

use std::process::ExitCode;

fn main() -> ExitCode {
    end_at_panic();
    tegata_agent::agent_main(std::env::args_os())
}

/// A panic is a fault of this program, and ends it: what the thread held is in nobody's hands, and
/// no other thread may go on with it. Whoever supervises the process starts it anew.
fn end_at_panic() {
    let say = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        say(panic);
        std::process::abort();
    }));
}
