//! `POST /v1/chat/completions`: an agent answers as a model would, whole or as it speaks.

use http::{Method, StatusCode};
use offshoot_actors::types::{Outcome, Scope, Terminal, Usage};
use serde::Deserialize;
use serde_json::{Value, json};

use super::agent_run::{self, Asked, Headers, Started};
use super::conversation::{Content, Speaker, Turn};
use super::sse::{self, Pieces};
use super::{Call, Problem, Refused, Response, access, body, either};
use crate::gateway::daemon::Daemon;
use crate::gateway::watch::Update;

#[derive(Debug, Deserialize)]
struct Parameters {
    model: Option<String>,
    #[serde(default)]
    messages: Vec<Message>,
    #[serde(default)]
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    user: Option<String>,
    n: Option<u64>,
    tools: Option<Vec<Value>>,
    functions: Option<Vec<Value>>,
    response_format: Option<Format>,
}

#[derive(Debug, Deserialize)]
struct Message {
    role: String,
    content: Option<Content>,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct Format {
    #[serde(rename = "type")]
    kind: String,
}

impl Parameters {
    /// Refuses what would make the answer another one and is not there. What only tunes a model is passed over: the
    /// agent has its own.
    fn check(&self) -> Result<(), Problem> {
        let full = |list: &Option<Vec<Value>>| list.as_ref().is_some_and(|list| !list.is_empty());
        let unsupported = if full(&self.tools) || full(&self.functions) {
            "tools of the client are not supported by offshoot: leave out `tools`; the agent has its own"
        } else if self.n.is_some_and(|n| n != 1) {
            "`n` other than 1 is not supported by offshoot"
        } else if self.response_format.as_ref().is_some_and(|format| format.kind != "text") {
            "`response_format` other than text is not supported by offshoot"
        } else {
            return Ok(());
        };
        Err(Problem::invalid(unsupported))
    }
}

pub(super) async fn answer(call: Call) -> Response {
    either(respond(call).await)
}

async fn respond(call: Call) -> Result<Response, Refused> {
    call.only(&Method::POST)?;
    let caller = access::caller(&call).await?;
    caller.needs(Scope::Write)?;
    let headers = Headers::of(&call);
    let Call { daemon, config, request, .. } = call;
    let parameters: Parameters =
        body::read_json(request, config.gateway.chat_completions.max_body_bytes).await?;
    parameters.check()?;
    let head = Head {
        id: format!("chatcmpl_{}", Daemon::new_id()),
        created: daemon.clock.now().0 / 1_000,
        model: parameters.model.clone().unwrap_or_else(|| "openclaw".to_owned()),
    };
    let stream = parameters.stream.unwrap_or(false);
    let with_usage = parameters.stream_options.unwrap_or_default().include_usage.unwrap_or(false);
    let asked = Asked {
        id: head.id.clone(),
        model: parameters.model,
        user: parameters.user.filter(|user| !user.trim().is_empty()),
        previous: None,
        surface: "openai",
        turns: parameters.messages.into_iter().map(turn).collect::<Result<_, _>>()?,
    };
    let started = agent_run::start(&daemon, headers, asked, caller.origin).await?;
    if stream {
        return Ok(sse::response(Chunks { head, started, with_usage, state: State::Beginning }));
    }
    let answered = started.whole().await;
    if let Some(problem) = agent_run::failure(&answered.outcome) {
        return Err(problem.into());
    }
    Ok(super::json(StatusCode::OK, &head.whole(&answered.text, &answered.outcome, answered.usage)))
}

fn turn(message: Message) -> Result<Turn, Problem> {
    let speaker = Speaker::of(&message.role)?;
    let text = message.content.map_or_else(|| Ok(String::new()), Content::into_text)?;
    Ok(Turn { speaker, text })
}

/// What all parts of an answer share.
#[derive(Debug)]
struct Head {
    id: String,
    /// In seconds.
    created: i64,
    model: String,
}

impl Head {
    fn whole(&self, text: &str, outcome: &Outcome, usage: Usage) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{
                "index": 0,
                "message": { "role": "assistant", "content": text },
                "finish_reason": finish_reason(outcome),
            }],
            "usage": usage_shape(usage),
        })
    }

    fn chunk(&self, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        })
    }

    fn first(&self) -> String {
        sse::data(&self.chunk(json!([{ "index": 0, "delta": { "role": "assistant" } }])))
    }

    fn delta(&self, text: &str) -> String {
        let choice = json!({ "index": 0, "delta": { "content": text }, "finish_reason": null });
        sse::data(&self.chunk(json!([choice])))
    }

    fn last(&self, outcome: &Outcome, usage: Option<Usage>) -> String {
        if let Some(problem) = agent_run::failure(outcome) {
            return sse::data(&problem.shape()) + sse::DONE;
        }
        let choice = json!({ "index": 0, "delta": {}, "finish_reason": finish_reason(outcome) });
        let mut text = sse::data(&self.chunk(json!([choice])));
        if let Some(usage) = usage {
            let mut chunk = self.chunk(json!([]));
            chunk["usage"] = usage_shape(usage);
            text.push_str(&sse::data(&chunk));
        }
        text + sse::DONE
    }
}

const fn finish_reason(outcome: &Outcome) -> &'static str {
    match outcome.state {
        Terminal::Partial => "length",
        _ => "stop",
    }
}

fn usage_shape(usage: Usage) -> Value {
    json!({
        "prompt_tokens": usage.input,
        "completion_tokens": usage.output,
        "total_tokens": usage.total(),
        "prompt_tokens_details": { "cached_tokens": usage.cached },
    })
}

/// An answer in pieces.
struct Chunks {
    head: Head,
    started: Started,
    with_usage: bool,
    state: State,
}

enum State {
    Beginning,
    Speaking,
    Over,
}

impl Pieces for Chunks {
    async fn next(&mut self) -> Option<String> {
        match self.state {
            State::Beginning => {
                self.state = State::Speaking;
                Some(self.head.first())
            }
            State::Speaking => {
                let silence = self.started.daemon.clock.sleep(sse::KEEP_ALIVE);
                let update = tokio::select! {
                    update = self.started.next() => update,
                    () = silence => return Some(sse::COMMENT.to_owned()),
                };
                Some(match update {
                    Update::Text(text) => self.head.delta(&text),
                    Update::Ended(outcome, usage) => {
                        self.state = State::Over;
                        self.head.last(&outcome, self.with_usage.then_some(usage))
                    }
                })
            }
            State::Over => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head { id: "chatcmpl_1".to_owned(), created: 7, model: "openclaw/main".to_owned() }
    }

    fn parts(text: &str) -> Vec<Value> {
        let lines = text.split("\n\n").filter_map(|line| line.strip_prefix("data: "));
        lines.map(|line| serde_json::from_str(line).unwrap_or_else(|_| line.into())).collect()
    }

    #[test]
    fn a_stream_has_the_parts_that_clients_wait_for() {
        let first = &parts(&head().first())[0];
        assert_eq!(first["choices"][0], json!({ "index": 0, "delta": { "role": "assistant" } }));
        let delta = &parts(&head().delta("hi\n\nthere"))[0];
        assert_eq!(delta["choices"][0]["delta"]["content"], "hi\n\nthere");
        assert_eq!(delta["choices"][0]["finish_reason"], Value::Null);
        let usage = Usage { input: 5, output: 2, cached: 1 };
        let last = parts(&head().last(&Outcome::ok("hi"), Some(usage)));
        assert_eq!(last[0]["choices"][0], json!({ "index": 0, "delta": {}, "finish_reason": "stop" }));
        assert_eq!((&last[1]["choices"], &last[1]["usage"]["total_tokens"]), (&json!([]), &json!(7)));
        assert_eq!(last[2], "[DONE]");
        assert_eq!(parts(&head().last(&Outcome::ok("hi"), None)).len(), 2);
    }

    #[test]
    fn an_end_without_an_answer_is_an_error_in_the_stream() {
        let last = parts(&head().last(&Outcome::ended(Terminal::Timeout, "600 s", None), None));
        assert_eq!(last[0]["error"]["type"], "api_error");
        assert!(last[0]["error"]["message"].as_str().unwrap().contains("timeout: 600 s"));
        let cut = Outcome::ended(Terminal::Partial, "max_tokens", Some("a".to_owned()));
        let last = parts(&head().last(&cut, None));
        assert_eq!(last[0]["choices"][0]["finish_reason"], "length");
    }

    #[test]
    fn what_would_change_the_answer_is_refused_by_name() {
        let check = |text: &str| body::parse::<Parameters>(text.as_bytes()).unwrap().check();
        assert!(check(r#"{"tools":[],"n":1,"temperature":0.5,"response_format":{"type":"text"}}"#).is_ok());
        assert!(check(r#"{"tools":[{}]}"#).unwrap_err().message.contains("`tools`"));
        assert!(check(r#"{"n":2}"#).unwrap_err().message.contains("`n`"));
        let json = check(r#"{"response_format":{"type":"json_object"}}"#);
        assert!(json.unwrap_err().message.contains("`response_format`"));
    }
}
