"""CSRF protection for Flask: an extension beside `CoatCheck`.

CoatCheck(app)
csrf = Csrf(app, trusted_origins=["https://app.example"])
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from flask import Flask, Response, current_app, has_request_context, request
from markupsafe import Markup
from werkzeug.exceptions import Forbidden

from coatcheck._csrf import wsgi
from coatcheck._csrf.flasklike import Exempt, dress, installed
from coatcheck._csrf.guard import FIELD, Guard, Protection, Refusal, field_of
from coatcheck.errors import ConfigurationError, OutsideRequest
from coatcheck.faces import Session
from coatcheck.security.csrf import Verdict

__all__ = ["Csrf", "csrf_field", "csrf_token"]

View = TypeVar("View")


class Csrf:
    """The extension. `csrf_token()` and `csrf_field()` are there in templates.

    trusted_origins  whose pages may send requests that change something; left out: `app.config["CSRF_TRUSTED_ORIGINS"]`
    exempt           paths that need no proof; single views are exempt by `@csrf.exempt`, blueprints by `csrf.exempt(blueprint)`
    options          those of `coatcheck.wsgi.CsrfMiddleware`: `same_site`, `per_form`, `allow_http`, `allow_non_browsers`

    A refused request is `werkzeug.exceptions.Forbidden`: `@app.errorhandler(403)` says it in your words. Raises
    ConfigurationError in `init_app`.
    """

    def __init__(
        self,
        app: Flask | None = None,
        *,
        trusted_origins: Iterable[str] | None = None,
        exempt: Iterable[str] = (),
        **options: Any,
    ) -> None:
        self._given, self._options = trusted_origins, {"exempt": exempt, **options}
        self._exempt = Exempt(self._options)
        if app is not None:
            self.init_app(app)

    def init_app(self, app: Flask) -> None:
        """Protect this application."""
        installed(app.extensions, self, "coatcheck.flask")
        origins = self._given if self._given is not None else app.config.get("CSRF_TRUSTED_ORIGINS", ())
        protection = Protection(trusted_origins=origins, **self._options)
        app.before_request(lambda: self._check(protection))
        app.after_request(_dress)
        app.jinja_env.globals.update(csrf_token=csrf_token, csrf_field=csrf_field)

    def exempt(self, view: View) -> View:
        """Let a view (as decorator), a blueprint or a path go unprotected: what calls it is no browser."""
        return self._exempt.add(view)

    @property
    def exempted(self) -> tuple[str, ...]:
        """What needs no proof: for an inventory."""
        return self._exempt.names

    def _check(self, protection: Protection) -> None:
        environ = request.environ
        session = environ.get("coatcheck.session")
        if not isinstance(session, Session):
            raise ConfigurationError("Csrf(app) without sessions: CoatCheck(app) comes first")
        guard = environ[wsgi.GUARD] = protection.guard(
            session, request.method, environ.get("QUERY_STRING", ""), wsgi.fields_of(environ)
        )
        finding = guard.judge()
        if finding.verdict in (Verdict.SAFE, Verdict.PROVED):
            return
        view = current_app.view_functions.get(request.endpoint or "")
        if self._exempt.covers(view, request.blueprints):
            return
        if finding.verdict is Verdict.TOKEN and _brings_token(guard):
            return
        raise _forbidden(guard.refuse(finding))


def _brings_token(guard: Guard) -> bool:
    sent = guard.sent
    return guard.accepts(request.form.get(FIELD) if sent is None else sent)


def _forbidden(refusal: Refusal) -> Forbidden:
    return Forbidden(refusal.body.decode("ascii").strip())


def _dress(response: Response) -> Response:
    guard = request.environ.get(wsgi.GUARD)
    if isinstance(guard, Guard):
        dress(response.headers, guard, is_error=response.status_code == 403)
    return response


def _guard() -> Guard:
    guard = request.environ.get(wsgi.GUARD) if has_request_context() else None
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
