//! `log.level`.

use serde_json::json;

use crate::rig::Daemon;

#[tokio::test]
async fn who_reads_may_see_the_level_and_who_administers_may_change_it() {
    let daemon = Daemon::start().await;
    let mut reader = daemon.client_with(&["operator.read"]).await;
    assert!(reader.call("log.level", json!({})).await.unwrap()["console"].is_string());
    for change in [json!({"level": "debug"}), json!({"reset": true})] {
        let refused = reader.call("log.level", change).await.unwrap_err();
        assert!(refused["message"].as_str().unwrap().contains("operator.admin"), "{refused}");
    }
    let mut admin = daemon.client().await;
    for (params, problem) in [
        (json!({"level": "inof"}), "did you mean info?"),
        (json!({"level": "info", "forMs": 5}), "/forMs"),
        (json!({"level": "info", "reset": true}), "or reset"),
        (json!({"forMs": 5_000}), "give level"),
        (json!({"level": "x".repeat(2_000)}), "1024 bytes"),
    ] {
        let refused = admin.call("log.level", params).await.unwrap_err();
        assert!(refused["message"].as_str().unwrap().contains(problem), "{refused}");
    }
    daemon.stop().await;
}
