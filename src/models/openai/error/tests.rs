use reqwest::header::HeaderValue;
use serde_json::json;

use super::*;

const KEY: &str = "sk-very-secret-0123456789";

fn reporter() -> Reporter {
    Reporter::new("p".into(), "h:1".into(), [SecretString::from(KEY), SecretString::from("x")])
}

fn status(code: u16, body: &[u8]) -> ModelError {
    reporter().status(StatusCode::from_u16(code).unwrap(), &HeaderMap::new(), body, true, Timestamp(0))
}

#[test]
fn every_status_has_its_kind() {
    use ModelErrorKind::*;
    for (code, kind) in [
        (400, BadRequest),
        (401, Auth),
        (402, Billing),
        (403, Auth),
        (404, NotFound),
        (408, Server),
        (413, BadRequest),
        (422, BadRequest),
        (429, RateLimited),
        (500, Server),
        (502, Server),
        (503, Overloaded),
        (504, Server),
        (529, Overloaded),
        (307, BadRequest),
    ] {
        assert_eq!(status(code, b"").kind, kind, "{code}");
    }
}

#[test]
fn the_errors_name_says_more_than_its_status() {
    use ModelErrorKind::*;
    for (code, error, kind) in [
        (400, json!({"error": {"message": "m", "code": "context_length_exceeded"}}), ContextLength),
        (413, json!({"error": {"message": "m", "type": "exceed_context_size_error"}}), ContextLength),
        (400, json!({"message": "This model's maximum context length is 8 tokens"}), ContextLength),
        (429, json!({"error": {"message": "m", "code": "insufficient_quota"}}), Billing),
        (400, json!({"error": {"message": "m", "code": "model_not_found"}}), NotFound),
        (429, json!({"error": {"message": "m", "code": "rate_limit_exceeded"}}), RateLimited),
        (401, json!({"error": {"message": "m", "code": "context_length_exceeded"}}), Auth),
    ] {
        assert_eq!(status(code, error.to_string().as_bytes()).kind, kind, "{code} {error}");
    }
}

#[test]
fn every_form_of_body_is_quoted() {
    for body in [
        json!({"error": {"message": "too bad"}}).to_string(),
        json!({"error": "too bad"}).to_string(),
        json!({"detail": "too bad"}).to_string(),
        json!([{"error": {"message": "too bad"}}]).to_string(),
        "too\u{0}\n\tbad".to_owned(),
    ] {
        assert_eq!(status(500, body.as_bytes()).message, "provider p at h:1: status 500: too bad", "{body}");
    }
    assert_eq!(status(500, b"").message, "provider p at h:1: status 500");
}

#[test]
fn advice_names_the_setting() {
    assert!(status(401, b"no").message.ends_with("; check models.providers.p.apiKey"));
    assert!(status(404, b"no").message.contains("models.providers.p.baseUrl"));
    let mut headers = HeaderMap::new();
    headers.insert(LOCATION, HeaderValue::from_static("https://new.example.com/"));
    let error = reporter().status(StatusCode::FOUND, &headers, b"", true, Timestamp(0));
    assert!(error.message.contains("redirects to https://new.example.com/"), "{error}");
    assert!(error.message.contains("models.providers.p.baseUrl"), "{error}");
}

#[test]
fn no_quotation_holds_the_key_or_is_long() {
    let whole = format!("bad key {KEY}{KEY} x {}", "long ".repeat(1_000));
    let error = status(401, whole.as_bytes());
    assert!(!error.message.contains("secret") && error.message.contains("[redacted][redacted] x long"));
    assert!(error.message.len() < MAX_QUOTE + 100);

    for end in 0..KEY.len() {
        let cut = format!("bad key {}", &KEY[..end]);
        let headers = HeaderMap::new();
        let error = reporter().status(StatusCode::FORBIDDEN, &headers, cut.as_bytes(), false, Timestamp(0));
        assert!(!error.message.contains("sk-"), "{error}");
    }
    let in_stream = reporter().in_stream(&json!({"message": KEY, "code": KEY}));
    assert!(!in_stream.message.contains(KEY));
    assert!(!reporter().protocol(KEY, KEY.as_bytes()).message.contains(KEY));
}

#[test]
fn no_part_of_a_header_is_quoted() {
    for (name, value, hidden, shown) in [
        ("Authorization", "Bearer sk-secret-123", "sk-secret-123", "Bearer"),
        ("authorization", "Basic dXNlcjpwYXNzLXdvcmQ=", "pass-word", "Basic"),
        ("authorization", "Basic dXNlcjpwYXNzLXdvcmQ=", "dXNlcjpwYXNzLXdvcmQ=", "Basic"),
        ("Proxy-Authorization", "Custom sk-secret-123", "sk-secret-123", "Custom"),
        ("X-Api-Key", "token sk-secret-123", "sk-secret-123", "token"),
        ("X-Api-Key", "first-secret other-secret", "first-secret", "the header"),
        ("X-Api-Key", "sk-secret-123", "sk-secret-123", "the header"),
    ] {
        let secrets = secrets_of_header(name, &SecretString::from(value));
        let reporter = Reporter::new("p".into(), "h:1".into(), secrets);
        let body = format!("the header {shown} does not take {hidden}");
        let error =
            reporter.status(StatusCode::UNAUTHORIZED, &HeaderMap::new(), body.as_bytes(), true, Timestamp(0));
        let quote = format!("the header {shown} does not take [redacted]");
        assert!(error.message.contains(&quote), "{value}: {error}");
    }
}

#[test]
fn a_secret_within_another_leaves_nothing_of_it() {
    let reporter = Reporter::new("p".into(), "h:1".into(), ["1234", "ab-1234-cd"].map(SecretString::from));
    let error = reporter.in_stream(&json!("no ab-1234-cd"));
    assert!(error.message.ends_with("no [redacted]"), "{error}");
}

#[test]
fn errors_inside_an_answer_have_a_kind_too() {
    use ModelErrorKind::*;
    for (error, kind) in [
        (json!({"message": "m", "code": 429}), RateLimited),
        (json!({"message": "m", "code": 402}), Billing),
        (json!({"message": "m", "code": "rate_limit_exceeded"}), RateLimited),
        (json!({"message": "m", "type": "overloaded_error"}), Overloaded),
        (json!({"message": "m", "type": "invalid_request_error"}), BadRequest),
        (
            json!({"message": "m", "type": "invalid_request_error", "code": "context_length_exceeded"}),
            ContextLength,
        ),
        (json!("all is lost"), Server),
    ] {
        assert_eq!(reporter().in_stream(&error).kind, kind, "{error}");
    }
}

#[test]
fn the_wish_to_wait_in_all_its_forms() {
    let wish = |pairs: &[(&'static str, &'static str)], now: i64| {
        let headers = pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
            .collect();
        retry_after(&headers, Timestamp(now))
    };
    let seconds = Duration::from_secs;
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(wish(&[("retry-after", "7")], 0), Some(seconds(7)));
    assert_eq!(wish(&[("retry-after", " 0.5 ")], 0), Some(Duration::from_millis(500)));
    assert_eq!(
        wish(&[("retry-after", "9"), ("retry-after-ms", "1500")], 0),
        Some(Duration::from_millis(1_500))
    );
    assert_eq!(
        wish(&[("retry-after", date), ("date", "Sun, 06 Nov 1994 08:49:30 GMT")], 0),
        Some(seconds(7))
    );
    assert_eq!(wish(&[("retry-after", date)], 784_111_770_000), Some(seconds(7)));
    assert_eq!(wish(&[("retry-after", date)], 784_111_999_000), Some(Duration::ZERO));
    assert_eq!(wish(&[("retry-after", "1e30")], 0), None);
    assert_eq!(wish(&[("retry-after", "999999999")], 0), Some(MAX_RETRY_AFTER));
    for nonsense in ["-1", "soon", "NaN", ""] {
        assert_eq!(wish(&[("retry-after", nonsense)], 0), None, "{nonsense}");
    }
    assert_eq!(wish(&[], 0), None);
}
