//! The audit record, to be read.

use std::ops::ControlFlow;

use crate::types::{Origin, OriginKind, RunId, SessionKey, Timestamp};

/// One row of the audit record, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// Its number: the first row is 1, and none is left out.
    pub row: i64,
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: String,
    /// Who asked; none if somebody changed it to what nobody would have written.
    pub origin: Option<Origin>,
    /// The session it is about.
    pub session: Option<String>,
    /// The run it is about.
    pub run: Option<String>,
    /// Facts, by name; empty also where somebody changed them to what nobody would have written.
    pub facts: Vec<(String, String)>,
}

/// Which rows of the audit record are read. Empty: all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Not of an earlier time.
    pub since: Option<Timestamp>,
    /// What begins with this.
    pub event: Option<String>,
    /// What this kind of asker asked for.
    pub origin: Option<OriginKind>,
    /// What is about this session, or what one of its runs asked for.
    pub session: Option<SessionKey>,
    /// What is about this run, or what it asked for.
    pub run: Option<RunId>,
}

/// The columns of a row that a filter looks at.
#[derive(Debug, Clone, Copy)]
pub struct AuditColumns<'a> {
    /// When.
    pub at: Timestamp,
    /// What.
    pub event: &'a str,
    /// The session it is about.
    pub session: Option<&'a str>,
    /// The run it is about.
    pub run: Option<&'a str>,
}

/// Some rows of the audit record, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AuditPage {
    /// The rows.
    pub rows: Vec<AuditRow>,
    /// Rows before this one were not looked at yet; none if all were.
    pub next: Option<i64>,
}

impl AuditFilter {
    /// Whether a row is among those that are asked for. Who asked is read only where that matters.
    #[must_use]
    pub fn admits(&self, row: AuditColumns<'_>, asked: impl FnOnce() -> Option<Origin>) -> bool {
        let Self { since, event, origin, session, run } = self;
        if since.is_some_and(|since| row.at < since)
            || event.as_ref().is_some_and(|event| !row.event.starts_with(event.as_str()))
        {
            return false;
        }
        if origin.is_none() && session.is_none() && run.is_none() {
            return true;
        }
        let asked = asked();
        if origin.is_some_and(|kind| asked.as_ref().map(Origin::kind) != Some(kind)) {
            return false;
        }
        let agent = match &asked {
            Some(Origin::Agent { session, run }) => Some((session, *run)),
            _ => None,
        };
        let of_session = |wanted: &SessionKey| {
            row.session == Some(wanted.as_str()) || agent.is_some_and(|(session, _)| session == wanted)
        };
        let of_run = |wanted: RunId| {
            row.run.and_then(|run| run.parse().ok()) == Some(wanted)
                || agent.is_some_and(|(_, run)| run == wanted)
        };
        session.as_ref().is_none_or(of_session) && run.is_none_or(of_run)
    }
}

/// Takes rows for a page, newest first, until it is full or enough were looked at.
#[derive(Debug)]
pub struct AuditPageOf {
    limit: usize,
    looks: usize,
    page: AuditPage,
}

impl AuditPageOf {
    /// Most rows that are looked at for one page: a filter that fits few rows must not keep a reader busy for long.
    pub const LOOKS: usize = 20_000;

    /// An empty one.
    #[must_use]
    pub fn new(limit: u32) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).max(1);
        Self { limit, looks: Self::LOOKS, page: AuditPage::default() }
    }

    /// The row of this number was looked at, and is there if it is asked for.
    pub fn looked(&mut self, number: i64, asked_for: Option<AuditRow>) -> ControlFlow<()> {
        self.page.rows.extend(asked_for);
        self.looks = self.looks.saturating_sub(1);
        if self.page.rows.len() < self.limit && self.looks > 0 {
            return ControlFlow::Continue(());
        }
        self.page.next = Some(number);
        ControlFlow::Break(())
    }

    /// What was taken.
    #[must_use]
    pub fn page(self) -> AuditPage {
        self.page
    }
}
