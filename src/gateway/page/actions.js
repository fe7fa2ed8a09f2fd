// What may be done to runs and sessions. What ends something is asked about first.

import { confirm, prompt } from "./dialog.js";
import { plural, shortId } from "./format.js";
import { isLive } from "./model.js";
import { name } from "./words.js";

const NEEDS = (scope) => `You are signed in without the right operator.${scope}.`;

/** A call that says how it went. */
export async function attempt(app, what, work) {
  try {
    const result = await work();
    app.toast(what);
    return result;
  } catch (error) {
    app.toast(`Refused: ${error.message}`, "bad");
    return undefined;
  }
}

/** The actions for a node, each with why it cannot be done now, if it cannot. */
export function actionsFor(app, node) {
  const acts = [];
  const { run, session } = node;
  const write = app.may("write") ? undefined : NEEDS("write");
  const key = run?.sessionKey ?? session?.key;
  if (run) {
    acts.push({ text: "Open the run", kind: "primary", work: () => app.go(`/run/${encodeURIComponent(run.id)}/${encodeURIComponent(run.sessionKey)}`) });
    if (isLive(run)) acts.push({ text: "Cancel", key: "cancel", kind: "danger", why: write, work: () => cancelRun(app, node) });
  }
  if (session) {
    const live = app.tree.sum(node.id).live;
    const newest = app.tree.newestRun(node.id)?.run;
    if (newest) acts.push({ text: "Open the run", kind: "primary", work: () => app.go(`/run/${encodeURIComponent(newest.id)}/${encodeURIComponent(session.key)}`) });
    if (live) acts.push({ text: live === 1 ? "Cancel" : `Cancel all ${live}`, key: "cancel", kind: "danger", why: write, work: () => cancelBelow(app, node) });
  }
  if (key) {
    const busy = run ? isLive(run) : session.awake && app.tree.children(node.id).some((child) => child.run && isLive(child.run));
    if (busy) acts.push({ text: "Steer", key: "steer", why: write, work: () => steer(app, key) });
    acts.push({ text: "Send a message", key: "message", why: write, work: () => send(app, key) });
    acts.push({ text: "Copy id", work: () => copy(app, run?.id ?? key) });
  } else {
    acts.push({ text: "Copy path", work: () => copy(app, node.path) });
  }
  return acts;
}

/** The live runs below a node, level by level, those nearest to it first. */
function liveBelow(tree, node) {
  const levels = [];
  for (let level = [node]; level.length; level = level.flatMap((above) => tree.children(above.id))) {
    levels.push(level.map(({ run }) => run).filter((run) => run && isLive(run)));
  }
  return levels;
}

async function cancelRun(app, { id, parent, run }) {
  const session = app.tree.nodes.get(parent);
  // Children hang below the session, and end with the run that spawned them.
  const below = (session ? app.tree.sum(session.id).live : app.tree.sum(id).live) - 1;
  const sure = await confirm({
    title: `Cancel run ${shortId(run.runId ?? run.id)}?`,
    text: below > 0 ? `It ends now, with what it spawned: up to ${plural(below, "more run")} below.` : "It ends now. What it has said stays in the transcript.",
    yes: "Cancel the run", no: "Let it run",
  });
  if (sure) await attempt(app, `Run ${shortId(run.runId ?? run.id)} is cancelled`, () => app.call("sessions.abort", { key: run.sessionKey, runId: run.id }));
}

async function cancelBelow(app, node) {
  const { live } = app.tree.sum(node.id);
  const sure = await confirm({
    title: `Cancel everything below ${name(node)}?`,
    text: `${plural(live, "run")} at work end${live === 1 ? "s" : ""} now. What they have said stays in their transcripts.`,
    yes: `Cancel ${plural(live, "run")}`, no: "Let them run",
  });
  if (!sure) return;
  const answers = [];
  // A run ends with the one that spawned it, but not where that one has ended before: each is asked to end. The lower
  // ones later: a run whose children end goes on with what they said.
  for (const runs of liveBelow(app.tree, node)) {
    answers.push(...await Promise.allSettled(runs.map((run) => app.call("sessions.abort", { key: run.sessionKey, runId: run.id }))));
  }
  const cancelled = answers.filter(({ value }) => value?.status === "aborted").length;
  const refused = answers.filter(({ status }) => status === "rejected");
  const others = answers.length - cancelled - refused.length;
  app.toast(`${plural(cancelled, "run")} below ${name(node)} cancelled${others ? `, ${others} ended with what spawned them or before` : ""}`);
  if (refused.length) app.toast(`${plural(refused.length, "run")} not cancelled: ${refused[0].reason.message}`, "bad");
}

export async function steer(app, key) {
  const message = await prompt({
    title: "Steer",
    text: "What the session does now is ended, and it goes on with this message instead.",
    label: "Message", yes: "Steer", danger: true,
  });
  if (message) await attempt(app, "Steered", () => app.call("sessions.steer", { key, message, idempotencyKey: crypto.randomUUID() }));
}

export async function send(app, key) {
  const message = await prompt({
    title: "Send a message",
    text: "The session takes it up when it has ended what it does now.",
    label: "Message", yes: "Send",
  });
  if (message) await attempt(app, "Sent", () => app.call("sessions.send", { key, message, idempotencyKey: crypto.randomUUID() }));
}

export async function copy(app, text) {
  try {
    await navigator.clipboard.writeText(text);
    app.toast("Copied");
  } catch {
    app.toast("The browser does not let this page copy", "bad");
  }
}
