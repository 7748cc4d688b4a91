"""The application: its routes, and the three middlewares around them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from coatcheck import AsyncSessionManager
from coatcheck.bearer.asgi import TokenEndpoints
from coatcheck.starlette import Bearer, CsrfMiddleware, SessionMiddleware, get_session
from coatcheck.stores.sqlite import SQLiteStore
from coatcheck.throttling import LoginThrottle
from coatcheck.tokens import AsyncTokens, KeyRing
from demo import account, cart, devices, home, inspector, tokens
from demo.guard import Guard
from demo.state import State, prepare
from demo.users import Users
from demo.web import FOLDER, House, problem, render, wants_html

__all__ = ["PASSWORD", "USER", "build", "demo"]

USER, PASSWORD = "demo", "demo-password"
"""An account for whoever wants to look around first. Not a secret: it is printed at start."""

ROUTES = [
    Route("/", home.home),
    Route("/healthz", home.healthz),
    Route("/visits", home.visits),
    Route("/login", account.login_page),
    Route("/login", account.login, methods=["POST"]),
    Route("/signup", account.signup_page),
    Route("/signup", account.signup, methods=["POST"]),
    Route("/logout", account.logout, methods=["POST"]),
    Route("/me", account.me),
    Route("/cart", cart.show),
    Route("/cart", cart.change, methods=["POST"]),
    Route("/devices", devices.show),
    Route("/devices/end", devices.end, methods=["POST"]),
    Route("/devices/end-others", devices.end_others, methods=["POST"]),
    Route("/inspector", inspector.show),
    Route("/tokens", tokens.show),
    Route("/tokens/issue", tokens.issue, methods=["POST"]),
    Mount("/static", StaticFiles(directory=FOLDER / "static")),
]


def build(state: State) -> Starlette:
    """The application over what `state` holds. Raises coatcheck's ConfigurationError if that cannot be used."""
    store = SQLiteStore(state.sessions)
    users = Users(state.users)
    users.seed(USER, PASSWORD)

    issuer = _issuer(store, state)
    bearer = Bearer(issuer)

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        store.close()
        users.close()

    app = Starlette(
        routes=[
            *ROUTES,
            Route("/api/orders", bearer.requires(tokens.SCOPE)(tokens.orders)),
            Mount("/auth", TokenEndpoints(issuer, public_clients=[tokens.CLIENT])),
        ],
        middleware=[
            Middleware(Guard),
            Middleware(
                SessionMiddleware,
                store=store,
                secret=state.secret,
                cookie=inspector.COOKIE,
                lazy=True,  # loaded by `await get_session(request)` alone: a style sheet costs no look into the store
                login_keeps=("cart", "visits"),
            ),
            # Inside the sessions, since its tokens belong to them. What apps send to /auth comes without a cookie; curl and other
            # scripts may sign in with one, and say nothing of where they come from.
            Middleware(CsrfMiddleware, exempt=["/auth/*"], allow_non_browsers=True),
        ],
        exception_handlers={HTTPException: _error},
        lifespan=lifespan,
    )
    app.state.house = House(users, store.awaiting(), issuer, bearer, LoginThrottle())
    return app


def demo() -> Starlette:
    """The application over the usual folder, for tools that ask for it: `coatcheck doctor --factory demo.app:demo`."""
    return build(prepare(Path(".demo")))


def _issuer(store: SQLiteStore, state: State) -> AsyncTokens:
    """Tokens of the same sessions. For one server a shared secret will do; others could verify with half of a key pair."""
    keys = KeyRing.from_file(state.keys)
    return AsyncTokens(AsyncSessionManager(store), keys=keys, issuer="coatcheck demo", audience="orders")


async def _error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if not wants_html(request):
        return problem(error.status_code, error.detail)
    return render(
        request, await get_session(request), "error.html", status=error.status_code, message=error.detail
    )
