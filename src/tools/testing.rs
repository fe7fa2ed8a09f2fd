//! A store with fixed rows, and settings, for the tests of the tools.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use offshoot_actors::ports::{
    AuditFilter, AuditPage, BoxFuture, Cause, Consequences, DayUsage, DeliveryFilter, DeliveryRow,
    DeliveryTally, Done, Earlier, Host, LeftRun, ListFilter, OpenCallback, OpenRow, OpenRun, OverviewFilter,
    Overviews, Page, QuietFilter, QuietSession, RequestKey, RunRow, RunState, RunUse, SessionFigures,
    SessionRow, Storage, StoreError, StoredPairing, StoredSession, SubtreeRun, Survivors, Tallies, ToolUse,
    ToolUseFilter, Transaction, Unfinished,
};
use offshoot_actors::types::{
    AgentId, AgentSettings, Cleanup, Entry, Mode, ModelChoice, Origin, Outcome, RunId, SessionKey, Settings,
    StoredEntry, SubagentOverrides, Terminal, Timestamp, ToolRules, Transcript, Usage,
};

pub(super) fn key(text: &str) -> SessionKey {
    text.parse().unwrap()
}

/// The run with this number; its id begins with the number in eight hexadecimal digits.
pub(super) fn run_id(number: u32) -> RunId {
    format!("{number:08x}-0000-4000-8000-000000000000").parse().unwrap()
}

fn model(name: &str) -> ModelChoice {
    ModelChoice { primary: name.parse().unwrap(), fallbacks: Vec::new() }
}

/// `main` and these agents, each on a model of its own name.
pub(super) fn settings(ids: &[&str]) -> Settings {
    let mut settings = Settings::with_model("main".parse().unwrap(), "p/main".parse().unwrap());
    for id in ids {
        let agent = AgentSettings {
            id: id.parse().unwrap(),
            name: None,
            model: model(&format!("p/{id}")),
            system_prompt: None,
            tools: ToolRules::default(),
            subagents: SubagentOverrides::default(),
            recovery: offshoot_actors::types::RecoveryOverrides::default(),
        };
        settings.agents.insert(agent.id.clone(), Arc::new(agent));
    }
    settings
}

/// Rows in the order of their making; the number of a row is its time.
#[derive(Debug, Default)]
pub(super) struct Store {
    pub(super) sessions: BTreeMap<SessionKey, SessionRow>,
    pub(super) runs: Vec<RunRow>,
    pub(super) transcripts: BTreeMap<SessionKey, Transcript>,
}

impl Store {
    pub(super) fn add_session(&mut self, name: &str, parent: Option<&str>) -> &mut SessionRow {
        let at = Timestamp(i64::try_from(self.sessions.len()).unwrap());
        let above = parent.and_then(|parent| self.sessions.get(&key(parent)));
        let row = SessionRow {
            key: key(name),
            agent: key(name).agent(),
            parent: parent.map(key),
            root: above.map_or_else(|| key(name), |row| row.root.clone()),
            depth: above.map_or(0, |row| row.depth + 1),
            label: None,
            mode: Mode::Run,
            cleanup: Cleanup::Keep,
            model: None,
            tools: None,
            yielded: None,
            on_parent_exit: offshoot_actors::types::OnParentExit::Stop,
            outlived: None,
            created_at: at,
            updated_at: at,
        };
        self.sessions.entry(key(name)).or_insert(row)
    }

    /// A running run, accepted and started at its number.
    pub(super) fn add_run(&mut self, session: &str, number: u32) -> &mut RunRow {
        let at = Timestamp(i64::from(number));
        let announce_to = self.sessions.get(&key(session)).and_then(|row| row.parent.clone());
        self.runs.push(RunRow {
            id: run_id(number),
            session: key(session),
            cause: Cause::Spawn,
            spawner: None,
            announce_to,
            expects_completion: true,
            wire_id: None,
            model: model("p/main"),
            model_used: None,
            timeout: None,
            input: None,
            state: RunState::Running,
            outcome: None,
            usage: Usage { input: 10, output: 5, cached: 0 },
            steps: 2,
            accepted_at: at,
            started_at: Some(at),
            ended_at: None,
            host: Host::OneShot,
            used: std::time::Duration::ZERO,
            recovery: None,
            attempts: 0,
        });
        self.runs.last_mut().unwrap()
    }

    /// A run that was done after `millis`.
    pub(super) fn add_ended_run(&mut self, session: &str, number: u32, millis: i64) -> &mut RunRow {
        let run = self.add_run(session, number);
        run.state = RunState::Ended(Terminal::Ok);
        run.outcome = Some(Outcome::ok("done"));
        run.ended_at = Some(Timestamp(run.accepted_at.0 + millis));
        run
    }

    pub(super) fn push(&mut self, session: &str, entry: Entry) {
        let transcript = self.transcripts.entry(key(session)).or_default();
        let at = Timestamp(i64::try_from(transcript.next_seq()).unwrap());
        transcript.push(None, at, entry);
    }

    pub(super) fn user(&mut self, session: &str, text: &str) {
        self.push(session, Entry::User { text: text.to_owned(), origin: Origin::Operator });
    }

    pub(super) fn shared(self) -> Arc<dyn Storage> {
        Arc::new(self)
    }

    fn under(&self, key: &SessionKey, ancestor: &SessionKey) -> bool {
        key == ancestor
            || self
                .sessions
                .get(key)
                .and_then(|row| row.parent.as_ref())
                .is_some_and(|parent| self.under(parent, ancestor))
    }

    fn page<T>(rows: Vec<T>, page: Page) -> Vec<T> {
        rows.into_iter().skip(page.offset as usize).take(page.limit as usize).collect()
    }
}

fn ready<T: Send + 'static>(value: T) -> BoxFuture<Result<T, StoreError>> {
    Box::pin(std::future::ready(Ok(value)))
}

impl Storage for Store {
    fn submit(&self, _: Transaction, _: Done) {
        unreachable!("tools write through the tree");
    }

    fn load_session(&self, _: SessionKey) -> BoxFuture<Result<Option<StoredSession>, StoreError>> {
        unreachable!("tools read less than a whole session");
    }

    fn session(&self, key: SessionKey) -> BoxFuture<Result<Option<SessionRow>, StoreError>> {
        ready(self.sessions.get(&key).cloned())
    }

    fn run(&self, run: RunId) -> BoxFuture<Result<Option<RunRow>, StoreError>> {
        ready(self.runs.iter().find(|row| row.id == run).cloned())
    }

    fn entries(
        &self,
        key: SessionKey,
        from: u64,
        limit: u32,
    ) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>> {
        let entries = self.transcripts.get(&key).map(Transcript::entries).unwrap_or_default();
        ready(entries.iter().filter(|entry| entry.seq >= from).take(limit as usize).cloned().collect())
    }

    fn latest_entries(
        &self,
        key: SessionKey,
        before: Option<u64>,
        limit: u32,
    ) -> BoxFuture<Result<Vec<Arc<StoredEntry>>, StoreError>> {
        let entries = self.transcripts.get(&key).map(Transcript::entries).unwrap_or_default();
        let earlier = entries.iter().filter(|entry| before.is_none_or(|before| entry.seq < before));
        let earlier: Vec<_> = earlier.cloned().collect();
        let skip = earlier.len().saturating_sub(limit as usize);
        ready(earlier.into_iter().skip(skip).collect())
    }

    fn quiet_sessions(&self, _: QuietFilter, _: u32) -> BoxFuture<Result<Vec<QuietSession>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn overviews(&self, _: OverviewFilter, _: Page) -> BoxFuture<Result<Overviews, StoreError>> {
        unreachable!("tools list plain rows")
    }

    fn earlier(&self, _: RequestKey) -> BoxFuture<Result<Option<Earlier>, StoreError>> {
        ready(None)
    }

    fn open_runs(&self) -> BoxFuture<Result<Vec<OpenRun>, StoreError>> {
        ready(Vec::new())
    }

    fn open_rows(&self) -> BoxFuture<Result<Vec<OpenRow>, StoreError>> {
        ready(Vec::new())
    }

    fn left_runs(&self) -> BoxFuture<Result<Vec<LeftRun>, StoreError>> {
        ready(Vec::new())
    }

    fn open_in_subtree(&self, key: SessionKey) -> BoxFuture<Result<Vec<SubtreeRun>, StoreError>> {
        let open = self.runs.iter().filter(|run| run.state.is_open() && self.under(&run.session, &key));
        let mut found: Vec<SubtreeRun> = open
            .map(|run| SubtreeRun { row: run.clone(), session: self.sessions[&run.session].clone() })
            .collect();
        found.sort_by_key(|run| std::cmp::Reverse(run.session.depth));
        ready(found)
    }

    fn survivors(&self, _: SessionKey) -> BoxFuture<Result<Survivors, StoreError>> {
        ready(Survivors::default())
    }

    fn waiting_sessions(&self) -> BoxFuture<Result<Vec<SessionKey>, StoreError>> {
        ready(Vec::new())
    }

    fn unfinished(&self, _: SessionKey, _: Host) -> BoxFuture<Result<Unfinished, StoreError>> {
        ready(Unfinished::default())
    }

    fn undelivered(&self, _: SessionKey) -> BoxFuture<Result<Option<SessionKey>, StoreError>> {
        ready(None)
    }

    fn session_figures(&self, _: SessionKey) -> BoxFuture<Result<Option<SessionFigures>, StoreError>> {
        ready(None)
    }

    fn subtree_usage(&self, key: SessionKey) -> BoxFuture<Result<Usage, StoreError>> {
        ready(self.runs.iter().filter(|run| self.under(&run.session, &key)).map(|run| run.usage).sum())
    }

    fn list_sessions(
        &self,
        filter: ListFilter,
        page: Page,
    ) -> BoxFuture<Result<Vec<SessionRow>, StoreError>> {
        let mut rows: Vec<SessionRow> = self
            .sessions
            .values()
            .filter(|row| filter.agent.as_ref().is_none_or(|agent| row.agent == *agent))
            .filter(|row| filter.session.as_ref().is_none_or(|key| row.parent.as_ref() == Some(key)))
            .filter(|row| filter.root.as_ref().is_none_or(|root| row.root == *root))
            .filter(|row| filter.since.is_none_or(|since| row.updated_at >= since))
            .cloned()
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.updated_at));
        ready(Self::page(rows, page))
    }

    fn list_runs(&self, filter: ListFilter, page: Page) -> BoxFuture<Result<Vec<RunRow>, StoreError>> {
        let mut rows: Vec<RunRow> = self
            .runs
            .iter()
            .filter(|run| filter.session.as_ref().is_none_or(|key| run.session == *key))
            .filter(|run| {
                filter.root.as_ref().is_none_or(|root| {
                    self.sessions.get(&run.session).is_none_or(|session| session.root == *root)
                })
            })
            .filter(|run| !filter.open || run.state.is_open())
            .filter(|run| filter.since.is_none_or(|since| run.ended_at.unwrap_or(run.accepted_at) >= since))
            .cloned()
            .collect();
        rows.sort_by_key(|run| std::cmp::Reverse((run.accepted_at, run.id)));
        ready(Self::page(rows, page))
    }

    fn tallies(&self) -> BoxFuture<Result<Tallies, StoreError>> {
        ready(Tallies::default())
    }

    fn usage_by_day(
        &self,
        _: Timestamp,
        _: Timestamp,
        _: i64,
    ) -> BoxFuture<Result<Vec<DayUsage>, StoreError>> {
        ready(Vec::new())
    }

    fn tool_uses(&self, _: ToolUseFilter) -> BoxFuture<Result<Vec<ToolUse>, StoreError>> {
        ready(Vec::new())
    }

    fn consequences(
        &self,
        _: RunId,
        _: Option<SessionKey>,
        _: u32,
    ) -> BoxFuture<Result<Consequences, StoreError>> {
        Box::pin(async { Ok(Consequences::default()) })
    }

    fn runs_named(&self, _: String, _: u32) -> BoxFuture<Result<Vec<RunRow>, StoreError>> {
        ready(Vec::new())
    }

    fn run_uses(&self, _: ToolUseFilter, _: u32) -> BoxFuture<Result<Vec<RunUse>, StoreError>> {
        ready(Vec::new())
    }

    fn pairing(&self) -> BoxFuture<Result<StoredPairing, StoreError>> {
        Box::pin(async { Ok(StoredPairing::default()) })
    }

    fn callbacks(&self) -> BoxFuture<Result<Vec<OpenCallback>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn deliveries(&self, _: DeliveryFilter, _: Page) -> BoxFuture<Result<Vec<DeliveryRow>, StoreError>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn delivery_tally(
        &self,
        _: Option<Arc<BTreeSet<AgentId>>>,
    ) -> BoxFuture<Result<DeliveryTally, StoreError>> {
        Box::pin(async { Ok(DeliveryTally::default()) })
    }

    fn audit_rows(&self, _: AuditFilter, _: Option<i64>, _: u32) -> BoxFuture<Result<AuditPage, StoreError>> {
        Box::pin(async { Ok(AuditPage::default()) })
    }
}
