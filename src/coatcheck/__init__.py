"""coatcheck: server-side sessions for Python web applications. The public names, and nothing else.

A framework's own half is imported from its own module: `from coatcheck.fastapi import SessionMiddleware`.
"""

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
