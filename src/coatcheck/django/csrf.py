"""CSRF protection for Django, in the place of its own: `{% csrf_token %}`, `@csrf_exempt` and `CSRF_FAILURE_VIEW` as always.

    MIDDLEWARE = [..., "coatcheck.django.SessionMiddleware", ..., "coatcheck.django.CsrfMiddleware", ...]

Django compares what a form sends with a secret that it finds in a cookie. Here that secret is in no cookie and in no store: it is
a MAC over who the session is, handed to Django's own functions where they look for the cookie's. So the forms of the admin and of
other packages carry a token that is bound to the session (checklist 95) and changes with the login.
"""

import re
from base64 import urlsafe_b64decode
from collections.abc import Callable
from hmac import compare_digest
from typing import Any, Final, cast

from django.conf import settings
from django.contrib.auth.signals import user_logged_in
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, QueryDict
from django.http.request import UnreadablePostError
from django.middleware.csrf import CSRF_ALLOWED_CHARS, CSRF_SECRET_LENGTH, CsrfViewMiddleware, get_token
from django.utils.functional import SimpleLazyObject

from coatcheck._csrf.guard import Guard, Protection
from coatcheck.django.engine import SessionStore
from coatcheck.errors import ConfigurationError, OutsideRequest
from coatcheck.security.csrf import Verdict

__all__ = ["CsrfMiddleware", "csrf_token"]

_GUARD: Final = "_coatcheck_csrf"
_SLOT: Final = "CSRF_COOKIE"
"""Where in `request.META` Django keeps the secret of a request."""
_TOKEN: Final = re.compile(f"[A-Za-z0-9]{{{2 * CSRF_SECRET_LENGTH}}}")
_FIX: Final = (
    "put 'coatcheck.django.SessionMiddleware' before 'coatcheck.django.CsrfMiddleware' in MIDDLEWARE"
)


class CsrfMiddleware(CsrfViewMiddleware):
    """Refuses requests that another site made in a visitor's name, as the view of CSRF_FAILURE_VIEW says it.

    Reads CSRF_TRUSTED_ORIGINS, CSRF_HEADER_NAME and CSRF_FAILURE_VIEW; CSRF_COOKIE_… and CSRF_USE_SESSIONS mean nothing to it.
    Raises ImproperlyConfigured at start-up.
    """

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        super().__init__(get_response)
        _check_order()
        try:
            self._protection = Protection(trusted_origins=settings.CSRF_TRUSTED_ORIGINS)
        except ConfigurationError as error:
            raise ImproperlyConfigured(
                str(error).replace("trusted_origins", "CSRF_TRUSTED_ORIGINS", 1)
            ) from error

    def process_request(self, request: HttpRequest) -> None:
        session = getattr(request, "session", None)
        if not isinstance(session, SessionStore):
            raise ImproperlyConfigured(f"CsrfMiddleware without coatcheck's sessions: {_FIX}")
        fields = _fields(request)
        guard = self._protection.guard(
            session, request.method or "", request.META.get("QUERY_STRING", ""), fields
        )
        setattr(request, _GUARD, guard)
        _put_secret(request, guard)

    def process_view(self, request: HttpRequest, callback: Any, args: Any, kwargs: Any) -> Any:
        if getattr(request, "csrf_processing_done", False):
            return None
        guard = _guard_of(request)
        finding = guard.judge()
        if finding.verdict is Verdict.SAFE or getattr(callback, "csrf_exempt", False):
            return None
        if getattr(request, "_dont_enforce_csrf_checks", False):  # Django's own test client
            return self._accept(request)  # type: ignore[attr-defined]  # the stubs leave it out
        if finding.verdict is Verdict.PROVED or (
            finding.verdict is Verdict.TOKEN and _brings_token(request, guard)
        ):
            return self._accept(request)  # type: ignore[attr-defined]
        guard.refuse(finding)
        response = self._reject(request, finding.reason)  # type: ignore[attr-defined]
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    def process_response(self, request: HttpRequest, response: Any) -> Any:
        guard = getattr(request, _GUARD, None)
        if not isinstance(guard, Guard) or guard.is_silent:
            return response
        headers = response.headers
        said = guard.reply(headers.get("Vary"), headers.get("Cache-Control"))
        if said.vary is not None:
            headers["Vary"] = said.vary
        if said.cache_control is not None:
            headers["Cache-Control"] = said.cache_control
        if said.set_cookie is not None:
            from coatcheck.django.middleware import _Cookie

            made = _Cookie(said.set_cookie)
            response.cookies[made.key] = made
        return response


def _check_order() -> None:
    from coatcheck.django.checks import _is_ours

    found = False
    for path in settings.MIDDLEWARE:
        found = found or _is_ours(path)
        if path == "coatcheck.django.CsrfMiddleware" and not found:
            raise ImproperlyConfigured(f"CsrfMiddleware stands where there is no session: {_FIX}")
    if "django.middleware.csrf.CsrfViewMiddleware" in settings.MIDDLEWARE:
        raise ImproperlyConfigured(
            "two CSRF middlewares are installed: remove 'django.middleware.csrf.CsrfViewMiddleware' from MIDDLEWARE, which"
            " 'coatcheck.django.CsrfMiddleware' takes the place of"
        )


def _fields(request: HttpRequest) -> Callable[[str], list[str]]:
    meta, header = request.META, settings.CSRF_HEADER_NAME

    def fields(name: str) -> list[str]:
        value = meta.get(header if name == "X-CSRF-Token" else f"HTTP_{name.upper().replace('-', '_')}")
        return [] if value is None else [value]

    return fields


def _guard_of(request: HttpRequest) -> Guard:
    guard = getattr(request, _GUARD, None)
    if not isinstance(guard, Guard):
        raise OutsideRequest(
            "there is no CSRF token here: put 'coatcheck.django.CsrfMiddleware' in MIDDLEWARE"
        )
    return guard


# -------------------------------------------------------------------------------------------------------- the secret


def _secret_of(guard: Guard, whose: str) -> str:
    """32 characters that Django masks for each page: 128 bits of a MAC."""
    return urlsafe_b64decode(guard.django_ring.sign(whose))[: CSRF_SECRET_LENGTH // 2].hex()


def _put_secret(request: HttpRequest, guard: Guard) -> None:
    """Put the secret where `get_token()` looks, and where Django's decorators look: worked out only if somebody does."""
    secret = SimpleLazyObject(lambda: _secret_of(guard, guard.whose()))
    request.META[_SLOT] = secret
    request.COOKIES = _Cookies(request.COOKIES, secret)


class _Cookies(dict[str, str]):
    """The cookies of a request; for Django's `csrf_protect` and `ensure_csrf_cookie` the secret is among them, whatever came."""

    def __init__(self, cookies: dict[str, str], secret: object) -> None:
        super().__init__(cookies)
        self.pop(settings.CSRF_COOKIE_NAME, None)
        self._secret = secret

    def __missing__(self, name: str) -> str:
        if name == settings.CSRF_COOKIE_NAME:
            return str(self._secret)
        raise KeyError(name)


def _brings_token(request: HttpRequest, guard: Guard) -> bool:
    sent = guard.sent
    if sent is None and request.method == "POST":
        try:
            sent = cast(QueryDict, request.POST).get("csrfmiddlewaretoken")
        except UnreadablePostError:  # the client has gone
            return False
    whose = guard.whose_it_is()
    if not isinstance(sent, str) or whose is None or not _TOKEN.fullmatch(sent):
        return False
    return compare_digest(_unmasked(sent), _secret_of(guard, whose))


def _unmasked(token: str) -> str:
    """The secret in a token of Django's: its second half, moved along the alphabet by its first."""
    place = CSRF_ALLOWED_CHARS.index
    mask, cipher = token[:CSRF_SECRET_LENGTH], token[CSRF_SECRET_LENGTH:]
    return "".join(CSRF_ALLOWED_CHARS[place(c) - place(m)] for m, c in zip(mask, cipher, strict=True))


def csrf_token(request: HttpRequest) -> str:
    """What `{% csrf_token %}` sends, for a script's `X-CSRFToken` header: `django.middleware.csrf.get_token(request)`."""
    _guard_of(request)
    return get_token(request)


def _renew(sender: object, request: HttpRequest | None = None, **_: Any) -> None:
    """Django's `login()` puts a random secret in the slot: a page made in the same response must have that of the new login."""
    guard = getattr(request, _GUARD, None)
    if request is not None and isinstance(guard, Guard):
        _put_secret(request, guard)


user_logged_in.connect(_renew, dispatch_uid="coatcheck.csrf")
