// A device in a process of its own, so that it can stand elsewhere. The first line of its standard input says how it
// connects, each further one is a request; it says what comes back, a document a line.
//
//   {"url", "token", "key", "scopes"}       connects
//   {"url", "crowd"}                        opens this many sockets, stays silent in them and tells how each was answered

import crypto from "node:crypto";
import { createRequire } from "node:module";
import path from "node:path";
import readline from "node:readline";

const require = createRequire(path.join(process.argv[2], "third-party", "package.json"));
const WebSocket = createRequire(require.resolve("openclaw-node"))("ws");

const say = (document) => process.stdout.write(`${JSON.stringify(document)}\n`);
const lines = readline.createInterface({ input: process.stdin })[Symbol.asyncIterator]();
const order = JSON.parse((await lines.next()).value);

if (order.crowd) {
  const sockets = Array.from({ length: order.crowd }, () => new WebSocket(order.url));
  const answered = sockets.map(
    (socket) =>
      new Promise((resolve) => {
        socket.on("error", () => {});
        socket.once("message", () => resolve("challenged"));
        socket.once("close", () => resolve("closed"));
        socket.once("unexpected-response", (_, response) => resolve(response.statusCode));
      }),
  );
  say({ answers: await Promise.all(answered) });
  // Until nobody wants the crowd any more.
  await lines.next();
  process.exit(0);
}

const key = crypto.createPrivateKey(order.key);
const publicKey = crypto.createPublicKey(key).export({ format: "der", type: "spki" }).subarray(-32);
const id = crypto.createHash("sha256").update(publicKey).digest("hex");
const client = { id: "cli", version: "1.0.0", platform: "linux", mode: "cli" };

function connect(nonce) {
  const signedAt = Date.now();
  const signed = ["v3", id, client.id, client.mode, "operator", order.scopes.join(","), signedAt, order.token, nonce, client.platform, ""];
  const signature = crypto.sign(null, Buffer.from(signed.join("|")), key).toString("base64url");
  return {
    minProtocol: 3,
    maxProtocol: 4,
    client,
    role: "operator",
    scopes: order.scopes,
    auth: { token: order.token },
    device: { id, publicKey: publicKey.toString("base64url"), signature, signedAt, nonce },
  };
}

const socket = new WebSocket(order.url);
let requests = 0;
const ask = (method, params) => socket.send(JSON.stringify({ type: "req", id: String(requests++), method, params }));
socket.on("message", (data) => {
  const frame = JSON.parse(data);
  if (frame.event === "connect.challenge") ask("connect", connect(frame.payload.nonce));
  if (frame.type === "res") say(frame.ok ? { ok: frame.payload } : { error: frame.error });
});
socket.on("error", (error) => say({ failed: String(error) }));
socket.on("close", (code, reason) => {
  say({ closed: code, reason: String(reason) });
  process.exit(0);
});
for await (const line of lines) {
  const { method, params } = JSON.parse(line);
  ask(method, params);
}
socket.close();
