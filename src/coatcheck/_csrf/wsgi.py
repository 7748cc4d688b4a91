"""CSRF protection for any WSGI application (PEP 3333). It stands inside the session middleware.

A token in a form is looked for only where the headers prove nothing: then the beginning of the body is read, and handed on to the
application as if nobody had.
"""

import io
from collections.abc import Callable, Iterable
from typing import Any, Final
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from coatcheck._csrf.forms import FormBody
from coatcheck._csrf.guard import FIELD, Guard, Protection, field_of, no_session
from coatcheck.errors import ConfigurationError, OutsideRequest
from coatcheck.exchange import Exchange
from coatcheck.faces import Session
from coatcheck.security.csrf import Verdict

__all__ = ["GUARD", "CsrfMiddleware", "csrf_field", "csrf_token", "fields_of", "guard_of"]

GUARD: Final = "coatcheck.csrf"
"""Where in an environ the guard is."""
_FIX: Final = "wrap it: SessionMiddleware(CsrfMiddleware(application, …), store=…, secret=…)"
_AT_ONCE: Final = 16_384


class CsrfMiddleware:
    """Refuses requests that another site made in a visitor's name: 403, before the application sees them.

    app          the WSGI application
    environ_key  where in the environ the session is
    The other arguments are those of `coatcheck.asgi.CsrfMiddleware`.

    Raises ConfigurationError when it is built, or at the first request, if no session middleware of coatcheck stands around it.
    """

    def __init__(
        self,
        app: WSGIApplication,
        *,
        trusted_origins: Iterable[str] = (),
        exempt: Iterable[str] = (),
        environ_key: str = "coatcheck.session",
        **options: Any,
    ) -> None:
        self.protection = Protection(trusted_origins=trusted_origins, exempt=exempt, **options)
        self.app, self._key = app, environ_key
        _refuse_order(app)

    @property
    def exempt(self) -> tuple[str, ...]:
        """What needs no proof: for an inventory."""
        return self.protection.rules.unproved

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        session = environ.get(self._key)
        if not isinstance(session, Session):
            raise no_session("CsrfMiddleware", _FIX)
        guard = environ[GUARD] = self.protection.guard(
            session, environ["REQUEST_METHOD"], environ.get("QUERY_STRING", ""), fields_of(environ)
        )
        finding = guard.judge()
        if finding.verdict is Verdict.REFUSED or (
            finding.verdict is Verdict.TOKEN and not _brings_token(guard, environ)
        ):
            refusal = guard.refuse(finding)
            start_response(f"{refusal.status} Forbidden", list(refusal.headers))
            return [refusal.body]
        return self.app(environ, _telling(guard, start_response))


def _refuse_order(app: object) -> None:
    for _ in range(100):
        if isinstance(getattr(app, "exchange", None), Exchange):
            raise ConfigurationError(
                f"CsrfMiddleware stands around the SessionMiddleware that it needs: {_FIX}"
            )
        app = getattr(app, "app", None)


def fields_of(environ: WSGIEnvironment) -> Callable[[str], list[str]]:
    """The header fields of a request. Where one came twice, the server has joined the two by a comma."""

    def fields(name: str) -> list[str]:
        value = environ.get(f"HTTP_{name.upper().replace('-', '_')}")
        return [] if value is None else [value]

    return fields


# -------------------------------------------------------------------------------------------------------- the request


def _brings_token(guard: Guard, environ: WSGIEnvironment) -> bool:
    sent = guard.sent
    if sent is not None:
        return guard.accepts(sent)
    body = FormBody(environ.get("CONTENT_TYPE", ""), FIELD)
    if not body.is_form:
        return False
    source, left = environ["wsgi.input"], _length(environ)
    pieces, value, is_whole = list[bytes](), None, False
    while value is None and not is_whole and body.room:
        piece = source.read(min(_AT_ONCE, body.room, left))
        pieces.append(piece)
        left -= len(piece)
        is_whole = not piece or left == 0
        body.add(piece)
        value = body.value(is_whole=is_whole)
    environ["wsgi.input"] = io.BufferedReader(_Replay(b"".join(pieces), source, left))
    return value is not None and guard.accepts(value)


def _length(environ: WSGIEnvironment) -> int:
    """How much of a body there is: beyond it a server may wait for ever (PEP 3333)."""
    text = environ.get("CONTENT_LENGTH") or ""
    if text.isascii() and text.isdigit():
        return int(text)
    return 2**62 if environ.get("wsgi.input_terminated") else 0


class _Replay(io.RawIOBase):
    """What was read already, once more; then what comes."""

    def __init__(self, head: bytes, rest: Any, left: int) -> None:
        self._head, self._rest, self._left = head, rest, left

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        size = len(buffer)
        if self._head:
            piece, self._head = self._head[:size], self._head[size:]
        else:
            piece = self._rest.read(min(size, self._left)) if self._left else b""
            self._left -= len(piece)
        buffer[: len(piece)] = piece
        return len(piece)


# ------------------------------------------------------------------------------------------------------- the response


def _telling(guard: Guard, start_response: StartResponse) -> StartResponse:
    def tell(status: str, headers: list[tuple[str, str]], exc_info: Any = None, /) -> Any:
        if not guard.is_silent:
            headers = _dressed(headers, guard)
        return (
            start_response(status, headers) if exc_info is None else start_response(status, headers, exc_info)
        )

    return tell


def _dressed(headers: list[tuple[str, str]], guard: Guard) -> list[tuple[str, str]]:
    def all_of(name: str) -> str | None:
        found = [value for field, value in headers if field.lower() == name]
        return ", ".join(found) if found else None

    said = guard.reply(all_of("vary"), all_of("cache-control"))
    for name, value in (("Vary", said.vary), ("Cache-Control", said.cache_control)):
        if value is not None:
            headers = [*(item for item in headers if item[0].lower() != name.lower()), (name, value)]
    return headers if said.set_cookie is None else [*headers, ("Set-Cookie", said.set_cookie)]


# --------------------------------------------------------------------------------------------------------- for pages


def guard_of(environ: WSGIEnvironment) -> Guard:
    """The guard of a request. Raises OutsideRequest."""
    guard = environ.get(GUARD)
    if not isinstance(guard, Guard):
        raise OutsideRequest(
            "there is no CSRF token here: wrap the application in coatcheck.wsgi.CsrfMiddleware"
        )
    return guard


def csrf_token(environ: WSGIEnvironment, form: str | None = None) -> str:
    """A token for a page, as `coatcheck.asgi.csrf_token`."""
    return guard_of(environ).token(form)


def csrf_field(environ: WSGIEnvironment, form: str | None = None) -> str:
    """The hidden field for a form, as HTML."""
    return field_of(csrf_token(environ, form))
