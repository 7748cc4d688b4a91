"""The middleware, in place of Django's: one session for every request, committed before the response's headers leave.

What is done with the response is one coroutine for both worlds: under WSGI it is stepped to its end, under ASGI awaited.
"""

from collections.abc import AsyncIterator, Callable
from functools import partial
from http.cookies import Morsel
from typing import Any, Final

from django.contrib.sessions.middleware import SessionMiddleware as DjangoSessionMiddleware
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIRequest
from django.http import FileResponse, HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.utils.deprecation import MiddlewareMixin

from coatcheck import visit
from coatcheck._wsgi_body import Body
from coatcheck.core.session import CookieAction, Phase, Standing
from coatcheck.core.stepping import run_now
from coatcheck.django.engine import SessionStore
from coatcheck.django.home import Home, current
from coatcheck.errors import OutsideRequest, SessionError, StoreError
from coatcheck.exchange import Arrival, Channel, Exchange
from coatcheck.flows import Flows, shielded
from coatcheck.wsgi import arrive

__all__ = ["SessionMiddleware", "get_session"]

_OPEN: Final = Phase.OPEN
_OURS: Final = "_coatcheck"
"""Where a request keeps its session, whatever the application does to `request.session`."""


class SessionMiddleware(DjangoSessionMiddleware):
    """`request.session` for every request, sync and async.

    A subclass of Django's, as the checks of the admin ask for. Raises ImproperlyConfigured at start-up for what
    `manage.py check` calls an error. Whoever uses the session while the store cannot be reached is answered 503; a conflict under
    on_conflict="raise" is 409. A response of 500 or more keeps nothing of its request but a logout.
    """

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        from coatcheck.django.checks import errors

        MiddlewareMixin.__init__(self, get_response)
        for problem in errors():
            raise ImproperlyConfigured(f"{problem.msg} {problem.hint or ''} ({problem.id})")
        home = current()
        if self.async_mode:
            home.asessions  # noqa: B018  # a store that only blocks is refused here, and not at the first request
        home.announce()

    def _home(self, request: HttpRequest) -> Home:
        return current()

    def process_request(self, request: HttpRequest) -> None:
        if isinstance(getattr(request, _OURS, None), SessionStore):
            return  # installed twice: one session a request
        home = self._home(request)
        session = _arrive(home, request)
        request.session = session
        if not hasattr(request, "exception_reporter_filter"):
            request.exception_reporter_filter = home.reports
        setattr(request, _OURS, session)

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        session = getattr(request, _OURS, None)
        if not isinstance(session, SessionStore):
            return response  # process_request() was never called, which Django's own lets pass too
        if _is_settled(request, session, response):
            return _sent(session, response)
        return run_now(_leave(request, session, response, session._flows))

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        self.process_request(request)
        session: SessionStore = getattr(request, _OURS)
        if session._standing is Standing.UNLOADED and session._failure is None and not session._home.lazy:
            try:
                await session._aflows.open(session, session._ticket)
            except StoreError as error:
                session._failed(error)
        response: HttpResponseBase = await self.get_response(request)  # type: ignore[misc]  # in this mode it awaits
        if _is_settled(request, session, response):
            return _sent(session, response)
        return await _leave(request, session, response, session._aflows)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponseBase | None:
        session = getattr(request, _OURS, None)
        if isinstance(session, SessionStore) and isinstance(exception, visit.REFUSED):
            return _refuse(session, exception)
        return None


def get_session(request: HttpRequest) -> SessionStore:
    """`request.session`, of the type it has. Raises OutsideRequest if it is none of ours."""
    session = getattr(request, "session", None)
    if not isinstance(session, SessionStore):
        raise OutsideRequest(
            "there is no session of coatcheck's here: put 'coatcheck.django.SessionMiddleware' in MIDDLEWARE"
        )
    return session


# ------------------------------------------------------------------------------------------------------- the request


def _arrive(home: Home, request: HttpRequest) -> SessionStore:
    now, make, describe = home.time(), partial(SessionStore._of, home), partial(_arrival, request)
    exchange = _exchange(home, request, now)
    is_async = isinstance(request, ASGIRequest)  # where META is not what came: see `_cookies`
    if is_async:
        session = visit.arrive(make, exchange, describe, now)
    else:
        session = arrive(make, exchange, request.META, now, request.scheme or "http", describe)
    session._inline = not is_async
    return session


def _exchange(home: Home, request: HttpRequest, now: float) -> Exchange:
    """Which cookie this request is known by: the usual one; in a test client the one that it looks for.

    Tests with a real server on this machine write that one too, into their browser: it is believed where plain HTTP is.
    """
    if _is_within(request):
        return home.within
    if home.within.settings.name + "=" in request.META.get("HTTP_COOKIE", ""):  # type: ignore[operator]  # it has a name
        arrival = _arrival(request)
        usual = home.exchange.channel(arrival)
        if usual is Channel.LOOPBACK and home.exchange.ticket(arrival, usual, now)[0] is None:
            return home.within if home.within.ticket(arrival, usual, now)[0] is not None else home.exchange
    return home.exchange


def _is_within(request: HttpRequest) -> bool:
    """Whether the request was made up in this process, by Django's test client or RequestFactory.

    By the type of its body, which nobody on the network can choose.
    """
    environ = getattr(request, "environ", None)
    if environ is not None:
        body = environ.get("wsgi.input")
    else:
        body = getattr(getattr(getattr(request, "_stream", None), "_read", None), "__self__", None)
    return type(body).__module__ == "django.test.client"


def _arrival(request: HttpRequest) -> Arrival:
    """What the exchange wants to know. The scheme is Django's, which SECURE_PROXY_SSL_HEADER has a say in."""
    get = request.META.get
    return Arrival(
        request.scheme or "http",
        _cookies(request),
        get("HTTP_HOST", "").encode("latin-1", "replace"),
        request.path,
        get("REMOTE_ADDR", "") or "",
        get("HTTP_X_FORWARDED_PROTO", "").encode("latin-1", "replace"),
        get("HTTP_X_FORWARDED_FOR", "").encode("latin-1", "replace"),
        get("HTTP_USER_AGENT", "").encode("latin-1", "replace"),
        get("HTTP_FORWARDED", "").encode("latin-1", "replace"),
    )


def _cookies(request: HttpRequest) -> bytes:
    if isinstance(
        request, ASGIRequest
    ):  # where HTTP/2 has split the field, Django's META may join it with a comma
        return b"; ".join(value for name, value in request.scope["headers"] if name == b"cookie")
    cookies: str = request.META.get("HTTP_COOKIE", "")
    return cookies.encode("latin-1", "replace")


# ------------------------------------------------------------------------------------------------------ the response


def _is_settled(request: HttpRequest, session: SessionStore, response: HttpResponseBase) -> bool:
    """Whether nothing is left to be done but to say so: the usual end of a request that only reads, told without a coroutine."""
    return (
        session._flows.rules.idle(session, session._at)
        and session._failure is None
        and session._phase is _OPEN
        and getattr(request, "session", None) is session
        and not response.streaming
        and response.status_code < 500
    )


def _sent(session: SessionStore, response: HttpResponseBase) -> HttpResponseBase:
    _dress(response, session, session._owed)
    visit.depart(session)
    return response


async def _leave(
    request: HttpRequest, session: SessionStore, response: HttpResponseBase, flows: Flows
) -> HttpResponseBase:
    """Commit, say so in the headers, and let a streamed body change data until it ends."""
    if response.status_code == 500 and isinstance(session._failure, visit.REFUSED):
        return _refuse(session, session._failure)  # what went wrong is that there was no session
    if session._phase is not Phase.OPEN:
        return response  # installed twice, or refused already
    try:
        cookie = await _settled(request, session, response, flows)
    except visit.REFUSED as error:
        return _refuse(session, error)
    except BaseException:
        visit.depart(session)
        raise
    _dress(response, session, cookie)
    if response.streaming and not isinstance(response, FileResponse):
        visit.started(session)
        _watch(session, response, flows)
    else:
        visit.depart(session)
    return response


async def _settled(
    request: HttpRequest, session: SessionStore, response: HttpResponseBase, flows: Flows
) -> CookieAction:
    """Commit what the request meant to do; returns what to tell the browser."""
    if response.status_code >= 500:
        if visit.wants_logout(session):
            try:
                await shielded(flows._commit_logout(session))
            except StoreError as error:
                session._failed(error)  # told, and not raised in place of what went wrong first
        return session._owed
    if not visit.is_kept(session, getattr(request, "session", None), "request.session"):
        return CookieAction.NONE
    if not visit.is_due(session):
        return session._owed
    if session._standing is Standing.UNLOADED and not await _loaded_for_options(session, flows):
        return CookieAction.NONE
    try:
        await shielded(flows._commit(session))
    except SessionError as error:
        if session._failed(error):
            raise
    return session._owed


async def _loaded_for_options(session: SessionStore, flows: Flows) -> bool:
    """Load a session that nobody used, where the options ask for it (`rolling`, say). An outage is nobody's concern then."""
    if not flows.lifecycle.rules.every_request:
        return False
    try:
        await flows.open(session, session._ticket)
    except StoreError:
        return False
    return True


def _refuse(session: SessionStore, error: Any) -> HttpResponseBase:
    refusal = visit.refuse(session, error)
    response = HttpResponse(refusal.body, status=refusal.status, headers=dict(refusal.headers))
    if session._owed is not CookieAction.NONE:
        # An earlier save() may have changed the id: without the new cookie the browser would be logged out.
        _dress(response, session, session._owed)
    return response


def _dress(response: HttpResponseBase, session: SessionStore, cookie: CookieAction) -> None:
    """Put what must be said into the response's headers."""
    if cookie is CookieAction.NONE and not session._accessed and not session._more:
        return
    headers, vary, cache = response.headers, None, None
    for name in headers:  # half of what it takes to ask for two that are not there
        field = name.lower()
        if field == "vary":
            vary = headers[name]
        elif field == "cache-control":
            cache = headers[name]
    reply = visit.reply(session, cookie, vary=vary, cache_control=cache)
    if reply.vary is not None:
        headers["Vary"] = reply.vary
    if reply.cache_control is not None:
        headers["Cache-Control"] = reply.cache_control
    for name, value in reply.more:
        headers[name] = value
    for text in reply.set_cookies:
        made = _Cookie(text)
        response.cookies[made.key] = made


class _Cookie(Morsel[str]):
    """A Set-Cookie value of ours, where Django and its test client look for one; sent to the letter."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text
        pair, *attributes = text.split("; ")
        name, _, value = pair.partition("=")
        self.set(name, value, value)
        for attribute in attributes:
            word, _, said = attribute.partition("=")
            if self.isReservedKey(word):
                self[word] = said or True  # True for a flag, as in http.cookies

    def OutputString(self, attrs: Any = None) -> str:
        return self._text if attrs is None and "_text" in self.__dict__ else super().OutputString(attrs)


# ---------------------------------------------------------------------------------------------------- streamed bodies


def _watch(session: SessionStore, response: Any, flows: Flows) -> None:
    """Commit at the end of the body what it has changed."""
    pieces = response.streaming_content
    if response.is_async:
        response.streaming_content = _watched(session, pieces, flows)
        return

    def finish() -> None:
        run_now(_finish(session, session._flows))

    def fail(error: BaseException) -> bytes:
        visit.depart(session)
        raise error

    response.streaming_content = Body(pieces, finish, fail)


async def _watched(session: SessionStore, pieces: AsyncIterator[bytes], flows: Flows) -> AsyncIterator[bytes]:
    try:
        async for piece in pieces:
            yield piece
    except Exception:
        visit.depart(session)
        raise
    except BaseException:  # the client has gone, which is no failure
        await _finish(session, flows)
        raise
    await _finish(session, flows)


async def _finish(session: SessionStore, flows: Flows) -> None:
    try:
        if visit.is_due_again(session):
            await shielded(flows._commit(session))
    except StoreError as error:
        if session._failed(error):
            raise
    finally:
        visit.depart(session)
