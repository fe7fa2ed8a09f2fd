// All sessions, also those that sleep.

import { send } from "./actions.js";
import { button, h, pill, put, setText, table } from "./dom.js";
import { count, shortKey, when } from "./format.js";

const PAGE = 100;
const EVERY_MS = 5_000;
const SEARCH_AFTER_MS = 200;

export function sessionsView(app) {
  let offset = 0;
  let timer;
  let typing;
  const list = h("div");
  const said = h("p", { class: "sums", role: "status" });
  const search = h("input", { type: "search", placeholder: "Search  /", "aria-label": "Search the sessions", oninput: () => {
    clearTimeout(typing);
    typing = setTimeout(() => {
      offset = 0;
      refresh();
    }, SEARCH_AFTER_MS);
  } });
  const newer = button("Newer", () => turn(-PAGE));
  const older = button("Older", () => turn(PAGE));
  const element = h("section", { class: "page" }, h("div", { class: "with" }, h("h2", { text: "Sessions" }), search), said, list, h("div", { class: "acts" }, newer, older));

  function turn(by) {
    offset = Math.max(0, offset + by);
    refresh();
  }

  async function refresh() {
    let answer;
    try {
      answer = await app.call("sessions.list", { limit: PAGE, offset, includeGlobal: true, includeUnknown: true, ...(search.value.trim() ? { search: search.value.trim() } : {}) });
    } catch (error) {
      setText(said, `The sessions cannot be read: ${error.message}`);
      return;
    }
    const { sessions, totalCount } = answer;
    setText(said, totalCount === undefined ? "" : `${totalCount} in all`);
    newer.hidden = offset === 0;
    older.hidden = !answer.hasMore;
    put(list, table("Sessions", ["Session", "Agent", "Status", "Updated", "Children", "Tokens", "Model", ""], sessions.map((session) => [
      h("a", { href: session.lastRunId ? `#/run/${encodeURIComponent(session.lastRunId)}/${encodeURIComponent(session.key)}` : "#/tree", title: session.key, text: session.label || shortKey(session.key) }),
      session.agentId ?? "", session.status ? pill(session.status, toneOf(session.status)) : "", when(session.updatedAt), session.childSessions?.length ?? "",
      session.totalTokens ? count(session.totalTokens) : "", session.model ?? "",
      h("span", { class: "acts" }, app.may("write") ? button("Message", () => send(app, session.key), { label: `Send a message to ${session.key}` }) : null),
    ]), "There is no such session."));
  }

  const toneOf = (status) => ({ running: "busy", done: "good", failed: "bad", timeout: "bad" })[status] ?? "off";

  return {
    title: "Sessions",
    element,
    show() {
      refresh();
      timer = setInterval(() => !element.contains(document.activeElement) && refresh(), EVERY_MS);
    },
    hide: () => clearInterval(timer),
    again: refresh,
    search: () => search.focus(),
  };
}
