//! The store of a state directory on which no tree runs, for commands that change what is stored.

use super::Global;
use super::exit::Failure;
use super::output::hint;
use crate::config::{self, ConfigError};
use crate::runtime;
use crate::store::{Durability, OpenError, SqliteStorage};

/// The store for writing. `cannot` is what a failure says where another process has it.
pub(crate) fn writable(global: &Global, cannot: &str) -> Result<SqliteStorage, Failure> {
    let durability = durability(global)?;
    let dir = global.own_state_dir()?;
    SqliteStorage::open(&dir, durability).map_err(|error| in_use(error, cannot))
}

/// What is stored can be changed under a configuration that nothing could be run with.
fn durability(global: &Global) -> Result<Durability, Failure> {
    match config::load(&global.environment, global.config.as_deref()) {
        Ok(config) => Ok(runtime::durability(&config)),
        Err(ConfigError::Invalid(_)) => {
            hint(
                "the configuration has errors, which `config check` with the same options lists; this command needs none of it",
            );
            Ok(Durability::Full)
        }
        Err(error) => Err(error.into()),
    }
}

/// Whoever has the store executes its runs.
fn in_use(error: OpenError, cannot: &str) -> Failure {
    let pid = match &error {
        OpenError::InUse { pid, .. } => *pid,
        _ => return error.into(),
    };
    let hint = match pid {
        Some(pid) => format!("stop it there: press Ctrl-C in its terminal, or `kill -INT {pid}`"),
        None => "stop it there: press Ctrl-C in its terminal".to_owned(),
    };
    let mut failure = Failure::from(error).with_hint(hint);
    failure.message = format!("{cannot}: {}", failure.message);
    failure
}
