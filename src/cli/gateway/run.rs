//! `offshoot gateway run`

use std::io::{self, IsTerminal as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use offshoot_actors::ports::Storage;
use offshoot_actors::types::ModelRef;
use serde_json::json;

use super::super::Global;
use super::super::args::GatewayRunArgs;
use super::super::daemon;
use super::super::exit::{Exit, Failure};
use super::super::live::configuration;
use super::super::output::{hint, note, unless_gone};
use super::super::signals::{Process, Signals};
use super::notify::{self, Notice};
use crate::config::Config;
use crate::gateway::auth::AuthMode;
use crate::gateway::record::{self, Record, Running};
use crate::gateway::{PAGE, Serving, restart, shared_token};
use crate::runtime;
use crate::store::{OpenError, SqliteStorage};
use crate::telemetry;

pub(super) async fn run(args: &GatewayRunArgs, global: &Global) -> Result<Exit, Failure> {
    let mut config = configuration(global)?;
    if let Some(port) = args.port {
        config.gateway.port = port;
    }
    let mut signals = Signals::listen(Process::Gateway)
        .map_err(|error| Failure::system("signals cannot be listened to", &error))?;
    notify::raise_open_files();
    let dir = global.own_state_dir()?;
    let opened = SqliteStorage::open(&dir, runtime::durability(&config));
    let storage = Arc::new(opened.map_err(|error| in_use(error, global))?);
    let token_file = shared_token::ensure(&mut config.gateway.auth, &dir).map_err(|error| {
        Failure::system("the gateway's token cannot be kept in the state directory", &error)
    })?;
    log_on_threads(&config, &dir)?;
    // The restart that it asked for has come.
    restart::forget(&dir);
    let config = Arc::new(config);
    let started = Serving::start(
        Arc::clone(&config),
        runtime::clock(),
        Arc::clone(&storage) as Arc<dyn Storage>,
        dir.clone(),
    )
    .await;
    let serving = match started {
        Ok(serving) => serving,
        Err(error) => {
            storage.close();
            return Err(Failure::new(Exit::Unavailable, "start", error.to_string()));
        }
    };
    let manager = global.environment.var("NOTIFY_SOCKET");
    let exit = match tell(&serving, &config, token_file, global) {
        Err(failure) => Err(failure),
        Ok(()) => {
            notify::tell(manager, Notice::Ready);
            tokio::select! {
                () = serving.ended() => Ok(Exit::Ended),
                _ = signals.first() => Ok(Exit::Ok),
            }
        }
    };
    notify::tell(manager, Notice::Stopping);
    // By the clock of the command that left the mark: that of the tree stands while the machine sleeps.
    match restart::take(&dir, runtime::clock().now()) {
        Some(back_in) => serving.stop_for_restart("gateway restarting", back_in).await,
        None => serving.stop("gateway stopping").await,
    }
    // Last, so that whoever wants it to end finds it until it has; what a killed gateway leaves is not believed.
    record::remove(&dir);
    storage.close();
    exit
}

/// What the daemon says of its work is kept, too, where nobody reads what it writes to standard error, and where somebody
/// reads it slowly nothing waits for that.
fn log_on_threads(config: &Config, dir: &Path) -> Result<(), Failure> {
    if !io::stderr().is_terminal() {
        telemetry::console_behind()
            .map_err(|error| Failure::system("the thread for standard error cannot be started", &error))?;
    }
    let file = config.logging.file_in(dir);
    let level = file.as_ref().map(|_| config.logging.level);
    if let Some(file) = file {
        telemetry::log_to(file)
            .map_err(|error| Failure::system("the log file's thread cannot be started", &error))?;
    }
    Ok(telemetry::configure(config.logging.console, level)?)
}

/// Says which gateway is in the way, if it is one.
fn in_use(error: OpenError, global: &Global) -> Failure {
    match (&error, daemon::running(global)) {
        (OpenError::InUse { dir, .. }, Ok(Running::Gateway(record))) => {
            let text = format!(
                "a gateway has the state directory {}: process {}, at {}",
                dir.display(),
                record.pid,
                record.urls.join(" and ")
            );
            Failure::new(Exit::Unavailable, "in_use", text).with_hint(
                "end it with `offshoot gateway stop`, or give this one another directory with --state-dir and another --port",
            )
        }
        _ => error.into(),
    }
}

/// Lets the commands beside us find the gateway, and says where it is.
fn tell(
    serving: &Serving,
    config: &Config,
    token_file: Option<PathBuf>,
    global: &Global,
) -> Result<(), Failure> {
    let scheme = if config.gateway.tls.is_some() { "wss" } else { "ws" };
    let url = |address: &SocketAddr| format!("{scheme}://{address}");
    let record = Record {
        pid: std::process::id(),
        pid_namespace: record::pid_namespace(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        started_at: runtime::clock().now(),
        urls: serving.addresses().iter().map(url).collect(),
        auth_mode: config.gateway.auth.mode.as_str().to_owned(),
        token_file,
        fingerprint: serving.fingerprint().map_err(|error| Failure::usage(error.to_string()))?,
        grace_ms: record::millis(config.settings.recovery.grace),
    };
    let written = serving.publish(record.clone());
    written.map_err(|error| {
        Failure::new(Exit::Unavailable, "store", format!("the state directory cannot be written to: {error}"))
            .with_hint("`offshoot doctor` says what is wrong with it")
    })?;
    unless_gone(say_ready(&record, global))?;
    if !global.output.json {
        say_what_runs(config);
    }
    Ok(())
}

/// What a person would otherwise find out by a wrong answer, or by an uninvited guest.
fn say_what_runs(config: &Config) {
    let settings = &config.settings;
    let source = config.source.path().map_or_else(
        || "no configuration file, the defaults".to_owned(),
        |path| format!("configuration {}", path.display()),
    );
    let default = settings.agent(&settings.default_agent);
    let model = default.map(|agent| format!("; agent {} uses {}", agent.id, agent.model.primary));
    note(format_args!("gateway: {source}{}", model.unwrap_or_default()));
    if default.is_some_and(|agent| agent.model.primary == ModelRef::rehearsal()) {
        hint(
            "builtin/rehearsal plays back what a message asks for; agents.defaults.model names a real model",
        );
    }
    if config.gateway.auth.mode == AuthMode::None {
        hint("gateway.auth.mode is none: whoever reaches the port may do everything");
    }
}

/// Where a browser finds the operators' page of a gateway.
fn page_at(url: &str) -> Option<String> {
    let rest = url.strip_prefix("ws")?;
    Some(format!("http{}{}/", rest.trim_end_matches('/'), PAGE))
}

fn say_ready(record: &Record, global: &Global) -> Result<(), Failure> {
    let output = global.output;
    if output.json {
        return output.document(&json!({
            "ready": true,
            "urls": record.urls,
            "authMode": record.auth_mode,
            "tokenFile": record.token_file,
            "fingerprint": record.fingerprint,
            "pid": record.pid,
        }));
    }
    output.line(format_args!("gateway: listening at {}", record.urls.join(" and ")))?;
    if let Some(page) = record.urls.first().and_then(|url| page_at(url)) {
        output.line(format_args!("gateway: its tree in a browser: {page}"))?;
    }
    if let Some(file) = &record.token_file {
        output
            .line(format_args!("gateway: clients prove themselves with the token in {}", file.display()))?;
    }
    if let Some(fingerprint) = &record.fingerprint {
        output.line(format_args!("gateway: the certificate's SHA-256 is {fingerprint}"))?;
    }
    Ok(())
}
