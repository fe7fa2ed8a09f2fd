// What the views share: the connection, the tree and its subscription, where the page is, what is said to the person.

import { Connection } from "./connection.js";
import { h } from "./dom.js";
import { plural } from "./format.js";
import { Tree, isFailed } from "./model.js";
import { forgetSecret } from "./signin.js";
import { name } from "./words.js";

const INTERVAL_MS = 500;
/** When the tree is asked for again after it could not be read. */
const AGAIN_MS = 3_000;
const TOAST_MS = 4_000;
const SAID_EVERY_MS = 3_000;

export class App {
  connection = new Connection();
  tree = new Tree();
  /** Called after the tree changed: with whether its structure did. */
  onTree = () => {};
  onWaiting = () => {};
  #frame = 0;
  #structure = false;
  #asking = false;
  #ended = [];
  #saying = 0;

  constructor() {
    this.connection.on("tree", (delta) => this.#heard(delta));
  }

  call(method, params) {
    return this.connection.call(method, params);
  }

  may(scope) {
    return this.connection.may(scope);
  }

  /** The rights as one value, to compare. */
  rights() {
    return this.connection.phase === "on" ? this.connection.scopes.join() : "";
  }

  go(to) {
    location.hash = `#${to}`;
  }

  signOut() {
    forgetSecret();
    return this.connection.signOut();
  }

  /** Devices that wait for approval. */
  waiting(count) {
    this.onWaiting(count);
  }

  /** Asks for the whole tree and for what changes from then on. What comes before the answer is void. */
  async subscribe() {
    if (this.#asking) return;
    this.#asking = true;
    try {
      const { snapshot } = await this.call("tree.subscribe", { intervalMs: INTERVAL_MS });
      this.tree.replace(snapshot);
      this.#asking = false;
      this.#changed(true);
    } catch (error) {
      if (this.connection.phase !== "on") {
        this.#asking = false;
        return;
      }
      this.toast(`The tree cannot be read: ${error.message}`, "bad");
      setTimeout(() => {
        this.#asking = false;
        if (this.connection.phase === "on") this.subscribe();
      }, AGAIN_MS);
    }
  }

  #heard(delta) {
    if (this.#asking) return;
    const { fits, structure, ended } = this.tree.apply(delta);
    if (!fits) {
      // Each event builds on the one before: only another subscription begins anew.
      this.subscribe();
      return;
    }
    this.#tell(ended);
    this.#changed(structure);
  }

  /** However many changes come, the page is painted once a frame. */
  #changed(structure) {
    this.#structure ||= structure;
    if (this.#frame) return;
    this.#frame = requestAnimationFrame(() => {
      this.#frame = 0;
      const all = this.#structure;
      this.#structure = false;
      this.onTree(all);
    });
  }

  /** Tells those who do not see the tree which runs ended, many in one sentence. */
  #tell(ended) {
    this.#ended.push(...ended);
    if (this.#saying || this.#ended.length === 0) return;
    this.#saying = setTimeout(() => {
      this.#saying = 0;
      const failed = this.#ended.filter((node) => isFailed(node.run));
      const last = this.#ended.at(-1);
      const parent = this.tree.nodes.get(last.parent);
      const text = this.#ended.length === 1
        ? `${name(parent ?? last)}: ${last.run.state}`
        : `${plural(this.#ended.length, "run")} ended${failed.length ? `, ${failed.length} of them badly` : ""}`;
      this.#ended = [];
      this.say(text);
    }, SAID_EVERY_MS);
  }

  /** Says something to a screen reader. */
  say(text) {
    const box = document.getElementById("said");
    box.append(h("p", { text }));
    while (box.childElementCount > 5) box.firstElementChild.remove();
  }

  /** Shows a short message for a while. */
  toast(text, tone = "") {
    const toast = h("div", { class: `toast ${tone}`, role: tone === "bad" ? "alert" : "status", text, onclick: () => toast.remove() });
    document.getElementById("toasts").append(toast);
    setTimeout(() => toast.remove(), tone === "bad" ? TOAST_MS * 2 : TOAST_MS);
  }
}
