//! How a storage is, as its latest work has found it.

use super::StoreError;
use crate::types::Timestamp;

/// How a storage is. Whoever looks at it waits for nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoreHealth {
    /// Why it takes no transactions at the moment; none where it takes them.
    pub refuses: Option<Trouble>,
    /// Damage that a read or a transaction has met. It stays until the storage is opened anew: what else is damaged
    /// shows only to whoever looks at everything.
    pub damaged: Option<Trouble>,
}

/// Something that is wrong, and since when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// What was answered.
    pub error: StoreError,
    /// When it was met first.
    pub since: Timestamp,
}

impl StoreError {
    /// The kind of failure in a word, for programs.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Full(_) => "full",
            Self::ReadOnly(_) => "read-only",
            Self::Damaged(_) => "damaged",
            Self::Unavailable(_) => "unavailable",
            Self::Other(_) => "failed",
        }
    }
}
