// The tree as the gateway tells it: one snapshot, then what changed, and the sums below each node.

const LIVE = new Set(["queued", "running", "yielded", "ending"]);
const FAILED = new Set(["error", "timeout", "crashed", "interrupted"]);

export const isLive = (run) => LIVE.has(run.state);
export const isFailed = (run) => FAILED.has(run.state);

/** What is wrong with a node itself, as a word; nothing if all is well. */
export function trouble(node) {
  if (node.stuck) return "not answering";
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

export class Tree {
  rev = 0;
  nodes = new Map();
  totals = undefined;
  lanes = [];
  truncated = false;
  startedAt = undefined;
  #children = new Map();
  #sums = undefined;
  /** The gateway's clock less this one's. */
  #ahead = 0;
  #byRun = new Map();
  #bySession = new Map();

  /** The gateway's time. */
  now() {
    return Date.now() + this.#ahead;
  }

  /** Takes a whole tree. */
  replace(snapshot) {
    this.nodes = new Map(snapshot.nodes.map((node) => [node.id, node]));
    this.startedAt = snapshot.startedAt ?? this.startedAt;
    this.#take(snapshot);
    this.#index();
  }

  /** Takes a change. Says whether it fits what is known; if not, a snapshot must be asked for. */
  apply(delta) {
    if (delta.full) {
      this.replace(delta);
      return { fits: true, structure: true, ended: [] };
    }
    if (delta.base !== this.rev) return { fits: false };
    let structure = delta.gone?.length > 0;
    const ended = [];
    for (const node of delta.changed ?? []) {
      const before = this.nodes.get(node.id);
      if (!before || before.parent !== node.parent || before.name !== node.name) structure = true;
      if (node.run && !isLive(node.run) && (!before?.run || isLive(before.run))) ended.push(node);
      this.nodes.set(node.id, node);
    }
    for (const id of delta.gone ?? []) this.nodes.delete(id);
    this.#take(delta);
    if (structure) this.#index();
    else this.#sums = undefined;
    return { fits: true, structure, ended };
  }

  #take({ rev, ts, totals, lanes, truncated }) {
    this.rev = rev;
    this.truncated = truncated ?? this.truncated;
    if (ts) this.#ahead = ts - Date.now();
    this.totals = totals ?? this.totals;
    this.lanes = lanes ?? this.lanes;
  }

  #index() {
    this.#sums = undefined;
    this.#children = new Map();
    this.#byRun = new Map();
    this.#bySession = new Map();
    for (const node of this.nodes.values()) {
      // Whose parent is not there stands at the top rather than nowhere.
      const parent = this.nodes.has(node.parent) ? node.parent : "";
      const siblings = this.#children.get(parent);
      if (siblings) siblings.push(node);
      else this.#children.set(parent, [node]);
      if (node.run) {
        this.#byRun.set(node.run.id, node.id);
        if (node.run.runId) this.#byRun.set(node.run.runId, node.id);
      }
      if (node.session) this.#bySession.set(node.session.key, node.id);
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
    while (node && path.length < 256) {
      path.push(node);
      node = this.nodes.get(node.parent);
    }
    return path;
  }

  /** The runs below and at a node, those in trouble, what they used and cost. */
  sum(id) {
    if (!this.#sums) {
      this.#sums = new Map();
      for (const root of this.roots()) this.#add(root, 0);
    }
    return this.#sums.get(id) ?? { live: 0, runs: 0, troubles: 0, nodes: 0, usage: { input: 0, output: 0, cached: 0 }, costUsd: undefined };
  }

  #add(node, depth) {
    const sum = { live: 0, runs: 0, troubles: trouble(node) ? 1 : 0, nodes: 1, usage: { input: 0, output: 0, cached: 0 }, costUsd: undefined };
    if (node.run) {
      sum.runs = 1;
      sum.live = isLive(node.run) ? 1 : 0;
    }
    // Deeper than any tree grows: whoever sends a ring is not followed round it.
    for (const child of depth < 256 ? this.children(node.id) : []) {
      const below = this.#add(child, depth + 1);
      sum.live += below.live;
      sum.runs += below.runs;
      sum.troubles += below.troubles;
      sum.nodes += below.nodes;
      add(sum.usage, below.usage);
      if (below.costUsd !== undefined) sum.costUsd = (sum.costUsd ?? 0) + below.costUsd;
    }
    // The gateway also counts runs that are no longer shown.
    const own = node.session?.subtree ?? (node.run && this.children(node.id).length === 0 ? node.run : undefined);
    if (own?.usage) {
      sum.usage = { input: 0, output: 0, cached: 0 };
      add(sum.usage, own.usage);
    }
    if (own?.costUsd !== undefined) sum.costUsd = own.costUsd;
    this.#sums.set(node.id, sum);
    return sum;
  }
}
