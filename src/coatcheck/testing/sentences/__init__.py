"""The sentences of the store contract, one small function each, by room: verbs, logins, upkeep, crowds."""
