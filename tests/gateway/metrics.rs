//! `/metrics`, as Prometheus asks for it.

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::json;

use crate::rig::{Daemon, TOKEN};

const PATH: &str = "/metrics";

fn ask(daemon: &Daemon) -> RequestBuilder {
    Client::builder().no_proxy().build().unwrap().get(format!("http://{}{PATH}", daemon.address()))
}

async fn status(request: RequestBuilder) -> StatusCode {
    request.send().await.unwrap().status()
}

async fn page(daemon: &Daemon) -> String {
    let response = ask(daemon).bearer_auth(TOKEN).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/plain; version=0.0.4; charset=utf-8");
    response.text().await.unwrap()
}

/// The value of a line that begins with exactly this.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is missing in {page}")).parse().unwrap()
}

#[tokio::test]
async fn figures_are_for_who_proves_himself_unless_neighbours_need_not() {
    let daemon = Daemon::start().await;
    assert_eq!(status(ask(&daemon)).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(ask(&daemon).bearer_auth("wrong")).await, StatusCode::UNAUTHORIZED);
    assert_eq!(status(ask(&daemon).bearer_auth(TOKEN)).await, StatusCode::OK);
    let daemon = daemon.restart_with("{ gateway: { metrics: { auth: 'none' } } }").await;
    assert_eq!(status(ask(&daemon)).await, StatusCode::OK);
    // Whoever comes by a proxy could be anybody.
    assert_eq!(status(ask(&daemon).header("x-forwarded-for", "192.0.2.1")).await, StatusCode::UNAUTHORIZED);
    let daemon = daemon.restart_with("{ gateway: { metrics: { enabled: false } } }").await;
    assert_eq!(status(ask(&daemon).bearer_auth(TOKEN)).await, StatusCode::NOT_FOUND);
    daemon.stop().await;
}

#[tokio::test]
async fn a_spawn_is_counted_from_its_acceptance_to_its_result() {
    let daemon = Daemon::start().await;
    let mut client = daemon.client().await;
    let before = page(&daemon).await;
    assert_eq!(value(&before, "offshoot_spawns_total"), 0.0);
    let message = r#"Spawn: {"task":"Reply with exactly: SUBAGENT_OK"}"#;
    let id = client.send("agent", json!({"message": message, "idempotencyKey": "k"})).await;
    client.answer(&id).await.unwrap();
    client.answer(&id).await.unwrap();
    let refused = json!({"task": "x", "agentId": "nobody"});
    let id =
        client.send("agent", json!({"message": format!("Spawn: {refused}"), "idempotencyKey": "r"})).await;
    client.answer(&id).await.unwrap();
    client.response(&id).await;
    client.call("no.such", json!({})).await.unwrap_err();
    let after = page(&daemon).await;
    let figure = |series: &str| value(&after, series);
    assert_eq!(figure("offshoot_spawns_total"), 1.0);
    let refusals = after.lines().filter(|line| line.starts_with("offshoot_spawn_refusals_total{reason="));
    assert_eq!(refusals.map(|line| line.rsplit_once(' ').unwrap().1).collect::<Vec<_>>(), ["1"], "{after}");
    assert_eq!(figure("offshoot_runs_accepted_total{cause=\"spawn\"}"), 1.0);
    assert_eq!(
        figure("offshoot_runs_ended_total{state=\"ok\"}"),
        figure("offshoot_lane_wait_seconds_count{lane=\"main\"}") + 1.0
    );
    assert_eq!(figure("offshoot_lane_wait_seconds_count{lane=\"subagent\"}"), 1.0);
    assert_eq!(figure("offshoot_announce_latency_seconds_count"), 1.0);
    assert!(figure("offshoot_tool_calls_total{tool=\"sessions_spawn\",status=\"ok\"}") >= 1.0);
    assert!(figure("offshoot_step_seconds_count") >= 3.0);
    assert!(figure("offshoot_tokens_total{model=\"builtin/rehearsal\",kind=\"input\"}") > 0.0);
    assert_eq!(figure("offshoot_runs{state=\"running\"}"), 0.0);
    assert_eq!(figure("offshoot_connections{role=\"operator\"}"), 1.0);
    assert!(figure("offshoot_requests_total{family=\"agent\",result=\"ok\"}") >= 1.0);
    assert_eq!(figure("offshoot_requests_total{family=\"other\",result=\"error\"}"), 1.0);
    assert_eq!(figure("offshoot_actors_stuck{kind=\"sessions\"}"), 0.0);
    assert!(
        figure("offshoot_messages_handled_total{kind=\"run\"}") > 0.0,
        "those of actors that are gone count"
    );
    assert!(figure("offshoot_commits_total{result=\"ok\"}") > 0.0);
    assert!(figure("process_resident_memory_bytes") > 1e6 && figure("process_start_time_seconds") > 1e9);
    daemon.stop().await;
}

#[tokio::test]
async fn a_model_that_a_reload_names_is_counted_by_its_name() {
    let config = |more: &str| format!("{{ gateway: {{ reload: {{ debounceMs: 0 }} }}, {more} }}");
    let daemon = Daemon::with_file(&config("")).await;
    let mut client = daemon.client().await;
    let series = "offshoot_tokens_total{model=\"local/new\",kind=\"input\"} 0\n";
    assert!(!page(&daemon).await.contains(series));
    let models =
        "models: { providers: { local: { baseUrl: 'http://127.0.0.1:1/v1', models: [{ id: 'new' }] } } }";
    daemon.configure(&config(models));
    client.event("health", |_| true).await;
    assert!(page(&daemon).await.contains(series));
    daemon.stop().await;
}
