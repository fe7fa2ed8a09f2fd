//! Runs that go on after a restart.

use super::*;

/// A run that another daemon began and this one goes on with.
fn resumed() -> Stage {
    let mut stage = Stage::new();
    let row = RunRow { started_at: Some(Timestamp(1)), ..stored(None) };
    stage.projection.resume(&row, None, None);
    for event in [Event::Started { session: session(), run: run() }, step_restarted()] {
        assert!(stage.take(event).is_empty());
    }
    stage
}

#[test]
fn the_first_text_after_a_restart_replaces_what_clients_have_of_the_step_that_was_cut() {
    let mut stage = resumed();
    let told = stage.text("right");
    assert_eq!(payload(&told[0])["data"], json!({"text": "right", "delta": "right", "replace": true}));
    let chat = payload(&told[1]);
    assert_eq!((&chat["deltaText"], &chat["replace"]), (&json!("right"), &json!(true)));
    stage.now += TEXT_EVERY;
    let told = stage.text(" and on");
    assert_eq!(payload(&told[0])["data"], json!({"text": "right and on", "delta": " and on"}));
    assert_eq!(payload(&told[1])["deltaText"], " and on");
}

#[test]
fn a_step_that_says_nothing_after_a_restart_takes_back_what_it_said_before() {
    for silent in [&["NO", "_REPLY"][..], &[]] {
        let mut stage = resumed();
        for piece in silent {
            assert_eq!(chats_of(stage.text(piece)), [Value::Null; 0]);
        }
        let told = stage.step_over();
        let data = json!({"text": "", "delta": "", "replace": true});
        assert_eq!((payload(&told[0])["data"].clone(), told.len()), (data, 2));
        let chat = payload(&told[1]);
        assert_eq!((&chat["deltaText"], &chat["replace"]), (&json!(""), &json!(true)));
        assert_eq!(chats_of(stage.step_over()), [Value::Null; 0], "once");
    }
    // What had ended before it was cut off is not taken back by the tools that come next.
    let mut stage = resumed();
    let tool = Event::ToolStarted { session: session(), run: run(), call: "1".into(), name: "t".into() };
    assert_eq!(chats_of(stage.take(tool)), [Value::Null; 0]);
}
