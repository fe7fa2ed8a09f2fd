//! `offshoot sessions`

mod delete;
mod export;
mod list;
mod show;

use offshoot_actors::types::{Refusal, SessionKey};

use super::Global;
use super::args::SessionsCommand;
use super::exit::{Exit, Failure};
use crate::archive::file_of;

pub(super) async fn run(command: SessionsCommand, global: &Global) -> Result<Exit, Failure> {
    match command {
        SessionsCommand::List { archived: true, limit, .. } => list::archived(limit, global),
        SessionsCommand::List { tree, limit, .. } => list::run(tree, limit, global).await,
        SessionsCommand::Export { key, output } => export::run(key, output, global).await,
        SessionsCommand::Show { key, entries } => show::run(key, entries, global).await,
        SessionsCommand::Delete { key, yes } => delete::run(key, yes, global).await,
    }
}

/// There is no such session in the store.
fn absent(key: &SessionKey, global: &Global) -> Failure {
    let archived = global.environment.state_dir().map(|dir| file_of(&dir, key)).ok();
    match archived.filter(|file| file.is_file()) {
        Some(file) => Failure::new(
            Exit::NotFound,
            "session_archived",
            format!("session {key} was archived: {}", file.display()),
        )
        .with_hint("`offshoot sessions export` with its key prints it"),
        None => unknown(key),
    }
}

fn unknown(key: &SessionKey) -> Failure {
    Refusal::unknown_session(key).into()
}
