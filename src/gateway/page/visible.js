// Which rows the tree shows, in which order: what is filtered out, searched for, sorted and collapsed.

import { tokens } from "./format.js";
import { isLive, trouble } from "./model.js";
import { isWork, lifetime, name } from "./words.js";

/** An actor in trouble is of interest, whoever began it. */
const isWorkOrTrouble = (node, now) => isWork(node) || trouble(node, now) !== undefined;

export const SHOWS = {
  sessions: { text: "Sessions", keeps: (node, now) => !node.run && isWorkOrTrouble(node, now) },
  work: { text: "Sessions and runs", keeps: (node, now) => isWorkOrTrouble(node, now) },
  all: { text: "All actors", keeps: () => true },
  live: { text: "Runs at work", keeps: (node) => Boolean(node.run && isLive(node.run)) || node.stuck },
  trouble: { text: "In trouble", keeps: (node, now) => trouble(node, now) !== undefined },
};

const newest = (node) => node.run?.acceptedAt ?? node.since ?? 0;
/** Each returns a number; more comes first. By name they stand already. */
export const SORTS = {
  name: { text: "name" },
  newest: { text: "newest", of: newest },
  oldest: { text: "longest", of: (node, tree) => lifetime(node, tree.now()) ?? -1 },
  cost: { text: "cost", of: (node, tree) => tree.sum(node.id).costUsd ?? -1 },
  tokens: { text: "tokens", of: (node, tree) => tokens(tree.sum(node.id).usage) },
  live: { text: "runs at work", of: (node, tree) => tree.sum(node.id).live },
  mailbox: { text: "mailbox", of: (node) => node.mailbox ?? 0 },
};

/** What a search looks at. */
const searched = (node) =>
  [name(node), node.name, node.path, node.kind, node.session?.key, node.session?.label, node.run?.id, node.run?.runId, node.run?.state, node.run?.model, node.run?.reason]
    .filter(Boolean)
    .join("\n")
    .toLowerCase();

/** Whether every word of the search is in it. */
function finder(search) {
  const words = search.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return undefined;
  return (node) => {
    const text = searched(node);
    return words.every((word) => text.includes(word));
  };
}

/**
 * The rows from top to bottom: `{node, level, place, of, open}`; `open` is undefined where there is nothing below.
 * What leads to a row that is shown is shown, too, marked as `path`. Where runs have no rows, a session
 * `folds` them into its own.
 */
export function rows(tree, { show, search, sort, collapsed }) {
  const now = tree.now();
  const keeps = (node) => SHOWS[show].keeps(node, now);
  const found = finder(search);
  const wanted = (node) => keeps(node) && (!found || found(node));
  const narrow = show === "live" || show === "trouble" || found !== undefined;
  // Below a session that is found, its run and children are of interest, too.
  const shown = narrow || show !== "all" ? leading(tree, wanted, keeps, found !== undefined) : undefined;
  const by = SORTS[sort].of;
  const out = [];
  const walk = (siblings, level) => {
    let list = shown ? siblings.filter((node) => shown.has(node.id)) : siblings;
    if (by) {
      const keyed = list.map((node) => [by(node, tree), node]);
      keyed.sort((a, b) => b[0] - a[0]);
      list = keyed.map(([, node]) => node);
    }
    for (const [place, node] of list.entries()) {
      const below = tree.children(node.id);
      const some = shown ? below.some((child) => shown.has(child.id)) : below.length > 0;
      const open = some ? !collapsed.has(node.id) : undefined;
      out.push({ node, level, place: place + 1, of: list.length, open, path: narrow && !wanted(node), folds: show === "sessions" && Boolean(node.session) });
      if (open && level < 256) walk(below, level + 1);
    }
  };
  walk(tree.roots(), 1);
  return out;
}

/** The ids of what is wanted and of all that is above it. */
function leading(tree, wanted, keeps, andBelow) {
  const shown = new Set();
  const walk = (node, depth, below) => {
    const own = wanted(node);
    let any = own || (below && keeps(node));
    for (const child of depth < 256 ? tree.children(node.id) : []) {
      if (walk(child, depth + 1, andBelow && (below || own))) any = true;
    }
    if (any) shown.add(node.id);
    return any;
  };
  for (const root of tree.roots()) walk(root, 0, false);
  return shown;
}
