"""What can be wrong with a project's settings, as Django's system checks: `manage.py check` lists it, and the middleware refuses
to start with an error."""

from collections.abc import Sequence
from typing import Any, Final

import django
from django.conf import settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.utils.module_loading import import_string

from coatcheck.django.home import current
from coatcheck.django.options import JSON, is_development
from coatcheck.stores.memory import MemoryStore

__all__ = ["check", "errors"]

OLDEST: Final = (5, 2)
ENGINE: Final = "coatcheck.django.engine"
OURS: Final = "coatcheck.django.SessionMiddleware"
THEIRS: Final = "django.contrib.sessions.middleware.SessionMiddleware"
_LATER: Final = (
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.auth.middleware.LoginRequiredMiddleware",
    "django.contrib.auth.middleware.RemoteUserMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
)
"""What uses the session: it comes after it."""
_CSRF: Final = "django.middleware.csrf.CsrfViewMiddleware"


def check(app_configs: Sequence[Any] | None = None, **_: Any) -> list[CheckMessage]:
    """Errors and warnings, for `manage.py check`."""
    return [*errors(), *_warnings()]


def errors() -> list[CheckMessage]:
    """What no application should start with."""
    found = [*_version(), *_middleware(), *_serializer()]
    try:
        current()
    except ImproperlyConfigured as error:
        found.append(_settings(str(error)))
    return found


def _settings(text: str) -> CheckMessage:
    missing = text.startswith(("COATCHECK is missing", 'COATCHECK["STORE"] is missing'))
    return Error(text, id="coatcheck.E001" if missing else "coatcheck.E002")


def _version() -> list[CheckMessage]:
    if django.VERSION >= OLDEST:
        return []
    need = ".".join(map(str, OLDEST))
    return [
        Error(
            f"Django {django.get_version()} is too old for coatcheck.django.",
            hint=f'Upgrade: pip install "django>={need}".',
            id="coatcheck.E007",
        )
    ]


def _middleware() -> list[CheckMessage]:
    installed = list(settings.MIDDLEWARE)
    ours = [place for place, path in enumerate(installed) if _is_ours(path)]
    if not ours:
        return []
    found: list[CheckMessage] = []
    if THEIRS in installed:
        hint = f"Remove {THEIRS!r} from MIDDLEWARE: {OURS!r} takes its place."
        found.append(Error("Two session middlewares are installed.", hint=hint, id="coatcheck.E003"))
    if len(ours) > 1:
        hint = f"List {OURS!r} once."
        found.append(
            Error("coatcheck's SessionMiddleware is installed twice.", hint=hint, id="coatcheck.E005")
        )
    later = (*_LATER, _CSRF) if settings.CSRF_USE_SESSIONS else _LATER
    early = [path for path in installed[: ours[0]] if path in later]
    if early:
        hint = f"Move {OURS!r} before it in MIDDLEWARE."
        found.append(
            Error(f"{early[0]!r} comes before the sessions it uses.", hint=hint, id="coatcheck.E004")
        )
    return found


def _is_ours(path: str) -> bool:
    from coatcheck.django.middleware import SessionMiddleware

    if path == OURS:
        return True
    try:
        middleware = import_string(path)
    except ImportError:
        return False  # Django says so
    return isinstance(middleware, type) and issubclass(middleware, SessionMiddleware)


def _serializer() -> list[CheckMessage]:
    if settings.SESSION_SERIALIZER == JSON:
        return []
    return [
        Error(
            f"SESSION_SERIALIZER = {settings.SESSION_SERIALIZER!r} is not used by coatcheck.",
            hint="Remove it: coatcheck writes the values itself (JSON, and datetime, UUID, Decimal, bytes, tuple, set as they"
            " are), and never unpickles anything.",
            id="coatcheck.E006",
        )
    ]


def _warnings() -> list[CheckMessage]:
    found: list[CheckMessage] = []
    has_ours, has_engine = any(map(_is_ours, settings.MIDDLEWARE)), settings.SESSION_ENGINE == ENGINE
    if has_engine and not has_ours:
        hint = (
            f"Put {OURS!r} in the place of {THEIRS!r}. Without it two parallel requests may lose changes of the cookie, a late"
            " request after a logout is answered 400, and responses are not kept out of shared caches."
        )
        found.append(
            Warning("coatcheck's engine runs without its middleware.", hint=hint, id="coatcheck.W001")
        )
    if has_ours and not has_engine:
        hint = (
            f"Set SESSION_ENGINE = {ENGINE!r}: else Django's test client, clearsessions and other packages look for sessions in"
            f" {settings.SESSION_ENGINE!r}."
        )
        found.append(
            Warning("coatcheck's middleware runs without its engine.", hint=hint, id="coatcheck.W002")
        )
    return [*found, *_in_memory()]


def _in_memory() -> list[CheckMessage]:
    try:
        in_memory = isinstance(current()._backend, MemoryStore)
    except ImproperlyConfigured:
        return []
    if not in_memory or is_development():
        return []
    hint = 'Give COATCHECK["STORE"] a store that all processes share, such as redis://localhost or sqlite:///sessions.db.'
    text = "Sessions are kept in the memory of one process, and DEBUG is False."
    return [Warning(text, hint=hint, id="coatcheck.W003")]
