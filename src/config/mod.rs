//! The configuration: an `offshoot.json`, or an `openclaw.json` as it stands.
//!
//! [`load`] finds the file ([`Source`]), reads it with its includes into a tree that knows where each value stands, and
//! turns what Offshoot acts on into typed values. Every problem is found in one go. A wrong value stops; a key that is
//! unknown or that nothing acts on is a warning, never a reason not to start.

mod agents;
mod check;
mod document;
mod edit;
mod gateway;
mod include;
mod keys;
mod logging;
mod models;
mod otel;
mod parse;
mod problem;
mod providers;
mod read;
pub mod roster;
pub mod schema;
mod source;
mod stamp;
mod tool_names;
mod tools;
mod tree;
mod variables;
mod write;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::policy::cost::{Price, Prices};
use offshoot_actors::policy::retention::KEEP_REQUESTS;
use offshoot_actors::types::{AgentId, ModelRef, Settings};

pub use document::{Document, redacted};
pub use edit::{ConfigFile, EditError, merge_patch, restore};
pub use gateway::{
    Bind, ControlUi, DEFAULT_PORT, Endpoint, GatewaySettings, Hooks, MetricsEndpoint, Reload, Tls,
};
pub use logging::Logging;
pub use models::{Aliases, Named};
pub use otel::Otel;
pub use problem::{ConfigError, Kind, Problem, Severity};
pub use providers::{BUILTIN, Provider, Providers, Unavailable};
pub use source::{Environment, Source};
pub use stamp::Stamps;
pub use write::{keep_private, write_private};

use problem::Problems;
use read::{Cursor, Reader};
use tree::{Files, Node, Place, Value};
use variables::Variables;

/// The longest that runs outlive their session: ten years, or for good.
const MAX_KEEP: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

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
    /// What models cost.
    pub prices: Arc<Prices>,
    /// Short names of models.
    pub aliases: Aliases,
    /// How long a provider may be silent in a call, if the configuration says so; [`Duration::MAX`] is no bound.
    pub idle_timeout: Option<Duration>,
    /// The daemon's door.
    pub gateway: GatewaySettings,
    /// What the daemon logs, and where.
    pub logging: Logging,
    /// Where traces go; none if they go nowhere.
    pub otel: Option<Arc<Otel>>,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// Where the configuration comes from.
    pub source: Source,
    /// Warnings, in the order of the text.
    pub problems: Vec<Problem>,
    /// What the files hold.
    pub document: Document,
    /// The files that the first one includes, at any depth.
    pub included: Vec<PathBuf>,
    /// The files that were read, in the state in which they were.
    pub stamps: Stamps,
    /// What stands for the very content of the first file.
    pub hash: String,
    /// That in which it was read.
    environment: Environment,
}

impl Config {
    /// Reads it again from where it came, in the surroundings of then.
    ///
    /// # Errors
    /// The file is gone, cannot be read, or holds errors.
    pub fn reload(&self) -> Result<Self, ConfigError> {
        self.read_again().0
    }

    /// The same, and the files that decided it: when one of them changes, it is worth another try.
    pub fn read_again(&self) -> (Result<Self, ConfigError>, Stamps) {
        let mut files = Files::default();
        let read = match &self.source {
            Source::Text => Ok(self.clone()),
            Source::Option(path) => load_into(&self.environment, Some(path), &mut files),
            Source::State(path) if path.symlink_metadata().is_err() => {
                Err(ConfigError::Missing { path: path.clone(), named_by: "the configuration in force" })
            }
            Source::State(_) | Source::Variable(_) | Source::Defaults { .. } => {
                load_into(&self.environment, None, &mut files)
            }
        };
        let stamps = match &read {
            Ok(config) => config.stamps.clone(),
            Err(_) if *files.stamps() == Stamps::default() => Stamps::missing(self.first_file()),
            Err(_) => files.stamps().clone(),
        };
        (read, stamps)
    }

    /// Reads a text as if the file held it.
    ///
    /// # Errors
    /// It holds errors.
    pub fn check(&self, file: &ConfigFile, text: &str) -> Result<Self, ConfigError> {
        let mut files = Files::default();
        let mut problems = Problems::default();
        let root = include::read_as(file.path(), text, &mut files, &mut problems)?;
        let source = Source::Option(file.path().to_owned());
        build(root.as_ref(), &files, problems, &self.environment, source)
    }

    /// The models that it names, at most so many.
    #[must_use]
    pub fn models_named(&self, most: usize) -> BTreeSet<String> {
        let settings = &self.settings;
        let agents = settings.agents.values();
        let choices = agents.flat_map(|agent| [Some(&agent.model), agent.subagents.model.as_ref()]);
        let choices = choices.chain([settings.subagents.model.as_ref()]).flatten();
        let chosen = choices.flat_map(|choice| std::iter::once(&choice.primary).chain(&choice.fallbacks));
        let aliased = self.aliases.iter().map(|(_, model)| model);
        let listed = self
            .providers
            .iter()
            .flat_map(|provider| provider.models.iter().map(|model| format!("{}/{}", provider.id, model.id)));
        chosen.chain(aliased).map(ToString::to_string).chain(listed).take(most).collect()
    }

    fn first_file(&self) -> Option<&Path> {
        match &self.source {
            Source::Defaults { expected, .. } => expected.as_deref(),
            source => source.path(),
        }
    }

    /// A path as people write it: `~` is their home.
    #[must_use]
    pub fn expand(&self, path: &str) -> PathBuf {
        match (path.strip_prefix("~/"), &self.environment.home) {
            (Some(rest), Some(home)) => home.join(rest),
            _ => path.into(),
        }
    }
}

/// Reads the configuration: `explicit`, else what [`Source::locate`] finds.
///
/// # Errors
/// A file that was named does not exist, cannot be read, or holds errors.
pub fn load(environment: &Environment, explicit: Option<&Path>) -> Result<Config, ConfigError> {
    load_into(environment, explicit, &mut Files::default())
}

fn load_into(
    environment: &Environment,
    explicit: Option<&Path>,
    files: &mut Files,
) -> Result<Config, ConfigError> {
    let source = Source::locate(environment, explicit)?;
    let mut problems = Problems::default();
    let root = match &source {
        Source::Defaults { expected, .. } => {
            if let Some(path) = expected {
                files.stamp(path, None);
            }
            Some(Node::empty(Place::START))
        }
        source => match source.path() {
            Some(path) => include::read(path, files, &mut problems)?,
            None => Some(Node::empty(Place::START)),
        },
    };
    build(root.as_ref(), files, problems, environment, source)
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
    let document = Document::of(root.node);
    let (included, hash) = (files.included().to_vec(), edit::hash(files.text(0)));
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
    let durability = store(&root, &mut reader, &mut settings).unwrap_or_default();
    let gateway = gateway::read(&root, environment.home.as_deref(), &mut reader);
    let otel = otel::read(&root, &mut reader).map(Arc::new);
    let logging = logging::read(&root, environment.home.as_deref(), &mut reader);

    found.report(&used, &mut problems);
    check_settings(&settings, &root, &mut problems);
    check::keys(root.node, &variables, &mut problems);

    let invalid = problems.any_error();
    let problems = problems.finish(files);
    if invalid {
        return Err(ConfigError::Invalid(problems));
    }
    let free = (ModelRef::rehearsal(), Price::default());
    let (providers, prices) = (found.providers, Arc::new(found.prices.into_iter().chain([free]).collect()));
    let environment = environment.clone();
    Ok(Config {
        settings,
        providers,
        prices,
        aliases,
        idle_timeout,
        gateway,
        logging,
        otel,
        durability,
        source,
        problems,
        document,
        included,
        stamps: files.stamps().clone(),
        hash,
        environment,
    })
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

/// Reads `store`.
fn store(root: &Cursor<'_>, reader: &mut Reader<'_>, settings: &mut Settings) -> Option<Durability> {
    const WORDS: &[(&str, Durability)] = &[("full", Durability::Full), ("normal", Durability::Normal)];
    let store = reader.section(root, "store")?;
    if let Some(keep) = reader.duration_at(&store, "keepRuns", MAX_KEEP) {
        if !keep.is_zero() && keep < KEEP_REQUESTS {
            let text =
                "less than 7d, for which the names of requests are known: use 7d or more, or 0 for good";
            let at = store.get("keepRuns");
            reader.error(at.as_ref().unwrap_or(&store), Kind::Value, text);
        }
        settings.retention.keep_runs = (!keep.is_zero()).then_some(keep);
    }
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
