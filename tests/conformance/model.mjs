// What the page works out, without a browser: its tree after any changes, from a seed, its time line, its words.

import fs from "node:fs";

const PAGE = new URL("../../src/gateway/page/", import.meta.url);
/** A module of the page as an address, with those that it imports: nothing says of their folder what its files are. */
function addressOf(name) {
  const source = fs.readFileSync(new URL(name, PAGE), "utf8").replace(/(?<=from ")\.\/([^"]+)/g, (_, other) => addressOf(other));
  return `data:text/javascript,${encodeURIComponent(source)}`;
}
export const page = (name) => import(addressOf(name));

const ROUNDS = 200;
const STEPS = 25;
const STATES = ["running", "ok", "error"];

/** Numbers below a bound, the same ones for the same seed. */
function dice(seed) {
  let state = seed;
  return (sides) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return (state >>> 8) % sides;
  };
}

function written(tree) {
  const out = [];
  const walk = (nodes, depth) => {
    for (const node of [...nodes].sort((a, b) => (a.id < b.id ? -1 : 1))) {
      out.push([depth, node, tree.sum(node.id), tree.byRun(node.run?.id)?.id]);
      walk(tree.children(node.id), depth + 1);
    }
  };
  walk(tree.roots(), 0);
  return JSON.stringify(out);
}

/** The cost of a tree: a session without figures of its own, with runs below it that used and cost this much. */
function costOf(Tree, subtree, ...runs) {
  const spent = ([used, costUsd]) => ({ usage: { input: used, output: 0, cached: 0 }, ...(costUsd !== undefined && { costUsd }) });
  const session = { id: "0", name: "s", kind: "session", state: "running", session: { key: "s", ...(subtree && { subtree: spent(subtree) }) } };
  const below = runs.map((run, at) => ({ id: `r${at}`, parent: "0", name: "run", kind: "run", state: "running", run: { id: `r${at}`, runId: `r${at}`, state: "ok", ...spent(run) } }));
  const tree = new Tree();
  tree.replace({ rev: 1, nodes: [session, ...below] });
  return tree.sum("0").costUsd;
}

/** A cost that is not known is shown as none, never as a part of it. */
export function checkCosts(Tree) {
  for (const [wanted, subtree, ...runs] of [
    [0.75, undefined, [9, 0.5], [9, 0.25]],
    [undefined, undefined, [9, 0.5], [9]],
    [0.5, undefined, [9, 0.5], [0]],
    [undefined, [18], [9, 0.5], [9]],
    [2, [30, 2], [9, 0.5], [9]],
  ]) {
    const cost = costOf(Tree, subtree, ...runs);
    if (cost !== wanted) throw new Error(`${JSON.stringify([subtree, ...runs])} cost ${wanted}, not ${cost}`);
  }
}

/** What crashes again and again is in trouble for as long as that goes on, and so is what does not answer. */
export function checkTroubles({ Tree, trouble }) {
  const now = Date.now();
  const actor = (id, more) => ({ id, ...(id !== "0" && { parent: "0" }), name: id, kind: "any", state: "running", restarts: 0, ...more });
  const tree = new Tree();
  const loop = actor("loop", { restarts: 3, restartedAt: now - 1_000 });
  tree.replace({ rev: 1, ts: now, nodes: [actor("0"), loop, actor("stuck", { stuck: true }), actor("once", { restarts: 1, restartedAt: now }), actor("long ago", { restarts: 9, restartedAt: now - 61_000 })] });
  const are = (wanted) => {
    const { count, actors } = tree.troubles();
    if (count !== wanted.length || String(actors) !== String(wanted)) throw new Error(`${wanted} are in trouble, not ${count}: ${actors}`);
  };
  are(["loop", "stuck"]);
  if (trouble(loop, now) !== "crash loop") throw new Error(`a crash loop is called ${trouble(loop, now)}`);
  // A minute later by the gateway's clock, without a change of the actor.
  tree.apply({ base: 1, rev: 2, ts: now + 61_000, changed: [], gone: [] });
  are(["stuck"]);
  tree.apply({ base: 2, rev: 3, ts: now + 61_000, changed: [], gone: ["stuck"] });
  are([]);
}

/** How long nobody has answered is said, whether a message is in hand or messages wait and none is taken. */
export function checkWords({ doing }) {
  const now = 1_800_000_000_000;
  for (const [wanted, node] of [
    ["not answering for 4.2 s: commit in hand", { inHand: { message: "commit", since: now - 4_200 }, waitsSince: now - 4_000, mailbox: 3 }],
    ["not answering for 4.2 s: 3 messages wait", { waitsSince: now - 4_200, mailbox: 3 }],
    ["not answering for 1 m 5 s: 1 message waits", { waitsSince: now - 65_000, mailbox: 1 }],
    ["not answering", { mailbox: 0 }],
  ]) {
    const said = doing({ id: "7", name: "store", kind: "store", state: "running", stuck: true, ...node }, now);
    if (said !== wanted) throw new Error(`${JSON.stringify(node)} is "${said}", not "${wanted}"`);
  }
}

/** In the time line every run has its bar, below that of the run that spawned it, and no two are over each other. */
export function checkLanes({ place, completeSince }) {
  const now = 100_000;
  for (let seed = 1; seed <= ROUNDS; seed += 1) {
    const roll = dice(seed);
    const runs = [];
    for (let at = roll(60); at >= 0; at -= 1) {
      const parent = roll(3) ? runs[roll(runs.length + 1)] : undefined;
      const acceptedAt = roll(now);
      const startedAt = roll(4) ? acceptedAt + roll(500) : undefined;
      const endedAt = roll(4) ? (startedAt ?? acceptedAt) + roll(20_000) : undefined;
      // Some were spawned by runs that are no longer told.
      runs.push({ id: `r${at}`, acceptedAt, startedAt, endedAt, parentRun: parent?.id ?? (roll(5) ? undefined : "gone") });
    }
    const { rows, placed } = place(runs, now);
    const wrong = (what) => {
      throw new Error(`seed ${seed}: ${what}`);
    };
    const rowOf = new Map(placed.map((bar) => [bar.run.id, bar.row]));
    if (placed.length !== runs.length || rowOf.size !== runs.length) wrong(`${placed.length} bars of ${rowOf.size} runs, not ${runs.length}`);
    for (const { run, row, from, to } of placed) {
      if (from !== (run.startedAt ?? run.acceptedAt) || to !== (run.endedAt ?? now)) wrong(`${run.id} goes from ${from} to ${to}`);
      if (row < 0 || row >= rows) wrong(`${run.id} is in row ${row} of ${rows}`);
      if (rowOf.has(run.parentRun) && rowOf.get(run.parentRun) >= row) wrong(`${run.id} in row ${row} is not below ${run.parentRun}`);
    }
    for (const [at, one] of placed.entries()) {
      for (const other of placed.slice(at + 1)) {
        if (one.row === other.row && one.from < other.to && other.from < one.to) wrong(`${one.run.id} and ${other.run.id} are over each other`);
      }
    }
  }
  const ended = (count) => Array.from({ length: count }, (_, at) => ({ id: `r${at}`, acceptedAt: at, endedAt: 5_000 + ((at * 7) % count) }));
  const live = { id: "live", acceptedAt: 1 };
  for (const [runs, wanted] of [[[live], undefined], [[...ended(999), live], undefined], [[live, ...ended(1_000)], 5_000]]) {
    const since = completeSince(runs);
    if (since !== wanted) throw new Error(`${runs.length} runs are complete since ${since}, not ${wanted}`);
  }
}

/** Throws at the first difference. */
export function checkModel(Tree) {
  for (let seed = 1; seed <= ROUNDS; seed += 1) {
    const roll = dice(seed);
    const made = (id, parent) => {
      const run = roll(2) ? { id: `run ${id}`, runId: `name ${id}`, state: STATES[roll(3)], usage: { input: roll(9), output: 1, cached: 0 } } : undefined;
      return { id, ...(parent && { parent }), name: `n${roll(40)}`, kind: "session", state: "running", ...(run && { run }) };
    };
    const live = new Map([["0", made("0")]]);
    const isBelow = (id, above) => {
      for (let node = live.get(id); node; node = live.get(node.parent)) if (node.id === above) return true;
      return false;
    };
    const tree = new Tree();
    let rev = 1;
    tree.replace({ rev, nodes: structuredClone([...live.values()]) });
    for (let step = 0; step < STEPS; step += 1) {
      const before = structuredClone(live);
      for (let change = roll(4); change >= 0; change -= 1) {
        const ids = [...live.keys()];
        const some = ids[1 + roll(ids.length)] ?? "0";
        const kind = some === "0" ? 0 : roll(4);
        if (kind === 1) for (const id of ids.filter((id) => isBelow(id, some))) live.delete(id);
        else if (kind === 2) {
          const parent = ids[roll(ids.length)];
          live.set(some, made(some, isBelow(parent, some) ? live.get(some).parent : parent));
        } else {
          const id = `${seed}.${step}.${change}`;
          live.set(id, made(id, ids[roll(ids.length)]));
        }
      }
      const changed = [...live.values()].filter((node) => JSON.stringify(before.get(node.id)) !== JSON.stringify(node));
      const gone = [...before.keys()].filter((id) => !live.has(id));
      if (roll(2)) changed.reverse();
      const base = rev;
      rev += 1;
      if (!tree.apply({ base, rev, changed: structuredClone(changed), gone }).fits) throw new Error("the change does not fit");
      const fresh = new Tree();
      fresh.replace({ rev, nodes: structuredClone([...live.values()]) });
      if (written(tree) !== written(fresh)) throw new Error(`seed ${seed}, step ${step}: ${written(tree)}\nis not ${written(fresh)}`);
    }
  }
}
