"""Sessions in MongoDB, 4.4 or newer: a replica set, or one server by itself.

Written once, as coroutines that await nothing but a client (`_mongo_client`). What is said to the server, and what a stored
document holds, is in `_mongo_commands`.

Every write is acknowledged by a majority of the replica set and in its journal (`w: "majority", j: true`), every read asks the
primary for what it has now. So what was acknowledged survives the death of any minority, and a load after it sees it. The one
exception: a primary that has been cut off and has not noticed, for up to ten seconds, may still answer *reads* with what it had
(it can acknowledge no write). `linearizable` reads would rule that out, at the price of a majority's round trip for each request.
`majority` reads would not, and would hide what this session's own requests have just written.

**Atomic, one command** where nobody else was first: `load`, `create`, `replace`, `touch`, `delete`, `end_one`. Where somebody
was, a second command reads who, so that the answer is what was there after the refusal. Versions are never used twice, so nothing
that comes between the two makes a write happen that should not. A write that changes nothing is acknowledged by a majority too:
a repetition that finds the first try's version there can rely on it.

**A series of commands: `admit`.** A document of MongoDB is atomic, two of them are not, and a standalone server has no
transactions. So a login is prepared where nobody but logins and `end_user` looks, and becomes the session in one command at the
end:

    1. claim    over `expected`: note on the session that this login is under way, and for whom
    2. stamp    on the user's document: take the user's next count, and read fence and server's clock (`elapsed` after that)
       FENCED?  by the fence as it was then: the claim is called off
       FULL?    with `evict=False`: read the user's sessions and claims; those that live, and those in line before this one, count
    3. promote  over `expected`, and only if the claim is still there: the record is written, with its count. SAVED
    4. evict    with a limit: read the user's sessions, and end those beyond it, in the order of their counts

**And `end_user`**: (a) raise the fence, (b) call off every claim for the user, (c) end every session of the user.

Why no older login survives: one whose stamp comes after (a) is FENCED. One whose stamp comes before (a) had its claim before
(b): either (b) calls it off, and it starts again at 1, to be FENCED; or it was promoted before (b) came to it, and (c), which
begins later, ends it. (b) and (c) miss no document: they walk along an index of nothing but the user, in which no write moves an
entry. A login that began after the fence may lose its claim to (b) too; it starts again and passes.

What a crash, or a lost reply, leaves in between: after 1 or 2 a claim, which nobody sees, and where there was no session a
document that is none; it is collected after an hour, or by a sweep. After 3 a login that was not answered for, as with any write;
and one session too many, until the next login. After (a) or (b): logins under way are over, the sessions are not; whoever
called `end_user` was told so, by an exception, and calls again.

Where there is no session yet, and several logins are to begin the same one (first requests that adopt one old session), their
claims stand side by side: the first that is promoted begins it, the others find it there. None clears another's claim away, or
they would do so in turns.

The limit: counts put a user's logins in one order, whoever writes first. A session is evicted only if as many as the limit have
greater counts, so the greatest always stay, and each login, once written, ends what is beyond. Of twenty at once exactly three
are left of three; one that was overtaken may be among its own victims: it logged in, and was then evicted by those after it.
"""

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from pymongo import AsyncMongoClient, MongoClient

from coatcheck.core.outage import Outage
from coatcheck.core.ports import (
    FENCED,
    FULL,
    NO_TALLY,
    SAVED,
    TAKEN,
    EndedAll,
    Notice,
    Outcome,
    Page,
    Tally,
    Terms,
    Walked,
)
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.errors import (
    ConfigurationError,
    ReplyLost,
    StoreError,
    StoreUnavailable,
)
from coatcheck.stores._alike import cursor_at, not_over, place_of, walked
from coatcheck.stores._health import ConnectionEvent
from coatcheck.stores._mongo_client import DUPLICATE, Client
from coatcheck.stores._mongo_commands import Document, Phrases, changed, found, many, row_of
from coatcheck.stores._mongo_link import MongoLink, check_collection
from coatcheck.stores._rows import Written, expired, judge, readable, written

__all__ = ["MongoSessions", "MongoStore"]

_logger: Final = logging.getLogger("coatcheck")

ATTEMPTS: Final = 100
"""How often a method starts again because somebody came between its commands: each time somebody got further."""
SWEEP_STEP: Final = 1000
"""Documents that one round of a sweep looks at."""
PAGE_BYTES: Final = 8_000_000
"""The server ends an answer at 16 MB: after so much, what is missing may be on the next page."""
_NO_INDEXES: Final = 26
_OTHER_INDEXES: Final = (85, 86)


class MongoStore:
    """Sessions in a MongoDB database, over the application's own client: a `MongoClient` for the sync face, or an
    `AsyncMongoClient` for event loops. `from_url` makes a client of either kind, as each face asks for it.

    `database`: the name of the database; the one in the client's URL if it is left out, or else "coatcheck".
    `collection`: where the sessions are; what is kept for each user is in the same name with `_users` after it.
    `outage`: when to stop asking a server that does not answer. The client's time-outs are its own.
    `on_connection`: called with the news that the server was reached, lost, and is back.

    Nothing is connected yet. `setup()` of either face makes the indexes; without them everything works, but nothing is collected
    unless `sweep` is called, and whatever is asked by user walks over all sessions.

    Raises ConfigurationError for a name that MongoDB does not take.
    """

    def __init__(
        self,
        client: "MongoClient[Any] | AsyncMongoClient[Any]",
        *,
        database: str | None = None,
        collection: str = "coatcheck_sessions",
        outage: Outage | None = None,
        on_connection: Callable[[ConnectionEvent], None] | None = None,
    ) -> None:
        self._prepare(
            MongoLink.of_client("MongoStore", client, database, outage, on_connection=on_connection),
            collection,
        )

    @classmethod
    def from_url(
        cls,
        url: str,
        *,
        outage: Outage | None = None,
        collection: str = "coatcheck_sessions",
        on_connection: Callable[[ConnectionEvent], None] | None = None,
    ) -> "MongoStore":
        """The store in the database that a `mongodb:` or `mongodb+srv:` URL names, "coatcheck" if it names none.

        The URL's options are the driver's (`replicaSet=`, `tls=`, `authSource=`, `maxPoolSize=` …), but time-outs are `outage`'s,
        and what would weaken a promise (`w=`, `readPreference=`, `readConcernLevel=`) changes nothing.

        Raises ConfigurationError for a URL that is none, naming what is wrong with it.
        """
        store = cls.__new__(cls)
        store._prepare(
            MongoLink.of_url("MongoStore", url, None, outage, on_connection=on_connection), collection
        )
        return store

    def _prepare(self, link: MongoLink, collection: str) -> None:
        self._phrases = Phrases(check_collection(collection), link.concern)
        self._link = link
        self._blocking: MongoSessions | None = None
        self._awaiting: MongoSessions | None = None

    def __repr__(self) -> str:
        return f"<MongoStore {self._link.name} {self._phrases.sessions}>"

    def blocking(self) -> "MongoSessions":
        """The store whose methods never suspend: for the sync face. Raises WrongFace over an AsyncMongoClient."""
        if self._blocking is None:
            self._blocking = MongoSessions(self._link.blocking(), self._phrases, self._link.name)
        return self._blocking

    def awaiting(self) -> "MongoSessions":
        """The store for event loops. Raises WrongFace over a MongoClient, which would block them."""
        if self._awaiting is None:
            self._awaiting = MongoSessions(self._link.awaiting(), self._phrases, self._link.name)
        return self._awaiting

    def close(self) -> None:
        """Close what the sync face opened. The application's own client stays open."""
        self._link.close()

    async def aclose(self) -> None:
        """Close what this event loop opened, and what the sync face did."""
        await self._link.aclose()

    def __enter__(self) -> "MongoStore":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> "MongoStore":
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


class MongoSessions:
    """What `MongoStore` hands to a face: `Store`, `ByUser`, `Sweeps`, `Counts`, `Checks`, `Watches` and `SetsUp`."""

    def __init__(self, client: Client, phrases: Phrases, name: str) -> None:
        self._client = client
        self._say = phrases
        self._name = name

    # -------------------------------------------------------------------------------------------- the five verbs

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        batch = (await self._client.run(self._say.find(key), True))["cursor"]["firstBatch"]
        if not batch:
            return None
        row = row_of(batch[0])
        there = judge(key, row, now)
        if (
            there is not None or batch[0].get("k") == 0
        ):  # of k 0: a login is under way, and will yet be looked for
            return there
        return await self._present(key, now) or expired(key, row)

    async def create(self, record: Record, *, now: float) -> Outcome:
        command = self._say.insert
        for _ in range(ATTEMPTS):
            if changed(await self._client.run(command(written(record), now))):
                return SAVED
            there = await self._present(record.key, now)
            if (refusal := _not_created(there, record)) is not None:
                return refusal
        raise self._overtaken()

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        row = written(record)
        write = self._say.overwrite if may_shorten else self._say.replace
        for _ in range(ATTEMPTS):
            if changed(await self._client.run(write(row, expected, now))):
                return SAVED
            there = await self._present(record.key, now)
            if (refusal := not_over(there, record, expected)) is not None:
                return refusal
            if not may_shorten:
                write = self._say.forward
        raise self._overtaken()

    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        return changed(await self._client.run(self._say.touch(key, deadline, seen_at, expected, now)))

    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        only = {} if expected is None else {"v": expected}
        ended = changed(await self._client.run(self._say.end(key, token, now, **only)))
        return ended or await self._is_own(key, now, token)

    # --------------------------------------------------------------------------------------------------- by user

    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        """Write a record that begins a login, all or nothing: see the module, and `coatcheck.core.ports.ByUser`."""
        user_id = record.user_id
        if user_id is None:  # nobody's: there is no fence and no limit
            if expected is None:
                return await self.create(record, now=now)
            return await self.replace(record, expected=expected, now=now, may_shorten=True)
        outcome = await self._log_in(record, written(record), user_id, expected, terms, now)
        if outcome is SAVED and terms.limit is not None and terms.evict:
            await self._evict(record, user_id, terms.limit, now)
        return outcome

    async def _log_in(
        self, record: Record, row: Written, user_id: str, expected: str | None, terms: Terms, now: float
    ) -> Outcome:
        """Steps 1 to 3, again where another login or an `end_user` came between."""
        version, in_line = record.versions[0], terms.limit is not None and not terms.evict
        for _ in range(ATTEMPTS):
            if (refusal := await self._claim(record, user_id, expected, now)) is not None:
                return refusal
            user = (await self._client.run(self._say.stamp(user_id, version, in_line)))["value"]
            if _is_fenced(user, terms):
                return await self._call_off(record, expected, FENCED)
            if in_line and await self._is_full(record, user_id, user, terms, now):
                return await self._call_off(record, expected, FULL)
            if changed(await self._client.run(self._say.promote(row, expected, user["t"], now))):
                return SAVED
        raise self._overtaken()

    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        """The live sessions of a user, newest login first. Raises UsageError for a cursor that is none of ours."""
        before = None if cursor is None else place_of(cursor)
        documents = many(await self._client.run(self._say.list_of(user_id, now, before, limit), True))
        page = documents[: max(limit, 0)]
        more = page and (len(documents) > len(page) or sum(map(_size, page)) > PAGE_BYTES)
        rows = [(document["_id"], document.get("l"), *row_of(document)) for document in page]
        return Page(readable(rows, now), cursor_at(page[-1]["l"], page[-1]["_id"]) if more else None)

    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        """Raise the user's fence, then end every session of theirs but the one with key `keep`."""
        user = (await self._client.run(self._say.raise_fence(user_id)))["value"]
        await self._client.run(self._say.call_off_all(user_id, now))
        ended = await self._client.run(self._say.end_all(user_id, keep, now, token))
        return EndedAll(ended["n"], _seconds(user["f"]))

    async def end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        """End one session, only while it belongs to this user."""
        ended = changed(await self._client.run(self._say.end(key, token, now, u=user_id)))
        return ended or await self._is_own(key, now, token)

    # -------------------------------------------------------------------------------------------------- counters

    async def tally(
        self, key: str, *, window: float, now: float, amount: int = 1, prolong: bool = False
    ) -> Tally:
        """Add to a counter: see `coatcheck.core.ports.Tallies`."""
        command = self._say.tally(key, amount, now, now + window, prolong)
        for _ in range(ATTEMPTS):
            try:
                there = (await self._client.run(command))["value"]
            except StoreError as error:
                if _code(error) != DUPLICATE:  # two began it at once: the second adds to it
                    raise
            else:
                return Tally(int(there["n"]), there["u"])
        raise self._overtaken()

    async def tallied(self, key: str, *, now: float) -> Tally:
        """What a counter says."""
        there = found(await self._client.run(self._say.tallied(key, now), True))
        return NO_TALLY if there is None else Tally(int(there["n"]), there["u"])

    async def end_tally(self, key: str) -> None:
        """Forget a counter."""
        await self._client.run(self._say.end_tally(key))

    # ---------------------------------------------------------------------------------------------------- upkeep

    async def sweep(self, *, now: float, limit: int = 1000) -> int:
        """Delete up to `limit` expired records, old tombstones and fences. Returns how many records went.

        For a server without the indexes of `setup`, or where an hour is too long; otherwise MongoDB collects by itself.
        """
        swept = 0
        while swept < limit:
            due = many(await self._client.run(self._say.due(now, min(SWEEP_STEP, limit - swept)), True))
            gone, others = await self._swept(due, now)
            swept += gone
            if not gone and not others:
                break
        await self._client.run(self._say.sweep_users())
        await self._client.run(self._say.sweep_tallies(now))
        return swept

    async def walk(self, *, cursor: object = None, limit: int = 1000) -> Walked:
        """Some of all keys: see `coatcheck.core.ports.Walks`."""
        documents = many(await self._client.run_long(self._say.walk(str(cursor or ""), limit)))
        return walked([document["_id"] for document in documents], limit)

    async def count(self, *, now: float) -> int:
        """How many sessions live: a walk through an index, some half a second for a million."""
        not_due, kept_alive = self._say.count(now)
        counted = [(await self._client.run_long(command))["n"] for command in (not_due, kept_alive)]
        return sum(counted)

    async def time(self) -> float:
        """The server's time."""
        reply = await self._client.run({"hello": 1}, True)
        moment: datetime = reply["localTime"]
        return moment.replace(tzinfo=UTC).timestamp()

    async def check(self) -> None:
        """Write something that changes nothing. Raises StoreUnavailable if it cannot; logs which indexes are missing."""
        await self._client.run(self._say.probe())
        try:
            reply = await self._client.run(self._say.list_indexes(), True)
        except StoreError as error:
            if _code(error) != _NO_INDEXES:
                raise
            reply = {"cursor": {"firstBatch": []}}
        names = {index["name"] for index in many(reply)}
        if missing := {index["name"] for index in self._say.indexes()[0]["indexes"]} - names:
            _logger.warning(
                "%s: %s has no index %s: run setup() once; nothing is collected until then, and lists by user are slow",
                self._name,
                self._say.sessions,
                ", ".join(sorted(missing)),
            )

    def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
        """Have `tell` called with every notice, by a change stream; returns what stops it.

        On a standalone server, which has none, all that is told is "lost", and the log says what to do about it.
        """
        return self._client.watch(self._say.sessions, tell)

    async def setup(self) -> None:
        """Make the indexes that are missing; safe to call again, and from several processes at once.

        Raises ConfigurationError for a collection that holds something else.
        """
        somebody = found(await self._client.run(self._say.any_one(), True))
        if somebody is not None and not ("k" in somebody and "gc" in somebody):
            raise ConfigurationError(
                f"{self._name}: collection={self._say.sessions!r} holds documents of somebody else: name another"
            )
        for command in self._say.indexes():
            try:
                await self._client.run_long(command)
            except StoreError as error:
                if _code(error) in _OTHER_INDEXES:
                    raise ConfigurationError(
                        f"{self._name}: {error}: drop that index, or name another collection="
                    ) from error
                raise

    # ---------------------------------------------------------------------------------------------------- helpers

    async def _present(self, key: str, now: float) -> Record | Ended | None:
        """What is there. What is past its deadline is deleted: a clock that steps back must not bring it back."""
        for _ in range(ATTEMPTS):
            document = found(await self._client.run(self._say.find(key), True))
            if document is None:
                return None
            there = judge(key, row_of(document), now)
            if there is not None or changed(await self._client.run(self._say.purge(key, now))):
                return there
        raise self._overtaken()

    async def _is_own(self, key: str, now: float, token: str) -> bool:
        """Whether there is a tombstone of this very deleter: a retry."""
        there = await self._present(key, now)
        return isinstance(there, Ended) and there.token == token

    async def _claim(self, record: Record, user_id: str, expected: str | None, now: float) -> Outcome | None:
        """Step 1. None: this login may go on."""
        key, version = record.key, record.versions[0]
        if (
            expected is None
        ):  # who would clear away another's claim has theirs cleared away: nobody would ever get on
            commands = [
                self._say.claim_new(key, version, user_id, now),
                self._say.join(key, version, user_id),
            ]
        else:
            commands = [self._say.claim(key, version, user_id, expected, now)]
        for _ in range(ATTEMPTS):
            for command in commands:
                if changed(await self._client.run(command)):
                    return None
            there = await self._present(
                key, now
            )  # a claim where there was no session is past its deadline: it goes
            refusal = (
                not_over(there, record, expected) if expected is not None else _not_created(there, record)
            )
            if refusal is not None:
                return refusal
        raise self._overtaken()

    async def _call_off(self, record: Record, expected: str | None, refusal: Outcome) -> Outcome:
        call_off = self._say.call_off_new if expected is None else self._say.call_off
        await self._client.run(call_off(record.key, record.versions[0]))
        return refusal

    async def _is_full(self, record: Record, user_id: str, user: Document, terms: Terms, now: float) -> bool:
        """Whether there is no place left, counting the logins in line before this one as if they had succeeded."""
        ahead = {login["v"] for login in user["r"] if login["t"] < user["t"]}
        rivals = many(await self._client.run(self._say.rivals(user_id, now), True))
        taken = [
            rival
            for rival in rivals
            if rival["_id"] != record.key
            and (_lives(rival, user_id, now) or any(claim["v"] in ahead for claim in rival.get("c", ())))
        ]
        return terms.limit is not None and len(taken) >= max(terms.limit, 1)

    async def _evict(self, record: Record, user_id: str, limit: int, now: float) -> None:
        """Step 4. The login has been written: what is not answered now may have been carried out."""
        try:
            rivals = many(await self._client.run(self._say.rivals(user_id, now), True))
            ranked = sorted((r for r in rivals if _lives(r, user_id, now)), key=_rank, reverse=True)
            if victims := ranked[max(limit, 1) :]:
                await self._client.run(self._say.evict(user_id, victims, record.versions[0], now))
        except StoreUnavailable as error:
            raise ReplyLost(f"logged in, and the limit of sessions is not kept yet: {error}") from error

    async def _swept(self, due: list[Document], now: float) -> tuple[int, int]:
        """How many records of these went, and how many others are dealt with."""
        sessions = [document["_id"] for document in due if document["k"] == 1]
        others = [document["_id"] for document in due if document["k"] != 1]
        gone = put_off = 0
        if sessions:
            gone = (await self._client.run(self._say.sweep_sessions(sessions, now)))["n"]
        if len(sessions) > gone:
            put_off = (await self._client.run(self._say.put_off(sessions, now)))["n"]
        if others:
            put_off += (await self._client.run(self._say.sweep_others(others, now)))["n"]
        return gone, put_off

    def _overtaken(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"{self._name}: somebody else was first {ATTEMPTS} times in a row; try again later"
        )


# ------------------------------------------------------------------------------------------------------------ pure


def _not_created(there: Record | Ended | None, record: Record) -> Outcome | None:
    """Why `record` cannot be written where this is: SAVED if it already was. None: it can."""
    if there is None:
        return None
    return SAVED if isinstance(there, Record) and record.versions[0] in there.versions else TAKEN


def _is_fenced(user: Document, terms: Terms) -> bool:
    """Whether the login began before the fence, both in the server's clock (rule 20)."""
    fence = user.get("f")
    if fence is None:
        return False
    began = user["n"] - terms.elapsed * 1000.0
    return bool(began <= fence and _seconds(fence) != terms.own_fence)


def _seconds(milliseconds: int) -> float:
    return milliseconds / 1000.0


def _lives(document: Document, user_id: str, now: float) -> bool:
    deadline = document.get("d")
    return document.get("u") == user_id and type(deadline) is float and deadline > now


def _rank(document: Document) -> tuple[int, float, str]:
    """The order of a user's logins. What has no count (it was imported, or makes no sense) was before all others."""
    count, login_at = document.get("q"), document.get("l")
    return (
        count if isinstance(count, int) else 0,
        login_at if isinstance(login_at, float) else 0.0,
        str(document["_id"]),
    )


def _size(document: Document) -> int:
    packed = document.get("p")
    return len(packed) if isinstance(packed, bytes) else 0


def _code(error: StoreError) -> object:
    return getattr(error.__cause__, "code", None)
