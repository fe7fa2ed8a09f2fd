//! A tool that hangs, a handler that hangs, an actor that crashes again and again, in a daemon with faults: what an operator
//! sees of them in `tree`, in `top` and in `/metrics`. How soon is printed and not asserted: a busy machine is no bug.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::daemon::Gateway;
use crate::support::World;
use crate::top::Screen;
use crate::watching::tree_until;

const MAIN: &str = "agent:main:main";
const CONFIG: &str = "{ gateway: { metrics: { auth: 'none' }, watch: { silentAfterSeconds: 1 } } }";

/// A daemon with a fault, and `top` beside it.
struct Ward {
    world: World,
    gateway: Gateway,
    top: Screen,
}

impl Ward {
    fn with(faults: &str) -> Self {
        let world = World::with(CONFIG);
        let gateway = Gateway::start_with(&world, |command| _ = command.env("OFFSHOOT_FAULTS", faults));
        let mut top = Screen::start(&world, &["top"], (40, 200));
        top.shows("offshoot  up ");
        Self { world, gateway, top }
    }

    /// Waits until each view shows a trouble; `find` says since when a node is in it.
    fn sees(&mut self, what: &str, find: impl Fn(&Value) -> Option<i64>, words: &[&str], metrics: &[&str]) {
        let mut seen = Vec::new();
        let found = |tree: &Value| {
            tree["nodes"].as_array().is_some_and(|nodes| nodes.iter().any(|node| find(node).is_some()))
        };
        let tree = tree_until(&self.world, found);
        let began = tree["nodes"].as_array().unwrap().iter().find_map(&find).unwrap();
        let mut see = |view: &'static str| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
            seen.push((view, i64::try_from(now.as_millis()).unwrap() - began));
        };
        see("tree --json");
        let has_all = |text: &str, parts: &[&str]| parts.iter().all(|part| text.contains(part));
        while !has_all(&self.metrics(), metrics) {}
        see("/metrics");
        self.top.until(|text| has_all(text, words));
        see("top");
        while !has_all(&self.world.run(&["tree"]).exits(0).stdout, words) {}
        see("tree");
        #[expect(clippy::print_stdout, reason = "how soon is for whoever runs it with --nocapture")]
        {
            println!("{what}, in ms after it began: {seen:?}");
        }
    }

    fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.gateway.port())).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let request = "GET /metrics HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n";
        stream.write_all(request.as_bytes()).unwrap();
        let mut page = String::new();
        stream.read_to_string(&mut page).unwrap();
        page
    }
}

fn inject() -> [String; 5] {
    let params = json!({ "sessionKey": MAIN, "message": "a note" }).to_string();
    ["gateway", "call", "chat.inject", "--params", &params].map(str::to_owned)
}

#[test]
fn a_run_that_is_stuck_in_a_tool_shows_which_tool_with_what_and_for_how_long() {
    let mut ward = Ward::with("tool.agents_list=hang");
    let _run = ward.world.begin(&["run", r#"Call: agents_list {"folder": "/srv", "token": "abc"}"#]);
    let in_tool = |node: &Value| {
        let tool = &node["run"]["tools"][0];
        (tool["name"] == "agents_list" && tool["arg"] == "folder=/srv token=***")
            .then(|| tool["since"].as_i64())?
    };
    let metrics =
        [r#"offshoot_tool_calls_running{tool="agents_list"} 1"#, r#"oldest_seconds{tool="agents_list"} "#];
    ward.sees("a tool hangs", in_tool, &["agents_list(folder=/srv token=***) "], &metrics);
    let silent = |node: &Value| if node["run"]["silent"] == true { in_tool(node) } else { None };
    ward.sees("its run is silent", silent, &["SILENT for ", "agents_list("], &["offshoot_runs_silent 1\n"]);
}

#[test]
fn an_actor_that_is_stuck_in_a_handler_shows_the_message_in_hand_and_for_how_long() {
    let mut ward = Ward::with("session.inject=hang");
    let _run = ward.world.begin(&["run", "Wait: 1h"]);
    tree_until(&ward.world, |tree| tree["nodes"].to_string().contains("\"doing\":\"model\""));
    let _asks = ward.world.begin(&inject().each_ref().map(String::as_str));
    let stuck = |node: &Value| {
        let hangs =
            node["stuck"] == true && node["kind"] == "session" && node["inHand"]["message"] == "inject";
        hangs.then(|| node["inHand"]["since"].as_i64())?
    };
    let words = ["STUCK: not answering for ", "(handles inject)"];
    ward.sees("a handler hangs", stuck, &words, &[r#"offshoot_actors_stuck{kind="session"} 1"#]);
}

#[test]
fn an_actor_that_crashes_again_and_again_shows_how_often_and_why() {
    let mut ward = Ward::with("session.inject=panic");
    let _run = ward.world.begin(&["run", "Wait: 1h"]);
    tree_until(&ward.world, |tree| tree["nodes"].to_string().contains("\"doing\":\"model\""));
    for _ in 0..3 {
        assert_ne!(ward.world.run(&inject().each_ref().map(String::as_str)).code, 0);
    }
    let why = "injected fault in session on inject";
    let crashes = |node: &Value| {
        let loops = node["restarts"] == 3 && node["lastFailure"] == why;
        loops.then(|| node["restartedAt"].as_i64())?
    };
    // A narrow line ends before the reason does.
    let words = ["CRASH LOOP: restarted 3 times, last ", "ago: injected fault in s"];
    let metrics = [
        r#"offshoot_actors_crash_looping{kind="session"} 1"#,
        r#"offshoot_actor_restarts_total{kind="session"} 3"#,
    ];
    ward.sees("an actor crashes again and again", crashes, &words, &metrics);
}
