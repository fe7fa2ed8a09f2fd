//! Where a provider is and what every request to it carries.

use reqwest::Url;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::models::spec::{ProviderSpec, SpecError};

/// The address of chat completions under the provider's base address.
pub(super) fn url(spec: &ProviderSpec) -> Result<Url, SpecError> {
    let wrong = |problem: String| SpecError::provider(&spec.id, "baseUrl", problem);
    let form = "write an address such as https://api.example.com/v1";
    // The address itself is not shown: it may hold a password.
    let mut url = Url::parse(spec.base_url.trim()).map_err(|error| wrong(format!("{error}; {form}")))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(wrong(format!("no http or https address; {form}")));
    }
    url.set_fragment(None);
    match url.path_segments_mut() {
        Ok(mut segments) => segments.pop_if_empty().extend(["chat", "completions"]),
        Err(()) => return Err(wrong(format!("no address with a path; {form}"))),
    };
    Ok(url)
}

/// The headers of every request, marked so that nothing prints their values.
pub(super) fn headers(spec: &ProviderSpec) -> Result<HeaderMap, SpecError> {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(ACCEPT, HeaderValue::from_static("text/event-stream, application/json"));
    if let Some(key) = &spec.api_key {
        let bearer = SecretString::from(format!("Bearer {}", key.expose_secret()));
        let value = secret_value(&bearer).ok_or_else(|| {
            SpecError::provider(&spec.id, "apiKey", "holds characters that no header may hold")
        })?;
        headers.insert(AUTHORIZATION, value);
    }
    for (name, value) in &spec.headers {
        let wrong = |problem| SpecError::provider(&spec.id, &format!("headers.{name}"), problem);
        let header: HeaderName = name.parse().map_err(|_| wrong("no valid header name"))?;
        let value = secret_value(value).ok_or_else(|| wrong("holds characters that no header may hold"))?;
        headers.insert(header, value);
    }
    Ok(headers)
}

fn secret_value(secret: &SecretString) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(secret.expose_secret()).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Whether the address is this machine's own.
pub(super) fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let name = host.trim_end_matches('.').to_ascii_lowercase();
    let address = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    name == "localhost" || name.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url_of(base: &str) -> Result<String, SpecError> {
        url(&ProviderSpec::new("p", base)).map(String::from)
    }

    #[test]
    fn the_path_goes_under_the_base_and_a_query_stays() {
        assert_eq!(url_of("http://h/v1").unwrap(), "http://h/v1/chat/completions");
        assert_eq!(url_of(" http://h/v1/ ").unwrap(), "http://h/v1/chat/completions");
        assert_eq!(url_of("https://h:1").unwrap(), "https://h:1/chat/completions");
        assert_eq!(
            url_of("http://h/v1?api-version=2#x").unwrap(),
            "http://h/v1/chat/completions?api-version=2"
        );
    }

    #[test]
    fn an_address_that_cannot_work_names_its_setting_and_not_its_password() {
        for base in ["", "h/v1", "ftp://user:secret@h/", "http://user:secret@:x"] {
            let error = url_of(base).unwrap_err();
            assert_eq!(error.path, "models.providers.p.baseUrl");
            assert!(!error.to_string().contains("secret"), "{error}");
        }
    }

    #[test]
    fn configured_headers_win_and_no_value_is_printed() {
        let mut spec = ProviderSpec::new("p", "http://h");
        spec.api_key = Some("key-1".into());
        spec.headers =
            vec![("authorization".into(), "Basic key-2".into()), ("X-Team".into(), "key-3".into())];
        let headers = headers(&spec).unwrap();
        assert_eq!(headers[AUTHORIZATION], "Basic key-2");
        assert_eq!(headers["x-team"], "key-3");
        assert!(!format!("{headers:?}").contains("key-"));
    }

    #[test]
    fn a_header_that_cannot_be_sent_is_refused() {
        let mut spec = ProviderSpec::new("p", "http://h");
        spec.headers = vec![("X-Team".into(), "key\n3".into())];
        let error = headers(&spec).unwrap_err();
        assert_eq!(error.path, "models.providers.p.headers.X-Team");
        assert!(!error.to_string().contains("key"), "{error}");
    }

    #[test]
    fn loopback_in_every_spelling() {
        for base in ["http://localhost:1", "http://127.9.9.9", "http://[::1]:8", "http://a.localhost"] {
            assert!(is_loopback(&Url::parse(base).unwrap()), "{base}");
        }
        for base in ["http://localhost.example.com", "http://10.0.0.1", "http://[::2]"] {
            assert!(!is_loopback(&Url::parse(base).unwrap()), "{base}");
        }
    }
}
