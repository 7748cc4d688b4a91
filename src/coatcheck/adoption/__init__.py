"""Go on with the sessions of the library that was here before: `adopt=` of every framework takes one of these, or a list.

    adopt=StarletteCookie(secret_key=SECRET)

Each knows one library's cookie, and where the rest of its sessions is. docs/adoption.md says what happens to them. A package is
needed only by the kind that uses it: `itsdangerous` for the cookies that it signs, a driver for what lies in a database.
"""

from importlib import import_module
from typing import Any

from coatcheck.adoption.django import DjangoCookie, DjangoTable
from coatcheck.adoption.django_engine import DjangoEngine
from coatcheck.adoption.flask import FlaskCookie
from coatcheck.adoption.flask_session import FlaskSessionInRedis
from coatcheck.adoption.starlette import StarletteCookie
from coatcheck.adoption.starsessions import StarsessionsCookie, StarsessionsInRedis

__all__ = [
    "DjangoCookie",
    "DjangoEngine",
    "DjangoTable",
    "ExpressSession",
    "FlaskCookie",
    "FlaskSessionInRedis",
    "StarletteCookie",
    "StarsessionsCookie",
    "StarsessionsInRedis",
]


def __getattr__(name: str) -> Any:
    """`ExpressSession` lives in a room above this one, which is opened for whoever names it."""
    if name == "ExpressSession":
        return import_module("coatcheck.dialects.express.adopted").ExpressSession
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
