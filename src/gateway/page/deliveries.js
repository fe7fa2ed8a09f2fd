// Results on their way: to sessions, and to addresses outside.

import { attempt } from "./actions.js";
import { confirm } from "./dialog.js";
import { button, h, pill, put, setText, table } from "./dom.js";
import { shortId, when } from "./format.js";

const EVERY_MS = 5_000;
const LIMIT = 200;
const STATES = { "": "all", open: "open", failed: "failed", undeliverable: "undeliverable", delivered: "delivered", dismissed: "dismissed" };
const SETTLED = new Set(["delivered", "dismissed"]);

export function deliveriesView(app) {
  let timer;
  const list = h("div");
  const said = h("p", { class: "sums", role: "status" });
  const state = h("select", { onchange: () => refresh() }, Object.entries(STATES).map(([value, text]) => h("option", { value, text })));
  const element = h("section", { class: "page" }, h("div", { class: "with" }, h("h2", { text: "Deliveries" }), h("label", {}, h("span", { text: "Show" }), state)), said, list);

  async function refresh() {
    try {
      const { deliveries, counts, nextCursor } = await app.call("deliveries.list", { limit: LIMIT, ...(state.value ? { state: state.value } : {}) });
      const { open = 0, failed = 0, givenUp = 0, undeliverable = 0 } = counts;
      setText(said, `${open} open, ${failed} failed, ${givenUp} given up, ${undeliverable} undeliverable${nextCursor ? `; the newest ${LIMIT} are shown` : ""}`);
      put(list, table("Deliveries", ["Run", "Kind", "To", "State", "Tries", "Next", "Since", ""], deliveries.map(row), "There are none."));
    } catch (error) {
      setText(said, `The deliveries cannot be read: ${error.message}`);
    }
  }

  function row(each) {
    const why = app.may("admin") ? undefined : "You are signed in without the right operator.admin.";
    return [
      h("a", { href: `#/run/${encodeURIComponent(each.runId)}/${encodeURIComponent(each.sessionKey)}`, text: shortId(each.runId) }),
      each.kind, h("span", { class: "wrap", text: each.receiver }),
      h("span", {}, pill(each.state, tone(each.state)), each.reason ? h("span", { class: "reason", text: each.reason }) : null),
      each.attempts ?? "", each.nextAttemptAt ? when(each.nextAttemptAt) : "", when(each.at),
      SETTLED.has(each.state) ? "" : h("span", { class: "acts" }, button("Retry", () => retry(each), { why }), button("Dismiss", () => dismiss(each), { why, kind: "danger" })),
    ];
  }

  const tone = (word) => ({ delivered: "good", open: "busy", dismissed: "off" })[word] ?? "bad";

  async function retry({ runId, kind }) {
    await attempt(app, `The delivery of ${shortId(runId)} is tried again`, () => app.call("deliveries.retry", { runId, kind }));
    refresh();
  }

  async function dismiss({ runId, kind, receiver }) {
    const sure = await confirm({ title: "Dismiss this delivery?", text: `The result of run ${shortId(runId)} will never reach ${receiver}. The transcript keeps it.`, yes: "Dismiss", no: "Keep trying" });
    if (!sure) return;
    await attempt(app, "Dismissed", () => app.call("deliveries.dismiss", { runId, kind }));
    refresh();
  }

  return {
    title: "Deliveries",
    element,
    show() {
      refresh();
      timer = setInterval(() => !element.contains(document.activeElement) && refresh(), EVERY_MS);
    },
    hide: () => clearInterval(timer),
    again: refresh,
  };
}
