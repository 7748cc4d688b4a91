"""Packages beside us that are too old: below what we need, or below the release that mended a hole in sessions or requests.

The list is short and by hand: what touches cookies, requests and tokens. `pip-audit` knows the rest (checklist 212).
"""

import re
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Final

from coatcheck._versions import numbers
from coatcheck.tools.doctor.inspection import Inspected
from coatcheck.tools.doctor.report import Check, Finding

__all__ = ["PACKAGES", "too_old"]

MENDED: Final = {
    "redis": ("4.5.5", "CVE-2023-28859: a cancelled command leaks another user's reply"),
    "pyjwt": ("2.13", "CVE-2026-48523 to -48525: a key used with another algorithm"),
    "cryptography": ("44.0.1", "OpenSSL before CVE-2024-12797"),
    "flask": ("3.1.1", "CVE-2025-47278: cookies signed with the oldest key"),
    "werkzeug": ("3.0.6", "CVE-2024-49767: a form takes all memory"),
    "starlette": ("0.49.1", "CVE-2025-62727: a Range header takes all time"),
    "litestar": ("2.18", "CVE-2025-59152: rate limits passed by X-Forwarded-For"),
    "python-multipart": ("0.0.18", "CVE-2024-53981: a form takes all time"),
    "gunicorn": ("23", "CVE-2024-6827: request smuggling"),
    "h11": ("0.16", "CVE-2025-43859: request smuggling"),
    "jinja2": ("3.1.6", "CVE-2025-27516: a template leaves its sandbox"),
    "authlib": ("1.6.4", "CVE-2025-59420: unknown crit headers accepted"),
    "python-jose": ("3.4", "CVE-2024-33663: a public key taken for a secret"),
    "aiohttp-session": ("2.7", "CVE-2018-1000814: encrypted cookies never expire"),
}
"""Package -> the first release that is well, and what was wrong before."""

_REQUIREMENT: Final = re.compile(r"([A-Za-z0-9._-]+)(?:\[[^\]]*\])?>=([0-9.]+)")


def packages_are_recent(app: Inspected) -> Iterator[Finding]:
    """Packages are recent enough"""
    yield from too_old()


PACKAGES: Final[tuple[Check, ...]] = (packages_are_recent,)


def too_old() -> Iterator[Finding]:
    """A finding for each installed package that is below its floor."""
    floors = [(name, floor, "coatcheck needs it") for name, floor in _needed()]
    for name, floor, why in [*floors, *((name, *mended) for name, mended in MENDED.items())]:
        installed = _installed(name)
        if installed is not None and numbers(installed) < numbers(floor):
            yield Finding(
                212,
                "medium",
                f"{name} is too old",
                f"{name} {installed}, and {floor} is the first without {why}"
                if "CVE" in why
                else f"{name} {installed}; {why}: {floor}",
                f"pip install -U '{name}>={floor}'",
            )


def _needed() -> Iterator[tuple[str, str]]:
    for requirement in requires("coatcheck") or ():
        if found := _REQUIREMENT.match(requirement.replace(" ", "")):
            yield found[1], found[2]


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
