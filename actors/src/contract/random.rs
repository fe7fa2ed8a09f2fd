//! Random transactions, of which most are applied and some are refused.
//!
//! A draft says what kind of change comes next; it is made concrete against a store that has applied what
//! came before, so that it mostly names what is there and sometimes what is not.

mod deliveries;
mod devices;

use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::fixtures::*;
use crate::MemoryStorage;
use crate::ports::{
    Cause, DeliveryFilter, Host, ListFilter, Op, Page, RequestKey, RunEnd, RunRow, SessionRow, Storage,
    ToolMark, Transaction,
};
use crate::types::{OnParentExit, Outcome, RunId, SessionKey, Terminal, Timestamp, ToolStatus, Usage};

const NAMES: [&str; 6] = ["main", "a", "b", "c", "d", "e"];
const REQUESTS: [&str; 4] = ["w", "x", "y", "z"];
const CALLS: [&str; 3] = ["p", "q", "r"];

/// Many transactions in a row.
pub fn transactions() -> impl Strategy<Value = Vec<Transaction>> {
    let length = prop_oneof![6 => 1usize..2, 3 => 2usize..4, 1 => Just(0usize)];
    let drafts = length.prop_flat_map(|length| vec(draft(), length));
    vec(drafts, 1..80).prop_map(|drafts| {
        let store = MemoryStorage::new();
        let mut transactions = beginning();
        transactions.iter().for_each(|transaction| store.submit(transaction.clone(), Box::new(|_| ())));
        let concrete = drafts.into_iter().map(|drafts| {
            let transaction: Transaction = drafts.into_iter().map(|draft| draft.against(&store)).collect();
            store.submit(transaction.clone(), Box::new(|_| ()));
            transaction
        });
        transactions.extend(concrete);
        transactions
    })
}

/// A root with a child and a grandchild, each with an open run.
fn beginning() -> Vec<Transaction> {
    let main = session("main");
    let first = child("a", &main);
    let second = child("b", &first);
    vec![vec![create(&main), insert(&run(0, &main.key))], spawn(1, &first), spawn(2, &second)]
}

/// A filter and a page over the names that [`transactions`] uses.
pub fn lists() -> impl Strategy<Value = (ListFilter, Page)> {
    let key = || prop::option::weighted(0.3, select(NAMES.as_slice()).prop_map(key));
    let since = prop::option::weighted(0.3, (0i64..5_000).prop_map(Timestamp));
    let filter = (key(), key(), key(), any::<bool>(), since);
    (filter, 0u32..4, 0u32..8).prop_map(|((agent, session, root, open, since), offset, limit)| {
        let agent = agent.map(|key| key.agent());
        (ListFilter { agent, session, root, open, since, ..ListFilter::default() }, Page { offset, limit })
    })
}

/// A filter of deliveries and a page, over the names that [`transactions`] uses.
pub fn delivery_lists() -> impl Strategy<Value = (DeliveryFilter, Page)> {
    deliveries::lists()
}

/// The names of requests that [`transactions`] uses.
pub fn requests() -> impl Iterator<Item = RequestKey> {
    REQUESTS.into_iter().map(request)
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Create,
    Insert,
    Name,
    Append,
    Start,
    Record,
    RecordTime,
    Resume,
    CountAttempts,
    Forget,
    StartTools,
    FinishTool,
    Yield,
    End,
    Queue,
    Take,
    QueueSteer,
    TakeSteers,
    Delete,
    Retire,
    ForgetRequests,
    ForgetSessions,
    Reset,
    Patch,
    Move,
    ExpectParent,
    Abandon,
    Device,
    Callback,
    Dismiss,
    Audit,
}

/// What kind of change, and where its details come from.
#[derive(Debug, Clone)]
struct Draft {
    kind: Kind,
    name: SessionKey,
    other: SessionKey,
    pick: Index,
    number: u64,
    at: Timestamp,
    /// Names something at random instead of something that is there.
    blind: bool,
    flag: bool,
}

fn draft() -> impl Strategy<Value = Draft> {
    let kind = prop_oneof![
        4 => Just(Kind::Create),
        5 => Just(Kind::Insert),
        1 => Just(Kind::Name),
        4 => Just(Kind::Append),
        3 => Just(Kind::Start),
        1 => Just(Kind::Record),
        1 => Just(Kind::RecordTime),
        1 => Just(Kind::Resume),
        1 => Just(Kind::CountAttempts),
        1 => Just(Kind::Forget),
        1 => Just(Kind::StartTools),
        1 => Just(Kind::FinishTool),
        1 => Just(Kind::Yield),
        4 => Just(Kind::End),
        3 => Just(Kind::Queue),
        2 => Just(Kind::Take),
        1 => Just(Kind::QueueSteer),
        1 => Just(Kind::TakeSteers),
        3 => Just(Kind::Delete),
        2 => Just(Kind::Retire),
        1 => Just(Kind::ForgetRequests),
        1 => Just(Kind::ForgetSessions),
        1 => Just(Kind::Reset),
        1 => Just(Kind::Patch),
        3 => Just(Kind::Move),
        1 => Just(Kind::ExpectParent),
        1 => Just(Kind::Abandon),
        6 => Just(Kind::Device),
        4 => Just(Kind::Callback),
        1 => Just(Kind::Dismiss),
        1 => Just(Kind::Audit),
    ];
    let name = || select(NAMES.as_slice()).prop_map(key);
    let rest = (any::<Index>(), 0u64..1_000, 0i64..5_000, prop::bool::weighted(0.15), any::<bool>());
    (kind, name(), name(), rest).prop_map(|(kind, name, other, (pick, number, at, blind, flag))| Draft {
        kind,
        name,
        other,
        pick,
        number,
        at: Timestamp(at),
        blind,
        flag,
    })
}

impl Draft {
    fn against(self, store: &MemoryStorage) -> Op {
        let at = self.at;
        match self.kind {
            Kind::Create => self.create(store),
            Kind::Insert => self.insert(store),
            Kind::Name => {
                let key = request(REQUESTS[self.pick.index(REQUESTS.len())]);
                Op::NameRequest { key, digest: [at.0.to_le_bytes()[0]; 32], run: self.run(store, false) }
            }
            Kind::Append => self.append(store),
            Kind::Start => Op::StartRun { run: self.run(store, true), at },
            Kind::Record => Op::RecordStep {
                run: self.run(store, true),
                steps: 1,
                usage: self.usage(),
                model: model(if self.flag { "m" } else { "n" }),
            },
            Kind::RecordTime => {
                let used = Duration::from_millis(at.0.unsigned_abs());
                Op::RecordTime { run: self.run(store, true), used }
            }
            Kind::Resume => Op::ResumeRuns { runs: vec![self.run(store, true), self.run(store, true)] },
            Kind::CountAttempts => {
                let attempts = u32::try_from(self.number % 5).unwrap_or_default();
                Op::CountAttempts { run: self.run(store, true), attempts }
            }
            Kind::Forget => Op::ForgetAttempts { host: if self.flag { Host::Daemon } else { Host::OneShot } },
            Kind::StartTools => {
                let calls = CALLS.iter().skip(self.pick.index(CALLS.len() + 1)).take(2);
                let calls = calls.map(|call| ToolMark { call: (*call).into(), name: Arc::from("tool") });
                Op::StartTools { run: self.run(store, true), step: self.step(), calls: calls.collect(), at }
            }
            Kind::FinishTool => self.finish_tool(store),
            Kind::Yield => Op::YieldRun { run: self.run(store, true) },
            Kind::End => Op::EndRun(Box::new(RunEnd {
                run: self.run(store, true),
                outcome: Outcome {
                    state: *self.pick.get(&Terminal::ALL),
                    reason: self.flag.then(|| "reason".to_owned()),
                    text: (!self.flag).then(|| "text".to_owned()),
                },
                usage: self.usage(),
                steps: 2,
                at,
            })),
            Kind::Queue => {
                let run = self.run(store, false);
                let row = store.all_runs().into_iter().find(|row| row.id == run);
                let to = row.and_then(|row| row.announce_to).filter(|_| !self.number.is_multiple_of(3));
                let mut result = announce(0, &self.other, to.as_ref().unwrap_or(&self.name));
                result.item.run = run;
                queue(&result)
            }
            Kind::Take => self.take(store),
            Kind::QueueSteer => {
                Op::QueueSteer(Box::new(steer(u128::from(self.number % 4), &self.session(store))))
            }
            Kind::TakeSteers => {
                let steers = store.steers();
                let found = self.some(&steers).cloned();
                let steer = found.unwrap_or_else(|| steer(u128::from(self.number % 4), &self.name));
                Op::TakeSteers { session: steer.session, ids: vec![steer.id] }
            }
            Kind::Delete => Op::DeleteSession { session: self.name, with_parents: self.flag },
            Kind::Retire => self.retire(store),
            Kind::ForgetRequests => Op::ForgetRequests { before: at, limit: self.limit() },
            Kind::ForgetSessions => Op::ForgetSessions { before: at, limit: self.limit() },
            Kind::Reset => Op::ResetSession { session: self.session(store), at },
            Kind::Patch => Op::PatchSession {
                session: self.session(store),
                label: self.flag.then(|| (!self.blind).then(|| self.number.to_string())),
                model: None,
            },
            Kind::Move => self.moved(store),
            Kind::ExpectParent => {
                Op::ExpectParent { session: self.session(store), parent: self.flag.then_some(self.other) }
            }
            Kind::Abandon => Op::AbandonAnnounce { run: self.run(store, false) },
            Kind::Device => devices::change(self.number, self.at),
            Kind::Callback => deliveries::change(self.run(store, false), self.number, at),
            Kind::Dismiss => {
                let mut rows = store.outbox();
                rows.retain(|row| row.announce.is_some());
                let run = self.some(&rows).map_or_else(|| self.run(store, false), |row| row.run);
                Op::DismissAnnounce { run }
            }
            Kind::Audit => audit(&self.name, self.number),
        }
    }

    /// One of those that are there, or none.
    fn some<'a, T>(&self, rows: &'a [T]) -> Option<&'a T> {
        (!rows.is_empty() && !self.blind).then(|| self.pick.get(rows))
    }

    fn session(&self, store: &MemoryStorage) -> SessionKey {
        let rows = store.all_sessions();
        self.some(&rows).map_or_else(|| self.name.clone(), |row| row.key.clone())
    }

    fn run(&self, store: &MemoryStorage, open: bool) -> RunId {
        let mut rows = store.all_runs();
        rows.retain(|row| !open || row.state.is_open());
        self.some(&rows).map_or_else(|| run_id(self.number % 10), |row| row.id)
    }

    /// Mostly as the session is, sometimes as it was not.
    fn retire(self, store: &MemoryStorage) -> Op {
        let session = self.session(store);
        let rows = store.all_sessions();
        let row = rows.iter().find(|row| row.key == session).filter(|_| !self.blind);
        let written_at = row.map_or(self.at, |row| row.updated_at);
        let entries = store.transcripts().get(&session).map_or(0, Vec::len) as u64;
        Op::RetireSession { session, written_at, entries }
    }

    fn limit(&self) -> u32 {
        u32::try_from(self.number % 4).unwrap()
    }

    fn usage(&self) -> Usage {
        Usage { input: self.number, output: self.number / 2, cached: self.number / 3 }
    }

    fn step(&self) -> u32 {
        u32::from(self.flag)
    }

    fn create(self, store: &MemoryStorage) -> Op {
        let full = child("main", &session("main"));
        let there: Vec<_> = store.all_sessions().into_iter().map(|row| row.key).collect();
        let free: Vec<_> = NAMES.into_iter().map(key).filter(|key| !there.contains(key)).collect();
        let name = self.some(&free).unwrap_or(&self.name).clone();
        let parent = self.flag.then(|| self.session(store));
        let tools = if self.blind { None } else { full.tools.clone() };
        let (agent, depth) = (name.agent(), u32::try_from(self.number % 3).unwrap());
        let (created_at, updated_at) = (self.at, self.at);
        let on_parent_exit = OnParentExit::ALL[self.pick.index(3)];
        let row = SessionRow { key: name, root: self.other, agent, parent, depth, tools, ..full };
        create(&SessionRow { created_at, updated_at, on_parent_exit, ..row })
    }

    fn moved(self, store: &MemoryStorage) -> Op {
        let children: Vec<_> = store.all_sessions().into_iter().filter(|row| row.parent.is_some()).collect();
        let child = self.some(&children);
        let session = child.map_or_else(|| self.name.clone(), |row| row.key.clone());
        let from = child.and_then(|row| row.parent.clone()).unwrap_or(self.name);
        Op::MoveSession { session, from, to: self.flag.then_some(self.other) }
    }

    fn insert(self, store: &MemoryStorage) -> Op {
        let number = if self.blind { self.number % 10 } else { store.all_runs().len() as u64 };
        let session = self.session(store);
        let row = store.all_sessions().into_iter().find(|row| row.key == session);
        let parent = row.and_then(|row| row.parent).filter(|_| !self.number.is_multiple_of(3));
        let to = parent.as_ref().unwrap_or(&self.other);
        let plain = child_run(number, &session, to, self.flag.then(|| run_id(0)));
        let announce_to = if self.flag { plain.announce_to.clone() } else { None };
        let cause = if self.flag { Cause::Spawn } else { Cause::Announce };
        insert(&RunRow { announce_to, cause, accepted_at: self.at, usage: self.usage(), ..plain })
    }

    fn append(self, store: &MemoryStorage) -> Op {
        let session = self.session(store);
        let next = store.transcripts().get(&session).map_or(0, Vec::len) as u64;
        let first = if self.blind { self.number % 3 } else { next };
        let open_run = self.flag.then(|| self.run(store, true));
        let entries =
            (first..first + self.number % 3).map(|seq| stored(seq, open_run, self.at.0, user("text")));
        Op::Append { session, open_run, entries: entries.collect() }
    }

    fn finish_tool(self, store: &MemoryStorage) -> Op {
        let mut rows = store.tool_rows();
        rows.retain(|row| row.finished.is_none());
        let found = self.some(&rows).map(|row| (row.run, row.step, Arc::clone(&row.call)));
        let (run, step, call) =
            found.unwrap_or_else(|| (self.run(store, false), self.step(), Arc::from(CALLS[0])));
        Op::FinishTool { run, step, call, status: ToolStatus::Error, at: self.at }
    }

    fn take(self, store: &MemoryStorage) -> Op {
        let mut rows = store.outbox();
        rows.retain(|row| row.announce.is_some());
        match self.some(&rows).and_then(|row| row.announce.as_ref()) {
            Some(announce) => {
                let by = self.flag.then(|| self.run(store, false));
                Op::TakeAnnounces { session: announce.to.clone(), runs: vec![announce.item.run], by }
            }
            None => take(&self.name, &[self.number % 10]),
        }
    }
}
