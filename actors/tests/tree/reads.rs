//! Reads that fail: who asks is told, and nothing that nobody would repeat is lost.

use std::sync::Arc;

use offshoot_actors::MemoryStorage;
use offshoot_actors::ports::{Answer, ModelError};
use offshoot_actors::types::{Origin, PromptRequest};

use crate::rig::{Asked, Call, brief, call, items, main_key, request, setup};

async fn script(call_: Call) -> Result<Answer, ModelError> {
    Ok(match (&*call_.task(), call_.request.step) {
        ("leave", 1) => Answer::tools(vec![call("1", "spawn", "hang")]),
        ("hang", _) => std::future::pending().await,
        _ => Answer::text(format!("got {}", call_.news().join(","))),
    })
}

#[tokio::test(start_paused = true)]
async fn a_result_for_a_session_that_cannot_be_read_waits_until_it_can() {
    let storage = Arc::new(MemoryStorage::new());
    let rig = setup().on(&storage, 1).start(script).await;
    rig.answer("leave").await;
    rig.until("the child works", |rig| rig.log.in_flight() == 1).await;
    rig.stop().await;
    let (setup_, faulty) = setup().on(&storage, 2).faulty();
    faulty.fail(5, |asked| matches!(asked, Asked::Load(key) if **key == main_key()));
    // It ends the child as interrupted and tells the parent, which sleeps.
    let rig = setup_.start(script).await;
    rig.sleep(1).await;
    let prompt = PromptRequest::new(main_key(), "hello");
    let refusals = [
        rig.handle.submit(prompt, Origin::Operator).await.unwrap_err(),
        rig.handle.spawn(request(main_key(), "hello"), Origin::Operator).await.unwrap_err(),
    ];
    assert_eq!(refusals.map(|refusal| refusal.code), ["store"; 2]);
    rig.quiet().await;
    let results: Vec<_> = items(&rig.transcript(&main_key())).iter().map(brief).collect();
    assert_eq!(results, ["interrupted:"]);
    assert_eq!(rig.answer("hello").await.text.as_deref(), Some("got "));
    rig.finish().await;
}
