//! Devices that connect: admitted, approved without a question, or kept waiting.

use std::collections::BTreeSet;

use super::{
    Answer, Call, Change, ConnectRequest, Connected, FullText, Grant, Hold, Locks, Pairing, PairingError,
    Pending, TokenCheck,
};
use crate::devices::roles_text;
use crate::kit::Ctx;
use crate::policy::pairing::{
    Ask, Decision, MAX_DEVICES, Merge, PENDING_TTL, approved, check_room, decide, is_settled_by, merge,
    scopes_for,
};
use crate::ports::{DeviceRow, DeviceTokenRow, Op, PairRequestRow, PairVerdict, PairingEvent};
use crate::types::{DeviceId, PairReason, Role, Scopes, Secret, Timestamp, Vouched};

/// A token that is to be stored, if there is no need to keep the one that there is.
pub(super) struct Issued {
    pub(super) row: DeviceTokenRow,
    pub(super) token: Option<Secret>,
}

impl ConnectRequest {
    pub(super) fn ask(&self) -> Ask<'_> {
        let scopes = scopes_for(self.role, self.scopes);
        Ask { role: self.role, scopes, client: &self.client, vouched: self.vouched }
    }

    /// The scopes that the connection gets.
    fn granted(&self) -> Scopes {
        match self.role {
            Role::Node => Scopes::NONE,
            Role::Operator => self.scopes,
        }
    }
}

impl Pairing {
    pub(super) fn on_connect(&mut self, call: Call<Connected>, ctx: &Ctx<Self>) {
        if let Err(error) = call.request.check() {
            return call.reply.send(Err(error.into()));
        }
        let now = ctx.system().clock.now();
        let known = self.tables.device(&call.device).cloned();
        let reach = known.as_ref().map(|known| self.reach(known, &call.request));
        match decide(&call.request.ask(), reach.as_ref()) {
            Decision::Admit(known) => self.admit(call, known, now, ctx),
            Decision::Approve(reason) => self.approve_at_once(call, known, reason, now, ctx),
            Decision::Pend(reason) => self.keep_waiting(call, known, reason, now, ctx),
        }
    }

    /// The device with what it may have on this connection: one that proves itself with its token alone, no more than
    /// that is good for, or a token that was narrowed would be as good as before.
    fn reach(&self, known: &DeviceRow, request: &ConnectRequest) -> DeviceRow {
        let mut reach = known.clone();
        if request.has_token && request.vouched == Vouched::Stranger {
            let token = self.tables.token(known.id, request.role).filter(|row| row.revoked_at.is_none());
            reach.scopes = token.map_or(Scopes::NONE, |row| row.scopes);
        }
        reach
    }

    /// Lets a known device in: at once, unless it needs a new token.
    fn admit(&mut self, call: Call<Connected>, known: &DeviceRow, now: Timestamp, ctx: &Ctx<Self>) {
        let Call { device, request, origin, reply } = call;
        let issued = self.token_for(known, &request, now, ctx);
        let mut ops = Vec::new();
        if issued.token.is_some() {
            let facts = vec![("device", device.to_string()), ("role", request.role.to_string())];
            ops = vec![
                Op::PutDeviceToken(Box::new(issued.row.clone())),
                Self::audit("device.token_issued", &origin, now, facts),
            ];
        }
        let answer = Connected::Admitted(grant(&request, issued, None));
        if ops.is_empty() {
            return reply.send(Ok(answer));
        }
        self.commit(Change { locks: Locks::device(device), ops, events: Vec::new(), answer, reply }, ctx);
    }

    fn approve_at_once(
        &mut self,
        call: Call<Connected>,
        known: Option<DeviceRow>,
        reason: PairReason,
        now: Timestamp,
        ctx: &Ctx<Self>,
    ) {
        let Call { device, request, origin, reply } = call;
        if let Err(error) = self.check_devices(known.as_ref()) {
            return reply.send(Err(error));
        }
        let asked = asked(device, &request, reason, now, ctx);
        let row = approved(known.as_ref(), &asked, reason, now);
        let issued = self.token_for(&row, &request, now, ctx);
        let mut facts = facts(&asked);
        facts.extend([("reason", reason.to_string()), ("silent", true.to_string())]);
        let mut ops = vec![Op::PutDevice(Box::new(row.clone()))];
        if issued.token.is_some() {
            ops.push(Op::PutDeviceToken(Box::new(issued.row.clone())));
        }
        ops.push(Self::audit("device.approved", &origin, now, facts));
        let settled = self.settle_request(&row, now);
        ops.extend(settled.map(|request| Op::TakePairRequest { request }));
        let verdict = PairVerdict::Approved;
        let events = vec![PairingEvent::Resolved { request: settled, device, verdict, at: now }];
        let answer = Connected::Admitted(grant(&request, issued, Some(reason)));
        self.commit(Change { locks: Locks::device(device), ops, events, answer, reply }, ctx);
    }

    fn keep_waiting(
        &mut self,
        call: Call<Connected>,
        known: Option<DeviceRow>,
        reason: PairReason,
        now: Timestamp,
        ctx: &Ctx<Self>,
    ) {
        let Call { device, request, origin, reply } = call;
        let earlier = self.tables.request_of(&device).cloned();
        let standing = earlier.as_ref().filter(|row| row.expires_at > now);
        let mut row = asked(device, &request, reason, now, ctx);
        let (mut ops, mut events) = (Vec::new(), Vec::new());
        match standing.map(|pending| (pending, merge(pending, &request.ask(), reason, now))) {
            Some((pending, Merge::Same)) => {
                return reply.send(Ok(pending_of(known, pending.clone())));
            }
            Some((pending, Merge::Longer)) => {
                row = PairRequestRow { expires_at: row.expires_at, ..pending.clone() };
            }
            Some((pending, Merge::Supersede { roles, scopes, reason })) => {
                row = PairRequestRow { roles, scopes, reason, ..row };
                events.push(resolved(pending, PairVerdict::Superseded, now));
            }
            None => {
                if let Err(error) = self.check_pending(request.remote.as_deref(), now) {
                    return reply.send(Err(error));
                }
                events.extend(earlier.as_ref().map(|row| resolved(row, PairVerdict::Expired, now)));
            }
        }
        ops.push(Op::PutPairRequest(Box::new(row.clone())));
        if standing.is_none_or(|pending| pending.id != row.id) {
            ops.push(Self::audit("device.requested", &origin, now, request_facts(&row)));
            events.push(PairingEvent::Requested(row.clone().into()));
        }
        let opens = standing.is_none();
        let answer = pending_of(known, row);
        self.commit(Change { locks: Locks::device(device), ops, events, answer, reply }, ctx);
        if opens && let Some(hold) = self.holds.get_mut(&device) {
            hold.asks_from = Some(request.remote);
        }
    }

    pub(super) fn check_token(
        &self,
        device: DeviceId,
        token: &Secret,
        role: Role,
        scopes: Scopes,
    ) -> TokenCheck {
        match self.tables.token(device, role) {
            Some(row) if row.hash.matches(token) => {
                if row.revoked_at.is_some() {
                    TokenCheck::Revoked
                } else if role == Role::Operator && !row.scopes.covers(scopes) {
                    TokenCheck::ScopeMismatch
                } else {
                    TokenCheck::Valid
                }
            }
            _ => TokenCheck::Mismatch,
        }
    }

    /// The token that there is, if it is good for what is asked and the device has it; else a new one, because a
    /// token can be shown only when it is made. One that is older than the last approval may be unknown to the device
    /// as what it now is.
    pub(super) fn token_for(
        &self,
        device: &DeviceRow,
        request: &ConnectRequest,
        now: Timestamp,
        ctx: &Ctx<Self>,
    ) -> Issued {
        let good = |row: &&DeviceTokenRow| {
            row.revoked_at.is_none()
                && row.scopes.covers(request.granted())
                && (request.has_token || row.issued_at() >= device.approved_at)
        };
        match self.tables.token(device.id, request.role).filter(good) {
            Some(row) => Issued { row: row.clone(), token: None },
            None => self.new_token(device, request.role, scopes_for(request.role, device.scopes), now, ctx),
        }
    }

    pub(super) fn new_token(
        &self,
        device: &DeviceRow,
        role: Role,
        scopes: Scopes,
        now: Timestamp,
        ctx: &Ctx<Self>,
    ) -> Issued {
        let token = Secret::from_bytes(&ctx.system().ids.secret());
        let earlier = self.tables.token(device.id, role);
        // A clock that went back must not make it look older than the approval.
        let at = now.max(device.approved_at);
        let row = DeviceTokenRow {
            device: device.id,
            role,
            hash: token.hash(),
            scopes,
            created_at: earlier.map_or(at, |row| row.created_at),
            rotated_at: earlier.map(|_| at),
            revoked_at: None,
        };
        Issued { row, token: Some(token) }
    }

    /// The device's request, if it lapsed or its approval answers it.
    pub(super) fn settle_request(&self, device: &DeviceRow, now: Timestamp) -> Option<uuid::Uuid> {
        let pending = self.tables.request_of(&device.id)?;
        (pending.expires_at <= now || is_settled_by(pending, device)).then_some(pending.id)
    }

    pub(super) fn check_devices(&self, known: Option<&DeviceRow>) -> Result<(), PairingError> {
        let made = |(device, hold): &(&DeviceId, &Hold)| {
            hold.asks_from.is_none() && self.tables.device(device).is_none()
        };
        let being_made = self.holds.iter().filter(made).count();
        if known.is_none() && self.tables.device_count() + being_made >= MAX_DEVICES {
            return Err(PairingError::TooManyDevices { max: MAX_DEVICES });
        }
        Ok(())
    }

    fn check_pending(&self, remote: Option<&str>, now: Timestamp) -> Result<(), PairingError> {
        let standing = self.tables.requests().filter(|row| row.expires_at > now);
        let standing = standing.map(|row| row.remote.as_deref());
        let being_made = self.holds.values().filter_map(|hold| hold.asks_from.as_ref());
        let (mut all, mut at_address) = (0, 0);
        for other in standing.chain(being_made.map(Option::as_deref)) {
            all += 1;
            at_address += usize::from(other == remote);
        }
        check_room(all, at_address, remote).map_err(|full| PairingError::TooManyPending(FullText(full)))
    }
}

/// What a device asks for, as a request for approval.
pub(super) fn asked(
    device: DeviceId,
    request: &ConnectRequest,
    reason: PairReason,
    now: Timestamp,
    ctx: &Ctx<Pairing>,
) -> PairRequestRow {
    PairRequestRow {
        id: ctx.system().ids.session(),
        device,
        key: request.key,
        client: request.client.clone(),
        role: request.role,
        roles: BTreeSet::from([request.role]),
        scopes: scopes_for(request.role, request.scopes),
        remote: request.remote.clone(),
        reason,
        created_at: now,
        expires_at: now + PENDING_TTL,
    }
}

pub(super) fn grant(request: &ConnectRequest, issued: Issued, approved: Option<PairReason>) -> Grant {
    let Issued { row, token } = issued;
    Grant {
        device: row.device,
        role: row.role,
        scopes: request.granted(),
        token,
        token_scopes: row.scopes,
        issued_at: row.issued_at(),
        approved,
    }
}

fn pending_of(known: Option<DeviceRow>, request: PairRequestRow) -> Connected {
    let (approved_roles, approved_scopes) =
        known.map_or_else(Default::default, |known| (known.roles, known.scopes));
    Connected::Pending(Box::new(Pending { request, approved_roles, approved_scopes }))
}

pub(super) fn resolved(request: &PairRequestRow, verdict: PairVerdict, at: Timestamp) -> PairingEvent {
    PairingEvent::Resolved { request: Some(request.id), device: request.device, verdict, at }
}

/// What the audit record says of a request that stands.
pub(super) fn request_facts(request: &PairRequestRow) -> Vec<(&'static str, String)> {
    let mut facts = facts(request);
    facts.extend([("reason", request.reason.to_string()), ("request", request.id.to_string())]);
    facts
}

/// What the audit record says of what a device asks for.
pub(super) fn facts(request: &PairRequestRow) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("device", request.device.to_string()),
        ("role", roles_text(&request.roles)),
        ("scopes", request.scopes.to_string()),
        ("client", format!("{}/{}", request.client.id, request.client.mode)),
    ];
    facts.extend(request.remote.clone().map(|remote| ("remote", remote)));
    facts
}

/// Sends an error to whoever asked; gives back what there is to go on with.
pub(super) fn or_refuse<T, R>(result: Result<T, PairingError>, reply: Answer<R>) -> Option<(T, Answer<R>)> {
    match result {
        Ok(value) => Some((value, reply)),
        Err(error) => {
            reply.send(Err(error));
            None
        }
    }
}
