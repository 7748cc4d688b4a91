"""The sessions of an application, however its framework nests them: found by what objects have, without importing a framework.

An object with `sessions` (a manager) and `exchange` is one of ours. A middleware, extension or decorator says what it guards by a
class attribute, `coatcheck_provides = "csrf"` (or several): `csrf`, `throttle`, `https`. So a middleware of the user's own is
recognised in the same way as ours, and nothing here knows a class by its name.
"""

import gc
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from types import MethodType
from typing import Any, Final

from coatcheck.core.options import Options
from coatcheck.exchange import Exchange
from coatcheck.manager import AsyncSessionManager, SessionManager

__all__ = ["PROVIDES", "Inspected", "inspect", "load", "walk"]

PROVIDES: Final = "coatcheck_provides"
_INSIDE: Final = (
    "app",
    "_app",
    "application",
    "wsgi_app",
    "asgi_app",
    "asgi_handler",
    "session_interface",
    "plugins",
    "middlewares",
    "routes",
    "extensions",
)
"""Where frameworks and middlewares keep what they wrap, or what was added to them."""
_MOST: Final = 20_000
"""Objects that are looked at: an application's own, not a whole program's."""


@dataclass(frozen=True)
class Inspected:
    """One session of one application, with its surroundings. `secrets` are none of them: the key ring tells only their number."""

    sessions: SessionManager | AsyncSessionManager
    exchange: Exchange
    provides: frozenset[str] = frozenset()
    workers: int = 1
    debug: bool = False
    secret_file: os.PathLike[str] | None = None

    @property
    def options(self) -> Options:
        """The rules of a session's life."""
        return self.sessions.flows.options

    @property
    def backend(self) -> object:
        """The store behind both faces."""
        return self.sessions._backend

    @property
    def url(self) -> str | None:
        """The store's URL, password and all; None for one that was handed in."""
        return self.sessions._url


def load(target: str, *, factory: bool = False) -> object:
    """The application that `module:name` names; called without arguments if it is a factory. Raises what its import raises."""
    module, _, name = target.partition(":")
    found: Any = import_module(module)
    for part in (name or "app").split("."):
        found = getattr(found, part)
    return found() if factory else found


def inspect(app: object, *, workers: int = 1) -> list[Inspected]:
    """Every session of ours in an application: none, if it has none. Raises ConfigurationError where it would when it starts."""
    objects = list(walk(app))
    provides = frozenset(_provided(objects)) | frozenset(_made())
    debug = any(_part(found, "debug") is True for found in (app, *objects))
    if type(app).__module__.startswith("django.core.handlers"):
        return [_django(workers)]
    found: dict[int, Inspected] = {}
    for candidate in objects:
        sessions, exchange = _of(app, candidate)
        if sessions is not None and id(sessions) not in found:
            found[id(sessions)] = Inspected(sessions, exchange, provides, workers, debug)
    return list(found.values())


def _of(app: object, candidate: object) -> tuple[Any, Any]:
    sessions, exchange = _part(candidate, "sessions"), _part(candidate, "exchange")
    ours = isinstance(sessions, SessionManager | AsyncSessionManager) and isinstance(exchange, Exchange)
    return (sessions, exchange) if ours else (None, None)


def _django(workers: int) -> Inspected:
    from coatcheck.django import guards
    from coatcheck.django.home import current
    from coatcheck.errors import WrongFace

    home = current()
    sessions: SessionManager | AsyncSessionManager
    try:
        sessions = home.sessions
    except WrongFace:
        sessions = home.asessions
    provides = guards.provided() | frozenset(_made())
    return Inspected(sessions, home.exchange, provides, workers, guards.debug())


def walk(app: object) -> Iterator[object]:
    """Everything that an application is made of, outside in, each once."""
    waiting, seen = [app], set[int]()
    while waiting and len(seen) < _MOST:
        found = waiting.pop(0)
        found = found.func if isinstance(found, partial) else found
        found = (
            found.__self__ if isinstance(found, MethodType) else found
        )  # `app.wsgi_app`, a middleware that is a method
        if id(found) in seen or isinstance(found, str | bytes | int | float | None):
            continue
        seen.add(id(found))
        yield found
        waiting += _inside(found)


def _inside(found: object) -> Iterator[object]:
    if isinstance(found, type):
        return
    if isinstance(found, Mapping):
        yield from found.values()
        return
    if isinstance(found, list | tuple | set | frozenset) or _is_registry(found):
        yield from found  # type: ignore[misc]  # a collection, as was just seen
        return
    # Starlette and FastAPI put the middlewares together at the first request: we cannot wait for it.
    build = getattr(type(found), "build_middleware_stack", None)
    if build is not None:
        yield build(found)
    for name in _INSIDE:
        inside = _part(found, name)
        if inside is not None and not isinstance(inside, type):
            yield inside


def _part(found: object, name: str) -> object:
    """An attribute, if it can be had: proxies and properties raise what they like outside a request."""
    try:
        return getattr(found, name, None)
    except Exception:
        return None


def _is_registry(found: object) -> bool:
    return isinstance(found, Iterable) and type(found).__module__.split(".")[0] in ("litestar", "aiohttp")


def _provided(objects: Iterable[object]) -> Iterator[str]:
    for found in objects:
        given = _part(type(found), PROVIDES) or _part(found, PROVIDES)
        if isinstance(given, str):
            yield given
        elif isinstance(given, Collection):
            yield from (word for word in given if isinstance(word, str))
        if type(found).__module__.startswith("flask_wtf.csrf"):
            yield "csrf"
        if _part(found, "csrf_config") is not None:  # Litestar's own
            yield "csrf"


def _made() -> Iterator[str]:
    """What exists in this program though no chain leads to it: a throttle that a login view holds, a decorator, a dependency."""
    return _provided(found for found in gc.get_objects() if hasattr(type(found), PROVIDES))
