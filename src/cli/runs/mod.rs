//! `offshoot runs`

mod cancel;
mod list;
mod show;
mod tail;

use offshoot_actors::types::{Refusal, RunId};

use super::Global;
use super::args::RunsCommand;
use super::exit::{Exit, Failure};

pub(super) async fn run(command: RunsCommand, global: &Global) -> Result<Exit, Failure> {
    match command {
        RunsCommand::List(args) => list::run(args, global).await,
        RunsCommand::Show { id } => show::run(id, global).await,
        RunsCommand::Cancel { id } => cancel::run(id, global).await,
        RunsCommand::Tail { id } => tail::run(id, global).await,
    }
}

fn unknown(run: RunId) -> Failure {
    Refusal::unknown_run(run).into()
}
