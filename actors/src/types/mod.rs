//! Values that cross actors and the store. No behaviour that needs an actor, no ractor types.

mod client;
mod entry;
mod ids;
mod origin;
mod outcome;
mod scope;
mod secret;
mod settings;
mod spawn;
mod time;
mod usage;

pub use client::{
    ClientInfo, DeviceId, MAX_CLIENT_NAME, MAX_REMOTE, PairReason, PublicKey, Role, TextError, Vouched,
};
pub use entry::{AnnounceItem, Entry, StoredEntry, ToolCall, ToolStatus, Transcript};
pub use ids::{AgentId, MAX_AGENT_ID, MAX_SESSION_KEY, ModelRef, NameError, RunId, SessionKey};
pub use origin::{Origin, OriginKind, UnknownOrigin};
pub use outcome::{Outcome, Terminal};
pub use scope::{MAX_SCOPES, Scope, ScopeError, Scopes};
pub use secret::{MAX_SECRET, Secret, SecretHash};
pub use settings::{
    AgentSettings, AllowAgents, LaneLimits, MAX_ATTEMPTS, MAX_TIMEOUT, ModelChoice, PromptLimits,
    RecoveryMode, RecoveryOverrides, RecoverySettings, RetentionSettings, RunLimits, Settings, SettingsError,
    SubagentOverrides, SubagentSettings, ToolRules, Visibility,
};
pub use spawn::{
    Accepted, Callback, Cleanup, IdempotencyKey, Mode, OnParentExit, PromptRequest, Refusal, RefusalKind,
    SpawnRequest, Submitted,
};
pub use time::{Monotonic, Timestamp};
pub use usage::Usage;
