"""Sessions for any WSGI application (PEP 3333): `environ["coatcheck.session"]`.

The session loads itself when it is first used. It is committed when the application calls `start_response`, before the server is
told, so that a browser never sees a response whose session is not saved. That may be late: a generator does not run before the
server asks for the first piece of the body. What a streamed body changes afterwards is committed at its end.
"""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, TypeVar
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from coatcheck import startup, visit
from coatcheck._csrf.wsgi import CsrfMiddleware, csrf_field, csrf_token
from coatcheck._https_wsgi import HttpsMiddleware
from coatcheck._wsgi_body import Body, close_of
from coatcheck.arrivals import of_environ
from coatcheck.configure import configure
from coatcheck.core.ids import Ticket
from coatcheck.core.ports import Backend, Store
from coatcheck.core.session import CookieAction, Phase, Standing
from coatcheck.core.signing import Secret
from coatcheck.errors import OutsideRequest, SessionError, StoreError
from coatcheck.exchange import Arrival, Exchange, Reply
from coatcheck.faces import Session
from coatcheck.manager import SessionManager

__all__ = [
    "CsrfMiddleware",
    "HttpsMiddleware",
    "SessionMiddleware",
    "csrf_field",
    "csrf_token",
    "get_session",
]

KEY = "coatcheck.session"

Headers = list[tuple[str, str]]
ExcInfo = tuple[type[BaseException], BaseException, TracebackType] | tuple[None, None, None]
Write = Callable[[bytes], object]
S = TypeVar("S", bound=Session[Any])


class SessionMiddleware:
    """A session for every request: `environ["coatcheck.session"]`.

    app          the WSGI application
    store        a URL or a store (default: in memory, for development)
    secret       the signing secret, or several: the first signs, all verify
    environ_key  where in the environ the session is; a second middleware with another key and `name` gives a second session
    options      the fields of `coatcheck.Options`, and `cookie`, `name`, `proxy`, `insecure_dev`,
                 `outage`, `startup_check`

    Raises ConfigurationError, WeakSecret or WrongFace when it is built. A request that needs a store which cannot be reached is
    answered 503, a conflict under on_conflict="raise" 409; other requests go on.
    """

    kind: type[Session[Any]] = Session
    """The class of its sessions, where a framework has one of its own."""

    def __init__(
        self,
        app: WSGIApplication,
        *,
        store: str | Backend | Store = "memory:",
        secret: Secret | None = None,
        environ_key: str = KEY,
        **options: Any,
    ) -> None:
        configured = configure(secret, options, store)
        self.app = app
        self.sessions = SessionManager(
            store,
            options=configured.options,
            outage=configured.outage,
            clock=configured.clock,
            ids=configured.ids,
            kind=self.kind,
        )
        if configured.startup_check:
            startup.announce(self.sessions)
        self.exchange: Exchange = configured.exchange
        self._key = environ_key

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        outer = environ.get(self._key)
        if isinstance(outer, Session) and outer._exchange is self.exchange:
            return self.app(environ, start_response)  # mounted under itself: one session a request
        passage = _Passage(self, environ, start_response)
        environ[self._key] = passage.session
        try:
            body = self.app(environ, passage.start_response)
        except BaseException as error:
            return (passage.fail(error),)
        return passage.deliver(body)


class _Passage:
    """One request on its way through: its session, and how far the response is."""

    __slots__ = ("_cookie", "_environ", "_key", "_sessions", "_start_response", "_started", "session")

    def __init__(
        self, middleware: SessionMiddleware, environ: WSGIEnvironment, start_response: StartResponse
    ) -> None:
        self._environ, self._start_response, self._key = environ, start_response, middleware._key
        self._sessions = sessions = middleware.sessions
        self._cookie, self._started = CookieAction.NONE, False
        now = sessions.flows.clock.time()
        self.session: Session[Any] = arrive(sessions.session, middleware.exchange, environ, now)

    def start_response(self, status: str, headers: Headers, exc_info: ExcInfo | None = None) -> Write:
        """Commit, and tell the server. Called again (with exc_info, PEP 3333), it says the same of what is committed already."""
        session = self.session
        if not self._started:
            place = f"environ[{self._key!r}]"
            if not visit.is_kept(session, self._environ.get(self._key), place):
                visit.depart(session)
            else:
                self._cookie = commit(self._sessions, session)
            if session._phase is Phase.OPEN:
                visit.started(session)
            self._started = True
        if self._cookie is not CookieAction.NONE or session._accessed or session._more:
            headers = _dressed(headers, session, self._cookie)
        return self._tell(status, headers, exc_info)

    def _tell(self, status: str, headers: Headers, exc_info: ExcInfo | None) -> Write:
        if exc_info is None:
            return self._start_response(status, headers)
        return self._start_response(status, headers, exc_info)

    def deliver(self, body: Iterable[bytes]) -> Iterable[bytes]:
        """The body for the server. What no code of the application makes piece by piece goes as it is: its length, or the file
        behind it, is worth knowing."""
        wrapper = self._environ.get("wsgi.file_wrapper")
        finished = isinstance(body, list | tuple) or (isinstance(wrapper, type) and isinstance(body, wrapper))
        if not finished or not self._started:
            return Body(body, self.finish, self.fail)
        try:
            self.finish()
        except BaseException as error:
            page = self.fail(error)
            close_of(body)()
            return (page,)
        return body

    def finish(self) -> None:
        """The body has ended."""
        finish(self._sessions, self.session)

    def fail(self, error: BaseException) -> bytes:
        """The application failed: of all it meant to do, only a logout is carried out.

        Returns the page to send in its place; raises `error` if it is none of ours, or if the server has sent something already:
        that is what `start_response` does with exc_info (PEP 3333).
        """
        session = self.session
        log_out(self._sessions, session)
        visit.depart(session)
        if not isinstance(error, visit.REFUSED):
            raise error
        refusal = visit.refuse(session, error)
        headers = list(refusal.headers)
        if (
            self._cookie is not CookieAction.NONE
        ):  # of what was committed first, the browser must hear all the same
            headers = _dressed(headers, session, self._cookie)
        exc_info = sys.exc_info() if self._started else None
        self._tell(f"{refusal.status} {refusal.reason}", headers, exc_info)
        return refusal.body


def get_session(environ: WSGIEnvironment, *, key: str = KEY) -> Session[Any]:
    """The session of a request. Raises OutsideRequest if there is none."""
    session = environ.get(key)
    if not isinstance(session, Session):
        raise OutsideRequest(
            f"there is no session at environ[{key!r}]: wrap the application in coatcheck.wsgi.SessionMiddleware"
        )
    return session


def arrive(
    make: Callable[[Ticket | None], S],
    exchange: Exchange,
    environ: WSGIEnvironment,
    now: float,
    scheme: str | None = None,
    describe: Callable[[], Arrival] | None = None,
) -> S:
    """The session of a request, as `visit.arrive`. Most cookies have come before: what one is worth takes one look.

    `scheme` and `describe` are for a framework that has its own idea of them.
    """
    cookie = environ.get("HTTP_COOKIE")
    if describe is None:
        describe = partial(of_environ, environ)
    if cookie and "HTTP_X_FORWARDED_PROTO" not in environ and "HTTP_FORWARDED" not in environ:
        host = environ.get("HTTP_HOST", "").encode("latin-1", "replace")
        cookies = cookie.encode("latin-1", "replace")
        reading = exchange.recent.get((cookies, host, scheme or environ["wsgi.url_scheme"]))
        if reading is not None:
            channel, ticket, reissue = reading
            session = make(ticket)
            session._exchange, session._channel, session._at = exchange, channel, now
            session._describe = describe
            if reissue:
                session._reissue = session._meant = True
            return session
    return visit.arrive(make, exchange, describe, now)


def commit(sessions: SessionManager, session: Session[Any]) -> CookieAction:
    """Commit before the headers leave, if there is anything to commit; returns what to tell the browser."""
    if not visit.is_due(session):
        return session._owed
    if session._standing is Standing.UNLOADED and not _loaded_for_options(session):
        return CookieAction.NONE
    try:
        return sessions.commit(session)
    except SessionError as error:
        # An error page is a response too: it must not run into the same commit again.
        if session._failed(error):
            raise
        return session._owed


def _loaded_for_options(session: Session[Any]) -> bool:
    """Load a session that nobody used, where the options ask for it (`rolling`, say). An outage is nobody's concern then."""
    if not session._flows.lifecycle.rules.every_request:
        return False
    try:
        session._load()
    except StoreError:
        return False
    return True


def finish(sessions: SessionManager, session: Session[Any]) -> None:
    """Commit the data that changed since the headers left; from here on every change raises."""
    try:
        if visit.is_due_again(session):
            commit_rest(sessions, session)
    finally:
        visit.depart(session)


def commit_rest(sessions: SessionManager, session: Session[Any]) -> None:
    """Commit what a streamed body changed; the headers have left."""
    try:
        sessions.commit(session)
    except StoreError as error:
        if session._failed(error):
            raise


def log_out(sessions: SessionManager, session: Session[Any]) -> CookieAction:
    """Carry out the logout of a request that failed. An outage is told, and not raised in place of what went wrong first."""
    try:
        return (
            sessions.commit(session, only_logout=True) if visit.wants_logout(session) else CookieAction.NONE
        )
    except StoreError as error:
        session._failed(error)
        return CookieAction.NONE


def _dressed(headers: Headers, session: Session[Any], cookie: CookieAction) -> Headers:
    """The headers, with what must be said about the session."""
    vary, cache = _find(headers, "vary"), _find(headers, "cache-control")
    reply: Reply = visit.reply(session, cookie, vary=vary, cache_control=cache)
    replaced = {"vary"} if reply.vary is not None else set()
    if reply.cache_control is not None:
        replaced.add("cache-control")
    replaced.update(name.lower() for name, _ in reply.more)
    dressed = [item for item in headers if item[0].lower() not in replaced] if replaced else list(headers)
    for name, value in (("Vary", reply.vary), ("Cache-Control", reply.cache_control)):
        if value is not None:
            dressed.append((name, value))
    return [*dressed, *reply.more, *(("Set-Cookie", value) for value in reply.set_cookies)]


def _find(headers: Headers, name: str) -> str | None:
    found = [value for header, value in headers if header.lower() == name]
    return ", ".join(found) if found else None
