//! `offshoot service`: the gateway under the system's own service manager.

mod manager;
mod unit;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::json;

pub(super) use self::manager::Manager;
use self::manager::Step;
use self::unit::Service;
use super::Global;
use super::args::ServiceCommand;
use super::exit::{Exit, Failure};
use super::output::{hint, note};
use crate::config;

pub(super) fn run(command: &ServiceCommand, global: &Global) -> Result<Exit, Failure> {
    let manager = Manager::of(&global.environment)?;
    match *command {
        ServiceCommand::Install { port, dry_run } => install(&manager, port, dry_run, global),
        ServiceCommand::Uninstall { dry_run } => uninstall(&manager, dry_run, global),
        ServiceCommand::Status => status(&manager, global),
    }
}

fn install(manager: &Manager, port: Option<u16>, dry_run: bool, global: &Global) -> Result<Exit, Failure> {
    // What would fail at each start is better said here.
    config::load(&global.environment, global.config.as_deref())?;
    let service = service(port, global)?;
    let (file, text) = (manager.file(), manager.text(&service));
    let steps = manager.install_steps();
    if dry_run {
        return plan("would write", file, Some(&text), &steps, global);
    }
    write(file, &text).map_err(|error| cannot(&format!("{} cannot be written", file.display()), &error))?;
    tell(global, format_args!("wrote {}", file.display()))?;
    if let Some(missing) = manager.missing() {
        return left_to_do(&missing, file, &steps, global);
    }
    carry_out(&steps, global)?;
    if global.output.json {
        global.output.document(&json!({"status": "installed", "file": file, "commands": shown(&steps)}))?;
    }
    hint(manager.advice());
    Ok(Exit::Ok)
}

fn uninstall(manager: &Manager, dry_run: bool, global: &Global) -> Result<Exit, Failure> {
    let file = manager.file();
    let (before, after) = manager.uninstall_steps();
    let steps: Vec<Step> = before.iter().chain(&after).cloned().collect();
    if dry_run {
        return plan("would remove", file, None, &steps, global);
    }
    if !file.exists() {
        return Err(not_installed(file));
    }
    let missing = manager.missing();
    // Where the manager cannot be reached the file goes all the same, or it could never be removed.
    let stopped = if missing.is_none() { carry_out(&before, global) } else { Ok(()) };
    fs::remove_file(file)
        .map_err(|error| cannot(&format!("{} cannot be removed", file.display()), &error))?;
    tell(global, format_args!("removed {}", file.display()))?;
    stopped?;
    match missing {
        Some(missing) => note(format_args!("{missing}: a service that runs goes on until it is stopped")),
        None => carry_out(&after, global)?,
    }
    if global.output.json {
        global.output.document(&json!({"status": "uninstalled", "file": file, "commands": shown(&steps)}))?;
    }
    Ok(Exit::Ok)
}

fn status(manager: &Manager, global: &Global) -> Result<Exit, Failure> {
    let file = manager.file();
    let installed = file.exists();
    let missing = manager.missing();
    let state = if installed { manager.state() } else { None };
    let active = manager.is_active();
    if global.output.json {
        global.output.document(&json!({
            "installed": installed,
            "active": active,
            "state": state,
            "file": file,
            "manager": manager.name(),
            "managerMissing": missing,
        }))?;
    } else {
        let installed = if installed { "installed" } else { "not installed" };
        global.output.line(format_args!("service  {installed}, {}", file.display()))?;
        if let Some(state) = state {
            global.output.line(format_args!("state    {state}"))?;
        }
        missing.iter().for_each(note);
    }
    Ok(if active { Exit::Ok } else { Exit::Unavailable })
}

/// The gateway as it is to be started: this program, with what it was told where its state is.
fn service(port: Option<u16>, global: &Global) -> Result<Service, Failure> {
    let program = program(global)?;
    let whole = |path: &Path| {
        std::path::absolute(path).map_err(|error| cannot(&format!("{} has no place", path.display()), &error))
    };
    let state_dir = whole(&global.environment.state_dir()?)?;
    let mut arguments = Vec::new();
    if global.environment.var("OFFSHOOT_STATE_DIR").is_some() {
        arguments.extend(["--state-dir".to_owned(), path_text(&state_dir)?]);
    }
    let config =
        global.config.clone().or_else(|| global.environment.var("OFFSHOOT_CONFIG").map(PathBuf::from));
    if let Some(config) = config {
        arguments.extend(["--config".to_owned(), path_text(&whole(&config)?)?]);
    }
    arguments.extend(["gateway", "run"].map(str::to_owned));
    if let Some(port) = port {
        arguments.extend(["--port".to_owned(), port.to_string()]);
    }
    Ok(Service {
        program: path_text(&program)?,
        arguments,
        variables: path_text(&state_dir.join("gateway.env"))?,
        log: path_text(&state_dir.join("gateway.log"))?,
    })
}

/// The path by which this program was called. Where that is a link, the link is kept: a new version is another target.
fn program(global: &Global) -> Result<PathBuf, Failure> {
    let itself = std::env::current_exe()
        .map_err(|error| Failure::system("the path of this program cannot be found out", &error))?;
    let called = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let candidates: Vec<PathBuf> = if called.components().count() > 1 {
        std::path::absolute(&called).into_iter().collect()
    } else {
        let path = global.environment.var("PATH").unwrap_or_default();
        std::env::split_paths(path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(&called)).collect()
    };
    let is_itself = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path == itself);
    Ok(candidates.into_iter().find(is_itself).unwrap_or(itself))
}

fn path_text(path: &Path) -> Result<String, Failure> {
    let text = path.to_str().filter(|text| !text.chars().any(char::is_control));
    text.map(str::to_owned).ok_or_else(|| {
        Failure::usage(format!("a service's file cannot name {}", path.display()))
            .with_hint("use a path of printable UTF-8 characters")
    })
}

fn write(file: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = file.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(file, text)
}

fn carry_out(steps: &[Step], global: &Global) -> Result<(), Failure> {
    for step in steps {
        step.run().map_err(|problem| {
            Failure::new(Exit::Unavailable, "service", format!("{step} failed: {problem}"))
                .with_hint("where no service manager of this user runs, such as in a container, start `offshoot gateway` by hand")
        })?;
        tell(global, format_args!("ran {step}"))?;
    }
    Ok(())
}

/// The file is there, and the rest is for somebody else to do.
fn left_to_do(missing: &str, file: &Path, steps: &[Step], global: &Global) -> Result<Exit, Failure> {
    if global.output.json {
        let document =
            json!({"status": "written", "file": file, "problem": missing, "commands": shown(steps)});
        global.output.document(&document)?;
    }
    note(format_args!("{missing}: nothing was started. What would have been run:"));
    steps.iter().for_each(|step| note(format_args!("  {step}")));
    hint("start `offshoot gateway` by hand, or from whatever starts programs here");
    Ok(Exit::Ok)
}

fn plan(
    verb: &str,
    file: &Path,
    text: Option<&str>,
    steps: &[Step],
    global: &Global,
) -> Result<Exit, Failure> {
    let output = global.output;
    if output.json {
        let document = json!({"status": "planned", "file": file, "content": text, "commands": shown(steps)});
        output.document(&document)?;
        return Ok(Exit::Ok);
    }
    output.line(format_args!("{verb} {}", file.display()))?;
    for line in text.unwrap_or_default().lines() {
        output.line(format_args!("  {line}").to_string().trim_end())?;
    }
    for step in steps {
        output.line(format_args!("would run {step}"))?;
    }
    Ok(Exit::Ok)
}

fn shown(steps: &[Step]) -> Vec<String> {
    steps.iter().map(ToString::to_string).collect()
}

/// A line of what is being done; with `--json` the document says it at the end.
fn tell(global: &Global, line: std::fmt::Arguments<'_>) -> Result<(), Failure> {
    if global.output.json { Ok(()) } else { global.output.line(line) }
}

fn cannot(what: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::Unavailable, "service", format!("{what}: {error}"))
}

fn not_installed(file: &Path) -> Failure {
    Failure::new(
        Exit::NotFound,
        "not_installed",
        format!("there is no service: {} does not exist", file.display()),
    )
}
