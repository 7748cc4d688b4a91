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
