//! I1, I2 and I3, of each change and of what is at rest.

use offshoot_actors::ports::Refused;

use super::actors::Standing;
use super::store::{Change, Line, View, bit, each, is_first, session_of};
use super::{Run, State, World};

/// The rule that a change breaks.
pub fn of_change(
    world: &World,
    before: &View,
    change: Change,
    after: Option<&View>,
    refused: Option<&Refused>,
) -> Option<String> {
    let take = match change {
        Change::Begin { take, .. }
        | Change::Wake { take, .. }
        | Change::Boundary { take, .. }
        | Change::Deliver { take, .. }
        | Change::TakeOnly { take, .. } => take,
        _ => 0,
    };
    if take & !before.announced != 0 {
        return Some("I2: a result is taken before it is committed".to_owned());
    }
    let queued = match change {
        Change::End { run, .. } | Change::QueueAgain { run } => bit(run),
        _ => 0,
    };
    if queued & before.announced != 0 {
        return Some("I2: a result is queued twice".to_owned());
    }
    if let Some(refused) = refused {
        // A run that a new process goes on with asks for its children again.
        let repeats =
            matches!((change, refused), (Change::Spawn { .. }, Refused::Conflict(_) | Refused::Repeated));
        return (!repeats).then(|| format!("{change:?} is refused: {refused}"));
    }
    let after = after?;
    for (run, (state, _)) in &before.runs {
        if !before.is_open(*run) && after.state(*run) != *state {
            return Some(format!("I1: run {run} was {state} and is {}", after.state(*run)));
        }
    }
    if let Some(run) = after.runs.keys().find(|run| times(world, after, **run) > 1) {
        return Some(format!("I2: the result of run {run} stands twice"));
    }
    let goes_on = match change {
        Change::Wake { run, .. } => run,
        _ => return None,
    };
    if before.state(goes_on) != "yielded" {
        return Some(format!("I3: run {goes_on} wakes twice"));
    }
    // Those that go on with results of their own may do so just as their parent stops to wait for them.
    let open = each(before.open_to(world, session_of(goes_on))).find(|run| is_first(*run));
    open.map(|open| format!("I3: run {goes_on} goes on while run {open} is open"))
}

/// How often the result of a run stands in its parent's transcript.
fn times(world: &World, view: &View, run: Run) -> usize {
    let lines = world.parents[session_of(run)].and_then(|parent| view.lines.get(&parent));
    let is_in = |line: &&Line| matches!(line, Line::Results { runs, .. } if runs & bit(run) != 0);
    lines.map_or(0, |lines| lines.iter().filter(is_in).count())
}

/// The rules that a state breaks in which nothing is left to do.
pub fn at_rest(world: &World, view: &View, state: &State) -> Vec<String> {
    let mut broken = Vec::new();
    for run in view.runs.keys().copied() {
        if view.is_open(run) {
            broken.push(format!("I1: run {run} is {} at rest", view.state(run)));
        } else if world.parents[session_of(run)].is_some() && times(world, view, run) != 1 {
            let waits = if view.waiting & bit(run) == 0 { "" } else { ", and waits" };
            let rule = if waits.is_empty() { "I2" } else { "I3" };
            broken.push(format!(
                "{rule}: the result of run {run} stands {} times{waits}",
                times(world, view, run)
            ));
        }
    }
    for (session, run) in &view.yielded {
        broken.push(format!("I3: session {session} still waits in run {run}"));
    }
    for (session, lines) in &view.lines {
        let last = lines.iter().rposition(|line| matches!(line, Line::Results { .. } | Line::Notice(_)));
        if last.is_some_and(|last| !lines[last..].iter().any(|line| matches!(line, Line::Answer(_)))) {
            broken.push(format!("I3: session {session} never worked on its results"));
        }
    }
    if view.lines.len() != world.parents.len() {
        broken.push(format!("I1: only {} sessions came to be", view.lines.len()));
    }
    for (session, actor) in state.actors.iter().enumerate() {
        if actor.standing != Standing::Asleep {
            broken.push(format!("I3: session {session} does not sleep"));
        }
    }
    broken
}
