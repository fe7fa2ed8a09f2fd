// Where each run stands in the time line: parents over their children, no two bars over each other.

/** Ended runs that the gateway keeps, the newest: `MAX_ENDED` in actors/src/watch/book.rs. */
const KEPT = 1_000;
/** Bars closer than this are taken to touch, so that no text stands on another. */
const GAP_MS = 1;

/** From when on no run is missing, where more have ended than are kept. */
export function completeSince(runs) {
  const ended = runs.filter((run) => run.endedAt !== undefined);
  return ended.length < KEPT ? undefined : ended.reduce((first, run) => Math.min(first, run.endedAt), Infinity);
}

/**
 * Gives every run its row. Each run that nobody spawned begins a block; what it spawned is packed below it, and the
 * block goes where it first fits. Returns `{rows, placed: [{run, row, from, to}]}`.
 */
export function place(runs, now) {
  const children = new Map();
  const known = new Set(runs.map((run) => run.id));
  const roots = [];
  for (const run of runs) {
    const parent = known.has(run.parentRun) ? run.parentRun : undefined;
    if (parent === undefined) roots.push(run);
    else if (children.has(parent)) children.get(parent).push(run);
    else children.set(parent, [run]);
  }
  const begins = (run) => run.startedAt ?? run.acceptedAt;
  const order = (a, b) => begins(a) - begins(b);
  /** A block: its bars with rows from 0, and what it occupies in each row. */
  const block = (run, depth) => {
    const bars = [{ run, row: 0, from: begins(run), to: run.endedAt ?? now }];
    const taken = [[bars[0]]];
    const below = depth < 64 ? (children.get(run.id) ?? []).sort(order) : [];
    for (const child of below) lay(block(child, depth + 1), bars, taken, 1);
    return { bars, taken };
  };
  const bars = [];
  const taken = [];
  for (const root of roots.sort(order)) lay(block(root, 0), bars, taken, 0);
  return { rows: taken.length, placed: bars };
}

/** Puts a block into rows from `least` on, at the first place where nothing of it meets what is there. */
function lay(block, bars, taken, least) {
  const span = block.taken.map((row) => ({ from: Math.min(...row.map((bar) => bar.from)), to: Math.max(...row.map((bar) => bar.to)) }));
  const fits = (top) =>
    span.every(({ from, to }, row) => (taken[top + row] ?? []).every((bar) => bar.to + GAP_MS <= from || to + GAP_MS <= bar.from));
  let top = least;
  while (!fits(top)) top += 1;
  for (const bar of block.bars) {
    bar.row += top;
    bars.push(bar);
    (taken[bar.row] ??= []).push(bar);
  }
}
