"""What a check says, as data; and how checks are run. Nothing here is printed."""

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Final, Literal, TypeAlias

import msgspec

__all__ = ["CannotLook", "Check", "Finding", "Report", "Severity", "examine"]

Severity: TypeAlias = Literal["high", "medium", "low", "note"]
"""high: somebody can get in. medium: a layer of defence is missing. low: a detail. note: worth knowing, nothing to mend."""

ORDER: Final[Sequence[str]] = ("high", "medium", "low", "note")


class Finding(msgspec.Struct, frozen=True):
    """Something that an auditor would write down. `line` is the number in the security checklist (docs/security.md)."""

    line: int
    severity: Severity
    title: str
    seen: str
    """What was seen that shows it. Never a secret."""
    fix: str
    """What to do, in one line."""


class CannotLook(Exception):
    """Raised by a check that had no way to look; the message says what it would need."""


class Report(msgspec.Struct):
    """What all checks of one subject came to."""

    subject: str
    findings: list[Finding] = []
    passed: list[str] = []
    """Checks that looked and found nothing, by their names."""
    unseen: list[tuple[str, str]] = []
    """Checks that could not look, and why."""
    trouble: str = ""
    """What was asked for and could not be done: then a report without findings is no clean bill."""

    @property
    def status(self) -> int:
        """The exit status: 1 findings, 2 could not look, 0 neither."""
        return 1 if self.to_mend else 2 if self.trouble else 0

    @property
    def to_mend(self) -> list[Finding]:
        """The findings that count: notes do not."""
        return [finding for finding in self.findings if finding.severity != "note"]


Check: TypeAlias = Callable[[Any], Iterable[Finding]]


def examine(subject: str, checks: Iterable[Check], what: object, *, ignore: Collection[int] = ()) -> Report:
    """Run every check on `what`. `ignore` are lines of the checklist that are somebody else's business here."""
    report = Report(subject)
    for check in checks:
        try:
            found = [finding for finding in check(what) if finding.line not in ignore]
        except CannotLook as error:
            report.unseen.append((_name(check), str(error)))
            continue
        report.findings += found
        if not any(finding.severity != "note" for finding in found):
            report.passed.append(_name(check))
    report.findings.sort(key=lambda finding: (ORDER.index(finding.severity), finding.line))
    return report


def together(subject: str, reports: Iterable[Report]) -> Report:
    """Several reports as one, what they all found told once."""
    whole = Report(subject)
    for report in reports:
        whole.findings += _new(report.findings, whole.findings)
        whole.passed += _new(report.passed, whole.passed)
        whole.unseen += _new(report.unseen, whole.unseen)
    whole.findings.sort(key=lambda finding: (ORDER.index(finding.severity), finding.line))
    return whole


def _new(found: Iterable[Any], known: Collection[Any]) -> Iterator[Any]:
    return (item for item in found if item not in known)


def _name(check: Check) -> str:
    return (check.__doc__ or check.__name__).partition(".")[0].strip()
