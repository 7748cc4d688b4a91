"""What connect-mongo's documents hold, and what is said to the server about them (wire formats 1.3).

    _id            the session id, or what `transform_id` makes of it
    session        its JSON text; with `stringify=False` a subdocument; with `crypto` a text of it that is encrypted
    expires        when it is over
    lastModified   with `touch_after`: when it was last written, or touched
    createdAt updatedAt   with `timestamps`

Each command is one document, atomic, and writes with the concern of our own store (`w: "majority", j: true`), where the package
takes whatever the client is set to.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from coatcheck.dialects.express._connect_mongo_bson import (
    UNREADABLE,
    Subdocument,
    composed,
    date,
    iso,
    milliseconds,
    plain,
    seconds,
)
from coatcheck.dialects.express.plain import dump, load
from coatcheck.dialects.express.ports import Entry
from coatcheck.errors import CorruptRecord, UsageError

__all__ = ["Crypto", "Document", "Documents", "Format", "touched_at"]

Document = dict[str, Any]

_TTL_INDEX: Final = "expires_1"
_LAST: Final = "lastModified"


class Crypto(Protocol):
    """An encryption of sessions: `ConnectMongo(crypto=…)`. See `connect_mongo_crypto`."""

    def encrypt(self, text: bytes) -> str:
        """What is stored for a session's JSON text."""
        ...

    def decrypt(self, stored: str) -> bytes:
        """The JSON text again. Raises CorruptRecord for what this secret and these options did not make."""
        ...


class Format(NamedTuple):
    """The options that say what a document holds."""

    ttl: float = 1_209_600.0
    touch_after: float = 0.0
    stringify: bool = True
    timestamps: bool = False
    transform_id: Callable[[str], str] | None = None
    crypto: Crypto | None = None

    # ---- reading

    def entry(self, document: Any) -> Entry:
        """A document that was found. Raises CorruptRecord for one that these options did not write."""
        try:
            session, last = document.get("session"), document.get(_LAST)
            ends = seconds(document.get("expires"))
        except UNREADABLE as error:
            raise CorruptRecord(f"what is stored is not BSON ({type(error).__name__})") from None
        text = self._text(session)
        if self.touch_after and seconds(last) is not None:
            text = _with_last(text, iso(last))
        return Entry(text, ends, session)

    def _text(self, session: Any) -> bytes:
        if self.crypto is not None:
            return self.crypto.decrypt(_a_text(session, "it is not encrypted, and crypto= is given"))
        if self.stringify:
            text = _a_text(session, "it is a subdocument: give stringify=False").encode()
            if not text.lstrip().startswith(b"{"):
                raise CorruptRecord(
                    "what is stored is not a JSON object: is it encrypted, and crypto= missing?"
                )
            return text
        if not isinstance(session, Subdocument):
            raise CorruptRecord("the session is no subdocument: leave out stringify=False")
        return dump(plain(session))

    # ---- writing

    def session(self, text: bytes, over: Entry | None = None) -> Any:
        """What is stored for a body."""
        if self.touch_after:
            text = _without_last(text)
        if self.crypto is not None:
            return self.crypto.encrypt(text)
        if self.stringify:
            return text.decode()
        return composed(load(text), None if over is None else over.stored)

    def mark(self, expires: float | None, now: float) -> Document:
        """When it is over."""
        return {"expires": date(now + self.ttl if expires is None else expires)}

    def fields(self, text: bytes, expires: float | None, now: float, over: Entry | None = None) -> Document:
        """All that a write sets."""
        last = {_LAST: date(now)} if self.touch_after else {}
        return {"session": self.session(text, over), **self.mark(expires, now), **last}

    def key(self, sid: str) -> str:
        """The `_id` of a session."""
        if self.transform_id is None:
            return sid
        key = self.transform_id(sid)
        if not isinstance(key, str):
            raise UsageError(f"transform_id: it must return a str, not {type(key).__name__}")
        return key


class Documents:
    """The commands on one collection."""

    def __init__(self, collection: str, form: Format, concern: Document) -> None:
        self.collection = collection
        self.form = form
        self._concern = concern
        self._patient: Document = {"w": "majority", "j": True}

    def find(self, sid: str, now: float) -> Document:
        """A session that lives."""
        return self._find({"_id": self.form.key(sid), **_lives(now)}, limit=1)

    def create(self, sid: str, text: bytes, expires: float | None, now: float) -> Document:
        """Write where nothing is that lives. What is over and still there is replaced as a whole.

        Where something lives the filter finds nothing, so that an insert is tried: a duplicate key.
        """
        key = self.form.key(sid)
        document = {"_id": key, **self.form.fields(text, expires, now)}
        times: Document = {}
        if self.form.timestamps:
            document["createdAt"], times = date(now), {"updatedAt": "$$NOW"}
        stages = [{"$replaceWith": {"$mergeObjects": [{"$literal": document}, times]}}]
        return self._update({"_id": key, "$nor": _lives(now)["$or"]}, stages, upsert=True)

    def replace(self, sid: str, text: bytes, over: Entry, expires: float | None, now: float) -> Document:
        """Write over exactly the session that was read, while it lives."""
        where = {"_id": self.form.key(sid), "session": {"$eq": over.stored}, **_lives(now)}
        return self._update(where, self._set(self.form.fields(text, expires, now, over)))

    def touch(self, sid: str, expires: float | None, now: float, *, last: bool) -> Document:
        """Move the mark of a session that lives; `last`: and when it was touched."""
        fields = self.form.mark(expires, now) | ({_LAST: date(now)} if last else {})
        return self._update({"_id": self.form.key(sid), **_lives(now)}, self._set(fields))

    def destroy(self, sid: str) -> Document:
        """Delete a session."""
        return self._delete({"_id": self.form.key(sid)}, limit=1)

    # ---- upkeep

    def names(self, after: str | None, now: float, limit: int) -> Document:
        """The next ids, in their order."""
        where = {"_id": {"$gte": ""} if after is None else {"$gt": after}, **_lives(now)}
        # Along _id whatever the planner thinks: by the index on expires it would sort all that live, at each step.
        return self._find(where, projection={"_id": 1}, sort={"_id": 1}, hint={"_id": 1}, limit=limit)

    def length(self, now: float) -> Document:
        """How many live."""
        return {"count": self.collection, "query": _lives(now)}

    def clear(self) -> Document:
        """Delete them all."""
        return self._delete({}, limit=0)

    def over(self, now: float, limit: int) -> Document:
        """The `_id`s of some that are over."""
        return self._find({"expires": {"$lte": date(now)}}, projection={"_id": 1}, limit=limit)

    def prune(self, keys: Sequence[Any], now: float) -> Document:
        """Delete those of these that are still over."""
        return self._delete({"_id": {"$in": keys}, "expires": {"$lte": date(now)}}, limit=0)

    def probe(self) -> Document:
        """A write that finds nothing: it needs the right to write, a primary and a majority, and leaves nothing behind."""
        return self._update({"_id": {"$in": []}}, {"$set": {"expires": date(0)}})

    def any_one(self) -> Document:
        """Some document, to see whose collection it is."""
        return self._find({}, projection={"session": 1, "expires": 1}, limit=1)

    def index(self) -> Document:
        """What has MongoDB itself delete what is over: just the index that the package makes."""
        index = {"name": _TTL_INDEX, "key": {"expires": 1}, "expireAfterSeconds": 0, "background": True}
        return {"createIndexes": self.collection, "indexes": [index], "writeConcern": self._patient}

    def indexes(self) -> Document:
        """Which indexes there are."""
        return {"listIndexes": self.collection, "cursor": {}}

    # ---- kinds of command

    def _set(self, fields: Document) -> Document:
        now = {"$currentDate": {"updatedAt": True}} if self.form.timestamps else {}
        return {"$set": fields, **now}

    def _find(self, where: Document, limit: int, **more: Any) -> Document:
        return {
            "find": self.collection,
            "filter": where,
            **more,
            "limit": limit,
            "batchSize": limit,
            "singleBatch": True,
        }

    def _update(
        self, where: Document, update: Document | list[Document], *, upsert: bool = False
    ) -> Document:
        return {
            "update": self.collection,
            "updates": [{"q": where, "u": update, "upsert": upsert}],
            "writeConcern": self._concern,
        }

    def _delete(self, where: Document, limit: int) -> Document:
        return {
            "delete": self.collection,
            "deletes": [{"q": where, "limit": limit}],
            "writeConcern": self._concern if limit else self._patient,
        }


def _lives(now: float) -> Document:
    """The package's own filter: without a mark of expiry, or before it."""
    return {"$or": [{"expires": {"$exists": False}}, {"expires": {"$gt": date(now)}}]}


def touched_at(text: bytes) -> int | None:
    """When a session was last modified, as `get` with `touch_after` has put it into the body. Milliseconds since the epoch."""
    return milliseconds(_an_object(text).get(_LAST))


def _a_text(session: Any, otherwise: str) -> str:
    if not isinstance(session, str):
        raise CorruptRecord("there is no session in it" if session is None else otherwise)
    return session


def _with_last(text: bytes, last: str | None) -> bytes:
    """The body with the key that the package puts into the session."""
    return dump({**_an_object(text), _LAST: last})


def _without_last(text: bytes) -> bytes:
    """The body without it, if JavaScript would call its value true."""
    if f'"{_LAST}"'.encode() not in text:
        return text
    body = _an_object(text)
    value = body.get(_LAST)
    if value is None or value is False or value == 0 or value == "":
        return text
    del body[_LAST]
    return dump(body)


def _an_object(text: bytes) -> dict[str, Any]:
    body = load(text)
    if not isinstance(body, dict):
        raise CorruptRecord("what is stored is not a JSON object")
    return body
