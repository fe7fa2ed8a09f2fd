//! The tool calls of one step: committed as started before they start, and as finished with their results.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Activity, Doing, ReportKind, Run, RunMsg, RunningTool, Tools};
use crate::kit::Ctx;
use crate::policy::argument;
use crate::policy::tools::{Role, withheld_by_depth};
use crate::ports::{AuditRecord, Effect, Event, Op, ToolContext, ToolMark, ToolOutput, Transaction};
use crate::types::{Entry, Origin, Timestamp, ToolCall, ToolStatus};

/// Most tool calls of one step that are carried out; the rest is answered with an error.
const MAX_CALLS: usize = 128;
/// Longest name or id of a refused call on record, in characters: a model makes them up.
const MAX_RECORDED: usize = 80;
/// Why a call beyond [`MAX_CALLS`] is refused.
const TOO_MANY: &str = "too many calls";

/// A tool call that is over.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) call: ToolCall,
    pub(super) output: ToolOutput,
    /// Why it was not carried out; none if it was committed as started.
    pub(super) refused: Option<&'static str>,
}

impl Finished {
    fn entry(self) -> Entry {
        let Self { call, output, .. } = self;
        Entry::ToolResult { call: call.id, name: call.name, text: output.text, status: output.status }
    }
}

/// That a tool call is not carried out at all.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Why, for the record.
    pub(super) why: &'static str,
    /// What the model reads.
    pub(super) output: ToolOutput,
}

impl Refusal {
    fn new(why: &'static str, text: String) -> Self {
        Self { why, output: ToolOutput::error(text) }
    }
}

/// Gives every call whose id an earlier call of its step has an id that no other has, so that each row and each
/// result belongs to one call. Returns the places of these calls with the ids that they had.
pub(super) fn tell_apart(calls: &mut [ToolCall]) -> BTreeMap<usize, Arc<str>> {
    let mut repeated = BTreeMap::new();
    let mut met = BTreeSet::new();
    for (index, call) in calls.iter().enumerate() {
        if !met.insert(Arc::clone(&call.id)) {
            repeated.insert(index, Arc::clone(&call.id));
        }
    }
    let mut number = 1_usize;
    for (index, id) in &repeated {
        while !met.insert(Arc::clone(&calls[*index].id)) {
            number += 1;
            calls[*index].id = format!("{id}_{number}").into();
        }
    }
    repeated
}

/// Puts refusals on record with the results that tell of them. Those of too many calls are one line: how many a model
/// asks for is its own affair.
fn put_on_record(mut refusals: Vec<AuditRecord>, transaction: &mut Transaction) {
    let is_beyond = |record: &AuditRecord| record.facts.contains(&("why", TOO_MANY.to_owned()));
    let times = refusals.iter().filter(|record| is_beyond(record)).count();
    let mut told = false;
    refusals.retain(|record| !is_beyond(record) || !std::mem::replace(&mut told, true));
    if let Some(record) = refusals.iter_mut().find(|record| is_beyond(record)).filter(|_| times > 1) {
        record.facts.push(("times", times.to_string()));
    }
    transaction.extend(refusals.into_iter().map(|record| Op::Audit(Box::new(record))));
}

impl Run {
    /// Commits the answer that asks for tools, together with the start of the first ones. Calls that had the
    /// id of an earlier one are in `repeated`.
    pub(super) fn start_tools(
        &mut self,
        calls: Vec<ToolCall>,
        repeated: &BTreeMap<usize, Arc<str>>,
        answer: Entry,
        ctx: &mut Ctx<Self>,
    ) {
        let at = ctx.system().clock.now();
        let mut entries = vec![self.transcript.push(Some(self.id()), at, answer)];
        let mut tools = Tools::default();
        let mut refusals = Vec::new();
        for (index, call) in calls.into_iter().enumerate() {
            match self.check(&call, index, repeated.get(&index)) {
                None => tools.waiting.push_back(call),
                // That it is not carried out is decided with the answer that asks for it, whatever happens next.
                Some(Refusal { why, output }) => {
                    self.publish_finished(&call, output.status);
                    refusals.push(self.refused(&call, why, at));
                    let entry = Finished { call, output, refused: Some(why) }.entry();
                    entries.push(self.transcript.push(Some(self.id()), at, entry));
                }
            }
        }
        let session = self.meta.key.clone();
        let mut transaction = vec![Op::Append { session, open_run: Some(self.id()), entries }];
        transaction.extend(self.record_step(ctx));
        put_on_record(refusals, &mut transaction);
        self.start_batch(&mut tools, &mut transaction, ctx);
        tools.committing = true;
        self.cell.turn_to(Activity::Tools, at);
        self.doing = Doing::Tools(Box::new(tools));
        self.commit(transaction, ctx);
    }

    /// Why a call is not carried out at all, if it is not.
    pub(super) fn check(&self, call: &ToolCall, index: usize, repeats: Option<&Arc<str>>) -> Option<Refusal> {
        if index >= MAX_CALLS {
            let text = format!("not carried out: more than {MAX_CALLS} tool calls in one step");
            return Some(Refusal::new(TOO_MANY, text));
        }
        if let Some(id) = repeats {
            let text = format!(
                "not carried out: an earlier tool call of this step has the id {id:?}; give each call an id of its own"
            );
            return Some(Refusal::new("repeated id", text));
        }
        if self.tools.iter().any(|spec| spec.name == call.name) {
            return None;
        }
        let names: Vec<&str> = self.tools.iter().map(|spec| &*spec.name).collect();
        let (why, place) = self.why_withheld(&call.name);
        let text = format!(
            "tool {} is not available {place}; available: {}",
            call.name,
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        );
        Some(Refusal::new(why, text))
    }

    /// What withholds a tool: for the record, and as the model reads it.
    fn why_withheld(&self, tool: &str) -> (&'static str, String) {
        let (settings, depth) = (self.shared.settings(), self.meta.depth);
        let max = settings.subagents.max_depth;
        let (catalog, agent) = (self.shared.tools.catalog(), settings.agent(&self.meta.agent));
        if withheld_by_depth(tool, catalog, &settings, agent.map(AsRef::as_ref), Role::at(depth, max)) {
            let place = format!(
                "at this depth (current depth: {depth}, max: {max}), which \
                 agents.defaults.subagents.maxSpawnDepth (1 to 64) limits"
            );
            return ("depth", place);
        }
        let is_known = catalog.iter().any(|spec| &*spec.name == tool);
        (if is_known { "policy" } else { "no such tool" }, "here".to_owned())
    }

    /// The line on record of a call that is not carried out.
    fn refused(&self, call: &ToolCall, why: &'static str, at: Timestamp) -> AuditRecord {
        let short = |text: &str| text.chars().take(MAX_RECORDED).collect();
        AuditRecord {
            at,
            event: "tool.refused",
            origin: Origin::Agent { session: self.meta.key.clone(), run: self.id() },
            session: Some(self.meta.key.clone()),
            run: Some(self.id()),
            facts: vec![("tool", short(&call.name)), ("call", short(&call.id)), ("why", why.to_owned())],
        }
    }

    /// Marks the next calls as started: one, or as many in a row as may run side by side.
    pub(super) fn start_batch(&self, tools: &mut Tools, transaction: &mut Transaction, ctx: &Ctx<Self>) {
        let parallel =
            |call: &ToolCall| self.tools.iter().any(|spec| spec.name == call.name && spec.parallel);
        while let Some(call) = tools.waiting.front() {
            if !tools.starting.is_empty() && !parallel(call) {
                break;
            }
            let alone = !parallel(call);
            tools.starting.extend(tools.waiting.pop_front());
            if alone {
                break;
            }
        }
        if tools.starting.is_empty() {
            return;
        }
        let at = ctx.system().clock.now();
        let mark = |call: &ToolCall| ToolMark { call: Arc::clone(&call.id), name: Arc::clone(&call.name) };
        transaction.push(Op::StartTools {
            run: self.id(),
            step: self.step,
            calls: tools.starting.iter().map(mark).collect(),
            at,
        });
        let origin = Origin::Agent { session: self.meta.key.clone(), run: self.id() };
        transaction.extend(tools.starting.iter().map(|call| {
            Op::Audit(Box::new(AuditRecord {
                at,
                event: "tool.started",
                origin: origin.clone(),
                session: Some(self.meta.key.clone()),
                run: Some(self.id()),
                facts: vec![("tool", call.name.to_string()), ("call", call.id.to_string())],
            }))
        }));
    }

    /// What was marked as started is committed: starts it, and records what has finished meanwhile.
    pub(super) fn tools_committed(&mut self, ctx: &mut Ctx<Self>) {
        let Doing::Tools(tools) = &mut self.doing else { return };
        tools.committing = false;
        let starting = std::mem::take(&mut tools.starting);
        let repeated = std::mem::take(&mut tools.repeated);
        for call in starting {
            let again = repeated.contains(&call.id);
            let task = self.start_tool(&call, again, ctx);
            #[cfg(feature = "faults")]
            if ctx.system().has_bug(crate::kit::Bug::StartedToolRerun) {
                std::mem::forget(self.start_tool(&call, again, ctx));
            }
            if let Doing::Tools(tools) = &mut self.doing {
                tools.running.insert(Arc::clone(&call.id), (call, task));
            }
        }
        self.record_finished(ctx);
    }

    fn start_tool(&self, call: &ToolCall, repeated: bool, ctx: &Ctx<Self>) -> crate::kit::Task {
        let since = ctx.system().clock.now();
        let argument = argument::shown(&call.arguments);
        self.cell.update(|progress| {
            let (call, name) = (Arc::clone(&call.id), Arc::clone(&call.name));
            progress.heard = Some(since);
            progress.tools.push(RunningTool { call, name, argument, since });
        });
        self.shared.publish(Event::ToolStarted {
            session: self.meta.key.clone(),
            run: self.id(),
            call: Arc::clone(&call.id),
            name: Arc::clone(&call.name),
        });
        let context = ToolContext {
            agent: self.meta.agent.clone(),
            session: self.meta.key.clone(),
            run: self.id(),
            step: self.step,
            repeated,
            cancelled: self.cell.cancelled.clone(),
            tree: crate::TreeHandle::of(&self.shared),
        };
        let tools = Arc::clone(&self.shared.tools);
        let cancelled = self.cell.cancelled.clone();
        let id = Arc::clone(&call.id);
        let call = call.clone();
        let work = async move {
            let call = async { tools.call(context, call).await };
            cancelled
                .run_until_cancelled(call)
                .await
                .unwrap_or_else(|| ToolOutput::error("the run was aborted"))
        };
        ctx.task(work, move |output| RunMsg::ToolDone { call: id, output: Box::new(output) })
    }

    pub(super) fn on_tool_done(&mut self, call: &Arc<str>, output: ToolOutput, ctx: &mut Ctx<Self>) {
        let Doing::Tools(tools) = &mut self.doing else { return };
        let Some((call, _)) = tools.running.remove(call) else { return };
        let now = ctx.system().clock.now();
        self.cell.update(|progress| {
            progress.heard = Some(now);
            progress.tools.retain(|running| running.call != call.id);
        });
        tools.wants_to_wait |= output.effect == Effect::Yield;
        tools.finished.push(Finished { call, output, refused: None });
        if !tools.committing {
            self.record_finished(ctx);
        }
    }

    /// Commits the results there are, together with the start of the next calls once all others are done.
    fn record_finished(&mut self, ctx: &mut Ctx<Self>) {
        let Doing::Tools(mut tools) = std::mem::replace(&mut self.doing, Doing::Begins) else { return };
        let at = ctx.system().clock.now();
        let mut transaction = Transaction::new();
        let (mut entries, mut refusals) = (Vec::new(), Vec::new());
        for Finished { call, output, refused } in tools.finished.drain(..) {
            match refused {
                Some(why) => refusals.push(self.refused(&call, why, at)),
                None => transaction.push(Op::FinishTool {
                    run: self.id(),
                    step: self.step,
                    call: Arc::clone(&call.id),
                    status: output.status,
                    at,
                }),
            }
            self.publish_finished(&call, output.status);
            let entry = Finished { call, output, refused }.entry();
            entries.push(self.transcript.push(Some(self.id()), at, entry));
        }
        put_on_record(refusals, &mut transaction);
        if !entries.is_empty() {
            let session = self.meta.key.clone();
            transaction.insert(0, Op::Append { session, open_run: Some(self.id()), entries });
            transaction.extend(self.cell.time(ctx.system().clock.monotonic()));
        }
        if tools.running.is_empty() {
            self.start_batch(&mut tools, &mut transaction, ctx);
        }
        let wants_to_wait = tools.wants_to_wait;
        let idle = transaction.is_empty() && tools.running.is_empty();
        tools.committing = !transaction.is_empty();
        self.doing = Doing::Tools(tools);
        if idle {
            self.report(ReportKind::Boundary { wants_to_wait });
        } else if !transaction.is_empty() {
            self.commit(transaction, ctx);
        }
    }

    fn publish_finished(&self, call: &ToolCall, status: ToolStatus) {
        self.shared.publish(Event::ToolFinished {
            session: self.meta.key.clone(),
            run: self.id(),
            call: Arc::clone(&call.id),
            status,
        });
    }
}
