// A device on another machine: two network namespaces with a cable between them, the gateway in one and devices in the
// other. Needs to be root; no address outside of the two is reached.

import { execFileSync, spawn } from "node:child_process";
import crypto from "node:crypto";
import { once } from "node:events";
import path from "node:path";
import readline from "node:readline";

import { check, expect, finish, gateway, installed, skipped, within } from "./rig.mjs";

const ANSWERED_WITHIN_MS = 20_000;
const NEAR = "10.77.0.1";
const FAR = "10.77.0.2";
const READ = ["operator.read"];
const MORE = ["operator.read", "operator.write"];
/** Sockets of one address that may be on their way in; docs/configuration.md has the number. */
const UNFINISHED = 32;

/** A network namespace that lasts as long as this process. */
async function namespace() {
  const holder = spawn("unshare", ["--net", "sh", "-c", "echo; exec cat >/dev/null"], { stdio: ["pipe", "pipe", "pipe"] });
  let why = "";
  holder.stderr.on("data", (text) => (why += text));
  const made = once(holder.stdout, "data").then(() => true);
  const failed = Promise.race([once(holder, "error").then(([error]) => (why += error)), once(holder, "exit")]).then(() => false);
  if (!(await Promise.race([made, failed]))) skipped(`no network namespace can be made: ${why.trim()}`);
  return { pid: holder.pid, inside: ["nsenter", `--net=/proc/${holder.pid}/ns/net`, "--"] };
}

function cable(near, far) {
  const ip = ({ inside: [enter, ...more] }, text) => execFileSync(enter, [...more, "ip", ...text.split(" ")], { stdio: "pipe" });
  try {
    ip(near, `link add cable type veth peer name cable netns ${far.pid}`);
    for (const [end, address] of [[near, NEAR], [far, FAR]]) {
      ip(end, `addr add ${address}/24 dev cable`);
      ip(end, "link set cable up");
      ip(end, "link set lo up");
    }
  } catch (error) {
    skipped(`the namespaces cannot be joined: ${String(error.stderr ?? error).trim()}`);
  }
}

if (process.platform !== "linux") skipped("network namespaces are Linux's");
const [near, far] = [await namespace(), await namespace()];
cable(near, far);

/** A process at the far end that is told `order`. */
function remote(order) {
  const [enter, ...more] = [...far.inside, process.execPath, path.join(import.meta.dirname, "device.mjs"), installed];
  const child = spawn(enter, more, { stdio: ["pipe", "pipe", "inherit"] });
  const lines = readline.createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const tell = (document) => child.stdin.write(`${JSON.stringify(document)}\n`);
  tell(order);
  const hears = () =>
    within(ANSWERED_WITHIN_MS, "an answer at the far end", async () => {
      const { value, done } = await lines.next();
      if (done) throw new Error("the process at the far end ended");
      return JSON.parse(value);
    });
  return {
    hears,
    async asks(method, params = {}) {
      tell({ method, params });
      return hears();
    },
    leaves: () => child.stdin.end(),
  };
}

const newKey = () => crypto.generateKeyPairSync("ed25519").privateKey.export({ format: "pem", type: "pkcs8" });

async function refused(device, reason) {
  const { error } = await device.hears();
  expect(error?.code === "NOT_PAIRED" && error.details?.reason === reason, `it is asked to wait: ${reason}`, error);
  const request = error.details.requestId;
  expect(error.message.includes(`offshoot devices approve ${request}`), "it is told the command that approves it", error);
  const end = await device.hears();
  expect(end.closed === 1008 && end.reason.includes(request), "it is closed with the request", end);
  return request;
}

/** Whether the device has these scopes: it is told so, and may do just that. */
async function has(device, scopes) {
  const { ok, error } = await device.hears();
  expect(JSON.stringify(ok?.auth?.scopes) === JSON.stringify(scopes), "it has exactly the scopes that were approved", ok?.auth ?? error);
  expect((await device.asks("system-presence")).ok, "it may read");
  const { error: missing } = await device.asks("sessions.delete", { key: "agent:main:none" });
  expect(missing?.message === "missing scope: operator.admin", "it may not do more", missing);
}

for (const [bind, settings] of [
  ["lan", { bind: "lan" }],
  ["custom", { bind: "custom", customBindHost: NEAR }],
]) {
  const daemon = await gateway(`network-${bind}`, { gateway: settings }, near.inside);
  const url = `ws://${NEAR}:${new URL(daemon.url).port}`;
  const key = newKey();
  const device = (scopes) => remote({ url, token: daemon.token, key, scopes });
  const approve = (request) => {
    const { status, output } = daemon.command("devices", "approve", request);
    expect(status === 0, "the command approves it", output);
  };
  let first;
  let wider;

  await check(`${bind}: a command on the gateway's own machine has its rights`, async () => {
    const { status, output } = daemon.command("gateway", "call", "system-presence");
    expect(status === 0, "it may read", output);
  });
  await check(`${bind}: a device from elsewhere waits until it is approved`, async () => {
    const request = await refused(device(READ), "not-paired");
    const { output } = daemon.command("devices", "list", "--json");
    const [pending] = JSON.parse(output).pending;
    expect(pending?.requestId === request && pending.remoteIp === FAR, "it is listed with its address", output);
    approve(request);
    first = device(READ);
    await has(first, READ);
  });
  await check(`${bind}: it is asked again when it wants more, and keeps what it has`, async () => {
    const request = await refused(device(MORE), "scope-upgrade");
    expect((await first.asks("system-presence")).ok, "it may still read");
    approve(request);
    wider = device(MORE);
    await has(wider, MORE);
  });
  await check(`${bind}: it is closed at once when its rights are revoked`, async () => {
    const { paired } = JSON.parse(daemon.command("devices", "list", "--json").output);
    expect(paired.length === 1, "there is one device", paired);
    const { status, output } = daemon.command("devices", "revoke", paired[0].deviceId);
    expect(status === 0, "the command revokes it", output);
    for (const connected of [first, wider]) {
      const end = await connected.hears();
      expect(end.closed === 4001 && end.reason === "device token revoked", "it is closed with the reason", end);
    }
    await refused(device(READ), "role-upgrade");
  });
  await check(`${bind}: an address has so many sockets on their way in, and others theirs`, async () => {
    const crowd = remote({ url, crowd: UNFINISHED + 3 });
    const { answers } = await crowd.hears();
    const count = (answer) => answers.filter((one) => one === answer).length;
    expect(count("challenged") === UNFINISHED && count(503) === 3, "those beyond are refused with 503", answers);
    const { status, output } = daemon.command("gateway", "call", "health");
    expect(status === 0, "a command of the gateway's own machine is let in", output);
    crowd.leaves();
  });
  await check(`${bind}: the gateway ends`, () => daemon.stop());
}
finish();
