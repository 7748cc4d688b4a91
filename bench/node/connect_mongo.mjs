// express-session on connect-mongo, with the options its documentation gives, all else its default.
import { randomBytes } from "node:crypto";
import MongoStore from "connect-mongo";
import session from "express-session";
import { serve } from "./routes.mjs";

const store = MongoStore.create({ mongoUrl: process.env.BENCH_STORE });
const secret = randomBytes(32).toString("base64url");
serve(session({ store, secret, resave: false, saveUninitialized: false }));
