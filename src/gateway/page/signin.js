// Signing in, and waiting to be approved.

import { copy } from "./actions.js";
import { RIGHTS } from "./connect.js";
import { button, h, put } from "./dom.js";
import { whyNoDevice } from "./key.js";

const RIGHTS_KEY = "offshoot.watch.rights";
const SECRET_KEY = "offshoot.watch.secret";

const stored = (storage, key) => {
  try {
    return storage.getItem(key) ?? undefined;
  } catch {
    return undefined;
  }
};
const store = (storage, key, value) => {
  try {
    if (value === undefined) storage.removeItem(key);
    else storage.setItem(key, value);
  } catch {
    // Then it is asked for again.
  }
};

/** The rights of the last time. */
export const lastRights = () => {
  const last = stored(localStorage, RIGHTS_KEY);
  return last in RIGHTS ? last : "operate";
};

/** The secret in the address (`#token=`), which is taken out of it at once, or the one that this tab keeps. */
export function givenSecret() {
  const given = new URLSearchParams(location.hash.slice(1)).get("token");
  if (given !== null) history.replaceState(null, "", `${location.pathname}${location.search}#/tree`);
  return given || stored(sessionStorage, SECRET_KEY);
}

export const forgetSecret = () => store(sessionStorage, SECRET_KEY, undefined);

export function signIn(app) {
  const box = h("div", { class: "gate" });
  const element = h("section", { class: "page" }, box);

  function form({ message }) {
    const insecure = whyNoDevice();
    const token = h("input", { type: "password", name: "token", autocomplete: "current-password", "aria-describedby": "token-about", spellcheck: "false" });
    const keep = h("input", { type: "checkbox" });
    const rights = lastRights();
    const choices = Object.entries(RIGHTS).map(([value, { text, about }]) =>
      h("label", { class: "choice" }, h("input", { type: "radio", name: "rights", value, checked: value === rights }), h("span", {}, h("b", { text }), h("span", { text: about }))));
    const submit = () => {
      const chosen = box.querySelector("input[name=rights]:checked").value;
      store(localStorage, RIGHTS_KEY, chosen);
      store(sessionStorage, SECRET_KEY, keep.checked ? token.value.trim() : undefined);
      app.connection.signIn({ secret: token.value.trim(), rights: chosen });
    };
    put(box,
      h("h1", { text: "Sign in to Offshoot" }),
      message ? h("p", { class: "problem", role: "alert", text: message }) : null,
      insecure ? h("p", { class: "problem", role: "alert" }, h("b", { text: "This browser cannot come as a device. " }), insecure, " Until then you can sign in with the token alone, if the gateway allows that (gateway.controlUi.allowInsecureAuth).") : null,
      // No form: the policy of this page lets none be sent, wherever to.
      h("div", { role: "form", "aria-label": "Sign in", onkeydown: (event) => event.key === "Enter" && event.target.type !== "button" && submit() },
        h("label", { class: "field" }, h("span", { text: "Token or password of the gateway" }), token),
        h("p", { class: "hint", id: "token-about" }, "Where the gateway runs, it is in ", h("code", { text: "~/.offshoot/gateway.token" }), ". A browser that is paired needs none."),
        h("fieldset", {}, h("legend", { text: "Rights" }), choices),
        h("label", { class: "check" }, keep, h("span", { text: "Keep the token until this tab is closed" })),
        h("div", { class: "acts" }, button("Sign in", submit, { kind: "primary" }))));
    token.focus();
  }

  function pairing({ requestId, reason, command }) {
    put(box,
      h("h1", { text: "Waiting for approval" }),
      h("p", { text: reason === "scope-upgrade" ? "This browser is paired, and asks for more rights than it has." : "The gateway does not know this browser yet. Somebody who may must let it in." }),
      h("p", {}, "Run this where the gateway is, or approve the request on the page of another device:"),
      h("div", { class: "command" }, h("code", { text: command }), button("Copy", () => copy(app, command), { label: "Copy the command" })),
      h("p", { class: "hint" }, "Request ", h("code", { text: requestId }), ". This page goes on by itself once it is approved."),
      h("div", { class: "progress", role: "status" }, h("span", { class: "spinner", "aria-hidden": "true" }), "Waiting …"),
      h("div", { class: "acts" }, button("Sign in otherwise", () => app.signOut())));
  }

  let shown = "";
  return {
    title: "Sign in",
    element,
    phase(phase, about) {
      const key = JSON.stringify([phase, about.requestId, about.message]);
      if (key === shown) return;
      shown = key;
      if (phase === "out") form(about);
      else if (phase === "pairing") pairing(about);
      else if (phase === "connecting") put(box, h("div", { class: "progress", role: "status" }, h("span", { class: "spinner", "aria-hidden": "true" }), "Connecting …"));
    },
    forget: () => (shown = ""),
  };
}
