// The end of the log, as it grows.

import { h, put, setText } from "./dom.js";
import { clock } from "./format.js";

const EVERY_MS = 1_500;
const LIMIT = 500;
const KEPT = 2_000;
const LEVELS = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"];

/** A line as it is shown; a gateway may write text or JSON. */
function read(line) {
  try {
    const { time, message, _meta, fields } = JSON.parse(line);
    const from = (_meta?.name ?? "").replace(/^\{"subsystem":"(.*)"\}$/, "$1");
    return { level: _meta?.logLevelName ?? "INFO", at: time ?? _meta?.date, from, text: message ?? line, fields };
  } catch {
    return { level: LEVELS.find((level) => line.includes(level)) ?? "INFO", text: line, from: "" };
  }
}

export function logsView(app) {
  let cursor;
  let timer;
  let asking = false;
  let lines = [];
  const said = h("p", { class: "problem", hidden: true });
  const list = h("ol", { class: "log", tabindex: 0, "aria-label": "Log" });
  const level = h("select", { onchange: () => paint() }, LEVELS.map((each) => h("option", { value: each, text: each.toLowerCase(), selected: each === "INFO" })));
  const search = h("input", { type: "search", placeholder: "Search  /", "aria-label": "Search the log", oninput: () => paint() });
  const follow = h("input", { type: "checkbox", checked: true });
  const element = h("section", { class: "page logpage" }, h("div", { class: "with" }, h("h2", { text: "Log" }), search, h("label", {}, h("span", { text: "from" }), level), h("label", {}, follow, h("span", { text: "follow" }))), said, list);

  async function refresh() {
    if (asking) return;
    asking = true;
    try {
      const answer = await app.call("logs.tail", { limit: LIMIT, ...(cursor === undefined ? {} : { cursor }) });
      if (answer.reset) lines = [];
      cursor = answer.cursor;
      said.hidden = true;
      const fresh = answer.lines.map(read);
      lines.push(...fresh);
      const dropped = lines.length > KEPT;
      if (dropped) lines = lines.slice(-KEPT);
      if (answer.reset || dropped) paint();
      else append(fresh);
    } catch (error) {
      said.hidden = false;
      setText(said, `The log cannot be read: ${error.message}`);
    } finally {
      asking = false;
    }
  }

  function shows(line) {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const text = `${line.from} ${line.text}`.toLowerCase();
    return LEVELS.indexOf(line.level) >= LEVELS.indexOf(level.value) && words.every((word) => text.includes(word));
  }

  const item = (line) => h("li", { class: line.level.toLowerCase() }, h("time", { text: line.at ? clock(Date.parse(line.at)) : "" }), h("b", { text: line.level.toLowerCase() }), h("span", { class: "from", text: line.from }), h("span", { text: line.text }));

  function append(fresh) {
    list.append(...fresh.filter(shows).map(item));
    if (follow.checked) list.scrollTop = list.scrollHeight;
  }

  function paint() {
    put(list);
    append(lines);
  }

  return {
    title: "Log",
    element,
    show() {
      refresh();
      timer = setInterval(refresh, EVERY_MS);
    },
    hide: () => clearInterval(timer),
    again() {
      cursor = undefined;
      lines = [];
      put(list);
      refresh();
    },
    search: () => search.focus(),
  };
}
