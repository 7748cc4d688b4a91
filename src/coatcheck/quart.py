"""Sessions for Quart: `quart.session` as always, kept on the server, in requests and WebSockets.

    CoatCheck(app)          # or: coatcheck = CoatCheck(); … coatcheck.init_app(app)

Around the application stands `coatcheck.asgi.SessionMiddleware`: it reads the cookie, loads the session, and commits before the
headers of a response or of a WebSocket's handshake leave. Quart is handed that session, and gives its own error handlers a turn
where a commit fails.
"""

from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from inspect import isawaitable
from typing import Any, Final, TypeVar, cast

from quart import (
    Quart,
    Response,
    current_app,
    got_request_exception,
    got_websocket_exception,
    has_request_context,
    has_websocket_context,
    request,
    websocket,
)
from quart import session as current_session
from quart.sessions import SessionInterface, SessionMixin
from quart.wrappers import BaseRequestWebsocket
from werkzeug.wrappers import Response as WerkzeugResponse

from coatcheck import asgi, stepup, visit
from coatcheck._csrf.quart import Csrf, csrf_field, csrf_token
from coatcheck._flasklike import Words, alone, dress, refresh, settings, still_alone, store_of
from coatcheck._versions import need
from coatcheck.asgi import HttpsMiddleware
from coatcheck.bearer.quart import Bearer
from coatcheck.core.ports import Backend, Store
from coatcheck.core.session import Phase
from coatcheck.errors import ConfigurationError, OutsideRequest, SessionError, UsageError
from coatcheck.exchange import Channel
from coatcheck.faces import AsyncSession
from coatcheck.throttling.route import RateLimit as Limit

need("quart", "0.20")

__all__ = [
    "Bearer",
    "CoatCheck",
    "Csrf",
    "HttpsMiddleware",
    "QuartSession",
    "RateLimit",
    "csrf_field",
    "csrf_token",
    "get_session",
    "recent_login",
    "require_method",
]

V = TypeVar("V", bound=Callable[..., Any])

_NAME: Final = "coatcheck"
_PRESERVED: Final = "_quart._preserve_context"
"""What Quart's test client writes into the scope of a request that goes on (`async with client:`)."""

AnyResponse = Response | WerkzeugResponse


class CoatCheck:
    """The extension. What is not given here is read from `app.config`, when `init_app` is called:

    SECRET_KEY, SECRET_KEY_FALLBACKS  the first signs, all verify; a weak one is refused (`coatcheck secret` prints a good one)
    SESSION_STORE                     a store's URL; `memory:` if there is none. In the environment: QUART_SESSION_STORE
    SESSION_COOKIE_NAME, _DOMAIN, _PATH, _HTTPONLY, _SECURE, _SAMESITE, _PARTITIONED, and APPLICATION_ROOT
    PERMANENT_SESSION_LIFETIME        what `session.permanent = True` means and, if you set it, the idle timeout of all sessions
    SESSION_REFRESH_EACH_REQUEST      send a permanent session's cookie again as it lives on, once in `Timeouts.touch` seconds

    **Quart's defaults are not ours.** A cookie setting that has the value of `Quart.default_config` counts as not set, since
    nobody can tell it from one that is: the cookie is then called `__Host-session` (`session` on loopback HTTP), is Secure over
    HTTPS, and SameSite=Lax. To insist on such a value, say `cookie=CookieSettings(name="session", secure=False)`.

    store        a URL or a store, in place of SESSION_STORE
    lazy         do not load before `await get_session()`, even if a genuine cookie came
    options      in place of the configuration: as for `coatcheck.asgi.SessionMiddleware`, `secret`, `cookie`, `proxy`…

    Raises ConfigurationError or WeakSecret in `init_app`, and keeps the application from starting if another extension has taken
    the sessions over since. Whoever uses `quart.session` while the store cannot be reached is answered 503; a conflict under
    on_conflict="raise" is 409. `@app.errorhandler(StoreUnavailable)` and `@app.errorhandler(SessionConflict)` say it in your
    words.
    """

    def __init__(
        self,
        app: Quart | None = None,
        *,
        store: str | Backend | Store | None = None,
        lazy: bool = False,
        **options: Any,
    ) -> None:
        self._store, self._lazy, self._options = store, lazy, options
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Quart) -> None:
        """Give this application its sessions."""
        _is_quart(app)
        alone(app.extensions, app.session_interface, Quart.session_interface)
        config = {**app.config, "SECRET_KEY": app.secret_key}  # which a subclass may keep elsewhere
        secret, options = settings(config, Quart.default_config, self._options)
        store = self._store if self._store is not None else store_of(app.config)
        sessions = _Sessions(app.asgi_app, store=store, secret=secret, lazy=self._lazy, **options)
        app.asgi_app = sessions  # type: ignore[method-assign,assignment]  # as Quart's manual says
        interface = _Interface(sessions)
        app.session_interface = interface  # type: ignore[assignment]  # declared as Quart's own kind of one
        app.before_serving(lambda: still_alone(app.session_interface, interface))
        app.extensions[_NAME] = sessions.sessions
        for error in visit.REFUSED:
            if error not in app.error_handler_spec[None][None]:
                app.register_error_handler(error, _refuse)
        got_request_exception.connect(_give_up, app)
        got_websocket_exception.connect(_give_up, app)


def _is_quart(app: object) -> None:
    if not isinstance(app, Quart):
        kind = type(app)
        hint = (
            "use coatcheck.flask" if kind.__module__.startswith("flask") else "give the Quart object itself"
        )
        raise ConfigurationError(
            f"CoatCheck({kind.__module__}.{kind.__name__}): not a Quart application; {hint}"
        )


class QuartSession(Words, AsyncSession[Any], SessionMixin):  # type: ignore[override]  # Quart has a constant for `new`
    """`quart.session`: everything `coatcheck.AsyncSession` has, with the words of Quart."""

    _alone = False
    """No request came through the middleware for it: made for `session_transaction()` or `test_request_context()`."""

    _from_thread = ""  # Quart's threads are asyncio's

    def _load(self) -> None:
        if self._failure is not None:
            raise self._failure
        raise UsageError(
            "this session is not loaded yet: `await coatcheck.quart.get_session()` first; where a sync view uses it, leave"
            " lazy=True out"
        )


class _Sessions(asgi.SessionMiddleware):
    kind = QuartSession

    def __call__(
        self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send
    ) -> Coroutine[Any, Any, None]:
        handled = super().__call__(scope, receive, send)
        return _going_on(handled, scope, self._key) if scope.get(_PRESERVED) else handled


async def _going_on(handled: Awaitable[None], scope: asgi.Scope, key: str) -> None:
    """A test keeps the request open, to look at its session and take messages from it. What it changes is not kept."""
    await handled
    scope[key]._phase = Phase.OPEN


class _Interface(SessionInterface):
    """Where Quart asks for the session that the middleware made, and gives it back with the response."""

    def __init__(self, middleware: _Sessions) -> None:
        self.middleware = middleware

    async def open_session(self, app: Quart, request: BaseRequestWebsocket) -> QuartSession:
        middleware, scope = self.middleware, cast(asgi.Scope, request.scope)
        session = cast(QuartSession | None, scope.get(middleware._key))
        if session is None or session._alone or not middleware._is_ours(session):
            session = scope[middleware._key] = await self._alone(scope)
        return session

    async def _alone(self, scope: asgi.Scope) -> QuartSession:
        session = cast(QuartSession, self.middleware._arrive(scope))
        session._alone = True
        try:
            await session.load()
        except SessionError:
            pass  # it is raised for whoever uses the session
        return session

    async def save_session(self, app: Quart, session: SessionMixin, response: AnyResponse | None) -> None:
        """Commit, while Quart's error handlers can still say what went wrong. The headers are the middleware's to write.

        A WebSocket's session is the middleware's alone: Quart asks when the connection is over, or was never accepted.
        """
        assert isinstance(session, QuartSession)
        if session._given_up:
            await asgi.log_out(self.middleware.sessions, session)
        elif session._alone or not has_websocket_context():
            await self._commit(app, session, response)
        if session._alone:
            if response is not None:
                dress(response.headers, session, session._owed)
            visit.depart(session)

    async def _commit(self, app: Quart, session: QuartSession, response: AnyResponse | None) -> None:
        refused = session._channel is Channel.PLAIN and not session._alone  # the middleware says so, once
        if refused or not visit.is_due(session):
            return
        refresh(session, app.config)
        try:
            await self.middleware.sessions.commit(session)
        except SessionError as error:
            if not session._failed(error):
                return
            if response is None or session._alone:
                raise
            # Too late for Quart's error handling, which has had its turn: do what it would have done.
            await _replace(response, await app.make_response(await app.handle_user_exception(error)))


async def get_session() -> QuartSession:
    """`await get_session()`: the session of the request or WebSocket at hand, loaded if the extension is lazy.

    Raises OutsideRequest if there is none, and the store's error if it cannot be loaded.
    """
    session = _current()
    if session is None:
        raise OutsideRequest(
            "there is no session here: CoatCheck(app), and ask within a request or a WebSocket"
        )
    return await session.load()


class RateLimit(Limit):
    """A decorator that limits a view: `@RateLimit("100/minute")` below `@app.route`; 429 beyond that. As
    `coatcheck.throttling.RateLimit`, of the request at hand.
    """

    @staticmethod
    def request() -> Any:
        """The request at hand."""
        return websocket if has_websocket_context() else request


def _current() -> QuartSession | None:
    if not (has_request_context() or has_websocket_context()):
        return None
    session = current_session._get_current_object()  # type: ignore[attr-defined]  # the object behind the proxy
    return session if isinstance(session, QuartSession) else None


async def _give_up(app: Quart, **_: Any) -> QuartSession | None:
    """An exception that nobody handled: of all the request meant to do, only a logout is carried out."""
    session = _current()
    if session is not None and not session._given_up:
        await asgi.log_out(app.extensions[_NAME], session)
        session._given_up = True
    return session


async def _refuse(error: Any) -> Response:
    session = await _give_up(current_app)
    if session is None:
        raise error
    refusal = visit.refuse(session, error)
    return Response(refusal.body, refusal.status, headers=dict(refusal.headers))


async def _replace(response: AnyResponse, other: AnyResponse) -> None:
    """Make one response the other. They may be of two kinds, Quart's and Werkzeug's, and share only what an error page needs."""
    body = other.get_data(as_text=False)
    response.set_data(await body if isawaitable(body) else body)
    response.status, response.headers = other.status, other.headers


# -------------------------------------------------------------------------------------------------- sensitive acts


def _needing(needs: stepup.Needs) -> Callable[[V], V]:
    def decorate(view: V) -> V:
        @wraps(view)
        async def guarded(*args: Any, **given: Any) -> Any:
            refused = needs.refusal(await get_session())
            if refused is not None:
                return dict(refused.detail), refused.status
            return await current_app.ensure_async(view)(*args, **given)

        return cast(V, guarded)

    return decorate


recent_login, require_method = stepup.decorators(_needing)
