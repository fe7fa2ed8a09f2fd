//! `offshoot audit`: the record of what was asked for, by whom, and what was decided.
//!
//! All of it reads the store as it is, without its lock, a page at a time.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use offshoot_actors::ports::{AuditFilter, AuditRow};
use offshoot_actors::types::Origin;
use serde_json::{Value, json};

use super::Global;
use super::args::{AuditCommand, AuditListArgs, Since};
use super::exit::{Exit, Failure};
use super::output::{note, one_line, table};
use super::patience::shown;
use crate::gateway::audit::document;
use crate::runtime;
use crate::store::audit::time;
use crate::store::backup::{BackupError, Partial, Progress};
use crate::store::{
    AuditError, AuditExportError, AuditExported, AuditHash, AuditReader, AuditVerified, OpenError,
};

/// Longest cell of a table.
const MAX_CELL: usize = 100;
/// Characters by which devices are told apart.
const MAX_ID: usize = 12;

pub(super) async fn run(command: AuditCommand, global: &Global) -> Result<Exit, Failure> {
    match command {
        AuditCommand::List(args) => list(args, global).await,
        AuditCommand::Export { since, output } => export(since, output, global),
        AuditCommand::Verify { head } => verify(head, global),
    }
}

async fn list(args: AuditListArgs, global: &Global) -> Result<Exit, Failure> {
    let run = match args.run {
        Some(name) => Some(name.find(global.read_store()?.as_ref()).await?),
        None => None,
    };
    let filter = AuditFilter {
        since: args.since.map(|since| since.before(runtime::clock().now())),
        event: args.event,
        origin: args.origin,
        session: args.session.map(|name| name.key(global)).transpose()?,
        run,
    };
    let filtered = filter != AuditFilter::default();
    let rows = match AuditReader::open(&global.environment.state_dir()?) {
        Ok(reader) => shown(global, move |progress| reader.list(&filter, args.limit, progress))??,
        Err(OpenError::Missing { .. }) => Vec::new(),
        Err(error) => return Err(error.into()),
    };
    if global.output.json {
        let rows: Vec<Value> = rows.iter().map(document).collect();
        global.output.document(&json!({"rows": rows}))?;
    } else if rows.is_empty() {
        note(if filtered { "no such rows in the audit record" } else { "the audit record is empty" });
    } else {
        let head = ["ROW", "TIME", "EVENT", "BY", "SESSION", "RUN", "FACTS"];
        let lines: Vec<Vec<String>> = rows.iter().map(cells).collect();
        for line in table(global.output.paint, &head, &lines) {
            global.output.line(line)?;
        }
    }
    Ok(Exit::Ok)
}

fn cells(row: &AuditRow) -> Vec<String> {
    let facts: Vec<String> = row.facts.iter().map(|(name, fact)| format!("{name}={fact}")).collect();
    vec![
        row.row.to_string(),
        time(row.at),
        one_line(&row.event, MAX_CELL),
        by(row.origin.as_ref()),
        one_line(row.session.as_deref().unwrap_or_default(), MAX_CELL),
        one_line(row.run.as_deref().unwrap_or_default(), MAX_CELL),
        one_line(&facts.join(" "), MAX_CELL),
    ]
}

fn by(origin: Option<&Origin>) -> String {
    match origin {
        Some(Origin::Agent { session, run }) => {
            format!("{} run {run}", one_line(session.as_str(), MAX_CELL))
        }
        Some(Origin::Client { connection, device, .. }) => {
            let device = device.as_deref().map(|device| format!(" device {}", beginning(device)));
            format!("client {connection}{}", device.unwrap_or_default())
        }
        Some(origin) => origin.kind().as_str().to_owned(),
        None => "?".to_owned(),
    }
}

fn beginning(id: &str) -> String {
    id.chars().filter(|c| !c.is_control()).take(MAX_ID).collect()
}

fn verify(head: Option<AuditHash>, global: &Global) -> Result<Exit, Failure> {
    let reader = AuditReader::open(&global.environment.state_dir()?)?;
    let AuditVerified { rows, head, noted } = shown(global, move |progress| reader.verify(head, progress))??;
    let head = head.map(|head| head.to_string());
    if global.output.json {
        let noted = noted.map(|row| json!({"row": row}));
        global.output.document(&json!({"status": "ok", "rows": rows, "head": head, "noted": noted}))?;
        return Ok(Exit::Ok);
    }
    let Some(head) = head else {
        global.output.line("the audit record is empty")?;
        return Ok(Exit::Ok);
    };
    let counted = if rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
    global
        .output
        .line(format_args!("the audit record is whole: {counted}, the last one with the hash {head}"))?;
    if let Some(row) = noted {
        global.output.line(format_args!("row {row} has the hash that was asked for"))?;
    }
    Ok(Exit::Ok)
}

fn export(since: Option<Since>, output: Option<PathBuf>, global: &Global) -> Result<Exit, Failure> {
    let since = since.map(|since| since.before(runtime::clock().now()));
    let reader = AuditReader::open(&global.environment.state_dir()?)?;
    let Some(path) = output else {
        let out = global.output;
        let write = move |progress: &Progress| {
            reader.export(since, progress, |lines| out.text(String::from_utf8_lossy(lines).trim_end()))
        };
        // Lines that come are progress enough.
        let exported = if out.is_terminal() { write(&Progress::default()) } else { shown(global, write)? };
        note(told(&exported.map_err(|error| failed(error, |failure| failure))?));
        return Ok(Exit::Ok);
    };
    let path = std::path::absolute(&path).map_err(|error| unwritable(&path, &error))?;
    if path.try_exists().map_err(|error| unwritable(&path, &error))? {
        return Err(not_written(&path, BackupError::Exists(path.clone())));
    }
    let partial = Partial::beside(&path).map_err(|error| not_written(&path, error))?;
    let opened = OpenOptions::new().write(true).open(&partial.path);
    let mut file: File = opened.map_err(|error| unwritable(&path, &error))?;
    let exported =
        shown(global, move |progress| reader.export(since, progress, |lines| file.write_all(lines)))?;
    let exported = exported.map_err(|error| failed(error, |error| unwritable(&path, &error)))?;
    partial.finish(&path).map_err(|error| not_written(&path, error))?;
    if global.output.json {
        let AuditExported { rows, first, last, head } = exported;
        let document = json!({
            "status": "exported", "file": path, "rows": rows, "first": first, "last": last, "head": head,
        });
        global.output.document(&document)?;
    } else {
        global.output.line(format_args!("{}: {}", path.display(), told(&exported)))?;
    }
    Ok(Exit::Ok)
}

fn told(exported: &AuditExported) -> String {
    match exported {
        AuditExported { rows, first: Some(first), last: Some(last), head: Some(head) } => {
            format!("exported {rows} rows, {first} to {last}, the last one with the hash {head}")
        }
        _ => "no such rows in the audit record".to_owned(),
    }
}

fn failed<E>(error: AuditExportError<E>, sink: impl FnOnce(E) -> Failure) -> Failure {
    match error {
        AuditExportError::Store(error) => error.into(),
        AuditExportError::Sink(error) => sink(error),
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    Failure::usage(format!("{} cannot be written: {error}", path.display()))
}

fn not_written(path: &Path, error: BackupError) -> Failure {
    match error {
        BackupError::Io { error, .. } => unwritable(path, &error),
        error => Failure::usage(error.to_string()),
    }
}

impl From<AuditError> for Failure {
    fn from(error: AuditError) -> Self {
        let broken = |hint| Self::new(Exit::Unavailable, "audit_broken", error.to_string()).with_hint(hint);
        match error {
            AuditError::Broken { .. } => {
                broken("the rows before it are as they were written; compare it with a copy of the store")
            }
            AuditError::Cut { .. } | AuditError::HeadMissing { .. } => broken(
                "the rows that are there fit each other; compare them with a copy of the store, or with an export",
            ),
            AuditError::Open(error) => error.into(),
            AuditError::Store(error) => error.into(),
        }
    }
}
