"""Knows every operation that was acknowledged, and counts what became of it. Pure: it is told, with times, and asks nobody.

An operation ends in one of three ways. *Acknowledged*: the visitor was told that it is done, and it must be there for ever after.
*Refused*: it was surely not carried out. *In doubt*: an error came after the command may have left; it may be there or not, at
once or a while later, and at most once.

A session is named by the test, not by the product: a name stands for one login of one user in one browser. Its writes are keys
that no other session has (`key_of`), so whatever turns up in a wrong place tells whose it is.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from math import inf
from typing import Final

from tests.faults.service import Service
from tests.faults.told import ACKNOWLEDGED, IN_DOUBT, NOBODY, REFUSED, Asked, Outcome, Report, Shown, key_of

__all__ = ["ACKNOWLEDGED", "IN_DOUBT", "REFUSED", "Asked", "Checker", "Outcome", "Report", "Shown", "key_of"]

LATE: Final = 20.0
"""Seconds after which a command that is in doubt is no longer carried out: it lay in a socket of a server that stood still."""
FENCED: Final = 1.0
"""Seconds: a login that begins within one round trip after an end of all sessions is refused too (PROTOCOL rule 20)."""
EXAMPLES: Final = 5
"""How many of each kind of damage a report describes."""


@dataclass
class _Life:
    """One session, as far as its visitor knows."""

    user: str
    born: float = inf
    """When its login was acknowledged."""
    asked: float = inf
    """When its login was asked for."""
    may_end: float = inf
    """The first moment at which somebody asked for its end, be it in doubt."""
    ends_asked: int = 0
    """Requests for its end that are under way."""
    ended: float = inf
    """When its end was acknowledged."""
    ended_again: bool = False
    """Whether an end before that one was in doubt: then the store may have had nothing left to do."""
    written: dict[str, float] = field(default_factory=dict)
    """Acknowledged writes, and when."""
    refused: set[str] = field(default_factory=set)
    counted: list[float] = field(default_factory=list)
    """When increments were acknowledged, in order."""
    counts_in_doubt: int = 0
    missing: frozenset[str] = frozenset()
    """What the latest answer lacked: of a session that ends later there is no other look."""
    uncounted: int = 0
    has_vanished: bool = False
    """Whether the latest answer was nobody's, though nobody had ended the session."""


class Checker:
    """Told of every operation, then of what is there at the end (`found`); `report()` has the counts."""

    def __init__(self) -> None:
        self._lives: dict[str, _Life] = {}
        self._of_user: defaultdict[str, list[str]] = defaultdict(list)
        self._user_ends: defaultdict[str, list[float]] = defaultdict(list)
        """By user: until when an end of all their sessions may have been carried out."""
        self._user_ends_asked: Counter[str] = Counter()
        """By user: requests for that which are under way."""
        self._service = Service()
        self._lost: set[str] = set()
        self._uncounted = 0
        self._logged_out: set[str] = set()
        self._undone: set[str] = set()
        self._mixed = self._stale = self._invented = 0
        self._examples: defaultdict[str, list[str]] = defaultdict(list)

    # ------------------------------------------------------------------------------------------------- operations

    def login(self, session: str, user: str, asked: Asked, shown: Shown = NOBODY) -> None:
        """A login that begins this session, with what the answer showed."""
        self._service.took(asked)
        life = self._lives[session] = _Life(user, asked=asked.began)
        self._of_user[user].append(session)
        if asked.outcome is ACKNOWLEDGED:
            life.born = asked.ended
            self._is_mixed(session, life, shown)
        elif asked.status == 200 and not self._was_fenced(life, asked):
            self._missed(session, "was refused, though nobody ended its user's sessions")
        if any(until >= asked.began for until in self._user_ends[user]):
            life.may_end = asked.began

    def _was_fenced(self, life: _Life, asked: Asked) -> bool:
        """Whether an end of all sessions came in between, or was acknowledged within a round trip before."""
        ends = self._user_ends[life.user]
        return self._user_ends_asked[life.user] > 0 or any(until >= asked.began - FENCED for until in ends)

    def wrote(self, session: str, key: str, asked: Asked, shown: Shown = NOBODY) -> None:
        """A write of a key, with what the answer showed."""
        self._service.took(asked)
        life = self._lives[session]
        if asked.outcome is ACKNOWLEDGED:
            self.saw(session, asked, shown)
            if shown.user == life.user:  # else it went to nobody's session: this one is over
                life.written[key] = asked.ended
        elif asked.outcome is REFUSED:
            life.refused.add(key)

    def counted(self, session: str, asked: Asked, shown: Shown = NOBODY) -> None:
        """An increment, with what the answer showed."""
        self._service.took(asked)
        life = self._lives[session]
        if asked.outcome is ACKNOWLEDGED:
            self.saw(session, asked, shown)
            if shown.user == life.user:
                life.counted.append(asked.ended)
        elif asked.outcome is IN_DOUBT:
            life.counts_in_doubt += 1

    def read(self, session: str, asked: Asked, shown: Shown = NOBODY) -> None:
        """A look at the session, by its owner or by whoever kept the cookie."""
        self._service.took(asked)
        if asked.outcome is ACKNOWLEDGED:
            self.saw(session, asked, shown)

    def logout_begins(self, session: str) -> None:
        """It is about to be asked for: from here on an answer may show the session ended."""
        self._lives[session].ends_asked += 1

    def logout(self, session: str, asked: Asked, shown: Shown = NOBODY) -> None:
        """The end of this session, with what the answer showed."""
        self._service.took(asked)
        life = self._lives[session]
        life.ends_asked -= 1
        self._end(life, asked)
        self._is_mixed(session, life, shown)

    def end_all_begins(self, user: str) -> None:
        """It is about to be asked for: from here on an answer may show any session of this user ended."""
        self._user_ends_asked[user] += 1

    def end_all(self, user: str, asked: Asked) -> None:
        """The end of every session of a user. A login that was under way meanwhile may be caught by it or not."""
        self._service.took(asked)
        self._user_ends_asked[user] -= 1
        if asked.outcome is REFUSED:
            return
        self._user_ends[user].append(asked.ended + (LATE if asked.outcome is IN_DOUBT else 0.0))
        for session in self._of_user[user]:
            life = self._lives[session]
            if life.born <= asked.began:
                self._end(life, asked)
            else:
                life.may_end = min(life.may_end, max(asked.began, life.asked))

    def _end(self, life: _Life, asked: Asked) -> None:
        if asked.outcome is ACKNOWLEDGED and asked.ended < life.ended:
            life.ended, life.ended_again = asked.ended, life.may_end < asked.began
        if asked.outcome is not REFUSED:
            life.may_end = min(life.may_end, asked.began)

    # ----------------------------------------------------------------------------------------- what answers showed

    def saw(self, session: str, asked: Asked, shown: Shown) -> None:
        """What an answer showed of a session."""
        life = self._lives[session]
        if self._is_mixed(session, life, shown):
            return
        if shown.user is None:
            if life.born <= asked.began and life.may_end > asked.ended and not self._is_ending(life):
                life.has_vanished = True
                self._missed(session, "is nobody's, though nobody ended it")
            return
        if life.ended < asked.began:
            self._resurrected(session)
        acknowledged = (key for key, at in life.written.items() if at <= asked.began)
        before = bisect_left(life.counted, asked.began)
        life.has_vanished = False
        life.missing = frozenset(key for key in acknowledged if key not in shown.keys)
        life.uncounted = max(0, before - shown.counted)
        if life.missing or life.uncounted:
            some = sorted(life.missing)[:EXAMPLES]
            self._missed(session, f"lacks {some}, and has counted {shown.counted} of {before}")

    def _is_mixed(self, session: str, life: _Life, shown: Shown) -> bool:
        """Nobody may be shown what a user was told is theirs. Writes that came when their session was long over may meet, though,
        in a new one of the same browser, which is nobody's.
        """
        strange = [key for key in shown.keys if key.rpartition("/")[0] != session]
        of_nobody = shown.user is None and bool(shown.keys & life.written.keys())
        if shown.user not in (None, life.user) or strange or of_nobody:
            self._mixed += 1
            self._example(
                "mixed", f"session {session} showed {shown.user!r} with {sorted(shown.keys)[:EXAMPLES]}"
            )
            return True
        return False

    def _is_ending(self, life: _Life) -> bool:
        return life.ends_asked > 0 or self._user_ends_asked[life.user] > 0

    def _resurrected(self, session: str) -> None:
        if session not in self._undone:
            self._undone.add(session)
            self._example("undone", f"session {session} lives, and its end was acknowledged")

    def _missed(self, session: str, what: str) -> None:
        self._stale += 1
        self._example("stale", f"an answer: session {session} {what}")

    def _example(self, kind: str, text: str) -> None:
        if len(self._examples[kind]) < EXAMPLES:
            self._examples[kind].append(f"{kind}: {text}")

    # -------------------------------------------------------------------------------------------------- at the end

    def sessions(self) -> Iterable[str]:
        """Those that somebody has a cookie of: each is to be looked at in the end."""
        return [session for session, life in self._lives.items() if life.born < inf]

    def found(self, session: str, shown: Shown) -> None:
        """What is there of a session when everything is over, and every server well."""
        life = self._lives[session]
        if self._is_mixed(session, life, shown):
            return
        if shown.user is None:
            self._is_gone(session, life)
        elif life.ended < inf:
            self._resurrected(session)
        else:
            self._weigh(session, life, shown)

    def _is_gone(self, session: str, life: _Life) -> None:
        if life.may_end == inf or life.has_vanished:
            self._logged_out.add(session)
            self._lost |= life.written.keys()
            self._uncounted += len(life.counted)
            self._example("logged out", f"session {session}, with {len(life.written)} writes")
        elif life.missing or life.uncounted:
            self._lost |= life.missing
            self._uncounted += life.uncounted
            self._example("lost", f"session {session}, when it ended: {sorted(life.missing)[:EXAMPLES]}")

    def _weigh(self, session: str, life: _Life, shown: Shown) -> None:
        if missing := life.written.keys() - shown.keys:
            self._lost |= missing
            self._example("lost", f"session {session}: {sorted(missing)[:EXAMPLES]}")
        sure = len(life.counted)
        if shown.counted < sure:
            self._uncounted += sure - shown.counted
            self._example("lost", f"session {session} has counted {shown.counted} of {sure}")
        twice = max(0, shown.counted - sure - life.counts_in_doubt)
        if twice or life.refused & shown.keys:
            self._invented += twice + len(life.refused & shown.keys)
            self._example(
                "invented",
                f"session {session}: {twice} counts, {sorted(life.refused & shown.keys)[:EXAMPLES]}",
            )

    # -------------------------------------------------------------------------------------------------- the counts

    def how_many(self, outcome: Outcome) -> int:
        """Operations so far that ended so."""
        return self._service.outcomes[outcome]

    def recovered(self, at: float) -> float:
        """Seconds from a moment until every browser had its first success after it; infinite if one has none yet."""
        return self._service.recovered(at)

    def report(self, until: float | None = None) -> Report:
        """The counts, of all that was told so far; `until` is when the last operation was asked for."""
        service = self._service
        return Report(
            lost=len(self._lost) + self._uncounted,
            logged_out=len(self._logged_out),
            undone=len(self._undone),
            undone_again=sum(self._lives[session].ended_again for session in self._undone),
            mixed=self._mixed,
            stale=self._stale,
            invented=self._invented,
            acknowledged=service.outcomes[ACKNOWLEDGED],
            refused=service.outcomes[REFUSED],
            in_doubt=service.outcomes[IN_DOUBT],
            errors=dict(service.errors),
            refusals=service.refusals,
            slowest_refusal=service.slowest_refusal,
            unavailable=service.unavailable(until),
            examples=tuple(example for kind in self._examples.values() for example in kind),
        )
