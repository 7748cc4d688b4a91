"""The session a handler sees in the express dialect: a dict of JSON values, and express-session's verbs. No store, no clock here.

What was loaded is kept as it stood, key by key, so that a value that nobody changed is written back as it came: Node writes other
JSON for the same data.
"""

from collections.abc import Callable, Iterator, Mapping, MutableMapping
from enum import Enum
from typing import Any, Final

import msgspec
from msgspec import Raw

from coatcheck.core.session import UserId, user_text
from coatcheck.dialects.express import plain
from coatcheck.dialects.express.cookie import Cookie
from coatcheck.dialects.express.ports import Entry
from coatcheck.errors import CorruptRecord, TooLate, UsageError

__all__ = ["BaseSession", "Parts", "Phase", "parted"]

Parts = Mapping[str, bytes]
"""Top-level keys of a body and their JSON text, in order."""
_SPLIT: Final = msgspec.json.Decoder(dict[str, Raw]).decode


class Phase(Enum):
    """How far the response is."""

    OPEN = "open"
    STREAMING = "streaming"
    """The headers have left: data may change, the cookie may not."""
    DONE = "done"


def parted(text: bytes) -> dict[str, bytes]:
    """A body, key by key. Raises CorruptRecord for what is no JSON object."""
    try:
        return {key: bytes(part) for key, part in _SPLIT(text).items()}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        body = plain.load(text)  # half a surrogate pair is JSON too, and Node writes it
    if type(body) is not dict:
        raise CorruptRecord("the session's body is no JSON object")
    return {key: plain.dump(value) for key, value in body.items()}


class BaseSession(MutableMapping[str, Any]):
    """The data of a session: keys are text, values what JSON has. `cookie` is beside them, as in express-session."""

    _sid: str
    _cookie: Cookie

    def __init__(self, now: Callable[[], int]) -> None:
        """One that is not looked up yet: see `_begin` and `_resume`. `now` tells milliseconds since the epoch."""
        self._now = now
        self._cookie_sid: str | None = None
        """The id that the request's cookie named, if there is such a session."""
        self._first_sid, self._first_parts = "", dict[str, bytes]()
        """What it was when the request came: what counts as modified is told from that (semantics 4.2)."""
        self._entry: Entry | None = None
        """What is stored of it."""
        self._is_own = False
        """Whether that is what this request wrote."""
        self._is_destroyed = False
        self._loaded, self._data = dict[str, bytes](), dict[str, Any]()
        self._phase, self._accessed, self._secure = Phase.OPEN, False, False
        self._saved: dict[str, bytes] | None = None
        """What the last save has written, which need not be written again; None: nothing of this id yet."""
        self._saved_explicitly = False
        self._announced: dict[str, Any] = {}
        """Its cookie when the headers left."""
        self._touched = False
        """Its lifetime counts anew from this response on: once a response (semantics 6.4)."""

    def _begin(self, sid: str, cookie: Cookie) -> None:
        """Be an empty session, that nothing is stored of."""
        self._sid, self._entry, self._loaded, self._data = sid, None, {}, {}
        self._is_destroyed, self._is_own, self._saved = False, False, None
        self._bear(cookie)

    def _resume(self, sid: str, entry: Entry, *, resave: bool) -> None:
        """Be the session that the request's cookie names. Raises CorruptRecord."""
        self._take_up(entry)
        self._sid = self._cookie_sid = self._first_sid = sid
        self._first_parts = {key: part for key, part in self._loaded.items() if key != "cookie"}
        self._saved = None if resave else self._first_parts

    def _bear(self, cookie: Cookie) -> None:
        cookie.tell_time(self._now)
        self._cookie = cookie

    def _take_up(self, entry: Entry) -> None:
        """Be what a store holds. Raises CorruptRecord, and then nothing has changed."""
        parts = parted(entry.text)
        cookie = Cookie.loaded(plain.load(parts["cookie"]) if "cookie" in parts else None)
        cookie.believe(entry.expires, self._now())
        data = {key: plain.load(part) for key, part in parts.items() if key not in plain.RESERVED}
        self._entry = entry
        self._loaded, self._data, self._is_own = parts, data, False
        self._bear(cookie)

    # ---- a dict

    def _open(self) -> dict[str, Any]:
        self._accessed = True
        return self._data

    def _change(self) -> dict[str, Any]:
        self._accessed = True
        if self._is_destroyed:
            raise UsageError("this session was destroyed: regenerate() begins a new one")
        if self._phase is Phase.DONE:
            raise TooLate(
                "the response has ended: this change would be lost; change the session before you return"
            )
        if self._phase is Phase.STREAMING and self._entry is None:
            raise TooLate(
                "a new session after the response's headers have left: store something in it before you stream"
            )
        return self._data

    def __getitem__(self, key: str) -> Any:
        return self._open()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        plain.check(key, value)
        self._change()[key] = value

    def __delitem__(self, key: str) -> None:
        del self._change()[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._open())

    def __len__(self) -> int:
        return len(self._open())

    def __contains__(self, key: object) -> bool:
        return key in self._open()

    def __repr__(self) -> str:
        """Without the id, which is the cookie's secret, and without the data."""
        return f"<{type(self).__name__} {'destroyed' if self._is_destroyed else 'new' if self.is_new else 'stored'}>"

    # ---- what it is

    @property
    def id(self) -> str:
        """The session's id. Whoever knows it and the secret has the session: show it to nobody."""
        self._accessed = True
        return self._sid

    @property
    def cookie(self) -> Cookie:
        """Its lifetime, in milliseconds, and where its cookie goes: kept with it."""
        self._accessed = True
        return self._cookie

    @property
    def is_new(self) -> bool:
        """True if nothing is stored of it yet."""
        return self._entry is None

    @property
    def modified(self) -> bool:
        """Whether the data are others than when the request came, or the session is another (semantics 4.2)."""
        return self._sid != self._first_sid or list(self._parts().items()) != list(self._first_parts.items())

    def touch(self) -> None:
        """Count its lifetime anew from now (semantics 7.5); each response does that by itself."""
        self._change()
        self._cookie.touch(self._now())

    # ---- conventions of the Node world

    @property
    def user_id(self) -> Any:
        """Whose session this is, as Passport keeps it: `passport.user`, whatever JSON that is. None without a login."""
        passport = self._open().get("passport")
        return passport.get("user") if type(passport) is dict else None

    @staticmethod
    def _passport(user_id: UserId) -> dict[str, Any]:
        """What Passport keeps of a login. Raises UsageError, UnstorableValue: in time, before anything is destroyed."""
        user_text(user_id)
        passport = {"user": user_id if type(user_id) is int else str(user_id)}
        plain.check("passport", passport)
        return passport

    def flash(self, message: str, category: str = "message") -> None:
        """Leave a message for the next page, as connect-flash keeps them: `flash: {category: [message, …]}`."""
        queues = self.get("flash")
        queues = queues if type(queues) is dict else {}
        queue = queues.get(category)
        self["flash"] = {**queues, category: [*queue, message] if type(queue) is list else [message]}

    def flashes(self) -> list[tuple[str, str]]:
        """The messages left so far, as (category, message), and forget them."""
        queues = self.get("flash")
        if type(queues) is not dict or not queues:
            return []
        self["flash"] = {}
        return [
            (category, message)
            for category, queue in queues.items()
            for message in (queue if type(queue) is list else [queue])
        ]

    # ---- for the flow

    def _parts(self) -> dict[str, bytes]:
        """The data as they would be written, key by key. Raises UnstorableValue for what was put into a value in place."""
        return {key: self._part(key, value) for key, value in self._data.items()}

    def _part(self, key: str, value: Any) -> bytes:
        was = self._loaded.get(key)
        if was is not None and _says(was, value):
            return was
        plain.check(key, value)
        return plain.dump(value)

    def _settle(self, text: bytes, parts: dict[str, bytes], expires: float | None) -> None:
        """It was written so."""
        self._entry, self._is_own = Entry(text, expires), True
        self._loaded, self._saved = parted(text), parts

    def _rebase(
        self, current: Entry, theirs: dict[str, bytes], merged: Mapping[str, bytes], cookie: Cookie
    ) -> None:
        """Another writer was first: be what is stored now, with our changes on top. What the handler holds stays as it is, where
        nobody else changed it."""
        mine = self._parts()
        self._data = {
            key: self._data[key] if mine.get(key) == part else plain.load(part)
            for key, part in merged.items()
        }
        self._entry, self._loaded, self._is_own = current, theirs, False
        if not self._cookie.changed:
            self._bear(cookie)

    def _end(self) -> None:
        """Nothing is stored of it any more, and nothing will be."""
        self._is_destroyed, self._entry, self._data, self._loaded = True, None, {}, {}

    def _text(self) -> bytes:
        """The body: `cookie` where it stood, or first, as Node begins it."""
        parts = self._parts()
        cookie = plain.dump(self._cookie.dump())
        if "cookie" in self._loaded:
            order = [key for key in self._loaded if key == "cookie" or key in parts]
            before = order[: order.index("cookie")]
        else:
            before = []
        whole = {**{key: parts[key] for key in before}, "cookie": cookie, **parts}
        return b"{" + b",".join(plain.dump(key) + b":" + part for key, part in whole.items()) + b"}"


def _says(text: bytes, value: Any) -> bool:
    """Whether a JSON text says this value, however it spells it: a value like that was not changed."""
    try:
        mine = plain.dump(value)
    except (TypeError, ValueError, RecursionError):
        return False
    return mine == text or mine == plain.dump(plain.load(text))
