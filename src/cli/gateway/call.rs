//! `offshoot gateway call` and `offshoot gateway health`: one request, one answer.

use offshoot_actors::types::{Scope, Timestamp};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::Global;
use super::super::args::{GatewayCallArgs, ReachArgs};
use super::super::daemon::{Reach, missing_scope};
use super::super::exit::{Exit, Failure};
use super::super::output::{ago, printable};
use super::status::store_lines;
use crate::client::ClientError;
use crate::gateway::{NeedOf, need_of};
use crate::runtime;

/// Sessions that `health` names.
const MAX_SESSIONS: usize = 5;

pub(super) async fn run(args: &GatewayCallArgs, global: &Global) -> Result<Exit, Failure> {
    let params = params(&args.params)?;
    let reach = Reach::of(&args.reach, global)?;
    let asked = ask(&reach, &args.method, &params, args);
    let payload = match args.reach.timeout.filter(|within| args.expect_final && !within.is_zero()) {
        Some(within) => {
            let what = format!("{} has not ended", args.method);
            let overdue = |_| ClientError::Overdue { what, within };
            tokio::time::timeout(within, asked).await.map_err(overdue)??
        }
        None => asked.await?,
    };
    global.output.document(&payload)?;
    Ok(Exit::Ok)
}

/// The parameters as they were typed: what a number is, for example, is not changed on the way.
fn params(text: &str) -> Result<Box<RawValue>, Failure> {
    let wrong = |problem: String| {
        Failure::usage(format!("--params is no JSON object: {problem}"))
            .with_hint(r#"write it in quotes, such as --params '{"limit": 5}'"#)
    };
    let raw: Box<RawValue> = serde_json::from_str(text).map_err(|error| wrong(error.to_string()))?;
    if raw.get().starts_with('{') { Ok(raw) } else { Err(wrong("it begins otherwise".to_owned())) }
}

async fn ask(
    reach: &Reach,
    method: &str,
    params: &RawValue,
    args: &GatewayCallArgs,
) -> Result<Value, Failure> {
    let scopes = match need_of(method) {
        NeedOf::Nothing | NeedOf::Node => Vec::new(),
        NeedOf::Scope(scope) => vec![scope],
        // What only an administrator may find out.
        NeedOf::Unknown => vec![Scope::Admin],
    };
    match once(reach, method, params, &scopes, args.expect_final).await {
        // Some parameters need more than the method does. Nothing was done yet.
        Err(ClientError::Refused { error, .. })
            if missing_scope(&error).is_some_and(|missing| !scopes.contains(&missing)) =>
        {
            let more: Vec<Scope> = scopes.into_iter().chain(missing_scope(&error)).collect();
            Ok(once(reach, method, params, &more, args.expect_final).await?)
        }
        asked => Ok(asked?),
    }
}

async fn once(
    reach: &Reach,
    method: &str,
    params: &RawValue,
    scopes: &[Scope],
    to_the_end: bool,
) -> Result<Value, ClientError> {
    let mut client = reach.try_connect(scopes).await?;
    let answered = client.call(method, &params).await?;
    let answered = if to_the_end { client.finally(method, answered).await? } else { answered };
    client.close().await;
    Ok(answered.payload)
}

pub(super) async fn health(args: &ReachArgs, global: &Global) -> Result<Exit, Failure> {
    let reach = Reach::of(args, global)?;
    let mut client = reach.connect(&[]).await?;
    let health = client.call("health", &json!({})).await?.payload;
    client.close().await;
    let ok = health["ok"] == true;
    let exit = if ok { Exit::Ok } else { Exit::Unavailable };
    if global.output.json {
        global.output.document(&health)?;
        return Ok(exit);
    }
    let output = global.output;
    let state = if ok { "ok".to_owned() } else { output.paint.error("not ok") };
    output.line(format_args!("gateway   {state}, at {}", reach.address))?;
    if let Some(taken) = health["ts"].as_i64() {
        let age = ago(Timestamp(taken), runtime::clock().now());
        output.line(format_args!("figures   taken {age}, once a minute"))?;
    }
    for (name, value) in store_lines(&health["store"]) {
        output.line(format_args!("{name:<9} {value}"))?;
    }
    if let Some(agents) = health["agents"].as_array() {
        for agent in agents {
            let id = agent["agentId"].as_str().unwrap_or("?");
            let default = if agent["isDefault"] == true { " (default)" } else { "" };
            output.line(format_args!("agent     {}{default}", printable(id)))?;
        }
    }
    let recent = health["sessions"]["recent"].as_array().map(Vec::as_slice).unwrap_or_default();
    for session in recent.iter().take(MAX_SESSIONS) {
        let key = printable(session["key"].as_str().unwrap_or("?"));
        let since = session["updatedAt"].as_i64().map(|at| {
            let now = health["ts"].as_i64().unwrap_or(at);
            format!(", {}", ago(Timestamp(at), Timestamp(now)))
        });
        output.line(format_args!("session   {key}{}", since.unwrap_or_default()))?;
    }
    let count = health["sessions"]["count"].as_u64().unwrap_or_default();
    let shown = u64::try_from(recent.len().min(MAX_SESSIONS)).unwrap_or_default();
    if let more @ 1.. = count.saturating_sub(shown) {
        output.line(format_args!("          and {more} more: `offshoot sessions list`"))?;
    }
    Ok(exit)
}

#[cfg(test)]
mod tests {
    use super::params;

    #[test]
    fn parameters_are_an_object_and_stay_as_they_were_typed() {
        assert_eq!(params(r#" {"a": 1e2} "#).unwrap().get(), r#"{"a": 1e2}"#);
        for wrong in ["", "[]", "5", "{", "{} {}", "null"] {
            assert!(params(wrong).is_err(), "{wrong}");
        }
    }
}
