"""What the examples share, and what neither a framework nor a session has to do with: their HTML, and a toy password check.

Every example answers the same requests: GET / and /devices, POST /login (user, password), /count, /devices/end (handle), /logout.
"""

from collections.abc import Sequence
from hmac import compare_digest
from html import escape

from coatcheck import Device

PASSWORDS = {"ada": b"analytical-engine", "grace": b"nanoseconds"}  # yours: a table of Argon2 hashes
PRIVATE = {"Cache-Control": "no-store"}  # or Back would show a page of before the logout
WRONG = "The name or the password is wrong."


def is_right(user: str, password: str) -> bool:
    """Whether this is the user's password."""
    return user in PASSWORDS and compare_digest(PASSWORDS[user], password.encode())


def home(user: str | None, count: int, *, hidden: str = "") -> str:
    """The first page; `hidden` goes into every form."""
    forms = [_form("/count", "Count", hidden)]
    if user is None:
        fields = '<label>User <input name="user"></label><label>Password <input name="password" type="password"></label>'
        forms.append(_form("/login", "Log in", hidden + fields))
    else:
        forms += ['<p><a href="/devices">Your devices</a></p>', _form("/logout", "Log out", hidden)]
    name = escape(user or "stranger")
    text = f'<h1>Hello, <span id="user">{name}</span></h1><p>You counted to <output id="count">{count}</output>.</p>'
    return _page(text + "".join(forms))


def devices(found: Sequence[Device], here: str, *, hidden: str = "") -> str:
    """Where a user is logged in; `here` is the handle of this session."""
    rows = "".join(f"<li>{_device(device, here, hidden)}</li>" for device in found)
    out = _form("/logout", "Log out", hidden)  # on every page of somebody who is logged in (ASVS 7.4.4)
    return _page(f'<h1>Your devices</h1><ul>{rows}</ul><p><a href="/">Home</a></p>{out}')


def _device(device: Device, here: str, hidden: str) -> str:
    since, what = device.created_at.strftime("%Y-%m-%d %H:%M"), escape(device.user_agent or "a browser")
    end = _form("/devices/end", "End", f'{hidden}<input type="hidden" name="handle" value="{device.handle}">')
    return f"{what}, since {since} UTC: " + ("this one" if device.handle == here else end)


def _form(action: str, button: str, fields: str) -> str:
    return f'<form method="post" action="{action}">{fields}<button>{button}</button></form>'


def _page(body: str) -> str:
    style = "body {font: 1.1rem/1.6 sans-serif; margin: 3rem auto; max-width: 40rem} label {display: block}"
    return f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Example</title><style>{style}</style>{body}'
