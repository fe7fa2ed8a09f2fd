//! What lists and statistics show.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::state::{Run, Session, State, places};
use crate::ports::{
    Overview, OverviewFilter, Overviews, Page, RunGlance, RunState, RunUse, ToolUse, ToolUseFilter,
};
use crate::types::{Entry, SessionKey, Terminal, ToolStatus, Usage};

const DAY_MS: i64 = 86_400_000;

impl State {
    pub(super) fn overviews(&self, filter: &OverviewFilter, page: Page) -> Overviews {
        let search = filter.search.as_ref().map(|search| search.to_ascii_lowercase());
        let wanted = |session: &&Session| {
            let row = &session.row;
            let names = || format!("{} {}", row.key, row.label.as_deref().unwrap_or_default());
            self.is_listed(row, &filter.list)
                && filter.key.as_ref().is_none_or(|key| row.key == *key)
                && filter.label.as_ref().is_none_or(|label| row.label.as_ref() == Some(label))
                && (!filter.roots || row.parent.is_none())
                && search.as_ref().is_none_or(|search| names().to_ascii_lowercase().contains(search))
        };
        let mut found: Vec<&Session> =
            self.sessions.iter().map(|(_, session)| session).filter(wanted).collect();
        found.sort_by_key(|session| Reverse((session.row.updated_at, session.number)));
        let total = found.len() as u64;
        let page = found.into_iter().skip(page.offset as usize).take(page.limit as usize);
        Overviews { total, sessions: page.map(|session| self.overview(session)).collect() }
    }

    fn overview(&self, session: &Session) -> Overview {
        let key = &session.row.key;
        let glance = |run| self.runs.get(run).map(|run| RunGlance::from(&run.row));
        let of_this = |run: &_| self.runs.get(run).is_some_and(|run| run.session == session.number);
        let newest = |entry: &Entry| match entry {
            Entry::Assistant { usage, .. } => Some(usage.input),
            _ => None,
        };
        let children = self.children.range(places(key)).rev().take(Overview::MAX_CHILDREN as usize);
        Overview {
            row: session.row.clone(),
            open: self.open_of.range(places(key)).filter_map(|(_, run)| glance(run)).collect(),
            latest: self
                .runs_of
                .range(places(key))
                .rev()
                .find(|(_, run)| of_this(run))
                .and_then(|(_, run)| glance(run)),
            children: children.map(|(_, child)| child.clone()).collect(),
            entries: session.next_seq,
            context: self.transcript(session.number, 0).rev().find_map(|stored| newest(&stored.entry)),
        }
    }

    pub(super) fn tool_uses(&self, filter: &ToolUseFilter) -> Vec<ToolUse> {
        let mut uses: BTreeMap<(SessionKey, String, i64), (u64, u64)> = BTreeMap::new();
        for ((run, ..), tool) in self.tools.iter().filter(|(_, tool)| tool.started_at >= filter.since) {
            let Some(run) = self.runs.get(run) else { continue };
            if filter.session.as_ref().is_some_and(|session| run.row.session != *session) {
                continue;
            }
            let day = (tool.started_at.0 + filter.offset_ms).div_euclid(DAY_MS);
            let (calls, failed) =
                uses.entry((run.row.session.clone(), tool.name.to_string(), day)).or_default();
            *calls += 1;
            *failed += u64::from(matches!(tool.finished, Some((ToolStatus::Error, _))));
        }
        let shown = |((session, tool, day), (calls, failed))| ToolUse { session, tool, day, calls, failed };
        uses.into_iter().map(shown).collect()
    }

    pub(super) fn run_uses(&self, filter: &ToolUseFilter, most: u32) -> Vec<RunUse> {
        let mut uses: BTreeMap<(SessionKey, String, i64), RunUse> = BTreeMap::new();
        for (_, Run { row, .. }) in self.runs.iter() {
            let at = row.ended_at.or(row.started_at).unwrap_or(row.accepted_at);
            if at < filter.since || filter.session.as_ref().is_some_and(|session| row.session != *session) {
                continue;
            }
            let model = row.model_used.as_ref().unwrap_or(&row.model.primary).clone();
            let day = (at.0 + filter.offset_ms).div_euclid(DAY_MS);
            let place = (row.session.clone(), model.to_string(), day);
            let used = uses.entry(place).or_insert_with(|| RunUse {
                session: row.session.clone(),
                model,
                day,
                runs: 0,
                steps: 0,
                failed: 0,
                usage: Usage::default(),
                latest: at,
            });
            let good = matches!(row.state, RunState::Ended(Terminal::Ok | Terminal::Partial));
            used.runs += 1;
            used.steps += u64::from(row.steps);
            used.failed += u64::from(!row.state.is_open() && !good);
            used.usage += row.usage;
            used.latest = used.latest.max(at);
        }
        let mut uses: Vec<RunUse> = uses.into_values().collect();
        uses.sort_by_key(|used| std::cmp::Reverse(used.latest));
        uses.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        uses
    }
}
