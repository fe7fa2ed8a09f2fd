//! `offshoot tree`: the live tree of the daemon.

mod draw;
mod stored;

use std::time::{Duration, Instant};

use offshoot_actors::types::{Scope, Timestamp};
use serde_json::{Value, json};

pub(super) use self::draw::cut;
use super::Global;
use super::args::{ReachArgs, TreeArgs};
use super::daemon::{self, Reach};
use super::exit::{Exit, Failure};
use super::names;
use super::output::{Output, note, one_line};
use super::watch::{Ask, Forest, Heard, Link, Missed, Wants};
use crate::gateway::record::Running;

/// Between two pictures on a terminal while nothing changes but the time.
const FRAME: Duration = Duration::from_secs(1);
/// Longest reason of a failure in a picture, in characters.
const MAX_REASON: usize = 200;

pub(super) async fn run(mut args: TreeArgs, global: &Global) -> Result<Exit, Failure> {
    args.path = names::place(args.path, &args.reach, global).await?;
    if args.reach.url.is_none() {
        match daemon::running(global)? {
            Running::Gateway(_) => {}
            other => return stored::run(args.path.as_deref(), &other, global).await,
        }
    }
    if args.watch {
        watch(args.path.as_deref(), args.all, &args.reach, global).await
    } else {
        once(&args, global).await
    }
}

/// The parameters of `tree.get` and `tree.subscribe`.
pub(super) fn params(path: Option<&str>, recent: bool) -> Value {
    match path {
        Some(path) => json!({"path": path, "recent": recent}),
        None => json!({"recent": recent}),
    }
}

/// The answer is written in another way than this version reads.
pub(super) fn unreadable(error: &serde_json::Error) -> Failure {
    let text = format!("the gateway tells its tree in a way that this version does not understand: {error}");
    Failure::new(Exit::Unavailable, "gateway", text)
        .with_hint("it may be of another version: `offshoot gateway status`")
}

async fn once(args: &TreeArgs, global: &Global) -> Result<Exit, Failure> {
    let mut client = Reach::of(&args.reach, global)?.connect(&[Scope::Read]).await?;
    let snapshot = client.call("tree.get", &params(args.path.as_deref(), args.all)).await?.payload;
    client.close().await;
    if global.output.json {
        global.output.document(&snapshot)?;
        return Ok(Exit::Ok);
    }
    let forest = Forest::read(snapshot).map_err(|error| unreadable(&error))?;
    let lines = draw::lines(&forest, forest.ts, global.output.paint, None);
    if lines.is_empty() {
        note("nothing of it lives; --all shows what sleeps and what ended within the last hour");
    }
    for line in lines {
        global.output.line(line)?;
    }
    if forest.missing() > 0 {
        note(format_args!("{} more are not shown; name a PATH to see a part of the tree", forest.missing()));
    }
    Ok(Exit::Ok)
}

/// Writes the tree and what becomes of it, until it is told to stop.
pub(super) async fn watch(
    path: Option<&str>,
    recent: bool,
    reach: &ReachArgs,
    global: &Global,
) -> Result<Exit, Failure> {
    let tree = params(path, recent);
    let wants = Wants { scopes: vec![Scope::Read], tree: Some(tree.clone()), sessions: false };
    let (link, asks, mut heard) = Link::new(reach, wants, global);
    let shown = async {
        let mut picture = Picture::new(global.output);
        loop {
            let pause = tokio::time::sleep(FRAME);
            let took = tokio::select! {
                Some(heard) = heard.recv() => picture.take(heard)?,
                () = pause, if picture.moves() => true,
            };
            if !took {
                // The watcher was too slow, or an event was lost: begin again.
                let ask = Ask { id: 0, method: "tree.subscribe", params: tree.clone(), scope: None };
                _ = asks.try_send(ask);
            }
            picture.draw()?;
        }
    };
    tokio::select! {
        failed = link.run() => failed.map(|never| match never {}),
        shown = shown => shown,
        _ = tokio::signal::ctrl_c() => Ok(Exit::Ok),
    }
}

/// What is shown of the tree that is watched.
struct Picture {
    output: Output,
    forest: Option<Forest>,
    /// When the forest came.
    came: Instant,
    lost: Option<String>,
    /// Lines of the last picture on a terminal.
    lines: usize,
    /// What the last picture elsewhere was about.
    essence: Vec<String>,
}

impl Picture {
    fn new(output: Output) -> Self {
        Self { output, forest: None, came: Instant::now(), lost: None, lines: 0, essence: Vec::new() }
    }

    /// Whether it is drawn again as time passes.
    const fn moves(&self) -> bool {
        self.output.is_terminal() && !self.output.json
    }

    /// Takes what the gateway said. False where the whole tree must be asked for.
    fn take(&mut self, heard: Heard) -> Result<bool, Failure> {
        match heard {
            Heard::Here(snapshot) => self.begin(snapshot)?,
            Heard::Answer(_, answer) => self.begin(answer?["snapshot"].take())?,
            Heard::Event(event) if event.name == "tree" => return self.change(event.payload),
            Heard::Event(_) => {}
            Heard::Lost(failure) => {
                let why = one_line(&failure.message, MAX_REASON);
                if self.lost.is_none() && !self.moves() {
                    note(format_args!("{why}; waiting for it to come back"));
                }
                self.lost = Some(why);
            }
        }
        Ok(true)
    }

    fn begin(&mut self, snapshot: Value) -> Result<(), Failure> {
        if self.output.json {
            self.output.json_line(&snapshot)?;
        }
        self.forest = Some(Forest::read(snapshot).map_err(|error| unreadable(&error))?);
        (self.came, self.lost) = (Instant::now(), None);
        Ok(())
    }

    fn change(&mut self, payload: Value) -> Result<bool, Failure> {
        let Some(forest) = &mut self.forest else { return Ok(false) };
        let document = self.output.json.then(|| payload.clone());
        match forest.take(payload) {
            Ok(()) => self.came = Instant::now(),
            Err(Missed::Stale) => return Ok(false),
            Err(Missed::Unreadable(error)) => return Err(unreadable(&error)),
        }
        document.map_or(Ok(()), |document| self.output.json_line(&document))?;
        Ok(true)
    }

    fn draw(&mut self) -> Result<(), Failure> {
        match &self.forest {
            Some(_) if self.output.json => Ok(()),
            Some(_) if self.moves() => self.redraw(),
            Some(_) => self.append(),
            None => Ok(()),
        }
    }

    /// Draws over the last picture, no more than fits.
    fn redraw(&mut self) -> Result<(), Failure> {
        let Some(forest) = &self.forest else { return Ok(()) };
        let (width, height) = crossterm::terminal::size().unwrap_or((80, 24));
        let (width, height) = (usize::from(width), usize::from(height));
        let now = match self.lost {
            // What was true when it went away.
            Some(_) => forest.ts,
            None => now(forest, self.came),
        };
        let paint = self.output.paint;
        let head = match &self.lost {
            Some(why) => paint.error(draw::cut(&format!("{why}; waiting for it to come back"), width)),
            None => paint.dim(draw::cut(&draw::summary(forest, now), width)),
        };
        let mut lines = draw::lines(forest, now, paint, Some(width));
        let most = height.saturating_sub(3).max(1);
        if lines.len() > most {
            let more = format!("… {} more; `offshoot top` scrolls", lines.len() - most);
            lines.truncate(most);
            lines.push(paint.dim(draw::cut(&more, width)));
        }
        let mut text = match self.lines {
            0 => String::new(),
            // A terminal that became smaller has no more lines to go up than it has.
            lines => format!("\r\u{1b}[{}A", lines.min(height.saturating_sub(1))),
        };
        self.lines = lines.len() + 1;
        for line in std::iter::once(head).chain(lines) {
            text.push_str(&line);
            text.push_str("\u{1b}[K\n");
        }
        text.push_str("\u{1b}[J");
        self.output.control(&text)
    }

    /// Writes another picture below the last one, if somebody came, went, or does something else.
    fn append(&mut self) -> Result<(), Failure> {
        let Some(forest) = &self.forest else { return Ok(()) };
        let essence = draw::essence(forest);
        if essence == self.essence {
            return Ok(());
        }
        if !self.essence.is_empty() {
            self.output.line("")?;
        }
        for line in draw::lines(forest, now(forest, self.came), self.output.paint, None) {
            self.output.line(line)?;
        }
        self.essence = essence;
        Ok(())
    }
}

/// The daemon's time: that of its last word, and what has passed since.
pub(super) fn now(forest: &Forest, came: Instant) -> Timestamp {
    forest.ts + came.elapsed()
}
