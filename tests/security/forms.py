"""What the CSRF tests send: forms, and the headers of browsers new and old."""

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode

from coatcheck.asgi import CsrfMiddleware as AsgiCsrf
from coatcheck.wsgi import CsrfMiddleware as WsgiCsrf

__all__ = ["APP", "EVIL", "fields", "form", "multipart", "protected"]

APP = "https://shop.example"
EVIL = "https://evil.example"
Fields = list[tuple[bytes, bytes]]


def protected(**options: Any) -> Callable[[str, Any], Any]:
    """What puts CSRF protection between the sessions and the pages of a `Site`: `make(within=protected(…))`."""
    return lambda face, pages: (AsgiCsrf if face == "asgi" else WsgiCsrf)(pages, **options)


def fields(*several: tuple[str, str], **named: str) -> Fields:
    """Header fields: `fields(origin="null", sec_fetch_site="none")`, and pairs where one comes twice."""
    pairs = [*several, *((name.replace("_", "-"), value) for name, value in named.items())]
    return [(name.encode(), value.encode("latin-1")) for name, value in pairs]


def form(values: dict[str, str] | Iterable[tuple[str, str]], **headers: str) -> dict[str, Any]:
    """A form as browsers send it, for `site.post(…, **form({…}))`."""
    pairs = list(values.items()) if isinstance(values, dict) else list(values)
    return {
        "headers": fields(content_type="application/x-www-form-urlencoded", **headers),
        "body": urlencode(pairs).encode(),
    }


def multipart(values: dict[str, str], upload: bytes = b"", *, last: bool = False) -> dict[str, Any]:
    """A form with a file, before (`last=False`: after) the other fields."""
    file = (
        b'--XyZ\r\nContent-Disposition: form-data; name="f"; filename="csrf_token"\r\n\r\n' + upload + b"\r\n"
    )
    rest = b"".join(
        f'--XyZ\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in values.items()
    )
    body = (file + rest if last else rest + file) + b"--XyZ--\r\n"
    return {"headers": fields(content_type='multipart/form-data; boundary="XyZ"'), "body": body}
