// The express application that every express contestant runs; only the session middleware differs.
import express from "express";

/** Serve the three routes behind `session` (a middleware, or none) on the port that the bench gives. */
export function serve(session) {
  const app = express();
  if (session) app.use(session);
  // Put into the session what a small application keeps there, and a cart of so many octets if it is asked for one.
  app.get("/login", (request, response) => {
    if (session) Object.assign(request.session, { user: "7d1f2c4e", n: 0 });
    if (session && request.query.octets) request.session.cart = cart(Number(request.query.octets));
    answer(response, "ok");
  });
  // Load the session, change it, save it.
  app.get("/write", (request, response) => {
    if (session) request.session.n = (request.session.n ?? 0) + 1;
    answer(response, "ok");
  });
  // Load the session and read from it.
  app.get("/read", (request, response) => answer(response, String(session ? request.session.n : 1)));
  app.listen(Number(process.argv[2]), "127.0.0.1");
}

// As bench/apps/payload.py makes it.
function cart(octets) {
  return Array.from({ length: Math.round(octets / 67) }, (_, number) => ({
    sku: `a-${String(number).padStart(6, "0")}`,
    name: "Espresso cup, white",
    n: 2,
    cents: 1290,
  }));
}

function answer(response, text) {
  response.type("text/plain").send(text);
}
