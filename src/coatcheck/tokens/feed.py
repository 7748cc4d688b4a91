"""What has been revoked, kept in the memory of each process, so that verifying a token asks nobody.

An access token names its session (`sid`). A store that `Watches` tells every process of sessions that end; the few that ended
within the life of a token are kept here. What the feed did not hear it does not claim to know: tokens from before it began to
listen, or from before a gap, are *unsure*, and so is every token once the feed has been silent for longer than `max_lag`.
"""

import threading
from collections.abc import Callable
from enum import Enum

from coatcheck.core.ports import Notice

__all__ = ["RevocationFeed", "Standing"]


class Standing(Enum):
    """What the feed knows of a token's session."""

    LIVE = "live"
    REVOKED = "revoked"
    UNSURE = "unsure"
    """The feed was not listening all the time: ask the store, or refuse."""


_LIVE, _REVOKED, _UNSURE = Standing


class RevocationFeed:
    """The sessions that ended lately.

    keep_for   seconds for which an ending is kept: as long as a token is good, and the leeway
    max_lag    seconds of silence after which nothing is sure any more; a store that listens says so every five
    time       tells seconds since the epoch, as the tokens' issuer does
    monotonic  tells seconds that are never set back
    """

    def __init__(
        self,
        *,
        keep_for: float,
        max_lag: float,
        leeway: float,
        time: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        self._keep_for, self._max_lag, self._leeway = keep_for, max_lag, leeway
        self._time, self._monotonic = time, monotonic
        self._ended, self._checked = _Lately(keep_for), _Lately(keep_for)
        self._heard: float | None = None
        """When the store last said that it is listening; None: it is not."""
        self._for_good = False
        self._unbroken_since = float("inf")
        """Since when, in seconds since the epoch, no ending was missed."""
        self._resumed_at = float("inf")
        """The same on the monotonic clock."""

    def hear(self, notice: Notice) -> None:
        """Take note of what the store tells. Called from whichever thread watches."""
        now = self._monotonic()
        if notice.kind == "ended":
            self._ended.add(notice.key, now)
            return
        if notice.kind == "lost":
            self._heard, self._for_good = None, False
            return
        if not self._is_listening(now):
            self._unbroken_since, self._resumed_at = self._time(), now
            self._checked.clear()
        self._heard, self._for_good = now, notice.for_good

    def standing(self, sid: str, issued_at: float) -> Standing:
        """What is known of the session of a token that was issued then (seconds since the epoch)."""
        now = self._monotonic()
        if self._ended.holds(sid, now):
            return _REVOKED
        if not self._is_listening(now):
            return _UNSURE
        # A token of the very second in which the feed began may be older than its first word.
        if issued_at - self._leeway < self._unbroken_since and not self._checked.holds(sid, now):
            return _UNSURE
        return _LIVE

    def found_live(self, sid: str, asked_at: float) -> None:
        """The store was asked at `asked_at` (monotonic), and the session lives: from there on the feed knows of its end."""
        if asked_at >= self._resumed_at and self._is_listening(self._monotonic()):
            self._checked.add(sid, asked_at)

    def _is_listening(self, now: float) -> bool:
        return self._heard is not None and (self._for_good or now - self._heard <= self._max_lag)

    def __len__(self) -> int:
        return len(self._ended)


class _Lately:
    """Names, each for a while. As many as came within that while, and no more."""

    def __init__(self, keep_for: float) -> None:
        self._keep_for = keep_for
        self._since: dict[str, float] = {}  # oldest first
        self._lock = threading.Lock()

    def add(self, name: str, now: float) -> None:
        with self._lock:
            self._since.pop(name, None)
            self._since[name] = now
            while self._since:
                oldest = next(iter(self._since))
                if now - self._since[oldest] <= self._keep_for:
                    return
                del self._since[oldest]

    def holds(self, name: str, now: float) -> bool:
        since = self._since.get(name)
        return since is not None and now - since <= self._keep_for

    def clear(self) -> None:
        with self._lock:
            self._since.clear()

    def __len__(self) -> int:
        return len(self._since)
