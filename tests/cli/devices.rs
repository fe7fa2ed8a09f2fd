//! `offshoot devices`, and `offshoot service`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::daemon::Gateway;
use crate::support::World;

#[test]
fn the_list_needs_no_gateway_and_a_change_does() {
    let world = World::new();
    let none = json!({"pending": [], "paired": []});
    assert_eq!(world.run(&["devices", "list", "--json"]).exits(0).json(), none);
    world.run(&["devices", "approve", "abcd1234"]).exits(4).says("`offshoot gateway`");
    let _gateway = Gateway::start(&world);
    assert_eq!(world.run(&["devices", "list", "--json"]).exits(0).json(), none);
    world.run(&["devices", "list"]).exits(0).says("no devices");
    for command in ["approve", "reject", "remove", "rotate", "revoke"] {
        world.run(&["devices", command, "abcd1234"]).exits(5).says("offshoot devices list");
        world.run(&["devices", command, "ab"]).exits(2).says("too short");
    }
    world.run(&["devices", "rotate", "abcd1234", "--scope", "everything"]).exits(2).says("operator.read");
}

#[test]
fn a_setup_code_is_shown_once_and_good_for_what_was_said() {
    let world = World::new();
    world.run(&["devices", "code"]).exits(4).says("`offshoot gateway`");
    let _gateway = Gateway::start(&world);
    let plain =
        world.run(&["devices", "code"]).exits(0).says("not shown again").says(" with read, write, good for ");
    assert!(["9m59s", "10m00s"].iter().any(|time| plain.stderr.contains(time)), "{}", plain.stderr);
    assert!(plain.stdout.trim().len() >= 40, "{}", plain.stdout);
    let code = ["devices", "code", "--scope", "read", "--scope", "approvals", "--expires", "2h", "--json"];
    let code = world.run(&code).exits(0).json();
    assert_eq!(code["scopes"], json!(["operator.approvals", "operator.read"]));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let lives = u128::from(code["expiresAtMs"].as_u64().unwrap()) - now;
    assert!((7_000_000..=7_200_000).contains(&lives), "{lives}");
    let node = world.run(&["devices", "code", "--role", "node", "--json"]).exits(0).json();
    assert_eq!((&node["role"], &node["scopes"]), (&json!("node"), &json!([])));
    world.run(&["devices", "code", "--expires", "25h"]).says("86400 seconds");
}

#[cfg(target_os = "linux")]
#[test]
fn a_service_is_planned_written_and_removed() {
    let world = World::new();
    let unit = world.path(".config/systemd/user/offshoot-gateway.service");
    let planned = world.run(&["service", "install", "--dry-run", "--json"]).exits(0).json();
    assert_eq!(planned["file"], unit.to_str().unwrap());
    let text = planned["content"].as_str().unwrap();
    let program = format!("ExecStart={} gateway run\n", env!("CARGO_BIN_EXE_offshoot"));
    assert!(text.contains(&program) && text.contains("Type=notify\n"), "{text}");
    assert!(!unit.exists(), "a plan does nothing");

    let without = world.run(&["service", "install"]).exits(0);
    without.says("systemctl is not there").says("systemctl --user daemon-reload");
    assert_eq!(fs::read_to_string(&unit).unwrap(), text);
    world.run(&["service", "status"]).exits(4).says("systemctl is not there");
    world.run(&["service", "uninstall"]).exits(0);
    assert!(!unit.exists());
    world.run(&["service", "uninstall"]).exits(5);
}

#[cfg(target_os = "linux")]
#[test]
fn the_service_manager_is_given_the_commands_in_order() {
    let world = World::new();
    // A service manager that notes what it is told, and knows a service that runs.
    world.write("bin/systemctl", "#!/bin/sh\necho \"$@\" >> \"$HOME/told\"\n");
    fs::set_permissions(world.path("bin/systemctl"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", world.path("bin").display());
    let run = |arguments: &[&str]| {
        let output = world.command(arguments).env("PATH", &path).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        fs::read_to_string(world.path("told")).unwrap_or_default()
    };
    let unit = "offshoot-gateway.service";
    let told = run(&["service", "install", "--port", "18590"]);
    let installed = format!("--user daemon-reload\n--user enable {unit}\n--user restart {unit}\n");
    assert_eq!(told, installed);
    run(&["service", "status"]);
    fs::remove_file(world.path("told")).unwrap();
    let told = run(&["service", "uninstall"]);
    assert_eq!(told, format!("--user disable --now {unit}\n--user daemon-reload\n"));

    world.write("bin/systemctl", "#!/bin/sh\necho \"no bus\" >&2\nexit 1\n");
    let output = world.command(&["service", "install"]).env("PATH", &path).output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("daemon-reload failed: no bus"), "{said}");
}
