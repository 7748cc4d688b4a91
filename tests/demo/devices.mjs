// Drives Chromium through the ready-made devices page: node devices.mjs URL. Exit 0, or the reason why not.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [url] = process.argv.slice(2);
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"];
const LOOKS = [
  { viewport: { width: 1200, height: 850 }, colorScheme: "light" },
  { viewport: { width: 1200, height: 850 }, colorScheme: "dark" },
  { viewport: { width: 320, height: 640 }, colorScheme: "light" },
];
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

async function visitor(looks = LOOKS[0], user = "ada") {
  const context = await browser.newContext({ ...looks, reducedMotion: "reduce" });
  context.setDefaultTimeout(15_000);
  context.on("console", (message) => assert.doesNotMatch(message.text(), /Content.Security.Policy/i));
  const page = await context.newPage();
  await page.goto(`${url}/login/${user}`);
  return page;
}

async function accessible(page, where) {
  const { violations } = await page.evaluate(`${axe}; axe.run({ runOnly: ${JSON.stringify(TAGS)} })`);
  const told = violations.map(({ id, help, nodes }) => `${id}: ${help}\n    ${nodes.map((node) => node.html).join("\n    ")}`);
  assert.deepEqual(told, [], `${where}: axe found violations`);
  const overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
  assert.ok(overflow <= 0, `${where}: ${overflow} px wider than the window`);
}

async function press(page, name) {
  const arrived = page.waitForEvent("load");
  await page.getByRole("button", { name }).first().click();
  await arrived;
}

const list = `${url}/account/devices/`;
const other = await visitor();
for (const looks of LOOKS) {
  const page = await visitor(looks);
  await page.goto(list);
  await accessible(page, "the list");
  await press(page, "Sign out everywhere else");
  assert.match(await page.getByRole("status").textContent(), /signed out/);
  await accessible(page, "the list, afterwards");
  assert.equal(await page.getByRole("listitem").count(), 1);
}
await other.goto(list);
assert.match(other.url(), /\/sign-in$/, "a session that was ended is signed out");

// The keyboard alone: the first stop is the button of the first session, which says what it does.
const keys = await visitor();
await keys.goto(list);
await keys.keyboard.press("Tab");
assert.match(await keys.evaluate("document.activeElement.getAttribute('aria-label')"), /^Sign out Chrome on Linux, signed in /);

// A form of another origin ends nothing: the browser itself says where it comes from.
const victim = await visitor();
await visitor();
await victim.goto(`${url.replace("localhost", "127.0.0.1")}/evil`);
await Promise.all([victim.waitForURL(/localhost.*end-others|sign-in/), victim.evaluate("document.forms[0].submit()")]);
await victim.goto(list);
assert.ok((await victim.getByRole("listitem").count()) > 1, "another origin's form ended sessions");

// An old login has to be confirmed.
const late = await visitor(LOOKS[0], "late");
await late.goto(list);
await late.goto(`${url}/later`);
await late.goto(list);
await press(late, /^Sign out Chrome/);
assert.match(await late.textContent("h1"), /confirm/);
await accessible(late, "the page that asks for a proof");
await browser.close();
