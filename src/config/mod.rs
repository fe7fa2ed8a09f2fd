//! The configuration: an `offshoot.json`, or an `openclaw.json` as it stands.
//!
//! [`load`] finds the file ([`Source`]), reads it with its includes into a tree that knows where each value stands, and
//! turns what Offshoot acts on into typed values. Every problem is found in one go. A wrong value stops; a key that is
//! unknown or that nothing acts on is a warning, never a reason not to start.

mod agents;
mod check;
mod gateway;
mod include;
mod keys;
mod models;
mod parse;
mod problem;
mod providers;
mod read;
mod source;
mod tool_names;
mod tools;
mod tree;
mod variables;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use offshoot_actors::types::{AgentId, ModelRef, Settings};

pub use gateway::Gateway;
pub use models::{Aliases, Named};
pub use problem::{ConfigError, Kind, Problem, Severity};
pub use providers::{BUILTIN, Provider, Providers, Unavailable};
pub use source::{Environment, Source};

use problem::Problems;
use read::{Cursor, Reader};
use tree::{Files, Node, Place, Value};
use variables::Variables;

/// What an acknowledged write survives (`store.durability`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// The loss of power too.
    #[default]
    Full,
    /// The end of the process, not the loss of power.
    Normal,
}

/// A configuration that can be used.
#[derive(Debug, Clone)]
pub struct Config {
    /// What the actor tree needs. Its values are in their ranges.
    pub settings: Settings,
    /// Where models are served.
    pub providers: Providers,
    /// Short names of models.
    pub aliases: Aliases,
    /// How long a provider may be silent in a call, if the configuration says so; [`Duration::MAX`] is no bound.
    pub idle_timeout: Option<Duration>,
    /// The `gateway` section as it is written.
    pub gateway: Gateway,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// Where the configuration comes from.
    pub source: Source,
    /// Warnings, in the order of the text.
    pub problems: Vec<Problem>,
}

/// Reads the configuration: `explicit`, else what [`Source::locate`] finds.
///
/// # Errors
/// A file that was named does not exist, cannot be read, or holds errors.
pub fn load(environment: &Environment, explicit: Option<&Path>) -> Result<Config, ConfigError> {
    let source = Source::locate(environment, explicit)?;
    let mut files = Files::default();
    let mut problems = Problems::default();
    let root = match source.path() {
        Some(path) => include::read(path, &mut files, &mut problems)?,
        None => Some(Node::empty(Place::START)),
    };
    build(root.as_ref(), &files, problems, environment, source)
}

/// Reads a text; `name` stands for the file in problems. It can include no files.
///
/// # Errors
/// [`ConfigError::Invalid`] if it holds errors.
pub fn load_text(environment: &Environment, name: &str, text: &str) -> Result<Config, ConfigError> {
    let mut files = Files::default();
    let mut problems = Problems::default();
    let root = include::read_text(name, text, &mut files, &mut problems);
    build(root.as_ref(), &files, problems, environment, Source::Text)
}

fn build(
    root: Option<&Node>,
    files: &Files,
    mut problems: Problems,
    environment: &Environment,
    source: Source,
) -> Result<Config, ConfigError> {
    let Some(root) = root.map(Cursor::root) else {
        return Err(ConfigError::Invalid(problems.finish(files)));
    };
    let variables = own_variables(&root, environment, &mut problems);
    let mut reader = Reader { variables: &variables, problems: &mut problems };
    reader.is_object(&root);

    let found = providers::read(&root, &mut reader);
    let (aliases, idle_timeout) = match root.get("agents").as_ref().and_then(|agents| agents.get("defaults"))
    {
        Some(defaults) => {
            (Aliases::read(&defaults, &mut reader), models::idle_timeout(&defaults, &mut reader))
        }
        None => (Aliases::default(), None),
    };
    let mut models = models::Models { aliases: &aliases, providers: &found.providers, used: Vec::new() };
    let mut settings = Settings::with_model(AgentId::main(), ModelRef::rehearsal());
    agents::read(&root, &mut models, &mut reader, &mut settings);
    let used = models.used;

    settings.tools = tools::rules(&root, &mut reader);
    settings.subagents.tools = tools::subagent_rules(&root, &mut reader);
    if let Some(visibility) = tools::visibility(&root, &mut reader) {
        settings.visibility = visibility;
    }
    let durability = durability(&root, &mut reader).unwrap_or_default();

    found.report(&used, &mut problems);
    check_settings(&settings, &root, &mut problems);
    check::keys(root.node, &variables, &mut problems);

    let gateway = Gateway::read(&root, &variables);
    let invalid = problems.any_error();
    let problems = problems.finish(files);
    if invalid {
        return Err(ConfigError::Invalid(problems));
    }
    let providers = found.providers;
    Ok(Config { settings, providers, aliases, idle_timeout, gateway, durability, source, problems })
}

/// The process's variables and those of the `env` block, which are taken as they are written.
fn own_variables<'e>(
    root: &Cursor<'_>,
    environment: &'e Environment,
    problems: &mut Problems,
) -> Variables<'e> {
    let process = Variables::new(&environment.vars);
    let mut all = Variables::new(&environment.vars);
    let mut reader = Reader { variables: &process, problems };
    let Some(block) = reader.section(root, "env") else { return all };
    for (member, cursor) in block.members() {
        if member.name == "vars" && reader.is_object(&cursor) {
            for (member, cursor) in cursor.members() {
                if let Some(value) = reader.raw_text(&cursor) {
                    all.define(&member.name, value);
                }
            }
        } else if !matches!(member.name.as_str(), "vars" | "shellEnv")
            && let Some(value) = reader.raw_text(&cursor)
        {
            all.define(&member.name, value);
        }
    }
    all
}

fn durability(root: &Cursor<'_>, reader: &mut Reader<'_>) -> Option<Durability> {
    const WORDS: &[(&str, Durability)] = &[("full", Durability::Full), ("normal", Durability::Normal)];
    let store = reader.section(root, "store")?;
    reader.word_at(&store, "durability", WORDS)
}

/// Notes what the tree itself says of its settings, at the place of the setting that it names.
fn check_settings(settings: &Settings, root: &Cursor<'_>, problems: &mut Problems) {
    let Err(error) = settings.validate() else { return };
    let mut node = root.node;
    for step in error.path.split('.') {
        let Value::Object(members) = &node.value else { break };
        match members.iter().find(|member| member.name == step) {
            Some(member) => node = &member.node,
            None => break,
        }
    }
    problems.error(node.place, Kind::Value, error.path, error.problem);
}
