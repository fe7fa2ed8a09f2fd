//! `offshoot run`

use offshoot_actors::is_silent;
use offshoot_actors::ports::{Cause, RunRow, Storage};
use offshoot_actors::types::{AgentId, Origin, PromptRequest, RunId, Scope, SessionKey, Settings, Terminal};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Global;
use super::args::RunArgs;
use super::daemon;
use super::exit::{Exit, Failure};
use super::live::{Live, Quiet, configuration};
use super::output::unless_gone;
use super::remote::{self, Remote};
use super::spawn::{document, ended_run, left_open, say_why, text};
use crate::gateway::messages::no_command;
use crate::gateway::record::Record;

pub(super) async fn run(args: RunArgs, global: &Global) -> Result<Exit, Failure> {
    if let Some(gateway) = daemon::gateway(global)? {
        return through(args, &gateway, global).await;
    }
    let config = configuration(global)?;
    let session = session(args.session, args.agent, &config.settings)?;
    let mut request = PromptRequest::new(session, message(args.message, config.settings.prompts.max_text)?);
    request.model = args.model;
    request.timeout = args.timeout;
    let mut live = Live::start(global, &config, &request.session).await?;
    let done = submit(request, &mut live, global).await;
    live.close().await;
    done
}

/// The message, from the command line or from standard input.
fn message(given: String, max: usize) -> Result<String, Failure> {
    let message = text(given, max)?;
    no_command(&message)?;
    Ok(message)
}

/// The session of the message, whose agent is configured.
fn session(
    named: Option<SessionKey>,
    agent: Option<AgentId>,
    settings: &Settings,
) -> Result<SessionKey, Failure> {
    let agent = agent.unwrap_or_else(|| settings.default_agent.clone());
    let session = named.unwrap_or_else(|| SessionKey::main(&agent));
    let agent = session.agent();
    if settings.agents.contains_key(&agent) { Ok(session) } else { Err(settings.no_agent(&agent).into()) }
}

async fn submit(request: PromptRequest, live: &mut Live, global: &Global) -> Result<Exit, Failure> {
    let session = request.session.clone();
    let submitted = live.handle().submit(request, Origin::Operator).await?;
    let quiet = live.quiet(&session).await?;
    tell(submitted.run, &session, &quiet, live.storage(), global).await
}

/// Has the gateway take it that has the state directory.
async fn through(args: RunArgs, gateway: &Record, global: &Global) -> Result<Exit, Failure> {
    // Another model than the configured one is the administrator's choice.
    let scope = if args.model.is_some() { Scope::Admin } else { Scope::Write };
    let mut params = json!({
        "message": message(args.message, daemon::max_text())?,
        "idempotencyKey": Uuid::new_v4(),
    });
    let mut given = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            params[name] = value;
        }
    };
    given("sessionKey", args.session.map(|key| json!(key)));
    given("agentId", args.agent.map(|agent| json!(agent)));
    given("model", args.model.map(|model| json!(model)));
    given("timeout", args.timeout.map(|timeout| json!(timeout.as_secs())));
    let begin = async |remote: &mut Remote| remote.submit(params).await;
    remote::through(gateway, scope, global, begin, tell).await
}

async fn tell(
    run: RunId,
    session: &SessionKey,
    quiet: &Quiet,
    storage: &dyn Storage,
    global: &Global,
) -> Result<Exit, Failure> {
    let rows = answers(run, session, quiet, storage).await?;
    let mut exit = Exit::Ok;
    for row in &rows {
        let state = row.outcome.as_ref().map_or(Terminal::Interrupted, |outcome| outcome.state);
        if exit == Exit::Ok {
            exit = Exit::of(state);
        }
    }
    if global.output.json {
        unless_gone(print_json(&rows, quiet, global))?;
        for row in &rows {
            say_why(row, &row.outcome.clone().unwrap_or_else(left_open));
        }
    } else {
        print(&rows, global)?;
    }
    Ok(quiet.exit(exit))
}

/// The run that the message started, and those on results in the same session after it.
async fn answers(
    first: RunId,
    session: &SessionKey,
    quiet: &Quiet,
    storage: &dyn Storage,
) -> Result<Vec<RunRow>, Failure> {
    let mut rows = Vec::new();
    let own = quiet.seen.runs.iter().filter(|run| run.session == *session).map(|run| run.id);
    for run in own.skip_while(|run| *run != first) {
        let row = ended_run(storage, run).await?;
        if row.id == first || row.cause == Cause::Announce || quiet.takers.contains(&row.id) {
            rows.push(row);
        }
    }
    if rows.is_empty() {
        rows.push(ended_run(storage, first).await?);
    }
    Ok(rows)
}

fn print(rows: &[RunRow], global: &Global) -> Result<(), Failure> {
    for row in rows {
        let outcome = row.outcome.clone().unwrap_or_else(left_open);
        let silent = |text: &&String| row.cause == Cause::Announce && is_silent(text);
        if let Some(text) = outcome.text.as_ref().filter(|text| !silent(text)) {
            unless_gone(global.output.text(text))?;
        }
        say_why(row, &outcome);
    }
    Ok(())
}

fn print_json(rows: &[RunRow], quiet: &Quiet, global: &Global) -> Result<(), Failure> {
    let Some(first) = rows.first() else { return Ok(()) };
    let outcome = first.outcome.clone().unwrap_or_else(left_open);
    let mut document = document(first, &outcome, quiet);
    let answers: Vec<_> = rows
        .iter()
        .map(|row| {
            let outcome = row.outcome.clone().unwrap_or_else(left_open);
            json!({
                "runId": row.id,
                "cause": row.cause.as_str(),
                "state": outcome.state,
                "reason": outcome.reason,
                "text": outcome.text,
            })
        })
        .collect();
    document.insert("sessionKey".to_owned(), json!(first.session));
    document.insert("result".to_owned(), json!(outcome.text));
    document.insert("answers".to_owned(), json!(answers));
    global.output.document(&document)
}
