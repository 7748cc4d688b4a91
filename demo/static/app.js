// What the pages do beyond forms and links. Everything here is an extra: without it they still work.
"use strict";

const outcome = document.querySelector("[data-outcome]");

// Visits: many requests of one session at once.
const parallel = document.querySelector("[data-parallel]");
if (parallel) {
  const shown = document.querySelector("[data-visits]");
  parallel.hidden = false;
  parallel.addEventListener("click", async () => {
    const count = Number(parallel.dataset.parallel);
    const before = Number(shown.textContent);
    outcome.textContent = "Counting…";
    try {
      const answers = await Promise.all(Array.from({ length: count }, () => fetch("/visits").then((answer) => answer.json())));
      const highest = Math.max(...answers.map((answer) => answer.visits));
      shown.textContent = highest;
      outcome.textContent = `From ${before} to ${highest}: ${count} sent, ${highest - before} counted.`;
    } catch {
      outcome.textContent = "The server did not answer. Is it still running?";
    }
  });
}

// Cart: say that a slow request is under way, and show what another tab did when this one is looked at again.
const cart = document.querySelector("[data-cart]");
if (cart) {
  let busy = false;
  let touched = false;
  cart.addEventListener("input", () => { touched = true; });
  cart.addEventListener("submit", (event) => {
    busy = true;
    event.target.setAttribute("aria-busy", "true");
    if (event.submitter && event.submitter.value === "slow") outcome.textContent = "Saving slowly… now change something in the other tab.";
  });
  document.addEventListener("visibilitychange", async () => {
    if (document.hidden || busy || touched) return;
    const answer = await fetch("/cart", { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    const fresh = await answer.json();
    for (const input of cart.querySelectorAll("input[name=quantity]")) {
      input.value = fresh.cart[input.form.elements.sku.value] || 0;
    }
    document.querySelector("[data-total]").textContent = fresh.total;
  });
}

// Tokens: this page as an app with tokens in a variable, never in the browser's storage.
const app = document.querySelector("[data-tokens]");
if (app) {
  let held = null;
  const part = (name) => app.querySelector(`[data-${name}]`);
  const buttons = app.querySelectorAll("button");
  for (const button of buttons) button.hidden = false;
  const tell = (text) => {
    const line = document.createElement("li");
    line.textContent = text;
    part("log").append(line);
  };
  const hold = (pair) => {
    held = pair;
    for (const button of app.querySelectorAll("[type=button]")) button.disabled = false;
    const claims = pair.access_token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/");
    document.querySelector("[data-claims]").textContent = JSON.stringify(JSON.parse(atob(claims)), null, 2);
  };
  const send = (path, fields) => fetch(path, {
    method: "POST",
    credentials: "omit", // an app has no cookies
    body: new URLSearchParams({ client_id: app.dataset.client, ...fields }),
  });
  const refresh = (token) => send("/auth/token", { grant_type: "refresh_token", refresh_token: token });
  const trying = (what) => async (event) => {
    event.preventDefault();
    try {
      await what();
    } catch {
      tell("The server did not answer. Is it still running?");
    }
  };

  part("issue").addEventListener("submit", trying(async () => {
    const form = part("issue");
    const answer = await fetch(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    if (!answer.ok) {
      tell(`No tokens: ${answer.status}. Sign in again.`);
      return;
    }
    hold(await answer.json());
    tell(`Issued: an access token for ${held.expires_in / 60} minutes, and a refresh token.`);
  }));
  part("call").addEventListener("click", trying(async () => {
    const answer = await fetch("/api/orders", { credentials: "omit", headers: { Authorization: `Bearer ${held.access_token}` } });
    if (answer.ok) tell(`The API answers ${answer.status}: hello ${(await answer.json()).user}.`);
    else tell(`The API answers ${answer.status}: ${answer.headers.get("WWW-Authenticate")}`);
  }));
  part("refresh").addEventListener("click", trying(async () => {
    const answers = await Promise.all([refresh(held.refresh_token), refresh(held.refresh_token)]);
    if (!answers.every((answer) => answer.ok)) {
      tell(`No new tokens: ${answers.map((answer) => answer.status).join(" and ")}. This login is over.`);
      return;
    }
    const [one, two] = await Promise.all(answers.map((answer) => answer.json()));
    hold(one);
    tell(one.refresh_token === two.refresh_token
      ? "Two tabs refreshed at once, and both hold the same new refresh token."
      : "Two tabs refreshed at once, and hold different tokens.");
  }));
  part("revoke").addEventListener("click", trying(async () => {
    const answer = await send("/auth/revoke", { token: held.refresh_token });
    tell(answer.ok ? "Revoked. Now call the API, or refresh: both are dead." : `Not revoked: ${answer.status}.`);
  }));
}
