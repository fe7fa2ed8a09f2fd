// This browser as a device: an Ed25519 key that scripts can use and never read, and what the gateway gave it.

const DATABASE = "offshoot-watch";
const STORE = "device";

let opened;

function database() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(DATABASE, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(STORE);
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
  return opened;
}

async function inStore(mode, work) {
  const transaction = (await database()).transaction(STORE, mode);
  const request = work(transaction.objectStore(STORE));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = () => reject(transaction.error);
  });
}

const base64url = (bytes) =>
  btoa(String.fromCharCode(...new Uint8Array(bytes))).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");

const hex = (bytes) => Array.from(new Uint8Array(bytes), (byte) => byte.toString(16).padStart(2, "0")).join("");

/** Why this browser cannot be a device here; nothing if it can. */
export function whyNoDevice() {
  if (!window.isSecureContext) {
    return "This page was not loaded securely, and browsers keep keys only for pages that were. Open it from this machine as http://127.0.0.1 or http://localhost, by HTTPS, or through an SSH tunnel.";
  }
  if (!crypto.subtle || !window.indexedDB) return "This browser has no place for a key (WebCrypto and IndexedDB).";
  return undefined;
}

/** The device of this browser, made at its first use. */
export async function device() {
  let pair = await inStore("readonly", (store) => store.get("key"));
  if (!pair) {
    try {
      pair = await crypto.subtle.generateKey({ name: "Ed25519" }, false, ["sign", "verify"]);
    } catch (error) {
      throw new Error("This browser cannot make Ed25519 keys. Firefox 129, Safari 17 and Chromium 137 can.", { cause: error });
    }
    // Another tab may have been quicker.
    await inStore("readwrite", (store) => store.add(pair, "key")).catch(() => {});
    pair = (await inStore("readonly", (store) => store.get("key"))) ?? pair;
  }
  const raw = await crypto.subtle.exportKey("raw", pair.publicKey);
  return {
    id: hex(await crypto.subtle.digest("SHA-256", raw)),
    publicKey: base64url(raw),
    async sign(text) {
      return base64url(await crypto.subtle.sign("Ed25519", pair.privateKey, new TextEncoder().encode(text)));
    },
  };
}

/** The token that the gateway gave this device. */
export const deviceToken = () => inStore("readonly", (store) => store.get("token"));

export const keepDeviceToken = (token) => inStore("readwrite", (store) => store.put(token, "token"));

/** Forgets the token; the key stays, so that the gateway knows the device again. */
export const forgetDeviceToken = () => inStore("readwrite", (store) => store.delete("token"));
