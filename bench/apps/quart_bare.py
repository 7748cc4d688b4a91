"""Quart without sessions: the baseline that is subtracted from every other Quart row.

Without a secret Quart's own sessions do nothing: it does not even look for its cookie.
"""

from quart import Quart


async def ok() -> str:
    """Answer as the other applications do, having kept nothing."""
    return "ok"


async def read() -> str:
    """Answer a number as the other applications do."""
    return str(1)


app = Quart("bench")
for path, view in (("/login", ok), ("/write", ok), ("/read", read)):
    app.add_url_rule(path, path, view)
