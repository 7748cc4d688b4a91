"""An API for clients that have no use for cookies, and the transcript of docs/tokens.md: log in, call, refresh, revoke.

uvicorn examples.tokens_api:app
"""

import hmac
import os
from typing import Annotated, Any

from fastapi import FastAPI, Form, HTTPException, Response, Security

from coatcheck import AsyncSessionManager
from coatcheck.bearer.asgi import TokenEndpoints, listening
from coatcheck.fastapi import Bearer
from coatcheck.tokens import AccessClaims, AsyncTokens, Key, KeyRing, Pair

KEYS = KeyRing.from_env("JWT_KEYS") if "JWT_KEYS" in os.environ else KeyRing([Key.generate("ES256")])

sessions = AsyncSessionManager(os.environ.get("SESSION_STORE", "memory:"))
tokens = AsyncTokens(sessions, keys=KEYS, issuer="https://id.example", audience="orders")
bearer = Bearer(tokens)

app = FastAPI(lifespan=listening(tokens))
app.mount("/auth", TokenEndpoints(tokens, public_clients=["cli"]))


@app.post("/login", response_model=None)
async def login(
    user: Annotated[str, Form()], password: Annotated[str, Form()], response: Response
) -> dict[str, Any]:
    if not hmac.compare_digest(password.encode(), b"analytical-engine"):  # yours: argon2, and a limit
        raise HTTPException(401, "The password is wrong.")
    pair: Pair = await tokens.issue(user, client_id="cli", scope="orders:read")
    response.headers["Cache-Control"] = "no-store"
    return {name: getattr(pair, name) for name in ("access_token", "refresh_token", "expires_in")}


@app.get("/orders")
async def orders(claims: Annotated[AccessClaims, Security(bearer, scopes=["orders:read"])]) -> dict[str, Any]:
    return {"user": claims.sub, "orders": ["Wool coat"]}


@app.post("/orders")
async def order(claims: Annotated[AccessClaims, Security(bearer, scopes=["orders:write"])]) -> None: ...
