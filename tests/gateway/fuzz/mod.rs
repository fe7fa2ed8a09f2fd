//! A fuzzer of what comes in by the port: bytes, frames, connects, requests of every method.
//!
//! A round is a daemon of its own and inputs that its seed gives. After every few of them the [`oracle`] looks whether
//! anybody but their senders noticed. What once failed is kept in `tests/gateway/corpus`, a file each.
//!
//! `FUZZ_SEED=n` runs one round, `FUZZ_SECONDS=n` runs other rounds for so long.

#![allow(clippy::print_stderr)]

mod identity;
pub mod input;
pub mod make;
mod mutate;
mod oracle;
pub mod peer;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rand::SeedableRng;
use rand::rngs::StdRng;

use self::input::Input;
use self::make::Kind;
use self::oracle::{Oracle, resident};

const HOOK_TOKEN: &str = "a-hook-token";
/// Everything that listens does. Failures are answered at once, and lock nobody out.
const CONFIG: &str = r#"{
    gateway: {
        auth: { mode: "token", rateLimit: { maxAttempts: 1, windowMs: 1000, lockoutMs: 1 } },
        http: { endpoints: { chatCompletions: { enabled: true }, responses: { enabled: true } } },
    },
    hooks: { enabled: true, token: "a-hook-token" },
}"#;
/// Inputs of one round.
const INPUTS: usize = 128;
/// Inputs that are sent at the same time.
const AT_ONCE: usize = 16;
/// Rounds where nothing else is asked for.
const ROUNDS: u64 = 8;
/// More memory than this is not left behind by rounds that have ended, in MiB.
const GROWTH: u64 = 128;

#[test]
fn nothing_that_comes_in_disturbs_anybody_else() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a whole number"));
    match (number("FUZZ_SEED"), number("FUZZ_SECONDS")) {
        (Some(seed), _) => run_round(seed),
        (None, Some(seconds)) => run_for(Duration::from_secs(seconds)),
        (None, None) => (1..=ROUNDS).for_each(run_round),
    }
}

#[tokio::test]
async fn the_corpus_is_answered_as_it_was() {
    for (name, case) in input::corpus() {
        let mut oracle = Oracle::start(Kind::Client).await;
        let answer = peer::send(oracle.daemon.address(), &case.input).await;
        let answer = answer.unwrap_or_else(|problem| panic!("{name}: {problem}"));
        assert!(answer.starts_with(&case.answer), "{name}: {answer:?} in the place of {:?}", case.answer);
        oracle.check().await.unwrap_or_else(|problem| panic!("{name}: {problem}"));
        oracle.end().await.unwrap_or_else(|problem| panic!("{name}: {problem}"));
    }
}

#[tokio::test]
async fn every_method_has_an_example_to_change() {
    let daemon = crate::rig::Daemon::start().await;
    let client = daemon.client().await;
    let methods = client.hello["features"]["methods"].as_array().unwrap();
    let methods: Vec<&str> = methods.iter().map(|name| name.as_str().unwrap()).collect();
    let examples: Vec<&str> = make::METHODS.keys().map(String::as_str).collect();
    assert_eq!(examples, methods, "tests/gateway/fuzz/examples.json has one for each method");
    drop(client);
    daemon.stop().await;
}

fn run_for(time: Duration) {
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() << 16;
    let (began, mut told) = (Instant::now(), Duration::ZERO);
    let mut settled = None;
    for seed in first.. {
        run_round(seed);
        let elapsed = began.elapsed();
        let rounds = seed - first + 1;
        if elapsed > time / 5 {
            let settled = *settled.get_or_insert_with(resident);
            assert!(resident() < settled + GROWTH, "{} MiB, {settled} MiB before", resident());
        }
        if elapsed > told || elapsed > time {
            told = elapsed + Duration::from_secs(30);
            let inputs = rounds * INPUTS as u64;
            eprintln!("{} s: {rounds} rounds, {inputs} inputs, {} MiB", elapsed.as_secs(), resident());
        }
        if elapsed > time {
            return;
        }
    }
}

fn run_round(seed: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    if let Err(problem) = runtime.block_on(round(seed)) {
        panic!("FUZZ_SEED={seed}: {problem}");
    }
}

async fn round(seed: u64) -> Result<(), String> {
    let mut random = StdRng::seed_from_u64(seed);
    let kind = match seed % 8 {
        0 => Kind::Owner,
        1..4 => Kind::Client,
        _ => Kind::Stranger,
    };
    let mut oracle = Oracle::start(kind).await;
    for _ in 0..INPUTS / AT_ONCE {
        let inputs: Vec<Input> = (0..AT_ONCE).map(|_| make::input(&mut random, kind)).collect();
        let address = oracle.daemon.address();
        let answers = futures::future::join_all(inputs.iter().map(|input| peer::send(address, input))).await;
        for (answer, input) in answers.into_iter().zip(&inputs) {
            answer.map_err(|problem| format!("{problem}, after {}", json(input)))?;
        }
        let all = || inputs.iter().map(json).collect::<Vec<_>>().join("\n");
        oracle.check().await.map_err(|problem| format!("{problem}, after one of\n{}", all()))?;
    }
    oracle.end().await
}

fn json(input: &Input) -> String {
    serde_json::to_string(input).unwrap()
}
