"""The devices page as HTML: no script, no template engine, every text escaped, and a policy that lets nothing else in."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from hashlib import sha256
from html import escape
from typing import Final

from coatcheck.flows import Device

__all__ = ["POLICY", "listing", "notice"]

_STYLE: Final = (
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:42rem;margin:0 auto;padding:1.5rem}"
    "ul{list-style:none;padding:0}"
    "li{display:flex;flex-wrap:wrap;gap:.5rem 1rem;justify-content:space-between;align-items:center;"
    "border-top:1px solid;padding:1rem 0}"
    "h2{font-size:1.1rem;margin:0}p{margin:.25rem 0}"
    "button{font:inherit;padding:.5rem 1rem;min-height:2.75rem;cursor:pointer}"
    ".mark{font-weight:600}"
)
POLICY: Final = (
    "default-src 'none'; style-src 'sha256-"
    + b64encode(sha256(_STYLE.encode()).digest()).decode()
    + "'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
"""The Content-Security-Policy of every page here."""

Texts = Mapping[str, str]


def _page(lang: str, title: str, body: str) -> str:
    return (
        f'<!doctype html><html lang="{escape(lang)}"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>"
        f"<body><main><h1>{escape(title)}</h1>{body}</main></body></html>"
    )


def listing(
    devices: Sequence[Device], own: str, *, token: str, mount: str, done: int | None, lang: str, texts: Texts
) -> str:
    """The list. `own` is the handle of the session that asks, `done` how many sessions were just ended."""
    parts = [f"<p>{escape(texts['intro'])}</p>"]
    if done is not None:
        parts.append(f'<p role="status">{escape(_done(done, texts))}</p>')
    parts.append("<ul>" + "".join(_item(device, own, token, mount, texts) for device in devices) + "</ul>")
    if len(devices) > 1:
        parts.append(_form(mount, "end-others", token, texts["end_others"]))
    else:
        parts.append(f"<p>{escape(texts['nowhere_else'])}</p>")
    return _page(lang, texts["title"], "".join(parts))


def notice(title: str, text: str, link: tuple[str, str], *, lang: str) -> str:
    """A page that says one thing; `link` is where to go on, and what that is called."""
    where, name = link
    return _page(lang, title, f'<p>{escape(text)}</p><p><a href="{escape(where)}">{escape(name)}</a></p>')


def _done(number: int, texts: Texts) -> str:
    if number == 1:
        return texts["done_one"]
    return texts["done_many"].format(number=number) if number else texts["done_none"]


def _item(device: Device, own: str, token: str, mount: str, texts: Texts) -> str:
    name, at = device.browser or texts["unknown"], device.authenticated_at or device.created_at
    mark = f'<p class="mark">{escape(texts["this_device"])}</p>' if device.handle == own else ""
    place = f" {escape(texts['from'].format(address=device.address))}" if device.address else ""
    label = texts["end_label"].format(device=name, at=_words(at))
    return (
        f"<li><div><h2>{escape(name)}</h2>{mark}"
        f"<p>{escape(texts['signed_in'])} {_time(at)}{place}</p>"
        f"<p>{escape(texts['last_seen'])} {_time(device.last_seen_at)}</p></div>"
        f"{_form(mount, 'end', token, texts['end'], label=label, handle=device.handle)}</li>"
    )


def _form(mount: str, action: str, token: str, button: str, *, label: str = "", handle: str = "") -> str:
    named = f'<input type="hidden" name="handle" value="{escape(handle)}">' if handle else ""
    spoken = f' aria-label="{escape(label)}"' if label else ""
    return (
        f'<form method="post" action="{escape(mount)}/{action}">{named}'
        f'<input type="hidden" name="csrf_token" value="{escape(token)}">'
        f"<button{spoken}>{escape(button)}</button></form>"
    )


def _time(at: datetime) -> str:
    return f'<time datetime="{at.isoformat()}">{_words(at)}</time>'


def _words(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
