// The tree as a list of rows of which only those in sight exist. The keys are those of the ARIA tree pattern.

import { h, setAttribute } from "./dom.js";
import { make, paint } from "./row.js";

/** Rows beyond the edges, so that a scroll finds them painted. */
const MARGIN = 6;
const TYPED_WITHIN_MS = 700;

export class TreeList {
  rows = [];
  selected = undefined;
  #rowHeight = 30;
  #shown = new Map();
  #spare = [];
  #places = new Map();
  #tree;
  #collapsed;
  #onSelect;
  #onOpen;
  #onFold;
  #typed = { text: "", at: 0 };

  /** `collapsed` is the set of ids that the person closed; the callbacks hear of what the person does. */
  constructor(tree, collapsed, { onSelect, onOpen, onFold }) {
    this.#tree = tree;
    this.#collapsed = collapsed;
    this.#onSelect = onSelect;
    this.#onOpen = onOpen;
    this.#onFold = onFold;
    this.space = h("div", { class: "space", role: "none" });
    this.element = h("div", { class: "list", role: "tree", tabindex: 0, "aria-label": "Actors, sessions and runs", onkeydown: (event) => this.#key(event), onclick: (event) => this.#click(event), ondblclick: () => this.selected && this.#onOpen(this.selected) }, this.space);
    this.element.addEventListener("scroll", () => this.paint(), { passive: true });
    new ResizeObserver(() => this.#measure()).observe(this.element);
  }

  #measure() {
    const wanted = Number.parseFloat(getComputedStyle(this.element).getPropertyValue("--row")) || 30;
    if (wanted !== this.#rowHeight) {
      this.#rowHeight = wanted;
      this.#size();
    }
    this.paint();
  }

  #size() {
    this.space.style.height = `${this.rows.length * this.#rowHeight}px`;
  }

  /** Takes other rows. */
  set(rows) {
    this.rows = rows;
    this.#places = new Map(rows.map((row, at) => [row.node.id, at]));
    this.#size();
    this.paint();
  }

  has(id) {
    return this.#places.has(id);
  }

  select(id, { into = true } = {}) {
    this.selected = id;
    const at = this.#places.get(id);
    if (into && at !== undefined) this.#scrollTo(at);
    this.paint();
  }

  #scrollTo(at) {
    const { element } = this;
    const top = at * this.#rowHeight;
    if (top < element.scrollTop) element.scrollTop = top;
    else if (top + this.#rowHeight > element.scrollTop + element.clientHeight) element.scrollTop = top + this.#rowHeight - element.clientHeight;
  }

  paint() {
    const height = this.#rowHeight;
    const first = Math.max(0, Math.floor(this.element.scrollTop / height) - MARGIN);
    const last = Math.min(this.rows.length, Math.ceil((this.element.scrollTop + this.element.clientHeight) / height) + MARGIN);
    const wanted = new Map();
    for (let at = first; at < last; at += 1) wanted.set(this.rows[at].node.id, at);
    // The row that has the focus exists, wherever it is.
    const active = this.#places.get(this.selected);
    if (active !== undefined) wanted.set(this.selected, active);
    for (const [id, row] of this.#shown) {
      if (wanted.has(id)) continue;
      this.#shown.delete(id);
      this.#spare.push(row);
    }
    for (const [id, at] of wanted) {
      const row = this.#shown.get(id) ?? this.#take(id);
      paint(row, this.rows[at], this.#tree, { selected: id === this.selected, top: at * height });
    }
    for (const row of this.#spare) row.element.remove();
    this.#spare.length = Math.min(this.#spare.length, 40);
    setAttribute(this.element, "aria-activedescendant", active === undefined ? undefined : this.#shown.get(this.selected).element.id);
  }

  #take(id) {
    const row = this.#spare.pop() ?? make();
    row.id = id;
    row.element.id = `node-${id}`;
    row.element.dataset.id = id;
    if (!row.element.isConnected) this.space.append(row.element);
    this.#shown.set(id, row);
    return row;
  }

  #click(event) {
    const element = event.target.closest(".row");
    if (!element) return;
    const { id } = element.dataset;
    if (event.target.closest(".twist")) this.#fold(id);
    this.#choose(id);
  }

  #choose(id) {
    this.select(id);
    this.#onSelect(id);
  }

  #fold(id, close = !this.#collapsed.has(id)) {
    const row = this.rows[this.#places.get(id)];
    if (row?.open === undefined || close === !row.open) return;
    if (close) this.#collapsed.add(id);
    else this.#collapsed.delete(id);
    this.#onFold();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const at = this.#places.get(this.selected) ?? -1;
    const row = this.rows[at];
    const page = Math.max(1, Math.floor(this.element.clientHeight / this.#rowHeight) - 1);
    const to = (place) => {
      const next = this.rows[Math.min(Math.max(place, 0), this.rows.length - 1)];
      if (next) this.#choose(next.node.id);
    };
    switch (event.key) {
      case "ArrowDown": to(at + 1); break;
      case "ArrowUp": to(at < 0 ? 0 : at - 1); break;
      case "Home": to(0); break;
      case "End": to(this.rows.length - 1); break;
      case "PageDown": to(at + page); break;
      case "PageUp": to(at - page); break;
      case "ArrowRight":
        if (row?.open === false) this.#fold(row.node.id, false);
        else if (row?.open) to(at + 1);
        break;
      case "ArrowLeft":
        if (row?.open) this.#fold(row.node.id, true);
        else if (row) this.#up(at);
        break;
      case "*":
        for (const other of this.rows) if (other.level === row?.level) this.#collapsed.delete(other.node.id);
        this.#onFold();
        break;
      case "Enter": if (row) this.#onOpen(row.node.id); break;
      case " ": if (row) this.#fold(row.node.id); break;
      default:
        if (!this.#type(event.key, at)) return;
    }
    event.preventDefault();
    event.stopPropagation();
  }

  #up(at) {
    const { level } = this.rows[at];
    for (let above = at - 1; above >= 0; above -= 1) {
      if (this.rows[above].level < level) return this.#choose(this.rows[above].node.id);
    }
  }

  /** Goes to the next row whose name begins with what was typed. Keys that the page uses are left to it, unless more was typed before. */
  #type(key, at) {
    const again = performance.now() - this.#typed.at < TYPED_WITHIN_MS && this.#typed.text !== "";
    if (key.length !== 1 || key === "/" || key === "?" || (!again && "csm".includes(key))) return false;
    this.#typed = { text: (again ? this.#typed.text : "") + key.toLowerCase(), at: performance.now() };
    for (let step = again ? 0 : 1; step <= this.rows.length; step += 1) {
      const { node } = this.rows[(Math.max(at, 0) + step) % this.rows.length];
      const called = (node.session?.label || node.name).toLowerCase();
      if (called.startsWith(this.#typed.text)) {
        this.#choose(node.id);
        break;
      }
    }
    return true;
  }
}
