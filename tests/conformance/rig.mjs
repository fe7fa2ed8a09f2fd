// What every part of the suite uses: a gateway of its own, a home of its own, checks that are counted.

import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import readline from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

export const [binary, installed] = process.argv.slice(2);
export const RELEASES = ["2026.4.15", "2026.9.6"];

/** A turn that spawns a sub-agent, waits for it and ends with its result. See docs/rehearsal.md. */
export const SPAWNING = [
  'Call: sessions_spawn {"task":"Reply with exactly: SUBAGENT_OK"}',
  "Call: sessions_yield {}",
].join("\n");

/** What the slow model says. */
export const WORDS = Array.from({ length: 30 }, (_, index) => `word${index}`);
const PIECE_EVERY_MS = 100;

const READY_WITHIN_MS = 20_000;
const STOPPED_WITHIN_MS = 15_000;
const TAIL = 4000;

export const release = (version) => path.join(installed, `openclaw-${version}`, "node_modules", "openclaw");

// What is undone when the part ends, however it ends.
const leftovers = new Set();
process.on("exit", () => leftovers.forEach((undo) => undo()));
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));

/** A scratch directory that is removed when the part ends. */
export function scratch() {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), "offshoot-conformance-"));
  leftovers.add(() => fs.rmSync(folder, { recursive: true, force: true, maxRetries: 3 }));
  return folder;
}

// Where Node keeps compiled scripts; with an empty one each command takes ten seconds longer.
const temporary = path.join(installed, "tmp");
fs.mkdirSync(temporary, { recursive: true });

/** The environment of a process that knows nothing but its home. */
export const environment = (home) => ({
  PATH: process.env.PATH,
  HOME: home,
  TMPDIR: temporary,
  LANG: "C.UTF-8",
  NO_COLOR: "1",
});

/** Starts `offshoot gateway` with its own home, and waits until it is ready. `inside` is what its commands are run by. */
export async function gateway(name, config, inside = []) {
  const home = scratch();
  const state = path.join(home, ".offshoot");
  fs.mkdirSync(state);
  if (config) fs.writeFileSync(path.join(state, "offshoot.json"), JSON.stringify(config));
  const log = fs.openSync(path.join(installed, "logs", `${name}.gateway.log`), "w");
  const [program, ...before] = [...inside, binary];
  const inHome = { env: environment(home), cwd: home };
  let child;
  const killed = () => child.kill("SIGKILL");
  const begin = async (port) => {
    child = spawn(program, [...before, "gateway", "--port", port, "--json"], { ...inHome, stdio: ["ignore", "pipe", log] });
    leftovers.add(killed);
    return within(READY_WITHIN_MS, `${name}: the gateway's readiness`, async () => {
      let text = "";
      for await (const line of readline.createInterface({ input: child.stdout })) {
        text += line;
        if (line.endsWith("}")) return JSON.parse(text);
      }
      throw new Error(`${name}: the gateway ended before it was ready`);
    });
  };
  const stop = async () => {
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    const [code] = await within(STOPPED_WITHIN_MS, `${name}: the gateway's end`, () => ended);
    leftovers.delete(killed);
    if (code !== 0) throw new Error(`${name}: the gateway ended with exit status ${code}`);
  };
  const ready = await begin("0");
  return {
    url: ready.urls[0],
    token: fs.readFileSync(ready.tokenFile, "utf8").trim(),
    /** Runs a command of `offshoot` beside it. */
    command(...args) {
      const done = spawnSync(program, [...before, ...args], { ...inHome, encoding: "utf8" });
      return { status: done.status, output: done.stdout + done.stderr };
    },
    /** Begins a command that takes its time; what it says goes to the log of the gateway. */
    begin(...args) {
      const command = spawn(program, [...before, ...args], { ...inHome, stdio: ["ignore", log, log] });
      const killed = () => command.kill("SIGKILL");
      leftovers.add(killed);
      command.once("exit", () => leftovers.delete(killed));
    },
    stop,
    /** Stops it; what is returned starts it again at the same address. */
    async rest() {
      await stop();
      return () => begin(new URL(ready.urls[0]).port);
    },
  };
}

/** A model that answers word by word, slowly enough that a reader sees the answer grow. */
export async function slowModel() {
  const server = http.createServer(async (request, response) => {
    for await (const _ of request);
    response.writeHead(200, { "content-type": "text/event-stream" });
    const send = (choice, rest) => {
      const chunk = { id: "slow", object: "chat.completion.chunk", model: "slow", choices: choice ? [{ index: 0, ...choice }] : [], ...rest };
      response.write(`data: ${JSON.stringify(chunk)}\n\n`);
    };
    for (const [place, word] of WORDS.entries()) {
      send({ delta: { role: "assistant", content: place ? ` ${word}` : word }, finish_reason: null });
      await sleep(PIECE_EVERY_MS);
    }
    send({ delta: {}, finish_reason: "stop" });
    send(null, { usage: { prompt_tokens: 3, completion_tokens: WORDS.length, total_tokens: WORDS.length + 3 } });
    response.end("data: [DONE]\n\n");
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return server;
}

export async function within(ms, what, work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what} did not come within ${ms / 1000} s`)), ms);
  });
  try {
    return await Promise.race([work(), late]);
  } finally {
    clearTimeout(timer);
  }
}

let failures = 0;

/** Runs one check and says how it ended. The others run whether it failed or not. */
export async function check(name, work) {
  const begun = Date.now();
  const seconds = () => `${((Date.now() - begun) / 1000).toFixed(1)} s`;
  try {
    await work();
    console.log(`ok      ${name} (${seconds()})`);
  } catch (error) {
    failures += 1;
    console.log(`FAILED  ${name} (${seconds()})\n        ${String(error?.stack ?? error).split("\n").filter((line) => !/^ {4}at /.test(line)).join("\n        ")}`);
  }
}

export function expect(condition, what, seen) {
  if (condition) return;
  const text = typeof seen === "string" ? seen : JSON.stringify(seen, null, 1);
  throw new Error(`${what}\n--- seen\n${text?.length > TAIL ? `…${text.slice(-TAIL)}` : text}`);
}

/** Ends the part: with 1 where a check failed. */
export function finish() {
  process.exit(failures ? 1 : 0);
}

export function skipped(why) {
  console.log(`SKIPPED: ${why}`);
  process.exit(failures ? 1 : 77);
}
