//! The software TEE of a Tegata device; see `tegata_platform::software`.

use std::process::ExitCode;

use tegata_platform::software;

fn main() -> ExitCode {
    end_at_panic();
    software::reexec().unwrap_or_else(|| software::teed_main(std::env::args_os()))
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
