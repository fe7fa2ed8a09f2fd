// The runs of the last hour over time, drawn on a canvas; the same runs stand below as a table.

import { h, pill, put, setText, table } from "./dom.js";
import { clock, cost, count, duration, plural, shortId, shortKey, tokens } from "./format.js";
import { completeSince, place } from "./lanes.js";
import { tone } from "./words.js";

const ROW = 18;
const AXIS = 22;
/** The gateway keeps what ended in the last hour. */
const SPANS = { 5: "5 minutes", 15: "15 minutes", 60: "1 hour" };
/** The most that it tells at once: none of those at work is left out. */
const LIMIT = 10_000;
const EVERY_MS = 2_000;
const LISTED = 200;
/** Distances between the lines of the axis; the last one where the page is too narrow for more. */
const TICKS_MS = [1, 5, 10, 30, 60, 300, 600, 1800, 3600].map((seconds) => seconds * 1000);

export function timelineView(app) {
  let minutes = 60;
  let runs = [];
  let laid = { rows: 0, placed: [] };
  let timer;
  let newestAt = 0;
  const canvas = h("canvas", { role: "img", "aria-label": "Runs over time; the table below says the same", onmousemove: point, onmouseleave: () => setText(tip, ""), onclick: (event) => {
    const bar = at(event);
    if (bar) open(bar.run);
  } });
  const tip = h("p", { class: "tip", "aria-hidden": "true" });
  const said = h("p", { class: "sums" });
  const list = h("div");
  const span = h("select", { onchange: (event) => {
    minutes = Number(event.target.value);
    refresh();
  } }, Object.entries(SPANS).map(([value, text]) => h("option", { value, text, selected: Number(value) === minutes })));
  const box = h("div", { class: "canvas" }, canvas);
  const element = h("section", { class: "page" },
    h("div", { class: "with" }, h("h2", { text: "Time line" }), h("label", {}, h("span", { text: "Last" }), span)), said, box, tip,
    h("details", {}, h("summary", { text: "As a table" }), list));
  new ResizeObserver(() => draw()).observe(box);
  window.addEventListener("themechange", () => draw());
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());

  async function refresh() {
    let since;
    try {
      const answer = await app.call("runs.recent", { sinceMs: minutes * 60_000, limit: LIMIT });
      const from = answer.ts - minutes * 60_000;
      newestAt = answer.ts;
      since = completeSince(answer.runs);
      runs = answer.runs.filter((run) => (run.startedAt ?? run.acceptedAt) !== undefined && (run.endedAt ?? answer.ts) >= from);
    } catch (error) {
      setText(said, `The runs cannot be read: ${error.message}`);
      return;
    }
    laid = place(runs, newestAt);
    const live = runs.filter((run) => !run.endedAt).length;
    const missing = since === undefined ? "" : `. More have ended than are kept: complete since ${clock(since)}; older ones: offshoot runs list`;
    setText(said, runs.length ? `${plural(runs.length, "run")}, ${live} at work${missing}` : "Nothing ran.");
    draw();
    tabled();
  }

  const scale = () => {
    const from = newestAt - minutes * 60_000;
    // A quiet hour with one busy minute is shown as that minute.
    const first = Math.min(newestAt - 1000, ...laid.placed.map((bar) => bar.from));
    const start = Math.max(from, first - (newestAt - first) * 0.02);
    const width = box.clientWidth;
    return { start, width, x: (time) => ((time - start) / Math.max(1, newestAt - start)) * width };
  };

  function draw() {
    if (box.clientWidth === 0) return;
    const { start, width, x } = scale();
    const height = Math.max(3, laid.rows) * ROW + AXIS;
    const dots = window.devicePixelRatio || 1;
    canvas.width = Math.round(width * dots);
    canvas.height = Math.round(height * dots);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
    const pen = canvas.getContext("2d");
    pen.scale(dots, dots);
    const colours = palette();
    pen.font = "11px system-ui, sans-serif";
    pen.textBaseline = "middle";
    axis(pen, start, x, height, colours);
    for (const bar of laid.placed) {
      const left = Math.max(0, x(bar.from));
      const wide = Math.max(2, x(bar.to) - left);
      const top = AXIS + bar.row * ROW;
      pen.fillStyle = colours[tone({ run: bar.run, state: "" }, newestAt)] ?? colours.off;
      pen.fillRect(left, top + 1, Math.max(1, wide - 1), ROW - 2);
      if (wide > 40) {
        pen.save();
        pen.beginPath();
        pen.rect(left, top, wide - 4, ROW);
        pen.clip();
        pen.fillStyle = colours.onbar;
        pen.fillText(label(bar.run), left + 4, top + ROW / 2 + 0.5);
        pen.restore();
      }
    }
  }

  function axis(pen, start, x, height, colours) {
    const least = ((newestAt - start) / box.clientWidth) * 90;
    const every = TICKS_MS.find((tick) => tick >= least) ?? TICKS_MS.at(-1);
    pen.strokeStyle = colours.line;
    pen.fillStyle = colours.text;
    for (let time = Math.ceil(start / every) * every; time < newestAt; time += every) {
      const left = Math.round(x(time)) + 0.5;
      pen.beginPath();
      pen.moveTo(left, AXIS - 4);
      pen.lineTo(left, height);
      pen.stroke();
      pen.fillText(clock(time), left + 3, AXIS / 2 - 1);
    }
  }

  function palette() {
    const style = getComputedStyle(document.documentElement);
    // `light-dark()` is only worked out where a colour is used.
    const probe = h("span");
    document.body.append(probe);
    const read = (name) => {
      probe.style.color = style.getPropertyValue(name);
      return getComputedStyle(probe).color;
    };
    const colours = { good: read("--good-bar"), bad: read("--bad-bar"), busy: read("--busy-bar"), wait: read("--wait-bar"), warn: read("--warn-bar"), off: read("--off-bar"), line: read("--line"), text: read("--soft"), onbar: read("--onbar") };
    probe.remove();
    return colours;
  }

  const label = (run) => run.label || shortKey(run.sessionKey);

  function at(event) {
    const { x } = scale();
    const row = Math.floor((event.offsetY - AXIS) / ROW);
    return laid.placed.find((bar) => bar.row === row && event.offsetX >= x(bar.from) - 1 && event.offsetX <= Math.max(x(bar.to), x(bar.from) + 3));
  }

  function point(event) {
    const bar = at(event);
    canvas.classList.toggle("over", Boolean(bar));
    setText(tip, bar ? [label(bar.run), bar.run.state, bar.run.reason, duration(bar.to - bar.from), bar.run.model, cost(bar.run.costUsd)].filter(Boolean).join(" · ") : "");
  }

  const open = (run) => app.go(`/run/${encodeURIComponent(run.id)}/${encodeURIComponent(run.sessionKey)}`);

  function tabled() {
    if (!list.parentElement.open) return;
    const newest = [...runs].sort((a, b) => (b.startedAt ?? b.acceptedAt) - (a.startedAt ?? a.acceptedAt)).slice(0, LISTED);
    put(list, table("Runs", ["Run", "Session", "State", "Started", "Took", "Tokens", "Cost"], newest.map((run) => [
      h("a", { href: `#/run/${encodeURIComponent(run.id)}/${encodeURIComponent(run.sessionKey)}`, text: shortId(run.runId ?? run.id) }),
      label(run), pill(run.state, tone({ run, state: "" }, newestAt)), clock(run.startedAt ?? run.acceptedAt), duration((run.endedAt ?? newestAt) - (run.startedAt ?? run.acceptedAt)),
      tokens(run.usage) ? count(tokens(run.usage)) : "", cost(run.costUsd),
    ]), "Nothing ran."));
  }
  element.querySelector("details").addEventListener("toggle", tabled);

  return {
    title: "Time line",
    element,
    show() {
      refresh();
      timer = setInterval(refresh, EVERY_MS);
    },
    hide: () => clearInterval(timer),
    again: refresh,
  };
}
