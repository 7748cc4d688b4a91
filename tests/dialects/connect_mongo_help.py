"""What the tests of connect-mongo's store share: sessions to write, and the verbs with a time and a lifetime filled in."""

import hashlib
import hmac
import time
from base64 import b64encode
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final
from urllib.parse import quote

from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument

from coatcheck.core.stepping import run_now
from coatcheck.dialects.express._connect_mongo_sessions import ConnectMongoSessions
from coatcheck.dialects.express.connect_mongo_crypto import Kruptein, WebCrypto
from coatcheck.dialects.express.ports import Entry
from tests.dialects.rig import body, data

Document = dict[str, Any]
SECRET: Final = "keyboard cat"
SQUIRREL: Final = "squirrel"
LIFE: Final = 600.0
AHEAD: Final = 7 * 86_400
"""Seconds: the server deletes by its own clock what is over, and a whole run takes longer than these sessions live."""
NOW: Final = float(int(time.time())) + AHEAD
RAW: Final[CodecOptions[RawBSONDocument]] = CodecOptions(document_class=RawBSONDocument)


@cache
def kruptein() -> Kruptein:
    return Kruptein(secret=SQUIRREL)


@cache
def web(**options: Any) -> WebCrypto:
    return WebCrypto(secret=SQUIRREL, iterations=1_000, **options)


def upside(sid: str) -> str:
    return sid[::-1]


def cookie(sid: str) -> str:
    """The browser's cookie of a session that began here."""
    signature = b64encode(hmac.digest(SECRET.encode(), sid.encode(), hashlib.sha256)).decode().rstrip("=")
    return f"connect.sid={quote(f's:{sid}.{signature}', safe='')}"


def get(store: ConnectMongoSessions, sid: str, now: float = NOW) -> Entry | None:
    return run_now(store.get(sid, now=now))


def lives(store: ConnectMongoSessions, sid: str, now: float = NOW) -> Entry:
    entry = get(store, sid, now)
    assert entry is not None
    return entry


def create(
    store: ConnectMongoSessions, sid: str = "sid", now: float = NOW, life: float | None = LIFE, **fields: Any
) -> object:
    end = None if life is None else now + life
    return run_now(store.create(sid, body(end, now=now, **fields), expires=end, now=now))


def replace(store: ConnectMongoSessions, sid: str, over: Entry, now: float = NOW, **changes: Any) -> object:
    """Change some of what was read, as a request does that also moves the end."""
    fields = data(over.text) | changes
    text = body(now + LIFE, now=now, **fields)
    return run_now(store.replace(sid, text, over=over, expires=now + LIFE, now=now))


def touch(store: ConnectMongoSessions, sid: str, over: Entry, now: float) -> None:
    run_now(store.touch(sid, over.text, expires=now + LIFE, now=now))


def moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def in_iso(moment: datetime) -> str:
    """As JavaScript writes a date."""
    return moment.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"
