"""A report for people and for programs. What came from a server, or holds a secret, is made harmless on its way out."""

import json
from collections.abc import Callable, Collection, Iterator
from textwrap import wrap
from typing import Any, Final

import click
import msgspec

from coatcheck.tools.doctor.report import Finding, Report

__all__ = ["as_json", "as_text", "hiding"]

_COLOURS: Final = {"high": "red", "medium": "yellow", "low": "cyan", "note": "blue"}
_WIDTH: Final = 100
_SHORTEST: Final = 4
"""A secret shorter than this is left: it would blot out ordinary words."""

Hide = Callable[[str], str]


def hiding(secrets: Collection[str]) -> Hide:
    """What takes these secrets out of a text, and makes it safe for a terminal: a server says what it likes of itself."""
    hidden = sorted((secret for secret in secrets if len(secret) >= _SHORTEST), key=len, reverse=True)

    def hide(text: str) -> str:
        for secret in hidden:
            text = text.replace(secret, "***")
        return text if text.isprintable() else repr(text)[1:-1]

    return hide


def as_json(report: Report, hide: Hide) -> str:
    """For programs: one object."""
    plain: dict[str, Any] = {
        "subject": report.subject,
        "clean": report.status == 0,
        "trouble": report.trouble,
        "findings": [msgspec.to_builtins(finding) for finding in report.findings],
        "passed": report.passed,
        "not_looked_at": [{"check": check, "needs": needs} for check, needs in report.unseen],
    }
    return json.dumps(_hidden(plain, hide), indent=2, ensure_ascii=False)


def _hidden(value: Any, hide: Hide) -> Any:
    if isinstance(value, str):
        return hide(value)
    if isinstance(value, list):
        return [_hidden(item, hide) for item in value]
    return {key: _hidden(item, hide) for key, item in value.items()} if isinstance(value, dict) else value


def as_text(report: Report, hide: Hide) -> str:
    """For people: the worst first, and what was not looked at last."""
    return "\n".join([hide(report.subject), "", *_findings(report, hide), *_summary(report, hide)])


def _findings(report: Report, hide: Hide) -> Iterator[str]:
    for finding in report.findings:
        yield from _finding(finding, hide)
        yield ""


def _finding(finding: Finding, hide: Hide) -> Iterator[str]:
    severity = click.style(f"{finding.severity:<8}", fg=_COLOURS[finding.severity], bold=True)
    yield f"  {severity}line {finding.line:<5}{hide(finding.title)}"
    for word, text in (("seen", finding.seen), ("fix", finding.fix)):
        first, *rest = wrap(hide(text), _WIDTH - 20, break_on_hyphens=False) or [""]
        yield f"  {'':<8}{word:<10}{first}"
        for line in rest:
            yield f"  {'':<18}{line}"


def _summary(report: Report, hide: Hide) -> Iterator[str]:
    mend, notes = len(report.to_mend), len(report.findings) - len(report.to_mend)
    verdict = f"{mend} to mend" if mend else "nothing to mend"
    passed = f"{len(report.passed)} {'check' if len(report.passed) == 1 else 'checks'} passed"
    said = [passed, verdict, *([f"{notes} {'note' if notes == 1 else 'notes'}"] if notes else [])]
    yield f"  {', '.join(said)}"
    if report.trouble:
        yield f"  {hide(report.trouble)}"
    if report.unseen:
        yield "  not looked at:"
        width = max(len(check) for check, _ in report.unseen)
        for check, needs in report.unseen:
            yield f"    {check:<{width}}  {hide(needs)}"
