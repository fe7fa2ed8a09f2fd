//! `offshoot spawn`

use std::io::Read;

use offshoot_actors::ports::{RunRow, Storage};
use offshoot_actors::types::{
    Cleanup, Mode, OnParentExit, Origin, Outcome, RecoveryMode, RunId, Scope, SessionKey, Settings,
    SpawnRequest, Terminal,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::Global;
use super::args::SpawnArgs;
use super::daemon;
use super::exit::{Exit, Failure};
use super::live::{Live, Quiet, configuration};
use super::output::{Output, elapsed, note, one_line, tokens, unless_gone};
use super::remote::{self, Remote};
use super::view;
use crate::gateway::record::Record;

/// Lines of the tree that are printed at most.
pub(super) const MAX_TREE: usize = 200;

pub(super) async fn run(args: SpawnArgs, global: &Global) -> Result<Exit, Failure> {
    if let Some(gateway) = daemon::gateway(global)? {
        return through(args, &gateway, global).await;
    }
    let config = configuration(global)?;
    let request = request(args, &config.settings)?;
    let mut live = Live::start(global, &config, &request.parent).await?;
    let done = spawn(request, &mut live, global).await;
    live.close().await;
    done
}

fn request(args: SpawnArgs, settings: &Settings) -> Result<SpawnRequest, Failure> {
    let parent = args.parent.unwrap_or_else(|| SessionKey::main(&settings.default_agent));
    let mut request = SpawnRequest::new(parent, text(args.task, settings.prompts.max_text)?);
    request.agent = args.agent;
    request.model = args.model;
    request.label = args.label;
    request.timeout = args.timeout;
    request.mode = args.mode.into();
    request.cleanup = args.cleanup.into();
    request.recovery = args.recovery.map(RecoveryMode::from);
    request.on_parent_exit = args.on_parent_exit.into();
    request.expects_completion = !args.no_announce;
    Ok(request)
}

/// A text of the command line, or of standard input where it is `-`.
pub(super) fn text(given: String, max: usize) -> Result<String, Failure> {
    if given != "-" {
        return Ok(given);
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let read = std::io::stdin().lock().take(limit).read_to_end(&mut bytes);
    read.map_err(|error| Failure::usage(format!("standard input cannot be read: {error}")))?;
    if bytes.len() > max {
        return Err(Failure::usage(format!("standard input is longer than {max} bytes"))
            .with_hint("send it in parts"));
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::usage("standard input is not UTF-8"))?;
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

async fn spawn(request: SpawnRequest, live: &mut Live, global: &Global) -> Result<Exit, Failure> {
    let parent = request.parent.clone();
    let accepted = live.handle().spawn(request, Origin::Operator).await?;
    let quiet = live.quiet(&parent).await?;
    tell(accepted.run, &accepted.session, &quiet, live.storage(), global).await
}

/// Has the gateway spawn it that has the state directory.
async fn through(args: SpawnArgs, gateway: &Record, global: &Global) -> Result<Exit, Failure> {
    let params = json!({
        "key": args.parent,
        "task": text(args.task, daemon::max_text())?,
        "label": args.label,
        "agentId": args.agent,
        "model": args.model,
        "runTimeoutSeconds": args.timeout.map(|timeout| timeout.as_secs()),
        "mode": Mode::from(args.mode),
        "cleanup": Cleanup::from(args.cleanup),
        "recovery": args.recovery.map(RecoveryMode::from),
        "onParentExit": OnParentExit::from(args.on_parent_exit),
        "expectsCompletionMessage": !args.no_announce,
        "idempotencyKey": Uuid::new_v4(),
    });
    let begin = async |remote: &mut Remote| remote.spawn(params).await;
    remote::through(gateway, Scope::Write, global, begin, tell).await
}

async fn tell(
    run: RunId,
    session: &SessionKey,
    quiet: &Quiet,
    storage: &dyn Storage,
    global: &Global,
) -> Result<Exit, Failure> {
    let row = ended_run(storage, run).await?;
    let outcome = row.outcome.clone().unwrap_or_else(left_open);
    let written = if global.output.json {
        let mut document = document(&row, &outcome, quiet);
        document.insert("childSessionKey".to_owned(), json!(session));
        document.insert("result".to_owned(), json!(outcome.text));
        global.output.document(&document)
    } else {
        print(session, &row, &outcome, quiet, global.output)
    };
    unless_gone(written)?;
    say_why(&row, &outcome);
    Ok(quiet.exit(Exit::of(outcome.state)))
}

pub(super) async fn ended_run(storage: &dyn Storage, run: RunId) -> Result<RunRow, Failure> {
    let missing =
        || Failure::new(Exit::Unavailable, "store", format!("run {run} is not in the store any more"));
    storage.run(run).await?.ok_or_else(missing)
}

/// What is said of a run that was neither waited for nor ended by a stop.
pub(super) fn left_open() -> Outcome {
    Outcome::ended(Terminal::Interrupted, "the command ended before it did", None)
}

/// What the documents of `spawn` and `run` have in common.
pub(super) fn document(row: &RunRow, outcome: &Outcome, quiet: &Quiet) -> Map<String, Value> {
    let document = json!({
        "status": "accepted",
        "runId": row.id,
        "state": outcome.state,
        "reason": outcome.reason,
        "usage": row.usage,
        "durationMs": view::duration(row, quiet.now).map(view::millis),
        "steps": row.steps,
        "model": view::model(row),
        "tree": view::json(&quiet.tree),
    });
    match document {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn print(
    session: &SessionKey,
    row: &RunRow,
    outcome: &Outcome,
    quiet: &Quiet,
    output: Output,
) -> Result<(), Failure> {
    let paint = output.paint;
    if let Some(text) = &outcome.text {
        output.text(text)?;
        output.line("")?;
    }
    let mut facts = vec![paint.state(outcome.state.as_str())];
    facts.extend(view::duration(row, quiet.now).map(elapsed));
    facts.push(format!("{} step{}", row.steps, if row.steps == 1 { "" } else { "s" }));
    facts.push(tokens(row.usage));
    facts.push(view::model(row));
    output.line(format_args!("run      {}", row.id))?;
    output.line(format_args!("session  {session}"))?;
    output.line(format_args!("state    {}", facts.join(", ")))?;
    output.line("")?;
    for line in view::lines(&quiet.tree, paint, MAX_TREE) {
        output.line(line)?;
    }
    Ok(())
}

/// Says on standard error why a run did not end `ok`.
pub(super) fn say_why(row: &RunRow, outcome: &Outcome) {
    if outcome.state == Terminal::Ok {
        return;
    }
    let reason = outcome.reason.as_deref().map(|reason| format!(": {}", one_line(reason, 500)));
    let error = super::output::Paint::stderr().error("error:");
    note(format_args!("{error} run {} ended as {}{}", row.id, outcome.state, reason.unwrap_or_default()));
}
