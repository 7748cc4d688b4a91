"""What has been revoked, kept in the memory of each process, so that verifying a token asks nobody.

An access token names its session (`sid`) and itself (`jti`). A store that `Watches` tells every process of sessions that end, and
of tokens that are revoked by themselves; the few of the time that a token lives are kept here. What the feed did not hear it does
not claim to know: tokens from before it began to listen, or from before a gap, are *unsure*, and so is every token once the feed
has been silent for longer than `max_lag`. That the sessions of everyone were ended, and more endings than there is room for, are
such gaps: what is unsure the store knows, and it counts, where a clock could not tell what came first within a second (177).
"""

import threading
from collections.abc import Callable
from enum import Enum
from typing import Final

from coatcheck.core.ports import EVERYONE, Notice

__all__ = ["ROOM", "RevocationFeed", "Standing"]

ROOM: Final = 100_000
"""Endings that are kept at once: about 20 MB of them (tests/tokens/test_feed.py measures it)."""


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
    room       how many endings are kept at once; with more, what was issued before is unsure
    """

    def __init__(
        self,
        *,
        keep_for: float,
        max_lag: float,
        leeway: float,
        time: Callable[[], float],
        monotonic: Callable[[], float],
        room: int = ROOM,
    ) -> None:
        self._max_lag, self._leeway, self._room = max_lag, leeway, room
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
            if notice.key.startswith(EVERYONE):
                self._begin_anew(now)
            elif self._ended.add(notice.key, now) > self._room:
                self._begin_anew(now)
                self._ended.clear()
            return
        if notice.kind == "lost":
            self._heard, self._for_good = None, False
            return
        if not self._is_listening(now):
            self._begin_anew(now)
        self._heard, self._for_good = now, notice.for_good

    def _begin_anew(self, now: float) -> None:
        """What was issued before now is unsure, until the store has been asked."""
        self._unbroken_since, self._resumed_at = self._time(), now
        self._checked.clear()

    def standing(self, sid: str, jti: str, issued_at: float) -> Standing:
        """What is known of a token and its session; it was issued then (seconds since the epoch)."""
        now = self._monotonic()
        if self._ended.holds(sid, now) or self._ended.holds(jti, now):
            return _REVOKED
        if not self._is_listening(now):
            return _UNSURE
        # A token of the very second in which the feed began may be older than its first word.
        if issued_at - self._leeway < self._unbroken_since and not self._checked.holds(jti, now):
            return _UNSURE
        return _LIVE

    def found_live(self, jti: str, asked_at: float) -> None:
        """The store was asked at `asked_at` (monotonic), and the token is good: from there on the feed knows of its end."""
        if asked_at < self._resumed_at or not self._is_listening(self._monotonic()):
            return
        if self._checked.add(jti, asked_at) > self._room:
            self._checked.clear()

    def _is_listening(self, now: float) -> bool:
        return self._heard is not None and (self._for_good or now - self._heard <= self._max_lag)

    def __len__(self) -> int:
        return len(self._ended)


class _Lately:
    """Names, each for a while."""

    def __init__(self, keep_for: float) -> None:
        self._keep_for = keep_for
        self._since: dict[str, float] = {}  # oldest first
        self._lock = threading.Lock()

    def add(self, name: str, now: float) -> int:
        """Returns how many there are."""
        with self._lock:
            self._since.pop(name, None)
            self._since[name] = now
            while now - self._since[oldest := next(iter(self._since))] > self._keep_for:
                del self._since[oldest]
            return len(self._since)

    def holds(self, name: str, now: float) -> bool:
        since = self._since.get(name)
        return since is not None and now - since <= self._keep_for

    def clear(self) -> None:
        with self._lock:
            self._since.clear()

    def __len__(self) -> int:
        return len(self._since)
