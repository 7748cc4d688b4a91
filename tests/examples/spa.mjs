// Drives Chromium through the cross-origin example: node spa.mjs PAGE API TRANSPORT EVIL. Exit 0, or the reason why not.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const { chromium } = createRequire(new URL("../demo/package.json", import.meta.url))("playwright-core"); // one set of packages
const [url, api, transport, evil] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const context = await browser.newContext();
context.setDefaultTimeout(15_000);
context.on("weberror", (error) => { throw error.error(); });

async function tab() {
  const page = await context.newPage();
  await page.goto(url);
  await status(page).waitFor();
  return page;
}
const status = (page) => page.locator("#status:not(:empty)");
async function settles(page, expected) {
  await page.waitForFunction((text) => document.getElementById("status").textContent === text, expected);
}
async function press(page, name, expected) {
  await page.evaluate(() => { document.getElementById("status").textContent = ""; });
  await page.getByRole("button", { name, exact: true }).click();
  await settles(page, expected);
}
const user = (page) => page.locator("#user").textContent();
const held = async () => Object.fromEntries((await context.cookies([api, `${api}/auth/token`])).map((cookie) => [cookie.name, cookie]));

try {
  const page = await tab();
  assert.equal(await user(page), "nobody");
  await page.getByLabel("User").fill("ada");
  await page.getByLabel("Password").fill("wrong");
  await press(page, "Log in", "The password is wrong.");
  await page.getByLabel("Password").fill("analytical-engine");
  await press(page, "Log in", "200");
  assert.equal(await user(page), "ada");
  await press(page, "Order", "200");
  assert.match(await page.locator("#orders").textContent(), /Felt hat for ada/);

  // What the browser holds, and what scripts see of it.
  const jar = await held();
  assert.deepEqual(Object.keys(jar).sort(), transport === "cookie" ? ["__Host-access", "__Secure-refresh"] : ["__Secure-refresh"]);
  for (const cookie of Object.values(jar)) assert.ok(cookie.httpOnly && cookie.secure && cookie.sameSite === "Strict");
  assert.equal(jar["__Secure-refresh"].path, "/auth");
  const readable = await page.evaluate(() => [document.cookie, localStorage.length, sessionStorage.length]);
  assert.deepEqual(readable, ["", 0, 0]);
  assert.equal(typeof await page.evaluate("access"), transport === "cookie" ? "object" : "string");

  // Loaded again, and in a second tab: still logged in.
  await page.reload();
  await settles(page, "200");
  const other = await tab();
  await settles(other, "200");
  assert.equal(await user(other), "ada");

  // Both refresh at the same time, again and again: nobody is logged out.
  for (let round = 0; round < 20; round += 1) {
    assert.deepEqual(await Promise.all([page, other].map((each) => each.evaluate("refresh()"))), [true, true]);
  }
  await press(other, "Load", "200");

  // A page of another site gets nothing done with these cookies, and reads nothing.
  const foreign = await context.newPage();
  await foreign.goto(evil);
  const tried = await foreign.evaluate(async (api) => {
    const post = (path, fields) => fetch(api + path, {
      method: "POST", credentials: "include", mode: "no-cors", body: new URLSearchParams(fields),
    }).then((answer) => answer.type);
    const seen = await fetch(`${api}/orders`, { credentials: "include" }).then((answer) => answer.status, () => "blocked");
    return [seen, await post("/orders", {}), await post("/auth/revoke", { client_id: "spa" }),
      await post("/auth/token", { grant_type: "refresh_token", client_id: "spa" })];
  }, api);
  assert.deepEqual(tried, ["blocked", "opaque", "opaque", "opaque"]);
  await press(page, "Load", "200");
  assert.equal((await page.locator("#orders li").count()), 2);

  // Logged out in one tab: dead in the other, whatever it still holds.
  await press(page, "Log out", "401");
  assert.deepEqual(Object.keys(await held()), []);
  await press(other, "Load", "401");
  assert.equal(await user(other), "nobody");
  assert.equal(await other.evaluate("refresh()"), false);
} finally {
  await browser.close();
}
