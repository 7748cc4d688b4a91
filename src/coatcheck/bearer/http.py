"""A request as the rules see it, and the answer they give: what ASGI, WSGI and every framework translate from and into."""

from collections.abc import Awaitable, Iterable, Mapping, MutableMapping
from inspect import isawaitable, iscoroutinefunction
from typing import Any, Final, NamedTuple, TypeVar
from urllib.parse import quote

import msgspec

from coatcheck.arrivals import target_of_environ, target_of_scope
from coatcheck.errors import ConfigurationError, UsageError, WrongFace

__all__ = [
    "NO_STORE",
    "UNAVAILABLE",
    "Answer",
    "Asked",
    "Refused",
    "answered",
    "asked_of",
    "fitting",
    "from_aiohttp",
    "from_scope",
    "from_wsgi",
    "is_awaiting",
    "json_answer",
]

T = TypeVar("T")
NO_STORE: Final = ("Cache-Control", "no-store")


class Asked(NamedTuple):
    """What a request says. Names of header fields are in lower case, each field that came is there by itself."""

    method: str
    headers: tuple[tuple[str, str], ...]
    path: str = "/"
    """Below the place where the endpoints are mounted."""
    peer: str = ""
    """The address at the other end of the connection."""
    is_socket: bool = False
    """The handshake of a WebSocket: it says GET, and may change what it likes."""
    target: str = "/"
    """The whole path as the client spelt it, which a proof of possession names (RFC 9449 section 4.3)."""
    kept: MutableMapping[str, Any] | None = None
    """What lives as long as the request: a route may ask twice, and a proof is good once."""

    def __repr__(self) -> str:
        """Without the headers, which hold tokens (checklist 201)."""
        return f"<Asked {self.method} {self.path!r}>"

    @property
    def endpoint(self) -> str:
        """The path without a slash at its end: Litestar adds one below a mount."""
        return self.path.removesuffix("/")

    def all(self, name: str) -> list[str]:
        """The values of every field of this name."""
        return [value for field, value in self.headers if field == name]

    def one(self, name: str) -> str:
        """The value of a field; "" if it did not come exactly once."""
        found = self.all(name)
        return found[0] if len(found) == 1 else ""


class Answer(NamedTuple):
    """What to send."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    def __repr__(self) -> str:
        return f"<Answer {self.status}>"

    def header(self, name: str) -> str | None:
        """The first value of a header of this name."""
        return next((value for field, value in self.headers if field.lower() == name.lower()), None)

    def plus(self, *headers: tuple[str, str]) -> "Answer":
        """The same with further headers."""
        return self._replace(headers=(*self.headers, *headers)) if headers else self

    def own_headers(self) -> dict[str, str]:
        """The headers of a refusal, for a framework that writes its body, and the headers about that, itself."""
        return {name: value for name, value in self.headers if name not in ("Content-Type", "Set-Cookie")}


class Refused(Exception):
    """A request that does not pass. It never leaves an adapter, which makes its framework's own kind of answer of it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer

    @property
    def detail(self) -> Any:
        """The body, as an object."""
        return msgspec.json.decode(self.answer.body)


def json_answer(status: int, content: object, *headers: tuple[str, str]) -> Answer:
    """An answer in JSON, that no cache keeps."""
    return Answer(
        status,
        (("Content-Type", "application/json"), NO_STORE, ("Pragma", "no-cache"), *headers),
        msgspec.json.encode(content),
    )


UNAVAILABLE: Final = json_answer(503, {"error": "temporarily_unavailable"}, ("Retry-After", "5"))
"""The store had to be asked, and cannot be: nobody passes (checklist 118)."""


async def answered(value: T | Awaitable[T]) -> T:
    """What a function said that may be sync or async: the rules are written once, for both (`core/stepping.py`)."""
    return await value if isawaitable(value) else value


def fitting(tokens: Any, *, awaits: bool) -> Any:
    """`tokens`, if they fit an async (`awaits`) or a sync adapter; a TokenVerifier, which waits for nothing, fits both.

    Raises WrongFace if not, ConfigurationError for what is no tokens at all.
    """
    if not callable(getattr(tokens, "verify", None)):
        raise ConfigurationError(f"tokens={tokens!r}: give Tokens, AsyncTokens or a TokenVerifier")
    authenticate = getattr(tokens, "authenticate", None)
    if authenticate is None:
        return tokens
    is_async = is_awaiting(authenticate)
    if is_async and not awaits:
        raise WrongFace("AsyncTokens in sync code: give Tokens(SessionManager(…), …)")
    if awaits and not is_async:
        raise WrongFace(
            "Tokens in async code would block the event loop: give AsyncTokens(AsyncSessionManager(…), …)"
        )
    return tokens


def is_awaiting(function: Any) -> bool:
    """Whether a function of somebody else's is `async def`; an object with such a `__call__` too."""
    return iscoroutinefunction(function) or iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004  # which kind, not whether


# ---------------------------------------------------------------------------------------------------- ASGI and WSGI


def from_scope(scope: Any) -> Asked:
    """A request or a WebSocket's handshake, from its ASGI scope."""
    root, path, client = scope.get("root_path", ""), scope.get("path", "/"), scope.get("client")
    if root and path.startswith(root):  # some frameworks take the mount's prefix off, others leave it there
        path = path[len(root) :]
    return Asked(
        scope.get("method", "GET"),
        _decoded(scope["headers"]),
        path or "/",
        client[0] if client else "",
        scope["type"] == "websocket",
        _path_of(target_of_scope(scope)),
        scope,
    )


def _decoded(headers: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in headers)


def from_wsgi(environ: Any) -> Asked:
    """A request, from its WSGI environ. A field that came twice is one there, joined with a comma (PEP 3333)."""
    headers = [
        (name[5:].replace("_", "-").lower(), value)
        for name, value in environ.items()
        if name.startswith("HTTP_") and isinstance(value, str)
    ]
    headers += [
        (name, environ[key])
        for name, key in (("content-type", "CONTENT_TYPE"), ("content-length", "CONTENT_LENGTH"))
        if environ.get(key)
    ]
    return Asked(
        environ["REQUEST_METHOD"],
        tuple(headers),
        environ.get("PATH_INFO") or "/",
        environ.get("REMOTE_ADDR", ""),
        target=_target_of(environ),
        kept=environ,
    )


def _target_of(environ: Any) -> str:
    """Most servers keep the path as it was sent, under one of two names: PEP 3333 has it decoded, and "%2F" is lost."""
    sent = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
    return _path_of(sent.encode("latin-1", "replace") if sent.startswith("/") else target_of_environ(environ))


def _path_of(target: bytes) -> str:
    """A path without its query. What a URL may not hold is escaped, so that no "#" ends it early; what does not begin as a path
    does is none, and must not become a part of the host's name.
    """
    path = quote(target.partition(b"?")[0], safe="%/:@!$&'()*+,;=~")
    return path if path.startswith("/") else "/" + path


def from_aiohttp(request: Any, kept: MutableMapping[str, Any] | None = None) -> Asked:
    """A request of aiohttp's server."""
    headers = tuple((name.lower(), value) for name, value in request.headers.items())
    is_socket = request.headers.get("Upgrade", "").lower() == "websocket"
    sent = request.raw_path if request.raw_path.startswith("/") else request.rel_url.raw_path
    target = _path_of(sent.encode("utf-8", "surrogateescape"))
    return Asked(request.method, headers, request.path, request.remote or "", is_socket, target, kept)


def asked_of(request: Any) -> Asked:
    """A request of any framework, an ASGI scope, or a WSGI environ. Raises UsageError for what is none."""
    scope, environ = getattr(request, "scope", request), getattr(request, "environ", request)
    if isinstance(scope, Mapping) and "headers" in scope:
        return from_scope(scope)
    if isinstance(environ, Mapping) and "REQUEST_METHOD" in environ:
        return from_wsgi(environ)
    if hasattr(request, "rel_url"):
        return from_aiohttp(request)
    raise UsageError(
        f"{type(request).__name__} is no request: give the framework's own, an ASGI scope or a WSGI environ"
    )
