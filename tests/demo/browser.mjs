// Drives Chromium through the running demo: node browser.mjs URL SCENARIO. Exit 0, or the reason why not.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { chromium } from "playwright-core";

const [url, wanted] = process.argv.slice(2);
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

/** A visitor of their own, with a page; anything that the page's policy refuses, or a script error, fails the run. */
async function visitor(looks = LOOKS[0]) {
  const context = await browser.newContext({ ...looks, reducedMotion: "reduce" });
  context.setDefaultTimeout(15_000);
  context.on("console", (message) => assert.doesNotMatch(message.text(), /Content.Security.Policy/i));
  context.on("weberror", (error) => { throw error.error(); });
  return { context, page: await context.newPage() };
}

async function signIn(page, name = "demo", password = "demo-password") {
  await page.goto(`${url}/login`);
  await page.getByLabel("Username").fill(name);
  await page.getByLabel("Password").fill(password);
  await submit(page, page.getByRole("main").getByRole("button", { name: "Sign in" }));
}

/** Press a button that sends a form, and wait for the page that comes of it. */
async function submit(page, button) {
  const arrived = page.waitForEvent("load");
  await button.click();
  await arrived;
}

const flashes = (page) => page.locator(".flash").allTextContents();

async function accessible(page, where) {
  const { violations } = await page.evaluate(`${axe}; axe.run({ runOnly: ${JSON.stringify(TAGS)} })`);
  const told = violations.map(({ id, help, nodes }) => `${id}: ${help}\n    ${nodes.map((node) => node.html).join("\n    ")}`);
  assert.deepEqual(told, [], `${where}: axe found violations`);
  const overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
  assert.ok(overflow <= 0, `${where}: ${overflow} px wider than the window`);
}

const scenarios = {
  async accessibility() {
    let checked = 0;
    for (const looks of LOOKS) {
      const { page } = await visitor(looks);
      const look = async (where) => {
        for (const summary of await page.locator("summary").all()) await summary.click();
        await accessible(page, `${where} ${looks.colorScheme} ${looks.viewport.width}`);
        checked += 1;
      };
      for (const path of ["/", "/cart", "/inspector", "/login", "/signup", "/nothing-here"]) {
        await page.goto(url + path);
        await look(path);
      }
      await signIn(page, "demo", "wrong");
      await look("/login with an error");
      await signIn(page);
      assert.equal((await flashes(page)).length, 1);
      await look("/ with a message");
      for (const path of ["/cart", "/devices", "/inspector", "/tokens"]) {
        await page.goto(url + path);
        await look(`${path} signed in`);
      }
    }
    assert.equal(checked, 12 * LOOKS.length);
  },

  async keyboard() {
    const { page } = await visitor();
    await page.goto(`${url}/login`);
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate("document.activeElement.textContent"), "Skip to content");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate("document.activeElement.id"), "username");
    const outline = await page.evaluate("getComputedStyle(document.activeElement).outlineWidth");
    assert.equal(outline, "3px", "the focus can be seen");
    await page.keyboard.type("demo");
    await page.keyboard.press("Tab");
    await page.keyboard.type("demo-password");
    await page.keyboard.press("Enter");
    await page.getByText("Welcome, demo.").waitFor();
  },

  async visits() {
    const { page } = await visitor();
    await page.goto(url);
    const before = Number(await page.locator("[data-visits]").textContent());
    await page.getByRole("button", { name: "Send 20 requests at once" }).click();
    await page.getByText("20 sent, 20 counted").waitFor();
    await page.reload();
    assert.equal(Number(await page.locator("[data-visits]").textContent()), before + 21);
  },

  async account() {
    const { context, page } = await visitor();
    await page.goto(url);
    const ticket = async () => (await context.cookies()).find((cookie) => cookie.name === "session");
    const anonymous = await ticket();
    assert.ok(anonymous.httpOnly && anonymous.sameSite === "Lax" && anonymous.path === "/");

    const name = `eve-${process.pid}`;
    await page.goto(`${url}/signup`);
    await page.getByLabel("Username").fill(name);
    await page.getByLabel("Password").fill("a long enough one");
    await submit(page, page.getByRole("button", { name: "Open the account" }));
    assert.match((await flashes(page))[0], new RegExp(`Welcome, ${name}`));
    const signedIn = await ticket();
    assert.notEqual(signedIn.value, anonymous.value, "a login makes a new ticket");
    assert.equal(signedIn.value.split(".")[0], anonymous.value.split(".")[0], "of the same session");

    await submit(page, page.getByRole("banner").getByRole("button", { name: "Sign out" }));
    assert.match((await flashes(page))[0], /signed out/);
    await context.addCookies([signedIn]);
    await page.goto(`${url}/devices`);
    assert.match(page.url(), /\/login/, "the old ticket opens nothing");
    await signIn(page, name, "a long enough two");
    assert.deepEqual(await flashes(page), ["The username or the password is wrong."]);
  },

  async cart() {
    const { context, page: slow } = await visitor();
    await signIn(slow);
    await slow.goto(`${url}/cart`);
    const opened = context.waitForEvent("page");
    await slow.getByRole("link", { name: /second tab/ }).click();
    const quick = await opened;
    await quick.getByLabel("Silk scarf quantity").fill("3");
    await slow.bringToFront(); // a page in the background is not painted, and cannot be clicked
    await slow.getByLabel("Felt hat quantity").fill("2");

    const underWay = slow.waitForRequest((request) => request.method() === "POST");
    let done = false;
    const returned = slow.waitForResponse((response) => response.request().method() === "POST").then(() => { done = true; });
    await slow.getByRole("button", { name: /^Save slowly Felt hat/ }).click({ noWaitAfter: true });
    await underWay;
    await quick.bringToFront();
    await quick.getByRole("button", { name: "Save Silk scarf", exact: true }).click();
    await quick.getByText("Silk scarf: 3 in the cart.").waitFor();
    assert.equal(done, false, "the two requests overlapped");
    assert.equal(await quick.getByLabel("Felt hat quantity").inputValue(), "0");

    await slow.bringToFront();
    await slow.getByText(/another tab set Silk scarf to 3\. Both changes are kept/).waitFor();
    await returned;
    assert.equal(await slow.getByLabel("Felt hat quantity").inputValue(), "2");
    assert.equal(await slow.getByLabel("Silk scarf quantity").inputValue(), "3");
    assert.equal(await slow.locator("[data-total]").textContent(), String(2 * 64 + 3 * 42));

    // Looked at again, the other tab shows what this one did. (Headless, no tab is ever hidden, so the event is ours.)
    await quick.evaluate(() => document.dispatchEvent(new Event("visibilitychange")));
    await quick.waitForFunction(() => document.querySelector("#q-hat").value === "2");
  },

  async devices() {
    const [here, there, elsewhere] = await Promise.all([visitor(), visitor(), visitor()]);
    const name = `dave-${process.pid}`;
    await here.page.goto(`${url}/signup`);
    await here.page.getByLabel("Username").fill(name);
    await here.page.getByLabel("Password").fill("correct horse battery");
    await submit(here.page, here.page.getByRole("button", { name: "Open the account" }));
    for (const { page } of [there, elsewhere]) {
      await signIn(page, name, "correct horse battery");
    }
    await here.page.goto(`${url}/devices`);
    const rows = here.page.locator(".devices > li");
    assert.equal(await rows.count(), 3);
    assert.match(await rows.first().textContent(), /Chrome on Linux/);
    assert.equal(await here.page.locator(".badge").count(), 1);

    await submit(here.page, here.page.getByRole("button", { name: /^Revoke/ }).first());
    assert.equal(await rows.count(), 2);
    const left = [];
    for (const { page } of [there, elsewhere]) {
      await page.goto(`${url}/devices`);
      left.push(page.url());
    }
    assert.equal(left.filter((where) => where.includes("/login")).length, 1, "one of the two is out");

    await submit(here.page, here.page.getByRole("button", { name: "Log out everywhere else" }));
    assert.deepEqual(await flashes(here.page), ["1 other device is signed out."]);
    assert.equal(await rows.count(), 1);
    for (const { page } of [there, elsewhere]) {
      await page.goto(`${url}/devices`);
      assert.match(page.url(), /\/login/);
    }
  },

  async tokens() {
    const { page } = await visitor();
    await page.goto(`${url}/tokens`);
    assert.match(page.url(), /\/login/, "for whoever is signed in");
    await signIn(page);
    await page.goto(`${url}/tokens`);
    const said = page.locator("[data-log] li");
    const press = async (name, count) => {
      await page.getByRole("button", { name }).click();
      await page.waitForFunction((lines) => document.querySelectorAll("[data-log] li").length === lines, count);
      return said.last().textContent();
    };
    assert.ok(await page.getByRole("button", { name: "Call the API" }).isDisabled());
    assert.match(await press("Issue tokens", 1), /an access token for 10 minutes/);
    assert.match(await press("Call the API", 2), /answers 200: hello demo/);
    assert.match(await press("Refresh in two tabs at once", 3), /both hold the same new refresh token/);
    assert.match(await press("Call the API", 4), /answers 200/);
    assert.equal(JSON.parse(await page.locator("[data-claims]").textContent()).scope, "orders:read");
    assert.deepEqual(await page.evaluate(() => [localStorage.length, sessionStorage.length]), [0, 0]);
    await accessible(page, "/tokens with tokens");
    assert.match(await press("Revoke", 5), /both are dead/);
    assert.match(await press("Call the API", 6), /answers 401: Bearer realm="orders", error="invalid_token"/);
    assert.match(await press("Refresh in two tabs at once", 7), /No new tokens: 400 and 400/);

    // A login by tokens is among the devices, and ends there too.
    await press("Issue tokens", 8);
    const devices = await page.context().newPage();
    await devices.goto(`${url}/devices`);
    const phone = devices.locator(".devices > li").filter({ hasText: "Phone" });
    await submit(devices, phone.getByRole("button", { name: /^Revoke/ }).first());
    assert.match(await press("Call the API", 9), /answers 401/);
  },

  async inspector() {
    const { context, page } = await visitor();
    await page.goto(`${url}/`);
    await signIn(page);
    await page.goto(`${url}/cart`);
    const token = await page.locator("input[name=csrf_token]").first().inputValue();
    await page.goto(`${url}/inspector`);
    const shown = await page.content();
    const { value } = (await context.cookies()).find((cookie) => cookie.name === "session");
    const [locator, secret] = value.split(".");
    assert.ok(shown.includes(locator), "the locator is public");
    for (const piece of [secret.slice(0, 8), secret.slice(-8), token]) {
      assert.ok(!shown.includes(piece), "nothing that opens the session is shown");
    }
    assert.match(await page.locator(".facts").innerText(), /Epoch\s+1\s/);
  },
};

try {
  assert.ok(scenarios[wanted], `one of ${Object.keys(scenarios).join(", ")}`);
  await scenarios[wanted]();
} finally {
  await browser.close();
}
