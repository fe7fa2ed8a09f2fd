//! The tree inside another program, with a closure as the model.
//!
//! A sub-agent is spawned, does its task, and its result reaches the session that it was spawned for, which
//! runs on it. Nothing else is needed: no daemon, no file, no key.
//!
//! ```sh
//! cargo run --example embed
//! ```
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::time::{SystemTime, UNIX_EPOCH};

use offshoot_actors::ports::{Answer, FnModels, ModelRequest, SeededIds, TokioClock};
use offshoot_actors::types::{Entry, Origin, SessionKey, Settings, SpawnRequest, Timestamp};
use offshoot_actors::{Tree, TreeOptions};

/// What a call to a real model would be: the conversation in, an answer out.
fn answer(request: &ModelRequest) -> String {
    match request.transcript.entries().last().map(|last| &last.entry) {
        Some(Entry::User { text, .. }) => text.to_uppercase(),
        Some(Entry::Announce { items }) => {
            let texts: Vec<&str> = items.iter().filter_map(|item| item.text.as_deref()).collect();
            format!("my sub-agent says: {}", texts.join(", "))
        }
        _ => "nothing to do".to_owned(),
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let clock = TokioClock::starting_at(Timestamp(i64::try_from(now.as_millis())?));
    // The same seed would give the same ids; a program that keeps sessions takes them from the system instead.
    let ids = SeededIds::new(u64::try_from(now.as_micros())?);
    let models = FnModels::new(|request, _| async move { Ok(Answer::text(answer(&request))) });
    let settings = Settings::with_model("main".parse()?, "example/closure".parse()?);

    let tree = Tree::start(TreeOptions::in_memory(clock, ids, models, settings)).await?;
    let handle = tree.handle();

    let parent: SessionKey = "agent:main:main".parse()?;
    let request = SpawnRequest::new(parent.clone(), "hello from a sub-agent");
    let accepted = handle.spawn(request, Origin::Embedder).await?;
    println!("accepted  run {} in {}", accepted.run, accepted.session);

    let outcome = handle.outcome(accepted.run).await?;
    println!("child     {}: {}", outcome.state, outcome.text.unwrap_or_default());

    // Quiet: the result has been delivered, and the parent's own run on it is over.
    handle.quiet(&parent).await?;
    let stored = handle.storage().load_session(parent).await?.ok_or("the parent is not stored")?;
    if let Some(Entry::Assistant { text, .. }) = stored.transcript.last().map(|last| &last.entry) {
        println!("parent    {text}");
    }
    tree.stop().await;
    Ok(())
}
