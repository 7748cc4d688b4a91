// express-session on connect-redis, with the options its documentation gives, all else its default.
import { randomBytes } from "node:crypto";
import { RedisStore } from "connect-redis";
import session from "express-session";
import { createClient } from "redis";
import { serve } from "./routes.mjs";

const client = await createClient({ url: process.env.BENCH_STORE }).connect();
const secret = randomBytes(32).toString("base64url");
serve(session({ store: new RedisStore({ client }), secret, resave: false, saveUninitialized: false }));
