// The tree as the gateway tells it: one snapshot, then what changed, and the sums below each node.

const LIVE = new Set(["queued", "running", "yielded", "ending"]);
const FAILED = new Set(["error", "timeout", "crashed", "interrupted"]);

export const isLive = (run) => LIVE.has(run.state);
export const isFailed = (run) => FAILED.has(run.state);

/** Restarts of one actor, and how long ago the last one is, that make a crash loop: as in actors/src/policy/watch.rs. */
const LOOP_RESTARTS = 3;
const LOOP_WITHIN_MS = 60_000;

/** Whether an actor crashes again and again; `now` is the gateway's time. */
export const loops = (node, now) => (node.restarts ?? 0) >= LOOP_RESTARTS && node.restartedAt !== undefined && now - node.restartedAt <= LOOP_WITHIN_MS;

/** What is wrong with a node itself, as a word; nothing if all is well. `now` is the gateway's time. */
export function trouble(node, now) {
  if (node.stuck) return "not answering";
  if (loops(node, now)) return "crash loop";
  if (node.run?.silent && isLive(node.run)) return "silent";
  if (node.run && isFailed(node.run)) return node.run.state;
  if (node.state === "rebuilding") return "rebuilding";
  return undefined;
}

const add = (sum, usage) => {
  if (!usage) return;
  sum.input += usage.input ?? 0;
  sum.output += usage.output ?? 0;
  sum.cached += usage.cached ?? 0;
};

/** Makes a node what another is: whoever holds it sees that. */
function become(node, other) {
  for (const name of Object.keys(node)) if (!(name in other)) delete node[name];
  Object.assign(node, other);
}

/** Where a node stands among its siblings: runs first, as they began, then the others as they are called. */
const place = ({ run, session, name }) => (run ? ` ${run.acceptedAt}` : (session?.label || session?.key || name).toLowerCase());

function before(a, b) {
  const [one, other] = [place(a), place(b)];
  return one < other ? -1 : one > other ? 1 : 0;
}

const NOTHING = Object.freeze({ live: 0, runs: 0, troubles: 0, nodes: 0, usage: Object.freeze({ input: 0, output: 0, cached: 0 }), costUsd: undefined });
/** Deeper than any tree grows: whoever sends a ring is not followed round it. */
const DEEPEST = 256;

export class Tree {
  rev = 0;
  nodes = new Map();
  totals = undefined;
  lanes = [];
  truncated = false;
  startedAt = undefined;
  /** The nodes below each, in order; below "" those at the top. */
  #children = new Map();
  /** What is known of the sums: those of whatever changed, and of all above it, are taken anew. */
  #sums = new Map();
  /** The gateway's clock less this one's. */
  #ahead = 0;
  #byRun = new Map();
  #bySession = new Map();
  /** The crash loops among the known sums: they end without a change of the tree. */
  #loops = new Set();
  /** The actors in trouble that are neither sessions nor runs. */
  #troubled = new Set();

  /** The gateway's time. */
  now() {
    return Date.now() + this.#ahead;
  }

  /** Takes a whole tree. */
  replace(snapshot) {
    this.startedAt = snapshot.startedAt ?? this.startedAt;
    this.#take(snapshot);
    this.nodes = new Map(snapshot.nodes.map((node) => [node.id, node]));
    this.#sums.clear();
    this.#children.clear();
    this.#byRun.clear();
    this.#bySession.clear();
    this.#loops.clear();
    this.#troubled.clear();
    for (const node of this.nodes.values()) {
      const parent = this.#parent(node);
      const siblings = this.#children.get(parent);
      if (siblings) siblings.push(node);
      else this.#children.set(parent, [node]);
      this.#name(node);
    }
    for (const siblings of this.#children.values()) siblings.sort(before);
  }

  /** Takes a change. Says whether it fits what is known; if not, a snapshot must be asked for. */
  apply(delta) {
    if (delta.full) {
      this.replace(delta);
      return { fits: true, structure: true, ended: [] };
    }
    if (delta.base !== this.rev) return { fits: false };
    let structure = false;
    const ended = [];
    for (const node of delta.changed ?? []) {
      const known = this.nodes.get(node.id);
      if (node.run && !isLive(node.run) && (!known?.run || isLive(known.run))) ended.push(node);
      if (known && known.parent === node.parent && place(known) === place(node)) {
        become(known, node);
        this.#name(known);
        this.#forget(known);
        continue;
      }
      structure = true;
      if (known) this.#unlink(known);
      this.nodes.set(node.id, node);
      this.#link(node);
    }
    for (const id of delta.gone ?? []) {
      const node = this.nodes.get(id);
      if (!node) continue;
      structure = true;
      this.#unlink(node);
      this.nodes.delete(id);
    }
    for (const id of delta.gone ?? []) {
      const left = (this.#children.get(id) ?? []).filter((child) => this.nodes.has(child.id));
      this.#children.delete(id);
      for (const child of left) this.#link(child);
    }
    this.#take(delta);
    return { fits: true, structure, ended };
  }

  #take({ rev, ts, totals, lanes, truncated }) {
    this.rev = rev;
    this.truncated = truncated ?? this.truncated;
    if (ts) this.#ahead = ts - Date.now();
    this.totals = totals ?? this.totals;
    this.lanes = lanes ?? this.lanes;
  }

  /** Whose parent is not there stands at the top rather than nowhere. */
  #parent(node) {
    return this.nodes.has(node.parent) ? node.parent : "";
  }

  #name(node) {
    if (node.run) {
      this.#byRun.set(node.run.id, node.id);
      this.#byRun.set(node.run.runId, node.id);
    }
    if (node.session) this.#bySession.set(node.session.key, node.id);
  }

  /** Puts a node below its parent, in its place, and below it whatever waited for it at the top. */
  #link(node) {
    const parent = this.#parent(node);
    const siblings = this.#children.get(parent) ?? [];
    const at = siblings.findIndex((other) => before(node, other) < 0);
    siblings.splice(at < 0 ? siblings.length : at, 0, node);
    this.#children.set(parent, siblings);
    const waited = this.roots().filter((root) => root.parent === node.id);
    for (const root of waited) {
      this.#drop("", root);
      this.#link(root);
    }
    this.#name(node);
    this.#forget(node);
  }

  /** Takes a node from below its parent. What stands below it does so until it is told where to. */
  #unlink(node) {
    this.#forget(node);
    this.#loops.delete(node.id);
    this.#troubled.delete(node.id);
    this.#drop(this.#parent(node), node);
    const { run, session } = node;
    if (run && this.#byRun.get(run.id) === node.id) {
      this.#byRun.delete(run.id);
      this.#byRun.delete(run.runId);
    }
    if (session && this.#bySession.get(session.key) === node.id) this.#bySession.delete(session.key);
  }

  #drop(parent, node) {
    const siblings = this.#children.get(parent) ?? [];
    const at = siblings.indexOf(node);
    if (at >= 0) siblings.splice(at, 1);
    if (siblings.length === 0) this.#children.delete(parent);
  }

  /** What is known of the sums of a node and of those above is of before. */
  #forget(node) {
    for (let depth = 0; node && depth < DEEPEST; depth += 1) {
      this.#sums.delete(node.id);
      node = this.nodes.get(node.parent);
    }
  }

  roots() {
    return this.#children.get("") ?? [];
  }

  children(id) {
    return this.#children.get(id) ?? [];
  }

  byRun(id) {
    return this.nodes.get(this.#byRun.get(id));
  }

  bySession(key) {
    return this.nodes.get(this.#bySession.get(key));
  }

  /** The node of a session's newest run. */
  newestRun(id) {
    let newest;
    for (const child of this.children(id)) {
      if (child.run && (!newest || (child.run.acceptedAt ?? 0) >= (newest.run.acceptedAt ?? 0))) newest = child;
    }
    return newest;
  }

  /** The nodes above, the nearest first. */
  above(id) {
    const path = [];
    let node = this.nodes.get(this.nodes.get(id)?.parent);
    while (node && path.length < DEEPEST) {
      path.push(node);
      node = this.nodes.get(node.parent);
    }
    return path;
  }

  /** The runs below and at a node, those in trouble, what they used and cost. */
  sum(id) {
    const node = this.nodes.get(id);
    if (this.#loops.size) this.#settle();
    return node ? this.#sum(node, 0) : NOTHING;
  }

  /** How many are in trouble, and which of them are neither sessions nor runs. */
  troubles() {
    const count = this.roots().reduce((all, { id }) => all + this.sum(id).troubles, 0);
    return { count, actors: [...this.#troubled] };
  }

  /** Crash loops whose last restart is a while ago are none any more. */
  #settle() {
    const now = this.now();
    for (const id of this.#loops) {
      const node = this.nodes.get(id);
      if (node && loops(node, now)) continue;
      this.#loops.delete(id);
      this.#forget(node);
    }
  }

  #sum(node, depth) {
    const known = this.#sums.get(node.id);
    if (known) return known;
    const now = this.now();
    const wrong = trouble(node, now);
    if (loops(node, now)) this.#loops.add(node.id);
    if (wrong && !node.run && !node.session) this.#troubled.add(node.id);
    else this.#troubled.delete(node.id);
    const sum = { live: 0, runs: 0, troubles: wrong ? 1 : 0, nodes: 1, usage: { input: 0, output: 0, cached: 0 }, costUsd: undefined };
    if (node.run) {
      sum.runs = 1;
      sum.live = isLive(node.run) ? 1 : 0;
    }
    // A sum that leaves a cost out would look like less than it is.
    let complete = true;
    for (const child of depth < DEEPEST ? this.children(node.id) : []) {
      const below = this.#sum(child, depth + 1);
      sum.live += below.live;
      sum.runs += below.runs;
      sum.troubles += below.troubles;
      sum.nodes += below.nodes;
      add(sum.usage, below.usage);
      if (below.costUsd !== undefined) sum.costUsd = (sum.costUsd ?? 0) + below.costUsd;
      else if (below.usage.input || below.usage.output) complete = false;
    }
    if (!complete) sum.costUsd = undefined;
    // The gateway also counts runs that are no longer shown.
    const own = node.session?.subtree ?? node.run;
    if (own?.usage) {
      sum.usage = { input: 0, output: 0, cached: 0 };
      add(sum.usage, own.usage);
      sum.costUsd = own.costUsd;
    }
    this.#sums.set(node.id, sum);
    return sum;
  }
}
