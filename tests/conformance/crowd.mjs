// A tree of thousands between the gateway and the page: everything else comes from the gateway itself. With it the page's
// own speed is measured.

const STATES = ["running", "running", "queued", "running", "yielded", "ok", "error", "running"];
const WORDS = ["collect sources", "compare figures", "write summary", "check quotes", "translate", "search archive"];

/** A tree that grows: its nodes, and what adds to them. */
function grown() {
  const now = Date.now();
  const nodes = [];
  const actor = (parent, name, kind, more) => {
    const id = String(nodes.length + 1);
    nodes.push({ id, ...(parent && { parent }), name, path: `offshoot/${name}`, kind, state: "running", since: now - 60_000, restarts: 0, mailbox: 0, mailboxHigh: 1, handled: 7, busyMs: 1.5, progressAt: now, ...more });
    return id;
  };
  const session = (parent, at, depth) => {
    const key = `agent:main:subagent:${String(at).padStart(6, "0")}`;
    const state = STATES[at % STATES.length];
    const usage = { input: 900 + at, output: 120, cached: 0 };
    const id = actor(parent, key, "session", {
      session: { key, agentId: "main", label: `${WORDS[at % WORDS.length]} ${at}`, mode: "run", depth, awake: true, status: state, children: { live: 0, done: 0, failed: 0 }, usage, costUsd: 0.01, subtree: { usage, costUsd: 0.01 } },
    });
    const run = { id: `run-${at}`, runId: `run-${at}`, sessionKey: key, cause: "spawn", state, doing: "model", lane: "subagent", depth, modelAsked: "p/m", model: "p/m", acceptedAt: now - 30_000, startedAt: now - 29_000, silentSince: now, step: 2, text: "comparing the first table with the second", usage, costUsd: 0.01 };
    if (state === "ok" || state === "error") Object.assign(run, { endedAt: now - 2000, reason: state === "error" ? "the provider has failed" : undefined });
    actor(id, "run", "run", { run });
    return id;
  };
  const root = actor(undefined, "offshoot", "root");
  const sessions = actor(root, "sessions", "sessions");
  return { nodes, actor, session, root, sessions };
}

/** `count` nodes: sessions, each with its run, ten to a lead. */
export function crowd(count) {
  const { nodes, session, sessions } = grown();
  let lead;
  for (let at = 0; nodes.length + 2 <= count; at += 1) {
    if (at % 10 === 0) lead = session(sessions, at, 1);
    else session(lead, at, 2);
  }
  return nodes;
}

/** A tree in which all is well, and what goes wrong in it: `wrong` are nodes as they become, `says` what each row is to say then. */
export function troubles() {
  const { nodes, actor, session, root, sessions } = grown();
  const now = Date.now();
  for (const name of ["store", "outbox", "telegram"]) actor(root, name, name);
  // Every eighth fails; these do not.
  for (const at of [0, 1, 3]) session(sessions, at, 1);
  const named = (name) => nodes.find((node) => node.name === name);
  const runs = nodes.filter(({ run }) => run);
  const silent = (node, ago, more) => ({ ...node, run: { ...node.run, silent: true, silentSince: now - ago, ...more } });
  const tools = [{ name: "exec", arg: "make world", since: now - 130_000 }];
  return {
    nodes,
    wrong: [
      { ...named("store"), stuck: true, inHand: { message: "commit", since: now - 4_200 } },
      { ...named("outbox"), stuck: true, mailbox: 3, waitsSince: now - 3_100 },
      { ...named("telegram"), restarts: 4, restartedAt: now - 1_000, lastFailure: "no such host" },
      silent(runs[0], 130_000, { doing: "tools", tools }),
      silent(runs[1], 125_000),
    ],
    says: {
      store: /^not answering for [\d.]+ s: commit in hand$/,
      outbox: /^not answering for [\d.]+ s: 3 messages wait$/,
      telegram: /^crash loop: restarted 4 times, last [\d.]+ s ago: no such host$/,
      "run run-0": /^silent for 2 m \d+ s, in exec\(make world\) for 2 m \d+ s$/,
      "run run-1": /^silent for 2 m \d+ s$/,
    },
  };
}

/** Puts the crowd before the page. `change` changes as many nodes as it is told, in one event; `become` these ones. */
export async function before(context, nodes) {
  let rev = 1;
  let say;
  const totals = { usage: { input: 1, output: 1, cached: 0 }, actors: nodes.length, runs: { running: 1, queued: 1, yielded: 1 } };
  const lanes = [{ name: "subagent", active: 8, queued: 3, limit: 8 }];
  const snapshot = () => ({ ts: Date.now(), startedAt: Date.now() - 60_000, rev, total: nodes.length, truncated: false, lanes, totals, nodes });
  await context.routeWebSocket(/.*/, (socket) => {
    const gateway = socket.connectToServer();
    gateway.onMessage((text) => socket.send(text));
    socket.onMessage((text) => {
      const { id, method } = JSON.parse(text);
      const answer = { "tree.get": snapshot, "tree.subscribe": () => ({ subscribed: true, snapshot: snapshot() }) }[method];
      if (!answer) {
        gateway.send(text);
        return;
      }
      socket.send(JSON.stringify({ type: "res", id, ok: true, payload: answer() }));
      say = (payload) => socket.send(JSON.stringify({ type: "event", event: "tree", payload }));
    });
  });
  let turn = 0;
  return {
    change(many, { grow = false } = {}) {
      const base = rev++;
      const changed = [];
      for (let at = 0; at < many; at += 1) {
        const node = nodes[(turn++ * 7919) % nodes.length];
        node.handled += 1;
        if (node.run) node.run.step += 1;
        changed.push(node);
      }
      if (grow) {
        const id = `new-${rev}`;
        const node = { ...nodes[0], id, parent: nodes[1].id, name: id, kind: "session", session: { ...nodes[2].session, key: `agent:main:${id}`, label: id } };
        nodes.push(node);
        changed.push(node);
      }
      say({ rev, base, ts: Date.now(), changed, gone: [], totals, lanes });
    },
    become(changed) {
      const base = rev++;
      say({ rev, base, ts: Date.now(), changed, gone: [], totals, lanes });
    },
  };
}
