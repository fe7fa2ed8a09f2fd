// What is said of a node, everywhere in the same words.

import { duration, line, plural, shortKey, shortId } from "./format.js";
import { isFailed, isLive, loops, trouble } from "./model.js";

/** What a node is called. */
export function name(node) {
  if (node.session) return node.session.label || shortKey(node.session.key);
  if (node.run) return `run ${shortId(node.run.runId || node.run.id)}`;
  return node.name;
}

/** The state in a word. */
export function state(node) {
  if (node.run) return node.run.state;
  if (node.session) return node.session.status ?? (node.session.awake ? "idle" : "sleeping");
  return node.state;
}

/** How it stands with it: the class of its colour. `run` is the newest of a session, where it stands for both. */
export function tone(node, now, run) {
  const wrong = trouble(node, now);
  if (run && (trouble(run, now) || !isLive(run.run)) && !wrong) return tone(run, now);
  if (wrong === "silent") return "warn";
  if (wrong) return "bad";
  const word = state(node);
  if (word === "running" && (node.run || node.session)) return "busy";
  if (word === "queued" || word === "yielded" || word === "ending" || word === "starting") return "wait";
  if (word === "ok" || word === "partial") return "good";
  if (word === "cancelled") return "off";
  if (["error", "timeout", "crashed", "interrupted"].includes(word)) return "bad";
  return node.state === "running" && !node.session ? "live" : "off";
}

/** What a tool that runs is doing. */
export function tool({ name: called, arg }) {
  return arg ? `${called}(${line(arg, 80)})` : called;
}

/** The tools that run, each with how long it has been. */
const tools = (run, now) => run.tools.map((each) => `${tool(each)}${each.since ? ` for ${duration(now - each.since)}` : ""}`).join(", ");

/** For how long an actor has not answered, and with what: a message in hand, or messages that nobody takes. */
function silence({ inHand, waitsSince, mailbox }, now) {
  const since = inHand?.since ?? waitsSince;
  const long = since === undefined ? "" : ` for ${duration(now - since)}`;
  const what = inHand ? `: ${inHand.message} in hand` : mailbox ? `: ${plural(mailbox, "message waits", "messages wait")}` : "";
  return `not answering${long}${what}`;
}

/** What it does now, or why it ended, on one line. `newest` is the newest run of a session, where it stands for both. */
export function doing(node, now, newest) {
  if (node.stuck) return silence(node, now);
  if (loops(node, now)) return `crash loop: restarted ${node.restarts} times, last ${duration(now - node.restartedAt)} ago${node.lastFailure ? `: ${line(node.lastFailure, 100)}` : ""}`;
  const { run, session } = node;
  if (run) return runDoing(run, now);
  if (session) {
    const { live = 0, done = 0, failed = 0 } = session.children ?? {};
    const own = newest && (newest.run.state !== "yielded" || newest.stuck) ? doing(newest, now) : "";
    const parts = own ? [own] : [];
    if (live) parts.push(`${plural(live, "child", "children")} at work`);
    if (done) parts.push(`${done} done`);
    if (failed) parts.push(`${failed} failed`);
    return parts.join(", ");
  }
  if (node.state === "rebuilding") return `being rebuilt after: ${line(node.lastFailure, 100)}`;
  return node.inHand ? `${node.inHand.message} in hand` : "";
}

const DOING = { model: "the model works", tools: "tools work" };

function runDoing(run, now) {
  if (!isLive(run)) return run.reason ? line(run.reason) : line(run.text);
  if (run.silent) return `silent for ${duration(now - run.silentSince)}${run.tools?.length ? `, in ${tools(run, now)}` : ""}`;
  if (run.state === "queued") return run.lanePosition ? `waits for lane ${run.lane}, place ${run.lanePosition}` : `waits for lane ${run.lane ?? ""}`;
  if (run.tools?.length) return tools(run, now);
  const text = line(run.text, 140);
  if (run.doing === "model" && text) return text;
  return DOING[run.doing] ?? run.doing ?? "";
}

/** Since when it runs, and until when. */
export function lifetime(node, now) {
  const { run } = node;
  if (run) {
    const from = run.startedAt ?? run.acceptedAt;
    return from ? (run.endedAt ?? now) - from : undefined;
  }
  return node.since ? now - node.since : undefined;
}

/** Whether it is one of those that a person asked for, rather than of the daemon's own. */
export const isWork = (node) => Boolean(node.run || node.session) || ["root", "sessions"].includes(node.kind);

export { isFailed, isLive, trouble };
