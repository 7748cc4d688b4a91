"""Being told of sessions that end, whichever process ends them: one watch of the store, shared by all who listen here.

For a WebSocket that must close when its user logs out, a cache that must forget, a feed of revocations. The store's watch begins
with the first listener and stops with the last. Under asyncio each event loop has its own, and is told on its own thread.
"""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TypeAlias

from coatcheck._eventloop import running_loop
from coatcheck.core.ports import EVERYONE, Notice, Store, Watches
from coatcheck.errors import ConfigurationError

if TYPE_CHECKING:
    import asyncio

__all__ = ["Watching"]

_logger: Final = logging.getLogger("coatcheck")
Tell = Callable[[Notice], None]
Place: TypeAlias = "asyncio.AbstractEventLoop | None"


class Watching:
    """The watches of one store in this process, one for each event loop, and one for all threads."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._circles: dict[Place, _Circle] = {}

    def listen(self, tell: Tell, handle: str | None = None) -> Callable[[], None]:
        """Have `tell` called with every notice, or with `handle` with those that concern this session; returns what stops it.

        Three kinds of notices (`Notice.kind`): "ended", with the `key` of a session that was ended (one that begins with
        `coatcheck.core.ports.EVERYONE`: all of them were); "watching", from which on no
        ending is missed, repeated every few seconds as long as that is so; "lost", after which endings may be missed until the
        next "watching", so that what must not be missed has to be looked up again then. A session that expires is not told of.

        `tell` must be quick. Raises ConfigurationError if the store does not tell of endings.
        """
        place = running_loop()
        with self._lock:
            circle = self._circles.get(place)
            if circle is None:
                circle = self._circles[place] = _Circle()
                for gone in [other for other in self._circles if other is not None and other.is_closed()]:
                    del self._circles[gone]
        stop = circle.join(tell, handle)
        try:
            circle.begin(self._watches())
        except BaseException:
            stop()
            raise
        return stop

    def stop(self) -> None:
        """Stop every watch; nobody is told anything any more."""
        with self._lock:
            circles, self._circles = list(self._circles.values()), {}
        for circle in circles:
            circle.end()

    def _watches(self) -> Watches:
        if not isinstance(self._store, Watches):
            raise ConfigurationError(
                f"store={type(self._store).__name__}: this needs a store that tells of ended sessions (Watches)"
            )
        return self._store


class _Circle:
    """Those who listen to one watch."""

    def __init__(self) -> None:
        # Not held while the store is called: it may tell before it returns, or wait for a thread of its own that is telling.
        self._lock = threading.Lock()
        self._all: dict[object, Tell] = {}
        self._of: dict[str, dict[object, Tell]] = {}
        self._watch: _Watch | None = None
        self._for_good: Notice | None = None

    def join(self, tell: Tell, handle: str | None) -> Callable[[], None]:
        seat = object()
        with self._lock:
            (self._all if handle is None else self._of.setdefault(handle, {}))[seat] = tell
        if self._for_good is not None:  # it is not said again
            tell(self._for_good)
        return lambda: self._leave(seat, handle)

    def begin(self, store: Watches) -> None:
        """Watch, if nobody does yet."""
        with self._lock:
            if self._watch is not None:
                return
            watch = self._watch = _Watch()
        try:
            watch.runs(store.watch(self._hear))
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Stop watching, and forget everybody."""
        with self._lock:
            self._all, self._of, self._for_good = {}, {}, None
            watch, self._watch = self._watch, None
        if watch is not None:
            watch.stop()

    def _leave(self, seat: object, handle: str | None) -> None:
        with self._lock:
            seats = self._all if handle is None else self._of.get(handle, {})
            seats.pop(seat, None)
            if handle is not None and not seats:
                self._of.pop(handle, None)
            if self._all or self._of:
                return
            watch, self._watch, self._for_good = self._watch, None, None
        if watch is not None:
            watch.stop()

    def _hear(self, notice: Notice) -> None:
        with self._lock:
            tells = list(self._all.values())
            if notice.kind == "ended" and notice.key.startswith(EVERYONE):
                tells += [
                    partial(_tell_of, tell, key) for key, seats in self._of.items() for tell in seats.values()
                ]
            elif notice.kind == "ended":
                tells += self._of.get(notice.key, {}).values()
            else:
                tells += [tell for seats in self._of.values() for tell in seats.values()]
                self._for_good = notice if notice.for_good else None
        for tell in tells:
            try:
                tell(notice)
            except Exception:  # the others must be told all the same
                _logger.exception("a listener raised when it was told of a session's end")


def _tell_of(tell: Tell, key: str, _everyone: Notice) -> None:
    """Whoever listens for one session hears of the end of that one."""
    tell(Notice("ended", key))


class _Watch:
    """A watch of the store, which may be stopped while it is only just beginning."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stop: Callable[[], None] | None = None
        self._is_over = False

    def runs(self, stop: Callable[[], None]) -> None:
        """The store watches now."""
        with self._lock:
            self._stop = stop
            is_over = self._is_over
        if is_over:
            stop()

    def stop(self) -> None:
        with self._lock:
            self._is_over, stop = True, self._stop
        if stop is not None:
            stop()
