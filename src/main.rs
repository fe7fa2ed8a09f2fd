//! The daemon and its command line.

use std::process::ExitCode;

/// An actor's memory is taken by one thread and given back by another, which the C library's allocator answers with
/// locks (docs/decisions/0009).
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    offshoot::cli::main(std::env::args_os())
}
