//! The one writer: a thread that commits what waits for it together.
//!
//! A refused transaction fails alone: when a batch holds one, it is applied again with a savepoint for each. One
//! COMMIT, and with it one sync, makes the whole batch durable; only then is anybody answered. A transaction that is
//! lost on the way, by a panic or by the end of the thread, is answered by the drop of its [`Answer`].
//!
//! The thread ends when the store is closed and at no other time. After a panic it begins anew with another connection,
//! as often as that takes, and refuses what comes meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use offshoot_actors::ports::{Done, Op, Refused, StoreError, Transaction};
use rusqlite::Connection;

use super::apply::Apply;
use super::condition::Condition;
use super::error::{Failure, store_error};
use super::heads::Heads;
use super::lock::StateLock;
use super::place::Place;
use super::schema::{self, Database};
use super::space::Space;
use super::{Durability, threads};
use crate::metrics::COMMITS;

/// Most transactions of one commit: enough to share the cost of a sync, few enough that the first of them
/// does not wait long for the last.
const BATCH: usize = 512;

enum Message {
    Write(Write),
    TryAgain,
    Close,
    Visit(Box<dyn FnOnce(&Connection) + Send>),
}

struct Write {
    ops: Vec<Op>,
    answer: Answer,
}

/// Calls `done` once, at the latest when it is dropped.
struct Answer(Option<Done>);

impl Answer {
    fn give(mut self, fate: Result<(), Refused>) {
        self.call(fate);
    }

    fn call(&mut self, fate: Result<(), Refused>) {
        let Some(done) = self.0.take() else { return };
        if catch_unwind(AssertUnwindSafe(|| done(fate))).is_err() {
            tracing::error!("a listener for a commit panicked");
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.call(Err(unavailable()));
    }
}

fn unavailable() -> Refused {
    StoreError::Unavailable("its writer was closed or has failed".to_owned()).into()
}

/// What the writer works on.
pub(super) struct Work {
    pub(super) database: Database,
    pub(super) durability: Durability,
    pub(super) connection: Connection,
    pub(super) lock: StateLock,
    pub(super) condition: Arc<Condition>,
}

/// The way to the writer thread.
#[derive(Debug)]
pub(super) struct Writer {
    messages: Sender<Message>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread, which keeps the lock until it has closed the database.
    pub(super) fn start(work: Work) -> Result<Self, StoreError> {
        let Work { database, durability, connection, lock, condition } = work;
        let heads = Heads::load(&connection).map_err(store_error)?;
        let place = Place::of(database.file())
            .map_err(|error| StoreError::Other(format!("{}: {error}", database.file().display())))?;
        let (messages, received) = channel();
        let thread = threads::start("store-writer", move || {
            let mut thread = WriterThread {
                connection,
                heads,
                batch: Vec::new(),
                failed: false,
                space: Space::default(),
                condition,
                place,
                database,
                durability,
            };
            thread.work(&received);
            // Whoever is still queued is told before the lock is given up.
            drop(received);
            thread.close();
            drop(lock);
        })?;
        Ok(Self { messages, thread: Mutex::new(Some(thread)) })
    }

    pub(super) fn submit(&self, ops: Transaction, done: Done) {
        // A writer that is gone drops the message, and with it answers.
        _ = self.messages.send(Message::Write(Write { ops, answer: Answer(Some(done)) }));
    }

    /// Finishes what was submitted, closes the database and gives up the lock.
    pub(super) fn close(&self) {
        _ = self.messages.send(Message::Close);
        threads::join(self.thread.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    /// Has it try whether it can commit, if it could not.
    pub(super) fn try_again(&self) {
        _ = self.messages.send(Message::TryAgain);
    }

    /// Looks at the connection between two batches. A writer that is gone drops the function unused.
    pub(super) fn visit(&self, visit: impl FnOnce(&Connection) + Send + 'static) {
        _ = self.messages.send(Message::Visit(Box::new(visit)));
    }
}

struct WriterThread {
    connection: Connection,
    heads: Heads,
    /// What is being committed. It outlives a panic, so that nobody is told of one before all is as it was.
    batch: Vec<Write>,
    /// A panic left the connection in a state that nobody knows.
    failed: bool,
    condition: Arc<Condition>,
    place: Place,
    database: Database,
    durability: Durability,
    space: Space,
}

impl WriterThread {
    /// Until it is told to close, or nobody can submit any more.
    fn work(&mut self, received: &Receiver<Message>) {
        let mut open = true;
        while open {
            open = catch_unwind(AssertUnwindSafe(|| self.turn(received)))
                .unwrap_or_else(|_| self.give_up(received));
        }
    }

    /// Commits what waits, and answers. Says whether there may be more.
    fn turn(&mut self, received: &Receiver<Message>) -> bool {
        let mut next = match self.space.wait() {
            None => received.recv().ok(),
            Some(wait) => match received.recv_timeout(wait) {
                Err(RecvTimeoutError::Timeout) => {
                    self.give_back();
                    return true;
                }
                other => other.ok(),
            },
        };
        let (mut open, mut asked) = (next.is_some(), false);
        while let Some(message) = next {
            match message {
                Message::Write(write) => self.batch.push(write),
                Message::TryAgain => asked = true,
                Message::Close => open = false,
                Message::Visit(visit) => visit(&self.connection),
            }
            next = if open && self.batch.len() < BATCH { received.try_recv().ok() } else { None };
        }
        let committed = self.commit(asked).map_err(|error| self.place.explain(error));
        let batch = std::mem::take(&mut self.batch);
        match committed {
            Ok(fates) => batch.into_iter().zip(fates).for_each(|(write, fate)| write.answer.give(fate)),
            Err(error) => {
                self.condition.refused(&error, batch.len());
                batch.into_iter().for_each(|write| write.answer.give(Err(error.clone().into())));
            }
        }
        open
    }

    /// Nobody has written for a while: gives back some space, unless the next commit has to begin anew.
    fn give_back(&mut self) {
        if self.failed || self.place.check().is_err() {
            self.space = Space::default();
        } else {
            self.space.step(&self.connection);
        }
    }

    /// Makes the batch durable and returns the fate of each transaction; on an error none was applied. Where there
    /// is nothing to commit, tries whether something could be, if that was asked for.
    fn commit(&mut self, asked: bool) -> Result<Vec<Result<(), Refused>>, StoreError> {
        if self.failed {
            self.begin_anew()?;
        }
        if self.batch.iter().all(|write| write.ops.is_empty()) {
            if asked && self.condition.refuses() {
                self.try_to_write()?;
            }
            return Ok(self.batch.iter().map(|_| Ok(())).collect());
        }
        self.place.check()?;
        let heads = self.heads;
        let began = Instant::now();
        let committed = self.try_commit();
        COMMITS.time.took(began.elapsed());
        COMMITS.together.held(self.batch.len());
        if committed.is_ok() {
            COMMITS.ok.one()
        } else {
            COMMITS.failed.one()
        }
        match &committed {
            Ok(fates) => self.note(fates),
            Err(_) => {
                self.heads = heads;
                self.roll_back();
            }
        }
        committed
    }

    /// What the fates of a batch tell of the store. A refusal that is the request's own fault tells nothing.
    fn note(&self, fates: &[Result<(), Refused>]) {
        let failed = fates.iter().filter_map(|fate| match fate {
            Err(Refused::Storage(error)) => Some(error),
            _ => None,
        });
        let mut failed = failed.peekable();
        if self.batch.iter().zip(fates).any(|(write, fate)| fate.is_ok() && !write.ops.is_empty()) {
            self.condition.works();
            failed.for_each(|error| self.condition.met(error));
        } else if failed.peek().is_some_and(|error| is_of_a_page(error)) && self.try_to_write().is_ok() {
            failed.for_each(|error| self.condition.met(error));
        } else if let Some(error) = failed.next() {
            self.condition.refused(error, failed.count() + 1);
        }
    }

    /// Whether a commit can be made.
    fn try_to_write(&self) -> Result<(), StoreError> {
        self.place.check()?;
        let written = schema::write_nothing_new(&self.connection);
        if written.is_err() {
            self.roll_back();
        }
        written.map_err(store_error)?;
        self.condition.works();
        Ok(())
    }

    fn try_commit(&mut self) -> Result<Vec<Result<(), Refused>>, StoreError> {
        let before = self.heads;
        execute(&self.connection, "BEGIN IMMEDIATE").map_err(store_error)?;
        let Self { connection, heads, batch, .. } = self;
        // Savepoints copy every page that is touched, and most batches need none.
        let together = batch.iter().try_for_each(|write| Apply { connection, heads }.all(&write.ops));
        let mut fates: Vec<Result<(), Refused>> = batch.iter().map(|_| Ok(())).collect();
        let mut one_by_one = together.is_err();
        while one_by_one {
            self.heads = before;
            self.roll_back();
            execute(&self.connection, "BEGIN IMMEDIATE").map_err(store_error)?;
            one_by_one = self.apply_each(&mut fates)?;
        }
        execute(&self.connection, "COMMIT").map_err(store_error)?;
        self.space.written();
        Ok(fates)
    }

    /// Applies each transaction or leaves no trace of it, but for those that have met a damaged page before. Says whether
    /// another one has: SQLite takes and commits nothing after that, so that the others are to be applied again without it.
    fn apply_each(&mut self, fates: &mut [Result<(), Refused>]) -> Result<bool, StoreError> {
        let has_met =
            |fate: &Result<(), Refused>| matches!(fate, Err(Refused::Storage(error)) if is_of_a_page(error));
        let Self { connection, heads, batch, .. } = self;
        for (write, fate) in batch.iter().zip(fates) {
            if !has_met(fate) {
                *fate = apply(connection, heads, &write.ops)?;
                if has_met(fate) {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn roll_back(&self) {
        if !self.connection.is_autocommit()
            && let Err(error) = execute(&self.connection, "ROLLBACK")
        {
            tracing::error!(%error, "a failed commit could not be rolled back");
        }
    }

    /// After a panic: refuses what was at work and what waits. Says whether there may be more. What is submitted by those
    /// who are told so is not refused with the rest.
    fn give_up(&mut self, received: &Receiver<Message>) -> bool {
        self.failed = true;
        let lost = std::mem::take(&mut self.batch);
        let waiting: Vec<Message> = received.try_iter().collect();
        let open = !waiting.iter().any(|message| matches!(message, Message::Close));
        let transactions = waiting.iter().filter(|message| matches!(message, Message::Write(_)));
        let panicked = StoreError::Unavailable("its writer panicked and begins anew".to_owned());
        self.condition.refused(&panicked, lost.len() + transactions.count());
        drop((lost, waiting));
        open
    }

    /// Goes on from what is on disk, with another connection.
    fn begin_anew(&mut self) -> Result<(), StoreError> {
        self.place.check()?;
        // The old one would keep the new one from writing.
        self.roll_back();
        self.connection.flush_prepared_statement_cache();
        let connection = self.database.reopen_writer(self.durability).map_err(store_error)?;
        self.heads = Heads::load(&connection).map_err(store_error)?;
        self.connection = connection;
        self.failed = false;
        Ok(())
    }

    /// Moves the log into the database, so that the next start has nothing to read through.
    fn close(self) {
        let moved = self.connection.pragma_update_and_check(None, "wal_checkpoint", "TRUNCATE", |_| Ok(()));
        if let Err(error) = moved {
            tracing::warn!(%error, "the store's log could not be moved into the database");
        }
    }
}

/// Whether only what needs a damaged page may fail with it.
const fn is_of_a_page(error: &StoreError) -> bool {
    matches!(error, StoreError::Damaged(_))
}

/// Applies one transaction or leaves no trace of it. An error means that the batch cannot go on.
fn apply(connection: &Connection, heads: &mut Heads, ops: &[Op]) -> Result<Result<(), Refused>, StoreError> {
    if ops.is_empty() {
        return Ok(Ok(()));
    }
    let before = *heads;
    execute(connection, "SAVEPOINT one").map_err(store_error)?;
    let applied = Apply { connection, heads }.all(ops);
    match applied {
        Ok(()) => {
            execute(connection, "RELEASE one").map_err(store_error)?;
            Ok(Ok(()))
        }
        // On some errors, such as a full device, SQLite has rolled back the batch by itself.
        Err(Failure::Sqlite(error)) if connection.is_autocommit() => Err(store_error(error)),
        Err(failure) => {
            *heads = before;
            execute(connection, "ROLLBACK TO one").map_err(store_error)?;
            execute(connection, "RELEASE one").map_err(store_error)?;
            Ok(Err(failure.into()))
        }
    }
}

fn execute(connection: &Connection, sql: &'static str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(|_| ())
}
