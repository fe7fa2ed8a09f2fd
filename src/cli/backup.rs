//! `offshoot backup`

use std::path::Path;

use offshoot_actors::ports::StoreError;
use serde_json::json;

use super::args::BackupCommand;
use super::exit::{Exit, Failure};
use super::patience::shown;
use super::{Global, daemon};
use crate::gateway::record::Running;
use crate::store::OpenError;
use crate::store::backup::{self, BackupError, Contents, Progress};

pub(super) fn run(command: BackupCommand, global: &Global) -> Result<Exit, Failure> {
    let dir = global.environment.state_dir()?;
    match command {
        BackupCommand::Create { file } => {
            let work = move |progress: &Progress| backup::create(&dir, file.as_deref(), progress);
            let (file, contents) = shown(global, work)?.map_err(|error| failure(error, global))?;
            tell("created", &file, &contents, global)?;
        }
        BackupCommand::Verify { file } => {
            let named = file.clone();
            let work = move |progress: &Progress| backup::verify(&named, progress);
            let contents = shown(global, work)?.map_err(|error| failure(error, global))?;
            tell("whole", &file, &contents, global)?;
        }
        BackupCommand::Restore { file } => {
            let named = file.clone();
            let dir = global.own_state_dir()?;
            let work = move |progress: &Progress| backup::restore(&dir, &named, progress);
            let restored = shown(global, work)?.map_err(|error| failure(error, global))?;
            if global.output.json {
                global.output.document(&json!({
                    "status": "restored",
                    "file": file,
                    "contents": restored.contents,
                    "replaced": restored.replaced,
                }))?;
            } else {
                told("restored", &file, &restored.contents, global)?;
                if let Some(replaced) = &restored.replaced {
                    let line = format_args!("the database that was there is now {}", replaced.display());
                    global.output.line(line)?;
                }
            }
        }
    }
    Ok(Exit::Ok)
}

fn tell(status: &str, file: &Path, contents: &Contents, global: &Global) -> Result<(), Failure> {
    if global.output.json {
        return global.output.document(&json!({"status": status, "file": file, "contents": contents}));
    }
    told(status, file, contents, global)
}

fn told(status: &str, file: &Path, contents: &Contents, global: &Global) -> Result<(), Failure> {
    let Contents { schema, bytes, sessions, entries, runs, open_runs, undelivered, audit_rows } = contents;
    let output = global.output;
    output.line(format_args!(
        "{status}: {} ({} KiB, schema version {schema})",
        file.display(),
        bytes.div_ceil(1024)
    ))?;
    output.line(format_args!(
        "sessions {sessions}, entries {entries}, runs {runs} ({open_runs} open), results on their way {undelivered}, audit rows {audit_rows}"
    ))
}

fn failure(error: BackupError, global: &Global) -> Failure {
    let text = error.to_string();
    match error {
        BackupError::Open(OpenError::InUse { dir, pid }) => in_use(&dir, pid, global),
        BackupError::Open(error @ OpenError::Damaged { .. }) => {
            Failure::new(Exit::Found, "damaged", error.to_string())
        }
        BackupError::Open(error) => error.into(),
        BackupError::Missing(_) => Failure::new(Exit::NotFound, "no_backup", text)
            .with_hint("copies without a name of their own are in `backups` of the state directory"),
        BackupError::Exists(_) | BackupError::Name(_) => Failure::usage(text),
        BackupError::Broken { .. } | BackupError::Audit { .. } => {
            Failure::new(Exit::Found, "damaged", text).with_hint("use an earlier copy")
        }
        BackupError::Store { error: StoreError::Damaged(_), .. } => {
            Failure::new(Exit::Found, "damaged", text)
        }
        BackupError::Store { .. } | BackupError::Io { .. } => Failure::new(Exit::Unavailable, "store", text),
    }
}

fn in_use(dir: &Path, pid: Option<u32>, global: &Global) -> Failure {
    let who = match (daemon::running(global), pid) {
        (Ok(Running::Gateway(record)), _) => {
            format!("the gateway at {}, process {}", record.urls.join(" and "), record.pid)
        }
        (_, Some(pid)) => format!("process {pid}"),
        _ => "another process".to_owned(),
    };
    let text = format!("nothing was restored: the state directory {} is in use by {who}", dir.display());
    Failure::new(Exit::Unavailable, "in_use", text)
        .with_hint("end a gateway with `offshoot gateway stop`, then restore, then start it again")
}
