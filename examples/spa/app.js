// A page without a build step that calls an API of another origin.
//
// The access token is in a variable: it is gone when the page is, and nothing else can read it; never in Web Storage, where every
// script of the origin finds it. The refresh token is in a cookie that no script sees, sent to /auth and nowhere else. Where the
// access token is in a cookie too, `access` stays null, and everything else is the same.
"use strict";

const API = "http://localhost:8001";
let access = null;

/** The next access token. Two tabs may do this at the same time: the server gives both the same successor. */
async function refresh() {
  const answer = await fetch(`${API}/auth/token`, {
    method: "POST",
    credentials: "include",
    body: new URLSearchParams({ grant_type: "refresh_token", client_id: "spa" }),
  });
  access = answer.ok ? (await answer.json()).access_token ?? null : null;
  return answer.ok;
}

/** Call the API; if the access token is over, refresh once and call again. */
async function call(path, method = "GET") {
  const send = () => fetch(API + path, {
    method,
    credentials: "include",
    headers: access ? { Authorization: `Bearer ${access}` } : {},
  });
  const answer = await send();
  return answer.status === 401 && await refresh() ? send() : answer;
}

async function logIn(user, password) {
  const answer = await fetch(`${API}/login`, {
    method: "POST",
    credentials: "include",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ user, password }),
  });
  if (answer.ok) access = (await answer.json()).access_token ?? null;
  return answer.ok;
}

/** End this login everywhere: both tokens, in every tab. */
async function logOut() {
  await fetch(`${API}/auth/revoke`, {
    method: "POST",
    credentials: "include",
    body: new URLSearchParams({ client_id: "spa" }),
  });
  access = null;
}

const found = (id) => document.getElementById(id);

async function show(answering) {
  const answer = await answering;
  const { user = "nobody", orders = [] } = answer.ok ? await answer.json() : {};
  found("user").textContent = user;
  found("orders").replaceChildren(...orders.map((order) => Object.assign(document.createElement("li"), { textContent: order })));
  found("status").textContent = `${answer.status}`;
}

found("load").addEventListener("click", () => show(call("/orders")));
found("order").addEventListener("click", () => show(call("/orders", "POST")));
found("logout").addEventListener("click", async () => { await logOut(); await show(call("/orders")); });
found("login").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  if (await logIn(form.get("user"), form.get("password"))) await show(call("/orders"));
  else found("status").textContent = "The password is wrong.";
});
show(call("/orders")); // a page that is loaded again is still logged in: the cookie gives it another access token
