// OpenAI's own Python SDK: streams a chat completion from `/v1` with an agent as the model.

import { execFile } from "node:child_process";
import fs from "node:fs";
import path from "node:path";
import { promisify } from "node:util";

import { WORDS, check, environment, expect, finish, gateway, installed, scratch, skipped, slowModel } from "./rig.mjs";

const python = path.join(installed, "openai", "bin", "python");
if (!fs.existsSync(python)) skipped("OpenAI's Python SDK is not installed, see install.log in target/conformance/openai");

const endpoints = { chatCompletions: { enabled: true }, responses: { enabled: true } };
const model = await slowModel();
const daemon = await gateway("openai", {
  gateway: { http: { endpoints } },
  models: { providers: { local: { baseUrl: `http://127.0.0.1:${model.address().port}/v1` } } },
  agents: { list: [{ id: "main", default: true }, { id: "slow", model: "local/slow" }] },
});
const url = `${daemon.url.replace(/^ws/, "http")}/v1`;
const script = path.join(import.meta.dirname, "sdk.py");
let seen;
await check("openai for Python: every request is answered", async () => {
  const { stdout } = await promisify(execFile)(python, [script, url, daemon.token], { env: environment(scratch()), timeout: 120_000 });
  seen = JSON.parse(stdout);
});
if (seen) {
  await check("openai for Python: an agent streams a chat completion", async () => {
    expect(seen.pieces.length > WORDS.length / 2 && seen.pieces.join("") === WORDS.join(" "), "it comes in pieces", seen);
    expect(seen.finish === "stop" && seen.usage, "it ends with its reason and what it used", seen);
  });
  await check("openai for Python: agents are models, and answer whole", async () => {
    expect(seen.models.includes("openclaw/slow"), "the agent is listed", seen);
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
model.close();
finish();
