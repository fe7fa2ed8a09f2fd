//! The command line. One file per command; what they share stands beside them.

mod abandoned;
mod args;
mod audit;
mod backup;
mod completions;
mod config;
mod daemon;
mod deliveries;
mod devices;
mod doctor;
mod events;
mod exit;
mod gateway;
mod journal;
mod live;
mod names;
mod offline;
mod output;
mod pairing;
mod patience;
mod progress;
mod pulse;
mod remote;
mod run;
mod runs;
mod service;
mod sessions;
mod signals;
mod spawn;
mod store;
mod top;
mod transcript;
mod tree;
mod view;
mod watch;

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

pub use self::args::Cli;
use self::args::{Color, Command};
pub use self::exit::Exit;
use self::exit::Failure;
use self::output::{Output, Paint};
use self::pulse::Pulse;
use crate::config::Environment;
use crate::store::{OpenError, SqliteStorage, make_private};
use crate::telemetry;

/// How long the last lines of the log may take to reach the disk.
const LAST_LINES_WITHIN: Duration = Duration::from_secs(1);
/// How long threads that still work may take to end.
const THREADS_END_WITHIN: Duration = Duration::from_secs(2);

/// What every command is told.
#[derive(Debug)]
struct Global {
    environment: Environment,
    config: Option<PathBuf>,
    verbose: bool,
    output: Output,
}

impl Global {
    /// Whether the state directory can be one.
    fn check_state_dir(&self) -> Result<(), Failure> {
        let dir = self.environment.state_dir()?;
        let is_other = match dir.metadata() {
            Ok(found) => !found.is_dir(),
            Err(error) => error.kind() == ErrorKind::NotADirectory,
        };
        if !is_other {
            return Ok(());
        }
        Err(Failure::usage(format!("the state directory {} is not a directory", dir.display())).with_hint(
            "name a directory with --state-dir or OFFSHOOT_STATE_DIR; one that is missing is made",
        ))
    }

    /// The state directory, for writing. The usual one is the program's own and so made private if it is not,
    /// for example because somebody made it for a configuration; one that was named may have other uses.
    fn own_state_dir(&self) -> Result<PathBuf, Failure> {
        let dir = self.environment.state_dir()?;
        if self.environment.var("OFFSHOOT_STATE_DIR").is_none()
            && let Err(error) = make_private(&dir, 0o700)
        {
            tracing::warn!(dir = %dir.display(), %error, "the state directory cannot be made private");
        }
        Ok(dir)
    }

    /// The store for reading, if there is one yet.
    fn read_store(&self) -> Result<Option<SqliteStorage>, Failure> {
        match SqliteStorage::open_read_only(&self.environment.state_dir()?) {
            Ok(storage) => Ok(Some(storage)),
            Err(OpenError::Missing { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Runs the command that `arguments` ask for, the program's name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let json = arguments.iter().any(|argument| argument == "--json");
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return not_a_command(&error, json).into(),
    };
    match cli.global.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    let mut environment = Environment::of_process();
    if let Some(dir) = &cli.global.state_dir {
        environment.vars.insert("OFFSHOOT_STATE_DIR".to_owned(), dir.clone());
    }
    let output = Output::new(cli.global.json);
    let global = Global { environment, config: cli.global.config, verbose: cli.global.verbose, output };
    let filter = cli.global.log.as_deref().or_else(|| global.environment.var("OFFSHOOT_LOG"));
    let done = telemetry::install(filter, Paint::stderr().colors())
        .map_err(Failure::from)
        .and_then(|()| dispatch(cli.command, &global));
    telemetry::flush(LAST_LINES_WITHIN);
    match done {
        Ok(exit) => exit.into(),
        // Whoever read the output has seen enough.
        Err(failure) if failure.is_broken_pipe() => Exit::Ok.into(),
        Err(failure) => {
            output::report(&failure, output);
            failure.exit.into()
        }
    }
}

/// Help that was asked for, or what is wrong with the command line.
fn not_a_command(error: &clap::Error, json: bool) -> Exit {
    // Nothing is left to do about a text that cannot be written.
    _ = error.print();
    if !error.use_stderr() {
        return Exit::Ok;
    }
    if json {
        let text = error.to_string();
        let text = text.split("\n\n").next().unwrap_or_default();
        let problem = text.strip_prefix("error: ").unwrap_or(text).trim_end();
        output::document(&Failure::usage(problem).with_hint("`offshoot --help` lists the commands"));
    }
    Exit::Usage
}

fn dispatch(command: Command, global: &Global) -> Result<Exit, Failure> {
    if !matches!(command, Command::Config(_) | Command::Completions(_)) {
        global.check_state_dir()?;
    }
    match command {
        Command::Spawn(spawn) => on_threads(spawn::run(spawn, global)),
        Command::Run(run) => on_threads(run::run(run, global)),
        Command::Gateway(args) => gateway::run(args, global),
        Command::Deliveries(command) => on_this_thread(deliveries::run(command, global)),
        Command::Devices(command) => on_this_thread(devices::run(command, global)),
        Command::Pairing(command) => pairing::run(command, global),
        Command::Service(command) => service::run(&command, global),
        Command::Runs(command) => on_this_thread(runs::run(command, global)),
        Command::Sessions(command) => on_this_thread(sessions::run(command, global)),
        Command::Tree(args) => on_this_thread(tree::run(args, global)),
        Command::Top(args) => on_this_thread(top::run(args, global)),
        Command::Events(args) => on_this_thread(events::run(args, global)),
        Command::Store(command) => store::run(&command, global),
        Command::Audit(command) => on_this_thread(audit::run(command, global)),
        Command::Backup(command) => backup::run(command, global),
        Command::Doctor(args) => doctor::run(&args, global),
        Command::Config(command) => config::run(command, global),
        Command::Completions(completions) => completions::run(&completions, global.output),
    }
}

/// Runs work that keeps several actors busy. Few threads, because what takes long here is waited for.
fn on_threads(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let threads = std::thread::available_parallelism().map_or(2, |threads| threads.get().clamp(2, 4));
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = start(builder.worker_threads(threads))?;
    let pulse = Pulse::of(runtime.handle().clone()).map_err(no_threads)?;
    let done = runtime.block_on(work);
    drop(pulse);
    // One that is held up is left behind: nobody would see the end otherwise.
    runtime.shutdown_timeout(THREADS_END_WITHIN);
    done
}

fn on_this_thread(work: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    start(&mut tokio::runtime::Builder::new_current_thread())?.block_on(work)
}

fn start(builder: &mut tokio::runtime::Builder) -> Result<tokio::runtime::Runtime, Failure> {
    builder.enable_all().build().map_err(no_threads)
}

fn no_threads(error: std::io::Error) -> Failure {
    Failure::system("the program's threads cannot be started", &error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_is_held_up_does_not_keep_the_program_from_its_end() {
        let (hold, held) = std::sync::mpsc::channel::<()>();
        let (tell, told) = tokio::sync::oneshot::channel();
        let work = async move {
            tokio::spawn(async move {
                tell.send(()).unwrap();
                _ = held.recv();
            });
            told.await.unwrap();
            Ok(Exit::Ok)
        };
        assert!(on_threads(work).is_ok());
        drop(hold);
    }
}
