"""CSRF protection for any ASGI 3 application, over HTTP and WebSockets. It stands inside the session middleware.

A token in a form is looked for only where the headers prove nothing: then the beginning of the body is read, and handed on to the
application as if nobody had.
"""

from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from typing import Any, Final

from coatcheck._csrf.forms import FormBody
from coatcheck._csrf.guard import ASKED, FIELD, Guard, Protection, Refusal, field_of, no_session
from coatcheck.errors import ConfigurationError, OutsideRequest
from coatcheck.exchange import Exchange
from coatcheck.faces import AsyncSession
from coatcheck.security.csrf import Verdict

__all__ = [
    "GUARD",
    "SESSIONS",
    "CsrfMiddleware",
    "accepted",
    "csrf_field",
    "csrf_token",
    "fields_of",
    "guard_of",
]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Any, Any, Any], Awaitable[None]]

GUARD: Final = "coatcheck.csrf"
"""Where in a scope the guard is."""
SESSIONS: Final = "coatcheck.sessions"
"""Where in a lifespan's scope the session middlewares around say which keys are theirs."""
_STARTS: Final = frozenset({"http.response.start", "websocket.accept", "websocket.http.response.start"})
_ASKED: Final = {name.lower().encode("ascii"): name for name in ASKED}
_POLICY_VIOLATION: Final = 1008
_FIX: Final = (
    "put coatcheck's SessionMiddleware around CsrfMiddleware (in Starlette and FastAPI the middleware that is added last is the"
    " outermost: add CsrfMiddleware first, then SessionMiddleware)"
)


class CsrfMiddleware:
    """Refuses requests that another site made in a visitor's name: 403, before the application sees them.

    app              the ASGI application
    trusted_origins  whose pages may send requests that change something, as in `["https://app.example"]`: your own, so that
                     browsers without Fetch Metadata need no token, and other sites that share this application
    exempt           paths that need no proof: "/hooks/pay", or "/hooks/*" for all below
    same_site        believe `Sec-Fetch-Site: same-site` too: every host of your domain, whoever runs it
    per_form         accept a token only at the form that it was made for
    allow_http       allow plain http origins besides those of this machine
    allow_non_browsers
                     let pass what bears no mark of a browser: no `Sec-Fetch-Site`, `Origin` or `Referer`, and no `Accept` of HTML
    scope_key        where in the scope the session is

    Raises ConfigurationError when it is built, when the application starts, or at the first request, if no session middleware of
    coatcheck stands around it.
    """

    def __init__(
        self,
        app: App,
        /,
        *,
        trusted_origins: Iterable[str] = (),
        exempt: Iterable[str] = (),
        scope_key: str = "session",
        **options: Any,
    ) -> None:
        self.protection = Protection(trusted_origins=trusted_origins, exempt=exempt, **options)
        self.app, self._key = app, scope_key
        _refuse_order(app)

    @property
    def exempt(self) -> tuple[str, ...]:
        """What needs no proof: for an inventory."""
        return self.protection.rules.unproved

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        kind = scope["type"]
        if kind not in ("http", "websocket"):
            if kind == "lifespan" and self._key not in scope.get(SESSIONS, ()):
                await _fail_to_start(receive, send)
            await self.app(scope, receive, send)
            return
        session = scope.get(self._key)
        if not isinstance(session, AsyncSession):
            await self._without_session(scope, receive, send)
            return
        guard = scope[GUARD] = self.protection.guard(
            session,
            scope.get("method", "GET"),
            scope.get("query_string", b"").decode("latin-1"),
            fields_of(scope),
            websocket=kind == "websocket",
        )
        finding = guard.judge()
        if finding.verdict is Verdict.TOKEN:
            receive, is_proved = await _look_for_token(guard, scope, receive)
        else:
            is_proved = finding.verdict is not Verdict.REFUSED
        if is_proved or self._lets_pass(scope):
            await self.app(scope, receive, _telling(guard, send))
        else:
            await _refuse(guard.refuse(finding), scope, receive, send)

    async def _without_session(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise no_session("CsrfMiddleware", _FIX)

    def _lets_pass(self, scope: Scope) -> bool:
        """Whether the framework knows this route for one that needs no proof."""
        return False


def _refuse_order(app: object) -> None:
    """Look at what is inside, as far as it shows what it wraps: sessions must stand outside of us."""
    for _ in range(100):
        if isinstance(getattr(app, "exchange", None), Exchange):
            raise ConfigurationError(
                f"CsrfMiddleware stands around the SessionMiddleware that it needs: {_FIX}"
            )
        app = getattr(app, "app", None)


async def _fail_to_start(receive: Receive, send: Send) -> None:
    """Without sessions around us the application must not start. To raise is not enough: servers take that for a lack of
    interest.
    """
    error = no_session("CsrfMiddleware", _FIX)
    await receive()
    await send({"type": "lifespan.startup.failed", "message": str(error)})
    raise error


def fields_of(scope: Scope) -> Callable[[str], Sequence[str]]:
    """The header fields of a request that the rules ask for, sorted by name at the first look."""
    found: dict[str, list[str]] | None = None

    def fields(name: str) -> Sequence[str]:
        nonlocal found
        if found is None:
            found = {}
            for field, value in scope["headers"]:
                wanted = _ASKED.get(field.lower())
                if wanted is not None:
                    found.setdefault(wanted, []).append(value.decode("latin-1"))
        return found.get(name, ())

    return fields


# -------------------------------------------------------------------------------------------------------- the request


async def _look_for_token(guard: Guard, scope: Scope, receive: Receive) -> tuple[Receive, bool]:
    """Whether the request brings a token, and what it is to be received by from here on."""
    sent = guard.sent
    if sent is not None:
        return receive, await accepted(guard, sent)
    types = fields_of(scope)("Content-Type")
    body = FormBody(types[0] if len(types) == 1 else "", FIELD)
    if scope["type"] != "http" or not body.is_form:
        return receive, False
    messages: list[Message] = []
    value, goes_on = None, True
    while value is None and goes_on:
        message = await receive()
        messages.append(message)
        is_whole = message["type"] != "http.request" or not message.get("more_body", False)
        goes_on = body.add(message.get("body", b"")) and not is_whole
        value = body.value(is_whole=is_whole)
    return _Replay(messages, receive), await accepted(guard, value)


async def accepted(guard: Guard, token: object) -> bool:
    """Whether this is a token of the request's session, which is loaded for that, and only for that."""
    if not isinstance(token, str):
        return False
    if guard.needs_session:
        await guard.session.load()  # type: ignore[union-attr]  # an awaiting one
    return guard.accepts(token)


class _Replay:
    """What was received already, once more; then what comes."""

    __slots__ = ("_messages", "_receive")

    def __init__(self, messages: list[Message], receive: Receive) -> None:
        self._messages, self._receive = messages[::-1], receive

    async def __call__(self) -> Message:
        return self._messages.pop() if self._messages else await self._receive()


# ------------------------------------------------------------------------------------------------------- the response


def _telling(guard: Guard, send: Send) -> Send:
    def tell(message: Message) -> Awaitable[None]:
        if message["type"] in _STARTS and not guard.is_silent:
            message = dict(message)
            message["headers"] = _dressed(list(message.get("headers") or ()), guard)
        return send(message)

    return tell


def _dressed(headers: list[tuple[bytes, bytes]], guard: Guard) -> list[tuple[bytes, bytes]]:
    def all_of(name: bytes) -> str | None:
        found = [value.decode("latin-1") for field, value in headers if field.lower() == name]
        return ", ".join(found) if found else None

    said = guard.reply(all_of(b"vary"), all_of(b"cache-control"))
    for name, value in ((b"vary", said.vary), (b"cache-control", said.cache_control)):
        if value is not None:
            headers = [item for item in headers if item[0].lower() != name]
            headers.append((name, value.encode("latin-1")))
    if said.set_cookie is not None:
        headers.append((b"set-cookie", said.set_cookie.encode("latin-1")))
    return headers


async def _refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    prefix = "http"
    if scope["type"] == "websocket":
        message = await receive()  # the handshake: it is answered, never accepted (checklist 103)
        if message["type"] != "websocket.connect":
            return
        if "websocket.http.response" not in scope.get("extensions", ()):
            await send({"type": "websocket.close", "code": _POLICY_VIOLATION, "reason": ""})
            return
        prefix = "websocket.http"
    headers = [(name.encode("ascii"), value.encode("ascii")) for name, value in refusal.headers]
    await send({"type": f"{prefix}.response.start", "status": refusal.status, "headers": headers})
    await send({"type": f"{prefix}.response.body", "body": refusal.body})


# --------------------------------------------------------------------------------------------------------- for pages


def guard_of(where: Any) -> Guard:
    """The guard of a request or scope. Raises OutsideRequest."""
    scope = getattr(where, "scope", where)
    guard = scope.get(GUARD) if isinstance(scope, MutableMapping) else None
    if not isinstance(guard, Guard):
        raise OutsideRequest(
            "there is no CSRF token here: add coatcheck's CsrfMiddleware, inside of SessionMiddleware"
        )
    return guard


def csrf_token(request: Any, form: str | None = None) -> str:
    """A token for a page: another string each time, good as long as the login lasts.

    request  the request, or its scope
    form     for this form alone: the path that it is sent to, or "DELETE /item/7"

    Send it back as the form field `csrf_token` or the header `X-CSRF-Token`. Raises OutsideRequest without the middleware,
    TooLate once the headers have left, UsageError where the session is lazy and not loaded yet.
    """
    return guard_of(request).token(form)


def csrf_field(request: Any, form: str | None = None) -> str:
    """The hidden field for a form, as HTML: `{{ csrf_field(request)|safe }}`."""
    return field_of(csrf_token(request, form))
