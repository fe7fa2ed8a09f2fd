//! A run that panics, as its parent and its supervisor see it.
//!
//! Of three sub-agents one panics in its model call. It ends as `crashed` with the panic's text, its parent gets
//! that as a result like any other, its siblings do not notice, and no other actor is restarted.
//!
//! ```sh
//! cargo run --example panic
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]
#![expect(clippy::panic, reason = "the panic is the example")]

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use offshoot_actors::ports::{Answer, FnModels, ModelRequest, SeededIds, TokioClock};
use offshoot_actors::types::{Entry, Origin, SessionKey, Settings, SpawnRequest, Timestamp};
use offshoot_actors::{Tree, TreeOptions};

fn answer(request: &ModelRequest) -> String {
    match request.transcript.entries().last().map(|last| &last.entry) {
        Some(Entry::User { text, .. }) if text == "divide" => panic!("attempt to divide by zero"),
        Some(Entry::User { text, .. }) => format!("done with {text}"),
        Some(Entry::Announce { items }) => {
            let told = items.iter().map(|item| {
                let detail = item.reason.as_deref().or(item.text.as_deref()).unwrap_or_default();
                format!("[{}: {detail}]", item.state)
            });
            told.collect()
        }
        _ => "nothing to do".to_owned(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    // Every panic reaches its supervisor as a value; the default hook would print it a second time.
    std::panic::set_hook(Box::new(|_| {}));
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let clock = TokioClock::starting_at(Timestamp(i64::try_from(now.as_millis())?));
    let ids = SeededIds::new(u64::try_from(now.as_micros())?);
    let models = FnModels::new(|request, _| async move { Ok(Answer::text(answer(&request))) });
    let settings = Settings::with_model("main".parse()?, "example/closure".parse()?);

    let tree = Tree::start(TreeOptions::in_memory(clock, ids, models, settings)).await?;
    let handle = tree.handle();
    let parent: SessionKey = "agent:main:main".parse()?;

    let mut runs = Vec::new();
    for task in ["add", "divide", "multiply"] {
        let request = SpawnRequest::new(parent.clone(), task);
        runs.push((task, handle.spawn(request, Origin::Embedder).await?.run));
    }
    for (task, run) in runs {
        let outcome = handle.outcome(run).await?;
        println!("{task:<9} {:<8} {}", outcome.state.as_str(), outcome.reason.unwrap_or_default());
    }

    // The parent takes the results in one turn, or in several if they come one after the other.
    handle.quiet(&parent).await?;
    let stored = handle.storage().load_session(parent).await?.ok_or("the parent is not stored")?;
    for entry in &stored.transcript {
        if let Entry::Assistant { text, .. } = &entry.entry {
            println!("parent    was told {text}");
        }
    }

    println!("actors that live on:");
    for actor in handle.actors() {
        println!("  {} ({}), rebuilt {} times", actor.path, actor.kind, actor.restarts);
    }
    tree.stop().await;
    Ok(())
}
