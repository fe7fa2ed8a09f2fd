//! `offshoot gateway`

mod call;
mod level;
mod notify;
mod restart;
mod run;
mod status;
mod stop;

use super::args::{GatewayArgs, GatewayCommand};
use super::exit::{Exit, Failure};
use super::{Global, on_this_thread, on_threads};

pub(super) fn run(args: GatewayArgs, global: &Global) -> Result<Exit, Failure> {
    match args.command {
        None => on_threads(run::run(&args.run, global)),
        Some(GatewayCommand::Run(args)) => on_threads(run::run(&args, global)),
        Some(GatewayCommand::Status(reach)) => on_this_thread(status::run(&reach, global)),
        Some(GatewayCommand::Stop { timeout }) => on_this_thread(stop::run(timeout, global)),
        Some(GatewayCommand::Restart { timeout }) => on_this_thread(restart::run(timeout, global)),
        Some(GatewayCommand::Health(reach)) => on_this_thread(call::health(&reach, global)),
        Some(GatewayCommand::LogLevel(args)) => on_this_thread(level::run(args, global)),
        Some(GatewayCommand::Call(args)) => on_this_thread(call::run(&args, global)),
    }
}
