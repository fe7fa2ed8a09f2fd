// Prometheus: its own tool has nothing to say about `/metrics`, and the server scrapes it with the gateway's token.

import { execFile, spawn } from "node:child_process";
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { SPAWNING, check, environment, expect, finish, gateway, installed, scratch, skipped, within } from "./rig.mjs";

const tool = (name) => path.join(installed, "prometheus", "usr", "bin", name);
if (!fs.existsSync(tool("promtool"))) skipped("Debian's package prometheus could not be unpacked, see target/conformance/prometheus.log");

const daemon = await gateway("prometheus");
const address = new URL(daemon.url.replace(/^ws/, "http")).host;

/** A port that nobody listens at. */
async function freePort() {
  const server = net.createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

await check("prometheus: a sub-agent is spawned", async () => {
  const params = JSON.stringify({ message: SPAWNING, idempotencyKey: "metrics" });
  const { status, output } = daemon.command("gateway", "call", "agent", "--expect-final", "--params", params);
  expect(status === 0 && output.includes("SUBAGENT_OK"), "it answers", output);
});

await check("prometheus: promtool check metrics has nothing to say", async () => {
  const response = await fetch(`http://${address}/metrics`, { headers: { authorization: `Bearer ${daemon.token}` } });
  expect(response.status === 200, "the figures are there", response.status);
  const page = await response.text();
  fs.writeFileSync(path.join(installed, "logs", "metrics.txt"), page);
  expect(page.includes("offshoot_spawns_total 1"), "the spawn is counted", page);
  const said = await new Promise((resolve) => {
    const child = execFile(tool("promtool"), ["check", "metrics"], (error, stdout, stderr) => resolve({ code: error?.code ?? 0, stdout, stderr }));
    child.stdin.end(page);
  });
  expect(said.code === 0 && !said.stdout && !said.stderr, "it is silent", said);
});

await check("prometheus: the server scrapes the figures with the token", async () => {
  const folder = scratch();
  const port = await freePort();
  fs.writeFileSync(path.join(folder, "token"), daemon.token, { mode: 0o600 });
  fs.writeFileSync(path.join(folder, "prometheus.yml"), JSON.stringify({
    global: { scrape_interval: "1s" },
    scrape_configs: [{
      job_name: "offshoot",
      authorization: { credentials_file: path.join(folder, "token") },
      static_configs: [{ targets: [address] }],
    }],
  }));
  const log = fs.openSync(path.join(installed, "logs", "prometheus.log"), "w");
  const server = spawn(tool("prometheus"), [
    `--config.file=${path.join(folder, "prometheus.yml")}`,
    `--storage.tsdb.path=${path.join(folder, "data")}`,
    `--web.listen-address=127.0.0.1:${port}`,
  ], { cwd: folder, env: environment(folder), stdio: ["ignore", log, log] });
  const killed = () => server.kill("SIGKILL");
  process.on("exit", killed);
  const query = async (what) => {
    const response = await fetch(`http://127.0.0.1:${port}/api/v1/query?query=${encodeURIComponent(what)}`).catch(() => null);
    const { data } = response?.ok ? await response.json() : {};
    return data?.result?.[0]?.value?.[1];
  };
  try {
    await within(60_000, "the first scrape", async () => {
      while ((await query('up{job="offshoot"}')) !== "1") await sleep(200);
    });
    expect((await query("offshoot_spawns_total")) === "1", "the spawn is there", await query("offshoot_spawns_total"));
    const waits = await query('histogram_quantile(0.5, offshoot_lane_wait_seconds_bucket{lane="subagent"})');
    expect(Number(waits) >= 0, "a histogram is one", waits);
  } finally {
    killed();
    process.off("exit", killed);
  }
});

await check("prometheus: the gateway ends", () => daemon.stop());
finish();
