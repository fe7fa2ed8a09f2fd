//! `offshoot sessions`

mod delete;
mod list;
mod show;

use offshoot_actors::types::{Refusal, SessionKey};

use super::Global;
use super::args::SessionsCommand;
use super::exit::{Exit, Failure};

pub(super) async fn run(command: SessionsCommand, global: &Global) -> Result<Exit, Failure> {
    match command {
        SessionsCommand::List { tree, limit } => list::run(tree, limit, global).await,
        SessionsCommand::Show { key, entries } => show::run(key, entries, global).await,
        SessionsCommand::Delete { key, yes } => delete::run(key, yes, global).await,
    }
}

fn unknown(key: &SessionKey) -> Failure {
    Refusal::unknown_session(key).into()
}
