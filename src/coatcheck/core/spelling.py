"""What somebody who wrote an option that there is not, probably wanted to write. Pure."""

import difflib
import re
from collections.abc import Collection, Mapping

__all__ = ["meant"]


def meant(name: str, known: Collection[str], groups: Mapping[str, Collection[str]]) -> str:
    """Advice for an error message. Node's spelling is understood, and answered in ours.

    `groups`: how an option that is an object is given, such as "cookie=CookieSettings", and what it has.
    """
    word = re.sub("(?<=[a-z])[A-Z]", lambda found: f"_{found[0].lower()}", name)
    for group, settings in groups.items():
        if word in settings:
            return f"give {group}({word}=…)"
    near = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(sorted(known))}"
