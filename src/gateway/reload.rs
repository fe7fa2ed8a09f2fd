//! Puts a changed configuration file in force: at once what can be, and the rest is named.
//!
//! A file is read again when its content is another one. A wrong one is reported and the old one stays; so does what
//! only a restart can change, until there is one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use offshoot_actors::types::SettingsError;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};

use super::auth::AuthSettings;
use super::daemon::Daemon;
use super::outbox::Close;
use super::shared_token;
use crate::config::{Config, ConfigError};
use crate::models::SpecError;
use crate::protocol::hello::AuthMethod;

/// Settings that take a restart, as places in the file.
const AT_RESTART: &[&str] =
    &["gateway.port", "gateway.bind", "gateway.customBindHost", "gateway.tls", "store.durability"];
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
    /// The files as they were when they were looked at last.
    stamp: Option<Stamp>,
    /// The same, a look ago: a file that is being written is left alone.
    seen: Option<Stamp>,
    restart: Vec<&'static str>,
    problem: Option<String>,
    disabled: bool,
}

/// When each of the files was written, and how long it is. A file that is gone has none.
type Stamp = Vec<Option<(SystemTime, u64)>>;

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

    fn lock(&self) -> std::sync::MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Daemon {
    /// Looks whether the file was changed, and reads it once it is at rest. Called now and then.
    pub(crate) async fn look_at_file(&self) {
        let config = self.config();
        let enabled = config.gateway.reload.enabled;
        let stamp = stamp(&config);
        let changed = {
            let mut known = self.reloading.lock();
            known.disabled = !enabled;
            let at_rest = known.seen.as_ref() == Some(&stamp);
            known.seen = Some(stamp.clone());
            match &known.stamp {
                // The first look: what was read at the start counts.
                None => {
                    known.stamp = Some(stamp);
                    false
                }
                Some(before) => at_rest && *before != stamp,
            }
        };
        if changed && enabled {
            let _turn = self.reloading.turn.lock().await;
            let outcome = self.reload(None).await;
            self.say(&outcome);
        }
    }

    /// Reads the file and puts it in force. `keep` is the connection that asked for it: it is not closed, so that it
    /// hears of its success.
    pub(crate) async fn reload(&self, keep: Option<u64>) -> Result<Reloaded, ReloadError> {
        let old = self.config();
        self.reloading.lock().stamp = Some(stamp(&old));
        let outcome = match self.read_again(&old).await {
            Ok(new) => self.put_in_force(&old, new, keep).await,
            Err(error) => Err(error),
        };
        {
            let mut known = self.reloading.lock();
            known.problem = outcome.as_ref().err().map(ToString::to_string);
            if let Ok(reloaded) = &outcome {
                known.restart.clone_from(&reloaded.restart);
            }
            known.stamp = Some(stamp(&self.config()));
        }
        self.write_vitals();
        outcome
    }

    async fn read_again(&self, old: &Arc<Config>) -> Result<Config, ReloadError> {
        let (old, state_dir) = (Arc::clone(old), self.state_dir.clone());
        let read = move || -> Result<Config, ReloadError> {
            let mut new = old.reload()?;
            shared_token::ensure(&mut new.gateway.auth, &state_dir).map_err(ReloadError::Token)?;
            Ok(new)
        };
        tokio::task::spawn_blocking(read)
            .await
            .unwrap_or_else(|error| Err(ReloadError::Token(std::io::Error::other(error))))
    }

    async fn put_in_force(
        &self,
        old: &Config,
        mut new: Config,
        keep: Option<u64>,
    ) -> Result<Reloaded, ReloadError> {
        if new.hash == old.hash && new.document == old.document {
            return Ok(Reloaded { changed: false, restart: self.reloading.lock().restart.clone() });
        }
        let mut restart = self.waits_for_restart(&new);
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
        let stale = stale_methods(&old.gateway.auth, &new.gateway.auth);
        self.set_config(Arc::new(new));
        self.hub.close_where(&Close::new(4001, AUTH_CHANGED), |client| {
            stale.contains(&client.method) && Some(client.number) != keep
        });
        Ok(Reloaded { changed: true, restart })
    }

    /// The settings that are others than at the start, and that only a restart changes.
    fn waits_for_restart(&self, new: &Config) -> Vec<&'static str> {
        let at = |document: &Value, path: &str| {
            document.pointer(&format!("/{}", path.replace('.', "/"))).cloned().unwrap_or_default()
        };
        let (started, new) = (self.started_with.value(), new.document.value());
        AT_RESTART.iter().copied().filter(|path| at(started, path) != at(new, path)).collect()
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

fn stamp(config: &Config) -> Stamp {
    let files = config.watched();
    let of = |path: &std::path::PathBuf| {
        let metadata = path.metadata().ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::super::auth::AuthMode;
    use super::*;
    use crate::config::{Bind, Environment, load_text};

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
