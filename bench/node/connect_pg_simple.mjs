// express-session on connect-pg-simple and pg's pool, with the options its documentation gives, all else its default.
import { randomBytes } from "node:crypto";
import connectPgSimple from "connect-pg-simple";
import session from "express-session";
import pg from "pg";
import { serve } from "./routes.mjs";

const PostgresStore = connectPgSimple(session);
const pool = new pg.Pool({ connectionString: process.env.BENCH_STORE });
const store = new PostgresStore({ pool, createTableIfMissing: true });
const secret = randomBytes(32).toString("base64url");
serve(session({ store, secret, resave: false, saveUninitialized: false }));
