// How the gateway is: its store, its lanes, its load, who is connected.

import { facts, h, pill, put, setText, table } from "./dom.js";
import { count, duration, when } from "./format.js";

const EVERY_MS = 3_000;

export function healthView(app) {
  let timer;
  const said = h("p", { class: "problem", hidden: true });
  const cards = h("div", { class: "cards" });
  const lanes = h("div");
  const clients = h("div");
  const element = h("section", { class: "page" }, h("h2", { text: "Health" }), said, cards, h("h3", { text: "Lanes" }), lanes, h("h3", { text: "Connected" }), clients);

  const card = (title, tone, ...content) => h("div", { class: `card ${tone}` }, h("h3", { text: title }), content);

  async function refresh() {
    const ask = (method) => app.call(method).catch((error) => ({ failed: error.message }));
    const [health, status, info, lane, presence] = await Promise.all(["health", "status", "system.info", "diagnostics.lanes", "system-presence"].map(ask));
    const failed = [health, status, info].find((answer) => answer?.failed);
    said.hidden = !failed;
    setText(said, failed ? `The gateway's health cannot be read: ${failed.failed}` : "");
    if (failed) return;
    const store = health.store ?? {};
    const totals = app.tree.totals ?? {};
    const late = status.taskAudit?.byCode?.delivery_failed ?? 0;
    const restart = health.configReload?.restartRequired ?? [];
    put(cards,
      card("Gateway", health.ok ? "good" : "bad", facts([["state", pill(health.ok ? "well" : "in trouble", health.ok ? "good" : "bad")], ["version", status.runtimeVersion], ["up for", duration(info.uptimeMs)], ["process", info.pid], ["machine", info.machineName], ["system", `${info.platform} ${info.arch}`]])),
      card("Store", store.ok ? "good" : "bad", facts([["state", pill(store.ok ? "well" : "gives way", store.ok ? "good" : "bad")], ["refuses", store.refuses && text(store.refuses)], ["damaged", store.damaged && text(store.damaged)], ["sessions", status.sessions?.count]])),
      card("Machine", "", facts([["load", info.loadAverage?.map((load) => load.toFixed(2)).join("  ")], ["processors", info.cpuCount], ["memory free", bytes(info.memoryFreeBytes)], ["memory", bytes(info.memoryTotalBytes)]])),
      card("Sub-agents", status.tasks?.failures ? "warn" : "", facts([["at work", status.tasks?.active], ["succeeded", status.tasks?.byStatus?.succeeded], ["failed", status.tasks?.byStatus?.failed], ["timed out", status.tasks?.byStatus?.timed_out], ["cancelled", status.tasks?.byStatus?.cancelled], ["lost", status.tasks?.byStatus?.lost]])),
      card("Deliveries", late ? "bad" : "good", facts([["open", status.deliveries?.open], ["failed", status.deliveries?.failed], ["given up", status.deliveries?.givenUp], ["undeliverable", status.deliveries?.undeliverable]])),
      card("Actors", "", facts([["running", totals.actors], ["runs at work", totals.runs?.running], ["tokens in", totals.usage && count(totals.usage.input)], ["tokens out", totals.usage && count(totals.usage.output)]])),
      restart.length ? card("Restart needed", "warn", h("p", { text: `Of the configuration these count from the next start on: ${restart.map(text).join(", ")}` })) : null);
    put(lanes, table("Lanes", ["Lane", "At work", "Places", "Waiting"], (lane?.lanes ?? []).map((each) => [each.lane, each.activeCount, each.maxConcurrent, each.queuedCount]), "Not known."));
    put(clients, table("Clients", ["Client", "Mode", "From", "Rights", "Since"], (Array.isArray(presence) ? presence : []).map((each) => [
      each.host || each.clientId || each.text || "", each.mode ?? "", each.ip ?? "", (each.scopes ?? []).map((scope) => scope.replace("operator.", "")).join(", "), when(each.ts),
    ]), "Nobody."));
  }

  const text = (value) => (typeof value === "string" ? value : JSON.stringify(value));
  const bytes = (amount) => (amount ? `${(amount / 2 ** 30).toFixed(1)} GiB` : undefined);

  return {
    title: "Health",
    element,
    show() {
      refresh();
      timer = setInterval(refresh, EVERY_MS);
    },
    hide: () => clearInterval(timer),
    again: refresh,
  };
}
