"""What a browser says it is, in words for a device list: "Firefox on Windows". A table, and no library.

A list of devices has to tell a person's phone from their laptop, no more. The libraries that know every browser there ever was
bring a thousand regular expressions, of which nobody can say that they are linear (checklist 207), and milliseconds of import.
This looks for a dozen substrings in at most 256 characters; what it does not know is "", and the page says so. Pure.

Order matters: nearly every browser also says it is Chrome, Safari and Mozilla.
"""

from functools import lru_cache
from typing import Final

__all__ = ["described"]

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
