//! Puts a changed configuration file in force: at once what can be, and the rest is named.
//!
//! A file is read again when its content is another one. A wrong one is reported and the old one stays; so does what
//! only a restart can change, until there is one.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use offshoot_actors::types::{Monotonic, Origin, SettingsError};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::auth::AuthSettings;
use super::daemon::Daemon;
use super::outbox::Close;
use super::shared_token;
use crate::config::{Bind, Config, ConfigError, Document, Logging, Stamps};
use crate::models::SpecError;
use crate::protocol::hello::AuthMethod;
use crate::telemetry;

const AUTH: &str = "gateway.auth";
pub(super) const AUTH_CHANGED: &str = "gateway auth changed";

/// Why a configuration is not in force.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReloadError {
    /// The file is wrong or not there.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A provider cannot work.
    #[error(transparent)]
    Models(#[from] SpecError),
    /// The tree does not take the settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The token that the file lacks cannot be kept.
    #[error("the gateway's token cannot be kept in the state directory: {0}")]
    Token(std::io::Error),
    /// The tree is not there yet.
    #[error("the daemon is starting")]
    Starting,
}

/// What a reload did.
#[derive(Debug, Clone, Default)]
pub(crate) struct Reloaded {
    /// Whether the content had changed.
    pub(crate) changed: bool,
    /// What waits for a restart.
    pub(crate) restart: Vec<&'static str>,
}

/// What is known of the file.
#[derive(Debug, Default)]
pub(crate) struct Reloading {
    /// One reload at a time, and one writer.
    pub(crate) turn: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// The files as they were when they were read last; none while those of the start count.
    stamps: Option<Stamps>,
    /// A later state of them, and since when they are in it: a file that is being written is left alone.
    seen: Option<(Stamps, Monotonic)>,
    restart: Vec<&'static str>,
    problem: Option<String>,
    disabled: bool,
}

/// A file that was read, with what it needs to be in force.
struct Fresh {
    config: Config,
    /// Where its token is, if the daemon made that itself.
    token_file: Option<PathBuf>,
}

impl Reloading {
    /// For the health snapshot.
    pub(crate) fn report(&self) -> Value {
        let known = self.lock();
        let mut report = json!({
            "hotReloadStatus": if known.disabled { "disabled" } else { "active" },
            "restartRequired": known.restart,
        });
        if let Some(problem) = &known.problem {
            report["lastError"] = problem.as_str().into();
        }
        report
    }

    /// Whether the files are others than those in force, and have been for as long as the settings ask.
    fn is_due(&self, config: &Config, now: Monotonic) -> bool {
        let mut known = self.lock();
        known.disabled = !config.gateway.reload.enabled;
        let read = known.stamps.as_ref().unwrap_or(&config.stamps);
        let stamps = read.now();
        if stamps == *read {
            known.seen = None;
            return false;
        }
        let since = match &known.seen {
            Some((seen, since)) if *seen == stamps => *since,
            _ => {
                known.seen = Some((stamps, now));
                now
            }
        };
        !known.disabled && now.since(since) >= config.gateway.reload.debounce
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Daemon {
    /// Looks whether the file was changed, and reads it once it is at rest. Called now and then.
    pub(crate) async fn look_at_file(&self) {
        if self.reloading.is_due(&self.config(), self.clock.monotonic()) {
            let _turn = self.reloading.turn.lock().await;
            let outcome = self.reload(None).await;
            self.say(&outcome);
        }
    }

    /// Reads the file and puts it in force. `keep` is the connection that asked for it: it is not closed, so that it
    /// hears of its success.
    pub(crate) async fn reload(&self, keep: Option<u64>) -> Result<Reloaded, ReloadError> {
        let old = self.config();
        let (read, stamps) = self.read_again(&old).await;
        // Known is what was read: a change since then is one that counts.
        self.reloading.lock().stamps = Some(stamps);
        let outcome = match read {
            Ok(fresh) => self.put_in_force(&old, fresh, keep).await,
            Err(error) => Err(error),
        };
        {
            let mut known = self.reloading.lock();
            known.problem = outcome.as_ref().err().map(ToString::to_string);
            if let Ok(reloaded) = &outcome {
                known.restart.clone_from(&reloaded.restart);
            }
        }
        self.write_vitals();
        outcome
    }

    async fn read_again(&self, old: &Arc<Config>) -> (Result<Fresh, ReloadError>, Stamps) {
        let (config, state_dir) = (Arc::clone(old), self.state_dir.clone());
        let read = move || {
            let (read, stamps) = config.read_again();
            let fresh = read.map_err(ReloadError::from).and_then(|mut config| {
                let token_file = shared_token::ensure(&mut config.gateway.auth, &state_dir);
                let token_file = token_file.map_err(ReloadError::Token)?;
                Ok(Fresh { config, token_file })
            });
            (fresh, stamps)
        };
        tokio::task::spawn_blocking(read).await.unwrap_or_else(|error| {
            (Err(ReloadError::Token(std::io::Error::other(error))), old.stamps.clone())
        })
    }

    async fn put_in_force(
        &self,
        old: &Config,
        fresh: Fresh,
        keep: Option<u64>,
    ) -> Result<Reloaded, ReloadError> {
        let Fresh { config: mut new, token_file } = fresh;
        if new.hash == old.hash && new.document == old.document {
            return Ok(Reloaded { changed: false, restart: self.reloading.lock().restart.clone() });
        }
        let mut restart = self.waits_for_restart(old, &new);
        restart.extend(keep_until_restart(old, &mut new));
        let models = self.models().map(|models| models.made_of(&new)).transpose()?;
        let tree = self.tree().map_err(|_| ReloadError::Starting)?;
        tree.apply(new.settings.clone()).await?;
        if let (Some(live), Some(made)) = (self.models(), models) {
            live.set(made);
        }
        if new.gateway.auth.rate_limit != old.gateway.auth.rate_limit {
            // Who is locked out stays so.
            let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.set_limit(new.gateway.auth.rate_limit);
        }
        self.log_as(&new);
        let stale = stale_methods(&old.gateway.auth, &new.gateway.auth);
        let keeps_auth = restart.contains(&AUTH);
        self.set_config(Arc::new(new));
        self.record_grace();
        if keeps_auth {
            self.record_kept_auth();
        } else {
            self.record_auth(token_file);
        }
        self.hub.close_proved_by(stale, keep, &Close::new(4001, AUTH_CHANGED));
        Ok(Reloaded { changed: true, restart })
    }

    /// The settings, as places in the file, that are others than those in force and that only a restart changes. `old` has
    /// what the daemon started with.
    fn waits_for_restart(&self, old: &Config, new: &Config) -> Vec<&'static str> {
        // A port of the command line is none of the file's, and may be the very one that it names now.
        let port = |config: &Document| config.value().pointer("/gateway/port").cloned();
        let bound = self.bound();
        let is_bound = bound.borrow().iter().any(|address| address.port() == new.gateway.port);
        let is_new = port(&self.started_with) != port(&new.document);
        let bind = match (old.gateway.bind, new.gateway.bind) {
            (Bind::Address(_), Bind::Address(_)) => "gateway.customBindHost",
            _ => "gateway.bind",
        };
        let waits = [
            ("gateway.port", is_new && !is_bound),
            (bind, new.gateway.bind != old.gateway.bind),
            ("gateway.tls", new.gateway.tls != old.gateway.tls),
            ("logging.file", new.logging.is_elsewhere(&old.logging)),
            ("store.durability", new.durability != old.durability),
        ];
        waits.into_iter().filter_map(|(path, waits)| waits.then_some(path)).collect()
    }

    /// Puts the levels of a configuration in force. Where the log is only a restart changes.
    fn log_as(&self, new: &Config) {
        let file = telemetry::levels().file.map(|_| new.logging.level);
        if let Err(error) = telemetry::configure(new.logging.console, file) {
            tracing::warn!(%error, "the log goes on as it was");
        }
    }

    /// Logs what a reload did that nobody asked for.
    fn say(&self, outcome: &Result<Reloaded, ReloadError>) {
        match outcome {
            Ok(Reloaded { changed: false, .. }) => {}
            Ok(Reloaded { restart, .. }) if restart.is_empty() => {
                tracing::info!("the changed configuration is in force");
            }
            Ok(Reloaded { restart, .. }) => tracing::warn!(
                settings = restart.join(", "),
                "the changed configuration is in force, but for settings that wait for a restart"
            ),
            Err(error) => {
                tracing::warn!(%error, "the changed configuration cannot be used; the old one stays in force");
            }
        }
        if let (Ok(Reloaded { changed: true, .. }), Ok(tree)) = (outcome, self.tree()) {
            // Whoever may write the file: nobody said who it was.
            tree.audit("config.reloaded", Origin::Timer, vec![("hash", self.config().hash.clone())]);
        }
        if !matches!(outcome, Ok(Reloaded { changed: false, .. })) {
            self.tell_vitals();
        }
    }
}

/// Puts back what only a restart changes. Returns what else must wait for one because of that.
fn keep_until_restart(old: &Config, new: &mut Config) -> Option<&'static str> {
    // What the listener has is what it keeps.
    new.gateway.port = old.gateway.port;
    new.gateway.bind = old.gateway.bind;
    new.gateway.tls.clone_from(&old.gateway.tls);
    new.durability = old.durability;
    let Logging { file, max_bytes, keep, .. } = old.logging.clone();
    new.logging = Logging { file, max_bytes, keep, ..new.logging.clone() };
    // The file may ask for no proof because it also closes the door to others, which has not happened yet.
    let open = new.gateway.is_open_to_others();
    open.then(|| {
        new.gateway.auth.clone_from(&old.gateway.auth);
        AUTH
    })
}

/// Ways of proof that are no longer what they were.
pub(super) fn stale_methods(old: &AuthSettings, new: &AuthSettings) -> Vec<AuthMethod> {
    let differ = |a: &Option<SecretString>, b: &Option<SecretString>| {
        a.as_ref().map(ExposeSecret::expose_secret) != b.as_ref().map(ExposeSecret::expose_secret)
    };
    let mode = old.mode != new.mode;
    let proxy = old.trusted_proxy != new.trusted_proxy || old.proxies != new.proxies;
    [
        (AuthMethod::None, mode),
        (AuthMethod::Token, mode || differ(&old.token, &new.token)),
        (AuthMethod::Password, mode || differ(&old.password, &new.password)),
        (AuthMethod::TrustedProxy, mode || proxy),
    ]
    .into_iter()
    .filter_map(|(method, stale)| stale.then_some(method))
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::auth::AuthMode;
    use super::*;
    use crate::config::{Environment, load_text};

    fn config(text: &str) -> Config {
        load_text(&Environment::default(), "offshoot.json", text).unwrap()
    }

    #[test]
    fn a_listener_that_others_reach_keeps_its_proof_until_the_restart_that_closes_it() {
        let lan = config("{ gateway: { bind: 'lan', auth: { token: 't' } } }");
        let mut new = config("{ gateway: { bind: 'loopback', auth: { mode: 'none' } } }");
        assert_eq!(keep_until_restart(&lan, &mut new), Some("gateway.auth"));
        assert_eq!((new.gateway.bind, new.gateway.auth.mode), (Bind::Lan, AuthMode::Token));
        assert_eq!(new.gateway.auth.token.unwrap().expose_secret(), "t");
        let here = config("{ gateway: { auth: { token: 't' } } }");
        let mut new = config("{ gateway: { auth: { mode: 'none' } } }");
        assert_eq!(keep_until_restart(&here, &mut new), None);
        assert_eq!(new.gateway.auth.mode, AuthMode::None);
        let mut new = config("{ gateway: { bind: 'lan', auth: { token: 'u' } } }");
        assert_eq!(keep_until_restart(&here, &mut new), None);
        assert_eq!((new.gateway.bind, new.gateway.auth.mode), (Bind::Loopback, AuthMode::Token));
    }

    #[test]
    fn only_the_ways_of_proof_that_changed_are_stale() {
        let with =
            |mode, token: &str| AuthSettings { mode, token: Some(token.into()), ..AuthSettings::default() };
        let old = with(AuthMode::Token, "one");
        assert_eq!(stale_methods(&old, &with(AuthMode::Token, "one")), []);
        assert_eq!(stale_methods(&old, &with(AuthMode::Token, "two")), [AuthMethod::Token]);
        let all = stale_methods(&old, &with(AuthMode::None, "one"));
        assert!(all.contains(&AuthMethod::Token) && all.contains(&AuthMethod::None), "{all:?}");
        assert!(!all.contains(&AuthMethod::DeviceToken));
    }
}
