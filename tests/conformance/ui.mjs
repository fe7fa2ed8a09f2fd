// The Control UI of both releases, served by the gateway from the package's own folder, in headless Chromium.

import fs from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";

import { RELEASES, WORDS, check, expect, finish, gateway, installed, release, scratch, skipped, slowModel } from "./rig.mjs";

const SHOWN_WITHIN_MS = 20_000;
const browser = ["chromium", "chromium-browser", "google-chrome"]
  .flatMap((name) => process.env.PATH.split(":").map((folder) => path.join(folder, name)))
  .find((file) => fs.existsSync(file));
if (!browser) skipped("there is no chromium (apt-get install chromium)");

const { chromium } = createRequire(path.join(installed, "third-party", "package.json"))("playwright-core");

// The other pages: whatever they ask for, none of them may fail.
const PAGES = {
  "2026.4.15": ["overview", "channels", "instances", "usage", "cron", "skills", "nodes", "config", "debug", "logs"],
  "2026.9.6": ["new", "automations", "channels", "usage", "tasks", "activity", "skills", "plugins", "nodes", "config", "debug", "logs"],
};
const QUIET_MS = 400;
// Some pages ask for the agent's picture without knowing whether there is one; OpenClaw's gateway answers 404, too.
const pictureless = (url) => /\/avatar\/main$/.test(url);

async function inBrowser(version) {
  const root = path.join(release(version), "dist", "control-ui");
  const model = await slowModel();
  const daemon = await gateway(`ui-${version}`, {
    gateway: { controlUi: { root } },
    models: { providers: { local: { baseUrl: `http://127.0.0.1:${model.address().port}/v1` } } },
    agents: { defaults: { model: "local/slow" } },
  });
  const page = daemon.url.replace(/^ws/, "http");
  const context = await chromium.launchPersistentContext(scratch(), {
    executablePath: browser,
    headless: true,
    args: ["--no-sandbox", "--disable-dev-shm-usage"],
    viewport: { width: 1400, height: 900 },
  });
  const tab = context.pages()[0] ?? (await context.newPage());
  tab.setDefaultTimeout(SHOWN_WITHIN_MS);
  const problems = [];
  const frames = [];
  // Requests without an answer yet, and when the last one was sent or answered.
  const open = new Set();
  let quietSince = Date.now();
  tab.on("console", (line) => {
    if (line.type() === "error" && !pictureless(line.location().url)) problems.push(`${line.text()} (${line.location().url})`);
  });
  tab.on("pageerror", (error) => problems.push(String(error.stack ?? error)));
  tab.on("response", (answer) => {
    if (answer.status() >= 400 && !pictureless(answer.url())) problems.push(`${answer.status()} ${answer.url()}`);
  });
  tab.on("websocket", (socket) => {
    open.clear();
    const seen = (direction) => ({ payload }) => {
      frames.push(`${direction} ${payload}`);
      const { type, id } = JSON.parse(payload);
      if (type === "req") open.add(id);
      if (type === "res") open.delete(id);
      if (type !== "event") quietSince = Date.now();
    };
    socket.on("framesent", seen(">"));
    socket.on("framereceived", seen("<"));
  });
  const shot = (name) => tab.screenshot({ path: path.join(installed, "shots", `${version}-${name}.png`) });
  // What the page shows, also inside of its components.
  const shown = () => tab.locator("body").innerText();
  const shows = async (what, name) => {
    const until = Date.now() + SHOWN_WITHIN_MS;
    let seen = "";
    while (Date.now() < until) {
      seen = await shown();
      if (what.test(seen)) return;
      await tab.waitForTimeout(100);
    }
    await shot(`failed-${name}`);
    expect(false, `${name} is shown: ${what}`, seen);
  };

  const composer = tab.locator('textarea[placeholder^="Message"]:visible, textarea[aria-label^="Message"]:visible').first();
  const requests = (method) => frames.filter((frame) => frame.startsWith(">") && frame.includes(`"method":"${method}"`));

  /** Waits until the page has what it asked for. */
  const settled = async () => {
    const until = Date.now() + SHOWN_WITHIN_MS;
    quietSince = Date.now();
    while (open.size > 0 || Date.now() - quietSince < QUIET_MS) {
      expect(Date.now() < until, "every request is answered", [...open]);
      await tab.waitForTimeout(50);
    }
  };

  await check(`${version} Control UI: connects and shows the chat`, async () => {
    await tab.goto(`${page}/#token=${daemon.token}`);
    await composer.waitFor();
    await shows(/main/i, "agent");
    expect(requests("connect").length === 1, "it connects at the first attempt", frames);
    await shot("1-connected");
  });
  await check(`${version} Control UI: streams the answer to a message`, async () => {
    await composer.fill("Count for me, please");
    await composer.press("Enter");
    await shows(/word0 word1/, "beginning");
    expect(!/word29/.test(await shown()), "the beginning is shown before the end is there", await shown());
    await shot("2-streaming");
    await shows(/word0 word1 .* word28 word29/s, "answer");
    await shot("3-answered");
  });
  await check(`${version} Control UI: keeps the history when it is loaded again`, async () => {
    await tab.reload();
    await composer.waitFor();
    await shows(/Count for me, please/, "question");
    await shows(/word0 word1 .* word28 word29/s, "history");
    await shot("4-reloaded");
  });
  await check(`${version} Control UI: shows the sessions`, async () => {
    await tab.goto(`${page}/sessions`);
    await shows(/agent:main:main/, "sessions");
    await settled();
    await shot("5-sessions");
  });
  await check(`${version} Control UI: shows the agent`, async () => {
    await tab.goto(`${page}/agents`);
    await shows(/main \(default\)|local\/slow/, "agents");
    await settled();
    await shot("6-agents");
  });
  await check(`${version} Control UI: shows every other page`, async () => {
    for (const name of PAGES[version]) {
      await tab.goto(`${page}/${name}`);
      await settled();
      await shot(`7-${name}`);
    }
  });
  fs.writeFileSync(path.join(installed, "logs", `ui-${version}.frames.log`), frames.join("\n"));
  fs.writeFileSync(path.join(installed, "logs", `ui-${version}.problems.log`), problems.join("\n"));
  await check(`${version} Control UI: no error in the console, no request refused but for what does not exist`, async () => {
    expect(problems.length === 0, "the console has no errors", problems);
    const refused = frames.filter((frame) => frame.startsWith("<") && /"ok":false/.test(frame));
    const wrong = refused.filter((frame) => !/unknown method: .*offshoot does not/.test(frame));
    expect(wrong.length === 0, "what exists is answered", wrong);
  });
  await context.close();
  await check(`${version} Control UI: the gateway ends well`, () => daemon.stop());
  model.close();
}

for (const version of RELEASES) await inBrowser(version);
finish();
