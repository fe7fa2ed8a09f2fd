// The connection to the gateway: signs in, asks, hears events, and comes back after it was lost.
//
// Phases: `out` (nobody signed in), `connecting`, `pairing` (waits for an approval), `on`, `lost` (comes back by itself).
// What a phase needs to be shown stands in `about`.

import { address, allows, parameters } from "./connect.js";
import { forgetDeviceToken, keepDeviceToken, whyNoDevice } from "./key.js";

const ASKED_WITHIN_MS = 30_000;
const PAIRING_EVERY_MS = 2_000;
const FIRST_PAUSE_MS = 400;
const LAST_PAUSE_MS = 10_000;
/** Silence after which the connection is given up, in ticks of the gateway. */
const SILENT_TICKS = 2.5;
/** What signs a browser in again, as opposed to what a person must mend. */
const OF_THE_TOKEN = new Set(["AUTH_DEVICE_TOKEN_MISMATCH", "AUTH_SCOPE_MISMATCH"]);
/** The close after which what a client came in with is worth nothing. */
const INVALIDATED = 4001;
const EVENT = /^\{"type":"event","event":"([^"]+)"/;

/** A refusal of the gateway. */
export class Refused extends Error {
  constructor({ message, code, details, retryAfterMs }) {
    super(message);
    this.code = details?.code ?? code;
    this.details = details ?? {};
    this.retryAfterMs = retryAfterMs;
  }
}

export class Connection {
  phase = "out";
  about = {};
  scopes = [];
  hello = undefined;
  #listeners = new Map();
  #changes = new Set();
  #open = new Map();
  #requests = 0;
  #socket;
  #settings;
  #pause = FIRST_PAUSE_MS;
  #timer;
  #watchdog;
  #restarting = false;

  constructor() {
    const now = () => this.phase === "lost" && this.#again(0);
    window.addEventListener("online", now);
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && now());
  }

  /** Calls `listener` for every event of that name; returns what ends it. */
  on(name, listener) {
    const listeners = this.#listeners.get(name) ?? this.#listeners.set(name, new Set()).get(name);
    listeners.add(listener);
    return () => {
      listeners.delete(listener);
      if (listeners.size === 0) this.#listeners.delete(name);
    };
  }

  onPhase(listener) {
    this.#changes.add(listener);
  }

  may(scope) {
    return this.phase === "on" && allows(this.scopes, scope);
  }

  /** Signs in with `{secret, rights}`; an empty secret is the token that this device has, or none. */
  signIn({ secret, rights }) {
    this.#settings = { secret: secret || undefined, rights, withDevice: whyNoDevice() === undefined };
    this.#pause = FIRST_PAUSE_MS;
    this.#connect();
  }

  async signOut() {
    this.#settings = undefined;
    this.#close();
    this.#become("out", {});
    if (whyNoDevice() === undefined) await forgetDeviceToken();
  }

  /** Calls a method. */
  call(method, params = {}) {
    if (this.phase !== "on") return Promise.reject(new Error("not connected to the gateway"));
    return this.#ask(method, params);
  }

  #ask(method, params) {
    const id = String(++this.#requests);
    return new Promise((resolve, reject) => {
      const late = setTimeout(() => {
        this.#open.delete(id);
        reject(new Error(`${method} was not answered within ${ASKED_WITHIN_MS / 1000} s`));
      }, ASKED_WITHIN_MS);
      this.#open.set(id, { resolve, reject, late });
      this.#socket.send(JSON.stringify({ type: "req", id, method, params }));
    });
  }

  #become(phase, about) {
    this.phase = phase;
    this.about = about;
    for (const listener of this.#changes) listener(phase, about);
  }

  #close() {
    clearTimeout(this.#timer);
    clearTimeout(this.#watchdog);
    for (const { reject, late } of this.#open.values()) {
      clearTimeout(late);
      reject(new Error("the connection to the gateway was lost"));
    }
    this.#open.clear();
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
  }

  #connect() {
    this.#close();
    if (this.phase === "out") this.#become("connecting", {});
    const socket = new WebSocket(address());
    this.#socket = socket;
    const own = (work) => (event) => this.#socket === socket && work(event);
    socket.onmessage = own(({ data }) => this.#heard(data));
    socket.onclose = own(({ code, reason }) => this.#lost(code, reason));
    // A socket that nobody challenges is no gateway's.
    this.#expect(ASKED_WITHIN_MS);
  }

  #expect(withinMs) {
    clearTimeout(this.#watchdog);
    this.#watchdog = setTimeout(() => {
      if (!this.#socket) return;
      this.#close();
      this.#lost(4000, "the gateway is silent");
    }, withinMs);
  }

  #heard(data) {
    if (this.hello) this.#expect(this.hello.policy.tickIntervalMs * SILENT_TICKS);
    const name = EVENT.exec(data)?.[1];
    if (name !== undefined) {
      // On a busy gateway most events are nobody's here: those are not even read.
      const listeners = this.#listeners.get(name);
      if (name === "connect.challenge") this.#challenged(JSON.parse(data).payload);
      else if (name === "shutdown") this.#restarting = true;
      else if (listeners) {
        const { payload } = JSON.parse(data);
        for (const listener of [...listeners]) listener(payload);
      }
      return;
    }
    const { id, ok, payload, error } = JSON.parse(data);
    const asked = this.#open.get(id);
    if (!asked) return;
    this.#open.delete(id);
    clearTimeout(asked.late);
    if (ok) asked.resolve(payload);
    else asked.reject(new Refused(error));
  }

  async #challenged(challenge) {
    const socket = this.#socket;
    try {
      const params = await parameters(challenge, this.#settings);
      if (this.#socket !== socket) return;
      const hello = await this.#ask("connect", params);
      this.hello = hello;
      this.scopes = hello.auth?.scopes ?? [];
      this.#pause = FIRST_PAUSE_MS;
      this.#restarting = false;
      if (hello.auth?.deviceToken) await keepDeviceToken(hello.auth.deviceToken);
      this.#expect(hello.policy.tickIntervalMs * SILENT_TICKS);
      this.#become("on", { withDevice: this.#settings.withDevice });
    } catch (error) {
      if (this.#socket === socket) await this.#refused(error);
    }
  }

  async #refused(error) {
    this.#close();
    this.hello = undefined;
    const { code, details, message, retryAfterMs } = error;
    if (code === "PAIRING_REQUIRED") {
      this.#become("pairing", { requestId: details.requestId, reason: details.reason, command: `offshoot devices approve ${details.requestId}` });
      this.#timer = setTimeout(() => this.#connect(), PAIRING_EVERY_MS);
      return;
    }
    const passes = code === "UNAVAILABLE" || !(error instanceof Refused);
    if (passes && this.#settings && error.cause === undefined) {
      this.#lost(0, message);
      return;
    }
    if (OF_THE_TOKEN.has(code)) await forgetDeviceToken();
    this.#settings = undefined;
    this.#become("out", { code, message: said(code, message), retryAfterMs });
  }

  #lost(code, reason) {
    this.#close();
    this.hello = undefined;
    if (!this.#settings) return;
    if (code === INVALIDATED) {
      this.#settings = undefined;
      forgetDeviceToken().catch(() => {});
      this.#become("out", { message: "The gateway has signed this browser out: its device was removed, or what it signed in with is not good any more." });
      return;
    }
    const why = this.#restarting || code === 1012 ? "The gateway restarts." : `The connection was lost${reason ? `: ${reason}` : ""}.`;
    this.#become("lost", { why, since: this.about.since ?? Date.now() });
    this.#again(this.#pause * (0.7 + 0.6 * Math.random()));
    this.#pause = Math.min(this.#pause * 1.7, LAST_PAUSE_MS);
  }

  #again(inMs) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#connect(), inMs);
  }
}

/** What a person can do about a refusal. */
function said(code, message) {
  switch (code) {
    case "AUTH_TOKEN_MISSING":
    case "AUTH_REQUIRED":
    case "AUTH_PASSWORD_MISSING":
      return "The gateway asks for its token.";
    case "AUTH_TOKEN_MISMATCH":
    case "AUTH_PASSWORD_MISMATCH":
      return "The gateway does not know this token.";
    case "AUTH_DEVICE_TOKEN_MISMATCH":
    case "AUTH_SCOPE_MISMATCH":
      return "What this device signed in with was revoked, or is not good for these rights. Sign in with the gateway's token.";
    case "CONTROL_UI_DEVICE_IDENTITY_REQUIRED":
      return "The gateway lets pages in only as devices. To allow the token alone, on its own machine, set gateway.controlUi.allowInsecureAuth.";
    case "CONTROL_UI_ORIGIN_NOT_ALLOWED":
      return `${message}. Name this page's address in gateway.controlUi.allowedOrigins.`;
    default:
      return message;
  }
}
