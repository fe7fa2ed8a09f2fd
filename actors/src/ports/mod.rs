//! What the tree needs from outside: time, ids, models, tools, storage, and somebody who listens.

mod clock;
mod events;
mod ids;
mod model;
mod refusals;
mod storage;
mod tools;

pub use clock::{Clock, TokioClock};
pub use events::{Event, EventSink, NoEvents};
pub use ids::{Ids, SeededIds};
pub use model::{
    Answer, FnModels, ModelError, ModelErrorKind, ModelRequest, ModelSink, Models, StopReason, ToolSpec,
};
pub use storage::{
    Announce, AuditRecord, Cause, Done, Earlier, Host, ListFilter, Op, OpenRun, Page, Refused, RequestKey,
    RunEnd, RunRow, RunState, SessionRow, Steer, Storage, StoreError, StoredSession, SubtreeRun, ToolMark,
    Transaction,
};
pub use tools::{Effect, NoTools, ToolContext, ToolOutput, Tools};

/// A boxed future without borrowed parts.
pub type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'static>>;
