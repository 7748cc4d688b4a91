"""A request as its server describes it, for the rules: one `Arrival` from an ASGI scope, a WSGI environ, an aiohttp request.

The three differ in what they do with a field that comes twice. Joined, it counts as one, as the standards have it (RFC 9110
section 5.3; cookies: RFC 9113 section 8.2.3).
"""

from collections.abc import MutableMapping
from typing import Any, Final
from urllib.parse import quote

from coatcheck.core.origin import Arrival

__all__ = ["of_aiohttp", "of_environ", "of_scope", "target_of_environ", "target_of_scope"]

_JOINTS: Final = (
    (b"cookie", b"; "),
    (b"x-forwarded-for", b", "),
    (b"x-forwarded-proto", b", "),
    (b"forwarded", b", "),
)
"""Fields that may come several times, and what joins them."""
_PLAIN: Final = "/:@!$&'()*+,;=~"
"""What a decoded path may hold unescaped, beside letters and digits (RFC 3986 section 3.3)."""


def of_scope(scope: MutableMapping[str, Any]) -> Arrival:
    """What an ASGI server tells of a request."""
    headers = scope["headers"]
    found = dict(headers)
    if len(found) != len(headers):
        for name, joint in _JOINTS:
            found[name] = joint.join(value for field, value in headers if field == name)
    get, client = found.get, scope.get("client")
    return Arrival(
        scope.get("scheme", "http"),
        get(b"cookie", b""),
        get(b"host", b""),
        scope.get("path", "/"),
        client[0] if client else "",
        get(b"x-forwarded-proto", b""),
        get(b"x-forwarded-for", b""),
        get(b"user-agent", b""),
        get(b"forwarded", b""),
    )


def target_of_scope(scope: MutableMapping[str, Any]) -> bytes:
    """Path and query, as sent where the server still knows (`raw_path` is optional)."""
    path: bytes = scope.get("raw_path") or quote(scope["path"], safe=_PLAIN).encode("ascii")
    query: bytes = scope.get("query_string", b"")
    return path + b"?" + query if query else path


def of_environ(environ: MutableMapping[str, Any]) -> Arrival:
    """What a WSGI server tells of a request. It hands header values over as latin-1 text (PEP 3333)."""
    get = environ.get
    return Arrival(
        environ["wsgi.url_scheme"],
        get("HTTP_COOKIE", "").encode("latin-1"),
        get("HTTP_HOST", "").encode("latin-1"),
        (get("SCRIPT_NAME", "") + get("PATH_INFO", "")).encode("latin-1").decode("utf-8", "replace") or "/",
        get("REMOTE_ADDR", ""),
        get("HTTP_X_FORWARDED_PROTO", "").encode("latin-1"),
        get("HTTP_X_FORWARDED_FOR", "").encode("latin-1"),
        get("HTTP_USER_AGENT", "").encode("latin-1"),
        get("HTTP_FORWARDED", "").encode("latin-1"),
    )


def target_of_environ(environ: MutableMapping[str, Any]) -> bytes:
    """Path and query. WSGI hands the path over decoded: it is escaped again."""
    path = quote(
        (environ.get("SCRIPT_NAME", "") + environ.get("PATH_INFO", "")).encode("latin-1"), safe=_PLAIN
    )
    query = environ.get("QUERY_STRING", "")
    return (f"{path}?{query}" if query else path).encode("latin-1")


def of_aiohttp(request: Any) -> Arrival:
    """What aiohttp tells of a request."""
    headers = request.headers

    def field(name: str, joint: str = ", ") -> bytes:
        return joint.join(headers.getall(name, ())).encode(
            "utf-8", "surrogateescape"
        )  # as aiohttp decodes them

    return Arrival(
        request.scheme,
        field("Cookie", "; "),
        field("Host"),
        request.path,
        request.remote or "",
        field("X-Forwarded-Proto"),
        field("X-Forwarded-For"),
        field("User-Agent"),
        field("Forwarded"),
    )
