// What was said in a session: messages in order, each tool call with its result below it.

import { h, put, setText } from "./dom.js";
import { clock, line, usage } from "./format.js";

/** Characters of a text that are shown before the person asks for more. */
const CUT = 4000;

/** A text as it stands, with its lines; a long one is cut. */
function passage(text, kind) {
  if (text.length <= CUT) return h("div", { class: `passage ${kind ?? ""}`, text });
  const box = h("div", { class: `passage ${kind ?? ""}`, text: `${text.slice(0, CUT)}…` });
  const more = h("button", { type: "button", class: "more", text: `Show all ${text.length} characters`, onclick: () => {
    box.textContent = text;
    more.remove();
  } });
  return [box, more];
}

export const textOf = (message) =>
  typeof message.content === "string" ? message.content : (message.content ?? []).filter((part) => part.type === "text").map((part) => part.text).join("\n");

const placeOf = (message) => message.__openclaw?.seq ?? 0;
export const runOf = (message) => message.__openclaw?.runId;

const WHO = { user: "Message", assistant: "Agent", system: "Notice", toolResult: "Result" };

function who({ role, provenance }) {
  if (provenance?.sourceTool === "subagent_announce") return "Results of sub-agents";
  if (provenance?.sourceSessionKey) return `Message from ${provenance.sourceSessionKey}`;
  return WHO[role] ?? role;
}

export class Transcript {
  #messages = new Map();
  #calls = new Map();
  /** The run whose messages are shown; all are, if there is none. */
  #only;
  /** What is being written now, `{text, run}`, whether that run's messages are shown or not. */
  #writing;
  #said = h("div", { class: "passage" });
  #live = h("article", { class: "message assistant live", hidden: true }, h("header", {}, h("b", { text: "Agent" }), h("span", { class: "streams", text: "streaming" })), this.#said);
  #list = h("div", { class: "messages" });

  constructor() {
    this.element = h("div", { class: "transcript" }, this.#list, this.#live);
  }

  clear() {
    this.#messages.clear();
    this.#calls.clear();
    put(this.#list);
    this.live("");
  }

  get messages() {
    return [...this.#messages.values()].sort((a, b) => placeOf(a) - placeOf(b));
  }

  /** Shows all messages, or those of one run. */
  only(run) {
    this.#only = run;
    this.#all();
    this.#speak();
  }

  /** Takes messages, old or new. */
  add(messages) {
    const last = Math.max(0, ...[...this.#messages.keys()]);
    const fresh = messages.filter((message) => !this.#messages.has(placeOf(message)));
    for (const message of fresh) this.#messages.set(placeOf(message), message);
    if (fresh.some((message) => placeOf(message) < last)) this.#all();
    else fresh.sort((a, b) => placeOf(a) - placeOf(b)).forEach((message) => this.#append(message));
    // What was streamed stands there now.
    const isSaid = (message) => message.role === "assistant" && placeOf(message) > last;
    if (fresh.some((message) => isSaid(message) && (runOf(message) ?? this.#writing?.run) === this.#writing?.run)) this.live("");
  }

  /** The text that a run is writing now. */
  live(text, run) {
    this.#writing = text ? { text, run } : undefined;
    this.#speak();
  }

  /** A run writes no more. */
  ended(run) {
    if (this.#writing?.run === run) this.live("");
  }

  #speak() {
    const { text = "", run } = this.#writing ?? {};
    const shown = this.#only === undefined || run === this.#only ? text : "";
    setText(this.#said, shown);
    this.#live.hidden = shown === "";
  }

  #all() {
    this.#calls.clear();
    put(this.#list);
    for (const message of this.messages) this.#append(message);
  }

  #append(message) {
    if (this.#only && runOf(message) !== undefined && runOf(message) !== this.#only) return;
    if (message.role === "toolResult") {
      this.#result(message);
      return;
    }
    const text = textOf(message);
    const calls = Array.isArray(message.content) ? message.content.filter((part) => part.type === "toolCall") : [];
    this.#list.append(h("article", { class: `message ${message.role}` },
      h("header", {}, h("b", { text: who(message) }), h("time", { text: clock(message.timestamp), title: new Date(message.timestamp).toISOString() }),
        message.usage ? h("span", { text: usage({ input: message.usage.input, output: message.usage.output, cached: message.usage.cacheRead }) }) : null),
      text ? passage(text) : null,
      calls.map((call) => this.#call(call))));
  }

  #call({ id, name, arguments: args }) {
    const shown = typeof args === "string" ? args : JSON.stringify(args, null, 2);
    const state = h("span", { class: "pill wait", text: "no result yet" });
    const element = h("details", { class: "call" },
      h("summary", {}, h("b", { text: name }), h("code", { text: line(typeof args === "string" ? args : JSON.stringify(args), 120) }), state),
      h("div", { class: "label", text: "Arguments" }), passage(shown, "code"));
    this.#calls.set(id, { element, state });
    return element;
  }

  #result(message) {
    const call = this.#calls.get(message.toolCallId);
    const text = textOf(message);
    if (!call) {
      this.#list.append(h("article", { class: "message toolResult" }, h("header", {}, h("b", { text: `Result of ${message.toolName}` })), passage(text, "code")));
      return;
    }
    call.state.textContent = message.isError ? "failed" : "ok";
    call.state.className = `pill ${message.isError ? "bad" : "good"}`;
    call.element.append(...[h("div", { class: "label", text: `Result, ${clock(message.timestamp)}` }), passage(text, message.isError ? "code bad" : "code")].flat());
  }
}
