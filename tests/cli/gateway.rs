//! `offshoot gateway` with its subcommands.

use std::net::{TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message};

use crate::daemon::Gateway;
use crate::support::{Done, World};

const TOKEN_AUTH: &str = r#"{ gateway: { auth: { token: "configured-token" } } }"#;

#[test]
fn what_runs_is_found_asked_and_stopped() {
    for world in World::both() {
        let none = world.run(&["gateway", "status", "--json"]).exits(4).json();
        assert_eq!(none["running"], false);
        let gateway = Gateway::start(&world);
        let status = world.run(&["gateway", "status", "--json"]).exits(0).json();
        assert_eq!((&status["running"], &status["answers"]), (&json!(true), &json!(true)));
        assert_eq!(status["pid"], gateway.pid());
        assert_eq!(status["urls"], gateway.ready["urls"]);
        assert_eq!((&status["authMode"], &status["protocol"]), (&json!("token"), &json!(4)));
        assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
        let told = world.run(&["gateway", "status"]).exits(0).stdout;
        assert!(told.starts_with(&format!("gateway   running, process {}\n", gateway.pid())), "{told}");
        let health = world.run(&["gateway", "call", "health"]).exits(0).json();
        assert_eq!((&health["ok"], &health["defaultAgentId"]), (&json!(true), &json!("main")));
        let told = world.run(&["gateway", "health"]).exits(0).stdout;
        assert!(
            told.starts_with("gateway   ok, at ws://") && told.contains("agent     main (default)"),
            "{told}"
        );

        let stopped = world.run(&["gateway", "stop", "--json"]).exits(0).json();
        assert_eq!((&stopped["status"], &stopped["pid"]), (&json!("stopped"), &json!(gateway.pid())));
        gateway.done().exits(0).says("SIGTERM: stopping");
        assert!(!world.state().join("gateway.json").exists());
        world.run(&["gateway", "call", "health"]).exits(4).says("`offshoot gateway`");
        assert_eq!(world.run(&["gateway", "stop", "--json"]).exits(0).json()["status"], "not_running");
    }
}

#[test]
fn status_counts_what_reached_nobody_and_what_was_interrupted() {
    let world = World::new();
    let gateway = Gateway::start(&world);
    let parent = "agent:main:parent";
    let policies = ["--recovery", "interrupt", "--on-parent-exit", "continue"];
    let spawn = world.begin(&[&["spawn", "--parent", parent], &policies[..], &["Wait: 1h"]].concat());
    while world.runs().first().is_none_or(|run| run["state"] != "running") {}
    let status = world.run(&["gateway", "status", "--json"]).exits(0).json();
    let none = json!({"open": 0, "failed": 0, "givenUp": 0, "undeliverable": 0});
    assert_eq!((&status["deliveries"], &status["interruptedRuns"]), (&none, &json!(0)));
    let params = json!({ "key": parent }).to_string();
    world.run(&["gateway", "call", "sessions.delete", "--params", &params]).exits(0);
    gateway.kill();
    spawn.done().exits(4);
    let gateway = Gateway::start(&world);
    let url = gateway.ready["urls"][0].as_str().unwrap();
    let token = std::fs::read_to_string(gateway.ready["tokenFile"].as_str().unwrap()).unwrap();
    for named in [vec![], vec!["--url", url, "--token", token.trim()]] {
        let status = world.run(&[&["gateway", "status", "--json"], &named[..]].concat()).exits(0).json();
        assert_eq!(
            (&status["deliveries"]["undeliverable"], &status["interruptedRuns"]),
            (&json!(1), &json!(1))
        );
        let told = world.run(&[&["gateway", "status"], &named[..]].concat()).exits(0).stdout;
        let lines = "results   0 open, 0 failed, 1 undeliverable\nruns      1 interrupted\n";
        assert!(told.contains(lines), "{told}");
    }
}

#[test]
fn health_says_how_old_it_is_and_how_much_it_leaves_out() {
    let world = World::new();
    for session in 0..7 {
        world.run(&["run", "--session", &format!("agent:main:s{session}"), "x"]).exits(0);
    }
    let _gateway = Gateway::start(&world);
    let told = world.run(&["gateway", "health"]).exits(0).stdout;
    assert!(told.contains("\nfigures   taken ") && told.contains("once a minute\n"), "{told}");
    assert_eq!(told.lines().filter(|line| line.starts_with("session ")).count(), 5, "{told}");
    assert!(told.ends_with("and 2 more: `offshoot sessions list`\n"), "{told}");
}

#[test]
fn a_start_says_what_runs_and_what_is_open() {
    let started = |world: &World, arguments: &[&str]| {
        let running = world.begin(&[&["gateway", "run", "--port", "0"], arguments].concat());
        while world.run(&["gateway", "status"]).code != 0 {}
        running.signal(Signal::TERM);
        running.done().exits(0)
    };
    let world = World::new();
    started(&world, &[])
        .says("the defaults; agent main uses builtin/rehearsal")
        .says("agents.defaults.model");
    assert_eq!(started(&world, &["--json"]).stderr.lines().count(), 1);
    world.configure("{ gateway: { auth: { mode: 'none' } } }");
    started(&world, &[]).says(".offshoot/offshoot.json; agent main").says("gateway.auth.mode is none");
}

#[test]
fn a_call_has_parameters_an_answer_and_the_least_scope() {
    let world = World::new();
    let gateway = Gateway::start(&world);
    let presence = world.run(&["gateway", "call", "system-presence"]).exits(0).json();
    assert_eq!(presence[0]["mode"], "gateway");
    let url = gateway.url();
    world.run(&["gateway", "call", "health", "--url", &url, "--params", "{\"probe\": true}"]).exits(0);
    world.run(&["gateway", "call", "health", "--params", "[1]"]).exits(2).says("--params");
    world.run(&["gateway", "call", "health", "--url", "http://x"]).exits(2).says("ws://HOST:PORT");
    let unknown = world.run(&["gateway", "call", "no.such", "--json"]).exits(2);
    assert_eq!(unknown.json()["code"], "unknown_method");
    let wrong = world.run(&["gateway", "call", "health", "--token", "wrong", "--json"]).exits(3);
    assert_eq!(wrong.json()["code"], "unauthorized");
    wrong.says("--token");
}

#[test]
fn a_run_is_waited_for_to_its_end_where_that_is_asked_for() {
    let world = World::new();
    let _gateway = Gateway::start(&world);
    let call = |key: &str, more: &[&str]| {
        let params = json!({"message": "Reply with exactly: x", "idempotencyKey": key}).to_string();
        let arguments = [&["gateway", "call", "agent", "--params", &params], more].concat();
        world.run(&arguments).exits(0).json()
    };
    let first = call("one", &[]);
    assert_eq!((&first["status"], &first["runId"]), (&json!("accepted"), &json!("one")));
    let last = call("two", &["--expect-final"]);
    assert_eq!((&last["status"], &last["runId"]), (&json!("ok"), &json!("two")));
    assert_eq!(last["result"]["payloads"][0]["text"], "x");
    let slow = json!({"message": "Wait: 1h", "idempotencyKey": "three"}).to_string();
    let arguments = ["gateway", "call", "agent", "--expect-final", "--timeout", "1s", "--params", &slow];
    world.run(&arguments).exits(4).says("agent has not ended within 1 s");
}

#[test]
fn what_the_gateway_asks_for_is_found() {
    let world = World::with(TOKEN_AUTH);
    let gateway = Gateway::start(&world);
    assert_eq!(gateway.ready["tokenFile"], json!(null));
    world.run(&["gateway", "call", "system-presence"]).exits(0);
    let url = gateway.url();
    world.run(&["gateway", "call", "system-presence", "--url", &url]).exits(0);
    let call = ["gateway", "call", "system-presence"];
    let with = |token: &str| world.command(&call).env("OFFSHOOT_GATEWAY_TOKEN", token).output().unwrap();
    assert_eq!(with("configured-token").status.code(), Some(0));
    assert_eq!(with("wrong").status.code(), Some(3));
    drop(gateway);

    let world = World::with(r#"{ gateway: { auth: { mode: "none" } } }"#);
    let gateway = Gateway::start(&world);
    assert_eq!(gateway.ready["authMode"], "none");
    world.run(&["gateway", "call", "system-presence"]).exits(0);
    drop(gateway);

    let world = World::with(r#"{ gateway: { auth: { password: "hunter2" } } }"#);
    let gateway = Gateway::start(&world);
    assert_eq!(gateway.ready["authMode"], "password");
    world.run(&["gateway", "call", "system-presence"]).exits(0);
    drop(gateway);
}

#[test]
fn a_gateway_whose_auth_changed_while_it_runs_is_still_found() {
    let world = World::with(TOKEN_AUTH);
    let gateway = Gateway::start(&world);
    let change = |auth: serde_json::Value| {
        let hash = world.run(&["gateway", "call", "config.get"]).exits(0).json()["hash"].take();
        let raw = json!({"gateway": {"auth": auth}}).to_string();
        let params = json!({"raw": raw, "baseHash": hash}).to_string();
        world.run(&["gateway", "call", "config.patch", "--params", &params]).exits(0);
        let status = world.run(&["gateway", "status", "--json"]).exits(0).json();
        assert_eq!((&status["answers"], &status["pid"]), (&json!(true), &json!(gateway.pid())), "{status}");
        status["authMode"].as_str().unwrap().to_owned()
    };
    assert_eq!(change(json!({"mode": "password", "password": "hunter2", "token": null})), "password");
    assert_eq!(change(json!({"mode": "none"})), "none");
    // Without a token in the file the gateway makes one, and commands have to know where.
    assert_eq!(change(json!({"mode": "token"})), "token");
}

#[test]
fn a_certificate_of_its_own_is_accepted_by_its_fingerprint_only() {
    let world = World::with("{ gateway: { tls: { enabled: true } } }");
    let gateway = Gateway::start(&world);
    let fingerprint = gateway.ready["fingerprint"].as_str().unwrap();
    world.run(&["gateway", "call", "health"]).exits(0);
    let url = format!("wss://localhost:{}", gateway.port());
    world.run(&["gateway", "call", "health", "--url", &url]).exits(4).says("--tls-fingerprint");
    world.run(&["gateway", "call", "health", "--url", &url, "--tls-fingerprint", fingerprint]).exits(0);
    let other = "00".repeat(32);
    world.run(&["gateway", "call", "health", "--url", &url, "--tls-fingerprint", &other]).exits(4);
    let plain = format!("ws://localhost:{}", gateway.port());
    world
        .run(&["gateway", "call", "health", "--url", &plain, "--timeout", "5s"])
        .exits(4)
        .says("write wss://");
    drop(gateway);
    let world = World::new();
    let gateway = Gateway::start(&world);
    let encrypted = format!("wss://localhost:{}", gateway.port());
    world.run(&["gateway", "call", "health", "--url", &encrypted]).exits(4).says("write ws://");
}

#[test]
fn one_gateway_has_the_directory_and_one_process_the_port() {
    let world = World::new();
    let gateway = Gateway::start(&world);
    let second = world.run(&["gateway", "run", "--port", "0"]).exits(4);
    let who = format!("process {}, at {}", gateway.pid(), gateway.url());
    second.says("a gateway has the state directory").says(&who).says("offshoot gateway stop");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let other = World::new();
    let failed = other.run(&["gateway", "run", "--port", &port]).exits(4);
    assert_eq!(failed.stderr.lines().count(), 1, "{}", failed.stderr);
    failed.says("another process listens there").says("--port");
    assert!(!other.state().join("gateway.json").exists());
}

#[test]
fn what_a_killed_gateway_left_is_not_believed() {
    let world = World::new();
    let gateway = Gateway::start(&world);
    gateway.kill();
    assert!(world.state().join("gateway.json").exists());
    world.run(&["gateway", "status"]).exits(4);
    assert_eq!(world.run(&["gateway", "stop", "--json"]).exits(0).json()["status"], "not_running");
    assert_eq!(world.run(&["run", "Reply with exactly: x"]).exits(0).stdout, "x\n");
    let again = Gateway::start(&world);
    let status = world.run(&["gateway", "status", "--json"]).exits(0).json();
    assert_eq!(status["pid"], again.pid());
}

#[test]
fn a_command_that_has_the_directory_is_not_stopped() {
    let world = World::new();
    let running = world.start(&["run", "Wait: 1h"]);
    let pid = format!("process {}", running.pid());
    world.run(&["gateway", "stop"]).exits(4).says(&pid);
    let status = world.run(&["gateway", "status", "--json"]).exits(4).json();
    assert_eq!((&status["running"], &status["stateDirUsedBy"]), (&json!(false), &json!(running.pid())));
    running.signal(Signal::INT);
    running.done().exits(130);
}

#[test]
fn the_first_signal_lets_requests_end_and_the_second_leaves() {
    let world = World::new();
    let gateway = Gateway::start(&world);
    let params = json!({"message": "Wait: 1h", "idempotencyKey": "slow"}).to_string();
    let arguments = ["gateway", "call", "agent", "--expect-final", "--params", &params];
    let call = world.begin(&arguments);
    while world.run(&["runs", "list", "--open", "--json"]).json()["runs"].as_array().unwrap().is_empty() {}
    gateway.signal(Signal::TERM);
    // It does not take anybody else.
    while world.run(&["gateway", "call", "health"]).code == 0 {}
    gateway.signal(Signal::TERM);
    let done = gateway.done().exits(143);
    done.says("a second signal leaves at once").says("left at once");
    call.done().exits(4);
    let gateway = Gateway::start(&world);
    assert_eq!(world.runs()[0]["state"], "running", "the next one goes on with it");
    drop(gateway);
}

#[test]
fn a_stop_waits_as_long_as_runs_may_take() {
    let world = World::with("{ agents: { defaults: { recovery: { grace: '2m' } } } }");
    let gateway = Gateway::start(&world);
    let params = json!({"message": "Wait: 1h", "idempotencyKey": "slow"}).to_string();
    world.run(&["gateway", "call", "agent", "--params", &params]).exits(0);
    while world.runs()[0]["state"] != "running" {}
    let mut stops = world.begin(&["gateway", "stop"]);
    stops.until("for 150 s at most");
    gateway.signal(Signal::TERM);
    gateway.done().exits(143);
    stops.done().exits(0);
    world.configure("{ agents: { defaults: { recovery: { grace: '0s' } } } }");
    // What is in force counts, also after a change.
    let gateway = Gateway::start(&world);
    world.configure("{ agents: { defaults: { recovery: { grace: '90s' } } } }");
    let record = || std::fs::read_to_string(world.state().join("gateway.json")).unwrap();
    while !record().contains("90000") {}
    drop(gateway);
}

#[test]
fn the_service_manager_is_told() {
    let world = World::new();
    let path = world.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let hears = || {
        let mut buffer = [0; 256];
        let length = manager.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    };
    let gateway = Gateway::start_with(&world, |command| {
        command.env("NOTIFY_SOCKET", &path);
    });
    assert!(hears().starts_with("READY=1\n"));
    gateway.signal(Signal::INT);
    assert!(hears().starts_with("STOPPING=1\n"));
    gateway.done().exits(0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_gateway_may_open_as_many_files_as_the_system_lets_it() {
    let world = World::new();
    let gateway = Gateway::start_with(&world, |command| {
        // The shell lowers the soft limit alone.
        let program = command.get_program().to_owned();
        let arguments: Vec<_> = command.get_args().map(ToOwned::to_owned).collect();
        let variables: Vec<_> = command
            .get_envs()
            .filter_map(|(name, value)| Some((name.to_owned(), value?.to_owned())))
            .collect();
        let mut shell = std::process::Command::new("sh");
        shell.args(["-c", "ulimit -S -n 256 && exec \"$0\" \"$@\""]).arg(program).args(arguments);
        shell.env_clear().envs(variables).current_dir(world.path(""));
        shell.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::piped());
        *command = shell;
    });
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", gateway.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_whitespace().filter(|word| word.parse::<u64>().is_ok()).collect();
    assert_eq!(numbers[0], numbers[1], "{line}");
    assert_ne!(numbers[0], "256", "{line}");
}

#[test]
fn a_restart_is_the_service_managers() {
    let world = World::new();
    let _gateway = Gateway::start(&world);
    world.run(&["gateway", "restart"]).exits(4).says("is not a service").says("offshoot gateway stop");
    let none = World::new().run(&["gateway", "restart"]).exits(4).says("no gateway runs");
    assert!(!none.stderr.contains("--url"), "{}", none.stderr);
}

#[test]
fn senders_of_channels_are_nobody_yet() {
    let world = World::new();
    world.run(&["pairing", "list"]).exits(0).says("offshoot devices");
    assert_eq!(world.run(&["pairing", "list", "--json"]).exits(0).json()["requests"], json!([]));
    world.run(&["pairing", "list", "telegram"]).exits(5).says("no channel telegram");
    world.run(&["pairing", "approve", "telegram", "ABCD1234"]).exits(5).says("no channel telegram");
}

/// What a client hears of the end.
fn farewell(gateway: &Gateway, end: impl FnOnce()) -> Value {
    let stream = TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
    stream.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
    let (mut socket, _) = tungstenite::client(gateway.url(), stream).unwrap();
    let params = json!({ "minProtocol": 4, "maxProtocol": 4,
        "client": { "id": "cli", "version": "1", "platform": "linux", "mode": "cli" } });
    let connect = json!({ "type": "req", "id": "1", "method": "connect", "params": params });
    socket.send(Message::text(connect.to_string())).unwrap();
    let mut until = |of: &str, is: &str| loop {
        let frame: Value = serde_json::from_str(socket.read().unwrap().to_text().unwrap()).unwrap();
        if frame[of] == is {
            return frame;
        }
    };
    assert_eq!(until("id", "1")["ok"], true);
    end();
    until("event", "shutdown")["payload"].clone()
}

#[cfg(target_os = "linux")]
#[test]
fn clients_are_told_when_to_come_back_after_a_restart_and_nothing_of_the_kind_at_a_stop() {
    use std::os::unix::fs::PermissionsExt;

    let world = World::with("{ gateway: { auth: { mode: 'none' } } }");
    // A service manager that ends the gateway and leaves the next start to the test.
    world.write("bin/systemctl", "#!/bin/sh\n[ $2 = restart ] && kill -TERM $(cat \"$HOME/pid\")\nexit 0\n");
    let executable = std::fs::Permissions::from_mode(0o755);
    std::fs::set_permissions(world.path("bin/systemctl"), executable).unwrap();
    world.write(".config/systemd/user/offshoot-gateway.service", "");
    let path = format!("{}:/usr/bin:/bin", world.path("bin").display());
    let gateway = Gateway::start(&world);
    world.write("pid", &gateway.pid().to_string());
    let mut restart = None;
    let told = farewell(&gateway, || {
        restart = Some(world.process(&["gateway", "restart"]).env("PATH", &path).spawn().unwrap());
    });
    assert_eq!(told, json!({ "reason": "gateway restarting", "restartExpectedMs": 1_500 }));
    gateway.done().exits(0);
    let gateway = Gateway::start(&world);
    let restarted = Done::from(restart.unwrap().wait_with_output().unwrap()).exits(0);
    assert_eq!(restarted.stdout, format!("restarted the gateway, now process {}\n", gateway.pid()));
    // A restart that never came is forgotten by the next start.
    assert!(!world.state().join("gateway.restart").exists());
    gateway.kill();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis();
    let mark = world.state().join("gateway.restart");
    std::fs::write(&mark, json!({ "at": u64::try_from(now).unwrap() }).to_string()).unwrap();
    let gateway = Gateway::start(&world);
    assert!(!mark.exists());
    let told = farewell(&gateway, || gateway.signal(Signal::TERM));
    assert_eq!(told, json!({ "reason": "gateway stopping" }));
    gateway.done().exits(0);
}
