"""Tokens: what an app on a phone would do, played by this page. It gets a pair, calls an API, refreshes in two tabs, is revoked.

The page keeps what it gets in a variable, as an app would in its memory: reload it, and the tokens are gone, though not the
login, which "Your devices" still lists and ends.
"""

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from coatcheck.starlette import get_session
from demo.web import house, problem, render, see_other

__all__ = ["CLIENT", "SCOPE", "issue", "orders", "show"]

CLIENT = "phone"
"""The name of the app: a public client, since an app can keep no secret."""
SCOPE = "orders:read"


async def show(request: Request) -> Response:
    """The page; for whoever is signed in."""
    session = await get_session(request)
    if session.user_id is None:
        return see_other("/login?next=/tokens")
    return render(request, session, "tokens.html", client=CLIENT, scope=SCOPE)


async def issue(request: Request) -> Response:
    """A pair of tokens for the app: a login of its own, beside the browser's."""
    session = await get_session(request)
    if session.user_id is None:
        return problem(401, "Not signed in.")
    pair = await house(request).tokens.issue(
        session.user_id, client_id=CLIENT, scope=SCOPE, user_agent="Phone app (tokens)"
    )
    return JSONResponse(
        {
            "access_token": pair.access_token,
            "refresh_token": pair.refresh_token,
            "expires_in": pair.expires_in,
        },
        headers={"Cache-Control": "no-store"},
    )


async def orders(request: Request) -> Response:
    """The API: it knows no cookie, only the token in the header."""
    claims = house(request).bearer.claims(request)
    name = house(request).users.name(claims.sub)
    return JSONResponse({"user": name, "orders": ["Wool coat"], "scope": claims.scope})
