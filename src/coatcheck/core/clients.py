"""Whose browser it is: what it says it is, in words for a device list ("Firefox on Windows"), and whether it is another now.

A table, and no library.

A list of devices has to tell a person's phone from their laptop, no more. The libraries that know every browser there ever was
bring a thousand regular expressions, of which nobody can say that they are linear (checklist 207), and milliseconds of import.
This looks for a dozen substrings in at most 256 characters; what it does not know is "", and the page says so. Pure.

Order matters: nearly every browser also says it is Chrome, Safari and Mozilla.
"""

from functools import lru_cache
from typing import Final

import msgspec

from coatcheck.core.record import Login

__all__ = ["NewDevice", "changes", "described"]

_BROWSERS: Final = (
    ("Edg", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Vivaldi/", "Vivaldi"),
    ("YaBrowser/", "Yandex Browser"),
    ("DuckDuckGo/", "DuckDuckGo"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("CriOS/", "Chrome"),
    ("Chrome/", "Chrome"),
    ("Chromium/", "Chromium"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
    ("python-", "a Python program"),
    ("okhttp/", "an Android app"),
    ("CFNetwork/", "an Apple app"),
)
_SYSTEMS: Final = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("CrOS", "ChromeOS"),
    ("Windows", "Windows"),
    ("Mac OS X", "macOS"),
    ("Macintosh", "macOS"),
    ("Linux", "Linux"),
    ("FreeBSD", "FreeBSD"),
)


@lru_cache(maxsize=1024)
def described(user_agent: str) -> str:
    """The browser and the system it runs on, as far as they are known; "" if neither is. Never anything of the text itself."""
    agent = user_agent[:256]
    browser = next((name for mark, name in _BROWSERS if mark in agent), "")
    system = next((name for mark, name in _SYSTEMS if mark in agent), "")
    return f"{browser} on {system}" if browser and system else browser or system


class NewDevice(msgspec.Struct, frozen=True):
    """A login from a browser or a network that none of the user's other sessions has: what to write to the user."""

    user_id: str
    handle: str
    browser: str
    """"Firefox on Windows"; "" if it does not say what it is."""
    address: str
    """The network it came from, as it is kept."""
    at: float
    """Seconds since the epoch."""


def changes(login: Login, address: str, user_agent: str) -> tuple[str, ...]:
    """In what this client is another than the one that was written down: "network", "browser". What was not written down, or is
    not known now, has not changed; nor has a browser that was brought up to date.
    """
    changed = []
    if login.address and address and login.address != address:
        changed.append("network")
    if login.user_agent and user_agent and not _is_alike(login.user_agent, user_agent):
        changed.append("browser")
    return tuple(changed)


def _is_alike(one: str, other: str) -> bool:
    return one == other or (described(one) != "" and described(one) == described(other))
