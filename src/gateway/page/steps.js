// The time line of one run: its steps, its tool calls and the runs that it spawned, as bars over one axis.

import { h, put, svg } from "./dom.js";
import { clock, duration, line, shortId } from "./format.js";
import { runOf } from "./transcript.js";

const ROW = 20;
const LABEL = 150;
/** Below this it is scrolled. */
const LEAST = 560;
const MOST = 80;

const toneOf = (state) => ({ ok: "good", partial: "good", running: "busy", queued: "wait", yielded: "wait", ending: "wait", cancelled: "off" })[state] ?? "bad";

/** The bars of a run: `{text, from, to, tone, kind, href}`. A message stands in a transcript when its step has ended. */
export function bars(run, messages, children, now) {
  const out = [];
  const own = messages.filter((message) => runOf(message) === undefined || runOf(message) === (run.runId ?? run.id));
  let from = run.startedAt ?? run.acceptedAt ?? own[0]?.timestamp;
  if (from === undefined) return out;
  const end = run.endedAt ?? now;
  out.push({ text: "run", from, to: end, tone: toneOf(run.state), kind: "run" });
  if (run.startedAt && run.acceptedAt && run.startedAt - run.acceptedAt > 50) {
    out.unshift({ text: `waits for lane ${run.lane ?? ""}`, from: run.acceptedAt, to: run.startedAt, tone: "wait", kind: "wait" });
  }
  const results = new Map(own.filter(({ role }) => role === "toolResult").map((message) => [message.toolCallId, message]));
  let step = 0;
  for (const message of own) {
    if (message.timestamp < from - 1) continue;
    if (message.role !== "assistant") {
      from = Math.max(from, message.timestamp);
      continue;
    }
    step += 1;
    out.push({ text: `step ${step}`, from, to: message.timestamp, tone: "good", kind: "step" });
    from = message.timestamp;
    for (const call of Array.isArray(message.content) ? message.content.filter((part) => part.type === "toolCall") : []) {
      const result = results.get(call.id);
      const tone = result ? (result.isError ? "bad" : "good") : run.endedAt ? "off" : "busy";
      out.push({ text: call.name, about: line(JSON.stringify(call.arguments), 100), from: message.timestamp, to: result?.timestamp ?? end, tone, kind: "tool" });
    }
  }
  for (const child of children) {
    out.push({
      text: child.label || `child ${shortId(child.runId ?? child.id)}`, about: child.reason || child.state, from: child.startedAt ?? child.acceptedAt, to: child.endedAt ?? now,
      tone: toneOf(child.state), kind: "child", href: `#/run/${encodeURIComponent(child.id)}/${encodeURIComponent(child.sessionKey)}`,
    });
  }
  return out;
}

/** Draws bars; below them stands the same as a list for those who do not see them. */
export function drawing() {
  const element = h("div", { class: "steps" });
  let drawn = "";
  let shown = [[], 0];
  new ResizeObserver(() => draw()).observe(element);

  function draw() {
    const [all, now] = shown;
    const width = Math.max(LEAST, element.clientWidth - 26);
    const key = JSON.stringify([all, width]);
    if (key === drawn) return;
    drawn = key;
    const cut = all.slice(0, MOST);
    if (cut.length === 0) {
      put(element, h("p", { class: "empty", text: "Nothing has begun yet." }));
      return;
    }
    const first = Math.min(...cut.map(({ from }) => from));
    const last = Math.max(first + 1, ...cut.map(({ to }) => Math.min(to, now + 1000)));
    const at = (time) => LABEL + ((time - first) / (last - first)) * (width - LABEL - 4);
    const height = cut.length * ROW + 24;
    const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true", focusable: "false" });
    for (let tick = 0; tick <= 4; tick += 1) {
      const time = first + ((last - first) * tick) / 4;
      picture.append(svg("line", { class: "grid", x1: at(time), x2: at(time), y1: 0, y2: height - 18 }),
        svg("text", { class: "axis", x: at(time), y: height - 5, "text-anchor": tick === 0 ? "start" : tick === 4 ? "end" : "middle", text: `+${duration(time - first)}` }));
    }
    cut.forEach((bar, row) => {
      const y = row * ROW;
      const wide = Math.max(2, at(bar.to) - at(bar.from));
      const shape = svg("g", { class: "bar" },
        svg("title", { text: [bar.text, bar.about, duration(bar.to - bar.from)].filter(Boolean).join(" · ") }),
        svg("text", { class: `name ${bar.kind}`, x: bar.kind === "run" || bar.kind === "wait" ? 0 : bar.kind === "step" ? 10 : 20, y: y + 14, text: line(bar.text, 20) }),
        svg("rect", { class: `${bar.tone} ${bar.kind}`, x: at(bar.from), y: y + 4, width: wide, height: ROW - 8, rx: 2 }));
      picture.append(bar.href ? svg("a", { href: bar.href, tabindex: -1 }, shape) : shape);
    });
    put(element, picture,
      h("ol", { class: "unseen" }, cut.map((bar) => h("li", {}, bar.href ? h("a", { href: bar.href, text: bar.text }) : bar.text, ` from ${clock(bar.from)} for ${duration(bar.to - bar.from)}${bar.about ? `: ${bar.about}` : ""}`))),
      all.length > cut.length ? h("p", { class: "empty", text: `${all.length - cut.length} more are not drawn.` }) : null);
  }

  return {
    element,
    show(all, now) {
      shown = [all, now];
      draw();
    },
  };
}
