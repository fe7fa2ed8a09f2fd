//! Readers beside the writer: a few threads with a connection each.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
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

enum Job {
    Read(Read),
    Close,
}

/// The way to the readers.
#[derive(Debug)]
pub(super) struct Readers {
    jobs: Sender<Job>,
    room: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    condition: Arc<Condition>,
}

impl Readers {
    /// Starts the threads. One of them takes `first`, the others open connections of their own.
    pub(super) fn start(
        database: &Database,
        first: Option<Connection>,
        condition: Arc<Condition>,
    ) -> Result<Self, StoreError> {
        let (jobs, received) = channel();
        let received = Arc::new(Mutex::new(received));
        let readers = Self {
            jobs,
            room: Arc::new(Semaphore::new(QUEUE)),
            threads: Mutex::new(Vec::with_capacity(THREADS)),
            condition,
        };
        let mut first = first;
        for _ in 0..THREADS {
            let (database, received, connection) = (database.clone(), Arc::clone(&received), first.take());
            let thread = threads::start("store-reader", move || work(&database, &received, connection))?;
            readers.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(readers)
    }

    /// Asks on one of the threads.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<Result<T, StoreError>> {
        let (jobs, room) = (self.jobs.clone(), Arc::clone(&self.room));
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
            jobs.send(Job::Read(Box::new(job))).map_err(|_| closed())?;
            answered.await.unwrap_or_else(|_| Err(closed()))
        })
    }

    /// Ends the threads after what is queued.
    pub(super) fn close(&self) {
        self.room.close();
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        threads.iter().for_each(|_| _ = self.jobs.send(Job::Close));
        threads.into_iter().for_each(|thread| threads::join(Some(thread)));
    }
}

fn closed() -> StoreError {
    StoreError::Unavailable("its readers were closed".to_owned())
}

fn work(database: &Database, jobs: &Mutex<Receiver<Job>>, mut connection: Option<Connection>) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job::Read(read)) = job else { return };
        let opened = match connection.take() {
            Some(connection) => Ok(connection),
            None => database.open_reader().map_err(|error| unopened(database.file(), store_error(error))),
        };
        let answered = catch_unwind(AssertUnwindSafe(|| read(opened.as_ref().map_err(Clone::clone))));
        match answered {
            Ok(()) => connection = opened.ok(),
            Err(_) => tracing::error!("a reader of the store panicked"),
        }
    }
}
