"""CSRF protection for Quart: an extension beside `CoatCheck`, for requests and for the handshakes of WebSockets.

CoatCheck(app)
csrf = Csrf(app, trusted_origins=["https://app.example"])
"""

from collections.abc import Iterable, MutableMapping
from typing import Any, TypeVar, cast

from markupsafe import Markup
from quart import Quart, current_app, has_request_context, has_websocket_context, request, websocket
from werkzeug.exceptions import Forbidden

from coatcheck._csrf import asgi
from coatcheck._csrf.flasklike import Exempt, dress, installed
from coatcheck._csrf.guard import FIELD, Guard, Protection, field_of
from coatcheck.errors import ConfigurationError, OutsideRequest
from coatcheck.faces import AsyncSession
from coatcheck.security.csrf import Verdict

__all__ = ["Csrf", "csrf_field", "csrf_token"]

View = TypeVar("View")


class Csrf:
    """The extension. `csrf_token()` and `csrf_field()` are there in templates.

    trusted_origins  whose pages may send requests that change something; left out: `app.config["CSRF_TRUSTED_ORIGINS"]`
    exempt           paths that need no proof; single views are exempt by `@csrf.exempt`, blueprints by `csrf.exempt(blueprint)`
    options          those of `coatcheck.asgi.CsrfMiddleware`: `same_site`, `per_form`, `allow_http`, `allow_non_browsers`

    A refused request is `werkzeug.exceptions.Forbidden`: `@app.errorhandler(403)` says it in your words; a WebSocket is refused
    before it is accepted. Raises ConfigurationError in `init_app`.
    """

    def __init__(
        self,
        app: Quart | None = None,
        *,
        trusted_origins: Iterable[str] | None = None,
        exempt: Iterable[str] = (),
        **options: Any,
    ) -> None:
        self._given, self._options = trusted_origins, {"exempt": exempt, **options}
        self._exempt = Exempt(self._options)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Quart) -> None:
        """Protect this application."""
        installed(app.extensions, self, "coatcheck.quart")
        origins = self._given if self._given is not None else app.config.get("CSRF_TRUSTED_ORIGINS", ())
        protection = Protection(trusted_origins=origins, **self._options)

        async def check_request() -> None:
            await self._check(protection, request, is_websocket=False)

        async def check_websocket() -> None:
            await self._check(protection, websocket, is_websocket=True)

        app.before_request(check_request)
        app.before_websocket(check_websocket)
        app.after_request(_dress)
        app.jinja_env.globals.update(csrf_token=csrf_token, csrf_field=csrf_field)

    def exempt(self, view: View) -> View:
        """Let a view (as decorator) or a blueprint go unprotected: what calls it is no browser."""
        return self._exempt.add(view)

    @property
    def exempted(self) -> tuple[str, ...]:
        """What needs no proof: for an inventory."""
        return self._exempt.names

    async def _check(self, protection: Protection, asked: Any, *, is_websocket: bool) -> None:
        scope = cast(MutableMapping[str, Any], asked.scope)
        session = scope.get("session")
        if not isinstance(session, AsyncSession):
            raise ConfigurationError("Csrf(app) without sessions: CoatCheck(app) comes first")
        query = scope.get("query_string", b"").decode("latin-1")
        fields = asgi.fields_of(scope)
        guard = scope[asgi.GUARD] = protection.guard(
            session, asked.method, query, fields, websocket=is_websocket
        )
        finding = guard.judge()
        if finding.verdict in (Verdict.SAFE, Verdict.PROVED):
            return
        view = current_app.view_functions.get(asked.endpoint or "")
        if self._exempt.covers(view, asked.blueprints):
            return
        if finding.verdict is Verdict.TOKEN and await _brings_token(guard, is_websocket):
            return
        raise Forbidden(guard.refuse(finding).body.decode("ascii").strip())


async def _brings_token(guard: Guard, is_websocket: bool) -> bool:
    sent: object = guard.sent
    if sent is None and not is_websocket:
        sent = (await request.form).get(FIELD)
    return await asgi.accepted(guard, sent)


async def _dress(response: Any) -> Any:
    guard = request.scope.get(asgi.GUARD)
    if isinstance(guard, Guard):
        dress(response.headers, guard, is_error=response.status_code == 403)
    return response


def _guard() -> Guard:
    scope: Any = (
        request.scope if has_request_context() else websocket.scope if has_websocket_context() else {}
    )
    guard = scope.get(asgi.GUARD)
    if not isinstance(guard, Guard):
        raise OutsideRequest(
            "there is no CSRF token here: Csrf(app), after CoatCheck(app), and ask within a request"
        )
    return guard


def csrf_token(form: str | None = None) -> str:
    """A token for a page of the request at hand: another string each time, good as long as the login lasts.

    With `form` it is good for that form alone: the path that it is sent to, or "DELETE /item/7".
    """
    return _guard().token(form)


def csrf_field(form: str | None = None) -> Markup:
    """The hidden field for a form: `{{ csrf_field() }}`."""
    return Markup(field_of(csrf_token(form)))  # made of 64 characters of base64url
