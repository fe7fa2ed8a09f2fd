// A browser of its own for the operators' page, and everything in it that goes wrong.

import fs from "node:fs";
import { once } from "node:events";
import { createRequire } from "node:module";
import net from "node:net";
import path from "node:path";

import { expect, installed, scratch, skipped } from "./rig.mjs";

const SHOWN_WITHIN_MS = 20_000;
const executablePath = ["chromium", "chromium-browser", "google-chrome"]
  .flatMap((name) => process.env.PATH.split(":").map((folder) => path.join(folder, name)))
  .find((file) => fs.existsSync(file));

/** Runs in the page before its own scripts: tells of what the policy forbade, and when the first row was painted. */
function observe() {
  document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => console.error(`policy: ${violatedDirective} ${blockedURI}`));
  const seen = (window.seen = { firstRow: undefined, frames: [] });
  const painted = () => {
    if (document.querySelector(".row")) seen.firstRow = performance.now();
    else requestAnimationFrame(painted);
  };
  // In the frame after the one in which it stood there, it has been painted.
  requestAnimationFrame(painted);
}

/** What was left out of an address, to have it in the log. */
export async function browser(name, { viewport = { width: 1400, height: 860 }, colorScheme = "light", ...more } = {}) {
  if (!executablePath) skipped("there is no chromium (apt-get install chromium)");
  const { chromium } = createRequire(path.join(installed, "third-party", "package.json"))("playwright-core");
  const context = await chromium.launchPersistentContext(scratch(), {
    executablePath,
    headless: true,
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
    viewport,
    colorScheme,
    reducedMotion: "reduce",
    ...more,
  });
  await context.addInitScript(observe);
  const problems = [];
  const tab = context.pages()[0] ?? (await context.newPage());
  tab.setDefaultTimeout(SHOWN_WITHIN_MS);
  const state = { away: false };
  tab.on("console", (line) => {
    // A socket that finds nobody is told by the browser itself, and by nothing else.
    const away = state.away && /WebSocket connection to .* failed/.test(line.text());
    if (line.type() === "error" && !away) problems.push(`${line.text()} (${line.location().url})`);
  });
  tab.on("pageerror", (error) => problems.push(String(error.stack ?? error)));
  tab.on("response", (answer) => {
    if (answer.status() >= 400) problems.push(`${answer.status()} ${answer.url()}`);
  });
  const shot = (what) => tab.screenshot({ path: path.join(installed, "shots", `watch-${what}.png`) });
  return {
    tab,
    context,
    problems,
    shot,
    /** While the gateway is away, sockets that find nobody are no problem. */
    away: (is) => (state.away = is),
    /** Waits until the page shows it. */
    async shows(what, where = "body") {
      const until = Date.now() + SHOWN_WITHIN_MS;
      let text = "";
      while (Date.now() < until) {
        text = await tab.locator(where).first().innerText().catch(() => "");
        if (what.test(text)) return text;
        await tab.waitForTimeout(50);
      }
      await shot(`failed-${name}`);
      return expect(false, `${name} shows ${what}`, text);
    },
    close: () => context.close(),
  };
}

/** Signs in with a typed secret. */
export async function signIn({ tab }, secret, rights = "Operate") {
  await tab.getByLabel("Token or password of the gateway").fill(secret);
  await tab.getByRole("radio", { name: rights }).check();
  await tab.getByRole("button", { name: "Sign in", exact: true }).click();
}

/**
 * A way to the gateway by which every request says that it comes from elsewhere. Known is its port before the gateway is
 * there, as that is told which pages it may trust.
 */
export async function detour() {
  let to;
  const server = net.createServer((client) => {
    const gateway = net.connect(Number(new URL(to).port), "127.0.0.1");
    const end = () => [client, gateway].forEach((socket) => socket.destroy());
    for (const socket of [client, gateway]) socket.on("error", end).on("close", end);
    gateway.pipe(client);
    client.once("data", (first) => {
      const at = first.indexOf("\r\n") + 2;
      gateway.write(Buffer.concat([first.subarray(0, at), Buffer.from("X-Forwarded-For: 192.0.2.7\r\nConnection: "), Buffer.from(/\r\nupgrade:/i.test(first) ? "Upgrade" : "close"), Buffer.from("\r\n"), Buffer.from(first.subarray(at).toString("latin1").replace(/^connection:.*\r\n/im, ""), "latin1")]));
      client.pipe(gateway);
    });
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  return { origin: `http://127.0.0.1:${server.address().port}`, to: (url) => (to = url), close: () => server.close() };
}
