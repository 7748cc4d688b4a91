// Drives Chromium through examples/express-side-by-side: node side_by_side.mjs URL SCENARIO PIDS. Exit 0, or the reason why not.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";

const require = createRequire(new URL("../demo/package.json", import.meta.url)); // one set of packages
const { chromium } = require("playwright-core");
const axe = await readFile(require.resolve("axe-core/axe.min.js"), "utf8");
const [url, wanted, pids = "{}"] = process.argv.slice(2);
const pid = JSON.parse(pids); // of start, Express and FastAPI
const TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa", "best-practice"];
const LOOKS = [
  { viewport: { width: 1100, height: 800 }, colorScheme: "light" },
  { viewport: { width: 1100, height: 800 }, colorScheme: "dark" },
  { viewport: { width: 320, height: 640 }, colorScheme: "light" },
];

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync"],
});

/** A visitor of their own, with a page; anything that the pages' policy refuses, or a script error, fails the run. */
async function visitor() {
  const context = await browser.newContext({ ...LOOKS[0], reducedMotion: "reduce" });
  context.setDefaultTimeout(15_000);
  context.on("console", (message) => assert.doesNotMatch(message.text(), /Content.Security.Policy/i));
  context.on("weberror", (error) => { throw error.error(); });
  return { context, page: await context.newPage() };
}

/** Press a button that sends a form, and wait for the page that comes of it. */
async function press(page, name) {
  const arrived = page.waitForEvent("load");
  await page.getByRole("button", { name }).click();
  await arrived;
}

async function logIn(page, name = "ada", password = "analytical-engine") {
  await page.goto(`${url}/login`);
  await page.getByLabel("Name").fill(name);
  await page.getByLabel("Password").fill(password);
  await press(page, "Log in");
}

const shop = (page) => page.goto(`${url}/`);
const account = (page) => page.goto(`${url}/account/`);
const told = (page) => page.locator(".flash").allTextContents();
const text = (page, place) => page.locator(`[data-${place}]`).textContent();
const servedBy = async (page) => (await page.locator(".side").textContent()).replace("Served by ", "");
const ticket = async (context) => (await context.cookies()).find((cookie) => cookie.name === "connect.sid");
const title = (page) => page.getByRole("heading", { level: 1 }).textContent();

/** Both sides say that nobody is logged in. */
async function isOut(page) {
  await shop(page);
  assert.equal(await page.locator("[data-user]").count(), 0, "Express knows nobody");
  await account(page);
  assert.equal(await title(page), "Nobody is logged in");
}

/** Wait until a path answers so. Tell of another answer after a minute. */
async function until(page, path, status) {
  const late = Date.now() + 60_000;
  let last;
  while ((last = (await page.request.get(url + path)).status()) !== status) assert.ok(Date.now() < late, `${path} answers ${last}`);
}

/** axe finds nothing, and nothing is wider than the window: by day, by night, and on a phone. */
async function accessible(page, where) {
  await page.evaluate(axe);
  for (const { viewport, colorScheme } of LOOKS) {
    await page.setViewportSize(viewport);
    await page.emulateMedia({ colorScheme });
    const look = `${where} ${colorScheme} ${viewport.width}`;
    const { violations } = await page.evaluate(`axe.run({ runOnly: ${JSON.stringify(TAGS)} })`);
    const found = violations.map(({ id, help, nodes }) => `${id}: ${help}\n    ${nodes.map((node) => node.html).join("\n    ")}`);
    assert.deepEqual(found, [], `${look}: axe found violations`);
    const overflow = await page.evaluate("document.documentElement.scrollWidth - innerWidth");
    assert.ok(overflow <= 0, `${look}: ${overflow} px wider than the window`);
    if (process.env.SHOTS) await page.screenshot({ path: `${process.env.SHOTS}/${look.replaceAll(/\W+/g, "-")}.png`, fullPage: true });
  }
  await page.setViewportSize(LOOKS[0].viewport);
}

const scenarios = {
  async together() {
    const { context, page } = await visitor();
    await shop(page);
    await press(page, "Add to cart: Felt hat");
    assert.equal(await text(page, "count"), "1");
    const stranger = await ticket(context);
    assert.ok(stranger.httpOnly && stranger.sameSite === "Lax" && stranger.path === "/");

    await logIn(page, "ada", "difference-engine");
    assert.deepEqual(await told(page), ["The name or the password is wrong."]);
    await logIn(page);
    assert.equal(await servedBy(page), "FastAPI");
    assert.equal(await title(page), "You are Ada");
    assert.equal(await text(page, "user-id"), "1", "passport.user is session.user_id");
    assert.match((await told(page))[0], /^Welcome, Ada. Express .* left this message/, "a message of Express, shown by FastAPI");
    const known = await ticket(context);
    assert.notEqual(known.value, stranger.value, "a login begins a new session");

    // The cart, from both sides, and the session itself, the same to both.
    assert.equal(await page.getByLabel("Felt hat").first().inputValue(), "1", "what the stranger put in");
    await page.getByLabel("Felt hat").first().fill("3");
    await press(page, "Save Felt hat");
    await shop(page);
    assert.equal(await text(page, "count"), "3", "Express has what FastAPI changed");
    await press(page, "Add to cart: Felt hat");
    await press(page, "Add to cart: Silk scarf");
    const held = await text(page, "held");
    await account(page);
    assert.equal(await text(page, "held"), held);
    assert.deepEqual(JSON.parse(held), { cart: { hat: 4, scarf: 1 }, passport: { user: 1 }, flash: {}, csrfToken: "…" });
    assert.equal(await text(page, "total"), "298 €");
    await press(page, "Order");
    assert.equal(await servedBy(page), "Express");
    assert.match((await told(page))[0], /^Ordered. FastAPI .* left this message/, "and the reverse");
    assert.equal(await text(page, "count"), "0");
    assert.equal((await ticket(context)).value, known.value, "one session all along");
  },

  async out() {
    // Out there, out here.
    for (const [side, open, other] of [["FastAPI", account, "Express"], ["Express", shop, "FastAPI"]]) {
      const { context, page } = await visitor();
      await logIn(page, "grace", "nanoseconds");
      const known = await ticket(context);
      await open(page);
      assert.equal(await text(page, "user"), "Grace");
      await press(page, `Log out by ${side}`);
      assert.equal(await servedBy(page), other);
      assert.equal(await page.locator("[data-user]").count(), 0, `${other} knows that ${side} logged out`);
      assert.deepEqual(await told(page), [`You are logged out. ${side} did that, and left this message.`]);
      assert.notEqual((await ticket(context)).value, known.value, "another session");
      await isOut(page);
      await context.addCookies([known]);
      await isOut(page);
    }
  },

  async forgery() {
    const { context, page } = await visitor();
    await logIn(page);
    for (const path of ["/cart", "/logout", "/account/cart", "/account/order", "/account/logout"]) {
      for (const form of [{}, { csrf_token: "x".repeat(43) }]) {
        const answer = await context.request.post(url + path, { form: { product: "hat", quantity: "1", ...form } });
        assert.equal(answer.status(), 403, path);
        assert.match(await answer.text(), /This form was not ours/);
      }
    }
    // A page of another site: the cookie does not come along, and there is no token.
    const evil = await context.newPage();
    await evil.route("http://evil.example/", (route) => route.fulfill({ contentType: "text/html",
      body: `<form method="post" action="${url}/account/logout"><button>Win</button></form>` }));
    await evil.goto("http://evil.example/");
    await press(evil, "Win");
    assert.equal(await title(evil), "That did not work");
    await shop(page);
    assert.equal(await text(page, "user"), "Ada", "nothing came of it");
    // A form is good on either side, and only as long as the login.
    const token = await page.locator("[name=csrf_token]").first().inputValue();
    const send = (path) => context.request.post(url + path, { form: { csrf_token: token }, maxRedirects: 0 });
    assert.equal((await send("/account/logout")).status(), 303);
    await logIn(page);
    assert.equal((await send("/account/logout")).status(), 403);
  },

  async restarts() {
    const { page } = await visitor();
    await logIn(page);
    for (const [side, path, open, other] of [["FastAPI", "/account/", account, shop], ["Express", "/", shop, account]]) {
      process.kill(pid.start, "SIGSTOP"); // so that nobody starts it again before we have looked
      process.kill(pid[side]);
      await until(page, path, 503); // it answers what is under way, then it is gone
      await open(page);
      assert.equal(await title(page), `${side} is away`);
      await accessible(page, `${side} away`);
      await other(page);
      assert.equal(await text(page, "user"), "Ada", `without ${side}`);
      process.kill(pid.start, "SIGCONT");
      await until(page, path, 200);
      await open(page);
      assert.equal(await text(page, "user"), "Ada", `${side} is back, and the login with it`);
    }
  },

  async accessibility() {
    const { page } = await visitor();
    assert.equal((await page.goto(`${url}/account/nothing-here`)).status(), 404);
    assert.equal((await page.goto(`${url}/nothing-here`)).status(), 404);
    await accessible(page, "nothing here");
    await account(page);
    await accessible(page, "stranger's account");
    await logIn(page, "ada", "wrong");
    await accessible(page, "login refused");
    await shop(page);
    await press(page, "Add to cart: Felt hat");
    await press(page, "Add to cart: Silk scarf");
    await accessible(page, "shop with a message");
    await logIn(page);
    await accessible(page, "account with a message and a cart");
    await press(page, "Order");
    await accessible(page, "shop with a login");
  },

  async keyboard() {
    const { page } = await visitor();
    await page.goto(`${url}/login`);
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate("document.activeElement.textContent"), "Skip to content");
    await page.keyboard.press("Enter");
    await page.keyboard.press("Tab");
    await page.keyboard.type("ada");
    await page.keyboard.press("Tab");
    await page.keyboard.type("analytical-engine");
    await page.keyboard.press("Enter");
    await page.getByRole("heading", { name: "You are Ada" }).waitFor();
  },
};

try {
  for (const name of wanted.split(",")) {
    assert.ok(scenarios[name], `one of ${Object.keys(scenarios).join(", ")}`);
    await scenarios[name]();
  }
} finally {
  await browser.close();
}
