"""The API of a single-page application on another origin: it logs in, and calls with an access token.

TRANSPORT=memory (the page keeps the access token in a variable) or TRANSPORT=cookie (no script ever sees it); the refresh token
is in a cookie either way. The page is served by `python -m http.server 8000 --directory examples/spa`, and this by

    TRANSPORT=memory uvicorn examples.spa.api:app --port 8001
"""

import hmac
import os
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Response, Security
from fastapi.middleware.cors import CORSMiddleware
from pydantic import BaseModel

from coatcheck import AsyncSessionManager
from coatcheck.bearer import TokenCookies
from coatcheck.bearer.asgi import TokenEndpoints, listening
from coatcheck.fastapi import Bearer
from coatcheck.tokens import AccessClaims, AsyncTokens, Key, KeyRing

PAGE = os.environ.get("PAGE", "http://localhost:8000")
KEYS = KeyRing.from_env("JWT_KEYS") if "JWT_KEYS" in os.environ else KeyRing([Key.generate("ES256")])

sessions = AsyncSessionManager(os.environ.get("STORE", "memory:"))
tokens = AsyncTokens(sessions, keys=KEYS, issuer="http://localhost:8001", audience="orders")
cookies = TokenCookies(
    path="/auth",
    access=os.environ.get("TRANSPORT", "memory") == "cookie",
    trusted_origins=[PAGE],
)
bearer = Bearer(tokens, cookies=cookies)

app = FastAPI(lifespan=listening(tokens))
app.mount("/auth", TokenEndpoints(tokens, public_clients=["spa"], cookies=cookies))
app.add_middleware(
    CORSMiddleware,
    allow_origins=[PAGE],  # never "*" beside credentials
    allow_credentials=True,
    allow_methods=["GET", "POST"],
    allow_headers=["Authorization", "Content-Type"],
)


class Login(BaseModel):
    """What the form sends, as JSON: another site's form could not."""

    user: str
    password: str


@app.post("/login")
async def login(form: Login, response: Response) -> Any:
    """Check the password; give the browser its tokens."""
    if not hmac.compare_digest(form.password.encode(), b"analytical-engine"):  # yours: argon2, and a limit
        raise HTTPException(401, "The password is wrong.")
    pair = await tokens.issue(form.user, client_id="spa", scope="orders:read orders:write")
    for cookie in cookies.set(pair):
        response.headers.append("Set-Cookie", cookie)
    response.headers["Cache-Control"] = "no-store"
    return cookies.shown(pair)


orders: list[str] = ["Wool coat"]


@app.get("/orders")
async def show(claims: Annotated[AccessClaims, Security(bearer, scopes=["orders:read"])]) -> Any:
    """What there is."""
    return {"user": claims.sub, "orders": orders}


@app.post("/orders")
async def add(claims: Annotated[AccessClaims, Security(bearer, scopes=["orders:write"])]) -> Any:
    """Order something."""
    orders.append(f"Felt hat for {claims.sub}")
    return {"user": claims.sub, "orders": orders}
