"""`coatcheck exempt module:app`: everything of an application that needs no proof of where a request comes from (checklist 104).

An exemption is made in a minute and forgotten for years. Frameworks are known here by what their applications show, and not
imported.
"""

import importlib
import os
import sys
from collections.abc import Iterator
from typing import Any

import click

from coatcheck.security.csrf import NON_BROWSERS

__all__ = ["exempt", "exemptions"]

_INSIDE = ("app", "asgi_app", "wsgi_app")


@click.command()
@click.argument("application")
def exempt(application: str) -> None:
    """List what CSRF protection lets pass unproved: paths, views, handlers. APPLICATION is module:name."""
    sys.path.insert(0, "")
    module, _, name = application.partition(":")
    try:
        app = getattr(importlib.import_module(module), name or "app")
    except (ImportError, AttributeError, ValueError) as error:
        raise click.ClickException(f"{application}: {error}; give it as for a server, module:name") from error
    found = exemptions(app)
    if found is None:
        raise click.ClickException(f"{application} has no CSRF protection of coatcheck's")
    for line in sorted(set(found)):
        click.echo(line)


def exemptions(app: Any) -> list[str] | None:
    """What is exempt; None if there is no protection at all."""
    protections = list(_protections(app))
    if _django() is not None:
        protections.append(())
    if not protections:
        return None
    return [*(one for paths in protections for one in paths), *_views(app)]


def _protections(app: Any) -> Iterator[tuple[str, ...]]:
    """Every CSRF middleware or extension that can be seen from outside."""
    seen: list[Any] = []
    waiting = [app]
    while waiting:
        one = waiting.pop()
        if one is None or any(one is other for other in seen):
            continue
        seen.append(one)
        if hasattr(one, "protection") and isinstance(getattr(one, "exempt", None), tuple):
            yield one.exempt
        extension = getattr(one, "extensions", None)
        if isinstance(extension, dict) and "coatcheck.csrf" in extension:
            yield extension["coatcheck.csrf"].exempted
        yield from _declared(one)
        waiting += [getattr(one, name, None) for name in _INSIDE]


def _declared(app: Any) -> Iterator[tuple[str, ...]]:
    """Middlewares that are named and not built yet (Starlette, FastAPI, Litestar), or added as functions (aiohttp)."""
    for declared in (
        *getattr(app, "user_middleware", ()),
        *_listed(app, "middleware"),
        *_listed(app, "middlewares"),
    ):
        kind = getattr(declared, "cls", getattr(declared, "middleware", None))
        if getattr(kind, "__name__", "") == "CsrfMiddleware" and kind.__module__.startswith("coatcheck."):
            yield tuple(declared.kwargs.get("exempt", ()))
            if declared.kwargs.get("allow_non_browsers"):
                yield (NON_BROWSERS,)
        protection = getattr(getattr(declared, "__self__", None), "protection", None)
        if protection is not None:
            yield protection.rules.unproved


def _listed(app: Any, name: str) -> tuple[Any, ...]:
    found = getattr(app, name, ())
    return tuple(found) if isinstance(found, list | tuple) or hasattr(found, "__iter__") else ()


def _views(app: Any) -> Iterator[str]:
    """Single views: of Litestar by their options, of aiohttp and Django by their marks."""
    for route in _listed(app, "routes"):
        for handler in getattr(route, "route_handlers", ()):
            if getattr(handler, "opt", {}).get("skip_csrf"):
                yield f"{route.path} ({handler})"
    routes: Any = getattr(getattr(app, "router", None), "routes", None)
    for route in routes() if callable(routes) else ():
        if hasattr(route.handler, "_coatcheck_csrf_exempt"):
            yield f"{route.method} {route.resource.canonical if route.resource else '?'}"
    resolver = _django()
    if resolver is not None:
        yield from _of_django(resolver, "/")


def _django() -> Any:
    """The URLs of a Django project whose protection is ours."""
    if "coatcheck.django.csrf" not in sys.modules or "django.urls" not in sys.modules:
        return None
    conf = sys.modules["django.conf"]
    settings = conf.settings
    if not settings.configured and conf.ENVIRONMENT_VARIABLE not in os.environ:
        return None  # Django is only imported, as by an application that moves to it or from it
    if "coatcheck.django.CsrfMiddleware" not in settings.MIDDLEWARE:
        return None
    return sys.modules["django.urls"].get_resolver()


def _of_django(resolver: Any, prefix: str) -> Iterator[str]:
    for pattern in resolver.url_patterns:
        where = prefix + str(pattern.pattern)
        if hasattr(pattern, "url_patterns"):
            yield from _of_django(pattern, where)
        elif getattr(pattern.callback, "csrf_exempt", False):
            yield where
