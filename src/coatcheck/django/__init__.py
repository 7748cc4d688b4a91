"""Sessions for Django: `request.session` as always, kept in coatcheck's store under a signed cookie.

    INSTALLED_APPS += ["coatcheck.django"]
    SESSION_ENGINE = "coatcheck.django.engine"
    MIDDLEWARE = [..., "coatcheck.django.SessionMiddleware", ...]      # in the place of Django's
    COATCHECK = {"STORE": os.environ["REDIS_URL"]}

`sessions()` and `asessions()` are the managers for scripts, commands and administration; `get_session(request)` is
`request.session` to a type checker.
"""

from coatcheck.bearer.django import Bearer, set_cookies, token_endpoints
from coatcheck.django.csrf import CsrfMiddleware, csrf_token
from coatcheck.django.home import asessions, sessions
from coatcheck.django.identity import AuthKeys
from coatcheck.django.middleware import SessionMiddleware, get_session
from coatcheck.django.stepup import recent_login, require_method
from coatcheck.throttling.route import RateLimit

__all__ = [
    "AuthKeys",
    "Bearer",
    "CsrfMiddleware",
    "RateLimit",
    "SessionMiddleware",
    "asessions",
    "csrf_token",
    "get_session",
    "recent_login",
    "require_method",
    "sessions",
    "set_cookies",
    "token_endpoints",
]
