//! The tools of the agents under test, and spawns written in short.

use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::ports::{BoxFuture, Clock, Effect, ToolContext, ToolOutput, ToolSpec, Tools};
use offshoot_actors::types::{
    Cleanup, IdempotencyKey, Mode, OnParentExit, Origin, SessionKey, SpawnRequest, ToolCall, ToolStatus,
};

use super::model::Log;

/// `spawn` (`option=value,..|task`; may be repeated), `yield`, `wait` (milliseconds; runs beside others), `alone` (milliseconds;
/// runs alone), `panic`, `hang`.
pub struct Toolbox {
    specs: Vec<Arc<ToolSpec>>,
    clock: Arc<dyn Clock>,
    log: Arc<Log>,
}

impl Toolbox {
    pub fn new(clock: Arc<dyn Clock>, log: Arc<Log>) -> Self {
        let spec = |name: &str, parallel| {
            Arc::new(ToolSpec {
                name: name.into(),
                description: "".into(),
                parameters: "{}".into(),
                parallel,
                idempotent: matches!(name, "spawn" | "wait" | "yield"),
                yields: name == "yield",
                groups: &[],
            })
        };
        let specs = vec![
            spec("spawn", true),
            spec("yield", false),
            spec("wait", true),
            spec("alone", false),
            spec("panic", false),
            spec("hang", true),
        ];
        Self { specs, clock, log }
    }
}

pub fn call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
}

pub fn request(parent: SessionKey, arguments: &str) -> SpawnRequest {
    let (options, task) = arguments.split_once('|').unwrap_or(("", arguments));
    let mut request = SpawnRequest::new(parent, task);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        match name {
            "delete" => request.cleanup = Cleanup::Delete,
            "session" => request.mode = Mode::Session,
            "quiet" => request.expects_completion = false,
            "timeout" => request.timeout = Some(Duration::from_millis(value.parse().unwrap())),
            "exit" => {
                let exit = OnParentExit::ALL.into_iter().find(|exit| exit.as_str() == value);
                request.on_parent_exit = exit.unwrap();
            }
            "label" => request.label = Some(value.to_owned()),
            "model" => request.model = Some(value.to_owned()),
            "key" => {
                request.idempotency = Some(IdempotencyKey { key: value.to_owned(), may_repeat: true });
            }
            _ => panic!("unknown option {name}"),
        }
    }
    request
}

impl Tools for Toolbox {
    fn catalog(&self) -> &[Arc<ToolSpec>] {
        &self.specs
    }

    fn call(&self, context: ToolContext, call: ToolCall) -> BoxFuture<ToolOutput> {
        self.log.tools.lock().unwrap().push((call.id.to_string(), call.name.to_string()));
        let (clock, log) = (Arc::clone(&self.clock), Arc::clone(&self.log));
        Box::pin(async move {
            let output = match &*call.name {
                "spawn" => {
                    let origin = Origin::Agent { session: context.session.clone(), run: context.run };
                    let mut request = request(context.session, &call.arguments);
                    request.idempotency.get_or_insert(IdempotencyKey {
                        key: format!("{}/{}/{}", context.run, context.step, call.id),
                        may_repeat: context.repeated,
                    });
                    match context.tree.spawn(request, origin).await {
                        Ok(accepted) => ToolOutput::ok(format!("accepted {}", accepted.run)),
                        Err(refusal) => ToolOutput::ok(format!("refused {refusal}")),
                    }
                }
                "yield" => {
                    ToolOutput { text: "waiting".into(), status: ToolStatus::Ok, effect: Effect::Yield }
                }
                "wait" | "alone" => {
                    clock.sleep(Duration::from_millis(call.arguments.parse().unwrap())).await;
                    ToolOutput::ok("waited")
                }
                "hang" => std::future::pending().await,
                _ => panic!("the tool panics on purpose"),
            };
            log.tool_ends.lock().unwrap().push(call.id.to_string());
            output
        })
    }
}
