"""Flask without sessions: the baseline that is subtracted from every other Flask row.

Without a secret Flask's own sessions do nothing: it does not even look for its cookie.
"""

from flask import Flask


def ok() -> str:
    """Answer as the other applications do, having kept nothing."""
    return "ok"


def read() -> str:
    """Answer a number as the other applications do."""
    return str(1)


app = Flask("bench")
for path, view in (("/login", ok), ("/write", ok), ("/read", read)):
    app.add_url_rule(path, path, view)
