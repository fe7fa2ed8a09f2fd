//! The registry of devices: who from outside may come in.
//!
//! Owns devices, their tokens, requests for approval and setup codes. Only the edge asks it, when a client connects
//! or manages devices: nothing inside the tree does, and no spawn waits for it. Started by the root after the
//! configuration.
//!
//! All rows are in memory as they are committed, so that a device that is known is answered at once. A change is
//! decided against them, committed together with its line of the audit record, and only then answered and applied
//! here. While a change of a device is being committed, further messages about that device wait for it, so that no
//! decision rests on what may not come to be. The commit itself answers and tells of the change: whoever must close
//! connections hears of it also when this actor panics.
//!
//! A panic loses nothing that was committed: the rows are read again.

mod api;
mod bootstrap;
mod connect;
mod expiry;
mod manage;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

pub use self::api::{
    Caller, CodeInfo, ConnectRequest, Connected, FullText, Grant, PairedDevice, PairingError, PairingList,
    Pending, Rotated, SetupCode, TokenCheck, TokenInfo,
};
use crate::devices::Devices;
use crate::kit::{Behaviour, Ctx, Intensity, Msg, Reply, StartError, Task};
use crate::ports::{AuditRecord, Event, Op, PairingEvent, Refused, Transaction};
use crate::shared::Shared;
use crate::types::{DeviceId, Origin, Role, Scopes, Secret, Timestamp};

/// Messages about one device that wait for its commit: more than one client sends unless it is broken.
const MAX_WAITING: usize = 64;

pub(crate) type Answer<T> = Reply<Result<T, PairingError>>;

/// Everything that a start needs.
#[derive(Debug)]
pub(crate) struct PairingArgs {
    shared: Arc<Shared>,
    /// How often the state was built.
    lives: u64,
}

impl From<Arc<Shared>> for PairingArgs {
    fn from(shared: Arc<Shared>) -> Self {
        Self { shared, lives: 0 }
    }
}

/// A device that connects, or that redeems a setup code.
#[derive(Debug)]
pub(crate) struct Call<T> {
    pub(crate) device: DeviceId,
    pub(crate) request: ConnectRequest,
    pub(crate) origin: Origin,
    pub(crate) reply: Answer<T>,
}

/// Who manages devices, as policy and as the audit record know it.
#[derive(Debug, Clone)]
pub(crate) struct By {
    pub(crate) caller: Caller,
    pub(crate) origin: Origin,
}

/// What the registry is told. All but the last two from the tree's handle.
#[derive(Debug)]
pub(crate) enum PairingMsg {
    /// Whether a device is let in.
    Connect(Box<Call<Connected>>),
    /// Whether a token is good.
    Verify { device: DeviceId, token: Secret, role: Role, scopes: Scopes, reply: Answer<TokenCheck> },
    /// All devices.
    List { reply: Answer<PairingList> },
    /// Let a device in that waits.
    Approve { request: Uuid, by: By, reply: Answer<PairedDevice> },
    /// Do not let it in.
    Reject { request: Uuid, by: By, reply: Answer<DeviceId> },
    /// Forget a device.
    Remove { device: DeviceId, by: By, reply: Answer<()> },
    /// Make a token in the place of another.
    Rotate { device: DeviceId, role: Role, scopes: Option<Scopes>, by: By, reply: Answer<Rotated> },
    /// Take a role from a device.
    Revoke { device: DeviceId, role: Role, by: By, reply: Answer<Timestamp> },
    /// Make a setup code.
    IssueCode { role: Role, scopes: Scopes, ttl: Duration, by: By, reply: Answer<SetupCode> },
    /// Let a device in that has a setup code.
    RedeemCode { code: Secret, call: Box<Call<Grant>> },
    /// A change was committed, or not. From the store.
    Settled(Box<Settled>),
    /// Something may have lapsed. From a timer.
    Expire,
}

impl Msg for PairingMsg {
    fn name(&self) -> &'static str {
        match self {
            Self::Connect(_) => "connect",
            Self::Verify { .. } => "verify",
            Self::List { .. } => "list",
            Self::Approve { .. } => "approve",
            Self::Reject { .. } => "reject",
            Self::Remove { .. } => "remove",
            Self::Rotate { .. } => "rotate",
            Self::Revoke { .. } => "revoke",
            Self::IssueCode { .. } => "issue_code",
            Self::RedeemCode { .. } => "redeem_code",
            Self::Settled(_) => "settled",
            Self::Expire => "expire",
        }
    }
}

impl PairingMsg {
    fn refuse(self, error: PairingError) {
        match self {
            Self::Connect(call) => call.reply.send(Err(error)),
            Self::Verify { reply, .. } => reply.send(Err(error)),
            Self::List { reply } => reply.send(Err(error)),
            Self::Approve { reply, .. } => reply.send(Err(error)),
            Self::Reject { reply, .. } => reply.send(Err(error)),
            Self::Remove { reply, .. } => reply.send(Err(error)),
            Self::Rotate { reply, .. } => reply.send(Err(error)),
            Self::Revoke { reply, .. } => reply.send(Err(error)),
            Self::IssueCode { reply, .. } => reply.send(Err(error)),
            Self::RedeemCode { call, .. } => call.reply.send(Err(error)),
            Self::Settled(_) | Self::Expire => {}
        }
    }
}

/// The fate of a change.
#[derive(Debug)]
pub(crate) struct Settled {
    /// Of which state: one that was built since then has read the change from the store.
    life: u64,
    locks: Locks,
    ops: Transaction,
    result: Result<(), Refused>,
}

/// What a change is about.
#[derive(Debug, Default)]
struct Locks {
    devices: Vec<DeviceId>,
    codes: Vec<Uuid>,
}

impl Locks {
    fn device(device: DeviceId) -> Self {
        Self { devices: vec![device], codes: Vec::new() }
    }
}

/// A change that was decided: it is committed, then told, and its answer given.
struct Change<T> {
    locks: Locks,
    ops: Transaction,
    events: Vec<PairingEvent>,
    answer: T,
    reply: Answer<T>,
}

/// A device of which a change is being committed.
#[derive(Debug, Default)]
struct Hold {
    waiting: VecDeque<PairingMsg>,
    /// Where the device connects from, if the change lets it wait for approval.
    asks_from: Option<Option<String>>,
}

/// The registry's state.
#[derive(Debug)]
pub(crate) struct Pairing {
    shared: Arc<Shared>,
    life: u64,
    /// As committed.
    tables: Devices,
    holds: BTreeMap<DeviceId, Hold>,
    /// Setup codes that are being made or used.
    codes: BTreeSet<Uuid>,
    timer: Option<Task>,
    /// Whether the store refused the last change.
    refused: bool,
}

impl Behaviour for Pairing {
    const KIND: &'static str = "pairing";
    const SURVIVES: Option<Intensity> = Some(Intensity { max: 10, within: Duration::from_secs(60) });

    type Msg = PairingMsg;
    type Args = PairingArgs;
    type Child = ();

    async fn start(args: &mut PairingArgs, ctx: &mut Ctx<Self>) -> Result<Self, StartError> {
        args.lives += 1;
        let shared = Arc::clone(&args.shared);
        // What an earlier life has on its way is decided first, so that the rows hold it.
        shared.barrier().await.map_err(|error| StartError(error.to_string()))?;
        let stored = shared.storage.pairing().await.map_err(|error| StartError(error.to_string()))?;
        let mut pairing = Self {
            shared,
            life: args.lives,
            tables: Devices::of(stored),
            holds: BTreeMap::new(),
            codes: BTreeSet::new(),
            timer: None,
            refused: false,
        };
        pairing.arm(ctx);
        pairing.shared.pairing.set(ctx.myself().clone());
        Ok(pairing)
    }

    fn handle(&mut self, message: PairingMsg, ctx: &mut Ctx<Self>) {
        let held = self.device_of(&message).and_then(|device| self.holds.get_mut(&device));
        match held {
            Some(hold) if hold.waiting.len() < MAX_WAITING => hold.waiting.push_back(message),
            Some(_) => message.refuse(PairingError::Busy),
            None => self.decide(message, ctx),
        }
    }
}

impl Pairing {
    /// The device that a message is about. A request that is being made is nobody's to answer yet.
    fn device_of(&self, message: &PairingMsg) -> Option<DeviceId> {
        match message {
            PairingMsg::Connect(call) => Some(call.device),
            PairingMsg::RedeemCode { call, .. } => Some(call.device),
            PairingMsg::Verify { device, .. }
            | PairingMsg::Remove { device, .. }
            | PairingMsg::Rotate { device, .. }
            | PairingMsg::Revoke { device, .. } => Some(*device),
            PairingMsg::Approve { request, .. } | PairingMsg::Reject { request, .. } => {
                self.tables.request(request).map(|row| row.device)
            }
            PairingMsg::List { .. }
            | PairingMsg::IssueCode { .. }
            | PairingMsg::Settled(_)
            | PairingMsg::Expire => None,
        }
    }

    fn decide(&mut self, message: PairingMsg, ctx: &mut Ctx<Self>) {
        match message {
            PairingMsg::Connect(call) => self.on_connect(*call, ctx),
            PairingMsg::Verify { device, token, role, scopes, reply } => {
                reply.send(Ok(self.check_token(device, &token, role, scopes)));
            }
            PairingMsg::List { reply } => reply.send(Ok(self.list(ctx.system().clock.now()))),
            PairingMsg::Approve { request, by, reply } => self.on_approve(request, by, reply, ctx),
            PairingMsg::Reject { request, by, reply } => self.on_reject(request, by, reply, ctx),
            PairingMsg::Remove { device, by, reply } => self.on_remove(device, by, reply, ctx),
            PairingMsg::Rotate { device, role, scopes, by, reply } => {
                self.on_rotate(device, role, scopes, by, reply, ctx);
            }
            PairingMsg::Revoke { device, role, by, reply } => self.on_revoke(device, role, by, reply, ctx),
            PairingMsg::IssueCode { role, scopes, ttl, by, reply } => {
                self.on_issue_code(role, scopes, ttl, by, reply, ctx);
            }
            PairingMsg::RedeemCode { code, call } => self.on_redeem_code(&code, *call, ctx),
            PairingMsg::Settled(settled) => self.on_settled(*settled, ctx),
            PairingMsg::Expire => self.on_expire(ctx),
        }
    }

    /// Sends a change on its way. The devices and codes that it is about are held until it is back.
    fn commit<T: Send + 'static>(&mut self, change: Change<T>, ctx: &Ctx<Self>) {
        let Change { locks, ops, events, answer, reply } = change;
        for device in &locks.devices {
            self.holds.entry(*device).or_default();
        }
        self.codes.extend(&locks.codes);
        let settled = Box::new(Settled { life: self.life, locks, ops: ops.clone(), result: Ok(()) });
        let (myself, shared) = (ctx.myself().clone(), Arc::clone(&self.shared));
        self.shared.commit(ops, move |result| {
            // Whoever is answered and asks next finds the change applied. An actor that is gone has read it when it
            // comes again.
            let told = Settled { result: result.clone(), ..*settled };
            drop(myself.send(PairingMsg::Settled(Box::new(told))));
            match result {
                Ok(()) => {
                    reply.send(Ok(answer));
                    events.into_iter().for_each(|event| shared.publish(Event::Pairing(event)));
                }
                Err(refused) => reply.send(Err(refused.into())),
            }
        });
    }

    fn on_settled(&mut self, settled: Settled, ctx: &mut Ctx<Self>) {
        let Settled { life, locks, ops, result } = settled;
        if life != self.life {
            return;
        }
        self.refused = result.is_err();
        match result.and_then(|()| ops.iter().try_for_each(|op| self.tables.apply(op))) {
            Ok(()) => self.tables.keep(),
            Err(Refused::Storage(error)) => tracing::warn!(%error, "a change of devices was not stored"),
            // The rows are read again by the next life.
            Err(refused) => return ctx.fail(format!("the store has other devices: {refused}")),
        }
        for code in &locks.codes {
            self.codes.remove(code);
        }
        self.arm(ctx);
        for device in locks.devices {
            let waiting = self.holds.remove(&device).map(|hold| hold.waiting);
            // In their order: one of them may start the next commit, for which the others wait.
            waiting.into_iter().flatten().for_each(|message| self.handle(message, ctx));
        }
    }

    fn audit(event: &'static str, origin: &Origin, at: Timestamp, facts: Vec<(&'static str, String)>) -> Op {
        let origin = origin.clone();
        Op::Audit(Box::new(AuditRecord { at, event, origin, session: None, run: None, facts }))
    }
}
