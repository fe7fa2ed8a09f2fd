// The operators' page in headless Chromium: signing in and pairing, the live tree, cancelling and steering, approving, a
// restart of the daemon, and how quick it is with thousands of rows.

import { on } from "node:events";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";

import { before, crowd, troubles } from "./crowd.mjs";
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

/** A model that says what it is told, when it is told: each call of it is had by `called`. */
async function puppet() {
  const server = http.createServer().listen(0, "127.0.0.1");
  const calls = on(server, "request");
  await on(server, "listening").next();
  return {
    baseUrl: `http://127.0.0.1:${server.address().port}/v1`,
    async called() {
      const [request, response] = (await calls.next()).value;
      request.resume();
      response.writeHead(200, { "content-type": "text/event-stream" });
      const send = (choice) => response.write(`data: ${JSON.stringify({ id: "1", object: "chat.completion.chunk", model: "puppet", choices: [{ index: 0, ...choice }] })}\n\n`);
      return {
        says: (content) => send({ delta: { role: "assistant", content }, finish_reason: null }),
        ends() {
          send({ delta: {}, finish_reason: "stop" });
          response.end("data: [DONE]\n\n");
        },
      };
    },
    close: () => server.close(),
  };
}

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

const tree = await page("model.js");
await check("the tree after any changes is that of a fresh snapshot", () => checkModel(tree.Tree));
await check("a cost that is not known is not shown as a smaller one", () => checkCosts(tree.Tree));
await check("a crash loop is a trouble while it lasts", () => checkTroubles(tree));
await check("says for how long an actor does not answer", async () => checkWords(await page("words.js")));
await check("the time line has parents over children and no bars over each other", async () => checkLanes(await page("lanes.js")));

const way = await detour();
const model = await puppet();
const hook = "a-token-that-nobody-may-see";
const daemon = await gateway("watch", {
  gateway: { controlUi: { allowedOrigins: [way.origin] } },
  models: { providers: { example: { baseUrl: "http://127.0.0.1:9/v1", apiKey: "a-key-that-nobody-may-see" }, puppet: { baseUrl: model.baseUrl } } },
  hooks: { enabled: true, token: hook },
  favourite: "tea",
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
  await operator.shows(/agent\s+main/, ".about");
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
await check("shows what a run says as it says it, and with the whole session what its other runs say", async () => {
  daemon.begin("run", `Spawn: ${JSON.stringify({ label: "writer", task: "tell", model: "puppet/puppet" })}`);
  await tab.goto(`${here}#/tree`);
  const first = await model.called();
  await row("writer").click();
  await tab.getByRole("button", { name: "Open the run" }).click();
  const said = tab.locator(".messages");
  const live = (text) => tab.locator(".message.live", { hasText: text });
  await said.getByText("tell", { exact: true }).waitFor();
  first.says("once upon");
  await live("once upon").waitFor();
  expect(!(await said.innerText()).includes("once upon"), "it is no message yet");
  await tab.getByRole("button", { name: "Steer" }).click();
  await dialog.getByLabel("Message").fill("another one");
  await dialog.getByRole("button", { name: "Steer" }).click();
  await live("once upon").waitFor({ state: "hidden" });
  const second = await model.called();
  await tab.getByLabel("of the whole session").check();
  second.says("long ago");
  await live("long ago").waitFor();
  await tab.getByLabel("of the whole session").uncheck();
  await live("long ago").waitFor({ state: "hidden" });
  await tab.getByLabel("of the whole session").check();
  await live("long ago").waitFor();
  second.ends();
  await said.getByText("long ago", { exact: true }).waitFor();
  await live("long ago").waitFor({ state: "hidden" });
});
await check("tries a failed run again", async () => {
  await tab.goto(`${here}#/tree`);
  await row("quotes").click();
  await tab.getByRole("button", { name: "Open the run" }).click();
  await tab.getByLabel("of the whole session").check();
  const asked = tab.locator(".message.user", { hasText: "the archive does not answer" });
  await asked.waitFor();
  await tab.getByRole("button", { name: "Try again" }).click();
  await operator.shows(/Sent again/, "#toasts");
  await asked.nth(1).waitFor();
  await tab.goto(`${here}#/tree`);
  await rowIs("quotes", "error");
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
  // A key that comes in the moment in which the help has gone may be lost.
  const searches = () => tab.evaluate(() => document.activeElement?.type === "search");
  for (let tries = 0; tries < 20 && !(await searches()); tries += 1) await tab.keyboard.press("/");
  await tab.keyboard.press("Escape");
  await row("summary").waitFor();
});
await check("sorts and collapses the tree", async () => {
  const below = async () => {
    const names = ["sources", "figures", "quotes"];
    const rows = await tab.locator(".row").evaluateAll((all) => all.map((row) => [row.getBoundingClientRect().top, row.querySelector(".name").textContent, Number(row.querySelector(".tokens").textContent)]));
    return rows.filter(([, name]) => names.includes(name)).sort(([a], [b]) => a - b).map(([, name, tokens]) => ({ name, tokens }));
  };
  const sort = tab.getByLabel("Sort by");
  await sort.selectOption("tokens");
  const used = await below();
  expect(used.length === 3 && used.every(({ tokens }, at) => at === 0 || used[at - 1].tokens >= tokens), "what used most comes first", used);
  await sort.selectOption("name");
  const named = (await below()).map(({ name }) => name).join();
  expect(named === "figures,quotes,sources", "by name", named);
  await tab.getByRole("button", { name: "Collapse" }).click();
  await row("research").waitFor({ state: "detached" });
  await tab.getByRole("button", { name: "Expand" }).click();
  await row("sources").waitFor();
});
await check("shows the configuration with its problems and without its secrets", async () => {
  await tab.goto(`${here}#/configuration`);
  await operator.shows(/warning\s+favourite: unknown key/, ".problems");
  await tab.getByText("The file as it stands").click();
  await operator.shows(/baseUrl/, ".raw");
  const text = await tab.locator("main").evaluate((main) => main.textContent);
  expect(![hook, "a-key-that-nobody-may-see", daemon.token].some((secret) => text.includes(secret)), "no secret is shown", text);
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
await check("waits for approval where the gateway does not know it, asks anew where it was rejected, and goes on once it is approved", async () => {
  await guest.tab.goto(there);
  await signIn(guest, daemon.token, "Look only");
  const [first] = /[0-9a-f-]{36}/.exec(await guest.shows(/offshoot devices approve [0-9a-f-]{36}/));
  await guest.shot("pairing-narrow-dark");
  await tab.goto(`${here}#/devices`);
  await tab.getByRole("button", { name: /^Reject/ }).click();
  await operator.shows(/Rejected/, "#toasts");
  await guest.shows(new RegExp(`offshoot devices approve (?!${first})[0-9a-f-]{36}`));
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
/** The guest signs in as an administrator, waits, and is let in by the command that it shows. */
const administers = async (waits) => {
  await signIn(guest, daemon.token, "Administer");
  const [, request] = /approve ([0-9a-f-]{36})/.exec(await guest.shows(waits));
  const done = daemon.command("devices", "approve", request);
  expect(done.status === 0, "the command approves it", done.output);
  await guest.shows(/administer/, ".status");
};
await check("asks for more rights, and is let in by the command that it shows", async () => {
  await guest.tab.getByRole("button", { name: "Sign out" }).click();
  await administers(/asks for more rights[\s\S]*offshoot devices approve [0-9a-f-]{36}/);
  await guest.shows(/this browser/, "main");
});
await check("tries a delivery again and dismisses it", async () => {
  const asked = await fetch(new URL("/hooks/agent", here), {
    method: "POST",
    headers: { authorization: `Bearer ${hook}`, "content-type": "application/json" },
    // Nobody listens there.
    body: JSON.stringify({ message: "Reply with exactly: fine", callbackUrl: "http://127.0.0.1:9/" }),
  });
  expect(asked.ok, "the gateway takes it", await asked.text());
  await guest.tab.goto(`${there}#/deliveries`);
  const delivery = guest.tab.locator("tr", { hasText: "http://127.0.0.1:9" });
  await delivery.locator(".pill", { hasText: "failed" }).waitFor();
  await delivery.getByRole("button", { name: "Retry" }).click();
  await guest.shows(/is tried again/, "#toasts");
  await delivery.getByRole("button", { name: "Dismiss" }).click();
  const question = guest.tab.getByRole("dialog");
  await question.getByRole("button", { name: "Dismiss" }).click();
  await delivery.locator(".pill", { hasText: "dismissed" }).waitFor();
  expect((await delivery.getByRole("button").count()) === 0, "nothing is left to do about it");
  await guest.shows(/^0 open, 0 failed/, ".sums");
});
await check("a device whose token is revoked is out, until it is approved again", async () => {
  await guest.tab.goto(`${there}#/devices`);
  const own = guest.tab.locator("tr", { hasText: "this browser" });
  await own.getByRole("button", { name: /^Revoke/ }).click();
  await guest.tab.getByRole("dialog").getByRole("button", { name: "Revoke" }).click();
  await guest.shows(/has signed this browser out/);
  await administers(/Waiting for approval[\s\S]*offshoot devices approve [0-9a-f-]{36}/);
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
await check("what does not answer, crashes again and again or is silent is shown as that, as soon as it is", async () => {
  const { nodes, wrong, says } = troubles();
  const changes = await before(many.context, nodes);
  await many.tab.goto("about:blank");
  await many.tab.goto(here);
  const { tab } = many;
  await tab.locator(".name", { hasText: /^offshoot$/ }).waitFor();
  await tab.getByLabel("Show").selectOption("trouble");
  await many.shows(/^0 rows$/, ".found");
  changes.become(wrong);
  await many.shows(new RegExp(`^${wrong.length} rows$`), ".found");
  await many.shows(new RegExp(`⚠ ${wrong.length} in trouble`), ".sums");
  const rows = await tab.locator(".row:not(.path)").evaluateAll((all) => all.map((row) => [row.querySelector(".name").textContent, row.querySelector(".doing").textContent]));
  expect(rows.length === wrong.length && rows.every(([name, doing]) => says[name]?.test(doing)), "each row says what is wrong", rows);
  await many.shot("troubles");
});
problems.push(...many.problems);
await many.close();
model.close();
fs.writeFileSync(path.join(installed, "logs", "watch.problems.log"), problems.join("\n"));
await check("no error in the console, nothing that the policy had to forbid", async () => {
  expect(problems.length === 0, "the console has no errors", problems);
});
await check("the gateway ends well", () => daemon.stop());
way.close();
finish();
