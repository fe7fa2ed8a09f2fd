//! Metrics of the daemon, as Prometheus reads them.
//!
//! Where something that happens in the tree is an [`Event`](offshoot_actors::ports::Event), it is counted from that one
//! ([`Tally`]), as the log and the clients are told of it. What is no event is counted where it is done, in the statics
//! here. What can be read at any moment, such as the actors, is read when somebody asks. Names are a promise to those who
//! watch: see docs/metrics.md.

mod figures;
mod page;
mod process;
mod tally;

use std::collections::BTreeMap;
use std::time::Duration;

use dashmap::DashMap;
use offshoot_actors::TreeHandle;
use offshoot_actors::kit::KindFigures;
use offshoot_actors::ports::DeliveryTally;
use offshoot_actors::types::{Monotonic, Timestamp};

pub(crate) use self::figures::{Counter, Histogram};
use self::figures::{MANY, SHORT};
pub(crate) use self::page::{CONTENT_TYPE, Page};
pub(crate) use self::tally::Tally;
use crate::telemetry;

/// What goes over the wire.
pub(crate) struct WireFigures {
    pub(crate) frames_in: Counter,
    pub(crate) frames_out: Counter,
    /// Events that a slow client was spared.
    pub(crate) dropped_events: Counter,
    /// Clients that were closed because they were too slow.
    pub(crate) slow_closed: Counter,
}

/// That of this process.
pub(crate) static WIRE: WireFigures = WireFigures {
    frames_in: Counter::new(),
    frames_out: Counter::new(),
    dropped_events: Counter::new(),
    slow_closed: Counter::new(),
};

/// The store's commits.
pub(crate) struct CommitFigures {
    pub(crate) ok: Counter,
    pub(crate) failed: Counter,
    pub(crate) time: Histogram,
    /// Transactions that were committed together.
    pub(crate) together: Histogram,
}

/// Those of this process.
pub(crate) static COMMITS: CommitFigures = CommitFigures {
    ok: Counter::new(),
    failed: Counter::new(),
    time: Histogram::new(SHORT),
    together: Histogram::new(MANY),
};

/// Requests of one family of methods.
#[derive(Debug, Default)]
struct Requests {
    ok: Counter,
    error: Counter,
}

/// The figures of one daemon.
#[derive(Debug)]
pub(crate) struct Metrics {
    pub(crate) tally: Tally,
    /// Of each family of methods, by its name.
    requests: Box<[(&'static str, Requests)]>,
    /// Messages that actors of each kind handled.
    handled: DashMap<&'static str, Counter>,
}

/// What is read of the daemon for a scrape.
pub(crate) struct Seen<'a> {
    pub(crate) version: &'a str,
    pub(crate) started_at: Timestamp,
    pub(crate) now: Monotonic,
    /// None until the tree is there.
    pub(crate) tree: Option<&'a TreeHandle>,
    pub(crate) deliveries: DeliveryTally,
    /// Connected clients by their role.
    pub(crate) connections: BTreeMap<&'static str, u64>,
    /// Connections that there ever were.
    pub(crate) connected: u64,
    pub(crate) store_refuses: bool,
    /// How long a run may give no sign of life.
    pub(crate) silent_after: Duration,
}

impl Metrics {
    /// Figures of a daemon with these tools and these families of methods.
    pub(crate) fn new(tools: impl Iterator<Item = &'static str>, families: &[&'static str]) -> Self {
        let requests = families.iter().map(|family| (*family, Requests::default())).collect();
        Self { tally: Tally::new(tools), requests, handled: DashMap::new() }
    }

    /// Counts an answer to a request of the family that stands there among those of this daemon.
    pub(crate) fn answered(&self, family: usize, ok: bool) {
        let Some((_, requests)) = self.requests.get(family) else { return };
        if ok { requests.ok.one() } else { requests.error.one() }
    }

    /// All of it. Asks no actor, and waits for nothing.
    pub(crate) fn page(&self, seen: &Seen<'_>) -> String {
        let mut page = Page::default();
        let help = "The daemon's version, as a label.";
        page.gauge("offshoot_build_info", help).value(&[("version", seen.version)], 1);
        self.tally.write(&mut page, seen.now, seen.silent_after);
        if let Some(tree) = seen.tree {
            let mut runs = page.gauge("offshoot_runs", "Runs of sessions that are awake, by their state.");
            let open = tree.open_runs();
            for state in ["queued", "running", "yielded", "ending"] {
                runs.value(&[("state", state)], open.get(state).copied().unwrap_or_default());
            }
            self.actors(&mut page, &tree.figures());
        }
        deliveries(&mut page, seen.deliveries);
        store(&mut page, seen.store_refuses);
        self.wire(&mut page, seen);
        let help =
            "Lines of the log that were lost because the disk, or who reads standard error, did not keep up.";
        page.counter("offshoot_log_lines_dropped_total", help).value(&[], telemetry::lines_lost());
        process::write(&mut page, seen.started_at.0);
        page.finish()
    }

    fn actors(&self, page: &mut Page, kinds: &BTreeMap<&'static str, KindFigures>) {
        type Read = fn(&KindFigures) -> u64;
        const GAUGES: [(&str, &str, Read); 5] = [
            ("offshoot_actors", "Actors that live, by their kind.", |kind| kind.live),
            ("offshoot_mailbox_messages", "Messages that wait for actors, by their kind.", |kind| {
                kind.mailbox
            }),
            (
                "offshoot_mailbox_messages_max",
                "The most messages that wait for one actor of the kind.",
                |kind| kind.mailbox_max.into(),
            ),
            (
                "offshoot_actors_stuck",
                "Actors that for over a second have had one message in hand, or messages waiting and none in hand.",
                |kind| kind.stuck,
            ),
            (
                "offshoot_actors_crash_looping",
                "Actors that were restarted three times or more, the last time within the last minute.",
                |kind| kind.looping,
            ),
        ];
        for (name, help, read) in GAUGES {
            let mut gauge = page.gauge(name, help);
            for (kind, figures) in kinds {
                gauge.value(&[("kind", kind)], read(figures));
            }
        }
        let mut handled =
            page.counter("offshoot_messages_handled_total", "Messages that actors handled, by their kind.");
        for (kind, figures) in kinds {
            let count = self.handled.entry(kind).or_default().reaches(figures.handled);
            handled.value(&[("kind", kind)], count);
        }
    }

    fn wire(&self, page: &mut Page, seen: &Seen<'_>) {
        let mut connections =
            page.gauge("offshoot_connections", "Clients that are connected, by their role.");
        for (role, count) in &seen.connections {
            connections.value(&[("role", role)], count);
        }
        let help = "Connections and requests of HTTP that were ever numbered.";
        page.counter("offshoot_connections_opened_total", help).value(&[], seen.connected);
        page.counter("offshoot_frames_total", "WebSocket messages, by their direction.")
            .of(&[("direction", "in")], &WIRE.frames_in)
            .of(&[("direction", "out")], &WIRE.frames_out);
        let mut requests =
            page.counter("offshoot_requests_total", "Requests that were answered, by family and result.");
        for (family, Requests { ok, error }) in &self.requests {
            if ok.get() + error.get() > 0 {
                requests.of(&[("family", family), ("result", "ok")], ok);
                requests.of(&[("family", family), ("result", "error")], error);
            }
        }
        let help = "Events that clients did not get because they read too slowly.";
        page.counter("offshoot_events_dropped_total", help).of(&[], &WIRE.dropped_events);
        let help = "Clients that were closed because they read too slowly.";
        page.counter("offshoot_slow_clients_closed_total", help).of(&[], &WIRE.slow_closed);
    }
}

/// As they were when the store was last looked at.
fn deliveries(page: &mut Page, tally: DeliveryTally) {
    page.gauge(
        "offshoot_deliveries",
        "Results on their way, as of the last look into the store, by their state.",
    )
    .value(&[("state", "open")], tally.open)
    .value(&[("state", "failed")], tally.failed)
    .value(&[("state", "given_up")], tally.given_up)
    .value(&[("state", "undeliverable")], tally.undeliverable);
}

fn store(page: &mut Page, refuses: bool) {
    page.counter("offshoot_commits_total", "Commits of the store, by their result.")
        .of(&[("result", "ok")], &COMMITS.ok)
        .of(&[("result", "failed")], &COMMITS.failed);
    page.histogram("offshoot_commit_seconds", "Commits with their sync.").spread(&[], &COMMITS.time);
    let help = "Transactions that were committed together.";
    page.histogram("offshoot_commit_transactions", help).spread(&[], &COMMITS.together);
    let help = "Whether the store takes no work at the moment.";
    page.gauge("offshoot_store_refuses", help).value(&[], u8::from(refuses));
}
