// The page: its bar, which view is shown, its keys, and what it says about the connection.

import { App } from "./app.js";
import { configurationView } from "./configuration.js";
import { RIGHTS } from "./connect.js";
import { deliveriesView } from "./deliveries.js";
import { devicesView } from "./devices.js";
import { help } from "./dialog.js";
import { button, h, put, setText } from "./dom.js";
import { healthView } from "./health.js";
import { deviceToken, whyNoDevice } from "./key.js";
import { logsView } from "./logs.js";
import { runView } from "./run.js";
import { sessionsView } from "./sessions.js";
import { givenSecret, lastRights, signIn } from "./signin.js";
import { timelineView } from "./timeline.js";
import { treeView } from "./treeview.js";

const app = new App();
const views = {
  tree: treeView(app), timeline: timelineView(app), sessions: sessionsView(app), deliveries: deliveriesView(app), devices: devicesView(app),
  configuration: configurationView(app), health: healthView(app), logs: logsView(app), run: runView(app),
};
const TABS = Object.keys(views).filter((name) => name !== "run");
const gate = signIn(app);
const main = document.getElementById("main");
const banner = document.getElementById("banner");
let shown;

// --- The bar.

const links = new Map(TABS.map((name) => [name, h("a", { href: `#/${name}`, text: views[name].title })]));
const badge = h("span", { class: "badge", hidden: true });
links.get("devices").append(badge);
const status = h("span", { class: "status" });
const theme = button("◐", () => app.say(`${window.offshootTheme.toggle()} colours`), { kind: "icon", label: "Dark or light" });
const out = button("Sign out", () => app.signOut());
const nav = h("nav", { "aria-label": "Views" }, [...links.values()]);
put(document.getElementById("bar"), h("a", { class: "brand", href: "#/tree" }, h("img", { src: "icon.svg", alt: "", width: 20, height: 20 }), "Offshoot"),
  nav, h("div", { class: "right" }, status, theme, button("?", help, { kind: "icon", label: "Keys" }), out));
app.onWaiting = (count) => {
  badge.hidden = count === 0;
  setText(badge, String(count));
  badge.setAttribute("aria-label", `${count} waiting`);
};

// --- Which view is shown.

function route() {
  const [name, ...params] = location.hash.replace(/^#\/?/, "").split("/").map(decoded);
  return { name: Object.hasOwn(views, name) ? name : "tree", params };
}

/** What a person typed need not be a well-made address. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

function show() {
  const signedIn = app.connection.phase === "on" || (shown !== undefined && app.connection.phase === "lost");
  document.body.classList.toggle("signed-in", signedIn);
  if (!signedIn) {
    shown?.hide?.();
    shown = undefined;
    put(main, gate.element);
    document.title = "Offshoot";
    return;
  }
  const { name, params } = route();
  const view = views[name];
  const same = view === shown;
  if (!same) shown?.hide?.();
  shown = view;
  for (const [tab, link] of links) {
    if (tab === name) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "nearest" });
    } else link.removeAttribute("aria-current");
  }
  if (!same) {
    put(main, view.element);
    main.scrollTop = 0;
  }
  document.title = `${view.title} · Offshoot`;
  if (app.connection.phase === "on") view.show(params);
  if (!same) (view.shown ?? (() => main.focus({ preventScroll: true })))();
}
window.addEventListener("hashchange", show);

app.onTree = (structure) => shown?.changed?.(structure);
setInterval(() => app.connection.phase === "on" && document.visibilityState === "visible" && shown?.ticked?.(), 1000);

// --- The connection.

async function devicesThatWait() {
  if (!app.may("pairing")) return app.waiting(0);
  const { pending } = await app.call("device.pair.list");
  return app.waiting(pending.length);
}
for (const event of ["device.pair.requested", "device.pair.resolved"]) app.connection.on(event, () => devicesThatWait().catch(() => {}));

let wasLost = false;
app.connection.onPhase(async (phase, about) => {
  gate.phase(phase, about);
  setText(status, { on: rightsText(), lost: "reconnecting", connecting: "connecting", pairing: "waiting", out: "" }[phase]);
  status.className = `status ${phase}`;
  banner.hidden = phase !== "lost";
  if (phase === "lost") {
    wasLost = true;
    setText(banner, `${about.why} What is shown is of before; the page reconnects by itself.`);
    return;
  }
  if (phase !== "on") {
    show();
    return;
  }
  gate.forget();
  await app.subscribe();
  devicesThatWait().catch(() => {});
  if (wasLost && shown) {
    wasLost = false;
    app.toast("Connected again");
    shown.again?.();
    return;
  }
  wasLost = false;
  show();
});

function rightsText() {
  const held = app.connection.scopes.map((scope) => scope.replace("operator.", ""));
  const known = Object.values(RIGHTS).findLast(({ scopes }) => scopes.every((scope) => held.includes(scope.replace("operator.", ""))));
  return known?.text.toLowerCase() ?? (held.join(", ") || "no rights");
}

// --- The keys that are the page's own.

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, textarea, select, dialog");
  if (event.ctrlKey || event.metaKey || event.altKey || app.connection.phase === "out") return;
  if (event.key === "Escape" && !event.target.closest("dialog")) {
    if (typing) event.target.blur();
    else shown?.escape?.();
    return;
  }
  if (typing) return;
  const act = { c: "cancel", s: "steer", m: "message" }[event.key];
  if (event.key === "/" && shown?.search) shown.search();
  else if (event.key === "?") help();
  else if (event.key === "t") window.offshootTheme.toggle();
  else if (act && shown?.act) shown.act(act);
  else if (event.key >= "1" && event.key <= String(TABS.length)) app.go(`/${TABS[event.key - 1]}`);
  else return;
  event.preventDefault();
});

// --- The beginning: with what is known of this browser, else by asking.

async function begin() {
  const secret = givenSecret();
  const known = secret ?? (whyNoDevice() ? undefined : await deviceToken());
  if (known) app.connection.signIn({ secret, rights: lastRights() });
  else gate.phase("out", {});
  if (!known) show();
}
begin().catch((error) => {
  gate.phase("out", { message: error.message });
  show();
});
