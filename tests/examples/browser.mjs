// Drives Chromium through a running example: node browser.mjs URL FOLDER. Exit 0, or the reason why not; pictures go into FOLDER.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";

const { chromium } = createRequire(new URL("../demo/package.json", import.meta.url))("playwright-core"); // one set of packages
const [url, folder] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  ignoreDefaultArgs: ["--disable-back-forward-cache"], // people's browsers have it
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

/** A device of its own, on the first page. */
async function device() {
  const context = await browser.newContext({ viewport: { width: 700, height: 500 } });
  context.setDefaultTimeout(15_000);
  context.on("weberror", (error) => { throw error.error(); });
  const page = await context.newPage();
  await page.goto(url);
  return { context, page };
}

const greeted = (page) => page.locator("#user").textContent();
const counted = async (page) => Number(await page.locator("#count").textContent());
const picture = (page, name) => page.screenshot({ path: join(folder, `${name}.png`) });
const ticket = async (context) => (await context.cookies()).find((cookie) => cookie.name.endsWith("session"));

/** Press a button, and wait for the page that comes of it. */
async function press(page, name) {
  const arrived = page.waitForEvent("load");
  await page.getByRole("button", { name }).first().click();
  await arrived;
}

async function logIn({ page }) {
  await page.getByLabel("User").fill("ada");
  await page.getByLabel("Password").fill("analytical-engine");
  await press(page, "Log in");
  assert.equal(await greeted(page), "ada");
}

/** Send the page's form that counts, so many times at once. */
const countAtOnce = (page, times) => page.evaluate(async (times) => {
  const form = document.querySelector('form[action="/count"]');
  const send = () => fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)), redirect: "manual" });
  const answers = await Promise.all(Array.from({ length: times }, send));
  return answers.map((answer) => answer.type);
}, times);

async function life() {
  const here = await device();
  const { context, page } = here;
  assert.equal(await greeted(page), "stranger");
  assert.equal(await ticket(context), undefined, "who only looks gets no cookie");
  for (const _ of [1, 2]) await press(page, "Count");
  assert.equal(await counted(page), 2);
  const anonymous = await ticket(context);
  assert.ok(anonymous.httpOnly && anonymous.sameSite === "Lax" && anonymous.path === "/");
  await picture(page, "1 stranger");

  await logIn(here);
  assert.equal(await counted(page), 2, "a login keeps what was counted");
  const mine = await ticket(context);
  assert.notEqual(mine.value, anonymous.value, "a login makes a new ticket");
  assert.equal(mine.value.split(".")[0], anonymous.value.split(".")[0], "of the same session");

  assert.deepEqual(new Set(await countAtOnce(page, 20)), new Set(["opaqueredirect"]));
  await page.reload();
  assert.equal(await counted(page), 22);
  assert.equal((await ticket(context)).value, mine.value);
  await picture(page, "2 logged in");

  const thief = await device();
  await thief.context.addCookies([anonymous]);
  await thief.page.reload();
  assert.equal(await greeted(thief.page), "stranger", "the old ticket opens nothing");

  const there = await device();
  await logIn(there);
  assert.equal(await counted(there.page), 0);
  await there.page.getByRole("link", { name: "Your devices" }).click();
  await there.page.getByText("this one").waitFor();
  assert.equal(await there.page.getByRole("listitem").count(), 2);
  assert.match(await there.page.getByRole("list").textContent(), /Chrom/);
  await picture(there.page, "3 devices");
  await press(there.page, "End");
  assert.equal(await there.page.getByRole("listitem").count(), 1);
  await page.reload();
  assert.equal(await greeted(page), "stranger", "the other device has ended this session");

  await there.page.getByRole("link", { name: "Home" }).click();
  const last = await ticket(there.context);
  await press(there.page, "Log out");
  assert.equal(await greeted(there.page), "stranger");
  assert.equal(await ticket(there.context), undefined, "a logout takes the cookie");
  for (const step of [1, 2, 3]) {
    await there.page.goBack({ waitUntil: "commit" }); // a page kept as it was does not load again
    await there.page.waitForFunction(() => document.readyState === "complete");
    await picture(there.page, `4 back ${step}`);
    assert.doesNotMatch(await there.page.content(), /ada|this one/, "Back shows nothing of before the logout");
  }
  await thief.context.addCookies([last]);
  await thief.page.goto(url);
  assert.equal(await greeted(thief.page), "stranger", "nor does the last ticket open anything");
}

try {
  await life();
} finally {
  await browser.close();
}
