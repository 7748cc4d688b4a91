"""The token endpoints as a WSGI application.

app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/auth": TokenEndpoints(tokens, public_clients=["web"])})      # Flask
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from coatcheck.bearer.desk import Desk
from coatcheck.bearer.forms import MAX_BODY
from coatcheck.bearer.http import from_wsgi
from coatcheck.core.stepping import run_now

__all__ = ["TokenEndpoints", "read_body"]


class TokenEndpoints:
    """The endpoints, to be mounted where they shall be. Takes what `coatcheck.bearer.desk.Desk` takes; `tokens` are Tokens.

    Raises ConfigurationError or WrongFace.
    """

    def __init__(self, tokens: Any, **options: Any) -> None:
        self.desk = Desk(tokens, awaits=False, **options)

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        asked = from_wsgi(environ)
        body = read_body(environ) if self.desk.wants_body(asked) else b""
        answer = run_now(self.desk.answer(asked, body))
        headers = list(answer.headers)
        if answer.status != 304:
            headers.append(("Content-Length", str(len(answer.body))))
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", headers)
        return [b"" if asked.method == "HEAD" else answer.body]


def read_body(environ: Any) -> bytes | None:
    """The body, as far as anybody needs it; None if it is longer, or the client left before its end. Without a length only some
    servers say where it ends.
    """
    length = environ.get("CONTENT_LENGTH") or ""
    if not length:
        size = MAX_BODY + 1 if environ.get("wsgi.input_terminated") else 0
    elif length.isascii() and length.isdigit() and len(length) < 10:
        size = int(length)
    else:
        return None
    if size > MAX_BODY and length:
        return None
    body: bytes = environ["wsgi.input"].read(size) if size else b""
    return None if len(body) > MAX_BODY or (length and len(body) != size) else body
