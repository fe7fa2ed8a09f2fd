//! Readers beside the writer: a few threads with a connection each.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use offshoot_actors::ports::{BoxFuture, StoreError};
use rusqlite::Connection;
use tokio::sync::{Semaphore, oneshot};

use super::condition::Condition;
use super::error::store_error;
use super::place::unopened;
use super::schema::Database;
use super::threads;

/// Two, so that a long list does not hold up a session that wakes.
const THREADS: usize = 2;
/// Questions that are queued at once; whoever asks more waits before queueing.
const QUEUE: usize = 1_024;

/// Asks with a connection, or is told why there is none.
type Read = Box<dyn FnOnce(Result<&Connection, StoreError>) + Send>;

/// What is asked and not yet begun.
#[derive(Default)]
struct Jobs {
    queue: VecDeque<Read>,
    /// Threads at work.
    busy: usize,
    closed: bool,
}

/// Gives a thread work only while all those before it have some: one that never has any opens no connection.
#[derive(Default)]
struct Work {
    jobs: Mutex<Jobs>,
    changed: Condvar,
}

impl std::fmt::Debug for Work {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Work").finish_non_exhaustive()
    }
}

impl Work {
    fn jobs(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give(&self, read: Read) -> Result<(), StoreError> {
        let mut jobs = self.jobs();
        if jobs.closed {
            return Err(closed());
        }
        jobs.queue.push_back(read);
        self.changed.notify_all();
        Ok(())
    }

    /// Waits for the next question that is for the thread of this number; none once all are answered and no more come.
    fn take(&self, number: usize) -> Option<Read> {
        let waits = |jobs: &mut Jobs| !jobs.closed && (jobs.queue.is_empty() || jobs.busy < number);
        let jobs = self.changed.wait_while(self.jobs(), waits);
        let mut jobs = jobs.unwrap_or_else(PoisonError::into_inner);
        let read = jobs.queue.pop_front()?;
        jobs.busy += 1;
        if !jobs.queue.is_empty() {
            self.changed.notify_all();
        }
        Some(read)
    }

    fn done(&self) {
        self.jobs().busy -= 1;
    }

    /// Leaves a question to the threads before.
    fn give_back(&self, read: Read) {
        let mut jobs = self.jobs();
        jobs.busy -= 1;
        jobs.queue.push_front(read);
        self.changed.notify_all();
    }

    fn close(&self) {
        self.jobs().closed = true;
        self.changed.notify_all();
    }
}

/// The way to the readers.
#[derive(Debug)]
pub(super) struct Readers {
    work: Arc<Work>,
    room: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    condition: Arc<Condition>,
}

impl Readers {
    /// Starts the threads. The first one takes `first`, the others open connections of their own when they have work.
    pub(super) fn start(
        database: &Database,
        first: Option<Connection>,
        condition: Arc<Condition>,
    ) -> Result<Self, StoreError> {
        let readers = Self {
            work: Arc::default(),
            room: Arc::new(Semaphore::new(QUEUE)),
            threads: Mutex::new(Vec::with_capacity(THREADS)),
            condition,
        };
        let mut first = first;
        for number in 0..THREADS {
            let (database, jobs, connection) = (database.clone(), Arc::clone(&readers.work), first.take());
            let thread = threads::start("store-reader", move || work(number, &database, &jobs, connection))?;
            readers.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(readers)
    }

    /// Asks on one of the threads.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<Result<T, StoreError>> {
        let (work, room) = (Arc::clone(&self.work), Arc::clone(&self.room));
        let condition = Arc::clone(&self.condition);
        Box::pin(async move {
            let place = room.acquire_owned().await.map_err(|_| closed())?;
            let (answer, answered) = oneshot::channel();
            let job = move |connection: Result<&Connection, StoreError>| {
                if !answer.is_closed() {
                    let found = connection.and_then(|connection| question(connection).map_err(store_error));
                    found.as_ref().err().into_iter().for_each(|error| condition.met(error));
                    _ = answer.send(found);
                }
                drop(place);
            };
            work.give(Box::new(job))?;
            answered.await.unwrap_or_else(|_| Err(closed()))
        })
    }

    /// Ends the threads after what is queued.
    pub(super) fn close(&self) {
        self.room.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        self.work.close();
        threads.into_iter().for_each(|thread| threads::join(Some(thread)));
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.close();
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("its readers were closed".to_owned())
}

fn work(number: usize, database: &Database, jobs: &Work, mut connection: Option<Connection>) {
    while let Some(read) = jobs.take(number) {
        let opened = match connection.take() {
            Some(connection) => Ok(connection),
            None => database.open_reader().map_err(|error| unopened(database.file(), store_error(error))),
        };
        if let Err(error) = &opened
            && number > 0
        {
            // Those before it have theirs.
            tracing::warn!(%error, "the store is read by one thread less");
            return jobs.give_back(read);
        }
        let answered = catch_unwind(AssertUnwindSafe(|| read(opened.as_ref().map_err(Clone::clone))));
        jobs.done();
        match answered {
            Ok(()) => connection = opened.ok(),
            Err(_) => tracing::error!("a reader of the store panicked"),
        }
    }
}
