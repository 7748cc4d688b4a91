// Drives Chromium through tests/web/cookie_app.py: node cookie_browser.mjs URL. Exit 0, or the reason why not.
import assert from "node:assert/strict";
import { createRequire } from "node:module";

const { chromium } = createRequire(new URL("../demo/package.json", import.meta.url))("playwright-core"); // one set of packages
const [url] = process.argv.slice(2);
const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});
const context = await browser.newContext();
context.setDefaultTimeout(30_000);
const page = await context.newPage();

const visit = async (path, of = page) => (await of.goto(url + path)).text();
const jar = async (of = context) => (await of.cookies()).map((cookie) => cookie.name).sort();

try {
  assert.equal(await visit("/"), "None 0");
  assert.deepEqual(await jar(), []);

  // A big session: the browser keeps every piece, and sends them back.
  assert.equal(await visit("/put?note=9500"), "None 9500");
  assert.deepEqual(await jar(), ["session", "session.1", "session.2", "session.3"]);
  const sizes = (await context.cookies()).map((cookie) => cookie.name.length + cookie.value.length);
  assert.ok(Math.max(...sizes) > 3900 && Math.max(...sizes) <= 4096, `${sizes}`);
  assert.equal(await visit("/"), "None 9500");
  assert.equal(await visit("/login"), "ada 9500");
  assert.equal(await page.evaluate(() => document.cookie), "", "scripts see none of it");

  // Smaller again: the pieces that are not needed go.
  assert.equal(await visit("/put?note=10"), "ada 10");
  assert.deepEqual(await jar(), ["session"]);
  assert.equal(await visit("/"), "ada 10");

  // A logout takes all of them, and what somebody copied before is worth nothing.
  await visit("/put?note=9500");
  const copied = await context.cookies();
  assert.equal(await visit("/logout"), "None 0");
  assert.deepEqual(await jar(), []);
  const thief = await browser.newContext();
  await thief.addCookies(copied);
  assert.equal(await visit("/", await thief.newPage()), "None 0");
} finally {
  await browser.close();
}
