//! The `patgate` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    patgate::cli::run()
}
