"""Sessions for Litestar: `request.session` as always, kept on the server.

    app = Litestar(route_handlers=[…], plugins=[CoatCheck(store=…, secret=…)])

Around each route stands `coatcheck.asgi.SessionMiddleware`, outside of the application's other middlewares. `set_session()` and
`clear_session()` go on working, on requests and on WebSockets. Handlers ask for `session: SessionDep` or `current_user:
CurrentUser`; guards are `require_login` and `RecentLogin("10m")`. Litestar's `SessionAuth` takes `session_backend_config` of the
plugin.
"""

import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from copy import copy
from datetime import timedelta
from typing import Annotated, Any, Final, NoReturn, TypeVar

from litestar import Request, Response
from litestar.config.app import AppConfig
from litestar.connection import ASGIConnection
from litestar.di import Provide
from litestar.exceptions import (
    HTTPException,
    NotAuthorizedException,
    PermissionDeniedException,
    WebSocketException,
)
from litestar.handlers import BaseRouteHandler
from litestar.middleware.base import DefineMiddleware
from litestar.middleware.session.base import BaseBackendConfig, BaseSessionBackend
from litestar.middleware.session.base import SessionMiddleware as LitestarSessions
from litestar.openapi.spec import Components, SecurityScheme
from litestar.plugins.base import InitPluginProtocol, ReceiveRoutePlugin
from litestar.routes import BaseRoute
from litestar.security.session_auth.middleware import MiddlewareWrapper
from litestar.serialization import decode_json, encode_json
from litestar.types import Empty, Guard, Scope
from litestar.utils import get_serializer_from_scope

from coatcheck import asgi, startup, stepup, visit
from coatcheck._csrf import asgi as csrf
from coatcheck._csrf.guard import no_session
from coatcheck._versions import need
from coatcheck.asgi import HttpsMiddleware
from coatcheck.bearer.litestar import Bearer
from coatcheck.core import cookies
from coatcheck.core.ports import Backend, Store
from coatcheck.core.rates import Rate
from coatcheck.core.session import BaseSession
from coatcheck.core.signing import Secret
from coatcheck.errors import ConfigurationError, UsageError
from coatcheck.faces import AsyncSession, Model
from coatcheck.throttling.route import RateLimit as Limit

need("litestar", "2.12")

__all__ = [
    "AsyncSession",
    "Bearer",
    "CoatCheck",
    "CsrfMiddleware",
    "CurrentUser",
    "HttpsMiddleware",
    "RateLimit",
    "RecentLogin",
    "RequireMethod",
    "Session",
    "SessionDep",
    "csrf_field",
    "csrf_token",
    "get_session",
    "require_login",
]

_KEY: Final = "session"
_SECURITY: Final = "session"
"""What the cookie is called among OpenAPI's security schemes."""

get_session, csrf_token, csrf_field = asgi.get_session, csrf.csrf_token, csrf.csrf_field


class CsrfMiddleware(csrf.CsrfMiddleware):
    """As in `coatcheck.asgi`: `Litestar(…, middleware=[DefineMiddleware(CsrfMiddleware, trusted_origins=[…])])`.

    Routes without a session have nothing to protect; `@post(…, skip_csrf=True)` exempts one that has.
    """

    def __init__(self, app: Any, **options: Any) -> None:
        super().__init__(app, **options)  # Litestar names it

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await super().__call__(scope, receive, send)

    async def _without_session(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        if not any(isinstance(plugin, CoatCheck) for plugin in scope["litestar_app"].plugins):
            raise no_session(
                "CsrfMiddleware", "add the plugin: Litestar(…, plugins=[CoatCheck(store=…, secret=…)])"
            )
        if scope.get(self._key, Empty) is not Empty:
            await super()._without_session(scope, receive, send)
        await self.app(scope, receive, send)

    def _lets_pass(self, scope: asgi.Scope) -> bool:
        return bool(scope["route_handler"].opt.get("skip_csrf"))


class CoatCheck(InitPluginProtocol, ReceiveRoutePlugin):
    """The plugin: `Litestar(…, plugins=[CoatCheck(store=…, secret=…)])`.

    store            a URL or a store (default: in memory, for development)
    secret           the signing secret, or several: the first signs, all verify
    scope_key        where in the scope the session is; a second plugin with another key and `name` gives a second session
    exclude          a pattern, or several, of paths that have no session
    exclude_opt_key  `@get(…, skip_session=True)`: a route with this option has no session
    options          as for `coatcheck.asgi.SessionMiddleware`: `lazy`, `cookie`, `proxy`…

    Raises ConfigurationError, WeakSecret or WrongFace when it is built, and ConfigurationError from `Litestar(…)` if its own
    sessions are installed too. Whoever uses the session while the store cannot be reached is answered 503; a conflict under
    on_conflict="raise" is 409. `exception_handlers={StoreUnavailable: …, SessionConflict: …}` say it in your words.
    """

    def __init__(
        self,
        *,
        store: str | Backend | Store = "memory:",
        secret: Secret | None = None,
        scope_key: str = _KEY,
        exclude: str | Iterable[str] | None = None,
        exclude_opt_key: str | None = "skip_session",
        **options: Any,
    ) -> None:
        self._own = _Sessions(_nowhere, store=store, secret=secret, scope_key=scope_key, **options)
        self._routes: list[_Sessions] = []
        self._key, self._pattern, self._opt_key = scope_key, _pattern(exclude), exclude_opt_key
        self._excludes = self._pattern is not None
        """Whether some requests have no session: only then is each asked."""
        self.sessions, self.exchange = self._own.sessions, self._own.exchange

    @property
    def session_backend_config(self) -> BaseBackendConfig[Any]:
        """For Litestar's `SessionAuth(session_backend_config=…)`: sessions of this plugin in place of its own.

        `SessionAuth` takes a session without data for nobody's, and clears it: let a key stand for the login, by
        `identity=UserKey("user_id")`.
        """
        return _BackendConfig(self)

    # ---- what Litestar calls

    def on_app_init(self, app_config: AppConfig) -> AppConfig:
        """Give this application its sessions."""
        self._refuse_a_second(app_config.plugins)
        app_config.middleware.insert(0, self._around)
        app_config.on_startup.append(self._start)
        app_config.on_shutdown.append(self._end)
        app_config.after_exception.append(self._give_up)
        for error in visit.REFUSED:
            app_config.exception_handlers.setdefault(error, _answer)
        app_config.dependencies.setdefault(self._key, _session_under(self._key))
        if self._key == _KEY:
            app_config.dependencies.setdefault("current_user", Provide(_current_user))
        self._describe(app_config)
        return app_config

    def receive_route(self, route: BaseRoute) -> None:
        """Refuse Litestar's own sessions beside ours, wherever they were put; look for routes without a session; and show in
        OpenAPI which use the cookie. Litestar builds the routes' stacks after this.
        """
        for handler in getattr(route, "route_handlers", None) or (route.route_handler,):  # type: ignore[attr-defined]  # the others
            for middleware in handler.resolve_middleware():
                if self._key == _KEY and (instead := _own_sessions(middleware)):
                    raise ConfigurationError(
                        f"Litestar's own sessions are installed beside CoatCheck, and both would be request.session: {instead}"
                    )
            self._excludes = self._excludes or bool(handler.opt.get(self._opt_key))
            if hasattr(handler, "security") and _uses_the_cookie(handler):
                handler.security = [*(handler.security or ()), {_SECURITY: []}]

    # ---- at start-up

    def _refuse_a_second(self, plugins: Iterable[object]) -> None:
        for other in plugins:
            if not isinstance(other, CoatCheck) or other is self:
                continue
            if other._key == self._key or _name(other) == _name(self):
                raise ConfigurationError(
                    "CoatCheck is installed twice in one application: for a second session, give it a scope_key and a name of"
                    ' its own, such as CoatCheck(scope_key="staff", name="staff", …)'
                )

    def _describe(self, app_config: AppConfig) -> None:
        """Show the cookie in OpenAPI."""
        config = app_config.openapi_config
        if config is None or self._key != _KEY:
            return
        scheme = SecurityScheme(
            type="apiKey", security_scheme_in="cookie", name=_name(self), description="The session cookie"
        )
        given = config.components if isinstance(config.components, list) else [config.components]
        app_config.openapi_config = copy(config)  # which may serve other applications too
        app_config.openapi_config.components = [*given, Components(security_schemes={_SECURITY: scheme})]

    async def _start(self) -> None:
        if self.sessions._reopen():  # a test client starts the same application again and again
            for middleware in (self._own, *self._routes):
                middleware._bind()
        if self._own._startup_check:
            await startup.ask(self.sessions)

    async def _end(self) -> None:
        await startup.close(self.sessions)

    # ---- around each route

    def _around(self, app: Any, backend: object = None) -> Any:
        """Our middleware around one route: Litestar builds a stack for each. (`backend` is what `SessionAuth` says.)"""
        route = copy(self._own)
        route.app = app
        self._routes.append(route)
        if not self._excludes:
            return route
        return _Unless(route, app, self._pattern, self._opt_key)

    async def _give_up(self, error: Exception, scope: Scope) -> None:
        """An exception that nobody handled: Litestar answers it inside of us. Of all the request meant to do, only a logout is
        carried out.
        """
        present: Any = scope.get(self._key)
        if isinstance(error, HTTPException | WebSocketException) or _is_handled(error, scope):
            return
        if isinstance(present, AsyncSession):
            await asgi.log_out(self.sessions, present)
            present._given_up = True
        elif present is not Empty:
            scope[self._key] = _GIVEN_UP  # type: ignore[literal-required]  # the key is ours


class _Sessions(asgi.SessionMiddleware):
    """What `request.set_session()` and `clear_session()` leave in the scope, understood."""

    def _is_kept(self, scope: asgi.Scope, session: AsyncSession[Any], present: object) -> bool:
        if present is None or isinstance(present, BaseSession):
            return super()._is_kept(scope, session, present)
        scope[self._key] = session
        if present is _GIVEN_UP:
            session._given_up = True
        elif present is Empty:
            session.logout()
        else:
            _fill(session, present, scope)
        return True


_GIVEN_UP: Final = object()
"""In the scope in place of what a request that failed had `set_session()` to."""


class _Unless:
    """The middleware around a route, unless the path or the route's options say that there is no session."""

    __slots__ = ("_app", "_opt_key", "_pattern", "_sessions")

    def __init__(
        self, sessions: asgi.App, app: asgi.App, pattern: re.Pattern[str] | None, opt_key: str | None
    ) -> None:
        self._sessions, self._app, self._pattern, self._opt_key = sessions, app, pattern, opt_key

    def __call__(self, scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> Awaitable[None]:
        excluded = scope["route_handler"].opt.get(self._opt_key)
        if not excluded and self._pattern is not None:
            excluded = self._pattern.search(scope["path"])
        return (self._app if excluded else self._sessions)(scope, receive, send)


async def _nowhere(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
    """What the middleware stands around before there are routes."""


def _pattern(exclude: str | Iterable[str] | None) -> re.Pattern[str] | None:
    if exclude is None:
        return None
    try:
        return re.compile(exclude if isinstance(exclude, str) else "|".join(exclude))
    except (re.error, TypeError) as error:
        raise ConfigurationError(
            f"exclude={exclude!r}: give a regular expression, or several ({error})"
        ) from error


def _fill(session: AsyncSession[Any], value: Any, scope: Any) -> None:
    """Make this the data of the session: a mapping, or an object of data that Litestar can encode, such as a Struct."""
    data = (
        value
        if isinstance(value, Mapping)
        else decode_json(encode_json(value, get_serializer_from_scope(scope)))
    )
    if not isinstance(data, Mapping):
        raise UsageError(f"set_session({type(value).__name__}): give a dict")
    for key in [key for key in session if key not in data]:
        del session[key]
    session.update(data)


def _name(plugin: CoatCheck) -> str:
    return cookies.names(plugin.exchange.settings)[0]


def _is_handled(error: Exception, scope: Scope) -> bool:
    """Whether the application has a handler for this very kind of exception, so that it is an answer. One for `Exception`, or
    for status 500, is an error page."""
    handlers = scope["route_handler"].resolve_exception_handlers()
    return any(
        kind in handlers for kind in type(error).__mro__ if kind not in (Exception, BaseException, object)
    )


def _answer(request: Request[Any, Any, Any], error: Any) -> Response[bytes]:
    """The answer to a request that could not have its session."""
    sessions = [value for value in request.scope.values() if isinstance(value, AsyncSession)]
    if not sessions:
        raise error
    session = next((session for session in sessions if session._failure is error), sessions[0])
    refusal = visit.refuse(session, error)
    headers = dict(refusal.headers)
    return Response(
        refusal.body, status_code=refusal.status, media_type=headers.pop("content-type"), headers=headers
    )


def _own_sessions(middleware: Any) -> str:
    """How to do without Litestar's own sessions, if this middleware is theirs."""
    kind = middleware.middleware if isinstance(middleware, DefineMiddleware) else middleware
    if isinstance(kind, type) and issubclass(kind, LitestarSessions):
        return "leave ServerSideSessionConfig (or CookieBackendConfig) out of middleware=[…]"
    if kind is MiddlewareWrapper and not isinstance(
        middleware.kwargs["config"].session_backend_config, _BackendConfig
    ):
        return "say SessionAuth(session_backend_config=coatcheck.session_backend_config, …)"
    return ""


# ------------------------------------------------------------------------------------------------- what handlers ask for


Declared = TypeVar("Declared", bound=Callable[..., Any])


def _shown(declared: Declared) -> Declared:
    """Mark what a route declares to use the session, so that OpenAPI shows the cookie there."""
    declared._coatcheck = True  # type: ignore[attr-defined]
    return declared


def _session_under(key: str) -> Provide:
    @_shown
    async def session(scope: Scope) -> AsyncSession[Any]:
        return await get_session(scope, key=key)

    return Provide(session)


@_shown
async def _current_user(scope: Scope) -> str:
    session = await get_session(scope)
    if session.user_id is None:
        raise _unauthorized()
    return session.user_id


def _mark() -> tuple[Any, ...]:
    """What marks a parameter as a dependency: without a provider it is refused at start-up, and never read from the query."""
    try:
        from litestar.di import Dependency as Named
        from litestar.params import SkipValidationMarker
    except ImportError:  # before 2.23
        from litestar.params import Dependency

        return (Dependency(skip_validation=True),)
    return Named(), SkipValidationMarker()


_DEPENDENCY: Final = _mark()

SessionDep = Annotated[AsyncSession[Any], *_DEPENDENCY]
"""`session: SessionDep`: the session of the request or WebSocket."""

Session = Annotated[AsyncSession[Model], *_DEPENDENCY]
"""The same for typed sessions: `session: Session[Cart]`, where the plugin was given `schema=Cart`."""

CurrentUser = Annotated[str, *_DEPENDENCY]
"""`current_user: CurrentUser`: the user id of the login, as text; 401 without one."""


@_shown
async def require_login(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard: 401 without a login."""
    if (await get_session(connection)).user_id is None:
        raise _unauthorized()


def RecentLogin(within: str | timedelta) -> Guard:
    """A guard for sensitive acts (ASVS 7.5.3): who the user is must have been proved within this time, "10m" or a timedelta.

    401 without a login; 403 with `{"error": "reauth_required"}` as `extra` if it was longer ago. Raises ConfigurationError at
    start-up for a time it cannot read.
    """
    return _needed(stepup.recent(within))


def RequireMethod(*methods: str) -> Guard:
    """A guard: the login was made, or made stronger since, by one of these methods, such as "otp" or "hwk".

    401 without a login; 403 with `{"error": "step_up_required"}` as `extra` otherwise. Raises ConfigurationError at start-up
    without a method.
    """
    return _needed(stepup.by_method(*methods))


def _needed(needs: stepup.Needs) -> Guard:
    @_shown
    async def needed(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        refused = needs.refusal(await get_session(connection))
        if refused is None:
            return
        if refused.status == 401:
            raise _unauthorized()
        raise PermissionDeniedException("log in again", extra=dict(refused.detail))

    return needed


def RateLimit(given: str | Rate, **options: Any) -> Guard:
    """A guard that limits routes: `guards=[RateLimit("100/minute")]`; 429 beyond that. `options`: as for
    `coatcheck.throttling.RateLimit`; its `by` may be a function of the connection. Raises ConfigurationError at start-up.
    """
    limit = Limit(given, **options)

    async def limited(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
        await limit.acheck(connection)

    return limited


def _uses_the_cookie(handler: BaseRouteHandler) -> bool:
    """Whether a route declares that it uses the session: by a guard, or by a parameter that we provide."""
    asked = handler.parsed_fn_signature.parameters
    provided = [
        provide.dependency for name, provide in handler.resolve_dependencies().items() if name in asked
    ]
    return any(hasattr(declared, "_coatcheck") for declared in (*handler.resolve_guards(), *provided))


def _unauthorized() -> NotAuthorizedException:
    return NotAuthorizedException("not logged in", headers={"WWW-Authenticate": "APIKey"})


# ------------------------------------------------------------------------------------------------- SessionAuth


class _BackendConfig(BaseBackendConfig[Any]):
    """What `SessionAuth` wants to be told of sessions: a middleware, and what the cookie is called."""

    def __init__(self, plugin: CoatCheck) -> None:
        self._plugin, self.key = plugin, _name(plugin)

    @property
    def middleware(self) -> DefineMiddleware:
        return DefineMiddleware(self._plugin._around)

    @property
    def _backend_class(self) -> type[BaseSessionBackend[Any]]:  # type: ignore[override]  # a variable there
        return _NoBackend


class _NoBackend(BaseSessionBackend[Any]):
    """Litestar's TestClient(session_config=…) would use a backend of its own beside the application's."""

    def get_session_id(self, connection: object) -> NoReturn:
        raise UsageError(
            "TestClient(session_config=…) is for Litestar's own sessions: log a client in with coatcheck's fixture,"
            " login_as(client, user_id, data={…})"
        )

    async def store_in_message(self, scope_session: object, message: object, connection: Any) -> NoReturn:
        self.get_session_id(connection)

    async def load_from_connection(self, connection: Any) -> NoReturn:
        self.get_session_id(connection)
