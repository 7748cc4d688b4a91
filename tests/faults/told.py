"""The words between the workload, which tells, and the checker: operations, what answers showed, and the report."""

from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple

__all__ = ["ACKNOWLEDGED", "IN_DOUBT", "NOBODY", "REFUSED", "Asked", "Outcome", "Report", "Shown", "key_of"]


class Outcome(Enum):
    """What the visitor knows of an operation."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"
    IN_DOUBT = "in doubt"


ACKNOWLEDGED, REFUSED, IN_DOUBT = Outcome


class Asked(NamedTuple):
    """One operation: who asked, from when to when (seconds, any clock that only goes forward), and what came of it."""

    who: str
    """The browser: each is to be served, whatever the others get."""
    began: float
    ended: float
    outcome: Outcome
    status: int = 200
    """HTTP's, or 0 where no answer came."""


class Shown(NamedTuple):
    """What an answer shows of a session."""

    user: str | None
    keys: frozenset[str] = frozenset()
    counted: int = 0


NOBODY: Final = Shown(None)


def key_of(session: str, number: int) -> str:
    """The key of a write: it names the session that it belongs to."""
    return f"{session}/{number}"


@dataclass(frozen=True)
class Report:
    """The counts. The first six are damage; what a setting allows of them is for the test to say."""

    lost: int
    """Acknowledged writes and increments that are not there at the end."""
    logged_out: int
    """Sessions whose login was acknowledged, which nobody ended, and which are not there at the end."""
    undone: int
    """Sessions whose end was acknowledged, and which an answer showed alive afterwards."""
    mixed: int
    """Answers that showed what belongs to another session or user."""
    stale: int
    """Answers that lacked what had been acknowledged before they were asked for; it may have come back."""
    invented: int
    """What was refused and is there all the same, and increments that were carried out twice."""
    acknowledged: int
    refused: int
    in_doubt: int
    errors: dict[int, int]
    """Answers by status that are neither 200 nor 503; 0 counts those that never came."""
    refusals: int
    """Answers 503."""
    slowest_refusal: float
    """Seconds."""
    unavailable: float
    """Seconds: the longest that one browser went without a success."""
    examples: tuple[str, ...] = ()
    undone_again: int = 0
    """Of those undone: they were ended a second time, after a first try that was in doubt."""

    def line(self) -> str:
        """In one line, for people."""
        return (
            f"lost {self.lost}, logged out {self.logged_out}, undone {self.undone} (again {self.undone_again}),"
            f" mixed {self.mixed}, stale {self.stale}, invented {self.invented};"
            f" of {self.acknowledged} acknowledged, {self.refused} refused, {self.in_doubt} in doubt;"
            f" unavailable {self.unavailable:.1f} s; {self.refusals} x 503, slowest {self.slowest_refusal:.2f} s"
            + (f"; others {self.errors}" if self.errors else "")
            + "".join(f"\n    {example}" for example in self.examples)
        )
