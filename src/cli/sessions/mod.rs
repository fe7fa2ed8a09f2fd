//! `offshoot sessions`

mod delete;
mod list;
mod show;

use offshoot_actors::types::SessionKey;

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
    Failure::new(Exit::NotFound, "unknown_session", format!("there is no session {key}"))
        .with_hint("list the sessions with `offshoot sessions list`")
}
