"""A store whose commands are observed: `Observed(store, telemetry)`.

It stands between the library and any store, and has exactly the abilities of what is inside: those are asked for by their
methods, so each command that is there is wrapped, and nothing else is. Without it nothing is measured, and nothing costs.
"""

import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, cast

from coatcheck.core.outage import Outage
from coatcheck.core.ports import Backend, Changed, Store, Verdict
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.errors import ConfigurationError, CorruptRecord, StoreError, StoreUnavailable
from coatcheck.stores import open_store

__all__ = ["COMMANDS", "OUTCOMES", "Observed", "Observer"]

COMMANDS: Final = (
    "load", "create", "replace", "touch", "delete", "load_anew",
    "admit", "of_user", "end_user", "end_one", "sweep", "count", "check", "setup", "tally", "tallied", "end_tally",
    "walk", "reseal", "time",
)  # fmt: skip
"""What a store can be asked (`coatcheck.core.ports`), and so every value of the label `command`."""
OUTCOMES: Final = (
    "ok", "absent", "expired", "ended", "refused", "changed", *(verdict.value for verdict in Verdict),
    "unavailable", "corrupt", "error", "cancelled",
)  # fmt: skip
"""Every value of the label `outcome`: how the store answered, or why it did not."""
_OPENING: Final = frozenset(
    {"awaiting", "aclose", "blocking", "close", "from_url", "load_now", "replace_now"}
)
"""What is asked of `Observed` itself; and `AtOnce`, which would go past the observer."""
_logger: Final = logging.getLogger("coatcheck")
Command = Callable[..., Awaitable[Any]]


class Observer(Protocol):
    """What is told of commands. What it raises is logged once, and goes no further."""

    def began(self, command: str) -> Any:
        """A command leaves. What this returns is handed to `ended`."""
        ...

    def ended(self, began: Any, command: str, outcome: str, seconds: float) -> None:
        """It was answered, or failed."""
        ...


class Observed:
    """The store `inside`, with an observer of its commands.

    inside     a store, or its URL
    observer   told of each command, such as `Prometheus()` or `OpenTelemetry()`
    outage     for a store that is given as a URL
    monotonic  what tells seconds

    Raises ConfigurationError for what cannot observe, and whatever opening the store raises.
    """

    def __init__(
        self,
        inside: str | Backend | Store,
        observer: Observer,
        *,
        outage: Outage | None = None,
        monotonic: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not (hasattr(observer, "began") and hasattr(observer, "ended")):
            raise ConfigurationError(
                f"Observed(…, {observer!r}): give what observes, such as coatcheck.telemetry.prometheus.Prometheus()"
            )
        if outage is not None and not isinstance(inside, str):
            raise ConfigurationError("Observed(outage=…) is for a store that is given as a URL")
        self._owns = isinstance(inside, str)
        self._inside: Any = open_store(inside, outage=outage) if isinstance(inside, str) else inside
        self._watch = _Watch(observer, monotonic)
        self._faces: dict[str, Store] = {}

    def __repr__(self) -> str:
        return f"<Observed {self._inside!r}>"

    def blocking(self) -> Store:
        """The store whose methods never suspend: for the sync face."""
        return self._face("blocking")

    def awaiting(self) -> Store:
        """The store for event loops."""
        return self._face("awaiting")

    def _face(self, name: str) -> Store:
        if name not in self._faces:
            inside = getattr(self._inside, name)() if hasattr(self._inside, name) else self._inside
            self._faces[name] = cast(Store, _Face(inside, self._watch))
        return self._faces[name]

    def close(self) -> None:
        """Close a store that was opened from a URL."""
        if self._owns and hasattr(self._inside, "close"):
            self._inside.close()

    async def aclose(self) -> None:
        """The same, for what event loops opened."""
        if not self._owns:
            return
        if hasattr(self._inside, "aclose"):
            await self._inside.aclose()
        elif hasattr(self._inside, "close"):
            self._inside.close()


class _Face:
    """What `Observed` hands to a face: the abilities of the store inside, one by one."""

    def __init__(self, inside: Any, watch: "_Watch") -> None:
        # As attributes of its own: an ability is found by looking for its methods (`isinstance(store, ByUser)`).
        for name in {*dir(inside), *COMMANDS, "watch", "never_waits"}:
            if not name.startswith("_") and name not in _OPENING and hasattr(inside, name):
                there = getattr(inside, name)
                self.__dict__[name] = _command(name, there, watch) if name in COMMANDS else there

    def __repr__(self) -> str:
        return f"<observed: {', '.join(name for name in COMMANDS if name in self.__dict__)}>"


def _command(name: str, command: Command, watch: "_Watch") -> Command:
    monotonic = watch.monotonic

    async def observed(*args: Any, **kwargs: Any) -> Any:
        mark, began = watch.began(name), monotonic()
        try:
            answer = await command(*args, **kwargs)
        except BaseException as error:
            watch.ended(mark, name, _reason(error), monotonic() - began)
            raise
        watch.ended(mark, name, _outcome(answer), monotonic() - began)
        return answer

    return observed


_NAMED: Final[dict[type, str]] = {Changed: "changed", Ended: "ended", Expired: "expired"}


def _outcome(answer: object) -> str:
    kind = type(answer)
    if kind is Record:
        return "ok"
    if kind is Verdict:
        return cast(Verdict, answer).value
    if answer is None or answer is False:
        return "absent" if answer is None else "refused"
    return _NAMED.get(kind, "ok")


def _reason(error: BaseException) -> str:
    if isinstance(error, StoreUnavailable):
        return "unavailable"
    if isinstance(error, CorruptRecord):
        return "corrupt"
    return "error" if isinstance(error, StoreError | Exception) else "cancelled"


class _Watch:
    """An observer that never breaks a command."""

    def __init__(self, observer: Observer, monotonic: Callable[[], float]) -> None:
        self._observer, self.monotonic = observer, monotonic
        self._has_failed = False

    def began(self, command: str) -> Any:
        try:
            return self._observer.began(command)
        except Exception as error:
            self._failed(error)
            return None

    def ended(self, mark: Any, command: str, outcome: str, seconds: float) -> None:
        try:
            self._observer.ended(mark, command, outcome, seconds)
        except Exception as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        if not self._has_failed:
            self._has_failed = True
            _logger.error(
                "%s, which observes the store, raised %s (said once)",
                type(self._observer).__name__,
                repr(repr(error)),
            )
