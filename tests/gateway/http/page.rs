//! The operators' page: its files are for everybody who may speak to the gateway, and there is nothing behind them.

use reqwest::header::{
    ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HOST, HeaderMap,
    IF_NONE_MATCH, LOCATION, ORIGIN,
};
use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{ask, sent};
use crate::rig::Daemon;

async fn got(daemon: &Daemon, path: &str) -> (StatusCode, HeaderMap, String) {
    let response = ask(daemon, Method::GET, path).send().await.unwrap();
    let (status, headers) = (response.status(), response.headers().clone());
    (status, headers, response.text().await.unwrap())
}

#[tokio::test]
async fn a_browser_gets_the_page_before_it_has_a_secret() {
    let daemon = Daemon::start().await;
    for (path, kind, says) in [
        ("/watch/", "text/html; charset=utf-8", "<!doctype html>"),
        ("/watch/main.js", "text/javascript; charset=utf-8", "import "),
        ("/watch/style.css", "text/css; charset=utf-8", ":root"),
        ("/watch/icon.svg", "image/svg+xml", "<svg"),
    ] {
        let (status, headers, text) = got(&daemon, path).await;
        assert_eq!((status, headers[CONTENT_TYPE].to_str().unwrap()), (StatusCode::OK, kind), "{path}");
        assert_eq!(headers[CONTENT_LENGTH].to_str().unwrap(), text.len().to_string(), "{path}");
        assert!(text.contains(says), "{path}");
    }
    let (status, headers, _) = got(&daemon, "/watch").await;
    assert_eq!((status, &headers[LOCATION]), (StatusCode::PERMANENT_REDIRECT, &"watch/".parse().unwrap()));
    let (_, _, root) = got(&daemon, "/").await;
    assert!(root.starts_with("offshoot: the gateway is here"), "{root}");
}

#[tokio::test]
async fn the_page_may_run_its_own_scripts_and_nothing_else() {
    let daemon = Daemon::start().await;
    for path in ["/watch/", "/watch/main.js", "/watch/none.js"] {
        let (_, headers, _) = got(&daemon, path).await;
        let policy = headers[CONTENT_SECURITY_POLICY].to_str().unwrap();
        for rule in [
            "default-src 'none'",
            "script-src 'self'",
            "style-src 'self'",
            "connect-src 'self'",
            "img-src 'self' data:",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.split("; ").any(|known| known == rule), "{path}: {rule} in {policy}");
        }
        assert!(!policy.contains("unsafe"), "{policy}");
        assert_eq!(headers["x-frame-options"], "DENY");
        assert_eq!(headers["x-content-type-options"], "nosniff");
        assert_eq!(headers["referrer-policy"], "no-referrer");
        assert_eq!(headers["cross-origin-opener-policy"], "same-origin");
    }
}

#[tokio::test]
async fn a_browser_that_has_a_file_is_not_sent_it_again() {
    let daemon = Daemon::start().await;
    let (_, headers, _) = got(&daemon, "/watch/main.js").await;
    assert_eq!(headers[CACHE_CONTROL], "no-cache");
    let tag = headers[ETAG].to_str().unwrap().to_owned();
    for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
        let again = ask(&daemon, Method::GET, "/watch/main.js").header(IF_NONE_MATCH, &known).send().await;
        let again = again.unwrap();
        assert_eq!((again.status(), &again.headers()[ETAG]), (StatusCode::NOT_MODIFIED, &headers[ETAG]));
        assert_eq!(again.text().await.unwrap(), "");
    }
    let other = ask(&daemon, Method::GET, "/watch/main.js").header(IF_NONE_MATCH, "\"other\"");
    assert_eq!(sent(other).await.0, StatusCode::OK);
    let (_, other, _) = got(&daemon, "/watch/tree.css").await;
    assert_ne!(other[ETAG], headers[ETAG]);
}

#[tokio::test]
async fn what_is_no_file_of_the_page_is_not_found() {
    let daemon = Daemon::start().await;
    for path in
        ["/watch/index.html", "/watch/none.js", "/watch/main.js/", "/watch//main.js", "/watch/%2e%2e/mod.rs"]
    {
        assert_eq!(got(&daemon, path).await.0, StatusCode::NOT_FOUND, "{path}");
    }
    let head = ask(&daemon, Method::HEAD, "/watch/main.js").send().await.unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    assert!(head.headers()[CONTENT_LENGTH].to_str().unwrap().parse::<u64>().unwrap() > 0);
    let posted = ask(&daemon, Method::POST, "/watch/").send().await.unwrap();
    assert_eq!(
        (posted.status(), &posted.headers()[ALLOW]),
        (StatusCode::METHOD_NOT_ALLOWED, &"GET, HEAD".parse().unwrap())
    );
}

#[tokio::test]
async fn a_page_of_elsewhere_gets_nothing_of_it() {
    let daemon = Daemon::start().await;
    for (name, value) in [(HOST, "rebound.example"), (ORIGIN, "https://elsewhere.example")] {
        let asked =
            ask(&daemon, Method::GET, "/watch/").header(name.clone(), value).header("sec-fetch-mode", "cors");
        assert_eq!(sent(asked).await.0, StatusCode::FORBIDDEN, "{name}");
    }
}

#[tokio::test]
async fn the_control_ui_takes_nothing_from_it_unless_it_is_told_to() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("index.html"), "<html>the control ui</html>").unwrap();
    for (base, at_watch) in [("", "Offshoot"), ("/claw", "Offshoot"), ("/watch", "the control ui")] {
        let config = json!({ "gateway": { "controlUi": { "root": root.path(), "basePath": base } } });
        let daemon = Daemon::with(&config.to_string()).await;
        let (_, _, text) = got(&daemon, "/watch/").await;
        assert!(text.contains(at_watch), "{base}: {text}");
        let (_, _, text) = got(&daemon, &format!("{base}/")).await;
        assert!(text.contains("the control ui"), "{base}: {text}");
    }
}
