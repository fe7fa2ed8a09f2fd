// The details of one actor, session or run, and what may be done to it.

import { actionsFor } from "./actions.js";
import { button, facts, h, pill, put } from "./dom.js";
import { clock, cost, duration, usage, when } from "./format.js";
import { isLive, trouble } from "./model.js";
import { doing, lifetime, name, state, tone, tool } from "./words.js";

export function detail(app, onLeave) {
  const { tree } = app;
  let id;
  let painted = "";
  const head = h("div", { class: "head" });
  const acts = h("div", { class: "acts" });
  const body = h("div", { class: "body" });
  const element = h("aside", { class: "side", "aria-label": "Details", tabindex: -1 },
    button("×", onLeave, { kind: "close", label: "Close the details" }), head, acts, body);

  function paint() {
    const node = id === undefined ? undefined : tree.nodes.get(id);
    element.hidden = id === undefined;
    if (id === undefined) return;
    if (!node) {
      if (painted !== "gone") {
        painted = "gone";
        put(acts);
        put(body, h("p", { class: "empty", text: "It is no longer there." }));
      }
      return;
    }
    const now = tree.now();
    // What is written changes far less often than the tree does, and a person may be selecting text here.
    const key = JSON.stringify([node, tree.sum(id), tree.newestRun(id), Math.floor(now / 1000), app.rights()]);
    if (key === painted) return;
    painted = key;
    const wrong = trouble(node, now);
    put(head, h("h2", { text: name(node) }), pill(state(node), tone(node, now, tree.newestRun(node.id))), wrong && wrong !== state(node) ? pill(wrong, tone(node, now)) : null);
    if (acts.dataset.key !== actsKey(node)) {
      acts.dataset.key = actsKey(node);
      put(acts, actionsFor(app, node).map((act) => button(act.text, act.work, act)));
    }
    put(body, sections(node, now));
  }

  const actsKey = (node) => JSON.stringify([node.id, state(node), node.session?.awake, app.rights(), tree.sum(node.id).live > 0]);

  function sections(node, now) {
    const { session } = node;
    const newest = session ? tree.newestRun(node.id) : undefined;
    const run = node.run ?? newest?.run;
    const sum = tree.sum(node.id);
    const path = tree.above(node.id).reverse();
    return [
      doing(node, now, newest) ? h("p", { class: "doing", text: doing(node, now, newest) }) : null,
      path.length ? h("nav", { class: "trail", "aria-label": "Above" }, path.map((above) => h("a", { href: `#/tree/${encodeURIComponent(above.id)}`, text: name(above) }))) : null,
      newest ? h("h3", { text: "Newest run" }) : null,
      run ? runFacts(run, now) : null,
      newest ? h("h3", { text: "Session" }) : null,
      session ? facts([
        ["session", h("code", { text: session.key })], ["agent", session.agentId], ["label", session.label], ["mode", session.mode], ["depth", session.depth],
        ["children", session.children && `${session.children.live ?? 0} at work, ${session.children.done ?? 0} done, ${session.children.failed ?? 0} failed`],
        ["tokens", usage(session.usage)], ["cost", cost(session.costUsd)],
        ["with all below", [usage(session.subtree?.usage), cost(session.subtree?.costUsd)].filter(Boolean).join(", ")],
      ]) : null,
      !node.run && !session && sum.runs ? facts([["runs below", `${sum.runs}, ${sum.live} at work`], ["tokens below", usage(sum.usage)], ["cost below", cost(sum.costUsd)]]) : null,
      actorFacts(node, now),
    ];
  }

  function runFacts(run, now) {
    return [
      facts([
        ["run", h("code", { text: run.runId ?? run.id })], ["session", h("code", { text: run.sessionKey })], ["agent", run.agentId], ["begun by", run.cause],
        ["why it ended", isLive(run) ? undefined : run.reason || run.state],
        ["model", run.model], ["asked for", run.modelAsked !== run.model ? run.modelAsked : undefined],
        ["lane", run.lane && `${run.lane}${run.lanePosition ? `, place ${run.lanePosition}` : ""}`],
        ["step", run.step && `${run.step}${run.maxSteps ? ` of ${run.maxSteps}` : ""}`],
        ["accepted", when(run.acceptedAt, now)], ["started", when(run.startedAt, now)], ["ended", when(run.endedAt, now)],
        ["took", duration(lifetime({ run }, now))],
        ["silent for", run.silentSince && isLive(run) ? duration(now - run.silentSince) : undefined],
        ["time left", run.deadlineAt && isLive(run) ? duration(run.deadlineAt - now) : undefined],
        ["tokens", usage(run.usage)], ["cost", cost(run.costUsd)],
      ]),
      run.tools?.length ? h("ul", { class: "tools-now" }, run.tools.map((each) => h("li", {}, h("code", { text: tool(each) }), each.since ? ` for ${duration(now - each.since)}` : ""))) : null,
      run.text ? h("blockquote", { class: "said", text: run.text }) : null,
    ];
  }

  function actorFacts(node, now) {
    // What sleeps or has ended is no actor.
    if (/^[rs]:/.test(node.id)) return null;
    return h("details", { open: !node.run && !node.session },
      h("summary", { text: "Actor" }),
      facts([
        ["path", h("code", { text: node.path })], ["number", node.id], ["kind", node.kind], ["state", node.state],
        ["started", node.since && `${when(node.since, now)} (${duration(now - node.since)} ago)`],
        ["restarts", node.restarts || undefined], ["restarted", node.restartedAt && when(node.restartedAt, now)], ["last failure", node.lastFailure],
        ["mailbox", node.mailbox !== undefined ? `${node.mailbox} (at most ${node.mailboxHigh ?? node.mailbox})` : undefined],
        ["messages handled", node.handled], ["busy for", node.busyMs !== undefined ? duration(node.busyMs) : undefined],
        ["in hand", node.inHand && `${node.inHand.message} for ${duration(now - node.inHand.since)}`],
        ["messages wait", node.waitsSince && `for ${duration(now - node.waitsSince)}, none is taken`],
        ["last progress", node.progressAt && clock(node.progressAt)],
      ]));
  }

  return {
    element,
    show(next) {
      id = next;
      painted = "";
      acts.dataset.key = "";
      paint();
    },
    shows: () => id !== undefined,
    changed: paint,
    focus: () => element.focus(),
    act(what) {
      const node = tree.nodes.get(id);
      const act = node && actionsFor(app, node).find((each) => each.key === what);
      if (act && !act.why) act.work();
    },
  };
}
