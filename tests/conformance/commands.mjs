// The command lines of both releases, with a fresh home and a fresh gateway, in order and in the reverse order.

import { execFile } from "node:child_process";
import fs from "node:fs";
import path from "node:path";

import { RELEASES, SPAWNING, check, environment, expect, finish, gateway, installed, release, scratch } from "./rig.mjs";

// The first command of 2026.4.15 takes half a minute on a machine that has other things to do.
const ENDED_WITHIN_MS = 120_000;

const json = ({ stdout }) => JSON.parse(stdout);

/** Each command with what its output must show. `direct` ones take the address as flags, the others read it from the home. */
const COMMANDS = [
  {
    args: ["gateway", "probe", "--json"],
    direct: true,
    shows: (run, { url }) => {
      const probe = json(run);
      const target = probe.targets?.find((one) => one.url === url);
      expect(probe.ok === true && target?.connect?.ok === true, "the probe reaches the gateway", probe);
      expect(target.connect.rpcOk === true, "the probe may ask the gateway for its state", probe);
    },
  },
  {
    args: ["status", "--json"],
    shows: (run, { url }) => {
      const { gateway } = json(run);
      expect(gateway?.url === url && gateway.reachable === true && !gateway.error, "status reaches the gateway", gateway);
    },
  },
  { args: ["health", "--json"], shows: (run) => expect(json(run).ok === true, "the gateway is well", run.stdout) },
  {
    args: ["gateway", "call", "sessions.list", "--json"],
    direct: true,
    shows: (run, { spawned }) => {
      const { sessions } = json(run);
      expect(Array.isArray(sessions), "there is a list of sessions", run.stdout);
      const keys = sessions.map(({ key }) => key);
      const known = keys.includes("agent:main:main") && keys.some((key) => key.startsWith("agent:main:subagent:"));
      expect(spawned ? known : keys.length === 0, "the sessions are those of the turns so far", keys);
    },
  },
  {
    args: ["system", "presence", "--json"],
    direct: true,
    shows: (run) => {
      const present = json(run);
      expect(Array.isArray(present) && present.some(({ mode }) => mode === "gateway"), "the gateway is present", present);
    },
  },
  {
    args: ["devices", "list", "--json"],
    direct: true,
    shows: (run) => {
      const { pending, paired } = json(run);
      expect(Array.isArray(paired) && pending?.length === 0, "no device waits for approval", run.stdout);
    },
  },
  {
    args: ["logs", "--json"],
    direct: true,
    shows: (run) => {
      const lines = run.stdout.trim().split("\n").map((line) => JSON.parse(line));
      expect(lines[0]?.type === "meta", "the log has a head", run.stdout);
      expect(lines.some(({ type }) => type === "log" || type === "raw"), "the log has lines", run.stdout);
    },
  },
  {
    args: ["cron", "list", "--json"],
    direct: true,
    shows: (run) => expect(json(run).jobs?.length === 0, "nothing is scheduled", run.stdout),
  },
  {
    args: ["channels", "status"],
    shows: (run) => {
      expect(/gateway reachable/i.test(run.all), "channels are asked of the gateway", run.all);
      expect(!/not reachable/i.test(run.all), "the gateway is reachable", run.all);
    },
  },
  {
    args: ["agent", "--agent", "main", "--message", SPAWNING],
    spawns: true,
    shows: (run) => {
      expect(run.stdout.trim().split("\n").at(-1) === "SUBAGENT_OK", "the turn ends with what the sub-agent replied", run.all);
      expect(!/fallback|fell back/i.test(run.all), "the turn runs on the gateway", run.all);
    },
  },
];

function execute(version, home, args) {
  const script = path.join(release(version), "openclaw.mjs");
  const options = { env: environment(home), cwd: home, timeout: ENDED_WITHIN_MS, killSignal: "SIGKILL", maxBuffer: 1 << 26 };
  return new Promise((resolve) => {
    execFile(process.execPath, [script, ...args], options, (error, stdout, stderr) => {
      const code = error ? (error.killed ? `none within ${ENDED_WITHIN_MS / 1000} s` : error.code) : 0;
      resolve({ code, stdout, stderr, all: `${stdout}\n${stderr}` });
    });
  });
}

async function inOrder(version, order, commands) {
  const daemon = await gateway(`${version}-${order}`);
  const home = scratch();
  const { url, token } = daemon;
  fs.mkdirSync(path.join(home, ".openclaw"));
  const config = { gateway: { mode: "remote", remote: { url, token } } };
  fs.writeFileSync(path.join(home, ".openclaw", "openclaw.json"), JSON.stringify(config));
  let spawned = false;
  for (const [place, { args, direct, spawns, shows }] of commands.entries()) {
    const words = args.filter((word) => !word.includes("\n") && word !== "--json").join(" ");
    await check(`${version} ${order}: openclaw ${words}`, async () => {
      const run = await execute(version, home, direct ? [...args, "--url", url, "--token", token] : args);
      const file = `${version}-${order}-${String(place + 1).padStart(2, "0")}-${args.slice(0, 2).join("-")}.log`;
      fs.writeFileSync(path.join(installed, "logs", file), `${run.stdout}\n--- stderr\n${run.stderr}\n--- exit ${run.code}\n`);
      expect(run.code === 0, `exit status 0, not ${run.code}`, run.all);
      shows(run, { url, spawned });
    });
    spawned ||= spawns === true;
  }
  await check(`${version} ${order}: the gateway ends well`, () => daemon.stop());
}

// One release after the other in each order, the two orders side by side.
await Promise.all(
  [
    ["in order", COMMANDS],
    ["in reverse", COMMANDS.toReversed()],
  ].map(async ([order, commands]) => {
    for (const version of RELEASES) await inOrder(version, order.replace(" ", "-"), commands);
  }),
);
finish();
