// The live tree: its tools, its rows, and the details of the one that is selected.

import { detail } from "./detail.js";
import { h, setText } from "./dom.js";
import { cost, count, plural, tokens } from "./format.js";
import { TreeList } from "./treelist.js";
import { SHOWS, SORTS, rows } from "./visible.js";

const SEARCH_AFTER_MS = 120;

export function treeView(app) {
  const { tree } = app;
  const collapsed = new Set();
  const wanted = { show: "sessions", search: "", sort: "name", collapsed };
  const list = new TreeList(tree, collapsed, {
    onSelect: (id) => show(id),
    onOpen: (id) => open(id),
    onFold: () => rebuild(),
  });
  const side = detail(app, () => leave());
  const sums = h("p", { class: "sums", "aria-live": "off" });
  const found = h("span", { class: "found", role: "status" });

  const choice = (label, options, key) =>
    h("label", {}, h("span", { text: label }), h("select", {
      onchange: (event) => {
        wanted[key] = event.target.value;
        rebuild();
      },
    }, Object.entries(options).map(([value, { text }]) => h("option", { value, text, selected: wanted[key] === value }))));
  let typing;
  let troubledThen = "";
  const search = h("input", {
    type: "search", placeholder: "Search  /", "aria-label": "Search the tree", autocomplete: "off", spellcheck: "false",
    oninput: () => {
      clearTimeout(typing);
      typing = setTimeout(() => {
        wanted.search = search.value;
        rebuild();
      }, SEARCH_AFTER_MS);
    },
    onkeydown: (event) => {
      if (event.key === "ArrowDown" || event.key === "Enter") {
        event.preventDefault();
        list.element.focus();
        if (!list.has(list.selected) && list.rows[0]) show(list.rows[0].node.id);
      } else if (event.key === "Escape" && search.value) {
        event.stopPropagation();
        search.value = wanted.search = "";
        rebuild();
      }
    },
  });
  const fold = (all) => {
    collapsed.clear();
    if (all) for (const node of tree.nodes.values()) if (tree.children(node.id).length && tree.above(node.id).length > 1) collapsed.add(node.id);
    rebuild();
  };
  const heads = h("div", { class: "heads", "aria-hidden": "true" },
    ["name", "state", "", "", "time", "tokens", "cost"].map((text, at) => h("span", { class: at > 3 ? "num" : "", text })));
  const main = h("section", { class: "treepane", "aria-label": "Tree" },
    h("div", { class: "tools" }, search, choice("Show", SHOWS, "show"), choice("Sort by", SORTS, "sort"),
      h("button", { type: "button", text: "Collapse", title: "Collapse all but the first levels", onclick: () => fold(true) }),
      h("button", { type: "button", text: "Expand", title: "Expand all", onclick: () => fold(false) }), found),
    sums, heads, list.element);
  const element = h("div", { class: "split" }, main, side.element);

  function show(id) {
    list.select(id, { into: true });
    side.show(id);
    element.classList.toggle("detailed", side.shows());
    history.replaceState(null, "", `#/tree/${encodeURIComponent(id)}`);
  }

  function leave() {
    side.show(undefined);
    element.classList.remove("detailed");
    list.element.focus();
  }

  function open(id) {
    const run = runOf(id);
    if (run) app.go(`/run/${encodeURIComponent(run.id)}/${encodeURIComponent(run.sessionKey)}`);
    else side.focus();
  }

  /** The run of a row: of a session its newest. */
  function runOf(id) {
    const node = tree.nodes.get(id);
    if (node?.run) return node.run;
    return node?.session && tree.newestRun(id)?.run;
  }

  /** What the troubles are; rows come and go with them where not all actors are shown. */
  const troubled = () => tree.troubles().actors.join();

  function rebuild() {
    troubledThen = troubled();
    list.set(rows(tree, wanted));
    const filtered = wanted.search || wanted.show === "live" || wanted.show === "trouble";
    setText(found, filtered ? plural(list.rows.filter((row) => !row.path).length, "row") : "");
    summary();
  }

  function summary() {
    const totals = tree.totals ?? {};
    const { running = 0, queued = 0, yielded = 0 } = totals.runs ?? {};
    const { count: troubles } = tree.troubles();
    const parts = [
      troubles ? `⚠ ${troubles} in trouble` : undefined,
      `${running} running`, `${queued} queued`, `${yielded} waiting`,
      plural(totals.actors ?? tree.nodes.size, "actor"),
      tokens(totals.usage) ? `${count(tokens(totals.usage))} tokens` : undefined,
      totals.costUsd ? cost(totals.costUsd) : undefined,
      ...tree.lanes.map((lane) => `lane ${lane.name} ${lane.active}/${lane.limit}${lane.queued ? ` (+${lane.queued})` : ""}`),
      tree.truncated ? "cut: the gateway shows no more nodes" : undefined,
    ];
    setText(sums, parts.filter(Boolean).join(" · "));
  }

  return {
    title: "Tree",
    element,
    show([id]) {
      rebuild();
      if (id && tree.nodes.has(id)) {
        for (const above of tree.above(id)) collapsed.delete(above.id);
        rebuild();
        show(id);
      }
    },
    shown: () => list.element.focus({ preventScroll: true }),
    /** The tree changed: in its structure, or only in what rows say. */
    changed(structure) {
      if (structure || wanted.sort !== "name" || wanted.show === "live" || wanted.show === "trouble" || troubled() !== troubledThen) rebuild();
      else {
        list.paint();
        summary();
      }
      side.changed();
      element.classList.toggle("detailed", side.shows());
    },
    ticked() {
      // A crash loop ends with time alone.
      if (troubled() !== troubledThen) rebuild();
      else list.paint();
      side.changed();
    },
    search: () => search.focus(),
    escape: () => side.shows() && leave(),
    act: (what) => list.selected && side.act(what),
  };
}
