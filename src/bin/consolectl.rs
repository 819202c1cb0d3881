//! The client: administer the ports, become the console of one, or see how they do.

use std::process::ExitCode;

fn main() -> ExitCode {
    consoleserver::cli::main()
}
