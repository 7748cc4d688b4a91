"""What CSRF protection for Flask and Quart shares: who is exempt, and the headers of Werkzeug. No framework is imported here."""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from coatcheck._csrf.guard import Guard
from coatcheck.errors import ConfigurationError
from coatcheck.security.csrf import NON_BROWSERS

__all__ = ["Exempt", "dress", "installed"]

T = TypeVar("T")
_NAME = "coatcheck.csrf"


class Exempt:
    """Views and blueprints that need no proof, and the paths beside them."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._paths = options["exempt"]
        self._non_browsers = (NON_BROWSERS,) if options.get("allow_non_browsers") else ()
        self._views: list[Any] = []
        self._blueprints: list[str] = []

    def add(self, what: T) -> T:
        """Take a view or a blueprint. Raises ConfigurationError for anything else."""
        if hasattr(what, "deferred_functions") and hasattr(what, "name"):
            self._blueprints.append(what.name)
        elif callable(what):
            self._views.append(what)
        else:
            raise ConfigurationError(
                f"exempt({what!r}): give a view function or a blueprint; paths go into Csrf(exempt=[…])"
            )
        return what

    def covers(self, view: Callable[..., Any] | None, blueprints: Iterable[str]) -> bool:
        """Whether this view, or one of the blueprints that it is in, is exempt."""
        return any(view is one for one in self._views if view is not None) or any(
            name in self._blueprints for name in blueprints
        )

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that is exempt, by name."""
        views = (f"{view.__module__}.{view.__qualname__}" for view in self._views)
        return (
            *self._paths,
            *self._non_browsers,
            *views,
            *(f"blueprint {name}" for name in self._blueprints),
        )


def installed(extensions: dict[str, Any], extension: object, module: str) -> None:
    """Take our place among an application's extensions. Raises ConfigurationError without sessions, and for a second of us."""
    if "coatcheck" not in extensions:
        raise ConfigurationError(f"Csrf(app) without sessions: CoatCheck(app) of {module} comes first")
    if _NAME in extensions:
        raise ConfigurationError("Csrf(app) twice on one application: remove one")
    extensions[_NAME] = extension


def dress(headers: Any, guard: Guard, *, is_error: bool) -> None:
    """Put what must be said into a response's headers."""
    if is_error and "Cache-Control" not in headers and not guard.is_silent:
        headers["Cache-Control"] = "no-store"
    said = guard.reply(
        ", ".join(headers.getlist("Vary")) or None, ", ".join(headers.getlist("Cache-Control")) or None
    )
    if said.vary is not None:
        headers["Vary"] = said.vary
    if said.cache_control is not None:
        headers["Cache-Control"] = said.cache_control
    if said.set_cookie is not None:
        headers.add("Set-Cookie", said.set_cookie)
