"""connect-mongo's sessions: its documents, in place, with every option of its that says what they hold (wire formats 1.3).

Read and written as version 4 to 6 of the package do, and safely beside it: a write is `create`, which writes only where no
session lives, or `replace`, which writes only over exactly the `session` that was read. Both are one command each. The
package's own `set` writes over whatever is there, whoever wrote it.

What is otherwise than there: a `touch` of a session that is gone is no error; what has expired and is still there is not brought
back by a touch, and written over by a `create`; `length` counts what lives; with `crypto` a session that is not encrypted is not
taken; writes are acknowledged by a majority; closing the store leaves a client open that was handed in.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final, Literal

from pymongo import AsyncMongoClient, MongoClient

from coatcheck.core.outage import Outage
from coatcheck.core.policy import seconds
from coatcheck.dialects.express._connect_mongo_bson import CODEC
from coatcheck.dialects.express._connect_mongo_documents import Crypto, Documents, Format
from coatcheck.dialects.express._connect_mongo_sessions import ConnectMongoSessions
from coatcheck.errors import ConfigurationError
from coatcheck.stores._health import ConnectionEvent
from coatcheck.stores._mongo_link import MongoLink, check_collection

__all__ = ["ConnectMongo", "Crypto"]

AutoRemove = Literal["native", "interval", "disabled"]

_REMOVES: Final = ("native", "interval", "disabled")
_MOST_MINUTES: Final = 71_582
_DEFAULT_DATABASE: Final = "test"
"""Where Node's driver goes if nobody says where."""


class ConnectMongo:
    """The sessions of `MongoStore.create({mongoUrl, …})`.

    `url_or_client`: a `mongodb:` or `mongodb+srv:` URL; or the application's own `MongoClient` for the sync face, or
    `AsyncMongoClient` for event loops. `db_name`: the database; the one in the URL if it is left out, or else "test", as in Node.
    `collection_name`: "sessions", as there.

    `ttl`: seconds for which a session is kept whose cookie has no end; 1209600, two weeks. `touch_after`: seconds for which a
    session is not touched again; 0, always. With it, the body has a key `lastModified`, as in Node; here it is text.
    `stringify`: False for sessions that are subdocuments. `timestamps`: also keep `createdAt` and `updatedAt`.
    `transform_id`: what makes the `_id` of a session id. `crypto`: `Kruptein(…)` for the package's option `crypto`, or
    `WebCrypto(…)` for its `createWebCryptoAdapter`. All must be as they are in the Node application. Its `serialize` and
    `unserialize` are functions of JavaScript, and have no counterpart.

    `auto_remove`: "native": `setup` makes the index by which MongoDB deletes what is over. "interval": it is deleted by `prune`,
    which whoever does the housekeeping calls every `prune_every` seconds (from `auto_remove_interval`, in *minutes*, 10).
    "disabled": by nobody. A Node application that is running sees to it either way.

    `outage`: how long to wait for the server, and when to stop asking; over a client, its time-outs are its own.
    `on_connection`: called with the news that the server was reached, lost, and is back.

    Nothing is connected yet. Raises ConfigurationError for an option that is none.
    """

    def __init__(
        self,
        url_or_client: "str | MongoClient[Any] | AsyncMongoClient[Any]",
        *,
        db_name: str | None = None,
        collection_name: str = "sessions",
        ttl: float | timedelta = 1_209_600,
        auto_remove: AutoRemove = "native",
        auto_remove_interval: float = 10,
        touch_after: float | timedelta = 0,
        stringify: bool = True,
        timestamps: bool = False,
        transform_id: Callable[[str], str] | None = None,
        crypto: Crypto | None = None,
        outage: Outage | None = None,
        on_connection: Callable[[ConnectionEvent], None] | None = None,
    ) -> None:
        if auto_remove not in _REMOVES:
            raise ConfigurationError(f"auto_remove={auto_remove!r} is none of {', '.join(_REMOVES)}")
        self._native = auto_remove == "native"
        self.prune_every = _period(auto_remove_interval) if auto_remove == "interval" else None
        """Seconds after which `prune` is due again; None where nobody has to call it."""
        form = Format(
            ttl=seconds(ttl, setting="ttl"),
            touch_after=seconds(touch_after, setting="touch_after") if touch_after else 0.0,
            stringify=_flag("stringify", stringify),
            timestamps=_flag("timestamps", timestamps),
            transform_id=_callable(transform_id),
            crypto=_cipher(crypto),
        )
        make = MongoLink.of_url if isinstance(url_or_client, str) else MongoLink.of_client
        self._link = make(
            "ConnectMongo",
            url_or_client,  # type: ignore[arg-type]  # each takes its own
            db_name,
            outage,
            default=_DEFAULT_DATABASE,
            on_connection=on_connection,
            codec=CODEC,
        )
        collection = check_collection(collection_name, setting="collection_name")
        self._say = Documents(collection, form, self._link.concern)
        self._blocking: ConnectMongoSessions | None = None
        self._awaiting: ConnectMongoSessions | None = None

    @classmethod
    def from_url(cls, url: str, *, outage: Outage | None = None, **options: Any) -> "ConnectMongo":
        """The store that a URL names. `options` as of the class."""
        return cls(url, outage=outage, **options)

    def __repr__(self) -> str:
        return f"<ConnectMongo {self._link.name} {self._say.collection}>"

    def blocking(self) -> ConnectMongoSessions:
        """The store whose methods never suspend: for the sync face. Raises WrongFace over an AsyncMongoClient."""
        if self._blocking is None:
            self._blocking = self._over(self._link.blocking())
        return self._blocking

    def awaiting(self) -> ConnectMongoSessions:
        """The store for event loops. Raises WrongFace over a MongoClient, which would block them."""
        if self._awaiting is None:
            self._awaiting = self._over(self._link.awaiting())
        return self._awaiting

    def _over(self, client: Any) -> ConnectMongoSessions:
        return ConnectMongoSessions(client, self._say, self._link.name, native=self._native)

    def close(self) -> None:
        """Close what the sync face opened. The application's own client stays open."""
        self._link.close()

    async def aclose(self) -> None:
        """Close what this event loop opened, and what the sync face did."""
        await self._link.aclose()

    def __enter__(self) -> "ConnectMongo":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> "ConnectMongo":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


# ------------------------------------------------------------------------------------------------------------------ options


def _period(minutes: float) -> float:
    """Minutes in seconds; at most what the package takes, which is what JavaScript's timers can count."""
    if type(minutes) not in (int, float) or not 0 < minutes <= _MOST_MINUTES:
        raise ConfigurationError(
            f"auto_remove_interval={minutes!r}: give minutes, more than 0 and at most {_MOST_MINUTES}"
        )
    return minutes * 60.0


def _flag(setting: str, value: bool) -> bool:
    if type(value) is not bool:
        raise ConfigurationError(f"{setting}={value!r}: give True or False")
    return value


def _callable(function: Callable[[str], str] | None) -> Callable[[str], str] | None:
    if function is not None and not callable(function):
        raise ConfigurationError(f"transform_id={function!r}: give a function from a str to a str")
    return function


def _cipher(crypto: Crypto | None) -> Crypto | None:
    if crypto is not None and not (hasattr(crypto, "encrypt") and hasattr(crypto, "decrypt")):
        raise ConfigurationError(
            "crypto=…: give Kruptein(secret=…) or WebCrypto(secret=…) of coatcheck.dialects.express.connect_mongo_crypto"
        )
    return crypto
