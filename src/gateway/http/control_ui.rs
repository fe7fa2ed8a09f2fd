//! The Control UI: the files of `gateway.controlUi.root`, and the little that they ask for by HTTP.
//!
//! A path without a file is one of the page's own and gets the page. Nothing outside of the folder is ever served.

mod files;
mod page;

use http::header::{
    CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION,
    X_FRAME_OPTIONS,
};
use http::{HeaderValue, Method, StatusCode};
use serde_json::{Value, json};

use self::files::Found;
use super::{Call, Refused, Response, access, either, path};
use crate::config::{Config, ControlUi, GatewaySettings};
use crate::gateway::daemon::VERSION;

/// What the page asks for first: the older one, the newer one.
const BOOTSTRAPS: [&str; 2] = ["/__openclaw/control-ui-config.json", "/control-ui-config.json"];
const AVATAR: &str = "/avatar/";
/// Paths of other surfaces: one of them that is not there is no page.
const OTHERS: [&str; 7] = ["/api", "/plugins", "/v1", "/health", "/healthz", "/ready", "/readyz"];
/// Where the page stood long ago.
const LEGACY: &str = "/ui";

pub(super) fn serves(gateway: &GatewaySettings, path: &str) -> bool {
    let ui = &gateway.control_ui;
    if !ui.enabled || ui.root.is_none() {
        return false;
    }
    let below =
        |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    if ui.base_path.is_empty() {
        // A page of its own, with other surfaces below it.
        matches!(path, "/plugins" | "/plugins/") || !OTHERS.into_iter().chain([LEGACY]).any(below)
    } else {
        below(&ui.base_path)
    }
}

pub(super) async fn answer(call: Call) -> Response {
    let mut response = either(respond(&call).await);
    let headers = response.headers_mut();
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.entry(CONTENT_SECURITY_POLICY).or_insert_with(|| page::policy(&[]));
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache"));
    response
}

async fn respond(call: &Call) -> Result<Response, Refused> {
    let ui = &call.config.gateway.control_ui;
    let Some(root) = &ui.root else { return Ok(super::not_found()) };
    if !matches!(*call.method(), Method::GET | Method::HEAD) {
        return Ok(super::not_allowed("GET, HEAD"));
    }
    let path = call.path().strip_prefix(ui.base_path.as_str()).unwrap_or_default();
    if path.is_empty() {
        return Ok(moved(ui, call.request.uri().query()));
    }
    if BOOTSTRAPS.contains(&path) {
        // Whoever is at this machine may know it anyway: an older page asks before it has a secret.
        if !call.peer.direct_local {
            access::caller(call).await?;
        }
        return Ok(no_store(super::json(StatusCode::OK, &bootstrap(&call.config))));
    }
    if let Some(agent) = path.strip_prefix(AVATAR) {
        return Ok(avatar(call, agent));
    }
    let Some(wanted) = path::decoded(path) else { return Ok(super::not_found()) };
    let (root, base) = (root.clone(), ui.base_path.clone());
    let looked = tokio::task::spawn_blocking(move || files::find(&root, &wanted)).await;
    match looked {
        Ok(Ok(found)) => Ok(file(call, &base, found)),
        Ok(Err(error)) => {
            tracing::warn!(%error, "a file of the Control UI cannot be read: see gateway.controlUi.root");
            Ok(super::text(StatusCode::INTERNAL_SERVER_ERROR, "the Control UI's files cannot be read\n"))
        }
        // The daemon stops.
        Err(_) => Ok(super::text(StatusCode::SERVICE_UNAVAILABLE, "try again\n")),
    }
}

fn moved(ui: &ControlUi, query: Option<&str>) -> Response {
    let query = query.map_or_else(String::new, |query| format!("?{query}"));
    let mut response = super::empty(StatusCode::FOUND);
    if let Ok(to) = HeaderValue::try_from(format!("{}/{query}", ui.base_path)) {
        response.headers_mut().insert(LOCATION, to);
    }
    response
}

fn file(call: &Call, base: &str, found: Found) -> Response {
    let (kind, tag, content) = match found {
        Found::Nothing => return super::not_found(),
        Found::Page(bytes) => return page(&bytes, base),
        Found::File { kind, tag, content } => (kind, tag, content),
    };
    let known = call.headers().get(IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let unchanged = known.is_some_and(|known| known.split(',').any(|known| known.trim() == tag));
    let mut response = if unchanged {
        super::empty(StatusCode::NOT_MODIFIED)
    } else {
        let length = HeaderValue::from(content.length);
        let mut response = Response::new(content.body());
        response.headers_mut().insert(CONTENT_LENGTH, length);
        response
    };
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    response
}

fn page(bytes: &[u8], base: &str) -> Response {
    let (text, policy) = page::prepare(&String::from_utf8_lossy(bytes), base);
    let mut response = super::full(StatusCode::OK, text.into());
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, policy);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response
}

fn no_store(mut response: Response) -> Response {
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// What the page must know before it connects, in the words of both generations. Without the page's own build: a newer
/// one would demand that the daemon is of the same.
fn bootstrap(config: &Config) -> Value {
    let agent = &config.settings.default_agent;
    let name = config.settings.agents.get(agent).and_then(|agent| agent.name.clone());
    let ui = &config.gateway.control_ui;
    json!({
        "basePath": ui.base_path,
        "assistantName": name.unwrap_or_else(|| agent.to_string()),
        "assistantAvatar": null,
        "assistantAvatarSource": null,
        "assistantAvatarStatus": "none",
        "assistantAvatarReason": "missing",
        "assistantAgentId": agent,
        "serverVersion": VERSION,
        "localMediaPreviewRoots": [],
        "embedSandbox": ui.embed_sandbox,
        "allowExternalEmbedUrls": ui.allow_external_embed_urls,
        "automaticallyFetchFavicons": false,
        "communityInvite": false,
        "terminalEnabled": false,
        "cliAgentsEnabled": false,
        "pluginAssetsRequireAuth": false,
        "pluginFrameGrants": [],
    })
}

/// Agents have no pictures here.
fn avatar(call: &Call, agent: &str) -> Response {
    let known = path::decoded(agent)
        .and_then(|agent| agent.parse().ok())
        .is_some_and(|agent| call.config.settings.agents.contains_key(&agent));
    if !known || path::query(call.request.uri().query(), "meta").as_deref() != Some("1") {
        return super::not_found();
    }
    let meta = json!({
        "avatarUrl": null,
        "avatarSource": null,
        "avatarStatus": "none",
        "avatarReason": "missing",
    });
    no_store(super::json(StatusCode::OK, &meta))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn gateway(base: &str) -> GatewaySettings {
        let control_ui = ControlUi {
            base_path: base.to_owned(),
            root: Some(PathBuf::from("/nowhere")),
            ..ControlUi::default()
        };
        GatewaySettings { control_ui, ..GatewaySettings::default() }
    }

    #[test]
    fn without_a_base_path_it_takes_what_nobody_else_has() {
        let gateway = gateway("");
        let config = "/__openclaw/control-ui-config.json";
        for path in ["/", "/chat", "/sessions", "/plugins", "/assets/a.js", config, "/apidocs"] {
            assert!(serves(&gateway, path), "{path}");
        }
        for path in ["/api", "/api/x", "/v1/models", "/healthz", "/ready", "/plugins/a", "/ui", "/ui/"] {
            assert!(!serves(&gateway, path), "{path}");
        }
    }

    #[test]
    fn with_a_base_path_it_takes_what_is_below() {
        let gateway = gateway("/claw");
        for (path, expected) in
            [("/claw", true), ("/claw/chat", true), ("/claws", false), ("/", false), ("/chat", false)]
        {
            assert_eq!(serves(&gateway, path), expected, "{path}");
        }
    }

    #[test]
    fn it_is_not_there_without_a_folder() {
        let mut gateway = gateway("");
        gateway.control_ui.root = None;
        assert!(!serves(&gateway, "/"));
        gateway = self::gateway("");
        gateway.control_ui.enabled = false;
        assert!(!serves(&gateway, "/"));
    }
}
