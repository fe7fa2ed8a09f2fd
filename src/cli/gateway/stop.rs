//! `offshoot gateway stop`: a signal to the process that has the state directory, and a wait until it has let go.

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use super::super::Global;
use super::super::daemon;
use super::super::exit::{Exit, Failure};
use super::super::output::note;
use crate::gateway::record::{Record, Running};
use crate::store::{Holder, holder};

/// Between two looks at whether it has ended.
const LOOK: Duration = Duration::from_millis(20);
/// What an end may take beside the grace that runs have: open requests, the last frames, the store.
const BESIDE_GRACE: Duration = Duration::from_secs(30);
/// After which a person is told what is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

pub(super) async fn run(timeout: Option<Duration>, global: &Global) -> Result<Exit, Failure> {
    let record = match daemon::running(global)? {
        Running::Gateway(record) => record,
        Running::Nobody => return nothing_to_stop(global),
        // Another command, which is not ours to end; or a gateway on its way, which is left alone as well.
        other @ Running::Other(_) => return Err(daemon::not_running(&other, global)),
    };
    let dir = global.environment.state_dir()?;
    let within =
        timeout.unwrap_or_else(|| Duration::from_millis(record.grace_ms).saturating_add(BESIDE_GRACE));
    signal(&record)?;
    gone(&dir, &record, within).await?;
    if global.output.json {
        global.output.document(&json!({"status": "stopped", "pid": record.pid}))?;
    } else {
        global.output.line(format_args!("stopped the gateway, process {}", record.pid))?;
    }
    Ok(Exit::Ok)
}

fn nothing_to_stop(global: &Global) -> Result<Exit, Failure> {
    if global.output.json {
        global.output.document(&json!({"status": "not_running", "pid": null}))?;
    } else {
        global.output.line("no gateway runs")?;
    }
    Ok(Exit::Ok)
}

fn signal(record: &Record) -> Result<(), Failure> {
    let failed = |text: String| Failure::new(Exit::Unavailable, "gateway", text);
    if !record.shares_our_processes() {
        return Err(failed(format!(
            "the gateway runs as process {} elsewhere, such as in a container, and no signal reaches it from here",
            record.pid
        ))
        .with_hint("stop it there"));
    }
    let pid = i32::try_from(record.pid).ok().and_then(Pid::from_raw);
    let pid = pid.ok_or_else(|| failed(format!("{} is no process", record.pid)))?;
    match kill_process(pid, Signal::TERM) {
        // It has ended in between.
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(errno) => Err(failed(format!("process {} cannot be signalled: {errno}", record.pid))
            .with_hint("stop it as the user who started it")),
    }
}

/// Waits until the process that the record names has let the state directory go.
pub(super) async fn gone(dir: &Path, record: &Record, within: Duration) -> Result<(), Failure> {
    let began = Instant::now();
    let mut told = false;
    loop {
        let held =
            holder(dir).map_err(|error| Failure::system("the state directory cannot be read", &error))?;
        if held != Holder::Process(Some(record.pid)) {
            return Ok(());
        }
        if began.elapsed() >= within {
            return Err(Failure::new(
                Exit::Unavailable,
                "timeout",
                format!("the gateway, process {}, has not ended within {} s", record.pid, within.as_secs()),
            )
            .with_hint("it waits for open requests and steps of runs; `offshoot gateway stop` again makes it leave at once"));
        }
        if !told && began.elapsed() >= PATIENCE {
            told = true;
            note(format_args!(
                "waiting for the gateway, process {}, to let open requests and steps of runs end, for {} s at most",
                record.pid,
                within.as_secs()
            ));
        }
        tokio::time::sleep(LOOK).await;
    }
}
