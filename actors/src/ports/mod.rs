//! What the tree needs from outside: time, ids, models, tools, storage, and somebody who listens.

mod clock;
mod events;
mod ids;
mod model;
mod refusals;
mod storage;
mod tools;

pub use clock::{Clock, TokioClock};
pub use events::{Event, EventSink, NoEvents, PairVerdict, PairingEvent};
pub use ids::{Ids, SeededIds};
pub use model::{
    Answer, FnModels, ModelError, ModelErrorKind, ModelRequest, ModelSink, Models, StopReason, ToolSpec,
};
pub use storage::{
    Announce, AuditColumns, AuditFilter, AuditPage, AuditPageOf, AuditRecord, AuditRow, BootstrapRow,
    CallbackMark, CallbackRow, Cause, Consequences, DAY_MS, DayUsage, DeliveryFilter, DeliveryKind,
    DeliveryRow, DeliveryState, DeliveryStatus, DeliveryTally, DeviceRow, DeviceTokenRow, Done, Earlier,
    Host, LeftRun, ListFilter, Op, OpenCallback, OpenRow, OpenRun, Overview, OverviewFilter, Overviews, Page,
    PairRequestRow, QuietFilter, QuietSession, Receiver, Refused, RequestKey, RunEnd, RunGlance, RunRow,
    RunState, RunTally, RunTrace, RunUse, SessionFigures, SessionRow, Steer, Storage, StoreError,
    StoreHealth, StoredPairing, StoredSession, SubtreeRun, Survivors, Tallies, ToolMark, ToolUse,
    ToolUseFilter, Transaction, Trouble, Undeliverable, Unfinished, UnknownDelivery,
};
pub use tools::{Effect, NoTools, ToolContext, ToolOutput, Tools};

/// A boxed future without borrowed parts.
pub type BoxFuture<T> = std::pin::Pin<Box<dyn Future<Output = T> + Send + 'static>>;
