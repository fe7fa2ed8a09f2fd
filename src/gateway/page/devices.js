// Which devices may connect, and who waits for that.

import { attempt } from "./actions.js";
import { confirm } from "./dialog.js";
import { button, h, pill, put, setText, table } from "./dom.js";
import { shortId, when } from "./format.js";
import { device as ownDevice, whyNoDevice } from "./key.js";

const SCOPE = /^operator\./;
/** Nobody is told of a device that is removed. */
const EVERY_MS = 5_000;

export function devicesView(app) {
  const said = h("p", { class: "problem", hidden: true });
  const waiting = h("div");
  const paired = h("div");
  const element = h("section", { class: "page" }, h("h2", { text: "Devices" }), said, h("h3", { text: "Waiting for approval" }), waiting, h("h3", { text: "Paired" }), paired);
  let leaves = [];
  let own;

  async function refresh() {
    said.hidden = true;
    if (!app.may("pairing")) {
      said.hidden = false;
      setText(said, "You are signed in without the right operator.pairing: devices are not shown.");
      put(waiting);
      put(paired);
      return;
    }
    try {
      own ??= whyNoDevice() ? undefined : (await ownDevice()).id;
      const list = await app.call("device.pair.list");
      put(waiting, table("Devices that wait", ["Device", "Asks for", "From", "Since", ""], list.pending.map(request), "Nobody waits."));
      put(paired, table("Paired devices", ["Device", "May", "From", "Paired", "Tokens", ""], list.paired.map(device), "None yet."));
      app.waiting(list.pending.length);
    } catch (error) {
      said.hidden = false;
      setText(said, `The devices cannot be read: ${error.message}`);
    }
  }

  const called = (each) => h("span", { title: each.deviceId }, h("b", { text: each.displayName || each.clientId || "device" }), " ", h("code", { text: shortId(each.deviceId) }), h("span", { class: "reason", text: [each.deviceId === own && "this browser", each.platform, each.clientMode].filter(Boolean).join(", ") }));
  /** A device may give up what it has itself; of others only administrators take. */
  const whyNot = (each) => (each.deviceId === own || app.may("admin") ? undefined : "You are signed in without the right operator.admin.");
  const rights = (scopes, roles) => h("span", { class: "pills" }, roles?.includes("node") ? pill("node") : null, (scopes ?? []).map((scope) => pill(scope.replace(SCOPE, ""), scope.endsWith(".admin") ? "warn" : "")));

  const request = (each) => [
    called(each), [rights(each.scopes, each.roles), each.isRepair ? h("span", { class: "reason", text: "is paired, asks for more" }) : ""].reduce((box, part) => (box.append(part), box), h("span")),
    each.remoteIp ?? "", when(each.ts),
    h("span", { class: "acts" }, button("Approve", () => approve(each), { kind: "primary", label: `Approve ${each.displayName || each.clientId}` }), button("Reject", () => reject(each), { kind: "danger", label: `Reject ${each.displayName || each.clientId}` })),
  ];

  const device = (each) => [
    called(each), rights(each.scopes, each.roles), each.remoteIp ?? "", when(each.approvedAtMs),
    h("span", {}, each.tokens.map((token) => h("span", { class: "token" }, pill(token.role, token.revokedAtMs ? "off" : "good"), token.revokedAtMs ? " revoked " : button("Revoke", () => revoke(each, token), { why: whyNot(each), label: `Revoke the ${token.role} token of ${each.displayName || each.clientId}` })))),
    h("span", { class: "acts" }, button("Remove", () => remove(each), { kind: "danger", why: whyNot(each), label: `Remove ${each.displayName || each.clientId}` })),
  ];

  async function approve(each) {
    const sure = await confirm({
      title: "Approve this device?",
      text: `${each.displayName || each.clientId} (${shortId(each.deviceId)}${each.remoteIp ? `, from ${each.remoteIp}` : ""}) may then connect with: ${each.scopes.map((scope) => scope.replace(SCOPE, "")).join(", ") || "no scopes"}.`,
      yes: "Approve", no: "Not now",
    });
    if (!sure) return;
    await attempt(app, "Approved", () => app.call("device.pair.approve", { requestId: each.requestId }));
    refresh();
  }

  async function reject({ requestId }) {
    await attempt(app, "Rejected", () => app.call("device.pair.reject", { requestId }));
    refresh();
  }

  async function revoke({ deviceId, displayName, clientId }, { role }) {
    const sure = await confirm({ title: "Revoke this token?", text: `${displayName || clientId} is disconnected, loses what was approved for the role ${role}, and must be approved again before it can connect with it.`, yes: "Revoke", no: "Leave it" });
    if (!sure) return;
    await attempt(app, "Revoked", () => app.call("device.token.revoke", { deviceId, role }));
    refresh();
  }

  async function remove({ deviceId, displayName, clientId }) {
    const sure = await confirm({ title: "Remove this device?", text: `${displayName || clientId} is disconnected, and must be approved again before it can connect.`, yes: "Remove", no: "Keep it" });
    if (!sure) return;
    await attempt(app, "Removed", () => app.call("device.pair.remove", { deviceId }));
    refresh();
  }

  return {
    title: "Devices",
    element,
    show() {
      refresh();
      leaves = ["device.pair.requested", "device.pair.resolved"].map((name) => app.connection.on(name, refresh));
      const timer = setInterval(() => !element.contains(document.activeElement) && refresh(), EVERY_MS);
      leaves.push(() => clearInterval(timer));
    },
    hide() {
      for (const end of leaves) end();
      leaves = [];
    },
    again: refresh,
  };
}
