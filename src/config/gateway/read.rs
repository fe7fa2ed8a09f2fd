//! Reads `gateway`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use offshoot_actors::types::ToolRules;

use super::super::problem::Kind;
use super::super::read::{Cursor, Reader};
use super::{Bind, ControlUi, Endpoint, GatewaySettings, MetricsEndpoint, Reload, Tls, auth, hooks};
use crate::gateway::identity::DevicePolicy;
use crate::gateway::origin::{Origin, OriginPolicy};

/// Largest request that an endpoint may take, in bytes.
pub(super) const MAX_BODY: u32 = 256 * 1024 * 1024;
/// Milliseconds that a client may have for its `connect`.
const HANDSHAKE_MS: std::ops::RangeInclusive<u32> = 100..=600_000;
/// Seconds after which a run counts as silent.
const SILENT_SECONDS: std::ops::RangeInclusive<u32> = 1..=86_400;
const SANDBOXES: &[(&str, &str)] = &[("strict", "strict"), ("scripts", "scripts"), ("trusted", "trusted")];

/// Reads `gateway` and `hooks`. `home` is what a path's `~` stands for.
pub(in crate::config) fn read(
    root: &Cursor<'_>,
    home: Option<&Path>,
    reader: &mut Reader<'_>,
) -> GatewaySettings {
    let mut settings = GatewaySettings::default();
    let empty = super::super::tree::Node::empty(root.place());
    let absent = Cursor { node: &empty, trail: root.trail };
    let gateway = reader.section(root, "gateway");
    let gateway = gateway.as_ref().unwrap_or(&absent);

    if let Some(port) = reader.whole_at(gateway, "port", 1..=65_535) {
        settings.port = u16::try_from(port).unwrap_or(settings.port);
    }
    if let Some(millis) = reader.whole_at(gateway, "handshakeTimeoutMs", HANDSHAKE_MS) {
        settings.handshake_timeout = Duration::from_millis(millis.into());
    }
    from_environment(root, reader, &mut settings);
    mode(gateway, reader);
    settings.bind = bind(gateway, reader);
    settings.auth = auth::read(gateway, reader);
    settings.control_ui = control_ui(gateway, home, reader);
    settings.tls = tls(gateway, home, reader);
    if let Some(http) = reader.section(gateway, "http")
        && let Some(endpoints) = reader.section(&http, "endpoints")
    {
        settings.chat_completions = endpoint(&endpoints, "chatCompletions", reader);
        settings.responses = endpoint(&endpoints, "responses", reader);
    }
    if let Some(tools) = reader.section(gateway, "tools") {
        settings.tools = ToolRules {
            allow: reader.texts_at(&tools, "allow").unwrap_or_default(),
            deny: reader.texts_at(&tools, "deny").unwrap_or_default(),
            ..ToolRules::default()
        };
    }
    settings.metrics = metrics(gateway, reader);
    settings.reload = reload(gateway, reader);
    if let Some(watch) = reader.section(gateway, "watch")
        && let Some(seconds) = reader.whole_at(&watch, "silentAfterSeconds", SILENT_SECONDS)
    {
        settings.silent_after = Duration::from_secs(seconds.into());
    }
    settings.hooks = hooks::read(root, reader);
    guard(gateway, &settings, reader);
    settings
}

/// Nobody beyond this machine gets in without proving something.
fn guard(gateway: &Cursor<'_>, settings: &GatewaySettings, reader: &mut Reader<'_>) {
    if !settings.is_open_to_others() {
        return;
    }
    let text =
        "none is for loopback only: set gateway.auth.mode to token or password, or gateway.bind to loopback";
    let section = gateway.get("auth");
    let mode = section.as_ref().and_then(|auth| auth.get("mode"));
    reader.error(mode.as_ref().unwrap_or(gateway), Kind::Value, text);
}

fn from_environment(root: &Cursor<'_>, reader: &mut Reader<'_>, settings: &mut GatewaySettings) {
    if let Some(millis) = number_of(root, "HANDSHAKE_TIMEOUT_MS", HANDSHAKE_MS, reader) {
        settings.handshake_timeout = Duration::from_millis(millis.into());
    }
    if let Some(count) = number_of(root, "MAX_PREAUTH_CONNECTIONS_PER_IP", 1..=100_000, reader) {
        settings.unfinished_per_address = usize::try_from(count).unwrap_or(usize::MAX);
    }
}

/// The number in `OFFSHOOT_<name>`, else in `OPENCLAW_<name>`.
fn number_of(
    root: &Cursor<'_>,
    name: &str,
    range: std::ops::RangeInclusive<u32>,
    reader: &mut Reader<'_>,
) -> Option<u32> {
    let (variable, text) = reader.own_variable(name)?;
    let number = text.trim().parse().ok().filter(|number| range.contains(number));
    if number.is_none() {
        let text = format!(
            "the environment variable {variable} is ignored: it is not a whole number from {} to {}",
            range.start(),
            range.end()
        );
        reader.warning(root, Kind::Variable, text);
    }
    number
}

fn mode(gateway: &Cursor<'_>, reader: &mut Reader<'_>) {
    const WORDS: &[(&str, bool)] = &[("local", false), ("remote", true)];
    if reader.word_at(gateway, "mode", WORDS) == Some(true)
        && let Some(mode) = gateway.get("mode")
    {
        reader.warning(&mode, Kind::NotActedOn, "remote is not acted on: the gateway is this daemon's own");
    }
}

fn bind(gateway: &Cursor<'_>, reader: &mut Reader<'_>) -> Bind {
    #[derive(Clone, Copy)]
    enum Word {
        Plain(Bind),
        Custom,
        Tailnet,
    }
    const WORDS: &[(&str, Word)] = &[
        ("loopback", Word::Plain(Bind::Loopback)),
        ("lan", Word::Plain(Bind::Lan)),
        ("custom", Word::Custom),
        ("auto", Word::Plain(Bind::Loopback)),
        ("tailnet", Word::Tailnet),
    ];
    let host = gateway.get("customBindHost").and_then(|cursor| {
        let text = reader.filled_text(&cursor)?;
        let address = text.trim().trim_start_matches('[').trim_end_matches(']').parse().ok();
        if address.is_none() {
            reader.wrong(&cursor, "an IP address");
        }
        address
    });
    let Some(word) = reader.word_at(gateway, "bind", WORDS) else { return Bind::Loopback };
    let Some(cursor) = gateway.get("bind") else { return Bind::Loopback };
    match (word, host) {
        (Word::Plain(bind), _) => bind,
        (Word::Custom, Some(address)) => Bind::Address(address),
        (Word::Custom, None) => {
            if gateway.get("customBindHost").is_none() {
                let text =
                    "customBindHost is missing: set gateway.customBindHost to the address to listen on";
                reader.error(&cursor, Kind::Value, text);
            }
            Bind::Loopback
        }
        (Word::Tailnet, _) => {
            let text = "tailnet is not supported, loopback is used: for other machines set it to lan, \
                 or to custom with gateway.customBindHost";
            reader.warning(&cursor, Kind::NotActedOn, text);
            Bind::Loopback
        }
    }
}

fn control_ui(gateway: &Cursor<'_>, home: Option<&Path>, reader: &mut Reader<'_>) -> ControlUi {
    let usual = ControlUi::default();
    let Some(section) = reader.section(gateway, "controlUi") else { return usual };
    let mut flag = |name: &str, usual: bool| reader.bool_at(&section, name).unwrap_or(usual);
    let enabled = flag("enabled", usual.enabled);
    let allow_external_embed_urls = flag("allowExternalEmbedUrls", usual.allow_external_embed_urls);
    let device = DevicePolicy {
        allow_insecure_auth: flag("allowInsecureAuth", false),
        disable_device_auth: flag("dangerouslyDisableDeviceAuth", false),
    };
    let host_fallback = flag("dangerouslyAllowHostHeaderOriginFallback", false);
    ControlUi {
        enabled,
        base_path: path_at(&section, "basePath", reader).unwrap_or_default(),
        root: file_at(&section, "root", home, reader),
        origins: OriginPolicy { host_fallback, ..origins(&section, reader) },
        device,
        embed_sandbox: reader.word_at(&section, "embedSandbox", SANDBOXES).unwrap_or(usual.embed_sandbox),
        allow_external_embed_urls,
    }
}

fn origins(section: &Cursor<'_>, reader: &mut Reader<'_>) -> OriginPolicy {
    let mut policy = OriginPolicy::default();
    let Some(list) = reader.list(section, "allowedOrigins") else { return policy };
    for item in list.items() {
        let Some(text) = reader.filled_text(&item) else { continue };
        match Origin::parse(&text) {
            Origin::Page { text, .. } => policy.allowed.push(text),
            Origin::Opaque if text.trim() == "*" => policy.any = true,
            Origin::Opaque => reader.wrong(&item, "* or an origin such as https://host:port"),
        }
    }
    policy
}

fn tls(gateway: &Cursor<'_>, home: Option<&Path>, reader: &mut Reader<'_>) -> Option<Tls> {
    let section = reader.section(gateway, "tls")?;
    let enabled = reader.bool_at(&section, "enabled").unwrap_or(false);
    let generate = reader.bool_at(&section, "autoGenerate").unwrap_or(true);
    let certificate = file_at(&section, "certPath", home, reader);
    let key = file_at(&section, "keyPath", home, reader);
    if !enabled {
        return None;
    }
    let missing = match (certificate, key) {
        (Some(certificate), Some(key)) => return Some(Tls::Files { certificate, key }),
        (None, None) if generate => return Some(Tls::SelfSigned),
        (None, None) => "certPath and keyPath are missing: add them, or set autoGenerate to true",
        (None, Some(_)) => "certPath is missing: add the certificate of the key",
        (Some(_), None) => "keyPath is missing: add the key of the certificate",
    };
    // A path of the wrong type has its own problem.
    if ["certPath", "keyPath"]
        .iter()
        .all(|name| section.get(name).is_none_or(|path| path.node.kind() == "a string"))
    {
        reader.error(&section, Kind::Value, missing);
    }
    None
}

fn endpoint(endpoints: &Cursor<'_>, name: &str, reader: &mut Reader<'_>) -> Endpoint {
    let usual = Endpoint::default();
    let Some(section) = reader.section(endpoints, name) else { return usual };
    Endpoint {
        enabled: reader.bool_at(&section, "enabled").unwrap_or(usual.enabled),
        max_body_bytes: bytes_at(&section, "maxBodyBytes", reader).unwrap_or(usual.max_body_bytes),
    }
}

fn metrics(gateway: &Cursor<'_>, reader: &mut Reader<'_>) -> MetricsEndpoint {
    const AUTH: &[(&str, bool)] = &[("required", true), ("none", false)];
    let usual = MetricsEndpoint::default();
    let Some(section) = reader.section(gateway, "metrics") else { return usual };
    MetricsEndpoint {
        enabled: reader.bool_at(&section, "enabled").unwrap_or(usual.enabled),
        proof_of_neighbours: reader.word_at(&section, "auth", AUTH).unwrap_or(usual.proof_of_neighbours),
    }
}

fn reload(gateway: &Cursor<'_>, reader: &mut Reader<'_>) -> Reload {
    // What cannot be applied without a restart is named; the daemon never restarts itself.
    const MODES: &[(&str, bool)] = &[("off", false), ("hybrid", true), ("hot", true), ("restart", true)];
    let usual = Reload::default();
    let Some(section) = reader.section(gateway, "reload") else { return usual };
    let debounce = reader.whole_at(&section, "debounceMs", 0..=60_000);
    Reload {
        enabled: reader.word_at(&section, "mode", MODES).unwrap_or(usual.enabled),
        debounce: debounce.map_or(usual.debounce, |millis| Duration::from_millis(millis.into())),
    }
}

/// A number of bytes that a request may have.
pub(super) fn bytes_at(parent: &Cursor<'_>, name: &str, reader: &mut Reader<'_>) -> Option<usize> {
    let bytes = reader.whole_at(parent, name, 1..=MAX_BODY)?;
    usize::try_from(bytes).ok()
}

/// A path of a URL: empty, or with a slash before it and none at its end.
pub(super) fn path_at(parent: &Cursor<'_>, name: &str, reader: &mut Reader<'_>) -> Option<String> {
    let cursor = parent.get(name)?;
    let text = reader.text(&cursor)?;
    let trimmed = text.trim().trim_matches('/');
    if trimmed.contains(|c: char| !c.is_ascii_graphic() || matches!(c, '?' | '#' | '%' | '\\'))
        || trimmed.contains("..")
    {
        reader.wrong(&cursor, "a path such as /openclaw");
        return None;
    }
    Some(if trimmed.is_empty() { String::new() } else { format!("/{trimmed}") })
}

/// A file or folder; `~/` at its start is the home directory.
fn file_at(parent: &Cursor<'_>, name: &str, home: Option<&Path>, reader: &mut Reader<'_>) -> Option<PathBuf> {
    let cursor = parent.get(name)?;
    let text = reader.filled_text(&cursor)?;
    let text = text.trim();
    match (text.strip_prefix("~/"), home) {
        (Some(rest), Some(home)) => Some(home.join(rest)),
        _ => Some(PathBuf::from(text)),
    }
}
