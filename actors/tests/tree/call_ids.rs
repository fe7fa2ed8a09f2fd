//! Tool calls that a model gives ids that are not unique.

use std::sync::{Arc, Mutex};

use offshoot_actors::ports::{Answer, Event, Storage};
use offshoot_actors::types::{Entry, Terminal, ToolStatus};

use crate::rig::{Call, call, main_key, setup};

#[tokio::test(start_paused = true)]
async fn a_second_call_of_the_same_id_is_refused_and_kept_apart() {
    let asked = Arc::new(Mutex::new(None));
    let seen = Arc::clone(&asked);
    let rig = setup().start(move |call_: Call| {
        let seen = Arc::clone(&seen);
        async move {
            if call_.request.step == 1 {
                let calls = [("a", "50"), ("a", "10"), ("a_2", "20"), ("a", "5"), ("b", "1")];
                return Ok(Answer::tools(calls.map(|(id, ms)| call(id, "wait", ms)).to_vec()));
            }
            *seen.lock().unwrap() = Some(call_.request.transcript.clone());
            Ok(Answer::text("done"))
        }
    });
    let rig = rig.await;
    assert_eq!(rig.answer("go").await.state, Terminal::Ok);

    let executed = rig.log.tools.lock().unwrap().clone();
    let ids: Vec<&str> = executed.iter().map(|(id, _)| id.as_str()).collect();
    assert_eq!(ids, ["a", "a_2", "b"], "each once, the repeated ones never");

    let rows = rig.storage.tool_rows();
    let rows: Vec<(&str, Option<ToolStatus>)> =
        rows.iter().map(|row| (&*row.call, row.finished.map(|(status, _)| status))).collect();
    assert_eq!(rows, ["a", "a_2", "b"].map(|id| (id, Some(ToolStatus::Ok))));

    let told: Vec<(String, ToolStatus)> = rig
        .events
        .all()
        .into_iter()
        .filter_map(|event| match event {
            Event::ToolFinished { call, status, .. } => Some((call.to_string(), status)),
            _ => None,
        })
        .collect();
    let transcript = asked.lock().unwrap().take().unwrap();
    let stored = rig.storage.entries(main_key(), 0, 100).await.unwrap();
    for entries in [transcript.entries(), &stored[..]] {
        let mut asked_for = Vec::new();
        let mut results = Vec::new();
        for stored in entries {
            match &stored.entry {
                Entry::Assistant { tool_calls, .. } => {
                    asked_for.extend(
                        tool_calls.iter().map(|call| (call.id.to_string(), call.arguments.to_string())),
                    );
                }
                Entry::ToolResult { call, status, text, .. } => {
                    results.push((call.to_string(), *status, text.clone()))
                }
                _ => {}
            }
        }
        let expected = [("a", "50"), ("a_3", "10"), ("a_2", "20"), ("a_4", "5"), ("b", "1")];
        assert_eq!(asked_for, expected.map(|(id, ms)| (id.to_owned(), ms.to_owned())));
        assert_eq!(results.len(), 5, "{results:?}");
        for (id, _) in &asked_for {
            let mut of_call = results.iter().filter(|(call, ..)| call == id);
            let (_, status, text) = of_call.next().unwrap();
            assert!(of_call.next().is_none(), "one result each: {results:?}");
            assert!(told.contains(&(id.clone(), *status)));
            let repeated = matches!(id.as_str(), "a_3" | "a_4");
            assert_eq!(*status == ToolStatus::Error, repeated, "{id}: {text}");
            assert_eq!(
                text.contains("an earlier tool call of this step has the id \"a\""),
                repeated,
                "{text}"
            );
        }
    }
    rig.finish().await;
}
