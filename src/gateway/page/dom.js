// Elements from values. A text is only ever set as text: there is no way here to make markup of it.

const SVG = "http://www.w3.org/2000/svg";

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties ?? {})) {
    if (value === undefined || value === null || value === false) continue;
    if (name === "text") element.textContent = value;
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name === "class" ? "class" : name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** An element with attributes (`text` is its text, `onclick` a listener) and children. */
export function h(tag, properties, ...children) {
  return fill(document.createElement(tag), properties, children);
}

/** The same for drawings. */
export function svg(tag, properties, ...children) {
  return fill(document.createElementNS(SVG, tag), properties, children);
}

/** Replaces what is in an element. */
export function put(element, ...children) {
  element.replaceChildren(...children.flat(Infinity).filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

/** Sets a text if it is another one: what does not change is not painted again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** Sets an attribute if it is another one; none takes it away. */
export function setAttribute(element, name, value) {
  if (value === undefined || value === null || value === false) {
    if (element.hasAttribute(name)) element.removeAttribute(name);
  } else if (element.getAttribute(name) !== String(value)) {
    element.setAttribute(name, value);
  }
}

/** A list of names and values; what has no value is left out. */
export function facts(pairs) {
  const shown = pairs.filter(([, value]) => value !== undefined && value !== null && value !== "");
  return h("dl", { class: "facts" }, shown.map(([name, value]) => [h("dt", { text: name }), h("dd", {}, value)]));
}

/** A table with a header row; each row is a list of texts and elements. */
export function table(caption, heads, rows, empty) {
  if (rows.length === 0) return h("p", { class: "empty", text: empty });
  return h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    h("table", {},
      h("caption", { class: "unseen", text: caption }),
      h("thead", {}, h("tr", {}, heads.map((head) => h("th", { scope: "col", text: head })))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, at) => h("td", { "data-head": heads[at] }, cell)))))));
}

/** A button. With `why`, it cannot be used, and says why. */
export function button(text, onclick, { kind, why, label } = {}) {
  return h("button", { type: "button", class: kind, text, onclick: why ? undefined : onclick, disabled: Boolean(why), title: why, "aria-label": label });
}

export function pill(text, tone) {
  return h("span", { class: `pill ${tone ?? ""}`, text });
}
