//! Setup codes: each lets one device in, once.

use std::time::Duration;

use super::connect::{asked, facts, grant, or_refuse};
use super::{Answer, By, Call, Change, CodeInfo, Grant, Locks, Pairing, PairingError, SetupCode};
use crate::kit::Ctx;
use crate::policy::pairing::{Decision, MAX_BOOTSTRAP_TTL, MAX_BOOTSTRAPS, approved, decide, scopes_for};
use crate::ports::{BootstrapRow, Op, PairVerdict, PairingEvent};
use crate::types::{PairReason, Role, Scope, Scopes, Secret, Timestamp};

/// Shortest life of a setup code.
const MIN_TTL: Duration = Duration::from_secs(1);

impl Pairing {
    pub(super) fn on_issue_code(
        &mut self,
        role: Role,
        scopes: Scopes,
        ttl: Duration,
        by: By,
        reply: Answer<SetupCode>,
        ctx: &Ctx<Self>,
    ) {
        let now = ctx.system().clock.now();
        let scopes = scopes_for(role, scopes);
        let checked = by.caller.check(scopes.with(Scope::Pairing)).and_then(|()| self.check_code(ttl, now));
        let Some(((), reply)) = or_refuse(checked, reply) else { return };
        let ids = &ctx.system().ids;
        let code = Secret::from_bytes(&ids.secret());
        let row = BootstrapRow {
            id: ids.session(),
            hash: code.hash(),
            role,
            scopes,
            created_at: now,
            expires_at: now + ttl,
        };
        let info = CodeInfo::from(&row);
        let ops = vec![
            Op::AddBootstrap(Box::new(row)),
            Self::audit("setup_code.issued", &by.origin, now, code_facts(&info)),
        ];
        let locks = Locks { devices: Vec::new(), codes: vec![info.id] };
        let answer = SetupCode { code, info };
        self.commit(Change { locks, ops, events: Vec::new(), answer, reply }, ctx);
    }

    fn check_code(&self, ttl: Duration, now: Timestamp) -> Result<(), PairingError> {
        if !(MIN_TTL..=MAX_BOOTSTRAP_TTL).contains(&ttl) {
            return Err(PairingError::CodeTtl);
        }
        let unused = self.tables.bootstraps().filter(|row| row.expires_at > now);
        let unused = unused.filter(|row| !self.codes.contains(&row.id)).count();
        if unused + self.codes.len() >= MAX_BOOTSTRAPS {
            return Err(PairingError::TooManyCodes { max: MAX_BOOTSTRAPS });
        }
        Ok(())
    }

    /// Approves the device with what the code gives and takes the code, in one transaction.
    pub(super) fn on_redeem_code(&mut self, code: &Secret, call: Call<Grant>, ctx: &Ctx<Self>) {
        let now = ctx.system().clock.now();
        let Call { device, request, origin, reply } = call;
        let known = self.tables.device(&device).cloned();
        let checked = request.check().map_err(PairingError::from).and_then(|()| {
            let code = self.find_code(code, now)?;
            let ask = request.ask();
            if code.role != ask.role || !code.scopes.covers(ask.scopes) {
                return Err(PairingError::CodeScope { role: code.role, scopes: code.scopes });
            }
            self.check_devices(known.as_ref())?;
            Ok(CodeInfo::from(code))
        });
        let Some((code, reply)) = or_refuse(checked, reply) else { return };
        let reason = match decide(&request.ask(), known.as_ref()) {
            Decision::Admit(_) => None,
            Decision::Approve(reason) | Decision::Pend(reason) => Some(reason),
        };
        let asked = asked(device, &request, reason.unwrap_or(PairReason::MetadataUpgrade), now, ctx);
        let row = approved(known.as_ref(), &asked, asked.reason, now);
        // Beside what its token was good for: one that was narrowed stays so but for what the code gives.
        let token = self.tables.token(device, request.role).filter(|token| token.revoked_at.is_none());
        let scopes = token.map_or(row.scopes, |token| token.scopes.union(asked.scopes).normalised());
        let issued = self.new_token(&row, request.role, scopes_for(request.role, scopes), now, ctx);
        let mut facts = facts(&asked);
        facts.extend(reason.map(|reason| ("reason", reason.to_string())));
        facts.extend([("silent", true.to_string()), ("code", code.id.to_string())]);
        let mut ops = vec![
            Op::TakeBootstrap { code: code.id },
            Op::PutDevice(Box::new(row.clone())),
            Op::PutDeviceToken(Box::new(issued.row.clone())),
            Self::audit("device.approved", &origin, now, facts),
        ];
        let settled = self.settle_request(&row, now);
        ops.extend(settled.map(|request| Op::TakePairRequest { request }));
        let verdict = PairVerdict::Approved;
        let events = vec![PairingEvent::Resolved { request: settled, device, verdict, at: now }];
        let locks = Locks { devices: vec![device], codes: vec![code.id] };
        let answer = grant(&request, issued, reason);
        self.commit(Change { locks, ops, events, answer, reply }, ctx);
    }

    /// The code that was presented. Every one is looked at, so that the time does not tell which is near.
    fn find_code(&self, code: &Secret, now: Timestamp) -> Result<&BootstrapRow, PairingError> {
        let mut found = None;
        for row in self.tables.bootstraps() {
            if row.hash.matches(code) {
                found = Some(row);
            }
        }
        let good = found.filter(|row| row.expires_at > now && !self.codes.contains(&row.id));
        good.ok_or(PairingError::CodeInvalid)
    }
}

pub(super) fn code_facts(code: &CodeInfo) -> Vec<(&'static str, String)> {
    vec![("code", code.id.to_string()), ("role", code.role.to_string()), ("scopes", code.scopes.to_string())]
}
