//! What is said of a node: in one line, and in detail. What is wrong is said in words as well as in colour.

use std::time::Duration;

use offshoot_actors::policy::watch::is_loop;
use offshoot_actors::types::{Terminal, Timestamp, Usage};

use super::super::output::{elapsed, one_line, tokens};
use crate::protocol::tree::{Actor, Node, Run, Session, Spent, Tokens, Tool};

/// Longest name, label, reason or argument in a line, in characters.
const MAX_WORDS: usize = 80;
/// A silence that is worth a word before the daemon calls it one.
const QUIET: Duration = Duration::from_secs(10);

/// How a word looks where there are colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tone {
    Plain,
    Dim,
    Bold,
    Good,
    Busy,
    Warn,
    Bad,
}

/// A piece of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    pub(crate) text: String,
    pub(crate) tone: Tone,
}

impl Word {
    fn new(text: impl Into<String>, tone: Tone) -> Self {
        Self { text: text.into(), tone }
    }

    fn plain(text: impl Into<String>) -> Self {
        Self::new(text, Tone::Plain)
    }

    fn dim(text: impl Into<String>) -> Self {
        Self::new(text, Tone::Dim)
    }
}

/// What it is and what it is called: `session agent:main:main`.
pub(crate) fn name(node: &Node) -> String {
    let (kind, name) = (one_line(&node.kind, MAX_WORDS), one_line(&node.name, 2 * MAX_WORDS));
    let says_kind = name.strip_prefix(&*kind).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '));
    if says_kind || matches!(&*kind, "root" | "") { name } else { format!("{kind} {name}") }
}

/// The state that matters of it: that of the run, of the session's newest run, else of the actor.
pub(crate) fn state(node: &Node) -> (&str, Tone) {
    let state = match (&node.run, &node.session) {
        (Some(run), _) => &run.state,
        (None, Some(session)) if !session.awake => &node.state,
        (None, Some(session)) => &session.status,
        (None, None) => &node.state,
    };
    (state, tone(state))
}

fn tone(state: &str) -> Tone {
    match (state.parse::<Terminal>(), state) {
        (Ok(Terminal::Ok), _) => Tone::Good,
        (Ok(Terminal::Partial | Terminal::Cancelled | Terminal::Interrupted), _) => Tone::Warn,
        (Ok(Terminal::Timeout | Terminal::Error | Terminal::Crashed), _) => Tone::Bad,
        (Err(_), "running" | "ending") => Tone::Busy,
        (Err(_), "starting" | "rebuilding" | "stopping") => Tone::Warn,
        (Err(_), _) => Tone::Dim,
    }
}

/// Tokens and cost: of a run its own, of a session those of everything below it.
pub(crate) fn spent(node: &Node) -> Option<(Usage, Option<f64>)> {
    let of_session = || node.session.as_ref().and_then(|session| session.subtree.or(session.spent));
    let spent = node.run.as_ref().map(|run| run.spent).or_else(of_session)?;
    Some((usage(spent.usage), spent.cost_usd))
}

/// Tokens as the rest of the command line has them.
pub(crate) const fn usage(tokens: Tokens) -> Usage {
    Usage { input: tokens.input, output: tokens.output, cached: tokens.cached }
}

/// How long ago a time of the wire was.
fn since(at: i64, now: Timestamp) -> Duration {
    now - Timestamp(at)
}

fn spending(spent: &Spent) -> String {
    let cost = spent.cost_usd.filter(|cost| *cost > 0.0).map(|cost| format!(" {}", money(cost)));
    format!("{}{}", tokens(usage(spent.usage)), cost.unwrap_or_default())
}

/// US dollars: `$0.0123`, `$1.20`.
pub(crate) fn money(cost: f64) -> String {
    if cost != 0.0 && cost < 0.1 { format!("${cost:.4}") } else { format!("${cost:.2}") }
}

/// What is wrong with it, in words.
pub(crate) fn marks(node: &Node, now: Timestamp) -> Vec<Word> {
    let mut marks = Vec::new();
    if let Some(actor) = node.actor.as_ref().filter(|actor| actor.stuck) {
        let (message, begun) = match &actor.in_hand {
            Some(in_hand) => (one_line(&in_hand.message, MAX_WORDS), in_hand.since),
            None => (String::new(), actor.waits_since.unwrap_or(now.0)),
        };
        let how_long = elapsed(since(begun, now));
        let what = match &*message {
            "" => "messages wait".to_owned(),
            message => format!("handles {message}"),
        };
        marks.push(Word::new(format!("STUCK: not answering for {how_long} ({what})"), Tone::Bad));
    }
    if let Some(run) = &node.run
        && run.silent
    {
        let how_long = run.silent_since.map(|at| format!(" for {}", elapsed(since(at, now))));
        marks.push(Word::new(format!("SILENT{}", how_long.unwrap_or_default()), Tone::Bad));
    }
    marks.extend(node.actor.as_ref().filter(|actor| actor.restarts > 0).map(|actor| restarts(actor, now)));
    marks
}

fn restarts(actor: &Actor, now: Timestamp) -> Word {
    let times = if actor.restarts == 1 { "once".to_owned() } else { format!("{} times", actor.restarts) };
    let last =
        actor.restarted_at.map(|at| format!(", last {} ago", elapsed(since(at, now)))).unwrap_or_default();
    let why = actor.last_failure.as_deref().map(|why| format!(": {}", one_line(why, MAX_WORDS)));
    let text = format!("restarted {times}{last}{}", why.unwrap_or_default());
    let is_loop = actor.restarted_at.is_some_and(|at| is_loop(actor.restarts, Timestamp(at), now));
    if is_loop { Word::new(format!("CRASH LOOP: {text}"), Tone::Bad) } else { Word::new(text, Tone::Warn) }
}

/// All that one line says of a node, without where it hangs.
pub(crate) fn line(node: &Node, now: Timestamp) -> Vec<Word> {
    let mut words = vec![Word::new(name(node), Tone::Bold)];
    let label = node.session.as_ref().and_then(|session| session.label.as_deref());
    words.extend(label.map(|label| Word::plain(format!("\"{}\"", one_line(label, MAX_WORDS)))));
    let (said, tone) = state(node);
    words.push(Word::new(one_line(said, MAX_WORDS), tone));
    words.extend(marks(node, now));
    match (&node.run, &node.session) {
        (Some(run), _) => of_run(run, now, &mut words),
        (None, Some(session)) => of_session(node, session, now, &mut words),
        (None, None) => {
            words.extend(age(node, now));
            let in_hand =
                node.actor.as_ref().filter(|actor| !actor.stuck).and_then(|actor| actor.in_hand.as_ref());
            words.extend(
                in_hand.map(|it| Word::plain(format!("handles {}", one_line(&it.message, MAX_WORDS)))),
            );
        }
    }
    let mailbox = node.actor.as_ref().map(|actor| actor.mailbox).filter(|waiting| *waiting > 0);
    words.extend(mailbox.map(|waiting| Word::plain(format!("mailbox {waiting}"))));
    words
}

/// How long the actor lives.
fn age(node: &Node, now: Timestamp) -> Option<Word> {
    node.actor.as_ref().map(|actor| Word::dim(elapsed(since(actor.since, now))))
}

fn of_run(run: &Run, now: Timestamp, words: &mut Vec<Word>) {
    if let Some(reason) = run.reason.as_deref().filter(|reason| !reason.is_empty()) {
        words.push(Word::plain(one_line(reason, MAX_WORDS)));
    }
    if run.tools.is_empty() {
        words.extend(run.doing.as_deref().map(|doing| Word::plain(one_line(doing, MAX_WORDS))));
    }
    words.extend(run.lane_position.map(|place| {
        let lane = one_line(run.lane.as_deref().unwrap_or("lane"), MAX_WORDS);
        Word::plain(format!("{place}. in {lane}"))
    }));
    words.extend(run.tools.iter().map(|call| Word::plain(tool(call, now))));
    if run.step > 0 {
        words.push(Word::dim(steps(run)));
    }
    words.push(Word::dim(elapsed(run_time(run, now))));
    let silent = run.silent_since.map(|at| since(at, now)).filter(|silent| !run.silent && *silent >= QUIET);
    words.extend(silent.map(|silent| Word::new(format!("silent for {}", elapsed(silent)), Tone::Warn)));
    words.push(Word::dim(model(run)));
    words.push(Word::dim(spending(&run.spent)));
}

/// How long it works or worked; before its first step, how long it waits.
fn run_time(run: &Run, now: Timestamp) -> Duration {
    since(run.started_at.unwrap_or(run.accepted_at), run.ended_at.map_or(now, Timestamp))
}

fn steps(run: &Run) -> String {
    match run.max_steps {
        Some(most) => format!("step {}/{most}", run.step),
        None => format!("step {}", run.step),
    }
}

fn tool(call: &Tool, now: Timestamp) -> String {
    let (name, arg) = (one_line(&call.name, MAX_WORDS), one_line(&call.arg, MAX_WORDS));
    format!("{name}({arg}) {}", elapsed(since(call.since, now)))
}

fn model(run: &Run) -> String {
    let used = one_line(&run.model, MAX_WORDS);
    if run.model_asked == run.model {
        used
    } else {
        format!("{used} (for {})", one_line(&run.model_asked, MAX_WORDS))
    }
}

fn of_session(node: &Node, session: &Session, now: Timestamp, words: &mut Vec<Word>) {
    if !session.awake {
        words.push(Word::new(format!("was {}", one_line(&session.status, MAX_WORDS)), tone(&session.status)));
    }
    words.extend(age(node, now));
    words.extend(children(session).map(Word::plain));
    words.extend(session.spent.as_ref().map(|spent| Word::dim(spending(spent))));
    let subtree = session.subtree.as_ref().filter(|subtree| Some(**subtree) != session.spent);
    words.extend(subtree.map(|subtree| Word::dim(format!("tree {}", spending(subtree)))));
}

fn children(session: &Session) -> Option<String> {
    let counted = session.children;
    let parts: Vec<String> = [(counted.live, "live"), (counted.done, "done"), (counted.failed, "failed")]
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    (!parts.is_empty()).then(|| format!("children: {}", parts.join(", ")))
}

/// All that there is to see of a node, as names and values. Its last text is left out.
pub(crate) fn details(node: &Node, now: Timestamp) -> Vec<(&'static str, String)> {
    let how_long = |at: i64| elapsed(since(at, now));
    let mut facts = vec![("path", one_line(&node.path, 400)), ("state", one_line(state(node).0, MAX_WORDS))];
    if let Some(session) = &node.session {
        facts.extend(session.label.as_deref().map(|label| ("label", one_line(label, 200))));
        facts.push(("agent", one_line(&session.agent_id, MAX_WORDS)));
        facts.extend(children(session).map(|children| ("children", children)));
    }
    if let Some(run) = &node.run {
        facts.push(("run", one_line(&run.id, MAX_WORDS)));
        facts.push(("session", one_line(&run.session_key, 400)));
        facts.push(("agent", one_line(&run.agent_id, MAX_WORDS)));
        facts.extend(run.reason.as_deref().map(|reason| ("reason", one_line(reason, 400))));
        facts.push(("model", model(run)));
        facts.push(("step", steps(run).trim_start_matches("step ").to_owned()));
        facts.extend(run.doing.as_deref().map(|doing| ("doing", one_line(doing, MAX_WORDS))));
        facts.push(("elapsed", elapsed(run_time(run, now))));
        let deadline = run.deadline_at.filter(|_| run.ended_at.is_none());
        facts.extend(deadline.map(|at| ("left", elapsed(Timestamp(at) - now))));
        facts.extend(run.silent_since.map(|at| ("silent for", how_long(at))));
    }
    if let Some((usage, cost)) = spent(node) {
        let cost = cost.map(|cost| format!(", {}", money(cost))).unwrap_or_default();
        facts.push(("spent", format!("{}{cost}", tokens(usage))));
    }
    if let Some(actor) = &node.actor {
        facts.push(("started", format!("{} ago", how_long(actor.since))));
        facts.push(("mailbox", format!("{}, at most {}", actor.mailbox, actor.mailbox_high)));
        facts.push(("handled", format!("{} in {:.1}ms", actor.handled, actor.busy_ms)));
        facts.extend(actor.progress_at.map(|at| ("progress", format!("{} ago", how_long(at)))));
    }
    facts
}

/// Whether a text, in small letters, is anywhere in what is said of a node.
pub(super) fn contains(node: &Node, text: &str, now: Timestamp) -> bool {
    let has = |said: &str| said.to_lowercase().contains(text);
    let of_session = |session: &Session| {
        has(&session.key) || has(&session.agent_id) || session.label.as_deref().is_some_and(has)
    };
    let of_run = |run: &Run| {
        [&run.id, &run.run_id, &run.session_key, &run.state, &run.model].into_iter().any(|said| has(said))
            || [&run.doing, &run.reason].into_iter().flatten().any(|said| has(said))
            || run.tools.iter().any(|call| has(&call.name))
    };
    has(&node.path)
        || has(&node.kind)
        || has(state(node).0)
        || node.session.as_ref().is_some_and(of_session)
        || node.run.as_ref().is_some_and(of_run)
        || marks(node, now).iter().any(|mark| has(&mark.text))
        // All of it, of which the line says the beginning.
        || node.actor.as_ref().and_then(|actor| actor.last_failure.as_deref()).is_some_and(has)
}

#[cfg(test)]
mod tests {
    use super::super::sample::{NOW, node, run, session};
    use super::*;
    use crate::protocol::tree::InHand;

    fn actor(node: &mut Node) -> &mut Actor {
        node.actor.as_mut().unwrap()
    }

    fn said(node: &Node) -> String {
        line(node, NOW).iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join("  ")
    }

    #[test]
    fn a_line_says_what_it_is_what_it_does_and_for_how_long() {
        let run = run("7", "4", "aaaa", "agent:main:main", NOW.0 - 90_000);
        assert_eq!(
            said(&run),
            "run aaaa  running  exec(ls -l) 4.0s  step 3/50  1m30s  builtin/rehearsal  7 tokens"
        );
        let mut main = session("4", "3", "agent:main:main", 4_000);
        assert_eq!(
            said(&main),
            "session agent:main:main  running  1m00s  children: 1 live, 2 done  100 tokens $0.25  tree 4000 tokens $0.50"
        );
        main.session.as_mut().unwrap().awake = false;
        main.state = "sleeping".into();
        main.session.as_mut().unwrap().status = "error".into();
        assert!(said(&main).contains("sleeping  was error"), "{}", said(&main));
        let mut store = node("2", Some("1"), "store", "store");
        actor(&mut store).mailbox = 4;
        actor(&mut store).in_hand = Some(InHand { message: "commit".into(), since: NOW.0 });
        assert_eq!(said(&store), "store  running  1m00s  handles commit  mailbox 4");
        assert_eq!(said(&node("1", None, "offshoot", "root")), "offshoot  running  1m00s");
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        let mut stuck = node("2", Some("1"), "store", "store");
        actor(&mut stuck).stuck = true;
        actor(&mut stuck).in_hand = Some(InHand { message: "commit".into(), since: NOW.0 - 4_200 });
        assert_eq!(said(&stuck), "store  running  STUCK: not answering for 4.2s (handles commit)  1m00s");
        actor(&mut stuck).in_hand = None;
        actor(&mut stuck).progress_at = Some(NOW.0 - 3_600_000);
        actor(&mut stuck).waits_since = Some(NOW.0 - 2_000);
        assert!(said(&stuck).contains("STUCK: not answering for 2.0s (messages wait)"));
        let mut quiet = run("7", "4", "aaaa", "k", NOW.0);
        quiet.run.as_mut().unwrap().silent_since = Some(NOW.0 - 130_000);
        assert!(said(&quiet).contains("silent for 2m10s"));
        quiet.run.as_mut().unwrap().silent = true;
        assert!(said(&quiet).contains("SILENT for 2m10s") && !said(&quiet).contains("silent for"));
        let mut again = node("3", Some("1"), "gateway", "gateway");
        actor(&mut again).restarts = 5;
        actor(&mut again).restarted_at = Some(NOW.0 - 2_000);
        actor(&mut again).last_failure = Some("port\nin use".into());
        assert!(
            said(&again).contains("CRASH LOOP: restarted 5 times, last 2.0s ago: port in use"),
            "{}",
            said(&again)
        );
        actor(&mut again).restarted_at = Some(NOW.0 - 120_000);
        assert!(said(&again).contains("  restarted 5 times, last 2m00s ago: port in use"));
    }

    #[test]
    fn nothing_that_is_said_controls_the_terminal() {
        let escape = "a\u{1b}]0;x\u{7}\u{9b}2Jb\n";
        let mut node = run("7", escape, escape, escape, NOW.0);
        node.session = session("1", "2", escape, 1).session;
        node.session.as_mut().unwrap().label = Some(escape.into());
        let run = node.run.as_mut().unwrap();
        (run.id, run.state, run.reason) = (escape.into(), escape.into(), Some(escape.into()));
        (run.model, run.model_asked, run.doing) = (escape.into(), "x".into(), Some(escape.into()));
        run.tools = vec![Tool { name: escape.into(), arg: escape.into(), since: NOW.0 }];
        let mut sleeping = node.clone();
        sleeping.run = None;
        for node in [node, sleeping] {
            assert!(!said(&node).contains(char::is_control), "{:?}", said(&node));
            assert!(details(&node, NOW).iter().all(|(_, value)| !value.contains(char::is_control)));
        }
    }

    #[test]
    fn money_has_the_digits_that_matter() {
        assert_eq!([0.0, 0.012_34, 1.2].map(money), ["$0.00", "$0.0123", "$1.20"]);
    }
}
