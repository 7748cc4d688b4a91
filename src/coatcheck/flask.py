"""Sessions for Flask: `flask.session` as always, kept on the server.

    CoatCheck(app)          # or: coatcheck = CoatCheck(); … coatcheck.init_app(app)

What Flask documents goes on as documented: `session.permanent`, `new`, `modified`, `accessed`, `flash()`,
`test_client().session_transaction()`. Changes inside a value are noticed without `session.modified = True`.
"""

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeVar, cast

from flask import Flask, Request, Response, current_app, got_request_exception, has_request_context, request
from flask import session as current_session
from flask.sessions import SessionInterface, SessionMixin

from coatcheck import startup, stepup, visit
from coatcheck._csrf.flask import Csrf, csrf_field, csrf_token
from coatcheck._flasklike import Words, alone, dress, refresh, settings, still_alone, store_of
from coatcheck._flasklogin import LoginKeys
from coatcheck._versions import need
from coatcheck._wsgi_body import Body
from coatcheck.bearer.flask import Bearer
from coatcheck.configure import configure
from coatcheck.core.identity import identified
from coatcheck.core.ports import Backend, Store
from coatcheck.core.session import CookieAction, Phase, UserId
from coatcheck.errors import SessionError
from coatcheck.exchange import Exchange
from coatcheck.faces import Session
from coatcheck.manager import SessionManager
from coatcheck.throttling.route import RateLimit as Limit
from coatcheck.wsgi import KEY, HttpsMiddleware, arrive, commit, finish, get_session, log_out

need("flask", "3.0")

__all__ = [
    "Bearer",
    "CoatCheck",
    "Csrf",
    "FlaskLogin",
    "FlaskSession",
    "HttpsMiddleware",
    "RateLimit",
    "csrf_field",
    "csrf_token",
    "get_session",
    "recent_login",
    "require_method",
]

V = TypeVar("V", bound=Callable[..., Any])


class CoatCheck:
    """The extension. What is not given here is read from `app.config`, when `init_app` is called:

    SECRET_KEY, SECRET_KEY_FALLBACKS  the first signs, all verify; a weak one is refused (`coatcheck secret` prints a good one)
    SESSION_STORE                     a store's URL; `memory:` if there is none. In the environment: FLASK_SESSION_STORE
    SESSION_COOKIE_NAME, _DOMAIN, _PATH, _HTTPONLY, _SECURE, _SAMESITE, _PARTITIONED, and APPLICATION_ROOT
    PERMANENT_SESSION_LIFETIME        what `session.permanent = True` means and, if you set it, the idle timeout of all sessions
    SESSION_REFRESH_EACH_REQUEST      send a permanent session's cookie again as it lives on, once in `Timeouts.touch` seconds

    **Flask's defaults are not ours.** A cookie setting that has the value of `Flask.default_config` counts as not set, since
    nobody can tell it from one that is: the cookie is then called `__Host-session` (`session` on loopback HTTP), is Secure over
    HTTPS, and SameSite=Lax. To insist on such a value, say `cookie=CookieSettings(name="session", secure=False)`.

    store        a URL or a store, in place of SESSION_STORE
    identity     which keys stand for the login: if it is left out, Flask-Login's (`FlaskLogin()`) where there is a login manager;
                 none if it is None
    options      in place of the configuration: as for `coatcheck.wsgi.SessionMiddleware`, `secret`, `cookie`, `proxy`…

    Raises ConfigurationError or WeakSecret in `init_app`; at the first request, if another extension has taken the sessions
    over since. Whoever uses `flask.session` while the store cannot be reached is answered 503; a conflict under
    on_conflict="raise" is 409. `@app.errorhandler(StoreUnavailable)` and `@app.errorhandler(SessionConflict)` say it in your
    words.
    """

    def __init__(
        self, app: Flask | None = None, *, store: str | Backend | Store | None = None, **options: Any
    ) -> None:
        self._store, self._options = store, options
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Give this application its sessions."""
        alone(app.extensions, app.session_interface, Flask.session_interface)
        config = {**app.config, "SECRET_KEY": app.secret_key}  # which a subclass may keep elsewhere
        secret, options = settings(config, Flask.default_config, self._options)
        store = self._store if self._store is not None else store_of(app.config)
        configured = configure(secret, options, store)
        sessions = SessionManager(
            store,
            options=configured.options,
            outage=configured.outage,
            clock=configured.clock,
            ids=configured.ids,
            kind=FlaskSession,
        )
        if configured.startup_check:
            startup.announce(sessions)
        app.session_interface = interface = _Interface(
            sessions, configured.exchange, knows_login="identity" in self._options
        )
        app.before_request(partial(_still_alone, app, interface))
        app.extensions["coatcheck"] = sessions
        for error in visit.REFUSED:
            if error not in app.error_handler_spec[None][None]:
                app.register_error_handler(error, _refuse)
        got_request_exception.connect(_mark_as_failed, app)


def FlaskLogin(
    *,
    to_user_id: Callable[[Any], UserId] | None = None,
    from_user_id: Callable[[str], Any] | None = None,
    method: str = "pwd",
) -> LoginKeys:
    """The identity of an application with Flask-Login: what `CoatCheck` takes where there is a login manager, unless
    `identity=` says otherwise.

    to_user_id    makes the user id of what the user's `get_id()` returns; a str, an int or a UUID is one already
    from_user_id  makes what `user_loader` gets of the user id, which is text
    method        what a login by `login_user()` is recorded as

    `login_user()` and `confirm_login()` are then `session.login()`, `logout_user()` ends the session on the server and keeps
    the other keys in a new one.
    """
    return LoginKeys(_client, to_user_id=to_user_id, from_user_id=from_user_id, method=method)


class FlaskSession(Words, Session[Any], SessionMixin):  # type: ignore[override]  # Flask has a constant for `new`
    """`flask.session`: everything `coatcheck.Session` has, with the words of Flask."""

    _failed_with: CookieAction | None = None
    """What to tell the browser of a request that failed: decided when it did."""
    _kept_open = False
    """Whether a test client, or the debugger, keeps the request open when it has ended."""

    def _load_now(self) -> None:
        """After the response, in a teardown say, whoever looks for the first time may: nothing of it can reach a cache."""
        if self._phase is Phase.DONE:
            self._load()
        else:
            super()._load_now()


class _Interface(SessionInterface):
    """Where Flask asks for a session, and gives it back with the response."""

    def __init__(self, sessions: SessionManager, exchange: Exchange, *, knows_login: bool) -> None:
        self.sessions, self.exchange, self._knows_login = sessions, exchange, knows_login

    def open_session(self, app: Flask, request: Request) -> FlaskSession:
        if not self._knows_login and hasattr(app, "login_manager"):
            # Only now, since a login manager may be given to the application after us.
            self.sessions._kind, self._knows_login = identified(FlaskSession, FlaskLogin()), True
        environ, sessions = request.environ, self.sessions
        now = sessions.flows.clock.time()
        session = cast(FlaskSession, arrive(sessions.session, self.exchange, environ, now))
        environ[KEY] = session
        if "werkzeug.debug.preserve_context" in environ:
            session._kept_open = True
        return session

    def save_session(self, app: Flask, session: FlaskSession, response: Response) -> None:  # type: ignore[override]  # as above
        """Commit before the headers leave. Flask calls this last of all, for error pages too."""
        try:
            cookie = session._failed_with if session._failed_with is not None else self._commit(app, session)
        except SessionError as error:
            # Too late for Flask's error handling, which has had its turn: do what it would have done.
            _replace(response, app.make_response(app.handle_user_exception(error)))
            cookie = CookieAction.NONE
        dress(response.headers, session, cookie)
        self._stream(app, session, response)

    def _commit(self, app: Flask, session: FlaskSession) -> CookieAction:
        refresh(session, app.config)
        return commit(self.sessions, session)

    def _stream(self, app: Flask, session: FlaskSession, response: Response) -> None:
        """Let a streamed body change data until it ends."""
        if not response.is_streamed or response.direct_passthrough or session._failed_with is not None:
            if not _goes_on(app, session):
                visit.depart(session)
            return
        visit.started(session)

        def fail(error: BaseException) -> bytes:
            visit.depart(session)
            raise error

        pieces: Any = response.response
        response.response = Body(pieces, lambda: finish(self.sessions, session), fail)


def _still_alone(app: Flask, interface: SessionInterface) -> None:
    """At the first request: raise if another extension was installed over ours. Then step aside."""
    still_alone(app.session_interface, interface)
    before = app.before_request_funcs[None]
    # Another list: this request is on its way through the one there was.
    app.before_request_funcs[None] = [
        function for function in before if getattr(function, "func", None) is not _still_alone
    ]


def _goes_on(app: Flask, session: FlaskSession) -> bool:
    """Whether a test client keeps the request open (`with client:`), to look at the session and take messages from it.

    The request itself is not asked: through Flask's proxy that is 6 per cent of the instructions that a read adds.
    """
    return session._kept_open and (app.testing or not app.debug)


def _client() -> str | None:
    """The client that is asking, as Flask-Login's manager identifies it, custom generators too."""
    manager = getattr(current_app, "login_manager", None) if has_request_context() else None
    generator = getattr(manager, "_session_identifier_generator", None)
    return None if generator is None else generator()


class RateLimit(Limit):
    """A decorator that limits a view: `@RateLimit("100/minute")` below `@app.route`; 429 beyond that. As
    `coatcheck.throttling.RateLimit`, of the request at hand.
    """

    @staticmethod
    def request() -> Any:
        """The request at hand."""
        return request


def _refuse(error: Any) -> Response:
    session = _mark_as_failed(current_app)
    if session is None:
        raise error
    refusal = visit.refuse(session, error)
    return Response(refusal.body, refusal.status, headers=list(refusal.headers))


def _mark_as_failed(app: Flask, **_: Any) -> FlaskSession | None:
    """An exception that nobody handled: of all the request meant to do, only a logout is carried out."""
    session = request.environ.get(KEY) if has_request_context() else None
    if not isinstance(session, FlaskSession):
        return None
    session._failed_with = log_out(app.extensions["coatcheck"], session)
    return session


def _replace(response: Response, other: Response) -> None:
    """Make one response the other, closing what it had."""
    if hasattr(response.response, "close"):
        other.call_on_close(response.response.close)
    response.call_on_close(other.close)
    response.response, response.status, response.headers = other.response, other.status, other.headers
    response.direct_passthrough = other.direct_passthrough


# -------------------------------------------------------------------------------------------------- sensitive acts


def _needing(needs: stepup.Needs) -> Callable[[V], V]:
    def decorate(view: V) -> V:
        @wraps(view)
        def guarded(*args: Any, **given: Any) -> Any:
            refused = needs.refusal(current_session._get_current_object())  # type: ignore[attr-defined]  # a proxy
            if refused is not None:
                return dict(refused.detail), refused.status
            return current_app.ensure_sync(view)(*args, **given)

        return cast(V, guarded)

    return decorate


recent_login, require_method = stepup.decorators(_needing)
