// The handshake: who this client is, what it asks for, and the signature that proves it.

import { device, deviceToken } from "./key.js";

const ROLE = "operator";
/** The rights that a person can sign in with, from least to most. */
export const RIGHTS = {
  look: { text: "Look only", about: "Sees everything, changes nothing.", scopes: ["operator.read"] },
  operate: {
    text: "Operate",
    about: "Cancels, steers and sends messages; approves devices.",
    scopes: ["operator.read", "operator.write", "operator.approvals", "operator.pairing"],
  },
  administer: {
    text: "Administer",
    about: "Settles deliveries too, and has every other right.",
    scopes: ["operator.admin", "operator.read", "operator.write", "operator.approvals", "operator.pairing"],
  },
};

const client = {
  // The name under which gateways know the pages that operators use.
  id: "openclaw-control-ui",
  displayName: "Offshoot watch",
  version: "1",
  platform: navigator.platform || "web",
  mode: "ui",
};

/** Whether these scopes allow what needs `wanted`. */
export function allows(scopes, wanted) {
  const holds = (name) => scopes.includes(`operator.${name}`);
  return holds("admin") || holds(wanted) || (wanted === "read" && holds("write"));
}

/** The gateway that served this page, also where a proxy put it below a path. */
export function address() {
  const url = new URL("..", location.href.split("#")[0]);
  url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
  return url.href;
}

/**
 * The parameters of `connect`, as an answer to a challenge.
 * `secret` is the gateway's token or password, if the person gave one; `withDevice` is whether to come as a device.
 */
export async function parameters({ nonce, ts }, { secret, rights, withDevice }) {
  const scopes = RIGHTS[rights].scopes;
  const common = { minProtocol: 4, maxProtocol: 4, client, role: ROLE, scopes, caps: [], userAgent: navigator.userAgent };
  const own = withDevice && !secret ? await deviceToken() : undefined;
  // Which of the two a gateway wants is its own affair.
  const auth = secret ? { token: secret, password: secret } : own ? { deviceToken: own } : {};
  if (!withDevice) return { ...common, auth };
  const key = await device();
  // The gateway's clock: this machine's may be wrong.
  const signedAt = ts ?? Date.now();
  const signed = ["v3", key.id, client.id, client.mode, ROLE, scopes.join(","), signedAt, secret ?? own ?? "", nonce, client.platform.trim().toLowerCase(), ""];
  const signature = await key.sign(signed.join("|"));
  return { ...common, auth, device: { id: key.id, publicKey: key.publicKey, signature, signedAt, nonce } };
}
