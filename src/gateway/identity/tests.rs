use offshoot_actors::types::Role;
use serde_json::json;

use super::{
    Candidate, DevicePolicy, NoDevice, approves_silently, effective_scopes, skips_pairing, without_device,
};
use crate::gateway::peer::Peer;
use crate::gateway::peer::tests::peer;
use crate::protocol::client::{ClientId, ClientMode};
use crate::protocol::connect::ClientInfo;
use crate::protocol::hello::AuthMethod;

const STRICT: DevicePolicy = DevicePolicy { allow_insecure_auth: false, disable_device_auth: false };
const INSECURE: DevicePolicy = DevicePolicy { allow_insecure_auth: true, ..STRICT };
const DISABLED: DevicePolicy = DevicePolicy { disable_device_auth: true, ..STRICT };

const TOKEN: Option<AuthMethod> = Some(AuthMethod::Token);
const PASSWORD: Option<AuthMethod> = Some(AuthMethod::Password);
const NONE: Option<AuthMethod> = Some(AuthMethod::None);
const PROXY: Option<AuthMethod> = Some(AuthMethod::TrustedProxy);
const DEVICE: Option<AuthMethod> = Some(AuthMethod::DeviceToken);

fn info(id: ClientId, mode: ClientMode) -> ClientInfo {
    serde_json::from_value(json!({"id": id, "mode": mode, "version": "1", "platform": "linux"})).unwrap()
}

fn cli() -> ClientInfo {
    info(ClientId::Cli, ClientMode::Cli)
}

fn backend() -> ClientInfo {
    info(ClientId::GatewayClient, ClientMode::Backend)
}

fn control_ui() -> ClientInfo {
    info(ClientId::ControlUi, ClientMode::Webchat)
}

fn local() -> Peer {
    peer("127.0.0.1", &[])
}

fn remote() -> Peer {
    peer("203.0.113.5", &[])
}

fn page() -> Peer {
    peer("127.0.0.1", &[("origin", "http://localhost:5173")])
}

fn proxied() -> Peer {
    peer("127.0.0.1", &[("x-forwarded-for", "203.0.113.5")])
}

fn candidate<'a>(client: &'a ClientInfo, peer: &'a Peer, method: Option<AuthMethod>) -> Candidate<'a> {
    Candidate { client, role: Role::Operator, peer, method, offered_secret: true }
}

#[test]
fn who_may_come_without_a_device() {
    let tui = info(ClientId::Tui, ClientMode::Ui);
    let test = info(ClientId::Test, ClientMode::Test);
    let ok = Ok(());
    let control = Err(NoDevice::ControlUi);
    let required = Err(NoDevice::Required);
    for (row, (client, peer, method, policy, expected)) in [
        (cli(), local(), TOKEN, STRICT, ok),
        (cli(), remote(), PASSWORD, STRICT, ok),
        (backend(), local(), TOKEN, STRICT, ok),
        (test, proxied(), TOKEN, STRICT, ok),
        (cli(), local(), None, STRICT, Err(NoDevice::Unauthorized)),
        (tui, local(), TOKEN, STRICT, control),
        (control_ui(), local(), TOKEN, STRICT, control),
        (control_ui(), local(), None, STRICT, control),
        (control_ui(), page(), TOKEN, INSECURE, ok),
        (control_ui(), page(), None, INSECURE, Err(NoDevice::Unauthorized)),
        (control_ui(), remote(), TOKEN, INSECURE, control),
        (control_ui(), proxied(), TOKEN, INSECURE, control),
        (control_ui(), remote(), TOKEN, DISABLED, ok),
        (control_ui(), remote(), None, DISABLED, ok),
        (cli(), remote(), PROXY, STRICT, ok),
        (control_ui(), remote(), PROXY, STRICT, ok),
        (cli(), local(), NONE, STRICT, ok),
        (cli(), proxied(), NONE, STRICT, required),
        (cli(), page(), NONE, STRICT, required),
        (control_ui(), page(), NONE, STRICT, control),
        (cli(), local(), DEVICE, STRICT, required),
    ]
    .into_iter()
    .enumerate()
    {
        let candidate = candidate(&client, &peer, method);
        assert_eq!(without_device(&candidate, policy), expected, "row {row}");
        let node = Candidate { role: Role::Node, ..candidate };
        let refused = if method.is_none() { NoDevice::Unauthorized } else { NoDevice::Required };
        assert_eq!(without_device(&node, policy), Err(refused), "a node always needs one, row {row}");
    }
    let (cli, local) = (cli(), local());
    let nothing = Candidate { offered_secret: false, ..candidate(&cli, &local, None) };
    assert_eq!(without_device(&nothing, STRICT), required);
}

#[test]
fn the_answers_are_those_of_the_real_gateways() {
    assert_eq!(
        serde_json::to_value(NoDevice::Required.error_shape()).unwrap(),
        json!({"code": "NOT_PAIRED", "message": "device identity required", "details": {"code": "DEVICE_IDENTITY_REQUIRED"}})
    );
    let control = serde_json::to_value(NoDevice::ControlUi.error_shape()).unwrap();
    assert_eq!(control["code"], "INVALID_REQUEST");
    assert_eq!(control["details"], json!({"code": "CONTROL_UI_DEVICE_IDENTITY_REQUIRED"}));
}

#[test]
fn which_scopes_a_connection_keeps() {
    let asked = ["operator.write", "operator.admin"].map(str::to_owned);
    let test = info(ClientId::Test, ClientMode::Test);
    let webchat = info(ClientId::Test, ClientMode::Webchat);
    for (row, (client, peer, method, policy, device, expected)) in [
        (cli(), remote(), TOKEN, STRICT, true, true),
        (cli(), remote(), DEVICE, STRICT, true, true),
        (control_ui(), page(), NONE, STRICT, true, true),
        (cli(), local(), None, STRICT, true, false),
        (cli(), local(), TOKEN, STRICT, false, true),
        (backend(), local(), PASSWORD, STRICT, false, true),
        (test, local(), TOKEN, STRICT, false, true),
        (cli(), local(), NONE, STRICT, false, true),
        (cli(), remote(), TOKEN, STRICT, false, false),
        (backend(), proxied(), TOKEN, STRICT, false, false),
        (cli(), page(), TOKEN, STRICT, false, false),
        (cli(), proxied(), NONE, STRICT, false, false),
        (webchat, local(), TOKEN, STRICT, false, false),
        (control_ui(), page(), TOKEN, INSECURE, false, true),
        (control_ui(), remote(), TOKEN, INSECURE, false, false),
        (control_ui(), remote(), TOKEN, DISABLED, false, true),
        (control_ui(), remote(), PROXY, STRICT, false, true),
        (cli(), local(), DEVICE, STRICT, false, false),
    ]
    .into_iter()
    .enumerate()
    {
        let candidate = candidate(&client, &peer, method);
        let scopes = effective_scopes(&asked, &candidate, policy, device);
        assert_eq!(scopes, if expected { &asked[..] } else { &[] }, "row {row}");
        assert_eq!(effective_scopes(&[], &candidate, policy, device), [""; 0], "none asked for, none given");
        let node = Candidate { role: Role::Node, ..candidate };
        assert_eq!(effective_scopes(&asked, &node, policy, device), [""; 0], "a node has none, row {row}");
    }
}

#[test]
fn whose_device_is_paired_without_a_question() {
    let evil = peer("127.0.0.1", &[("origin", "http://evil.example")]);
    for (row, (client, peer, method, expected)) in [
        (cli(), local(), TOKEN, true),
        (cli(), local(), PASSWORD, true),
        (cli(), local(), NONE, true),
        (control_ui(), page(), TOKEN, true),
        (cli(), evil, TOKEN, false),
        (cli(), remote(), TOKEN, false),
        (cli(), proxied(), TOKEN, false),
        (cli(), remote(), NONE, false),
        (cli(), local(), DEVICE, false),
        (cli(), local(), Some(AuthMethod::BootstrapToken), false),
        (cli(), local(), None, false),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(approves_silently(&candidate(&client, &peer, method)), expected, "row {row}");
    }
}

#[test]
fn whose_device_is_not_paired_at_all() {
    for (row, (client, peer, method, expected)) in [
        (backend(), local(), TOKEN, true),
        (backend(), local(), DEVICE, false),
        (backend(), local(), NONE, false),
        (backend(), page(), TOKEN, false),
        (backend(), remote(), TOKEN, false),
        (backend(), proxied(), TOKEN, false),
        (cli(), local(), TOKEN, false),
        (control_ui(), remote(), PROXY, true),
        (cli(), remote(), PROXY, false),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(skips_pairing(&candidate(&client, &peer, method)), expected, "row {row}");
    }
}
