"""What guards a project beside its sessions, for `coatcheck doctor`: read from MIDDLEWARE and from the SECURE settings."""

from collections.abc import Iterator

from django.conf import settings
from django.utils.module_loading import import_string

__all__ = ["debug", "provided"]


def provided() -> frozenset[str]:
    """`csrf`, `https`, `throttle`: what a middleware says it provides, and what Django's own do."""
    return frozenset(_provided())


def debug() -> bool:
    """Whether DEBUG is on."""
    return bool(settings.DEBUG)


def _provided() -> Iterator[str]:
    for path in settings.MIDDLEWARE:
        try:
            given = getattr(import_string(path), "coatcheck_provides", ())
        except ImportError:
            continue  # Django says so
        yield from (given,) if isinstance(given, str) else given
    if "django.middleware.csrf.CsrfViewMiddleware" in settings.MIDDLEWARE:
        yield "csrf"
    if (
        settings.SECURE_HSTS_SECONDS
        and "django.middleware.security.SecurityMiddleware" in settings.MIDDLEWARE
    ):
        yield "https"
