"""What the tests of connect-redis's sessions share: a store of ours, and a Node application beside it."""

from base64 import b64decode, b64encode
from collections.abc import Callable
from hmac import digest
from itertools import count
from secrets import token_hex
from typing import Any, Final
from urllib.parse import quote

from coatcheck.dialects.express.connect_redis import ConnectRedis
from coatcheck.dialects.express.plain import dump, load
from coatcheck.dialects.express.ports import Entry
from servers import Server
from tests.dialects.node import NodeApp
from tests.dialects.rig import Place, iso, on
from tests.patience import PATIENT
from tests.stores.redis_help import raw

NUMBERS: Final = count()
SECRET: Final = "squirrel"
NOW_MS: Final = 1_800_000_000_123
NOW: Final = NOW_MS / 1000
MINUTES: Final = 600_000


class Base64:
    """A serializer that is none of ours, and writes the same another time otherwise, as one that encrypts does."""

    def dumps(self, session: dict[str, Any]) -> str:
        return f"{token_hex(4)}.{b64encode(dump(session)).decode()}"

    def loads(self, text: str) -> Any:
        return load(b64decode(text.partition(".")[2], validate=True))


OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "prefix": {"prefix": "an app's [sessions]*:"},
    "no prefix": {"prefix": ""},
    "ttl": {"ttl": 77},
    "ttl function": {"ttl": lambda session: session["keep"]},
    "disable_ttl": {"disable_ttl": True},
    "disable_touch": {"disable_touch": True},
    "serializer": {"serializer": Base64()},
    "all": {"prefix": "x{y}:", "ttl": 77, "disable_ttl": True, "disable_touch": True, "scan_count": 3},
}
NAMES: Final = {"disable_ttl": "disableTTL", "disable_touch": "disableTouch", "scan_count": "scanCount"}


def fresh() -> str:
    """A prefix that no other test has, and that is a pattern too: `sess[1]*?` means other keys than these."""
    return f"sess[{next(NUMBERS)}]*?\\^-:"


def place(server: Server, **options: Any) -> Place:
    """A store under a prefix of its own. Redis counts the time itself, so time that passes is taken from the key."""
    prefix = options.pop("prefix", None) or fresh()
    options.setdefault("outage", PATIENT)

    def later(sid: str, seconds: float) -> None:
        with raw(server) as client:
            left = client.pttl(prefix + sid)
            if left >= 0:
                client.pexpire(prefix + sid, int(left - seconds * 1000))

    def opened() -> ConnectRedis:
        return ConnectRedis.from_url(server.url, prefix=prefix, **options)

    ttl = options.get("ttl", 86_400)
    default = 86_400 if callable(ttl) else ttl
    ends = not options.get("disable_ttl")
    return Place(open=opened, later=later, slack=60, ends=ends, default=default)


class Sides:
    """A Node application and a Python store with the same options over the same server."""

    def __init__(self, url: str, options: dict[str, Any]) -> None:
        self.url, self.options = url, options
        plain = {NAMES.get(name, name): value for name, value in options.items() if not _is_code(value)}
        store: dict[str, Any] = {"kind": "connect-redis", "url": url, "options": plain}
        if callable(options.get("ttl")):
            store["ttlOf"] = "keep"
        if "serializer" in options:
            store["base64"] = True
        session = {
            "secret": SECRET,
            "resave": False,
            "saveUninitialized": False,
            "cookie": {"maxAge": MINUTES},
        }
        self.node = NodeApp.start(store, session=session)
        self.place = Place(open=lambda: ConnectRedis.from_url(url, outage=PATIENT, **options))

    def python(self, face: str, work: Callable[[Any], Any]) -> Any:
        """Do something with our store."""
        return on(face, self.place, work)

    @property
    def database(self) -> int:
        return int(self.url.rpartition("/")[2])

    def key(self, sid: str) -> str:
        return str(self.options.get("prefix", "sess:")) + sid


def _is_code(value: Any) -> bool:
    return callable(value) or isinstance(value, Base64)


def signed(sid: str) -> str:
    """The cookie of this id."""
    mac = b64encode(digest(SECRET.encode(), sid.encode(), "sha256")).decode().rstrip("=")
    return "connect.sid=" + quote(f"s:{sid}.{mac}", safe="-_.!~*'()")


def text(life: int | None = MINUTES, now: int = NOW_MS, **fields: Any) -> bytes:
    end = None if life is None else iso((now + life) / 1000)
    return dump(
        {
            "cookie": {"originalMaxAge": life, "expires": end, "httpOnly": True, "path": "/"},
            "keep": 500,
            **fields,
        }
    )


def end(life: int | None = MINUTES, now: int = NOW_MS) -> float | None:
    return None if life is None else (now + life) / 1000


async def change(store: Any, sid: str, **fields: Any) -> Any:
    """A request of ours that changes something, and touches the cookie as express-session does."""
    read = await store.get(sid, now=NOW)
    return await store.replace(sid, rewritten(read, **fields), over=read, expires=end(), now=NOW)


def rewritten(read: Entry, **fields: Any) -> bytes:
    body = load(read.text)
    body["cookie"]["expires"] = iso((NOW_MS + MINUTES) / 1000)
    return dump({**body, **fields})
