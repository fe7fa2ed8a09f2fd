//! Requests and setup codes that lapse. What has lapsed counts for nothing from that moment; here it is removed.

use std::time::Duration;

use super::bootstrap::code_facts;
use super::connect::{request_facts, resolved};
use super::{Change, CodeInfo, Locks, Pairing, PairingMsg};
use crate::kit::{Ctx, Reply};
use crate::policy::pairing::PENDING_TTL;
use crate::ports::{Op, PairRequestRow, PairVerdict};
use crate::types::Origin;

/// Shortest pause, so that what lapses together is removed together.
const PAUSE: Duration = Duration::from_secs(1);
/// The pause while the store takes no changes.
const PAUSE_AFTER_REFUSAL: Duration = Duration::from_secs(60);

impl Pairing {
    /// Sets the timer for what lapses next.
    pub(super) fn arm(&mut self, ctx: &Ctx<Self>) {
        let requests = self.tables.requests().map(|row| row.expires_at);
        let next = requests.chain(self.tables.bootstraps().map(|row| row.expires_at)).min();
        let least = if self.refused { PAUSE_AFTER_REFUSAL } else { PAUSE };
        self.timer = next.map(|at| {
            // The calendar may jump: it is looked at again after a while.
            let pause = (at - ctx.system().clock.now()).clamp(least, PENDING_TTL);
            ctx.after(pause, PairingMsg::Expire)
        });
    }

    pub(super) fn on_expire(&mut self, ctx: &Ctx<Self>) {
        let now = ctx.system().clock.now();
        let requests = self.tables.requests();
        let lapsed: Vec<PairRequestRow> = requests
            .filter(|row| row.expires_at <= now && !self.holds.contains_key(&row.device))
            .cloned()
            .collect();
        let codes = self.tables.bootstraps();
        let codes = codes.filter(|row| row.expires_at <= now && !self.codes.contains(&row.id));
        let codes: Vec<CodeInfo> = codes.map(CodeInfo::from).collect();
        if lapsed.is_empty() && codes.is_empty() {
            return self.arm(ctx);
        }
        let (mut ops, mut events) = (Vec::new(), Vec::new());
        for row in &lapsed {
            ops.push(Op::TakePairRequest { request: row.id });
            ops.push(Self::audit("device.request_expired", &Origin::Timer, now, request_facts(row)));
            events.push(resolved(row, PairVerdict::Expired, now));
        }
        for code in &codes {
            ops.push(Op::TakeBootstrap { code: code.id });
            ops.push(Self::audit("setup_code.expired", &Origin::Timer, now, code_facts(code)));
        }
        let locks = Locks {
            devices: lapsed.iter().map(|row| row.device).collect(),
            codes: codes.iter().map(|code| code.id).collect(),
        };
        let reply = Reply::to(|_| ());
        self.commit(Change { locks, ops, events, answer: (), reply }, ctx);
    }
}
