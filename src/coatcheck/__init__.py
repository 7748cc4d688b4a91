"""coatcheck: server-side sessions for Python web applications. The public names, and nothing else.

A framework's own half is imported from its own module: `from coatcheck.fastapi import SessionMiddleware`.

All but the errors is loaded when it is first asked for (PEP 562): whoever needs one name, such as a settings module that says
`Timeouts` or a script that says `SessionManager`, does not wait for the rest.
"""

import typing
from importlib import import_module as _import

from coatcheck.errors import (
    BadSignature,
    ConfigurationError,
    CookieTooLarge,
    CorruptRecord,
    InvalidToken,
    LoginRefused,
    OutsideRequest,
    PasswordTooLong,
    ReplyLost,
    SchemaMismatch,
    SessionConflict,
    SessionError,
    SessionGone,
    SessionTooLarge,
    StoreError,
    StoreUnavailable,
    Throttled,
    TooLate,
    Uncertain,
    UnstorableValue,
    UsageError,
    WeakSecret,
    WrongFace,
)

if typing.TYPE_CHECKING:
    from coatcheck.core.clients import NewDevice
    from coatcheck.core.cookies import CookieSettings
    from coatcheck.core.events import Event
    from coatcheck.core.identity import Identity, UserKey
    from coatcheck.core.merge import MISSING
    from coatcheck.core.options import Options
    from coatcheck.core.origin import TrustedProxies
    from coatcheck.core.outage import Outage
    from coatcheck.core.policy import Timeouts
    from coatcheck.core.ports import Notice
    from coatcheck.core.record import PendingLogin
    from coatcheck.faces import AsyncSession, Session
    from coatcheck.flows import Clock, Device
    from coatcheck.manager import AsyncSessionManager, SessionManager
    from coatcheck.security.https import Hsts

__all__ = [
    "MISSING",
    "AsyncSession",
    "AsyncSessionManager",
    "BadSignature",
    "Clock",
    "ConfigurationError",
    "CookieSettings",
    "CookieTooLarge",
    "CorruptRecord",
    "Device",
    "Event",
    "Hsts",
    "Identity",
    "InvalidToken",
    "LoginRefused",
    "NewDevice",
    "Notice",
    "Options",
    "Outage",
    "OutsideRequest",
    "PasswordTooLong",
    "PendingLogin",
    "ReplyLost",
    "SchemaMismatch",
    "Session",
    "SessionConflict",
    "SessionError",
    "SessionGone",
    "SessionManager",
    "SessionTooLarge",
    "StoreError",
    "StoreUnavailable",
    "Throttled",
    "Timeouts",
    "TooLate",
    "TrustedProxies",
    "Uncertain",
    "UnstorableValue",
    "UsageError",
    "UserKey",
    "WeakSecret",
    "WrongFace",
]

_LATER: typing.Final = {
    "MISSING": "core.merge",
    "AsyncSession": "faces",
    "AsyncSessionManager": "manager",
    "Clock": "flows",
    "CookieSettings": "core.cookies",
    "Device": "flows",
    "Event": "core.events",
    "Hsts": "security.https",
    "Identity": "core.identity",
    "NewDevice": "core.clients",
    "Notice": "core.ports",
    "Options": "core.options",
    "Outage": "core.outage",
    "PendingLogin": "core.record",
    "Session": "faces",
    "SessionManager": "manager",
    "Timeouts": "core.policy",
    "TrustedProxies": "core.origin",
    "UserKey": "core.identity",
}
"""Name -> the module it comes from."""


if not typing.TYPE_CHECKING:  # to a type checker, a name that is not above must be an error

    def __getattr__(name: str) -> typing.Any:
        if name not in _LATER:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        found = globals()[name] = getattr(_import(f"{__name__}.{_LATER[name]}"), name)
        return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
