// Times, amounts and names as people read them.

/** `850 ms`, `4.2 s`, `3 m 12 s`, `2 h 5 m`, `3 d 4 h`. */
export function duration(ms) {
  if (ms === undefined || ms === null || Number.isNaN(ms)) return "";
  const whole = Math.max(0, ms);
  if (whole < 1000) return `${Math.round(whole)} ms`;
  const seconds = whole / 1000;
  if (seconds < 60) return `${seconds < 10 ? seconds.toFixed(1) : Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} m ${Math.floor(seconds % 60)} s`;
  const hours = Math.floor(minutes / 60);
  return hours < 24 ? `${hours} h ${minutes % 60} m` : `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** Whole seconds: what changes every second must not flicker in its width. */
export function elapsed(ms) {
  if (ms === undefined || ms === null) return "";
  return ms < 60_000 ? `${Math.max(0, Math.floor(ms / 1000))} s` : duration(ms);
}

export function clock(at) {
  return at ? new Date(at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false }) : "";
}

/** Day and time; the day only where it is not today. */
export function when(at, now = Date.now()) {
  if (!at) return "";
  const date = new Date(at);
  const today = date.toDateString() === new Date(now).toDateString();
  return today ? clock(at) : `${date.toLocaleDateString()} ${clock(at)}`;
}

/** `950`, `12.3 k`, `4.1 M`. */
export function count(amount) {
  if (amount === undefined || amount === null) return "";
  if (amount < 10_000) return String(amount);
  if (amount < 1_000_000) return `${(amount / 1000).toFixed(1)} k`;
  return `${(amount / 1_000_000).toFixed(1)} M`;
}

export function tokens(usage) {
  if (!usage) return 0;
  return (usage.input ?? 0) + (usage.output ?? 0);
}

export function usage(amounts) {
  if (!amounts) return "";
  const cached = amounts.cached ? `, ${count(amounts.cached)} of it cached` : "";
  return `${count(amounts.input ?? 0)} in${cached}, ${count(amounts.output ?? 0)} out`;
}

/** US dollars: four places below a cent's worth, else two. */
export function cost(usd) {
  if (usd === undefined || usd === null) return "";
  if (usd === 0) return "$0";
  return usd < 0.1 ? `$${usd.toFixed(4)}` : `$${usd.toFixed(2)}`;
}

/** The part of a session's key that tells it from the others of its agent. */
export function shortKey(key = "") {
  const [, agent, ...rest] = key.split(":");
  const id = rest.join(":").replace(/([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, "$1");
  return agent === "main" || agent === undefined ? id || key : `${agent}:${id}`;
}

/** Enough of an id to tell it from its neighbours: ids that begin with the time differ at their end. */
export function shortId(id = "") {
  if (id.length <= 12) return id;
  return id[14] === "7" ? id.slice(-8) : id.slice(0, 8);
}

export function plural(amount, one, many = `${one}s`) {
  return `${amount} ${amount === 1 ? one : many}`;
}

/** A text on one line, cut. */
export function line(text, most = 160) {
  const flat = String(text ?? "").replace(/\s+/g, " ").trim();
  return flat.length > most ? `${flat.slice(0, most - 1)}…` : flat;
}
