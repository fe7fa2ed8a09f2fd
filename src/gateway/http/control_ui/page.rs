//! The page itself: it is told where it stands, and only its own scripts may run.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use sha2::{Digest, Sha256};

/// Prepares the page: its text, and what a browser may do with it.
pub(super) fn prepare(text: &str, base: &str) -> (String, HeaderValue) {
    // From every path of the page its files are found below the base path.
    let mut text = text.replace("src=\"./", &format!("src=\"{base}/"));
    text = text.replace("href=\"./", &format!("href=\"{base}/"));
    if let Some(at) = text.find("<html") {
        // A base path has no quotes: the configuration allows none.
        text.insert_str(at + "<html".len(), &format!(" data-openclaw-control-ui-base-path=\"{base}\""));
    }
    let policy = policy(&inline_scripts(&text));
    (text, policy)
}

/// What a browser may do with the page; `hashes` are those of the scripts that stand in it.
pub(super) fn policy(hashes: &[String]) -> HeaderValue {
    let scripts = hashes.iter().fold(String::new(), |text, hash| format!("{text} 'sha256-{hash}'"));
    let policy = [
        "default-src 'self'",
        "base-uri 'none'",
        "object-src 'none'",
        "frame-ancestors 'none'",
        "frame-src 'self' http: https:",
        &format!("script-src 'self' 'wasm-unsafe-eval'{scripts}"),
        "style-src 'self' 'unsafe-inline' https://fonts.googleapis.com",
        "img-src 'self' data: blob: https:",
        "media-src 'self' data: blob:",
        "font-src 'self' https://fonts.gstatic.com",
        "worker-src 'self'",
        // Newer pages fetch their icons from themselves.
        "connect-src 'self' ws: wss: data:",
    ];
    HeaderValue::try_from(policy.join("; ")).unwrap_or(HeaderValue::from_static("default-src 'none'"))
}

/// The hashes of the scripts that stand in the page.
fn inline_scripts(text: &str) -> Vec<String> {
    let mut hashes = Vec::new();
    let mut rest = text;
    while let Some((_, tag)) = rest.split_once("<script") {
        let Some((attributes, body)) = tag.split_once('>') else { break };
        let Some((body, after)) = body.split_once("</script") else { break };
        rest = after;
        let has_source = attributes.split_ascii_whitespace().any(|part| part.starts_with("src="));
        if !has_source {
            hashes.push(STANDARD.encode(Sha256::digest(body.as_bytes())));
        }
    }
    hashes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_knows_where_it_stands() {
        let page = r#"<html lang="en"><link href="./a.css"><script src="./assets/b.js"></script></html>"#;
        let (text, _) = prepare(page, "/claw");
        assert_eq!(
            text,
            r#"<html data-openclaw-control-ui-base-path="/claw" lang="en"><link href="/claw/a.css"><script src="/claw/assets/b.js"></script></html>"#
        );
        let (text, _) = prepare(page, "");
        assert!(text.contains(r#"href="/a.css""#) && text.contains(r#"base-path="""#), "{text}");
    }

    #[test]
    fn only_the_scripts_of_the_page_may_run() {
        let page =
            "<html><script>\nlet a = 1;\n</script><script type=\"module\" src=\"./x.js\"></script></html>";
        let (_, policy) = prepare(page, "");
        let policy = policy.to_str().unwrap();
        let hash = STANDARD.encode(Sha256::digest("\nlet a = 1;\n"));
        assert!(
            policy.contains(&format!("script-src 'self' 'wasm-unsafe-eval' 'sha256-{hash}';")),
            "{policy}"
        );
        assert!(policy.contains("frame-ancestors 'none'"));
        assert_eq!(policy.matches("sha256-").count(), 1);
    }
}
