//! What becomes of a run that an earlier process left open.

use std::time::Duration;

use crate::ports::{LeftRun, RunState};
use crate::types::{RecoveryMode, RecoverySettings, Settings, Terminal, Timestamp};

/// Resumed model calls that one provider gets at once.
const BURST: u32 = 100;
/// The pause between further ones of the same provider.
const INTERVAL: Duration = Duration::from_micros(500);

/// What a start decides on one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// It goes on from its last committed step.
    Resume,
    /// It ends as interrupted, for this reason.
    Interrupt(String),
    /// It ends as cancelled: the run that spawned it was, or ran out of time.
    Stop,
}

/// The word that begins the reason of a run that was at work at too many starts that died.
pub const QUARANTINED: &str = "quarantined";

/// Decides on a run; `waits` tells whether it waits for children that have not ended.
#[must_use]
pub fn decide(run: &LeftRun, waits: bool, settings: &Settings, now: Timestamp) -> Decision {
    if run.spawner_ended.is_some_and(Terminal::stops_children) && !run.open.on_parent_exit.outlives() {
        return Decision::Stop;
    }
    let agent = run.open.session.agent();
    let Some(configured) = settings.agent(&agent) else {
        return Decision::Interrupt(format!(
            "the daemon went down, and the agent {agent} is not configured any more: add it to agents.list"
        ));
    };
    let own = configured.recovery;
    let policy = RecoverySettings {
        mode: run.recovery.or(own.mode).unwrap_or(settings.recovery.mode),
        max_age: own.max_age.unwrap_or(settings.recovery.max_age),
        max_attempts: own.max_attempts.unwrap_or(settings.recovery.max_attempts),
        ..settings.recovery
    };
    let borne = "agents.defaults.recovery.maxAttempts says how many are borne";
    if run.state == RunState::Running && run.attempts >= policy.max_attempts {
        let starts = run.attempts;
        return Decision::Interrupt(format!(
            "{QUARANTINED}: it was at work at {starts} starts of the daemon that died; {borne}"
        ));
    }
    // Where it is not known which run they died of: first those that would work, and if that is not enough, all.
    let most = policy.max_attempts.saturating_mul(if run.state == RunState::Running { 1 } else { 2 });
    if run.died >= most {
        let starts = run.died;
        return Decision::Interrupt(format!(
            "{QUARANTINED}: the last {starts} starts of the daemon died before any run was at work; {borne}"
        ));
    }
    if policy.mode == RecoveryMode::Interrupt {
        let asked = if run.recovery.is_some() { "its spawn" } else { "agents.defaults.recovery.mode" };
        return Decision::Interrupt(format!("the daemon went down, and {asked} says not to resume"));
    }
    let age = now - run.written_at;
    match policy.max_age {
        Some(most) if age > most && !waits => Decision::Interrupt(format!(
            "the daemon went down, and for {} s nothing was written to its session, which is longer than \
             agents.defaults.recovery.maxAge allows ({} s)",
            age.as_secs(),
            most.as_secs()
        )),
        _ => Decision::Resume,
    }
}

/// Spreads the model calls of resumed runs of one provider: so many at once, the others one after the other.
#[derive(Debug, Clone, Copy, Default)]
pub struct Pace {
    asked: u32,
}

impl Pace {
    /// How long the next call waits, counted from the start of the process.
    pub fn next_at(&mut self) -> Duration {
        let late = self.asked.saturating_sub(BURST.saturating_sub(1));
        self.asked = self.asked.saturating_add(1);
        INTERVAL.saturating_mul(late)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::contract::{key, run};
    use crate::types::{AgentId, AgentSettings, ModelRef, OnParentExit, RecoveryOverrides};

    const NOW: Timestamp = Timestamp(1_000_000_000);

    fn settings() -> Settings {
        Settings::with_model(AgentId::main(), ModelRef::rehearsal())
    }

    fn left(state: RunState, attempts: u32, seconds_ago: i64) -> LeftRun {
        let open = run(1, &key("main")).open(&key("main"), 0, OnParentExit::Stop);
        let written_at = Timestamp(NOW.0 - seconds_ago * 1_000);
        LeftRun { open, state, recovery: None, attempts, died: 0, spawner_ended: None, written_at }
    }

    fn reason(run: &LeftRun, settings: &Settings) -> String {
        match decide(run, false, settings, NOW) {
            Decision::Interrupt(reason) => reason,
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_run_at_work_at_too_many_starts_that_died_is_quarantined() {
        let settings = settings();
        assert_eq!(reason(&left(RunState::Running, 1, 0), &settings), "Resume");
        assert!(reason(&left(RunState::Running, 2, 0), &settings).starts_with(QUARANTINED));
        // Those that waited had no part in it.
        assert_eq!(reason(&left(RunState::Accepted, 3, 0), &settings), "Resume");
        assert_eq!(reason(&left(RunState::Yielded, 3, 0), &settings), "Resume");
    }

    #[test]
    fn starts_that_die_before_any_run_works_count_against_those_that_would_and_then_against_all() {
        let (settings, states) = (settings(), [RunState::Running, RunState::Accepted, RunState::Yielded]);
        for (died, put_aside) in
            [(1, [false; 3]), (2, [true, false, false]), (3, [true, false, false]), (4, [true; 3])]
        {
            let run = |state| LeftRun { died, ..left(state, 0, 0) };
            let found = states.map(|state| reason(&run(state), &settings).starts_with(QUARANTINED));
            assert_eq!(found, put_aside, "after {died}");
        }
    }

    #[test]
    fn the_nearest_policy_counts() {
        let mut settings = settings();
        let mut run = left(RunState::Running, 0, 0);
        settings.recovery.mode = RecoveryMode::Interrupt;
        assert!(reason(&run, &settings).contains("agents.defaults.recovery.mode"));
        let own = RecoveryOverrides { mode: Some(RecoveryMode::Resume), ..RecoveryOverrides::default() };
        let agent =
            AgentSettings { recovery: own, ..AgentSettings::clone(&settings.agents[&AgentId::main()]) };
        settings.agents.insert(AgentId::main(), Arc::new(agent));
        assert_eq!(reason(&run, &settings), "Resume");
        run.recovery = Some(RecoveryMode::Interrupt);
        assert!(reason(&run, &settings).contains("its spawn"));
    }

    #[test]
    fn what_a_cancelled_run_spawned_is_not_resumed() {
        let mut run = left(RunState::Running, 0, 0);
        run.spawner_ended = Some(Terminal::Cancelled);
        assert_eq!(decide(&run, false, &settings(), NOW), Decision::Stop);
        run.open.on_parent_exit = OnParentExit::HandOver;
        assert_eq!(decide(&run, false, &settings(), NOW), Decision::Resume);
        run.open.on_parent_exit = OnParentExit::Stop;
        run.spawner_ended = Some(Terminal::Ok);
        assert_eq!(decide(&run, false, &settings(), NOW), Decision::Resume);
    }

    #[test]
    fn an_agent_that_is_gone_has_no_runs() {
        let mut settings = settings();
        settings.agents.clear();
        assert!(reason(&left(RunState::Accepted, 0, 0), &settings).contains("agents.list"));
    }

    #[test]
    fn a_run_is_too_old_unless_it_waits_for_children() {
        let mut settings = settings();
        settings.recovery.max_age = Some(Duration::from_secs(60));
        assert_eq!(reason(&left(RunState::Running, 0, 60), &settings), "Resume");
        let old = left(RunState::Yielded, 0, 61);
        assert!(reason(&old, &settings).contains("maxAge"));
        assert_eq!(decide(&old, true, &settings, NOW), Decision::Resume);
        settings.recovery.max_age = None;
        assert_eq!(reason(&left(RunState::Running, 0, 1_000_000), &settings), "Resume");
    }

    #[test]
    fn a_provider_gets_a_hundred_calls_at_once_and_then_two_a_millisecond() {
        let mut pace = Pace::default();
        let waits: Vec<Duration> = (0..300).map(|_| pace.next_at()).collect();
        assert!(waits[..100].iter().all(Duration::is_zero));
        assert_eq!(waits[100], Duration::from_micros(500));
        assert_eq!(waits[299], Duration::from_millis(100));
    }
}
