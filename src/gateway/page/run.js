// The page of one run: what it does or why it ended, its time line, its transcript as it grows.

import { actionsFor, attempt, copy, send, steer } from "./actions.js";
import { button, facts, h, pill, put, setText } from "./dom.js";
import { cost, duration, shortId, shortKey, usage, when } from "./format.js";
import { isLive } from "./model.js";
import { bars, drawing } from "./steps.js";
import { Transcript, runOf, textOf } from "./transcript.js";
import { doing, lifetime, tone, tool } from "./words.js";

const MESSAGES = 200;
const MAX_CHARS = 50_000;
const CHILDREN_EVERY_MS = 2_000;
const CLOCKS_MS = 60_000;
const DAY_MS = 24 * 3_600_000;

export function runView(app) {
  const { tree } = app;
  let id;
  let key;
  let row;
  let children = [];
  let offset = 0;
  let whole = false;
  let leaves = [];
  /** Counts what is shown and left: what was asked for before is not for what is shown now. */
  let turn = 0;
  let painted = "";
  let actsFor = "";
  const head = h("div", { class: "head" });
  const acts = h("div", { class: "acts" });
  const now = h("p", { class: "doing" });
  const about = h("div", { class: "about" });
  const chart = drawing();
  const transcript = new Transcript();
  const earlier = button("Earlier messages", () => history());
  const scope = h("input", { type: "checkbox", onchange: (event) => {
    whole = event.target.checked;
    narrow();
  } });
  const problem = h("p", { class: "problem", hidden: true });
  const element = h("section", { class: "page runpage" },
    h("a", { class: "back", href: "#/tree", text: "← Tree" }), head, now, acts, problem, about,
    h("h3", { text: "Time line" }), chart.element,
    h("div", { class: "with" }, h("h3", { text: "Transcript" }), h("label", {}, scope, h("span", { text: "of the whole session" }))), earlier, transcript.element);

  const run = () => tree.byRun(id)?.run ?? row;
  const named = () => run()?.runId ?? id;

  function narrow() {
    transcript.only(whole ? undefined : named());
  }

  /** What a run of this session does: its text as it is written, until it ends. */
  function streamed({ runId, stream, data }) {
    if (stream === "assistant") transcript.live(data.text ?? "", runId);
    else if (stream === "lifecycle" && data.phase !== "start") transcript.ended(runId);
  }

  async function show([wanted, session]) {
    id = wanted;
    key = session ?? tree.byRun(id)?.run.sessionKey;
    row = undefined;
    children = [];
    whole = scope.checked = false;
    painted = actsFor = "";
    problem.hidden = true;
    transcript.clear();
    leave();
    const own = turn;
    // Without a session there is no transcript to ask for.
    await recent();
    if (own !== turn) return;
    key ??= row?.sessionKey;
    if (!key) {
      problem.hidden = false;
      setText(problem, `Nothing is known of run ${id}. Runs of the last hour are in the time line; older ones: offshoot runs show ${id}`);
      return;
    }
    narrow();
    leaves = [
      app.connection.on("session.message", (payload) => payload.sessionKey === key && heard(payload.message)),
      app.connection.on("agent", (payload) => payload.sessionKey === key && streamed(payload)),
    ];
    const following = key;
    app.call("sessions.messages.subscribe", { key }).catch(() => {});
    leaves.push(() => app.connection.phase === "on" && app.call("sessions.messages.unsubscribe", { key: following }).catch(() => {}));
    const timer = setInterval(() => run() && isLive(run()) && recent(), CHILDREN_EVERY_MS);
    leaves.push(() => clearInterval(timer));
    offset = 0;
    await history();
    if (own !== turn) return;
    narrow();
    paint();
  }

  function heard(message) {
    const bottom = isAtBottom();
    transcript.add([message]);
    painted = "";
    paint();
    if (bottom) toBottom();
  }

  const scroller = () => document.getElementById("main");
  const isAtBottom = () => scroller().scrollHeight - scroller().scrollTop - scroller().clientHeight < 60;
  const toBottom = () => scroller().scrollTo({ top: scroller().scrollHeight });

  async function history() {
    const own = turn;
    try {
      const answer = await app.call("chat.history", { sessionKey: key, limit: MESSAGES, maxChars: MAX_CHARS, offset });
      if (own !== turn) return;
      offset = answer.nextOffset ?? 0;
      earlier.hidden = !answer.hasMore;
      transcript.add(answer.messages);
    } catch (error) {
      if (own !== turn) return;
      earlier.hidden = true;
      problem.hidden = false;
      setText(problem, `The transcript cannot be read: ${error.message}`);
    }
    painted = "";
    paint();
  }

  /** What the gateway knows of the run and those it spawned, whether they are in the tree or not. */
  async function recent() {
    const own = turn;
    const begun = run()?.acceptedAt;
    // Nothing that it spawned can have ended before it began; the clocks may differ a little.
    const sinceMs = begun ? Math.max(0, Math.round(tree.now() - begun)) + CLOCKS_MS : DAY_MS;
    try {
      const { runs } = await app.call("runs.recent", { sinceMs });
      if (own !== turn) return;
      row = runs.find((each) => each.id === id || each.runId === id) ?? row;
      children = runs.filter((each) => each.parentRun && each.parentRun === (row?.id ?? id));
    } catch {
      // The tree has what works now.
    }
    if (own !== turn) return;
    if (!run()) {
      const known = await stored();
      if (own !== turn) return;
      row = known;
    }
    paint();
  }

  /** What the store has of a run that is older: of what was spawned its task, of others no more than its name. */
  async function stored() {
    const task = await app.call("tasks.get", { taskId: id }).then((answer) => answer.task, () => undefined);
    if (!task) return key && { id, sessionKey: key, state: "ended" };
    const state = { completed: "ok", failed: "error", timed_out: "timeout" }[task.status] ?? task.status;
    const at = (time) => (typeof time === "string" ? Date.parse(time) : time);
    return { id, runId: task.runId, sessionKey: task.childSessionKey ?? key, cause: "spawn", state, label: task.title, reason: task.error, acceptedAt: at(task.createdAt), startedAt: at(task.startedAt), endedAt: at(task.endedAt) };
  }

  function paint() {
    const of = run();
    if (!of) return;
    const node = tree.byRun(id);
    const at = tree.now();
    const seen = JSON.stringify([of, children, Math.floor(at / 1000), app.rights()]);
    if (seen === painted) return;
    painted = seen;
    put(head, h("h2", { text: `Run ${shortId(of.runId ?? of.id)}` }), pill(of.state, tone({ run: of, state: "" }, at)), h("span", { class: "sub", text: of.label || node && tree.nodes.get(node.parent)?.session?.label || shortKey(of.sessionKey) }));
    setText(now, isLive(of) ? doing(node ?? { run: of }, at) || "at work" : of.state === "ended" ? "" : `Ended ${of.state}${of.reason ? `: ${of.reason}` : ""}`);
    const can = JSON.stringify([of.state, app.rights()]);
    if (can !== actsFor) {
      actsFor = can;
      put(acts, actionsOf(of, node).map((act) => button(act.text, act.work, act)));
    }
    put(about, facts([
      ["session", h("a", { href: `#/tree/${encodeURIComponent(tree.bySession(of.sessionKey)?.id ?? "")}`, text: of.sessionKey })],
      ["run", h("code", { text: of.id })], ["agent", of.agentId], ["begun by", of.cause], ["model", of.model], ["asked for", of.modelAsked !== of.model ? of.modelAsked : undefined],
      ["accepted", when(of.acceptedAt, at)], ["started", when(of.startedAt, at)], ["ended", when(of.endedAt, at)], ["took", duration(lifetime({ run: of }, at))],
      ["step", of.step && `${of.step}${of.maxSteps ? ` of ${of.maxSteps}` : ""}`],
      ["tools", of.tools?.map(tool).join(", ")], ["time left", of.deadlineAt && isLive(of) ? duration(of.deadlineAt - at) : undefined],
      ["tokens", usage(of.usage)], ["cost", cost(of.costUsd)],
      ["parent", of.parentRun && h("a", { href: `#/run/${encodeURIComponent(of.parentRun)}/${encodeURIComponent(of.parentSession ?? "")}`, text: shortId(of.parentRun) })],
      ["children", children.length || undefined],
    ]));
    chart.show(bars(of, transcript.messages, children, isLive(of) ? Math.ceil(at / 1000) * 1000 : at), at);
    if (!isLive(of)) transcript.ended(named());
  }

  function actionsOf(of, node) {
    const why = app.may("write") ? undefined : "You are signed in without the right operator.write.";
    const acts = node
      ? actionsFor(app, node).filter((act) => act.text !== "Open the run")
      : [
        { text: "Send a message", key: "message", why, work: () => send(app, of.sessionKey) },
        { text: "Copy id", work: () => copy(app, of.id) },
      ];
    if (!isLive(of) && !["ok", "ended"].includes(of.state)) acts.unshift({ text: "Try again", kind: "primary", why, work: again });
    return acts;
  }

  /** Gives the session what this run was begun with, once more. */
  async function again() {
    const first = transcript.messages.find((message) => message.role === "user" && (runOf(message) ?? named()) === named());
    if (!first) return app.toast("What the run was begun with is not in the transcript", "bad");
    await attempt(app, "Sent again", () => app.call("sessions.send", { key, message: textOf(first), idempotencyKey: crypto.randomUUID() }));
  }

  function leave() {
    turn += 1;
    for (const end of leaves) end();
    leaves = [];
  }

  return {
    title: "Run",
    element,
    show,
    hide: leave,
    changed: paint,
    ticked: paint,
    escape: () => app.go("/tree"),
    act(what) {
      const of = run();
      if (!of) return;
      const act = actionsOf(of, tree.byRun(id)).find((each) => each.key === what);
      if (act && !act.why) act.work();
      else if (what === "steer" && app.may("write")) steer(app, of.sessionKey);
    },
    /** Signed in again: what was said meanwhile is asked for. */
    again: () => show([id, key]),
  };
}
