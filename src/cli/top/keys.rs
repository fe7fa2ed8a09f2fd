//! What keys do. A key changes the model and may want something done; nothing here does it.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use offshoot_actors::types::Scope;
use serde_json::{Value, json};

use super::model::{Mode, Model, Status, Target};

/// Longest message that can be typed, in characters.
const MAX_MESSAGE: usize = 4_000;
/// Longest text to look for.
const MAX_FILTER: usize = 200;
/// Messages of a transcript, and lines of the daemon's log, that are shown.
const MAX_LINES: u32 = 200;

/// Something to be done.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Wish {
    Quit,
    /// Write the terminal's own sequence that copies.
    Copy(String),
    /// Draw all of it again.
    Redraw,
    Call(Call),
}

/// A request to the gateway.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) about: About,
    pub(super) method: &'static str,
    pub(super) params: Value,
    pub(super) scope: Option<Scope>,
}

/// What a request is for, so that its answer is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum About {
    Tree,
    Cancel(String),
    Steer(String),
    Retry(String),
    /// A transcript or the daemon's log, with its title.
    Log(String),
}

/// Takes a key.
pub(super) fn press(model: &mut Model, key: KeyEvent) -> Vec<Wish> {
    if key.kind == KeyEventKind::Release {
        return Vec::new();
    }
    let control = key.modifiers.contains(KeyModifiers::CONTROL);
    match (key.code, control) {
        // Always a way out.
        (KeyCode::Char('c'), true) => return vec![Wish::Quit],
        (KeyCode::Char('l'), true) => return vec![Wish::Redraw],
        _ => {}
    }
    match std::mem::take(&mut model.mode) {
        Mode::Tree => in_tree(model, key, control),
        Mode::Filter => in_filter(model, key),
        Mode::Steer { session, text } => in_steer(model, key, session, text),
        Mode::Cancel { what, runs } => in_cancel(model, key, what, runs),
        Mode::Log { title, lines, scroll } => in_log(model, key, title, lines, scroll),
        Mode::Help => Vec::new(),
    }
}

fn in_tree(model: &mut Model, key: KeyEvent, control: bool) -> Vec<Wish> {
    let page = isize::try_from(model.room.saturating_sub(1).max(1)).unwrap_or(1);
    match key.code {
        KeyCode::Char('q') => return vec![Wish::Quit],
        KeyCode::Char('?') => model.mode = Mode::Help,
        KeyCode::Char('/') => model.mode = Mode::Filter,
        KeyCode::Esc => {
            model.status = None;
            model.filter.clear();
            model.settle();
        }
        KeyCode::Up | KeyCode::Char('k') => model.go(-1),
        KeyCode::Down | KeyCode::Char('j') => model.go(1),
        KeyCode::PageUp => model.go(-page),
        KeyCode::PageDown => model.go(page),
        KeyCode::Char('u') if control => model.go(-page),
        KeyCode::Char('d') if control => model.go(page),
        KeyCode::Home | KeyCode::Char('g') => model.select(0),
        KeyCode::End | KeyCode::Char('G') => model.go(isize::MAX),
        KeyCode::Left | KeyCode::Char('h') => fold(model, true),
        KeyCode::Right => fold(model, false),
        KeyCode::Enter | KeyCode::Char(' ') => toggle(model),
        KeyCode::Char('o') => {
            model.sort = model.sort.next();
            model.settle();
        }
        KeyCode::Char('c') => ask_cancel(model),
        KeyCode::Char('s') => ask_steer(model),
        KeyCode::Char('l') => return log(model),
        KeyCode::Char('r') => return retry(model),
        KeyCode::Char('y') => return copy(model),
        _ => {}
    }
    Vec::new()
}

fn say(model: &mut Model, text: impl Into<String>) {
    model.status = Some(Status { text: text.into(), bad: false });
}

fn refuse(model: &mut Model, text: impl Into<String>) {
    model.status = Some(Status { text: text.into(), bad: true });
}

fn toggle(model: &mut Model) {
    let Some(id) = model.selected.clone() else { return };
    let closes = !model.collapsed.contains(&id);
    fold(model, closes);
}

/// Closes the selected node, or goes up from one that is closed or has nothing below it; or opens it.
fn fold(model: &mut Model, close: bool) {
    let rows = model.rows();
    let Some(row) = rows.iter().find(|row| Some(&*row.node.id) == model.selected.as_deref()) else { return };
    let (id, parent) = (row.node.id.clone(), row.node.parent.clone());
    let (is_open, has_children) = (!row.collapsed, row.has_children);
    match close {
        true if is_open && has_children => drop(model.collapsed.insert(id)),
        true => {
            let above = rows.iter().position(|row| Some(&row.node.id) == parent.as_ref());
            if let Some(above) = above {
                model.select(above);
            }
        }
        false => drop(model.collapsed.remove(&id)),
    }
    model.settle();
}

fn ask_cancel(model: &mut Model) {
    let runs = model.open_runs();
    let what = model.node().map(super::super::watch::name).unwrap_or_default();
    if runs.is_empty() {
        refuse(model, format!("nothing is open in {what}"));
    } else {
        model.mode = Mode::Cancel { what, runs };
    }
}

fn in_cancel(model: &mut Model, key: KeyEvent, what: String, runs: Vec<Target>) -> Vec<Wish> {
    match key.code {
        KeyCode::Char('y' | 'Y') | KeyCode::Enter => {}
        KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => {
            say(model, "nothing was cancelled");
            return Vec::new();
        }
        _ => {
            model.mode = Mode::Cancel { what, runs };
            return Vec::new();
        }
    }
    say(model, format!("cancelling {what} ..."));
    let cancel = |Target { session, run }: Target| {
        let params = json!({"key": session, "runId": run});
        Wish::Call(Call { about: About::Cancel(run), method: "sessions.abort", params, scope: None })
    };
    // What a run spawned is cancelled with it: of those below, some have ended when their turn comes.
    runs.into_iter().map(cancel).collect()
}

fn ask_steer(model: &mut Model) {
    match model.session().map(str::to_owned) {
        Some(session) => model.mode = Mode::Steer { session, text: String::new() },
        None => refuse(model, "only sessions and runs can be steered"),
    }
}

fn in_steer(model: &mut Model, key: KeyEvent, session: String, mut text: String) -> Vec<Wish> {
    match key.code {
        KeyCode::Esc => say(model, "nothing was sent"),
        KeyCode::Enter if text.trim().is_empty() => say(model, "nothing was sent"),
        KeyCode::Enter => {
            say(model, format!("steering {session} ..."));
            let params = json!({"key": session, "message": text});
            let about = About::Steer(session);
            return vec![Wish::Call(Call { about, method: "sessions.steer", params, scope: None })];
        }
        code => {
            edit(&mut text, code, key.modifiers, MAX_MESSAGE);
            model.mode = Mode::Steer { session, text };
        }
    }
    Vec::new()
}

fn in_filter(model: &mut Model, key: KeyEvent) -> Vec<Wish> {
    match key.code {
        KeyCode::Esc => model.filter.clear(),
        KeyCode::Enter => {}
        code => {
            edit(&mut model.filter, code, key.modifiers, MAX_FILTER);
            model.mode = Mode::Filter;
        }
    }
    model.settle();
    Vec::new()
}

fn edit(text: &mut String, code: KeyCode, modifiers: KeyModifiers, most: usize) {
    let control = modifiers.contains(KeyModifiers::CONTROL);
    match code {
        KeyCode::Backspace => drop(text.pop()),
        KeyCode::Char('u') if control => text.clear(),
        KeyCode::Char('w') if control => {
            let kept = text.trim_end();
            text.truncate(kept.rfind(' ').map_or(0, |at| at + 1));
        }
        KeyCode::Char(c) if !control && !c.is_control() && text.chars().count() < most => text.push(c),
        _ => {}
    }
}

/// The transcript of the selected session; of anything else the daemon's log.
fn log(model: &mut Model) -> Vec<Wish> {
    let (about, method, params) = match model.session() {
        Some(session) => {
            let params = json!({"sessionKey": session, "limit": MAX_LINES, "maxChars": MAX_MESSAGE});
            (About::Log(session.to_owned()), "chat.history", params)
        }
        None => (About::Log("the daemon's log".to_owned()), "logs.tail", json!({"limit": MAX_LINES})),
    };
    vec![Wish::Call(Call { about, method, params, scope: None })]
}

fn in_log(model: &mut Model, key: KeyEvent, title: String, lines: Vec<String>, scroll: usize) -> Vec<Wish> {
    let page = model.room.max(1);
    let scroll = match key.code {
        KeyCode::Up | KeyCode::Char('k') => scroll.saturating_sub(1),
        KeyCode::Down | KeyCode::Char('j') => scroll.saturating_add(1),
        KeyCode::PageUp => scroll.saturating_sub(page),
        KeyCode::PageDown | KeyCode::Char(' ') => scroll.saturating_add(page),
        KeyCode::Home | KeyCode::Char('g') => 0,
        KeyCode::End | KeyCode::Char('G') => usize::MAX,
        KeyCode::Esc | KeyCode::Char('q' | 'l') => return Vec::new(),
        _ => scroll,
    };
    model.mode = Mode::Log { title, lines, scroll };
    Vec::new()
}

/// Has the result of the selected run delivered again.
fn retry(model: &mut Model) -> Vec<Wish> {
    let Some(run) = model.node().and_then(|node| node.run.as_ref()).map(|run| run.id.clone()) else {
        refuse(model, "only what a run is to deliver can be tried again; select a run");
        return Vec::new();
    };
    say(model, format!("trying again to deliver the result of run {run} ..."));
    let params = json!({"runId": run});
    let (about, scope) = (About::Retry(run), Some(Scope::Admin));
    vec![Wish::Call(Call { about, method: "deliveries.retry", params, scope })]
}

fn copy(model: &mut Model) -> Vec<Wish> {
    let Some(node) = model.node() else { return Vec::new() };
    let id = match (&node.run, &node.session) {
        (Some(run), _) => run.id.clone(),
        (None, Some(session)) => session.key.clone(),
        (None, None) => node.path.clone(),
    };
    say(model, format!("copied {id}"));
    vec![Wish::Copy(id)]
}
