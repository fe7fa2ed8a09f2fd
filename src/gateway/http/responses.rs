//! `POST /v1/responses`: the same as chat completions in the newer form, where an answer may follow an earlier one.

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
    input: Option<Input>,
    instructions: Option<String>,
    #[serde(default)]
    stream: Option<bool>,
    user: Option<String>,
    previous_response_id: Option<String>,
    tools: Option<Vec<Value>>,
    background: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Input {
    Text(String),
    Items(Vec<Item>),
}

#[derive(Debug, Deserialize)]
struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
    role: Option<String>,
    content: Option<Content>,
    output: Option<Content>,
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
    let parameters: Parameters = body::read_json(request, config.gateway.responses.max_body_bytes).await?;
    if parameters.tools.as_ref().is_some_and(|tools| !tools.is_empty()) {
        let text =
            "tools of the client are not supported by offshoot: leave out `tools`; the agent has its own";
        return Err(Problem::invalid(text).into());
    }
    if parameters.background == Some(true) {
        return Err(Problem::invalid("`background` is not supported by offshoot: leave it out").into());
    }
    let stream = parameters.stream.unwrap_or(false);
    let head = Head {
        id: format!("resp_{}", Daemon::new_id()),
        message: format!("msg_{}", Daemon::new_id()),
        created: daemon.clock.now().0 / 1_000,
        model: parameters.model.clone().unwrap_or_else(|| "openclaw".to_owned()),
    };
    let asked = Asked {
        id: head.id.clone(),
        model: parameters.model,
        user: parameters.user.filter(|user| !user.trim().is_empty()),
        previous: parameters.previous_response_id.filter(|id| !id.is_empty()),
        surface: "openresponses",
        turns: turns(parameters.instructions, parameters.input)?,
    };
    let started = agent_run::start(&daemon, headers, asked, caller.origin).await?;
    if stream {
        let text = String::new();
        return Ok(sse::response(Events { head, started, text, count: 0, state: State::Beginning }));
    }
    let answered = started.whole().await;
    if let Some(problem) = agent_run::failure(&answered.outcome) {
        return Err(problem.into());
    }
    let document = head.response(status(&answered.outcome), Some(&answered.text), Some(answered.usage));
    Ok(super::json(StatusCode::OK, &document))
}

fn turns(instructions: Option<String>, input: Option<Input>) -> Result<Vec<Turn>, Problem> {
    let mut turns = Vec::new();
    turns.extend(instructions.map(|text| Turn { speaker: Speaker::System, text }));
    match input {
        None => return Err(Problem::invalid("Missing `input`.")),
        Some(Input::Text(text)) => turns.push(Turn { speaker: Speaker::User, text }),
        Some(Input::Items(items)) => {
            for item in items {
                turns.extend(turn(item)?);
            }
        }
    }
    Ok(turns)
}

/// An item as a turn; none if nothing is said in it.
fn turn(item: Item) -> Result<Option<Turn>, Problem> {
    let (speaker, content) = match item.kind.as_deref() {
        None | Some("message") => (Speaker::of(item.role.as_deref().unwrap_or("user"))?, item.content),
        Some("function_call_output") => (Speaker::Tool, item.output),
        Some("reasoning" | "item_reference" | "function_call") => return Ok(None),
        Some(kind) => {
            let kind: String = kind.chars().take(64).collect();
            let text = format!("input of type {kind:?} is not supported by offshoot: send messages");
            return Err(Problem::invalid(text));
        }
    };
    let text = content.map_or_else(|| Ok(String::new()), Content::into_text)?;
    Ok(Some(Turn { speaker, text }))
}

fn status(outcome: &Outcome) -> &'static str {
    match outcome.state {
        Terminal::Ok => "completed",
        Terminal::Partial => "incomplete",
        _ => "failed",
    }
}

/// What all parts of an answer share.
#[derive(Debug)]
struct Head {
    id: String,
    message: String,
    /// In seconds.
    created: i64,
    model: String,
}

impl Head {
    fn response(&self, status: &str, text: Option<&str>, usage: Option<Usage>) -> Value {
        let output: Vec<Value> = text.map(|text| self.item(status, Some(text))).into_iter().collect();
        let mut response = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "model": self.model,
            "output": output,
            "usage": usage_shape(usage.unwrap_or_default()),
        });
        if status == "incomplete" {
            response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        }
        response
    }

    fn item(&self, status: &str, text: Option<&str>) -> Value {
        let content: Vec<Value> = text.map(part).into_iter().collect();
        json!({
            "type": "message",
            "id": self.message,
            "role": "assistant",
            "content": content,
            "phase": "final_answer",
            "status": status,
        })
    }
}

fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [] })
}

fn usage_shape(usage: Usage) -> Value {
    json!({
        "input_tokens": usage.input,
        "input_tokens_details": { "cached_tokens": usage.cached },
        "output_tokens": usage.output,
        "output_tokens_details": { "reasoning_tokens": 0 },
        "total_tokens": usage.total(),
    })
}

/// An answer as a row of events.
struct Events {
    head: Head,
    started: Started,
    /// All that was said so far.
    text: String,
    /// How many events were sent.
    count: u64,
    state: State,
}

enum State {
    Beginning,
    Speaking,
    Over,
}

impl Events {
    /// One event. `value` is an object.
    fn event(&mut self, name: &str, mut value: Value) -> String {
        value["type"] = name.into();
        value["sequence_number"] = self.count.into();
        self.count += 1;
        sse::event(name, &value)
    }

    fn beginning(&mut self) -> String {
        let response = self.head.response("in_progress", None, None);
        let item = self.head.item("in_progress", None);
        let place = self.place();
        [
            self.event("response.created", json!({ "response": response })),
            self.event("response.in_progress", json!({ "response": response })),
            self.event("response.output_item.added", json!({ "output_index": 0, "item": item })),
            self.event("response.content_part.added", with(&place, "part", part(""))),
        ]
        .concat()
    }

    fn delta(&mut self, text: &str) -> String {
        self.text.push_str(text);
        let place = self.place();
        self.event("response.output_text.delta", with(&place, "delta", text.into()))
    }

    fn end(&mut self, outcome: &Outcome, usage: Usage) -> String {
        if let Some(problem) = agent_run::failure(outcome) {
            let mut response = self.head.response("failed", None, Some(usage));
            response["error"] = json!({ "code": problem.kind, "message": problem.message });
            return self.event("response.failed", json!({ "response": response })) + sse::DONE;
        }
        let (status, text, place) = (status(outcome), std::mem::take(&mut self.text), self.place());
        let item = self.head.item(status, Some(&text));
        let response = self.head.response(status, Some(&text), Some(usage));
        let last = format!("response.{status}");
        [
            self.event("response.output_text.done", with(&place, "text", text.as_str().into())),
            self.event("response.content_part.done", with(&place, "part", part(&text))),
            self.event("response.output_item.done", json!({ "output_index": 0, "item": item })),
            self.event(&last, json!({ "response": response })),
            sse::DONE.to_owned(),
        ]
        .concat()
    }

    fn place(&self) -> Value {
        json!({ "item_id": self.head.message, "output_index": 0, "content_index": 0 })
    }
}

fn with(place: &Value, name: &str, value: Value) -> Value {
    let mut place = place.clone();
    place[name] = value;
    place
}

impl Pieces for Events {
    async fn next(&mut self) -> Option<String> {
        match self.state {
            State::Beginning => {
                self.state = State::Speaking;
                Some(self.beginning())
            }
            State::Speaking => {
                let silence = self.started.daemon.clock.sleep(sse::KEEP_ALIVE);
                let update = tokio::select! {
                    update = self.started.next() => update,
                    () = silence => return Some(sse::COMMENT.to_owned()),
                };
                Some(match update {
                    Update::Text(text) => self.delta(&text),
                    Update::Ended(outcome, usage) => {
                        self.state = State::Over;
                        self.end(&outcome, usage)
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

    fn read(text: &str) -> Result<Vec<(Speaker, String)>, String> {
        let parameters: Parameters = body::parse(text.as_bytes()).map_err(|error| error.to_string())?;
        let turns = turns(parameters.instructions, parameters.input).map_err(|problem| problem.message)?;
        Ok(turns.into_iter().map(|turn| (turn.speaker, turn.text)).collect())
    }

    #[test]
    fn input_is_a_text_or_a_list() {
        let simple = read(r#"{"instructions":"Be brief.","input":"Hi"}"#).unwrap();
        assert_eq!(simple, [(Speaker::System, "Be brief.".to_owned()), (Speaker::User, "Hi".to_owned())]);
        let list = read(
            r#"{"input":[{"role":"user","content":[{"type":"input_text","text":"a"}]},{"type":"reasoning"},
                {"type":"function_call_output","call_id":"1","output":"out"}]}"#,
        );
        assert_eq!(list.unwrap(), [(Speaker::User, "a".to_owned()), (Speaker::Tool, "out".to_owned())]);
        assert!(read("{}").unwrap_err().contains("input"));
        assert!(read(r#"{"input":[{"type":"computer_call"}]}"#).unwrap_err().contains("computer_call"));
    }

    #[test]
    fn an_answer_that_was_cut_off_says_so() {
        let head = Head {
            id: "resp_1".to_owned(),
            message: "msg_1".to_owned(),
            created: 1,
            model: "openclaw".to_owned(),
        };
        let cut = Outcome::ended(Terminal::Partial, "max_tokens", None);
        let response = head.response(status(&cut), Some("a"), None);
        assert_eq!(response["status"], "incomplete");
        assert_eq!(response["incomplete_details"]["reason"], "max_output_tokens");
        let whole = head.response(status(&Outcome::ok("a")), Some("a"), None);
        assert_eq!(whole["output"][0]["content"][0]["text"], "a");
        assert_eq!(whole["status"], "completed");
    }
}
