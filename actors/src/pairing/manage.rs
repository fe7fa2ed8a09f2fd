//! Devices that somebody manages: lists, approvals, tokens.

use uuid::Uuid;

use super::connect::{or_refuse, request_facts, resolved};
use super::{
    Answer, By, Change, CodeInfo, Locks, PairedDevice, Pairing, PairingError, PairingList, Rotated, TokenInfo,
};
use crate::kit::Ctx;
use crate::policy::pairing::{approved, scopes_for};
use crate::ports::{DeviceRow, DeviceTokenRow, Op, PairRequestRow, PairVerdict, PairingEvent};
use crate::types::{DeviceId, Role, Scope, Scopes, Timestamp};

const PAIRING: Scopes = Scopes::NONE.with(Scope::Pairing);

impl Pairing {
    pub(super) fn list(&self, now: Timestamp) -> PairingList {
        let mut pending: Vec<PairRequestRow> =
            self.tables.requests().filter(|row| row.expires_at > now).cloned().collect();
        pending.sort_by_key(|row| (row.created_at, row.id));
        let codes = self.tables.bootstraps().filter(|row| row.expires_at > now);
        let mut codes: Vec<_> = codes.map(|row| (row.created_at, CodeInfo::from(row))).collect();
        codes.sort_by_key(|(created_at, info)| (*created_at, info.id));
        PairingList {
            pending,
            paired: self.tables.devices().map(|row| self.paired(row.clone())).collect(),
            codes: codes.into_iter().map(|(_, info)| info).collect(),
        }
    }

    fn paired(&self, device: DeviceRow) -> PairedDevice {
        let tokens = Role::ALL.into_iter().filter_map(|role| self.tables.token(device.id, role));
        PairedDevice { tokens: tokens.map(TokenInfo::from).collect(), device }
    }

    /// The request, if it has not lapsed.
    fn waiting(&self, request: Uuid, now: Timestamp) -> Result<PairRequestRow, PairingError> {
        let found = self.tables.request(&request).filter(|row| row.expires_at > now);
        found.cloned().ok_or(PairingError::UnknownRequest(request))
    }

    fn known(&self, device: DeviceId) -> Result<DeviceRow, PairingError> {
        self.tables.device(&device).cloned().ok_or(PairingError::UnknownDevice(device))
    }

    /// The device, if it has the role.
    fn in_role(&self, device: DeviceId, role: Role) -> Result<DeviceRow, PairingError> {
        let known = self.known(device)?;
        if known.roles.contains(&role) { Ok(known) } else { Err(PairingError::UnknownRole { device, role }) }
    }

    pub(super) fn on_approve(&mut self, request: Uuid, by: By, reply: Answer<PairedDevice>, ctx: &Ctx<Self>) {
        let now = ctx.system().clock.now();
        let checked = self.waiting(request, now).and_then(|pending| {
            by.caller.check(PAIRING)?;
            by.caller.check(pending.scopes)?;
            self.check_devices(self.tables.device(&pending.device))?;
            Ok(pending)
        });
        let Some((pending, reply)) = or_refuse(checked, reply) else { return };
        let device = pending.device;
        let row = approved(self.tables.device(&device), &pending, pending.reason, now);
        let mut ops = vec![Op::TakePairRequest { request: pending.id }, Op::PutDevice(Box::new(row.clone()))];
        let mut answer = self.paired(row);
        let token = self.tables.token(device, Role::Operator).filter(|row| row.revoked_at.is_none());
        if let Some(token) = token.filter(|_| pending.roles.contains(&Role::Operator)) {
            // A device that has nothing but its token comes back with it, to ask for what it now has. A token that was
            // narrowed gets no more than what was asked for and approved.
            let scopes = token.scopes.union(pending.scopes).normalised();
            let wider = DeviceTokenRow { scopes, ..token.clone() };
            answer.tokens.retain(|token| token.role != Role::Operator);
            answer.tokens.push(TokenInfo::from(&wider));
            ops.push(Op::PutDeviceToken(Box::new(wider)));
        }
        let mut facts = request_facts(&pending);
        facts.push(("silent", false.to_string()));
        ops.push(Self::audit("device.approved", &by.origin, now, facts));
        let events = vec![resolved(&pending, PairVerdict::Approved, now)];
        self.commit(Change { locks: Locks::device(device), ops, events, answer, reply }, ctx);
    }

    pub(super) fn on_reject(&mut self, request: Uuid, by: By, reply: Answer<DeviceId>, ctx: &Ctx<Self>) {
        let now = ctx.system().clock.now();
        let checked = by.caller.check(PAIRING).and_then(|()| self.waiting(request, now));
        let Some((pending, reply)) = or_refuse(checked, reply) else { return };
        let ops = vec![
            Op::TakePairRequest { request: pending.id },
            Self::audit("device.rejected", &by.origin, now, request_facts(&pending)),
        ];
        let events = vec![resolved(&pending, PairVerdict::Rejected, now)];
        let answer = pending.device;
        self.commit(Change { locks: Locks::device(pending.device), ops, events, answer, reply }, ctx);
    }

    pub(super) fn on_remove(&mut self, device: DeviceId, by: By, reply: Answer<()>, ctx: &Ctx<Self>) {
        let now = ctx.system().clock.now();
        let checked = by.caller.check_owner(device).and_then(|()| self.known(device));
        let Some((_, reply)) = or_refuse(checked, reply) else { return };
        let mut events = vec![PairingEvent::Removed { device, origin: by.origin.clone() }];
        let pending = self.tables.request_of(&device);
        events.extend(pending.map(|pending| resolved(pending, PairVerdict::Rejected, now)));
        let facts = vec![("device", device.to_string())];
        let ops = vec![Op::RemoveDevice { device }, Self::audit("device.removed", &by.origin, now, facts)];
        self.commit(Change { locks: Locks::device(device), ops, events, answer: (), reply }, ctx);
    }

    pub(super) fn on_rotate(
        &mut self,
        device: DeviceId,
        role: Role,
        scopes: Option<Scopes>,
        by: By,
        reply: Answer<Rotated>,
        ctx: &Ctx<Self>,
    ) {
        let now = ctx.system().clock.now();
        let checked = by.caller.check_owner(device).and_then(|()| {
            let known = self.in_role(device, role)?;
            let approved = scopes_for(role, known.scopes);
            let scopes = match (scopes, self.tables.token(device, role)) {
                (Some(scopes), _) => scopes_for(role, scopes),
                (None, Some(token)) if token.revoked_at.is_none() => token.scopes,
                (None, _) => approved,
            };
            if !approved.covers(scopes) {
                return Err(PairingError::BeyondApproved { approved });
            }
            by.caller.check(scopes)?;
            Ok((known, scopes))
        });
        let Some(((known, scopes), reply)) = or_refuse(checked, reply) else { return };
        let issued = self.new_token(&known, role, scopes, now, ctx);
        let Some(token) = issued.token else { return };
        let rotated_at = issued.row.issued_at();
        let facts = token_facts(device, role, scopes);
        let ops = vec![
            Op::PutDeviceToken(Box::new(issued.row)),
            Self::audit("device.token_rotated", &by.origin, now, facts),
        ];
        let events = vec![PairingEvent::TokenRotated { device, role, origin: by.origin }];
        let answer = Rotated { token, scopes, rotated_at };
        self.commit(Change { locks: Locks::device(device), ops, events, answer, reply }, ctx);
    }

    /// Takes the role with all that was approved for it, so that a later approval begins from nothing.
    pub(super) fn on_revoke(
        &mut self,
        device: DeviceId,
        role: Role,
        by: By,
        reply: Answer<Timestamp>,
        ctx: &Ctx<Self>,
    ) {
        let now = ctx.system().clock.now();
        let checked = by.caller.check_owner(device).and_then(|()| self.in_role(device, role));
        let Some((mut row, reply)) = or_refuse(checked, reply) else { return };
        row.roles.remove(&role);
        let facts = token_facts(device, role, scopes_for(role, row.scopes));
        if role == Role::Operator {
            row.scopes = Scopes::NONE;
        }
        let mut ops = vec![Op::PutDevice(Box::new(row))];
        if let Some(token) = self.tables.token(device, role) {
            let revoked = DeviceTokenRow { revoked_at: Some(now), ..token.clone() };
            ops.push(Op::PutDeviceToken(Box::new(revoked)));
        }
        ops.push(Self::audit("device.token_revoked", &by.origin, now, facts));
        let events = vec![PairingEvent::TokenRevoked { device, role, origin: by.origin }];
        self.commit(Change { locks: Locks::device(device), ops, events, answer: now, reply }, ctx);
    }
}

fn token_facts(device: DeviceId, role: Role, scopes: Scopes) -> Vec<(&'static str, String)> {
    vec![("device", device.to_string()), ("role", role.to_string()), ("scopes", scopes.to_string())]
}
