//! The system's service manager, and the commands that it takes.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::super::exit::{Exit, Failure};
use super::unit::{self, Service};
use crate::config::{ConfigError, Environment};

const UNIT: &str = "offshoot-gateway.service";
const LABEL: &str = "dev.offshoot.gateway";

/// Which one this system has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Systemd,
    Launchd,
}

/// The service manager of this user.
#[derive(Debug)]
pub(in crate::cli) struct Manager {
    kind: Kind,
    file: PathBuf,
    /// The user's number, for launchd.
    user: u32,
    /// Where programs are looked for.
    path: Option<String>,
}

/// A command, as a person would type it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step(Vec<String>);

impl Step {
    fn of(words: &[&str]) -> Self {
        Self(words.iter().map(|&word| word.to_owned()).collect())
    }

    /// Runs it; an error is what it said, or why it could not be run.
    pub(super) fn run(&self) -> Result<String, String> {
        let [program, arguments @ ..] = self.0.as_slice() else { return Ok(String::new()) };
        let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
        let output = output.map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            return Ok(text(&output.stdout));
        }
        let said = text(&output.stderr);
        Err(if said.is_empty() { output.status.to_string() } else { said })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(" "))
    }
}

impl Manager {
    /// The one of this system.
    pub(in crate::cli) fn of(environment: &Environment) -> Result<Self, Failure> {
        let home = environment.home.clone().ok_or(ConfigError::NoHome)?;
        let (kind, file) = match std::env::consts::OS {
            "linux" => {
                let config =
                    environment.var("XDG_CONFIG_HOME").map_or_else(|| home.join(".config"), PathBuf::from);
                (Kind::Systemd, config.join("systemd/user").join(UNIT))
            }
            "macos" => (Kind::Launchd, home.join("Library/LaunchAgents").join(format!("{LABEL}.plist"))),
            other => {
                return Err(Failure::new(
                    Exit::Unavailable,
                    "service",
                    format!("no service manager of {other} is supported"),
                )
                .with_hint("start `offshoot gateway` from whatever starts programs here"));
            }
        };
        let user = rustix::process::getuid().as_raw();
        Ok(Self { kind, file, user, path: environment.var("PATH").map(str::to_owned) })
    }

    pub(super) const fn name(&self) -> &'static str {
        match self.kind {
            Kind::Systemd => "systemd",
            Kind::Launchd => "launchd",
        }
    }

    /// The file that describes the service.
    pub(super) fn file(&self) -> &Path {
        &self.file
    }

    pub(super) fn text(&self, service: &Service) -> String {
        match self.kind {
            Kind::Systemd => unit::systemd(service),
            Kind::Launchd => unit::launchd(service, LABEL),
        }
    }

    const fn program(&self) -> &'static str {
        match self.kind {
            Kind::Systemd => "systemctl",
            Kind::Launchd => "launchctl",
        }
    }

    /// What is missing for it to be asked at all.
    pub(super) fn missing(&self) -> Option<String> {
        let dirs = self.path.as_deref().map(std::env::split_paths);
        let found = dirs.into_iter().flatten().any(|dir| dir.join(self.program()).is_file());
        (!found).then(|| format!("{} is not there", self.program()))
    }

    fn domain(&self) -> String {
        format!("gui/{}", self.user)
    }

    fn target(&self) -> String {
        format!("{}/{LABEL}", self.domain())
    }

    fn systemctl(words: &[&str]) -> Step {
        Step::of(&[&["systemctl", "--user"], words].concat())
    }

    pub(super) fn install_steps(&self) -> Vec<Step> {
        match self.kind {
            // A service that runs already is started anew, with what the file says now.
            Kind::Systemd => vec![
                Self::systemctl(&["daemon-reload"]),
                Self::systemctl(&["enable", UNIT]),
                Self::systemctl(&["restart", UNIT]),
            ],
            Kind::Launchd => {
                let file = self.file.display().to_string();
                vec![Step::of(&["launchctl", "bootstrap", &self.domain(), &file])]
            }
        }
    }

    /// What is run before the file is removed, and after.
    pub(super) fn uninstall_steps(&self) -> (Vec<Step>, Vec<Step>) {
        match self.kind {
            Kind::Systemd => (
                vec![Self::systemctl(&["disable", "--now", UNIT])],
                vec![Self::systemctl(&["daemon-reload"])],
            ),
            Kind::Launchd => (vec![Step::of(&["launchctl", "bootout", &self.target()])], Vec::new()),
        }
    }

    /// The service's state in the manager's own words.
    pub(super) fn state(&self) -> Option<String> {
        if self.missing().is_some() {
            return None;
        }
        match self.kind {
            Kind::Systemd => {
                let properties = "--property=ActiveState,SubState,MainPID";
                let shown = Self::systemctl(&["show", properties, UNIT]).run();
                Some(shown.map_or_else(|problem| problem, |text| text.lines().collect::<Vec<_>>().join(" ")))
            }
            Kind::Launchd => {
                let printed = Step::of(&["launchctl", "print", &self.target()]).run();
                Some(printed.map_or_else(
                    |problem| problem,
                    |text| {
                        let lines = text.lines().map(str::trim);
                        let told =
                            lines.filter(|line| line.starts_with("state =") || line.starts_with("pid ="));
                        told.collect::<Vec<_>>().join(", ")
                    },
                ))
            }
        }
    }

    /// Whether the service is installed and runs.
    pub(in crate::cli) fn is_active(&self) -> bool {
        if !self.file.exists() || self.missing().is_some() {
            return false;
        }
        match self.kind {
            Kind::Systemd => Self::systemctl(&["is-active", "--quiet", UNIT]).run().is_ok(),
            Kind::Launchd => self.state().is_some_and(|state| state.contains("state = running")),
        }
    }

    /// Has the manager start the service anew.
    pub(in crate::cli) fn restart(&self) -> Result<(), Failure> {
        let step = match self.kind {
            Kind::Systemd => Self::systemctl(&["restart", UNIT]),
            Kind::Launchd => Step::of(&["launchctl", "kickstart", "-k", &self.target()]),
        };
        let failed =
            |problem| Failure::new(Exit::Unavailable, "service", format!("{step} failed: {problem}"));
        step.run().map(drop).map_err(failed)
    }

    /// What a person should know of a service that was installed.
    pub(super) const fn advice(&self) -> &'static str {
        match self.kind {
            Kind::Systemd => {
                "the service does not see the variables of your shell: write what it needs, such as keys, into gateway.env \
                 in the state directory as NAME=value, or into the configuration. `loginctl enable-linger` lets it run \
                 while you are not logged in"
            }
            Kind::Launchd => {
                "the service does not see the variables of your shell: write what it needs, such as keys, into the \
                 configuration"
            }
        }
    }
}
