//! Faults that an operator's rehearsal puts into a daemon from outside, with the cargo feature `faults` only.
//!
//! The environment variable `OFFSHOOT_FAULTS` names them, separated by spaces: `session.steer=hang` holds up the thread of
//! every session that handles a message `steer`, `watchdog.look=hang:9` that of the watchdog at its ninth look, `config.apply=panic` makes the configuration panic on each `apply`,
//! `watcher.due=panic:4` only the first four times, and `tool.agents_list=hang` lets that tool never answer. The kinds of
//! actors and the names of their messages are those that `offshoot tree` shows.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, LazyLock};

use offshoot_actors::kit::{Bug, Faults};

/// Where they are named.
const VARIABLE: &str = "OFFSHOOT_FAULTS";
/// What stands for the kind of an actor where a tool is meant.
const TOOL: &str = "tool";

/// What happens.
#[derive(Debug)]
enum Fault {
    /// After so many times that are well.
    Hang(AtomicU32),
    /// So many times more.
    Panic(AtomicU32),
}

/// What happens where.
#[derive(Debug)]
struct Planned {
    /// The kind of actor, or `tool`.
    at: String,
    /// The message, or the tool.
    on: String,
    fault: Fault,
}

/// The faults of this process.
#[derive(Debug, Default)]
pub(crate) struct Plan(Vec<Planned>);

static PLAN: LazyLock<Result<Arc<Plan>, String>> =
    LazyLock::new(|| Plan::read(&std::env::var(VARIABLE).unwrap_or_default()).map(Arc::new));

/// The faults that the environment names; an error says what cannot be read.
pub(crate) fn planned() -> Result<Arc<Plan>, String> {
    PLAN.clone()
}

/// Waits for ever where this tool is to hang.
pub(crate) async fn in_tool(name: &str) {
    if planned().is_ok_and(|plan| plan.find(TOOL, name).is_some_and(|fault| matches!(fault, Fault::Hang(_))))
    {
        std::future::pending::<()>().await;
    }
}

impl Plan {
    fn read(text: &str) -> Result<Self, String> {
        let planned = text.split_whitespace().map(|word| {
            Planned::read(word).ok_or_else(|| {
                format!("{VARIABLE} cannot be read at {word:?}: write kind.message=hang, kind.message=hang:TH, kind.message=panic, kind.message=panic:TIMES or tool.name=hang")
            })
        });
        planned.collect::<Result<_, _>>().map(Self)
    }

    fn find(&self, at: &str, on: &str) -> Option<&Fault> {
        self.0.iter().find(|planned| planned.at == at && planned.on == on).map(|planned| &planned.fault)
    }
}

impl Planned {
    fn read(word: &str) -> Option<Self> {
        let (place, fault) = word.split_once('=')?;
        let (at, on) = place.split_once('.')?;
        let (fault, count) = match fault.split_once(':') {
            Some((fault, count)) => (fault, Some(count.parse::<u32>().ok().filter(|count| *count > 0)?)),
            None => (fault, None),
        };
        let fault = match fault {
            "hang" if at != TOOL || count.is_none() => Fault::Hang(AtomicU32::new(count.unwrap_or(1) - 1)),
            "panic" if at != TOOL => Fault::Panic(AtomicU32::new(count.unwrap_or(u32::MAX))),
            _ => return None,
        };
        Some(Self { at: at.to_owned(), on: on.to_owned(), fault })
    }
}

impl Faults for Plan {
    fn panics(&self, actor: &'static str, message: &'static str) -> bool {
        let counts = |count: &AtomicU32| {
            count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        };
        match self.find(actor, message) {
            None => false,
            Some(Fault::Panic(times)) => counts(times),
            Some(Fault::Hang(well)) => {
                while !counts(well) {
                    std::thread::park();
                }
                false
            }
        }
    }

    fn has(&self, _: Bug) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_word_by_word_and_happen_as_often_as_they_say() {
        let plan = Plan::read(" config.apply=panic:2  tool.agents_list=hang\nstore.commit=panic").unwrap();
        let panics = [(); 3].map(|()| plan.panics("config", "apply"));
        assert_eq!(panics, [true, true, false]);
        assert!(plan.panics("store", "commit") && !plan.panics("store", "other"));
        assert!(matches!(plan.find("tool", "agents_list"), Some(Fault::Hang(_))));
        for word in
            ["x", "a=hang", "a.b", "a.b=stop", "a.b=panic:x", "a.b=hang:0", "tool.x=hang:2", "tool.x=panic"]
        {
            assert!(Plan::read(word).unwrap_err().contains(word), "{word}");
        }
    }
}
