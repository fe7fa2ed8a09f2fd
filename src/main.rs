//! The daemon and its command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    offshoot::cli::main(std::env::args_os())
}
