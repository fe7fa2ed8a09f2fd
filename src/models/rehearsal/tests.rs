use std::sync::Mutex;
use std::time::Duration;

use offshoot_actors::ports::TokioClock;
use offshoot_actors::types::{Origin, RunId, Timestamp, Transcript};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl ModelSink for Heard {
    fn text(&self, piece: &str) {
        self.0.lock().unwrap().push(piece.to_owned());
    }
}

fn request(prompt: &str) -> ModelRequest {
    let run = RunId(Uuid::nil());
    let mut transcript = Transcript::default();
    let entry = Entry::User { text: prompt.into(), origin: Origin::Operator };
    transcript.push(Some(run), Timestamp(0), entry);
    ModelRequest {
        model: MODEL.parse().unwrap(),
        agent: "main".parse().unwrap(),
        session: "agent:main:main".parse().unwrap(),
        run,
        step: 1,
        system: Some("12345678".into()),
        transcript,
        tools: Arc::new([]),
    }
}

async fn ask(prompt: &str) -> (Result<Answer, ModelError>, Vec<String>) {
    let model = Rehearsal::new(Arc::new(TokioClock::starting_at(Timestamp(0))));
    let heard = Arc::new(Heard::default());
    let answer = model.call(request(prompt), Arc::<Heard>::clone(&heard)).await;
    let pieces = heard.0.lock().unwrap().clone();
    (answer, pieces)
}

#[tokio::test(start_paused = true)]
async fn a_wait_takes_the_clocks_time() {
    let start = tokio::time::Instant::now();
    let (answer, pieces) = ask("Wait: 2h\nReply with exactly: OK").await;
    assert_eq!(start.elapsed(), Duration::from_secs(7_200));
    let answer = answer.unwrap();
    assert_eq!((answer.text.as_str(), answer.stop, pieces), ("OK", StopReason::End, vec!["OK".to_owned()]));
}

#[tokio::test]
async fn usage_is_a_count_of_bytes() {
    let (answer, _) = ask("Reply with exactly: 12345").await;
    assert_eq!(answer.unwrap().usage, Usage { input: 9, output: 2, cached: 0 });
}

#[tokio::test]
async fn a_failure_has_its_kind_and_reason() {
    let (answer, pieces) = ask("Fail: rate_limit: slow down").await;
    assert_eq!(answer.unwrap_err(), ModelError::new(ModelErrorKind::RateLimited, "slow down"));
    assert!(pieces.is_empty());
}

#[tokio::test]
async fn a_panic_is_one_with_its_reason() {
    let panic = tokio::spawn(ask("Panic: boom")).await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<String>().unwrap(), "boom");
}

#[tokio::test]
async fn there_is_one_built_in_model() {
    let model = Rehearsal::new(Arc::new(TokioClock::starting_at(Timestamp(0))));
    let mut request = request("Reply with exactly: OK");
    request.model = "builtin/genius".parse().unwrap();
    let error = model.call(request, Arc::new(Heard::default())).await.unwrap_err();
    assert_eq!(error.kind, ModelErrorKind::NotFound);
}

proptest! {
    #[test]
    fn a_stream_has_its_pieces_and_loses_nothing(text in ".{0,40}", pieces in 1u32..60) {
        let heard = Heard::default();
        stream(&text, pieces, &heard);
        let heard = heard.0.into_inner().unwrap();
        prop_assert_eq!(heard.concat(), text.as_str());
        prop_assert_eq!(heard.len(), text.chars().count().min(pieces as usize));
        prop_assert!(heard.iter().all(|piece| !piece.is_empty()));
    }
}
