//! Which file is read.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::problem::ConfigError;

/// What the process knows of its surroundings. Passed in, so that a test has its own.
#[derive(Clone, Default)]
pub struct Environment {
    /// The user's home directory.
    pub home: Option<PathBuf>,
    /// The environment variables whose names and values are UTF-8.
    pub vars: BTreeMap<String, String>,
}

impl Environment {
    /// That of this process.
    #[must_use]
    pub fn of_process() -> Self {
        let text = |value: std::ffi::OsString| value.into_string().ok();
        let vars = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
        Self { home: std::env::home_dir().filter(|home| !home.as_os_str().is_empty()), vars: vars.collect() }
    }

    /// Where state lives: `OFFSHOOT_STATE_DIR`, else `~/.offshoot`.
    ///
    /// # Errors
    /// [`ConfigError::NoHome`] if neither is known.
    pub fn state_dir(&self) -> Result<PathBuf, ConfigError> {
        match (self.var("OFFSHOOT_STATE_DIR"), &self.home) {
            (Some(dir), _) => Ok(PathBuf::from(dir)),
            (None, Some(home)) => Ok(home.join(".offshoot")),
            (None, None) => Err(ConfigError::NoHome),
        }
    }

    /// A variable's value; an empty one counts as not set.
    #[must_use]
    pub fn var(&self, name: &str) -> Option<&str> {
        self.vars.get(name).filter(|value| !value.is_empty()).map(String::as_str)
    }
}

/// The values may be secrets: only the names are shown.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.vars.keys().collect();
        f.debug_struct("Environment").field("home", &self.home).field("vars", &names).finish()
    }
}

/// Where the configuration comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// `--config PATH`.
    Option(PathBuf),
    /// The variable `OFFSHOOT_CONFIG`.
    Variable(PathBuf),
    /// `offshoot.json` in the state directory.
    State(PathBuf),
    /// No file: the defaults.
    Defaults {
        /// The file that would be read if it existed.
        expected: Option<PathBuf>,
        /// A configuration of OpenClaw that could be read instead.
        openclaw: Option<PathBuf>,
    },
    /// A text that came from no file.
    Text,
}

impl Source {
    /// Finds the file: `explicit`, else `OFFSHOOT_CONFIG`, else `offshoot.json` in the state directory if it exists,
    /// else none.
    ///
    /// # Errors
    /// A file that was named does not exist, or a directory on the way to it may not be looked into.
    pub fn locate(environment: &Environment, explicit: Option<&Path>) -> Result<Self, ConfigError> {
        let named = |path: PathBuf, named_by| {
            if present(&path)? { Ok(path) } else { Err(ConfigError::Missing { path, named_by }) }
        };
        if let Some(path) = explicit {
            return named(path.to_owned(), "--config").map(Self::Option);
        }
        if let Some(path) = environment.var("OFFSHOOT_CONFIG") {
            return named(PathBuf::from(path), "OFFSHOOT_CONFIG").map(Self::Variable);
        }
        let expected = environment.state_dir().ok().map(|state| state.join("offshoot.json"));
        if let Some(path) = &expected
            && present(path)?
        {
            return Ok(Self::State(path.clone()));
        }
        let openclaw = environment.home.as_ref().map(|home| home.join(".openclaw/openclaw.json"));
        Ok(Self::Defaults { expected, openclaw: openclaw.filter(|path| path.is_file()) })
    }

    /// The file, if there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Option(path) | Self::Variable(path) | Self::State(path) => Some(path),
            Self::Defaults { .. } | Self::Text => None,
        }
    }

    /// What a person whose OpenClaw configuration was left alone may want to know.
    #[must_use]
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Defaults { openclaw: Some(path), .. } => Some(format!(
                "no configuration of Offshoot found, so the defaults are used; to use OpenClaw's, pass --config {0} \
                 or set OFFSHOOT_CONFIG={0}",
                path.display()
            )),
            _ => None,
        }
    }
}

/// Whether something is there, be it a link that leads nowhere: reading it says so, instead of taking the defaults.
fn present(path: &Path) -> Result<bool, ConfigError> {
    match path.symlink_metadata() {
        Ok(_) => Ok(true),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
        Err(source) => Err(ConfigError::Unreadable { path: path.to_owned(), source }),
    }
}
