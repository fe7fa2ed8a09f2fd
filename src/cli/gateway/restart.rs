//! `offshoot gateway restart`: by the service manager, which alone can start a daemon that outlives this command.

use std::time::{Duration, Instant};

use serde_json::json;

use super::super::Global;
use super::super::daemon;
use super::super::exit::{Exit, Failure};
use super::super::output::note;
use super::super::service::Manager;
use crate::gateway::record::{Record, Running};
use crate::gateway::restart;
use crate::runtime;

/// Between two looks at whether the new one accepts clients.
const LOOK: Duration = Duration::from_millis(20);

pub(super) async fn run(within: Duration, global: &Global) -> Result<Exit, Failure> {
    let before = daemon::running(global)?;
    let manager = match Manager::of(&global.environment) {
        Ok(manager) if manager.is_active() => manager,
        _ => return Err(by_hand(&before, global)),
    };
    let dir = global.environment.state_dir()?;
    if let Err(error) = restart::announce(&dir, runtime::clock().now()) {
        note(format_args!(
            "clients are not told when to come back: {} cannot be written to: {error}",
            dir.display()
        ));
    }
    if let Err(failure) = manager.restart() {
        restart::forget(&dir);
        return Err(failure);
    }
    let after = started(&before, within, global).await?;
    if global.output.json {
        global.output.document(&json!({"status": "restarted", "pid": after.pid, "urls": after.urls}))?;
    } else {
        global.output.line(format_args!("restarted the gateway, now process {}", after.pid))?;
    }
    Ok(Exit::Ok)
}

fn by_hand(running: &Running, global: &Global) -> Failure {
    match running {
        Running::Gateway(record) => Failure::new(
            Exit::Unavailable,
            "no_service",
            format!("the gateway, process {}, is not a service: nothing starts it again", record.pid),
        )
        .with_hint(
            "end it with `offshoot gateway stop` and start it where it was started; `offshoot service install` makes it \
             a service",
        ),
        other @ Running::Nobody => daemon::not_running(other, global)
            .with_hint("start one with `offshoot gateway`; `offshoot service install` makes it a service"),
        other => daemon::not_running(other, global),
    }
}

async fn started(before: &Running, within: Duration, global: &Global) -> Result<Record, Failure> {
    let began = Instant::now();
    loop {
        match daemon::running(global)? {
            Running::Gateway(record) if Running::Gateway(record.clone()) != *before => return Ok(record),
            _ if began.elapsed() >= within => {
                return Err(Failure::new(
                    Exit::Unavailable,
                    "timeout",
                    format!("the service does not accept clients within {} s", within.as_secs()),
                )
                .with_hint(
                    "`offshoot service status` and `journalctl --user -u offshoot-gateway` say more",
                ));
            }
            _ => tokio::time::sleep(LOOK).await,
        }
    }
}
