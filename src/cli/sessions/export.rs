//! `offshoot sessions export`

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use offshoot_actors::ports::{SessionRow, Storage};
use offshoot_actors::types::SessionKey;
use serde_json::json;

use super::super::Global;
use super::super::exit::{Exit, Failure};
use super::super::names::SessionName;
use super::super::output::Output;
use super::absent;
use crate::archive::{Lines, file_of};
use crate::runtime;
use crate::store::SqliteStorage;

pub(super) async fn run(
    name: SessionName,
    output: Option<PathBuf>,
    global: &Global,
) -> Result<Exit, Failure> {
    let key = name.key(global)?;
    let stored = match global.read_store()? {
        Some(storage) => storage.session(key.clone()).await?.map(|row| (storage, row)),
        None => None,
    };
    let archived = file_of(&global.environment.state_dir()?, &key);
    if stored.is_none() && !archived.is_file() {
        return Err(absent(&key, global));
    }
    let Some(path) = output else {
        write(stored, &archived, &mut Sink::Output(global.output)).await?;
        return Ok(Exit::Ok);
    };
    let mut options = OpenOptions::new();
    let file = options.write(true).create_new(true).mode(0o600).open(&path).map_err(unwritable(&path))?;
    let mut sink = Sink::File(file, path.clone());
    if let Err(failure) = write(stored, &archived, &mut sink).await.and_then(|()| sink.finish()) {
        // It was made here, and holds half of the session at most.
        _ = std::fs::remove_file(&path);
        return Err(failure);
    }
    told(&key, &path, global)
}

fn told(key: &SessionKey, path: &Path, global: &Global) -> Result<Exit, Failure> {
    if global.output.json {
        global.output.document(&json!({"status": "exported", "sessionKey": key, "file": path}))?;
    } else {
        global.output.line(format_args!("exported {key} to {}", path.display()))?;
    }
    Ok(Exit::Ok)
}

async fn write(
    stored: Option<(SqliteStorage, SessionRow)>,
    archived: &Path,
    sink: &mut Sink,
) -> Result<(), Failure> {
    let Some((storage, row)) = stored else {
        let file = File::open(archived).map_err(unreadable(archived))?;
        for line in BufReader::new(file).lines() {
            sink.take(format!("{}\n", line.map_err(unreadable(archived))?).as_bytes())?;
        }
        return Ok(());
    };
    let mut lines = Lines::new(&storage, row, runtime::clock().now());
    while let Some(piece) = lines.next().await? {
        sink.take(&piece)?;
    }
    Ok(())
}

/// Where lines go.
enum Sink {
    Output(Output),
    File(File, PathBuf),
}

impl Sink {
    fn take(&mut self, lines: &[u8]) -> Result<(), Failure> {
        match self {
            Self::Output(output) => {
                String::from_utf8_lossy(lines).lines().try_for_each(|line| output.text(line))
            }
            Self::File(file, path) => file.write_all(lines).map_err(unwritable(path)),
        }
    }

    fn finish(&self) -> Result<(), Failure> {
        match self {
            Self::Output(_) => Ok(()),
            Self::File(file, path) => file.sync_all().map_err(unwritable(path)),
        }
    }
}

fn unwritable(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::usage(format!("{} cannot be written: {error}", path.display()))
}

fn unreadable(path: &Path) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure::usage(format!("{} cannot be read: {error}", path.display()))
}
