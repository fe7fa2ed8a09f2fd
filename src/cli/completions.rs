//! `offshoot completions`

use clap::CommandFactory;

use super::args::{Cli, CompletionsArgs};
use super::exit::{Exit, Failure};
use super::output::Output;

pub(super) fn run(args: &CompletionsArgs, output: Output) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "offshoot", &mut script);
    let script = String::from_utf8_lossy(&script);
    if output.json {
        output.document(&serde_json::json!({"shell": args.shell.to_string(), "script": script}))?;
    } else {
        output.text(script.trim_end())?;
    }
    Ok(Exit::Ok)
}
