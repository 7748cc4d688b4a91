// Drives one Chromium through the sites of places.py: node csrf.mjs PORT SCENARIO… Prints what came of each, as JSON.
import { chromium } from "../demo/node_modules/playwright-core/index.mjs";

const [port, ...wanted] = process.argv.slice(2);
const at = (host) => `https://${host}:${port}`;

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--ignore-certificate-errors", "--host-resolver-rules=MAP * 127.0.0.1"],
});

/** A visitor of their own. */
async function visitor() {
  const context = await browser.newContext({ ignoreHTTPSErrors: true });
  context.setDefaultTimeout(15_000);
  return context;
}

async function on(context, origin, path = "/") {
  const page = await context.newPage();
  await page.goto(origin + path);
  return page;
}

/** What a script of this page gets for an answer: the status, or why there is none. */
const asks = (page, url, options = {}) => page.evaluate(async ([target, given]) => {
  try {
    const response = await fetch(target, given);
    return response.type === "opaque" ? "opaque" : response.status;
  } catch (error) { return error.name; }
}, [url, options]);

/** A form that the page sends off by itself, as a navigation: the status of what comes. */
async function posts(page, url, fields = {}, enctype = "application/x-www-form-urlencoded") {
  const inputs = Object.entries(fields).map(([name, value]) => `<input name="${name}" value='${value}'>`).join("");
  const arrived = page.waitForNavigation();
  await page.evaluate(([target, html, type]) => {
    document.body.innerHTML = `<form method="post" action="${target}" enctype="${type}">${html}</form>`;
    document.forms[0].submit();
  }, [url, inputs, enctype]);
  return (await arrived).status();
}

/** What a WebSocket of this page hears first. */
const socket = (page, url) => page.evaluate((target) => new Promise((resolve) => {
  const ws = new WebSocket(target);
  ws.onmessage = (event) => resolve(event.data);
  ws.onerror = () => resolve("refused");
}), url);

const state = async (context, origin, path = "/state") => (await on(context, origin, path)).evaluate(() => JSON.parse(document.body.innerText));

async function signedIn(context, host, prefix = "") {
  const page = await on(context, at(host), `${prefix}/`);
  const status = await asks(page, `${prefix}/login?user=ada`, { method: "POST" });
  return { page, status };
}

/** Every attack that a page of `from` can try on `host`, in the name of whoever is signed in there. */
async function attacks(host, from) {
  const context = await visitor();
  const { page: own } = await signedIn(context, host);
  const page = await context.newPage();
  const evil = async () => { await page.goto(at(from)); return page; };
  const before = (await state(context, at(host))).done.length;
  const seen = {
    form: await posts(await evil(), `${at(host)}/transfer`, { to: "eve" }),
    json: await posts(await evil(), `${at(host)}/transfer`, { '{"to": "eve", "x": "': '"}' }, "text/plain"),
    file: await posts(await evil(), `${at(host)}/transfer`, { to: "eve" }, "multipart/form-data"),
    login: await posts(await evil(), `${at(host)}/login?user=eve`),
    logout: await posts(await evil(), `${at(host)}/logout`),
  };
  await evil();
  seen.fetch = await asks(page, `${at(host)}/transfer`, { method: "POST", mode: "no-cors", credentials: "include" });
  seen.beacon = await page.evaluate((url) => navigator.sendBeacon(url, "to=eve"), `${at(host)}/transfer`);
  seen.bare = await asks(page, `${at(host)}/transfer`, { method: "POST", mode: "no-cors", credentials: "include", referrerPolicy: "no-referrer" });
  seen.image = await page.evaluate((url) => new Promise((resolve) => {
    const image = new Image();
    image.onload = image.onerror = () => resolve("asked");
    image.src = url;
  }), `${at(host)}/logout`);
  seen.socket = await socket(page, `wss://${host}:${port}/ws`);
  const { user, done } = await state(context, at(host));
  Object.assign(seen, { user, done: done.slice(before) });
  seen.own = await asks(own, "/transfer", { method: "POST" });
  await context.close();
  return seen;
}

const scenarios = {
  "attacks: shop from evil": () => attacks("shop.example", "evil.example"),
  "attacks: shop from blog": () => attacks("shop.example", "blog.shop.example"),
  "attacks: none from evil": () => attacks("none.example", "evil.example"),
  "attacks: bare from blog": () => attacks("bare.example", "blog.bare.example"),
  "attacks: naked from evil": () => attacks("naked.example", "evil.example"),
  "attacks: naked-lax from blog": () => attacks("naked-lax.example", "blog.naked-lax.example"),

  async "login of a stranger"() {
    const context = await visitor();
    const status = await posts(await on(context, at("evil.example")), `${at("shop.example")}/login?user=eve`);
    const { user, cookies } = await state(context, at("shop.example"));
    await context.close();
    return { status, user, cookies };
  },

  async "own pages"() {
    const seen = {};
    for (const host of ["shop.example", "bare.example"]) {
      const context = await visitor();
      const { page, status } = await signedIn(context, host);
      await page.goto(`${at(host)}/form`);
      const [answer] = await Promise.all([page.waitForNavigation(), page.getByRole("button").click()]);
      const ws = await socket(page, `wss://${host}:${port}/ws`);
      seen[host] = { login: status, form: answer.status(), socket: ws };
      await context.close();
    }
    return seen;
  },

  // Which cookies travel: a link, a form and a frame from another site.
  async "same site"() {
    const seen = {};
    for (const host of ["shop.example", "strict.example", "none.example"]) {
      const context = await visitor();
      await signedIn(context, host);
      const link = await on(context, at("evil.example"));
      const arrived = link.waitForNavigation();
      await link.evaluate((url) => { document.body.innerHTML = `<a href="${url}">x</a>`; document.links[0].click(); }, `${at(host)}/state`);
      await arrived;
      const followed = JSON.parse(await link.evaluate(() => document.body.innerText)).user;
      const typed = (await state(context, at(host))).user;
      const framing = await on(context, at("evil.example"));
      await framing.evaluate((url) => { document.body.innerHTML = `<iframe src="${url}"></iframe>`; }, `${at(host)}/state`);
      const frame = await (await framing.waitForSelector("iframe")).contentFrame();
      await frame.waitForURL(/state/);
      await frame.waitForLoadState();
      const framed = JSON.parse(await frame.evaluate(() => document.body.innerText)).user;
      seen[host] = { followed, typed, framed };
      await context.close();
    }
    return seen;
  },

  async "single page application"() {
    const context = await visitor();
    const spa = await on(context, at("spa.example"));
    const far = (path, method = "POST") => asks(spa, at("api.example") + path, { method, credentials: "include" });
    const seen = { before: await far("/transfer"), login: await far("/login?user=ada"), transfer: await far("/transfer") };
    seen.state = await spa.evaluate(async (url) => (await fetch(url, { credentials: "include" })).json(), `${at("api.example")}/state`);
    const evil = await on(context, at("evil.example"));
    seen.evil = await asks(evil, `${at("api.example")}/transfer`, { method: "POST", credentials: "include" });
    seen.partition = (await state(context, at("api.example"))).user;
    seen.cookies = (await context.cookies()).map(({ name, partitionKey }) => [name, partitionKey ?? null]);
    await context.close();
    return seen;
  },

  async "identity provider"() {
    const context = await visitor();
    await on(context, at("shop.example"), "/begin-flow");
    const from = async (host, secret) => {
      const page = await on(context, at(host));
      const status = await posts(page, `${at("shop.example")}/acs`, { state: secret });
      return { status, text: (await page.evaluate(() => document.body.innerText)).slice(0, 40) };
    };
    const seen = { evil: await from("evil.example", "s3cret"), wrong: await from("idp.example", "guessed") };
    await on(context, at("shop.example"), "/begin-flow");
    seen.right = await from("idp.example", "s3cret");
    seen.after = (await state(context, at("shop.example"))).user;
    seen.again = await from("idp.example", "s3cret");
    await context.close();
    return seen;
  },

  async "subdomains"() {
    const context = await visitor();
    const { status } = await signedIn(context, "a.family.example");
    const sister = (await state(context, at("b.family.example"))).user;
    const b = await on(context, at("b.family.example"));
    const across = await asks(b, `${at("a.family.example")}/transfer`, { method: "POST", mode: "no-cors", credentials: "include" });
    const c = await on(context, at("c.family.example"));
    await asks(c, `${at("a.family.example")}/logout`, { method: "POST", mode: "no-cors", credentials: "include" });
    const after = await state(context, at("a.family.example"));
    const names = (await context.cookies()).map(({ name, domain }) => `${name} ${domain}`);
    await context.close();
    return { status, sister, across, after, names };
  },

  async "prefixes"() {
    const context = await visitor();
    const lines = {
      good: "__Host-a=1; Path=/; Secure; HttpOnly; SameSite=Lax",
      domain: "__Host-b=1; Path=/; Secure; Domain=shop.example",
      path: "__Host-c=1; Path=/app; Secure",
      insecure: "__Host-d=1; Path=/",
      capitals: "__HOST-e=1; Path=/; Secure; Domain=shop.example",
      http: "__Http-f=1; Path=/; Secure; HttpOnly",
      readable: "__Http-g=1; Path=/; Secure",
      hosthttp: "__Host-Http-h=1; Path=/; Secure; HttpOnly",
      hostreadable: "__Host-Http-i=1; Path=/; Secure",
    };
    const query = Object.values(lines).map((line) => `c=${encodeURIComponent(line)}`).join("&");
    const page = await on(context, at("shop.example"), `/set?${query}`);
    await page.evaluate(() => {
      document.cookie = "__Host-Http-script=x; Secure; Path=/";
      document.cookie = "__Http-script=x; Secure; Path=/";
      document.cookie = "__Host-script=x; Secure; Path=/";
    });
    const kept = (await context.cookies()).map(({ name }) => name).sort();
    const sibling = await on(context, at("blog.shop.example"));
    await sibling.evaluate(() => {
      document.cookie = "__Host-session=planted; Secure; Path=/; Domain=shop.example";
      document.cookie = "__Host-session-csrf=planted; Secure; Path=/; Domain=shop.example";
      document.cookie = "plain=planted; Secure; Path=/; Domain=shop.example";
    });
    const tossed = (await state(context, at("shop.example"))).cookies;
    await context.close();
    const other = await visitor();
    await signedIn(other, "http-only.example");
    const named = (await other.cookies()).map(({ name, secure, httpOnly, sameSite, path, domain, expires }) =>
      ({ name, secure, httpOnly, sameSite, path, domain, expires }));
    await other.close();
    return { kept, tossed, named, version: browser.version() };
  },

  async "the default cookie"() {
    const context = await visitor();
    await signedIn(context, "shop.example");
    const [cookie, ...more] = await context.cookies();
    delete cookie.value;
    await context.close();
    return { cookie, more: more.length };
  },

  async "the jar after a logout"() {
    const seen = {};
    const places = { "shop.example": "", "strict.example": "", "none.example": "", "http-only.example": "", "a.family.example": "",
      "path.example": "/app", "www.both.example": "/app" };
    for (const [host, prefix] of Object.entries(places)) {
      const context = await visitor();
      const { page } = await signedIn(context, host, prefix);
      const held = (await context.cookies()).map(({ name, path, domain }) => `${name} ${path} ${domain}`);
      const status = await asks(page, `${prefix}/logout`, { method: "POST" });
      seen[host] = { held, status, left: (await context.cookies()).length };
      await context.close();
    }
    const context = await visitor();
    const spa = await on(context, at("spa.example"));
    for (const path of ["/login", "/logout"]) await asks(spa, at("api.example") + path, { method: "POST", credentials: "include" });
    seen["api.example"] = { left: (await context.cookies()).length };
    await context.close();
    return seen;
  },
};

const results = {};
for (const name of wanted) {
  try { results[name] = await scenarios[name](); } catch (error) { results[name] = { error: String(error.stack) }; }
}
await browser.close();
console.log(JSON.stringify(results));
