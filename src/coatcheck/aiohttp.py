"""Sessions for aiohttp: `await get_session(request)`, kept on the server.

    app = web.Application()
    setup(app, store=…, secret=…)

A session is loaded where it is asked for, so a handler that does not ask costs nothing. It is committed when the handler has
returned its response, or, if the handler prepares the response itself (a stream, a WebSocket), before the headers leave. The
session has the words of aiohttp_session too, and `aiohttp_session.get_session(request)` returns it.
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from functools import partial, wraps
from typing import Any, Final, TypeVar, cast

from aiohttp import web
from multidict import CIMultiDict

from coatcheck import asgi, startup, stepup, visit
from coatcheck._csrf.aiohttp import Checks, csrf_exempt, csrf_field, csrf_token
from coatcheck._csrf.guard import Protection
from coatcheck._https_aiohttp import setup_https
from coatcheck._versions import need
from coatcheck.arrivals import of_aiohttp
from coatcheck.bearer.aiohttp import Bearer, token_endpoints
from coatcheck.configure import configure
from coatcheck.core import cookies
from coatcheck.core.ports import Backend, Store
from coatcheck.core.session import CookieAction, Phase, Standing
from coatcheck.core.signing import Secret
from coatcheck.errors import ConfigurationError, OutsideRequest, SessionError, StoreError, UsageError
from coatcheck.faces import AsyncSession
from coatcheck.manager import AsyncSessionManager
from coatcheck.throttling.route import RateLimit
from coatcheck.vigil import Vigil

__all__ = [
    "AiohttpSession",
    "Bearer",
    "RateLimit",
    "csrf_exempt",
    "csrf_field",
    "csrf_token",
    "get_session",
    "new_session",
    "recent_login",
    "require_method",
    "setup",
    "setup_csrf",
    "setup_https",
    "token_endpoints",
]

V = TypeVar("V", bound=Callable[..., Any])

need("aiohttp", "3.10")

_KEY: Final = "session"
_THEIRS: Final = "aiohttp_session"
"""The package that applications may come from. It is not needed, and not imported here."""
_THEIR_STORAGE: Final = "aiohttp_session_storage"
"""Where in a request it looks for what loads its session."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_APP: Final = web.AppKey("coatcheck", dict[str, "_Sessions"])
_HERE: Final[Any] = (
    web.RequestKey("coatcheck", dict) if hasattr(web, "RequestKey") else "coatcheck"
)  # since 3.14
"""Where in a request its passages are, by the keys of their sessions."""


def setup(
    app: web.Application,
    *,
    store: str | Backend | Store = "memory:",
    secret: Secret | None = None,
    key: str = _KEY,
    close_websockets: bool = True,
    **options: Any,
) -> AsyncSessionManager:
    """Give this application, and those added to it, their sessions. Returns the manager, for scripts and administration.

    app      the application; middlewares that use the session are added to it after this
    store    a URL or a store (default: in memory, for development)
    secret   the signing secret, or several: the first signs, all verify
    key      for a second session, which has another `name` too: `await get_session(request, key=…)`
    close_websockets  close a WebSocket (code 1008), or cut an event stream, when the session that its handler asked for is over
    options  the fields of `coatcheck.Options`, and `cookie`, `name`, `proxy`, `insecure_dev`, `outage`, `startup_check`

    Raises ConfigurationError, WeakSecret or WrongFace; when the application starts, ConfigurationError if aiohttp_session is set
    up there too. A request that needs a store which cannot be reached is answered by HTTPServiceUnavailable, a conflict under
    on_conflict="raise" by HTTPConflict: middlewares that were added before see them, and their `__cause__`.
    """
    sessions = _Sessions(key, store, secret, options, close_websockets=close_websockets)
    installed = app.setdefault(_APP, {})
    for other in installed.values():
        if other.key == key or other.name == sessions.name:
            raise ConfigurationError(
                "coatcheck is set up twice in one application: for a second session, give it a key and a name of its own, such as"
                ' setup(app, key="staff", name="staff", …)'
            )
    installed[key] = sessions
    app.middlewares.append(sessions.middleware)
    app.on_response_prepare.append(sessions.prepare)
    app.on_startup.append(sessions.start)
    app.on_cleanup.append(sessions.end)
    return sessions.sessions


def setup_csrf(app: web.Application, *, key: str = _KEY, **options: Any) -> Protection:
    """Refuse requests that another site made in a visitor's name, with HTTPForbidden.

    key      of which session, if there are several
    options  those of `coatcheck.asgi.CsrfMiddleware`: `trusted_origins`, `exempt`, `same_site`, `per_form`, `allow_http`,
             `allow_non_browsers`; single handlers are exempt by `@csrf_exempt`

    Raises ConfigurationError, also if it comes before `setup(app, …)`.
    """
    if key not in app.get(_APP, ()):
        raise ConfigurationError(
            "setup_csrf(app) without sessions: coatcheck.aiohttp.setup(app, …) comes first"
        )
    protection = Protection(**options)
    Checks(protection, lambda request: _passage_of(request, key).session).install(app)
    return protection


async def get_session(request: web.Request, *, key: str = _KEY) -> "AiohttpSession":
    """`await get_session(request)`: the session of a request, loaded. Raises OutsideRequest if there is none."""
    return await _passage_of(request, key).session.load()


async def new_session(request: web.Request, *, key: str = _KEY) -> "AiohttpSession":
    """An empty session in place of the request's own, which ends: what is put into it is kept under another id."""
    return await _passage_of(request, key).new_session()


def _passage_of(request: web.Request, key: str) -> "_Passage":
    passage: _Passage | None = request.get(_HERE, {}).get(key)
    if passage is None:
        installed = any(key in app.get(_APP, ()) for app in request.match_info.apps)
        raise OutsideRequest(
            "there is no session yet: coatcheck's setup(app, …) must come before the middlewares that use the session, as in"
            " app = web.Application(); setup(app, …); app.middlewares.append(yours)"
            if installed
            else "there is no session here: coatcheck.aiohttp.setup(app, store=…, secret=…)"
        )
    return passage


class AiohttpSession(AsyncSession[Any]):
    """A request's session: everything that `coatcheck.AsyncSession` has, with the words of aiohttp_session."""

    @property
    def new(self) -> bool:
        """True if nothing is stored for this session yet."""
        return self.is_new or self._logout

    @property
    def identity(self) -> str | None:
        """The session's public name, `handle`; None for a new one."""
        return None if self.new else self.handle

    @property
    def created(self) -> int:
        """When it began, in seconds since the epoch; of a new one, when the request came."""
        at = self.created_at
        return int(self._at if at is None else at.timestamp())

    @property
    def empty(self) -> bool:
        """Whether it holds nothing."""
        return not len(self)

    @property
    def max_age(self) -> float | None:
        """`session.cookie.max_age`: seconds of inactivity after which this session ends and its cookie expires."""
        return self.cookie.max_age

    @max_age.setter
    def max_age(self, value: float | None) -> None:
        self.cookie.max_age = value

    def changed(self) -> None:
        """Write the session, whatever changed. Changes inside a value are noticed without it."""
        self.modified = True

    def invalidate(self) -> None:
        """`logout()`: end the session, on the server and in the browser."""
        self.logout()

    def set_new_identity(self, identity: object) -> None:
        """Raises UsageError: the ids are ours, since whoever knows one must not be able to choose another's."""
        raise UsageError(
            "set_new_identity(): ids are made by coatcheck; to change the cookie at a login say session.login(user_id), or"
            " session.regenerate()"
        )


class _Sessions:
    """The sessions of one application under one key."""

    def __init__(
        self,
        key: str,
        store: str | Backend | Store,
        secret: Secret | None,
        options: dict[str, Any],
        *,
        close_websockets: bool,
    ) -> None:
        configured = configure(secret, options, store)
        self.key, self.exchange = key, configured.exchange
        self.name = cookies.names(configured.exchange.settings)[0]
        self.sessions = AsyncSessionManager(
            store,
            options=configured.options,
            outage=configured.outage,
            clock=configured.clock,
            ids=configured.ids,
            kind=AiohttpSession,
        )
        self._startup_check = configured.startup_check
        self.vigil = Vigil(self.sessions) if close_websockets else None

    async def start(self, app: web.Application) -> None:
        """The application starts."""
        if any(getattr(middleware, "__module__", None) == _THEIRS for middleware in app.middlewares):
            raise ConfigurationError(
                "aiohttp_session is set up in the same application: leave aiohttp_session.setup(app, …) out; its"
                " get_session(request) returns coatcheck's session"
            )
        self.sessions._reopen()  # a test may start the same application again
        if self._startup_check:
            await startup.ask(self.sessions)

    async def end(self, app: web.Application) -> None:
        """The application ends."""
        await startup.close(self.sessions)

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """A session for this request."""
        passage = self._enter(request)
        try:
            response = await handler(request)
        except web.HTTPException as answer:
            await passage.leave(answer, request)
            raise
        except (Exception, asyncio.CancelledError) as error:
            await passage.fail(error, request)
            raise
        await passage.leave(response, request)
        return response

    async def prepare(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """The headers of a response are about to leave."""
        passage = request.get(_HERE, {}).get(self.key)
        if passage is not None:
            await passage.start(response, request)

    def _enter(self, request: web.Request) -> "_Passage":
        passages: dict[str, _Passage] | None = request.get(_HERE)
        if passages is None:
            passages = request[_HERE] = {}
        for outer in passages.values():
            if outer.of.key == self.key or outer.of.name == self.name:
                raise UsageError(
                    "coatcheck is set up in an application and again in one that was added to it: leave it out of the inner"
                    " one, or give that a key and a name of its own"
                )
        passage = passages[self.key] = _Passage(self, request)
        if self.key == _KEY:
            request._state["coatcheck.session"] = passage.session  # where whoever knows no framework finds it
        if self.key == _KEY and _THEIRS in sys.modules:
            # Where request[…] puts it: that warns of keys that are text, which theirs is.
            request._state[_THEIR_STORAGE] = passage
        return passage


class _Passage:
    """One request on its way through: its session, and how far the response is. For aiohttp_session, what loads its session."""

    __slots__ = ("_closing", "_left", "_stop", "_told", "of", "session")

    def __init__(self, of: _Sessions, request: web.Request) -> None:
        self.of, self._left = of, False
        self._told: tuple[str, ...] = ()
        """The Set-Cookie that was put into a response already."""
        self._stop: Callable[[], None] | None = None
        self._closing: asyncio.Task[None] | None = None
        now = of.sessions.flows.clock.time()
        session = visit.arrive(of.sessions.session, of.exchange, partial(of_aiohttp, request), now)
        self.session = cast(AiohttpSession, session)

    # ---- what aiohttp_session asks of a storage

    async def load_session(self, request: object) -> AiohttpSession:
        """The session, for `aiohttp_session.get_session(request)`."""
        _recognised()
        return await self.session.load()

    async def new_session(self) -> AiohttpSession:
        """The same session, ended and empty."""
        _recognised()
        session = await self.session.load()
        session.logout()
        return session

    # ---- the response

    async def leave(self, response: object, request: web.Request) -> None:
        """The handler has returned its response, or raised it."""
        self._end()
        session = self.session
        if not isinstance(response, web.StreamResponse):
            return  # aiohttp says so
        try:
            if session._phase is Phase.STREAMING:
                await self._commit_rest()
                visit.depart(session)
            elif session._phase is Phase.OPEN:
                await self._commit()
                self._dress(response)
        except visit.REFUSED as error:
            raise _refusal(session, error, request) from error

    async def start(self, response: web.StreamResponse, request: web.BaseRequest) -> None:
        """The headers leave now. If the handler has returned, all is committed, but for what an outer middleware did since."""
        session = self.session
        if session._phase is Phase.STREAMING:
            return
        if session._phase is Phase.OPEN:
            await self._commit()
        self._dress(response)
        if self._left:
            visit.depart(session)
            return
        visit.started(session)
        if self.of.vigil is None:
            return
        if isinstance(response, web.WebSocketResponse):
            self._stop = self.of.vigil.keep(session, partial(self._over, response))
        elif response.content_type == "text/event-stream":
            self._stop = self.of.vigil.keep(session, partial(_cut, request))

    async def fail(self, error: BaseException, request: web.Request) -> None:
        """The handler failed: of all it meant to do, only a logout is carried out. To lose the client is no failure."""
        self._end()
        session = self.session
        if session._phase is Phase.STREAMING and _is_gone(request):
            await self._commit_rest()
            visit.depart(session)
            return
        started = session._phase is not Phase.OPEN
        await asgi.log_out(self.of.sessions, session)
        visit.depart(session)
        if isinstance(error, visit.REFUSED) and not started:
            raise _refusal(session, error, request) from error

    def _end(self) -> None:
        self._left = True
        if self._stop is not None:
            self._stop()

    def _over(self, socket: web.WebSocketResponse) -> None:
        """The session of this WebSocket is over."""
        self._closing = asyncio.get_running_loop().create_task(_close(socket))

    async def _commit(self) -> None:
        session = self.session
        if not visit.is_due(session):
            return
        if session._standing is Standing.UNLOADED and not await self._loaded_for_options():
            return
        await self._write()

    async def _loaded_for_options(self) -> bool:
        """Load a session that nobody used, where the options ask for it (`rolling`, say). An outage is nobody's concern then."""
        if not self.session._flows.lifecycle.rules.every_request:
            return False
        try:
            await self.session.load()
        except StoreError:
            return False
        return True

    async def _commit_rest(self) -> None:
        if visit.is_due_again(self.session):
            await self._write()

    async def _write(self) -> None:
        try:
            await self.of.sessions.commit(self.session)
        except SessionError as error:
            # An error page is a response too: it must not run into the same commit again.
            if self.session._failed(error):
                raise

    def _dress(self, response: web.StreamResponse) -> None:
        """Put what must be said into the response's headers. It may be said again of another response, or of a later commit."""
        session, headers = self.session, response.headers
        cookie = session._owed
        if cookie is CookieAction.NONE and not session._accessed and not session._more:
            return
        reply = visit.reply(
            session, cookie, vary=_all(headers, "Vary"), cache_control=_all(headers, "Cache-Control")
        )
        if reply.vary is not None:
            headers["Vary"] = reply.vary
        if reply.cache_control is not None:
            headers["Cache-Control"] = reply.cache_control
        for name, value in reply.more:
            headers[name] = value
        told = reply.set_cookies
        if told:
            others = [line for line in headers.popall("Set-Cookie", []) if line not in self._told]
            headers.extend(("Set-Cookie", line) for line in (*others, *told))
            self._told = told


def _all(headers: "CIMultiDict[str]", name: str) -> str | None:
    return ", ".join(headers.getall(name, ())) or None


_KINDS: Final[dict[int, Any]] = {
    400: web.HTTPBadRequest,
    409: web.HTTPConflict,
    429: web.HTTPTooManyRequests,
    503: web.HTTPServiceUnavailable,
}


def _refusal(session: AiohttpSession, error: Any, request: web.Request) -> web.HTTPException:
    """The answer to a request that could not have its session."""
    refusal = visit.refuse(session, error)
    kind = _KINDS[refusal.status]
    headers = {
        name: value for name, value in refusal.headers if name not in ("content-type", "content-length")
    }
    answer: web.HTTPException = kind(
        text=refusal.body.decode("ascii"), content_type="text/plain", headers=headers
    )
    if getattr(request.writer, "chunked", False):  # a stream got as far as this before its commit failed
        answer.enable_chunked_encoding()
    return answer


def _cut(request: web.BaseRequest) -> None:
    """The session of this event stream is over. Its handler hears of it as if the client had gone."""
    if request.transport is not None:
        request.transport.close()


async def _close(socket: web.WebSocketResponse) -> None:
    for _ in range(100):
        try:
            await socket.close(code=asgi.POLICY_VIOLATION, message=b"the session is over")
        except RuntimeError:  # the answer to its handshake is still on its way
            await asyncio.sleep(0)
        else:
            return


def _is_gone(request: web.Request) -> bool:
    transport = request.transport
    return transport is None or transport.is_closing()


def _recognised() -> None:
    """Have aiohttp_session accept our sessions for its own."""
    theirs = sys.modules.get(_THEIRS)
    if theirs is not None:
        theirs.Session.register(AiohttpSession)


# -------------------------------------------------------------------------------------------------- sensitive acts


def _needing(needs: stepup.Needs) -> Callable[[V], V]:
    def decorate(handler: V) -> V:
        @wraps(handler)
        async def guarded(request: web.Request) -> web.StreamResponse:
            refused = needs.refusal(await get_session(request))
            if refused is not None:
                return web.json_response(dict(refused.detail), status=refused.status)
            return cast(web.StreamResponse, await handler(request))

        return cast(V, guarded)

    return decorate


recent_login, require_method = stepup.decorators(_needing)
