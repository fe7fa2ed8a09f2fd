// `openclaw-node`, a client library of others: connects, lists sessions, runs an agent and receives its stream.

import { createRequire } from "node:module";
import path from "node:path";

import { check, expect, finish, gateway, installed, scratch, within, SPAWNING } from "./rig.mjs";

const ANSWERED_WITHIN_MS = 30_000;

const require = createRequire(path.join(installed, "third-party", "package.json"));
const { OpenClawClient } = require("openclaw-node");

const daemon = await gateway("openclaw-node");
const client = new OpenClawClient({
  url: daemon.url,
  token: daemon.token,
  deviceIdentityPath: path.join(scratch(), "device.json"),
  autoReconnect: false,
});
const problems = [];
client.on("error", (error) => problems.push(String(error)));
client.on("disconnected", ({ reason, code }) => problems.push(`disconnected: ${code} ${reason}`));

const turn = (message, options) =>
  within(ANSWERED_WITHIN_MS, "the end of the turn", async () => {
    const chunks = [];
    for await (const chunk of client.chat(message, options)) chunks.push(chunk);
    return chunks;
  });
const text = (chunks) => chunks.filter(({ type }) => type === "text").map((chunk) => chunk.text);

await check("openclaw-node: connects", async () => {
  const hello = await within(ANSWERED_WITHIN_MS, "the greeting", () => client.connect());
  expect(client.isConnected && client.hasMethod("agent") && client.hasMethod("sessions.list"), "it is connected", hello);
});
await check("openclaw-node: lists agents", async () => {
  const list = await client.agents.list();
  expect(list.agents.some(({ id }) => id === list.defaultId), "the default agent is listed", list);
});
await check("openclaw-node: runs an agent and receives its stream", async () => {
  const chunks = await turn("Stream: 5\nReply with exactly: one two three four five");
  expect(text(chunks).length > 1, "the answer comes in pieces", chunks);
  expect(text(chunks).join("") === "one two three four five", "the pieces are the answer", chunks);
  expect(chunks.at(-1).type === "agent_end" || chunks.at(-1).type === "done", "the stream ends well", chunks);
  expect(!chunks.some(({ type }) => type === "error"), "nothing failed", chunks);
});
await check("openclaw-node: runs a turn that spawns", async () => {
  const chunks = await turn(SPAWNING);
  expect(text(chunks).join("").includes("SUBAGENT_OK"), "the turn ends with what the sub-agent replied", chunks);
});
await check("openclaw-node: answers as one text", async () => {
  const answer = await within(ANSWERED_WITHIN_MS, "the answer", () => client.chatSync("Reply with exactly: whole"));
  expect(answer === "whole", "it is the answer", answer);
});
await check("openclaw-node: lists sessions and reads one", async () => {
  const { sessions } = await client.sessions.list({ limit: 10 });
  const keys = sessions.map(({ key }) => key);
  expect(keys.includes("agent:main:main"), "the session of the turns is listed", keys);
  expect(keys.some((key) => key.startsWith("agent:main:subagent:")), "the sub-agent is listed", keys);
  const described = await client.sessions.describe("agent:main:main");
  expect(JSON.stringify(described).includes("agent:main:main"), "the session is described", described);
});
await check("openclaw-node: leaves", async () => {
  expect(problems.length === 0, "nothing went wrong meanwhile", problems);
  await client.disconnect();
  await daemon.stop();
});
finish();
