// One row of the tree: made once, then only what differs is written.

import { h, setAttribute, setText } from "./dom.js";
import { cost, count, elapsed, tokens } from "./format.js";
import { trouble } from "./model.js";
import { doing, lifetime, name, state, tone } from "./words.js";

const INDENT = 18;
/** Levels that are told apart by their indent; deeper ones stand where these do. */
const INDENTED = 16;

/** An empty row; `parts` are the places that are written. */
export function make() {
  const part = (kind) => h("span", { class: kind });
  const parts = {
    twist: h("span", { class: "twist", "aria-hidden": "true" }),
    dot: h("span", { class: "dot", "aria-hidden": "true" }),
    name: part("name"),
    state: part("state"),
    doing: part("doing"),
    flags: part("flags"),
    time: part("time num"),
    tokens: part("tokens num"),
    cost: part("cost num"),
  };
  const lead = h("span", { class: "lead" }, parts.twist, parts.dot, parts.name);
  const element = h("div", { class: "row", role: "treeitem" }, lead, parts.state, parts.doing, parts.flags, parts.time, parts.tokens, parts.cost);
  return { element, parts, id: undefined };
}

/** Shows a node in a row. */
export function paint(row, { node, level, place, of, open, path, folds }, tree, { selected, top }) {
  const { element, parts } = row;
  const now = tree.now();
  const sum = tree.sum(node.id);
  const run = folds ? tree.newestRun(node.id) : undefined;
  if (row.top !== top) {
    row.top = top;
    element.style.transform = `translateY(${top}px)`;
  }
  if (row.level !== level) {
    row.level = level;
    element.style.setProperty("--indent", `${Math.min(level - 1, INDENTED) * INDENT}px`);
    setAttribute(element, "aria-level", level);
  }
  setAttribute(element, "aria-posinset", place);
  setAttribute(element, "aria-setsize", of);
  setAttribute(element, "aria-expanded", open === undefined ? undefined : String(open));
  setAttribute(element, "aria-selected", String(selected));
  const look = `row ${selected ? "selected" : ""} ${path ? "path" : ""} ${node.run ? "run" : node.session ? "session" : "actor"}`;
  if (row.look !== look) element.className = row.look = look;
  setText(parts.twist, open === undefined ? "" : open ? "▾" : "▸");
  const dot = `dot ${tone(node, now, run)}`;
  if (row.dot !== dot) parts.dot.className = row.dot = dot;
  setText(parts.name, name(node));
  setText(parts.state, state(node));
  setText(parts.doing, doing(node, now, run));
  setText(parts.flags, flags(node, now, sum, open, run));
  setText(parts.time, elapsed(lifetime(run ?? node, now)));
  const used = node.run ? tokens(node.run.usage) : tokens(sum.usage);
  setText(parts.tokens, used ? count(used) : "");
  // What costs nothing is not worth a column of zeros.
  setText(parts.cost, cost((node.run ? node.run.costUsd : sum.costUsd) || undefined));
}

/** What stands out: a full mailbox, restarts, and of a collapsed row what is below it. */
function flags(node, now, sum, open, run) {
  const out = [];
  if (open === false && sum.live) out.push(`${sum.live} at work`);
  const below = sum.troubles - (trouble(node, now) ? 1 : 0) - (run && trouble(run, now) ? 1 : 0);
  if (below && open === false) out.push(`⚠ ${below}`);
  if (node.restarts) out.push(`↻ ${node.restarts}`);
  if (node.mailbox > 0) out.push(`✉ ${node.mailbox}`);
  return out.join("  ");
}
