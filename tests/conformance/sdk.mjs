// OpenAI's own Python SDK: streams a chat completion from `/v1` with an agent as the model.

import { spawnSync } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { check, environment, expect, finish, gateway, installed, scratch, skipped } from "./rig.mjs";

const python = path.join(installed, "openai", "bin", "python");
if (!fs.existsSync(python)) skipped("OpenAI's Python SDK is not installed, see install.log in target/conformance/openai");

const endpoints = { chatCompletions: { enabled: true }, responses: { enabled: true } };
const daemon = await gateway("openai", { gateway: { http: { endpoints } } });
const url = `${daemon.url.replace(/^ws/, "http")}/v1`;
const script = path.join(import.meta.dirname, "sdk.py");
const done = spawnSync(python, [script, url, daemon.token], { env: environment(scratch()), encoding: "utf8", timeout: 120_000 });

await check("openai for Python: every request is answered", async () => {
  expect(done.status === 0, "it ends well", done.stdout + done.stderr);
});
if (done.status === 0) {
  const seen = JSON.parse(done.stdout);
  await check("openai for Python: an agent streams a chat completion", async () => {
    expect(seen.pieces.length > 1 && seen.pieces.join("") === "one two three four five", "it comes in pieces", seen);
    expect(seen.finish === "stop" && seen.usage, "it ends with its reason and what it used", seen);
  });
  await check("openai for Python: agents are models, and answer whole", async () => {
    expect(seen.models.includes("openclaw/main"), "the agent is listed", seen);
    expect(seen.whole === "whole" && seen.response === "answered", "both ways of asking are answered", seen);
  });
  await check("openai for Python: a response streams its events", async () => {
    const { events } = seen;
    expect(events[0] === "response.created" && events.at(-1) === "response.completed", "they begin and end", seen);
    expect(events.filter((type) => type === "response.output_text.delta").length > 1, "the text comes in pieces", seen);
  });
  await check("openai for Python: who has another key is refused", async () => expect(seen.refused === 401, "by 401", seen));
}
await check("openai for Python: the gateway ends", () => daemon.stop());
finish();
