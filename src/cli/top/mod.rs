//! `offshoot top`: the tree on the whole terminal.
//!
//! [`model`] is what is known, [`keys`] and [`hear`] change it, [`view`] draws it; none of them knows a terminal or a
//! connection. Both are here.

mod hear;
mod keys;
mod model;
mod screen;
mod view;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::time::Duration;

use crossterm::event::{Event, read};
use offshoot_actors::types::Scope;
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use self::keys::{About, Call, Wish, press};
use self::model::Model;
use self::screen::Screen;
use super::Global;
use super::args::TopArgs;
use super::exit::{Exit, Failure};
use super::names;
use super::output::Paint;
use super::tree::params;
use super::watch::{Ask, Heard, Link, Wants};

/// Between two pictures while nothing changes but the time.
const FRAME: Duration = Duration::from_millis(500);
/// Between two pictures in any case: what comes in between is drawn together.
const LEAST: Duration = Duration::from_millis(16);
/// Keys that may wait.
const KEYS: usize = 256;

pub(super) async fn run(args: TopArgs, global: &Global) -> Result<Exit, Failure> {
    let path = names::place(args.path, &args.reach, global).await?;
    if global.output.json {
        // For a program, which needs no terminal: what the screen would show, whole and then with every change.
        return super::tree::watch(path.as_deref(), true, &args.reach, global).await;
    }
    let tree = params(path.as_deref(), true);
    let wants = Wants { scopes: vec![Scope::Read, Scope::Write], tree: Some(tree.clone()), sessions: true };
    let (link, asks, heard) = Link::new(&args.reach, wants, global);
    let mut top = Top {
        model: Model::new(),
        tree,
        asks,
        heard,
        waiting: BTreeMap::new(),
        queue: VecDeque::new(),
        last: 0,
    };
    tokio::select! {
        failed = link.run() => failed.map(|never| match never {}),
        done = top.run() => done,
    }
}

struct Top {
    model: Model,
    /// The parameters of the subscription.
    tree: Value,
    asks: Sender<Ask>,
    heard: Receiver<Heard>,
    /// Requests that were not answered.
    waiting: BTreeMap<u64, About>,
    /// Requests that were not sent.
    queue: VecDeque<Ask>,
    last: u64,
}

impl Top {
    async fn run(&mut self) -> Result<Exit, Failure> {
        // Before the terminal is taken over: where there is no gateway, a line says so.
        let Some(first) = self.heard.recv().await else { return Ok(Exit::Ok) };
        self.take(first)?;
        let system = |error: io::Error| Failure::system("the terminal cannot be used", &error);
        // Before the terminal, too: what ends the program gives it back.
        let mut signals = Signals::new().map_err(system)?;
        let mut screen = Screen::take()?;
        let colours = Paint::stdout().colors();
        let mut keys = listen().map_err(system)?;
        loop {
            self.send();
            screen.terminal.draw(|frame| view::draw(&mut self.model, frame, colours)).map_err(system)?;
            let wishes = tokio::select! {
                key = keys.recv() => match key {
                    Some(Ok(event)) => self.typed(event),
                    // A terminal that is gone has nobody before it.
                    Some(Err(_)) | None => return Ok(Exit::Ok),
                },
                Some(heard) = self.heard.recv() => {
                    self.take(heard)?;
                    Vec::new()
                }
                exit = signals.first() => return Ok(exit),
                () = tokio::time::sleep(FRAME) => Vec::new(),
            };
            for wish in wishes.into_iter().chain(self.rest(&mut keys).await?) {
                match wish {
                    Wish::Quit => return Ok(Exit::Ok),
                    Wish::Redraw => screen.terminal.clear().map_err(system)?,
                    Wish::Copy(text) => Screen::copy(&text).map_err(system)?,
                    Wish::Call(call) => self.ask(call),
                }
            }
        }
    }

    /// Takes what has come meanwhile, so that it needs one picture.
    async fn rest(&mut self, keys: &mut Receiver<io::Result<Event>>) -> Result<Vec<Wish>, Failure> {
        tokio::time::sleep(LEAST).await;
        let mut wishes = Vec::new();
        while let Ok(heard) = self.heard.try_recv() {
            self.take(heard)?;
        }
        while let Ok(Ok(event)) = keys.try_recv() {
            wishes.extend(self.typed(event));
        }
        Ok(wishes)
    }

    fn typed(&mut self, event: Event) -> Vec<Wish> {
        match event {
            Event::Key(key) => press(&mut self.model, key),
            // The next picture asks how large the terminal is.
            _ => Vec::new(),
        }
    }

    fn take(&mut self, heard: Heard) -> Result<(), Failure> {
        let waiting = &mut self.waiting;
        let stale = hear::take(&mut self.model, heard, |id| waiting.remove(&id))?;
        let asked = self.waiting.values().any(|about| *about == About::Tree);
        if stale && !asked {
            let params = self.tree.clone();
            self.ask(Call { about: About::Tree, method: "tree.subscribe", params, scope: None });
        }
        Ok(())
    }

    fn ask(&mut self, call: Call) {
        self.last += 1;
        let Call { about, method, params, scope } = call;
        self.waiting.insert(self.last, about);
        self.queue.push_back(Ask { id: self.last, method, params, scope });
    }

    /// Sends what there is room for.
    fn send(&mut self) {
        while let Some(ask) = self.queue.pop_front() {
            if let Err(full) = self.asks.try_send(ask) {
                self.queue.push_front(full.into_inner());
                return;
            }
        }
    }
}

/// Reads keys on a thread of its own, which waits for them as long as the process lives.
fn listen() -> io::Result<Receiver<io::Result<Event>>> {
    let (tell, keys) = channel(KEYS);
    std::thread::Builder::new().name("keys".to_owned()).spawn(move || {
        loop {
            let event = read();
            let last = event.is_err();
            if tell.blocking_send(event).is_err() || last {
                return;
            }
        }
    })?;
    Ok(keys)
}

/// What ends the program from outside.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
    quit: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    async fn first(&mut self) -> Exit {
        tokio::select! {
            _ = self.interrupt.recv() => Exit::Interrupted,
            _ = self.terminate.recv() => Exit::Terminated,
            _ = self.hang_up.recv() => Exit::Terminated,
            _ = self.quit.recv() => Exit::Terminated,
        }
    }
}
