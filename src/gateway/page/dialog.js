// Questions and help, in the browser's own dialogs: they keep the focus, and Escape leaves them.

import { h } from "./dom.js";

/** Shows a dialog; resolves with the value of the button that ended it, "" if none did. */
function ask(title, content, buttons, focus) {
  const heading = h("h2", { text: title, id: "dialog-title" });
  const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, heading, content,
    h("div", { class: "acts" }, buttons.map(({ text, value, kind }) => h("button", { type: "button", text, class: kind, onclick: () => dialog.close(value) }))));
  const before = document.activeElement;
  document.body.append(dialog);
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      before?.focus?.({ preventScroll: true });
      resolve(dialog.returnValue);
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close(""));
    dialog.showModal();
    (focus ?? dialog.querySelector("button"))?.focus();
  });
}

/** Asks before something ends. The safe answer has the focus. */
export async function confirm({ title, text, yes, no }) {
  const buttons = [{ text: no, value: "" }, { text: yes, value: "yes", kind: "danger" }];
  return (await ask(title, h("p", { text }), buttons)) === "yes";
}

/** Asks for a text; nothing if there is none. Control and Enter send it. */
export async function prompt({ title, text, label, yes, danger }) {
  const field = h("textarea", {
    rows: 5, "aria-label": label,
    onkeydown: (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) event.target.closest("dialog").close("yes");
    },
  });
  const buttons = [{ text: "Leave", value: "" }, { text: yes, value: "yes", kind: danger ? "danger" : "primary" }];
  const answer = await ask(title, [h("p", { text }), field].reduce((box, child) => (box.append(child), box), h("div")), buttons, field);
  return answer === "yes" ? field.value.trim() || undefined : undefined;
}

const KEYS = [
  ["↑ ↓ Home End PgUp PgDn", "move in the tree"],
  ["→ ←", "open and close, then to the first child and the parent"],
  ["Space", "open or close"],
  ["*", "open all of this level"],
  ["a, b …", "go to what begins with it"],
  ["Enter", "the page of the run, or the details"],
  ["/", "search"],
  ["c", "cancel what is selected"],
  ["s", "steer it"],
  ["m", "send it a message"],
  ["1 … 8", "the views, from left to right"],
  ["t", "dark or light"],
  ["Esc", "leave the details, a dialog, the search"],
  ["?", "this help"],
];

export function help() {
  const keys = h("dl", { class: "keys" }, KEYS.flatMap(([key, what]) => [h("dt", {}, h("kbd", { text: key })), h("dd", { text: what })]));
  return ask("Keys", keys, [{ text: "Close", value: "" }]);
}
