// The operators' page in headless Chromium: signing in and pairing, the live tree, cancelling and steering, approving, a
// restart of the daemon, and how quick it is with thousands of rows.

import fs from "node:fs";
import path from "node:path";

import { before, crowd } from "./crowd.mjs";
import { browser, detour, signIn } from "./page.mjs";
import { checkCosts, checkLanes, checkModel, checkTroubles, checkWords, page } from "./model.mjs";
import { check as checked, expect, finish, gateway, installed } from "./rig.mjs";

const LONG = "Wait: 10m";
const CROWD = 5_000;
const UPDATES = 40;

/** The prompt of a run that spawns these, each with its label. */
const spawning = (children, ...more) => [...Object.entries(children).map(([label, task]) => `Spawn: ${JSON.stringify({ label, task })}`), ...more].join("\n");
const FAN_OUT = spawning({
  research: spawning({
    sources: 'Call: sessions_list {}\nWait: 1s\nReply with exactly: eleven sources, four of them from this year',
    figures: "Wait: 1500ms\nStream: 30\nReply with exactly: Both tables agree but for the third row, in which the second one is higher by a tenth. I would take the first.",
    quotes: "Wait: 800ms\nFail: the archive does not answer",
  }),
  translation: spawning({
    "chapter one": "Wait: 1200ms\nReply with exactly: the first chapter, in 2140 words",
    "chapter two": "Wait: 1700ms\nReply with exactly: the second chapter, in 1870 words",
  }),
  summary: "Wait: 2s\nReply with exactly: a summary of one page",
});

let operator;
let failures = 0;
/** A check that leaves what the operator saw when it failed. */
const check = (name, work) =>
  checked(name, async () => {
    try {
      await work();
    } catch (error) {
      failures += 1;
      await operator?.shot(`failed-${failures}`).catch(() => {});
      throw error;
    }
  });

const model = await page("model.js");
await check("the tree after any changes is that of a fresh snapshot", () => checkModel(model.Tree));
await check("a cost that is not known is not shown as a smaller one", () => checkCosts(model.Tree));
await check("a crash loop is a trouble while it lasts", () => checkTroubles(model));
await check("says for how long an actor does not answer", async () => checkWords(await page("words.js")));
await check("the time line has parents over children and no bars over each other", async () => checkLanes(await page("lanes.js")));

const way = await detour();
const daemon = await gateway("watch", {
  gateway: { controlUi: { allowedOrigins: [way.origin] } },
  models: { providers: { example: { baseUrl: "http://127.0.0.1:9/v1", apiKey: "a-key-that-nobody-may-see" } } },
});
way.to(daemon.url);
const here = `${daemon.url.replace(/^ws/, "http")}/watch/`;
operator = await browser("operator");
const { tab } = operator;
const row = (name) => tab.locator(".row", { has: tab.locator(".name", { hasText: new RegExp(`^${name}$`) }) });
const rowIs = (name, state) => row(name).locator(".state", { hasText: state }).waitFor();
const dialog = tab.getByRole("dialog");

await check("signs in with a typed token, and later with what this browser was given", async () => {
  await tab.goto(here);
  await signIn(operator, "wrong");
  await operator.shows(/does not know this token/);
  await signIn(operator, daemon.token);
  await tab.getByRole("tree").waitFor();
  await operator.shows(/operate/, ".status");
  await tab.reload();
  await tab.getByRole("tree").waitFor();
});
await check("takes a token out of the address at once", async () => {
  await tab.goto("about:blank");
  await tab.goto(`${here}#token=${daemon.token}`);
  await tab.getByRole("tree").waitFor();
  expect(!tab.url().includes(daemon.token), "the address has no secret", tab.url());
  const kept = await tab.evaluate(() => JSON.stringify([{ ...localStorage }, { ...sessionStorage }]));
  expect(!kept.includes(daemon.token), "no storage keeps it unasked", kept);
});
await check("shows the tree grow and end during a fan-out", async () => {
  daemon.begin("run", FAN_OUT);
  for (const name of ["research", "sources", "figures", "quotes", "summary"]) await row(name).waitFor();
  await rowIs("figures", "running");
  const level = (name) => row(name).getAttribute("aria-level").then(Number);
  expect((await level("sources")) === (await level("research")) + 1, "a sub-agent stands below its parent");
  await rowIs("quotes", "error");
  await row("figures").click();
  await tab.waitForTimeout(100);
  await operator.shot("tree-at-work");
  await operator.shows(/the archive does not answer/, ".list");
  for (const name of ["research", "sources", "figures", "summary"]) await rowIs(name, "ok");
});
await check("shows a run: what it said, its tool calls, its time line", async () => {
  await row("sources").click();
  await tab.getByRole("button", { name: "Open the run" }).click();
  await operator.shows(/eleven sources, four of them from this year/, ".transcript");
  await operator.shows(/sessions_list/, ".transcript");
  await tab.locator(".steps rect.tool").first().waitFor();
  await tab.locator(".call summary").click();
  await operator.shot("run-wide-light");
});
await check("cancels a subtree, after asking", async () => {
  daemon.begin("run", spawning({ doomed: spawning({ first: LONG, second: LONG }), spared: LONG }));
  await tab.goto(`${here}#/tree`);
  for (const name of ["doomed", "first", "second", "spared"]) await row(name).waitFor();
  await row("doomed").click();
  await tab.keyboard.press("c");
  await operator.shows(/Cancel everything below doomed/, "dialog");
  await tab.keyboard.press("Enter");
  await dialog.waitFor({ state: "detached" });
  await rowIs("first", "running");
  await tab.keyboard.press("c");
  await dialog.getByRole("button", { name: /^Cancel \d runs$/ }).click();
  for (const name of ["doomed", "first", "second"]) await rowIs(name, "cancelled");
  await rowIs("spared", "running");
});
await check("cancels below a session also what no run of it has spawned", async () => {
  for (const name of ["research", "sources"]) {
    await row(name).click();
    await tab.getByRole("button", { name: "Send a message" }).click();
    await dialog.getByLabel("Message").fill(LONG);
    await dialog.getByRole("button", { name: "Send" }).click();
    await rowIs(name, "running");
  }
  await row("research").click();
  await tab.keyboard.press("c");
  await dialog.getByRole("button", { name: "Cancel 2 runs" }).click();
  for (const name of ["research", "sources"]) await rowIs(name, "cancelled");
  await operator.shows(/2 runs below research cancelled/, "#toasts");
});
await check("steers a run, and shows the answer as it comes", async () => {
  await row("spared").click();
  await tab.getByRole("button", { name: "Open the run" }).click();
  await tab.getByRole("button", { name: "Steer" }).click();
  await dialog.getByLabel("Message").fill("Wait: 300ms\nReply with exactly: steered");
  await dialog.getByRole("button", { name: "Steer" }).click();
  await tab.getByLabel("of the whole session").check();
  await operator.shows(/Agent[\s\S]*steered/, ".transcript");
});
await check("has the runs in a time line, as a table too", async () => {
  await tab.goto(`${here}#/timeline`);
  await operator.shows(/\d+ runs/, ".sums");
  await tab.getByText("As a table").click();
  await operator.shows(/the\s+archive|quotes/, "table");
});
await check("goes through the tree by keys", async () => {
  await tab.goto(`${here}#/tree`);
  await tab.getByRole("tree").focus();
  const active = () => tab.evaluate(() => document.getElementById(document.querySelector("[role=tree]").getAttribute("aria-activedescendant"))?.querySelector(".name").textContent);
  await tab.keyboard.press("Home");
  expect((await active()) === "offshoot", "Home is the root", await active());
  await tab.keyboard.press("ArrowLeft");
  expect((await tab.locator(".row").count()) === 1, "what is closed shows nothing below it");
  await tab.keyboard.press("ArrowRight");
  await tab.keyboard.press("ArrowRight");
  expect((await active()) === "sessions", "to the right is the first child", await active());
  await tab.keyboard.press("/");
  await tab.keyboard.type("figures");
  await tab.keyboard.press("Enter");
  await operator.shows(/1 row/, ".found");
  await tab.keyboard.press("?");
  await operator.shows(/Keys/, "dialog");
  await tab.keyboard.press("Escape");
  await dialog.waitFor({ state: "detached" });
  await tab.keyboard.press("/");
  await tab.keyboard.press("Escape");
  await row("summary").waitFor();
});
await check("shows the configuration without its secrets", async () => {
  await tab.goto(`${here}#/configuration`);
  await tab.getByText("The file as it stands").click();
  await operator.shows(/baseUrl/, ".raw");
  const text = await tab.locator("main").evaluate((main) => main.textContent);
  expect(!text.includes("a-key-that-nobody-may-see") && !text.includes(daemon.token), "no secret is shown", text);
});
for (const [name, says] of [["sessions", /agent|main/], ["deliveries", /0 open/], ["devices", /Offshoot watch/], ["health", /Lanes/], ["logs", /clients can connect/]]) {
  await check(`shows ${name}`, async () => {
    await tab.goto(`${here}#/${name}`);
    await operator.shows(says, "main");
    await operator.shot(name);
  });
}

const guest = await browser("guest", { viewport: { width: 420, height: 760 }, colorScheme: "dark" });
const there = `${way.origin}/watch/`;
await check("waits for approval where the gateway does not know it, and goes on once it is approved", async () => {
  await guest.tab.goto(there);
  await signIn(guest, daemon.token, "Look only");
  await guest.shows(/offshoot devices approve [0-9a-f-]{36}/);
  await guest.shot("pairing-narrow-dark");
  await tab.goto(`${here}#/devices`);
  await operator.shows(/Approve/, "main");
  await operator.shot("devices-wide-light");
  await tab.getByRole("button", { name: /^Approve/ }).click();
  await dialog.getByRole("button", { name: "Approve" }).click();
  await guest.tab.getByRole("tree").waitFor();
  await operator.shows(/Nobody waits/, "main");
});
await check("changes nothing without the right to", async () => {
  await guest.tab.locator(".row", { has: guest.tab.locator(".name", { hasText: /^research$/ }) }).click();
  await guest.shot("tree-narrow-dark");
  const message = guest.tab.getByRole("button", { name: "Send a message" });
  expect(await message.isDisabled(), "a button that needs a right cannot be used");
  expect(/operator\.write/.test(await message.getAttribute("title")), "it says which right");
  await guest.tab.goto(`${there}#/devices`);
  await guest.shows(/without the right operator\.pairing/);
});
await check("asks for more rights, and is let in by the command that it shows", async () => {
  await guest.tab.getByRole("button", { name: "Sign out" }).click();
  await signIn(guest, daemon.token, "Administer");
  const text = await guest.shows(/asks for more rights[\s\S]*offshoot devices approve [0-9a-f-]{36}/);
  const done = daemon.command("devices", "approve", /approve ([0-9a-f-]{36})/.exec(text)[1]);
  expect(done.status === 0, "the command approves it", done.output);
  await guest.shows(/administer/, ".status");
  await guest.shows(/this browser/, "main");
});
await check("a device that is removed is out", async () => {
  const other = tab.locator("tr", { has: tab.locator(".pill", { hasText: "admin" }) });
  await other.waitFor();
  expect(await other.getByRole("button", { name: /^Remove/ }).isDisabled(), "who is no administrator removes no other device");
  await guest.tab.locator("tr", { hasText: "this browser" }).getByRole("button", { name: /^Remove/ }).click();
  await guest.tab.getByRole("dialog").getByRole("button", { name: "Remove" }).click();
  await guest.shows(/has signed this browser out/);
  await other.waitFor({ state: "detached" });
});
await guest.close();
await check("comes back by itself after a restart of the daemon", async () => {
  await tab.goto(`${here}#/tree`);
  await tab.getByRole("tree").waitFor();
  operator.away(true);
  const start = await daemon.rest();
  await operator.shows(/gateway restarts[\s\S]*reconnects by itself/, "#banner");
  expect((await tab.locator(".row").count()) > 0, "what was known stays in sight");
  await start();
  await operator.shows(/Connected again/, "#toasts");
  operator.away(false);
  daemon.begin("run", spawning({ afterwards: "Reply with exactly: fine" }));
  await rowIs("afterwards", "ok");
});
await check("is drawn for wide and narrow, dark and light", async () => {
  await tab.reload();
  await tab.getByRole("tree").waitFor();
  for (const [width, height, size] of [[1400, 860, "wide"], [420, 760, "narrow"]]) {
    for (const colorScheme of ["light", "dark"]) {
      await tab.setViewportSize({ width, height });
      await tab.emulateMedia({ colorScheme });
      for (const name of ["tree", "timeline", "health"]) {
        await tab.mouse.move(0, 0);
        await tab.goto(`${here}#/${name}`);
        await operator.shows(/research|\d runs|Lanes/, "main");
        await operator.shot(`${name}-${size}-${colorScheme}`);
        const wider = await tab.evaluate(() => document.documentElement.scrollWidth - window.innerWidth);
        expect(wider <= 0, `${name} is not wider than ${width}`, wider);
      }
    }
  }
});
await operator.close();

const many = await browser("many");
const problems = [...operator.problems, ...guest.problems];
await check(`${CROWD} nodes: painted at once, and updates keep up`, async () => {
  const changes = await before(many.context, crowd(CROWD));
  await many.tab.goto(`${here}#token=${daemon.token}`);
  await many.tab.getByRole("tree").waitFor();
  // Once more: now the key is made and the device is paired, as on every day but the first.
  await many.tab.goto("about:blank");
  const devtools = await many.context.newCDPSession(many.tab);
  // What this thread worked, whoever else works on the machine.
  await devtools.send("Performance.enable", { timeDomain: "threadTicks" });
  const busy = async () => (await devtools.send("Performance.getMetrics")).metrics.find(({ name }) => name === "TaskDuration").value * 1000;
  await many.tab.goto(here);
  const first = await (await many.tab.waitForFunction(() => window.seen.firstRow)).jsonValue();
  const worked = await busy();
  await many.shows(/collect sources 0/, ".list");
  await many.shot("crowd");
  expect((await many.tab.locator(".row").count()) < 100, "only rows in sight exist");
  const measured = async (name, grow) => {
    await many.tab.waitForTimeout(300);
    const from = await busy();
    for (let update = 0; update < UPDATES; update += 1) {
      changes.change(200, { grow });
      await many.tab.waitForTimeout(50);
    }
    return `${((await busy() - from) / UPDATES).toFixed(1)} ms ${name}`;
  };
  const same = await measured("an update of 200 nodes", false);
  const grown = await measured("with a new node too", true);
  console.log(`        ${CROWD} nodes: first paint after ${first.toFixed(0)} ms, of which ${worked.toFixed(0)} ms of work; ${same}, ${grown}`);
});
problems.push(...many.problems);
await many.close();
fs.writeFileSync(path.join(installed, "logs", "watch.problems.log"), problems.join("\n"));
await check("no error in the console, nothing that the policy had to forbid", async () => {
  expect(problems.length === 0, "the console has no errors", problems);
});
await check("the gateway ends well", () => daemon.stop());
way.close();
finish();
