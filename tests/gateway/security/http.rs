//! HTTP from whoever is not meant.

use reqwest::{Client, StatusCode};

use super::Door;

#[tokio::test]
async fn where_nothing_is_proved_a_request_through_a_proxy_is_nobodys() {
    let door =
        Door::with("auth: { mode: 'none' }, http: { endpoints: { chatCompletions: { enabled: true } } }")
            .await;
    let client = Client::builder().no_proxy().build().unwrap();
    let url = format!("http://{}/v1/models", door.address());
    let direct = client.get(&url).send().await.unwrap();
    assert_eq!(direct.status(), StatusCode::OK);
    let proxied = client.get(&url).header("x-forwarded-for", "203.0.113.5").send().await.unwrap();
    assert_eq!(proxied.status(), StatusCode::UNAUTHORIZED);
    door.close().await;
}
