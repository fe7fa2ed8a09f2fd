//! An orchestrator that fans out and joins.
//!
//! The agent asks one worker for each line of its prompt, waits for all of them without holding a place in a
//! lane, and is called once with every result. Its two tools are all that is needed for that: `delegate` spawns
//! a sub-agent on behalf of the run that calls it, `join` gives the turn up until the children are done.
//!
//! ```sh
//! cargo run --example fan_out
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use offshoot_actors::ports::{
    Answer, BoxFuture, Effect, FnModels, ModelRequest, SeededIds, TokioClock, ToolContext, ToolOutput,
    ToolSpec, Tools,
};
use offshoot_actors::types::{
    Entry, Origin, PromptRequest, SessionKey, Settings, SpawnRequest, Timestamp, ToolCall,
};
use offshoot_actors::{Tree, TreeOptions};

/// The tools of the agents.
struct Team(Vec<Arc<ToolSpec>>);

impl Team {
    fn new() -> Self {
        let tool = |name: &str, description: &str, parallel| {
            Arc::new(ToolSpec {
                name: name.into(),
                description: description.into(),
                parameters: r#"{"type":"string"}"#.into(),
                parallel,
                idempotent: false,
                yields: name == "yield",
                groups: &[],
            })
        };
        Self(vec![
            tool("delegate", "Give a task to a sub-agent.", true),
            tool("join", "Wait until all sub-agents are done.", false),
        ])
    }
}

impl Tools for Team {
    fn catalog(&self) -> &[Arc<ToolSpec>] {
        &self.0
    }

    fn call(&self, context: ToolContext, call: ToolCall) -> BoxFuture<ToolOutput> {
        Box::pin(async move {
            if &*call.name == "join" {
                return ToolOutput { effect: Effect::Yield, ..ToolOutput::ok("waiting") };
            }
            let origin = Origin::Agent { session: context.session.clone(), run: context.run };
            let request = SpawnRequest::new(context.session, &*call.arguments);
            match context.tree.spawn(request, origin).await {
                Ok(accepted) => ToolOutput::ok(format!("run {}", accepted.run)),
                Err(refusal) => ToolOutput::error(refusal.to_string()),
            }
        })
    }
}

/// The worker and the orchestrator; a real model would tell them apart by its prompt.
fn answer(request: &ModelRequest) -> Answer {
    let prompt = request.transcript.entries().iter().find_map(|stored| match &stored.entry {
        Entry::User { text, .. } => Some(text.as_str()),
        _ => None,
    });
    let prompt = prompt.unwrap_or_default();
    if request.session.is_subagent() {
        return Answer::text(format!("{prompt} has {} letters", prompt.chars().count()));
    }
    let results = request.transcript.entries().iter().rev().find_map(|stored| match &stored.entry {
        Entry::Announce { items } => Some(items),
        _ => None,
    });
    match (request.step, results) {
        (1, _) => Answer::tools(
            prompt.lines().map(|line| tool_call(&format!("delegate {line}"), "delegate", line)).collect(),
        ),
        (_, None) => Answer::tools(vec![tool_call("join", "join", "")]),
        (_, Some(items)) => {
            let lines: Vec<&str> = items.iter().filter_map(|item| item.text.as_deref()).collect();
            Answer::text(lines.join("\n"))
        }
    }
}

fn tool_call(id: &str, name: &str, arguments: &str) -> ToolCall {
    ToolCall { id: id.into(), name: name.into(), arguments: arguments.into() }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let clock = TokioClock::starting_at(Timestamp(i64::try_from(now.as_millis())?));
    let ids = SeededIds::new(u64::try_from(now.as_micros())?);
    let models = FnModels::new(|request, _| async move { Ok(answer(&request)) });
    let mut settings = Settings::with_model("main".parse()?, "example/closure".parse()?);
    // Five children are allowed to be open at once, two of them to execute at once.
    settings.lanes.subagent = 2;

    let mut options = TreeOptions::in_memory(clock, ids, models, settings);
    options.tools = Arc::new(Team::new());
    let tree = Tree::start(options).await?;
    let handle = tree.handle();

    let main: SessionKey = "agent:main:main".parse()?;
    let prompt = PromptRequest::new(main, "oak\nbirch\nhazel\nlinden\nhornbeam");
    let submitted = handle.submit(prompt, Origin::Embedder).await?;
    let outcome = handle.outcome(submitted.run).await?;
    println!("{}", outcome.text.unwrap_or_default());
    tree.stop().await;
    Ok(())
}
