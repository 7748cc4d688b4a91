"""The one place of a process where Django's settings have become sessions: store, managers, cookies. Made at first use, and
again when a test changes a setting."""

import threading
from dataclasses import replace
from functools import cached_property
from typing import Any, Final

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from coatcheck import startup
from coatcheck.configure import Configured, configure
from coatcheck.core.cookies import names
from coatcheck.core.identity import Identity
from coatcheck.core.session import BaseSession
from coatcheck.django.options import options_of
from coatcheck.django.reports import hiding
from coatcheck.errors import ConfigurationError, WrongFace
from coatcheck.exchange import Arrival, Channel, Exchange
from coatcheck.flows import Flows
from coatcheck.manager import AsyncSessionManager, SessionManager
from coatcheck.stores import carried

__all__ = ["Home", "asessions", "current", "forget", "sessions"]


class InProcess(Exchange):
    """The cookie rules for what never travels: the requests of Django's own test client.

    It looks for the cookie called SESSION_COOKIE_NAME, puts there what `session_key` of a session of its own making says, and
    invents host names freely. So the name is that one, and plain HTTP is as good as loopback.
    """

    def channel(self, arrival: Arrival) -> Channel:
        return Channel.HTTPS if arrival.scheme == "https" else Channel.LOOPBACK


class NoKeys:
    """COATCHECK["IDENTITY"] = None: no key stands for the login."""

    keys: frozenset[str] = frozenset()

    def read(self, session: BaseSession, key: str) -> Any:
        raise NotImplementedError

    def write(self, session: BaseSession, key: str, value: Any) -> None:
        raise NotImplementedError

    remove = read


class Home:
    """Everything that is made of the settings."""

    def __init__(self, earlier: "Home | None" = None) -> None:
        """`earlier` hands its store down, if the settings still say the same of it. Raises ConfigurationError."""
        self.store, secret, self.lazy, keywords = options_of()
        self._keywords = keywords
        try:
            self._configured: Configured = configure(secret, keywords, self.store)
        except ConfigurationError as error:
            raise type(error)(f"COATCHECK: {error}") from error
        configured = self._configured
        self.exchange: Exchange = configured.exchange
        self.options, self.time = configured.options, configured.clock.time
        self.identity: Identity = configured.options.identity or NoKeys()
        self.within = InProcess(
            replace(self.exchange.settings, name=settings.SESSION_COOKIE_NAME),
            secret,
            insecure_dev=keywords["insecure_dev"],
            on_event=lambda event: None,
            carried=carried(self.store),
        )
        self._given = (self.store, keywords.get("outage"))
        self._backend: Any = None
        if earlier is not None and earlier._given == self._given:
            self._backend = earlier._backend
        self._announced = False

    @cached_property
    def sessions(self) -> SessionManager:
        """The manager for sync code. Raises WrongFace for a store that only awaits."""
        return SessionManager(self._backend or self.store, **self._how())

    @cached_property
    def asessions(self) -> AsyncSessionManager:
        """The manager for async code. Raises WrongFace for a store that only blocks."""
        return AsyncSessionManager(self._backend or self.store, **self._how())

    @cached_property
    def flows(self) -> Flows:
        """For sync code; where the store can only await, whoever uses them is told so."""
        try:
            return self.sessions.flows
        except WrongFace:
            return self.aflows

    @cached_property
    def aflows(self) -> Flows:
        """For async code."""
        return self.asessions.flows

    @cached_property
    def reports(self) -> Any:
        """The filter of error reports: they show no cookie of ours."""
        return hiding({*names(self.exchange.settings), settings.SESSION_COOKIE_NAME})

    def _how(self) -> dict[str, Any]:
        configured = self._configured
        outage = configured.outage if self._backend is None else None
        return {
            "options": configured.options,
            "outage": outage,
            "clock": configured.clock,
            "ids": configured.ids,
        }

    def open(self) -> None:
        """Open the store, once for both faces."""
        if self._backend is None:
            manager: SessionManager | AsyncSessionManager
            try:
                manager = self.sessions
            except WrongFace:
                manager = self.asessions
            self._backend = manager._backend

    def announce(self) -> None:
        """Say at start-up, once, if the store cannot be reached."""
        if self._configured.startup_check and not self._announced and "sessions" in self.__dict__:
            self._announced = True
            startup.announce(self.sessions)


_READ: Final = ("COATCHECK", "DEFAULT_EXCEPTION_REPORTER_FILTER", "SECRET_KEY", "SECRET_KEY_FALLBACKS")
_lock: Final = threading.Lock()
_current: Home | None = None
_earlier: Home | None = None


def current() -> Home:
    """The home of this process. Raises ImproperlyConfigured, naming the setting and the fix."""
    return _current or _made()


def sessions() -> SessionManager:
    """The manager for scripts, commands and administration: `sessions().of(user.pk).end_all()`."""
    return current().sessions


def asessions() -> AsyncSessionManager:
    """The same for async code: `await asessions().of(user.pk).list()`."""
    return current().asessions


def forget() -> None:
    """Begin anew with the settings as they are at the next use. The store stays, if they say the same of it."""
    global _current, _earlier
    with _lock:
        _earlier = _current or _earlier
        _current = None


def _made() -> Home:
    global _current
    with _lock:
        if _current is None:
            _current = _built(_earlier)
        return _current


def _built(earlier: Home | None) -> Home:
    try:
        home = Home(earlier)
        home.open()
    except ConfigurationError as error:
        raise ImproperlyConfigured(str(error)) from error
    return home


def _changed(*, setting: str, **_: Any) -> None:
    if setting in _READ or setting.startswith("SESSION_"):
        forget()


setting_changed.connect(_changed, dispatch_uid="coatcheck.django")
