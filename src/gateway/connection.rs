//! A connection: one WebSocket client, from its challenge to its close.
//!
//! It owns the socket's task and the requests in work. A crash of it closes the socket and loses the answers that are
//! under way, which the client asks for again with the same idempotency keys; what was accepted goes on in the tree.

mod joined;
mod state;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use offshoot_actors::kit::{Behaviour, Ctx, Msg, StartError, Task};
use tokio::sync::OwnedSemaphorePermit;

use self::joined::Joined;
use self::state::{Entrant, State};
use super::admit::{self, Admitted, Applicant, Rejected};
use super::audit;
use super::client::{Client, Follows};
use super::daemon::Daemon;
use super::events;
use super::methods::{self, Answer, Call, Family, Listed, Work};
use super::outbox::{Close, Outbox};
use super::socket::{self, Heard, Incoming, Stream};
use super::upgrade::Upgraded;
use super::wire::{Allowance, Metered};
use crate::protocol::connect;
use crate::protocol::error::ErrorShape;
use crate::protocol::frame::{self, FrameError, Request};

/// What a client may send before it is known.
const UNKNOWN_MAY_SEND: usize = 64 * 1024;
/// Messages of a client that wait while its `connect` is being checked; one that sends more is closed.
const QUEUED: usize = 15;
/// Requests of one client that are in work at once; the next is read when one is answered.
const IN_WORK: usize = 64;
/// Requests of one client that wait for runs, those in work included; more are refused.
const WAITING: usize = 1_024;
/// Refusals for a wrong role after which a client is closed.
const MAX_WRONG_ROLE: u32 = 10;
/// How long one that took its own device's rights may wait for the answer.
const LAST_ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Why one is closed that was let in while others were shut out.
const CHANGED: &str = "gateway auth changed";
/// When a client whose gateway stops may try again, where nobody said when the next one comes.
const AFTER_RESTART: Duration = Duration::from_secs(1);

/// How connections are closed when the daemon ends.
pub(super) fn stopped() -> Close {
    Close::new(1012, "service restart")
}

/// What a connection is told.
#[derive(Debug)]
pub(crate) enum ConnectionMsg {
    /// The client sent messages. No more are read until these are worked off.
    Heard(Heard),
    /// The handshake was decided. From its task.
    Decided(Box<Result<Admitted, Rejected>>),
    /// The handshake took too long. From a timer.
    Overdue,
    /// A request was carried out. From its task.
    Answered { work: u64, id: String, answer: Answer },
    /// Close the connection after what waits for it is written. From the hub.
    Disconnect(Close),
    /// Close it at once: what it came in with is worth nothing any more. From the hub.
    CutOff(Close),
    /// The same, at its own request: its answer comes first. From the hub.
    Dismiss(Close),
    /// Close the connection when its open requests have ended. From the hub.
    Drain(Close),
    /// The socket is closed, and why. From its task.
    Closed(String),
}

impl Msg for ConnectionMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Heard(_) => "heard",
            Self::Decided(_) => "decided",
            Self::Overdue => "overdue",
            Self::Answered { .. } => "answered",
            Self::Disconnect(_) => "disconnect",
            Self::CutOff(_) => "cut_off",
            Self::Dismiss(_) => "dismiss",
            Self::Drain(_) => "drain",
            Self::Closed(_) => "closed",
        }
    }
}

/// What a connection starts with.
#[derive(Debug)]
pub(crate) struct ConnectionArgs {
    number: u64,
    daemon: Arc<Daemon>,
    /// Taken by the start; a connection is never started again.
    upgraded: Option<Upgraded>,
}

impl ConnectionArgs {
    pub(crate) const fn new(number: u64, daemon: Arc<Daemon>, upgraded: Upgraded) -> Self {
        Self { number, daemon, upgraded: Some(upgraded) }
    }
}

/// The connection's state.
#[derive(Debug)]
pub(crate) struct Connection {
    number: u64,
    daemon: Arc<Daemon>,
    outbox: Arc<Outbox>,
    state: State,
    _socket: Task,
    /// What the client sent and nobody has looked at yet.
    heard: Heard,
    /// Requests in work that have one of the places.
    placed: usize,
    /// Requests in work, by their places in the order of arrival.
    work: BTreeMap<u64, InWork>,
    /// Those among them that manage devices.
    managing: BTreeSet<u64>,
    requests: u64,
    /// How to close once no request is in work; new ones are refused.
    draining: Option<Close>,
    /// Cuts off one whose last answer does not come.
    dismissed: Option<Task>,
    /// Among the clients, as long as this actor lives.
    joined: Option<Joined>,
}

/// A request in work.
#[derive(Debug)]
struct InWork {
    _task: Task,
    /// Whether it has one of the places.
    placed: bool,
    family: Family,
}

impl Behaviour for Connection {
    const KIND: &'static str = "connection";

    type Msg = ConnectionMsg;
    type Args = ConnectionArgs;
    type Child = Infallible;

    async fn start(args: &mut ConnectionArgs, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        let Upgraded { wire, read, peer, headers, place } =
            args.upgraded.take().ok_or_else(|| StartError("a connection starts once".to_owned()))?;
        let daemon = Arc::clone(&args.daemon);
        let outbox = Arc::new(Outbox::default());
        let nonce = Daemon::new_id();
        // First of all: the Control UI waits less than a second for it.
        outbox.text(events::challenge(&nonce, daemon.clock.now()));
        let allowance = Allowance::of(UNKNOWN_MAY_SEND.saturating_sub(read.len()));
        let mut stream = Metered::new(wire, allowance.clone());
        let read = stream.after(read);
        let (myself, out) = (ctx.myself().clone(), Arc::clone(&outbox));
        let heard = move |heard| myself.send(ConnectionMsg::Heard(heard)).is_ok();
        let work = socket::run(Stream::new(stream, &read), out, daemon.turns.clone(), heard);
        let socket = ctx.quiet_task(work, ConnectionMsg::Closed);
        let overdue = ctx.after(daemon.handshake_within(), ConnectionMsg::Overdue);
        let (peer, headers) = (Arc::new(peer), Arc::new(headers));
        let entrant = Entrant { peer, headers, allowance, _overdue: overdue, _unfinished: place };
        let state = State::Greeted { nonce, entrant };
        Ok(Self {
            number: args.number,
            daemon,
            outbox,
            state,
            _socket: socket,
            heard: Heard::default(),
            placed: 0,
            work: BTreeMap::new(),
            managing: BTreeSet::new(),
            requests: 0,
            draining: None,
            dismissed: None,
            joined: None,
        })
    }

    fn handle(&mut self, message: ConnectionMsg, ctx: &mut Ctx<Self>) {
        match message {
            ConnectionMsg::Heard(heard) => {
                self.heard = heard;
                self.work_off(ctx);
            }
            ConnectionMsg::Decided(decided) => self.on_decided(*decided, ctx),
            ConnectionMsg::Overdue => self.close(Close::new(1000, "")),
            ConnectionMsg::Answered { work, id, answer } => {
                if let Some(done) = self.work.remove(&work) {
                    self.daemon.metrics.answered(done.family.index(), answer.is_ok());
                    self.placed -= usize::from(done.placed);
                }
                self.managing.remove(&work);
                self.outbox.answer(&id, &answer);
                if let State::Open { client, .. } = &self.state {
                    client.follows.answered(&id);
                }
                self.close_if_drained();
                self.work_off(ctx);
            }
            ConnectionMsg::Drain(close) => {
                self.draining = Some(close);
                self.close_if_drained();
            }
            ConnectionMsg::Disconnect(close) => self.close(close),
            ConnectionMsg::CutOff(close) => self.cut_off(close),
            ConnectionMsg::Dismiss(close) => self.on_dismiss(close, ctx),
            ConnectionMsg::Closed(why) => {
                tracing::debug!(connection = self.number, why, "closed");
                ctx.stop();
            }
        }
    }
}

impl Connection {
    /// Takes what was heard while there are places, and then has more read.
    fn work_off(&mut self, ctx: &mut Ctx<Self>) {
        if self.heard.is_empty() {
            return;
        }
        let outbox = Arc::clone(&self.outbox);
        let mut heard = std::mem::take(&mut self.heard);
        // What can be answered at once goes out together.
        let _together = outbox.hold(heard.len());
        while self.placed < IN_WORK
            && let Some(incoming) = heard.next()
        {
            self.on_heard(incoming, ctx);
        }
        if heard.is_empty() {
            outbox.heard();
        } else {
            self.heard = heard;
        }
    }

    fn on_heard(&mut self, Incoming { text, room }: Incoming<'_>, ctx: &mut Ctx<Self>) {
        match &mut self.state {
            State::Greeted { .. } => self.on_first(Request::parse(&text), ctx),
            State::Checking { queued, .. } if queued.len() < QUEUED => queued.push(text),
            State::Checking { .. } => self.close(Close::new(1008, "too many pending handshake frames")),
            State::Closing => {}
            State::Open { .. } => self.on_text(&text, || room.keep(), ctx),
        }
    }

    fn on_text(
        &mut self,
        text: &str,
        room: impl FnOnce() -> Option<OwnedSemaphorePermit>,
        ctx: &mut Ctx<Self>,
    ) {
        let State::Open { blank, .. } = &mut self.state else { return };
        let Some(mut call) = blank.take() else { return };
        match Request::parse(text) {
            Ok(request) => self.on_request(&request, &mut call, room, ctx),
            Err(error) => self.on_no_request(&error),
        }
        if let State::Open { blank, .. } = &mut self.state {
            *blank = Some(call);
        }
    }

    /// The first message must be a `connect`.
    fn on_first(&mut self, request: Result<Request<'_>, FrameError>, ctx: &mut Ctx<Self>) {
        if self.daemon.is_stopping() {
            return self.close(stopped());
        }
        let request = match request {
            Ok(request) => request,
            Err(FrameError::NotJson) => return self.close(Close::new(1000, "")),
            Err(FrameError::Invalid { .. }) => return self.close(Close::new(1008, "invalid request frame")),
        };
        if request.method != connect::METHOD {
            let error = ErrorShape::invalid("invalid handshake: first request must be connect");
            return self.reject(&request.id, Rejected { error, code: 1008 });
        }
        let (params, unknown) = match connect::ConnectParams::parse(request.params) {
            Ok(parsed) => parsed,
            Err(error) => return self.reject(&request.id, Rejected { error, code: 1008 }),
        };
        if params.is_of_a_worker() {
            return self.close(Close::new(1008, "invalid-handshake"));
        }
        if !unknown.is_empty() {
            tracing::debug!(connection = self.number, ?unknown, "members of connect that nobody knows");
        }
        let State::Greeted { nonce, entrant } = std::mem::replace(&mut self.state, State::Closing) else {
            return;
        };
        let applicant = Applicant {
            number: self.number,
            params,
            nonce,
            peer: Arc::clone(&entrant.peer),
            headers: Arc::clone(&entrant.headers),
        };
        let daemon = Arc::clone(&self.daemon);
        let invalidations = daemon.hub.invalidations();
        let check = ctx.task(async move { admit::admit(&daemon, applicant).await }, |decided| {
            ConnectionMsg::Decided(Box::new(decided))
        });
        let queued = Vec::new();
        self.state =
            State::Checking { id: request.id.into_owned(), _check: check, entrant, queued, invalidations };
    }

    fn on_decided(&mut self, decided: Result<Admitted, Rejected>, ctx: &mut Ctx<Self>) {
        let checked = std::mem::replace(&mut self.state, State::Closing);
        let State::Checking { id, entrant, queued, invalidations, .. } = checked else { return };
        let admitted = match decided {
            Ok(admitted) => admitted,
            Err(rejected) => return self.reject(&id, rejected),
        };
        entrant.allowance.lift();
        let client = Arc::new(Client {
            number: self.number,
            connection: Daemon::new_id(),
            protocol: admitted.protocol,
            role: admitted.role,
            scopes: admitted.scopes,
            device: admitted.device,
            method: admitted.method,
            address: entrant.peer.client,
            tool_events: admitted.tool_events,
            facts: admitted.facts.clone(),
            since: self.daemon.clock.now(),
            outbox: Arc::clone(&self.outbox),
            actor: ctx.myself().clone(),
            follows: Follows::default(),
        });
        // No event comes before the answer, and none after it is missed.
        self.outbox.answer(&id, &self.daemon.hello(&client, &admitted));
        self.daemon.hub.join(Arc::clone(&client));
        self.joined = Some(Joined::new(Arc::clone(&self.daemon), self.number));
        if self.daemon.hub.is_worthless(&client, invalidations) {
            // It is one of those who were closed while it was looked at.
            return self.cut_off(Close::new(4001, CHANGED));
        }
        if self.daemon.is_stopping() {
            // Those who were here when the end began were told of it; whoever comes now is to begin nothing.
            return self.close(stopped());
        }
        events::came(&self.daemon, &client);
        let blank = Some(Call::blank(Arc::clone(&self.daemon), Arc::clone(&client)));
        self.state = State::Open { client, blank, wrong_role: 0 };
        for text in queued {
            // It came within what a stranger may send.
            self.on_text(&text, || None, ctx);
        }
    }

    fn on_request(
        &mut self,
        request: &Request<'_>,
        call: &mut Call,
        room: impl FnOnce() -> Option<OwnedSemaphorePermit>,
        ctx: &mut Ctx<Self>,
    ) {
        if !request.unknown.is_empty() {
            tracing::debug!(connection = self.number, unknown = ?request.unknown, "members that nobody knows");
        }
        if request.method == connect::METHOD {
            let error = ErrorShape::invalid("connect is only valid as the first request");
            return self.outbox.answer(&request.id, &Err(error));
        }
        if self.draining.is_some() {
            let (why, after) = if self.dismissed.is_some() {
                ("this connection is being closed", None)
            } else {
                ("the gateway is stopping", self.daemon.ending.back_in())
            };
            let error = ErrorShape::unavailable(why).retry_after(after.unwrap_or(AFTER_RESTART));
            return self.outbox.answer(&request.id, &Err(error));
        }
        let Listed { name, family, method } = *match methods::find(&request.method, &call.client) {
            Ok(listed) => listed,
            Err(refused) => {
                audit::refused(&self.daemon, &call.client, &request.method, &refused.error);
                self.daemon.metrics.answered(refused.family.index(), false);
                self.outbox.answer(&request.id, &Err(refused.error));
                return self.on_wrong_role(refused.wrong_role);
            }
        };
        call.fill(name, &request.id, request.params);
        let (work, placed) = match method.work {
            Work::Now(work) => {
                let answer = work(call);
                call.forget_params();
                self.daemon.metrics.answered(family.index(), answer.is_ok());
                return self.outbox.answer(&call.id, &answer);
            }
            Work::Later(work) => (work, true),
            Work::Waits(_) if self.work.len() >= WAITING => {
                call.forget_params();
                self.daemon.metrics.answered(family.index(), false);
                let error = ErrorShape::unavailable(format!(
                    "{WAITING} requests of this connection wait already; use another connection"
                ));
                return self.outbox.answer(&call.id, &Err(error));
            }
            Work::Waits(work) => (work, false),
        };
        let call = call.take(room());
        self.placed += usize::from(placed);
        self.requests += 1;
        if methods::manages_devices(method) {
            self.managing.insert(self.requests);
        }
        let (number, id) = (self.requests, call.id.clone());
        let answered = move |answer| ConnectionMsg::Answered { work: number, id, answer };
        self.work.insert(number, InWork { _task: ctx.task(work(call), answered), placed, family });
    }

    /// Whoever asked for its own end hears how that went, and nothing else.
    fn on_dismiss(&mut self, close: Close, ctx: &mut Ctx<Self>) {
        let managing = &self.managing;
        self.work.retain(|work, _| managing.contains(work));
        self.placed = self.work.values().filter(|work| work.placed).count();
        self.dismissed = Some(ctx.after(LAST_ANSWER_WITHIN, ConnectionMsg::CutOff(close.clone())));
        self.draining = Some(close);
        self.close_if_drained();
        self.work_off(ctx);
    }

    fn close_if_drained(&mut self) {
        if self.work.is_empty()
            && let Some(close) = self.draining.take()
        {
            self.close(close);
        }
    }

    fn on_no_request(&mut self, error: &FrameError) {
        match frame::answer_to(error) {
            Some((id, shape)) => self.outbox.answer(id, &Err(shape)),
            // Nobody waits for an answer, and the next message may be sound.
            None => tracing::debug!(connection = self.number, %error, "a message is no request"),
        }
    }

    fn on_wrong_role(&mut self, wrong: bool) {
        let State::Open { wrong_role, .. } = &mut self.state else { return };
        *wrong_role += u32::from(wrong);
        if *wrong_role > MAX_WRONG_ROLE {
            self.close(Close::new(1008, "repeated unauthorized calls"));
        }
    }

    fn reject(&mut self, id: &str, Rejected { error, code }: Rejected) {
        let reason = error.close_reason().to_owned();
        self.outbox.answer(id, &Err(error));
        self.close(Close::new(code, reason));
    }

    fn close(&mut self, close: Close) {
        self.outbox.close(close);
        self.end();
    }

    fn cut_off(&mut self, close: Close) {
        self.outbox.cut(close);
        self.end();
    }

    fn end(&mut self) {
        self.work.clear();
        self.placed = 0;
        self.managing.clear();
        self.state = State::Closing;
    }
}
