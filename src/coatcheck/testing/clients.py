"""Logging a test client in without a password form: `login_as(client, "42")`.

The session is made by the application's own manager, in its own store and under its own options, and the client gets the very
cookie that a browser would have got. To find the manager, the application is taken apart from the outside in. Nothing here
imports a web framework: clients and applications are told by what they have.
"""

import urllib.request
from collections import deque
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import replace
from email.message import Message
from http.cookiejar import CookieJar
from http.cookies import SimpleCookie
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from coatcheck.core import cookies
from coatcheck.core.ports import Store
from coatcheck.core.session import CookieAction, UserId
from coatcheck.core.stepping import run_now
from coatcheck.errors import UsageError, WrongFace
from coatcheck.exchange import Arrival, Channel, Exchange
from coatcheck.faces import Session
from coatcheck.flows import Clock
from coatcheck.manager import AsyncSessionManager, SessionManager
from coatcheck.testing.frozen import duration

__all__ = ["Place", "login_as", "place_of"]


class Place(NamedTuple):
    """Where an application keeps its sessions."""

    sessions: SessionManager | AsyncSessionManager
    exchange: Exchange


def login_as(
    client: Any,
    user_id: UserId,
    *,
    age: Any = 0,
    data: Mapping[str, Any] | None = None,
    method: str = "pwd",
    remember: bool = False,
    name: str | None = None,
    base_url: str | None = None,
) -> str:
    """Log the client in as this user; returns the session's handle.

    client    a Starlette, FastAPI, Litestar or aiohttp TestClient, an httpx client over ASGITransport or WSGITransport, or a
              Flask or Werkzeug test client
    age       how long ago the user logged in: seconds, a timedelta or "2h"; for pages that ask for a recent login
    data      what the session holds
    method    how the user is said to have logged in
    remember  as in `session.login`: a cookie that outlives the browser
    name      the cookie's name, where an application has several sessions
    base_url  where the client sends its requests, if it cannot be asked: "https://shop.example"

    Raises UsageError if there is no session to be found in the application, or no cookie can be sent to it, and says why.
    """
    sessions, exchange = place_of(_application(client), name=name)
    base = base_url or _base_of(client)
    now = sessions.flows.clock.time()
    session = _logged_in(sessions, user_id, now - duration(age), now, data or {}, method, remember)
    for set_cookie in _cookies_for(session, exchange, base, now):
        _give(client, set_cookie, base)
    return session.handle


# --------------------------------------------------------------------------------------------------- the application

_LAYERS: Final = (
    "app",
    "_app",
    "application",
    "asgi_app",
    "wsgi_app",
    "asgi_handler",
    "middleware_stack",
    "session_interface",
    "wrapped",
    "func",
    "__wrapped__",
    "__self__",
)
"""Under which names applications, middlewares and wrappers of all kinds keep what is inside them."""
_MOST: Final = 10_000


def place_of(app: Any, *, name: str | None = None) -> Place:
    """Where this application keeps its sessions; `name` is the cookie's, if there are several. Raises UsageError if there are
    none, or several and no `name`.
    """
    places = list(_places(app))
    if name is not None:
        places = [place for place in places if name in cookies.names(place.exchange.settings)]
    if len(places) == 1:
        return places[0]
    if not places:
        called = f" whose cookie is called {name!r}" if name else ""
        raise UsageError(
            f"no session of coatcheck was found in {type(app).__name__}{called}: add SessionMiddleware (or CoatCheck) before the"
            " client is made, and give the client the outermost application"
        )
    names = ", ".join(repr(cookies.names(place.exchange.settings)[0]) for place in places)
    raise UsageError(f"this application has several sessions, name={names}: say which one is meant")


def _places(app: Any) -> Iterator[Place]:
    """Every one of ours in an application, from the outside in."""
    queue, seen = deque([app]), dict[int, Any]()
    while queue and len(seen) < _MOST:
        thing = queue.popleft()
        if thing is None or id(thing) in seen:
            continue
        seen[id(thing)] = thing  # kept, so that no id is given out twice
        sessions, exchange = _peek(thing, "sessions"), _peek(thing, "exchange")
        if isinstance(sessions, (SessionManager, AsyncSessionManager)) and isinstance(exchange, Exchange):
            yield Place(sessions, exchange)
        queue.extend(_inside(thing))


def _inside(thing: Any) -> Iterator[Any]:
    if _peek(thing, "middleware_stack") is None and callable(_peek(thing, "build_middleware_stack")):
        # Starlette builds it at the first request, this way. To build one only to look at would make every middleware twice.
        thing.middleware_stack = thing.build_middleware_stack()
    for layer in _LAYERS:
        yield _peek(thing, layer)
    for route in _several(_peek(thing, "routes")):
        yield _peek(route, "app")
    yield from _several(_peek(thing, "plugins"))  # Litestar's
    yield from _several(_peek(thing, "_subapps"))  # aiohttp's, whose applications are mappings, too
    if isinstance(thing, MutableMapping):
        yield from thing.values()
    mounts = _peek(thing, "mounts")  # Werkzeug's dispatcher
    yield from _several(mounts.values() if isinstance(mounts, dict) else None)
    for cell in _several(_peek(thing, "__closure__")):  # a middleware that is a function in a function
        yield _peek(cell, "cell_contents")


def _several(value: Any) -> tuple[Any, ...]:
    try:
        return tuple(value or ())
    except TypeError:
        return ()


def _peek(thing: Any, name: str) -> Any:
    """An attribute, if there is one to be had: proxies and lazy objects may raise whatever they like."""
    try:
        return getattr(thing, name, None)
    except Exception:
        return None


# -------------------------------------------------------------------------------------------------------- the session


def _logged_in(
    sessions: SessionManager | AsyncSessionManager,
    user_id: UserId,
    then: float,
    now: float,
    data: Mapping[str, Any],
    method: str,
    remember: bool,
) -> Session[Any]:
    """A session that began `then`, with a login, and was seen `now`."""
    flows, store = sessions.flows, _blocking(sessions)
    options = replace(flows.options, on_event=lambda event: None)
    if now - then >= options.timeouts.in_seconds().absolute:
        raise UsageError(
            f"age: a login {now - then:g} seconds ago has ended (Timeouts.absolute={options.timeouts.absolute:g})"
        )
    past = Clock(time=lambda: then, monotonic=flows.clock.monotonic)
    session = SessionManager(store, options=options, clock=past, ids=flows.lifecycle._ids).session()
    session.update(data)
    session.login(user_id, method=method, remember=remember)
    session.save()
    record = session._record
    assert record is not None
    deadline = min(now + record.deadline - then, record.ends_at)
    run_now(store.touch(record.key, deadline=deadline, seen_at=now, expected=record.version, now=then))
    session._touched(record, now, deadline)
    return session


def _blocking(sessions: SessionManager | AsyncSessionManager) -> Store:
    """The application's store, usable without an event loop."""
    backend: Any = sessions._backend
    try:
        store: Store = backend.blocking() if hasattr(backend, "blocking") else backend
    except WrongFace as error:
        raise UsageError(
            f"login_as() uses the store outside the event loop, and {type(backend).__name__} cannot: give the application under"
            ' test a store by its URL, such as store="memory:"'
        ) from error
    return store


# --------------------------------------------------------------------------------------------------------- the client


def _application(client: Any) -> Any:
    transport = _peek(client, "_transport")
    for app in (_peek(client, "app"), _peek(client, "application"), _peek(transport, "app")):
        if app is not None:
            return app
    raise UsageError(
        f"{type(client).__name__} is no test client of a known kind: it has neither `app` nor `application`, nor a transport"
        " with an `app`"
    )


def _base_of(client: Any) -> str:
    """Where a client sends its requests when it is not told otherwise."""
    base = str(_peek(client, "base_url") or "")
    if base:
        return base
    if callable(_peek(client, "make_url")):  # aiohttp's
        return str(client.make_url("/"))
    context = _peek(_peek(client, "application"), "test_request_context")
    return str(context().request.host_url) if callable(context) else "http://localhost"


def _cookies_for(session: Session[Any], exchange: Exchange, base: str, now: float) -> tuple[str, ...]:
    """The Set-Cookie fields that a browser at this address would have got."""
    url = urlsplit(base)
    channel = exchange.channel(Arrival(url.scheme, host=url.netloc.encode("latin-1", "replace")))
    told = exchange.reply(session, CookieAction.SEND, channel, vary=None, cache_control=None, now=now)
    if channel is Channel.PLAIN or told.set_cookie is None:
        raise UsageError(
            f"no session cookie is sent over plain HTTP to {url.netloc}: let the client speak to https://{url.netloc} (base_url)"
        )
    return told.set_cookies


class _Response:
    """What a cookie jar reads of a response."""

    def __init__(self, set_cookie: str) -> None:
        self._headers = Message()
        self._headers["Set-Cookie"] = set_cookie

    def info(self) -> Message:
        return self._headers


def _give(client: Any, set_cookie: str, base: str) -> None:
    """Put the cookie where the client's next response would put it, so that it takes its place."""
    jar, theirs = _peek(_peek(client, "cookies"), "jar"), _peek(_peek(client, "session"), "cookie_jar")
    if callable(_peek(theirs, "update_cookies")):  # aiohttp's
        theirs.update_cookies(SimpleCookie(set_cookie), client.make_url("/"))
    elif isinstance(jar, CookieJar):
        jar.extract_cookies(_Response(set_cookie), urllib.request.Request(base))  # type: ignore[arg-type]  # all it reads
    elif callable(_peek(client, "set_cookie")):
        ((key, morsel),) = SimpleCookie(set_cookie).items()
        domain = morsel["domain"] or urlsplit(base).hostname
        client.set_cookie(
            key, morsel.value, domain=domain, path=morsel["path"], origin_only=not morsel["domain"]
        )
    else:
        raise UsageError(f"{type(client).__name__} keeps no cookies: make it with cookies, as its default is")
