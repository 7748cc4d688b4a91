"""Sessions shared with a live Express application: express-session's cookie, body and rules, in its stores' own formats."""
