// The configuration that is in force, with its problems. The gateway leaves out secrets before it answers.

import { facts, h, pill, put, setText } from "./dom.js";

const HIDDEN = "__OPENCLAW_REDACTED__";

export function configurationView(app) {
  const said = h("p", { class: "problem", hidden: true });
  const about = h("div");
  const problems = h("div");
  const tree = h("div", { class: "document" });
  const raw = h("pre", { class: "raw" });
  const element = h("section", { class: "page" }, h("h2", { text: "Configuration" }), said, about, problems,
    h("h3", { text: "In force" }), tree, h("details", {}, h("summary", { text: "The file as it stands" }), raw));

  async function refresh() {
    said.hidden = true;
    try {
      const answer = await app.call("config.get");
      const pending = answer.configRevisionHash && answer.appliedConfigHash && answer.configRevisionHash !== answer.appliedConfigHash;
      put(about, facts([
        ["file", h("code", { text: answer.path })], ["there", answer.exists ? "yes" : "no: everything is as it usually is"],
        ["valid", answer.valid ? pill("valid", "good") : pill("invalid: the one before stays in force", "bad")],
        ["in force", pending ? pill("an older one", "warn") : pill("this one", "good")],
        ["includes", answer.includedPaths?.length ? answer.includedPaths.join(", ") : undefined],
      ]));
      const all = [...(answer.issues ?? []).map((each) => ({ ...each, tone: "bad", kind: "error" })), ...(answer.warnings ?? []).map((each) => ({ ...each, tone: "warn", kind: "warning" }))];
      put(problems, all.length ? h("ul", { class: "problems" }, all.map((each) => h("li", {}, pill(each.kind, each.tone), " ", each.path ? h("code", { text: each.path }) : null, each.path ? ": " : "", each.message))) : h("p", { class: "empty", text: "No problems." }));
      put(tree, value("", answer.runtimeConfig ?? answer.config ?? {}, true));
      setText(raw, answer.raw ?? "");
    } catch (error) {
      said.hidden = false;
      setText(said, `The configuration cannot be read: ${error.message}`);
    }
  }

  /** A value with its members, to be opened. */
  function value(name, of, open) {
    if (of !== null && typeof of === "object") {
      const members = Object.entries(of);
      if (name === "" && members.length === 0) return h("p", { class: "empty", text: "Nothing is configured." });
      const inside = members.map(([key, member]) => value(key, member, false));
      if (name === "") return h("div", {}, inside);
      return h("details", { open }, h("summary", {}, h("code", { text: name }), h("span", { class: "reason", text: Array.isArray(of) ? ` ${members.length} in a list` : "" })), inside);
    }
    const hidden = of === HIDDEN;
    return h("div", { class: "member" }, h("code", { text: name }), h("span", { class: hidden ? "hiddenvalue" : "", text: hidden ? "secret, not shown" : JSON.stringify(of) }));
  }

  return { title: "Configuration", element, show: refresh, hide() {}, again: refresh };
}
