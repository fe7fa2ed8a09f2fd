//! `offshoot sessions`

mod list;
mod show;

use super::Global;
use super::args::SessionsCommand;
use super::exit::{Exit, Failure};

pub(super) async fn run(command: SessionsCommand, global: &Global) -> Result<Exit, Failure> {
    match command {
        SessionsCommand::List { tree, limit } => list::run(tree, limit, global).await,
        SessionsCommand::Show { key, entries } => show::run(key, entries, global).await,
    }
}
