//! The operators' page, below [`ROOT`]: the files of `src/gateway/page`, which are part of the program.
//!
//! The files are for everybody who may speak to the gateway at all, as they hold nothing of it. What the page shows it
//! asks for by WebSocket, as any client does. There is no folder behind the table.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, HeaderName, IF_NONE_MATCH,
    LOCATION, X_FRAME_OPTIONS,
};
use http::{HeaderValue, Method, StatusCode};
use sha2::{Digest, Sha256};

use super::{Call, Response, control_ui};
use crate::config::GatewaySettings;

/// Where it stands.
pub(crate) const ROOT: &str = "/watch";

/// What a browser may do with it: nothing but run these files and speak to this gateway. No text ever becomes markup.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
     frame-ancestors 'none'; base-uri 'none'; form-action 'none'; require-trusted-types-for 'script'; \
     trusted-types 'none'",
);
const OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");
const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

/// A file of the page.
struct File {
    kind: &'static str,
    bytes: &'static [u8],
    /// Changes with its content.
    tag: String,
}

/// The files by their names below the root; the page itself has none.
macro_rules! files {
    ($($name:literal),+ $(,)?) => {
        &[$(($name, include_bytes!(concat!("../page/", $name)))),+]
    };
}

const FILES: &[(&str, &[u8])] = files![
    "actions.js",
    "app.js",
    "configuration.js",
    "connect.js",
    "connection.js",
    "deliveries.js",
    "detail.js",
    "devices.js",
    "dialog.js",
    "dom.js",
    "format.js",
    "health.js",
    "icon.svg",
    "index.html",
    "key.js",
    "lanes.js",
    "logs.js",
    "main.js",
    "model.js",
    "row.js",
    "run.js",
    "sessions.js",
    "signin.js",
    "steps.js",
    "style.css",
    "theme.js",
    "timeline.js",
    "transcript.js",
    "tree.css",
    "treelist.js",
    "treeview.js",
    "views.css",
    "visible.js",
    "words.js",
];

static TABLE: LazyLock<BTreeMap<&str, File>> = LazyLock::new(|| {
    let file = |&(name, bytes): &(&'static str, &'static [u8])| {
        let digest = Sha256::digest(bytes);
        let tag = digest[..12].iter().fold(String::from("\""), |tag, byte| format!("{tag}{byte:02x}")) + "\"";
        let name = if name == "index.html" { "" } else { name };
        (name, File { kind: media_type(name), bytes, tag })
    };
    FILES.iter().map(file).collect()
});

fn media_type(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "text/html; charset=utf-8",
    }
}

/// Whether the path is one of the page's. Whoever put the Control UI there keeps it there.
pub(super) fn serves(gateway: &GatewaySettings, path: &str) -> bool {
    let below = path.strip_prefix(ROOT).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    let taken = || !gateway.control_ui.base_path.is_empty() && control_ui::serves(gateway, path);
    below && !taken()
}

pub(super) fn answer(call: &Call) -> Response {
    let mut response = respond(call);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, POLICY);
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(OPENER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    // Kept, and asked for again each time: after an update no file of the page is older than another.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn respond(call: &Call) -> Response {
    if !matches!(*call.method(), Method::GET | Method::HEAD) {
        return super::not_allowed("GET, HEAD");
    }
    let path = call.path().strip_prefix(ROOT).unwrap_or_default();
    let Some(name) = path.strip_prefix('/') else { return moved() };
    let Some(file) = TABLE.get(name) else { return super::not_found() };
    let known = call.headers().get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let unchanged = known.is_some_and(|known| {
        known
            .split(',')
            .map(str::trim)
            .any(|known| known == "*" || known.trim_start_matches("W/") == file.tag)
    });
    let mut response = match unchanged {
        true => super::empty(StatusCode::NOT_MODIFIED),
        false => super::full(StatusCode::OK, file.bytes.into()),
    };
    let headers = response.headers_mut();
    if !unchanged {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(file.bytes.len()));
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(file.kind));
    if let Ok(tag) = HeaderValue::from_str(&file.tag) {
        headers.insert(ETAG, tag);
    }
    response
}

/// To the page, seen from where the request came: a proxy may have put the gateway below a path of its own.
fn moved() -> Response {
    let mut response = super::empty(StatusCode::PERMANENT_REDIRECT);
    response.headers_mut().insert(LOCATION, HeaderValue::from_static("watch/"));
    response
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::*;
    use crate::config::ControlUi;

    #[test]
    fn it_stands_where_nobody_put_the_control_ui() {
        let mut gateway = GatewaySettings::default();
        for path in ["/watch", "/watch/", "/watch/main.js", "/watch/../x"] {
            assert!(serves(&gateway, path), "{path}");
        }
        for path in ["/", "/watcher", "/a/watch/"] {
            assert!(!serves(&gateway, path), "{path}");
        }
        let root = Some(PathBuf::from("/nowhere"));
        gateway.control_ui = ControlUi { root, ..ControlUi::default() };
        assert!(serves(&gateway, "/watch/"));
        gateway.control_ui.base_path = "/watch".to_owned();
        assert!(!serves(&gateway, "/watch/"));
        gateway.control_ui.base_path = "/watch/ui".to_owned();
        assert!(serves(&gateway, "/watch/") && !serves(&gateway, "/watch/ui/"));
        gateway.control_ui.enabled = false;
        assert!(serves(&gateway, "/watch/ui/"));
    }

    #[test]
    fn every_file_of_the_folder_is_in_the_table() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/gateway/page");
        let mut there: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        there.sort_unstable();
        let mut listed: Vec<&str> = FILES.iter().map(|(name, _)| *name).collect();
        listed.sort_unstable();
        assert_eq!(there, listed);
    }

    /// What a script imports, and what the page and its styles name.
    #[test]
    fn nothing_is_asked_for_that_is_not_in_the_table() {
        let mut references = 0;
        for (name, bytes) in FILES {
            let text = std::str::from_utf8(bytes).unwrap();
            for before in ["from \"./", "import \"./", "src=\"", "href=\"", "url(\""] {
                for rest in text.split(before).skip(1) {
                    let named = rest.split('"').next().unwrap();
                    if named.starts_with("data:") || named.starts_with('#') {
                        continue;
                    }
                    assert!(TABLE.contains_key(named), "{name} names {named}");
                    references += 1;
                }
            }
            assert!(!text.contains("innerHTML") && !text.contains(" style=\""), "{name}");
        }
        assert!(references > 0);
    }
}
