"""The endpoint to which a provider sends logout tokens (Back-Channel Logout 1.0, section 2.5), to be mounted in ASGI and WSGI.

A POST of a form with one field, `logout_token`. 200: it is done. 400: the token is not accepted, or it could not be done
(section 2.8). Nothing more is told: whoever probes it learns nothing, and the operator has the event `logout.refused`.
"""

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final

from coatcheck import asgi, wsgi
from coatcheck.bearer import forms
from coatcheck.bearer.asgi import read_body, send_answer
from coatcheck.bearer.http import Answer, Asked, Refused, from_scope, from_wsgi, is_awaiting, json_answer
from coatcheck.bearer.wsgi import read_body as read_body_now
from coatcheck.errors import InvalidToken, StoreError, WrongFace
from coatcheck.federation.provider import Provider

__all__ = ["LogoutApp", "LogoutWsgiApp"]

_DONE: Final = Answer(200, (("Cache-Control", "no-store"),))
_REFUSED: Final = json_answer(400, {"error": "invalid_request"})
_FAILED: Final = json_answer(400, {"error": "logout_failed"})


def _token(asked: Asked, body: bytes | None) -> str:
    """The logout token of a request. Raises Refused."""
    if asked.method != "POST":
        raise Refused(json_answer(405, {"error": "invalid_request"}, ("Allow", "POST")))
    form = forms.read(asked, body)
    if "logout_token" not in form:
        raise Refused(_REFUSED)
    return form["logout_token"]


class LogoutApp:
    """Back-channel logout for ASGI: `app.mount("/oidc/logout", LogoutApp(provider))`, inside coatcheck's middleware, whose
    `scope_key` is the same. Where forged requests are refused (`CsrfMiddleware`), leave this path out: no browser comes here.
    """

    def __init__(self, provider: Provider, *, scope_key: str = "session") -> None:
        self._provider, self._key = provider, scope_key

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"back-channel logout answers HTTP, and no {scope['type']}")
        asked = from_scope(scope)
        await send_answer(await self._answer(scope, asked, receive), asked.method, send)

    async def _answer(self, scope: Any, asked: Asked, receive: Any) -> Answer:
        try:
            token = _token(asked, await read_body(receive) if asked.method == "POST" else b"")
            await self._provider.log_out(await asgi.get_session(scope, key=self._key), token)
        except Refused as refused:
            return refused.answer
        except InvalidToken:
            return _REFUSED
        except StoreError:
            return _FAILED
        return _DONE


class LogoutWsgiApp:
    """Back-channel logout for WSGI, inside coatcheck's middleware, whose `environ_key` is the same.

    Raises WrongFace if the provider's `user_of` is async.
    """

    def __init__(self, provider: Provider, *, environ_key: str = wsgi.KEY) -> None:
        if is_awaiting(provider._user_of):
            raise WrongFace(
                "user_of is async, and a WSGI application cannot wait for it: give a plain function"
            )
        self._provider, self._key = provider, environ_key

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        asked = from_wsgi(environ)
        answer = self._answer(environ, asked)
        headers = [*answer.headers, ("Content-Length", str(len(answer.body)))]
        start_response(f"{answer.status} {HTTPStatus(answer.status).phrase}", headers)
        return [b"" if asked.method == "HEAD" else answer.body]

    def _answer(self, environ: Any, asked: Asked) -> Answer:
        try:
            token = _token(asked, read_body_now(environ) if asked.method == "POST" else b"")
            self._provider.log_out_now(wsgi.get_session(environ, key=self._key), token)
        except Refused as refused:
            return refused.answer
        except InvalidToken:
            return _REFUSED
        except StoreError:
            return _FAILED
        return _DONE
