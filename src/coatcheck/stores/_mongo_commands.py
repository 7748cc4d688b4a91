"""What the MongoDB store says to its server: each command as the document that is sent, and a stored document as a row.

A session is one document of `{collection}`, by the locator as `_id`. Field names are short, since every document repeats them:

    k    1 a session, 2 a tombstone, 0 a login under way where there was no session (for indexes; `d` and `e` decide)
    v    the version that is compared; of a tombstone: its deleter's token; of a login under way: ""
    d    the deadline; 0 in what is no session (any more), so that no write can apply to it
    s x  seen_at and ends_at
    e    when it was ended: there only in a tombstone
    u l  the user and when they logged in; `u` is not there where nobody did
    q    the user's own count at the login, by which logins are put in order (see `stamp`)
    p    everything else, packed (`_rows`)
    c    logins under way on this session: [{"v": version, "u": user}]
    due  when a sweep should look: never later than `d`, and not moved with it, so that a write moves no index
    gc   when the server may throw it away, in its own time: an hour and more after `d`, moved in large steps

A user is one document of `{collection}_users`, gone after a day: `f` the fence, `t` the last count given out, `n` the time of
asking, `r` logins under way in the order of asking, `at` what the server counts its day from. `f`, `t`, `n` are milliseconds of
the server's clock.

Values in an update that is a pipeline stand in `$literal`: a text that begins with `$` would be read as a field there.
"""

import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from math import ceil
from typing import Any, Final

from coatcheck.core.ports import TOMBSTONE
from coatcheck.stores._rows import Row, Written

__all__ = ["Document", "Phrases", "changed", "found", "many", "row_of"]

Document = dict[str, Any]

SLACK: Final = 3600.0
"""Seconds that the server waits beyond a deadline: clocks of application and server may be that far apart."""
STEPS: Final = (64, 4096)
"""Seconds in which the server's own deadline moves, at least and at most; each step moves an entry of its index."""
FAR: Final = 1e10
"""Some three hundred years."""
RESERVED: Final = 60_000
"""Milliseconds for which a login under way keeps its place in line."""
FENCE_KEPT: Final = 86_400
"""Seconds after which a user's fence and count are forgotten: no request takes a day."""
CLAIMS: Final = 8
"""Logins under way on one session at once; those that died are among them."""
BATCH: Final = 100_000
"""More sessions than one user has."""
NOW_MS: Final = {"$toLong": "$$NOW"}


def found(reply: Document) -> Document | None:
    """The document that a `find` of one answered."""
    batch = reply["cursor"]["firstBatch"]
    return batch[0] if batch else None


def many(reply: Document) -> list[Document]:
    """The documents that a `find` answered."""
    batch: list[Document] = reply["cursor"]["firstBatch"]
    return batch


def changed(reply: Document) -> bool:
    """Whether an update found what it was for."""
    return bool(reply["n"])


def row_of(document: Document) -> Row:
    """A stored document as `_rows.judge` takes it."""
    get = document.get
    return (get("v"), get("d"), get("s"), get("x"), get("e"), get("u"), get("p"))


def collected_at(deadline: float, now: float) -> datetime:
    """When the server may throw away what is over at `deadline`, where it is `now` for the caller.

    The caller's clock may be anywhere (a test's is in the past): only the time that is left counts. Rounded up, to an eighth of
    it or an hour, so that most writes leave it where it is; to a power of two, so that what is left may vary a little.
    """
    left = deadline - now
    if not 0.0 < left < FAR:
        left = 0.0 if left <= 0.0 else FAR
    step = min(max(1 << int(left / 8).bit_length() >> 1, STEPS[0]), STEPS[1])
    at = ceil((time.time() + left + SLACK) / step) * step
    return datetime.fromtimestamp(at, UTC)


class Phrases:
    """The commands on one pair of collections. `concern` is the write concern that each write asks for."""

    def __init__(self, collection: str, concern: Document) -> None:
        self.sessions = collection
        self.users = f"{collection}_users"
        self.tallies = f"{collection}_tallies"
        self._concern = concern
        self._patient = {name: value for name, value in concern.items() if name != "wtimeout"}

    # -------------------------------------------------------------------------------------------------- one session

    def find(self, key: str) -> Document:
        """One document."""
        return {"find": self.sessions, "filter": {"_id": key}, "limit": 1, "singleBatch": True}

    def insert(self, row: Written, now: float) -> Document:
        """A session where no document is."""
        return self._insert(_document(row, now))

    def replace(self, row: Written, expected: str, now: float) -> Document:
        """Over a version, times only forward; applies where neither user, nor login, nor absolute deadline change.

        That is nearly every write, and it moves no index.
        """
        version, _, deadline, seen_at, ends_at, user_id, login_at, packed, key = row
        return self._update(
            {"_id": key, "v": expected, "d": {"$gt": now}, "x": ends_at, "l": login_at, "u": user_id},
            {
                "$set": {"v": version, "p": packed},
                "$max": {"d": deadline, "s": seen_at, "gc": collected_at(deadline, now)},
            },
        )

    def forward(self, row: Written, expected: str, now: float) -> Document:
        """The same where anything may change."""
        version, _, deadline, seen_at, ends_at, user_id, login_at, packed, key = row
        until = {"$min": [{"$max": ["$d", deadline]}, ends_at]}
        fields = {
            "k": 1,
            "v": {"$literal": version},
            "due": until,
            "d": until,
            "s": {"$max": ["$s", seen_at]},
            "x": ends_at,
            "u": "$$REMOVE" if user_id is None else {"$literal": user_id},
            "l": login_at,
            "p": {"$literal": packed},
            "gc": {"$max": ["$gc", collected_at(deadline, now)]},
        }
        return self._update({"_id": key, "v": expected, "d": {"$gt": now}}, [{"$set": fields}])

    def overwrite(self, row: Written, expected: str, now: float) -> Document:
        """Over a version, all of it as it is."""
        return self._update({"_id": row[8], "v": expected, "d": {"$gt": now}}, _all_of(row, now))

    def touch(self, key: str, deadline: float, seen_at: float, expected: str, now: float) -> Document:
        """Times forward, never past the absolute deadline."""
        fields = {
            "d": {"$max": ["$d", {"$min": [deadline, "$x"]}]},
            "s": {"$max": ["$s", seen_at]},
            "gc": {"$max": ["$gc", collected_at(deadline, now)]},
        }
        return self._update({"_id": key, "v": expected, "d": {"$gt": now}}, [{"$set": fields}])

    def end(self, key: str, token: str, now: float, **only: Any) -> Document:
        """A tombstone in place of a session; `only` where these fields are so."""
        return self._update({"_id": key, **_alive(now), **only}, _tombstone(token, now))

    def purge(self, key: str, now: float) -> Document:
        """Away with what is over, for good."""
        over = [{"e": None, "d": {"$lte": now}}, {"e": {"$lte": now - TOMBSTONE}}]
        return self._delete([({"_id": key, "$or": over}, 1)])

    # ------------------------------------------------------------------------------------------------------- logins

    def claim(self, key: str, version: str, user_id: str, expected: str, now: float) -> Document:
        """Say, on the session, that a login is under way there; nobody but logins and `end_user` looks at that."""
        claims = {"$each": [{"v": version, "u": user_id}], "$slice": -CLAIMS}
        return self._update({"_id": key, "v": expected, "d": {"$gt": now}}, {"$push": {"c": claims}})

    def claim_new(self, key: str, version: str, user_id: str, now: float) -> Document:
        """The same where there is no session: a document that is none yet."""
        claims = [{"v": version, "u": user_id}]
        gc = collected_at(now, now)
        return self._insert(
            {"_id": key, "k": 0, "v": "", "d": 0.0, "c": claims, "due": now + TOMBSTONE, "gc": gc}
        )

    def join(self, key: str, version: str, user_id: str) -> Document:
        """The same where another login is under way already: the first to be promoted begins the session."""
        claims = {"$each": [{"v": version, "u": user_id}], "$slice": -CLAIMS}
        return self._update({"_id": key, "k": 0, "v": ""}, {"$push": {"c": claims}})

    def promote(self, row: Written, expected: str | None, count: int, now: float) -> Document:
        """Make a login under way the session, if nobody has called it off."""
        where: Document = {"_id": row[8], "v": expected or "", "c.v": row[0]}
        if expected is not None:
            where["d"] = {"$gt": now}
        update = _all_of(row, now)
        update["$set"]["q"] = count
        update["$unset"]["c"] = ""
        return self._update(where, update)

    def call_off(self, key: str, version: str) -> Document:
        """Take back that this login is under way; a document that was there for it alone may stay till it is collected."""
        return self._update({"_id": key, "c.v": version}, {"$pull": {"c": {"v": version}}})

    def call_off_new(self, key: str, version: str) -> Document:
        """The same for a login where there was no session: away with the document, if no other login goes on with it."""
        return self._delete([({"_id": key, "k": 0, "v": "", "c.v": version, "c": {"$size": 1}}, 1)])

    def stamp(self, user_id: str, version: str, in_line: bool) -> Document:
        """Give the login the user's next count, and read the fence by the server's clock; with `in_line` stand in line too.

        Counts increase strictly, by the clock where that is ahead, so that they go on when the document was forgotten.
        """
        stages = [_ticked()]
        if in_line:
            waiting = {
                "$filter": {
                    "input": {"$ifNull": ["$r", []]},
                    "cond": {
                        "$and": [
                            {"$gt": ["$$this.t", {"$subtract": ["$n", RESERVED]}]},
                            {"$ne": ["$$this.v", {"$literal": version}]},
                        ]
                    },
                }
            }
            own = [{"v": {"$literal": version}, "t": "$t"}]
            stages.append({"$set": {"r": {"$concatArrays": [waiting, own]}}})
        return self._user(user_id, stages)

    def raise_fence(self, user_id: str) -> Document:
        """The fence, strictly above any before: a request that knows its own must not pass a later one."""
        return self._user(user_id, [_ticked(), {"$set": {"f": "$t"}}])

    # ------------------------------------------------------------------------------------------------------ by user

    def rivals(self, user_id: str, now: float) -> Document:
        """The user's sessions, and the logins under way, as far as a limit needs to know."""
        return self._find(
            {"$or": [{"u": user_id, "d": {"$gt": now}}, {"c.u": user_id}]},
            projection={"u": 1, "q": 1, "l": 1, "d": 1, "c": 1},
        )

    def list_of(self, user_id: str, now: float, before: tuple[float, str] | None, limit: int) -> Document:
        """Newest login first; up to one more than `limit`, to see whether there is another page."""
        where: Document = {"u": user_id, "d": {"$gt": now}}
        if before is not None:
            at, key = before
            where["$or"] = [{"l": {"$lt": at}}, {"l": at, "_id": {"$lt": key}}]
        return self._find(where, sort={"l": -1, "_id": -1}, limit=max(limit, 0) + 1)

    def call_off_all(self, user_id: str, now: float) -> Document:
        """End the user's logins under way; and what has expired, for good: a clock behind ours must not revive it."""
        over = {"$set": {"d": 0.0}, "$unset": {"u": "", "c": ""}}
        return self._updates(
            [
                ({"c.u": user_id}, {"$pull": {"c": {"u": user_id}}}, True),
                ({"u": user_id, "e": None, "d": {"$lte": now}}, over, True),
            ]
        )

    def end_all(self, user_id: str, keep: str | None, now: float, token: str) -> Document:
        """A tombstone in place of each of the user's sessions but `keep`."""
        where: Document = {"u": user_id, **_alive(now)}
        if keep is not None:
            where["_id"] = {"$ne": keep}
        return self._updates([(where, _tombstone(token, now), True)])

    def evict(self, user_id: str, victims: Iterable[Document], token: str, now: float) -> Document:
        """A tombstone in place of each of these, unless it has been logged into again since."""
        tombstone = _tombstone(token, now)
        return self._updates(
            [
                ({"_id": v["_id"], "u": user_id, "q": v.get("q"), **_alive(now)}, tombstone, False)
                for v in victims
            ]
        )

    # ------------------------------------------------------------------------------------------------------- upkeep

    def due(self, now: float, limit: int) -> Document:
        """What a sweep should look at, whatever it is."""
        return self._find(
            {"k": {"$in": [0, 1, 2]}, "due": {"$lte": now}},
            projection={"k": 1, "e": 1},
            sort={"due": 1},
            limit=limit,
        )

    def sweep_sessions(self, keys: Sequence[str], now: float) -> Document:
        """Of these, those past their deadline. (Whatever is no time is over, too.)"""
        over = {"_id": {"$in": keys}, "k": 1, "e": None, "d": {"$not": {"$gt": now}}}
        return self._delete([(over, 0)])

    def sweep_others(self, keys: Sequence[str], now: float) -> Document:
        """Of these, old tombstones, and logins that nobody went on with."""
        return self._delete([({"_id": {"$in": keys}, "k": {"$in": [0, 2]}, "due": {"$lte": now}}, 0)])

    def put_off(self, keys: Sequence[str], now: float) -> Document:
        """Of these, those that were kept alive since: they are due later."""
        return self._updates(
            [({"_id": {"$in": keys}, "k": 1, "d": {"$gt": now}}, [{"$set": {"due": "$d"}}], True)]
        )

    def sweep_users(self) -> Document:
        """Fences from before yesterday, by the server's clock."""
        day_ago = {"$subtract": ["$$NOW", FENCE_KEPT * 1000]}
        return self._delete([({"$expr": {"$lt": ["$at", day_ago]}}, 0)], self.users)

    def count(self, now: float) -> tuple[Document, Document]:
        """How many are not due, which the index knows; and how many were kept alive since they were."""
        return (
            {"count": self.sessions, "query": {"k": 1, "due": {"$gt": now}}},
            {"count": self.sessions, "query": {"k": 1, "due": {"$lte": now}, "d": {"$gt": now}}},
        )

    def walk(self, after: str, limit: int) -> Document:
        """The next keys of sessions, in their order."""
        return self._find(
            {"_id": {"$gt": after}, "k": 1}, projection={"_id": 1}, sort={"_id": 1}, limit=limit
        )

    def probe(self) -> Document:
        """A write that finds nothing: it needs the right to write, a primary and a majority, and leaves nothing behind."""
        return self._update({"_id": ""}, {"$set": {"k": 0}})

    # -------------------------------------------------------------------------------------------------------- set up

    def any_one(self) -> Document:
        """Some document, to see whose collection it is."""
        return self._find({}, projection={"k": 1, "gc": 1}, limit=1)

    def indexes(self) -> tuple[Document, ...]:
        """What makes lists, sweeps and collection quick. Creating what is there changes nothing."""
        return (
            self._indexes(
                self.sessions,
                [
                    {"name": "coatcheck_collect", "key": {"gc": 1}, "expireAfterSeconds": 0},
                    {"name": "coatcheck_due", "key": {"k": 1, "due": 1}},
                    # One field only, so that no write but a change of user moves an entry while `end_all` walks along.
                    {"name": "coatcheck_user", "key": {"u": 1}, "sparse": True},
                    {"name": "coatcheck_login", "key": {"c.u": 1}, "sparse": True},
                ],
            ),
            self._indexes(
                self.users, [{"name": "coatcheck_day", "key": {"at": 1}, "expireAfterSeconds": FENCE_KEPT}]
            ),
            self._indexes(
                self.tallies, [{"name": "coatcheck_collect", "key": {"gc": 1}, "expireAfterSeconds": 0}]
            ),
        )

    def list_indexes(self) -> Document:
        """What `setup` has made."""
        return {"listIndexes": self.sessions, "cursor": {}}

    # ------------------------------------------------------------------------------------------------------- counters

    def tally(self, key: str, amount: int, now: float, until: float, prolong: bool) -> Document:
        """Add to a counter, or begin it: `n` the count, `u` until when, `gc` when the server may throw it away."""
        lives = {"$gt": ["$u", now]}
        later = {"$max": ["$u", until]} if prolong else "$u"
        step = {
            "$set": {
                "n": {"$max": [0, {"$add": [amount, {"$cond": [lives, "$n", 0]}]}]},
                "u": {"$cond": [lives, later, until]},
                "gc": collected_at(until, now),
            }
        }
        return {
            "findAndModify": self.tallies,
            "query": {"_id": key},
            "update": [step],
            "upsert": True,
            "new": True,
            # A failover may cost a count or two; to wait for a majority's journals would cost every attempt some milliseconds.
            "writeConcern": {"w": 1},
        }

    def tallied(self, key: str, now: float) -> Document:
        """A counter that is under way."""
        return {
            "find": self.tallies,
            "filter": {"_id": key, "u": {"$gt": now}},
            "limit": 1,
            "singleBatch": True,
        }

    def end_tally(self, key: str) -> Document:
        """Forget a counter."""
        return self._delete([({"_id": key}, 1)], self.tallies)

    def sweep_tallies(self, now: float) -> Document:
        """Forget those that are over."""
        return self._delete([({"u": {"$lte": now}}, 0)], self.tallies)

    # -------------------------------------------------------------------------------------------- kinds of command

    def _insert(self, document: Document) -> Document:
        return {"insert": self.sessions, "documents": [document], "writeConcern": self._concern}

    def _update(self, where: Document, update: Document | list[Document]) -> Document:
        return {
            "update": self.sessions,
            "updates": [{"q": where, "u": update}],
            "writeConcern": self._concern,
        }

    def _updates(self, updates: Sequence[tuple[Document, Document | list[Document], bool]]) -> Document:
        return {
            "update": self.sessions,
            "updates": [{"q": where, "u": update, "multi": multi} for where, update, multi in updates],
            "writeConcern": self._concern,
        }

    def _delete(self, deletes: Sequence[tuple[Document, int]], collection: str | None = None) -> Document:
        return {
            "delete": collection or self.sessions,
            "deletes": [{"q": where, "limit": limit} for where, limit in deletes],
            "writeConcern": self._concern,
        }

    def _find(self, where: Document, **more: Any) -> Document:
        limit = more.pop("limit", 0)
        return {
            "find": self.sessions,
            "filter": where,
            **more,
            "limit": limit,
            "batchSize": limit or BATCH,
            "singleBatch": True,
        }

    def _user(self, user_id: str, stages: list[Document]) -> Document:
        return {
            "findAndModify": self.users,
            "query": {"_id": user_id},
            "update": stages,
            "upsert": True,
            "new": True,
            "writeConcern": self._concern,
        }

    def _indexes(self, collection: str, indexes: list[Document]) -> Document:
        return {"createIndexes": collection, "indexes": indexes, "writeConcern": self._patient}


def _alive(now: float) -> Document:
    """A session that has not ended. (Whatever is no time has not: a corrupt document can be ended like any other.)"""
    return {"e": None, "d": {"$not": {"$lte": now}}}


def _tombstone(token: str, now: float) -> Document:
    return {
        "$set": {
            "k": 2,
            "v": token,
            "e": now,
            "d": 0.0,
            "due": now + TOMBSTONE,
            "gc": collected_at(now + TOMBSTONE, now),
        },
        "$unset": {"s": "", "x": "", "u": "", "l": "", "q": "", "p": "", "c": ""},
    }


def _document(row: Written, now: float) -> Document:
    version, due, deadline, seen_at, ends_at, user_id, login_at, packed, key = row
    document = {
        "_id": key,
        "k": 1,
        "v": version,
        "due": due,
        "d": deadline,
        "s": seen_at,
        "x": ends_at,
        "l": login_at,
        "p": packed,
        "gc": collected_at(deadline, now),
    }
    if user_id is not None:  # not even a null: the index by user is of those who are somebody
        document["u"] = user_id
    return document


def _all_of(row: Written, now: float) -> Document:
    """The whole row as an update."""
    fields = _document(row, now)
    del fields["_id"]
    return {"$set": fields, "$unset": {"e": ""} if "u" in fields else {"e": "", "u": ""}}


def _ticked() -> Document:
    """The user's count one further, or at the server's clock if that is ahead; and what that clock says."""
    after = {"$add": [{"$ifNull": ["$t", 0]}, 1]}
    return {"$set": {"t": {"$max": [after, NOW_MS]}, "n": NOW_MS, "at": "$$NOW"}}
