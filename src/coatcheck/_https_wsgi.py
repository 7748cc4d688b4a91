"""Plain HTTP sent on to HTTPS, for any WSGI application. What is decided is in `security/https.py`."""

import time
from collections.abc import Callable, Iterable
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from coatcheck.arrivals import of_environ, target_of_environ
from coatcheck.security.https import HttpsRules

__all__ = ["HttpsMiddleware"]

_HSTS = "strict-transport-security"


class HttpsMiddleware:
    """Answers plain HTTP with a redirect to HTTPS (308), and tells browsers to come over HTTPS from then on (HSTS).

    Put it around everything else. Requests to this very machine go on as they are.

    options  `hsts`, `allowed_hosts`, `exempt`, `redirect`, `port`, `proxy`, `on_event`: see docs/https.md
    """

    def __init__(self, app: WSGIApplication, **options: Any) -> None:
        self.app, self.rules = app, HttpsRules(**options)

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        arrival = of_environ(environ)
        answer = self.rules.answer(arrival, target_of_environ(environ), time.time())
        if answer is not None:
            start_response(f"{answer.status} {answer.reason}", list(answer.headers))
            return () if environ["REQUEST_METHOD"] == "HEAD" else (answer.body,)
        hsts = self.rules.hsts_for(arrival)
        return self.app(environ, start_response if hsts is None else _telling(hsts, start_response))


def _telling(hsts: str, start_response: StartResponse) -> Callable[..., Any]:
    """A `start_response` that adds the header, unless the application says something of it itself."""

    def telling(status: str, headers: list[tuple[str, str]], *exc_info: Any) -> Any:
        if not any(name.lower() == _HSTS for name, _ in headers):
            headers = [*headers, ("Strict-Transport-Security", hsts)]
        return start_response(status, headers, *exc_info)

    return telling
