"""The explorer is not vacuous: each rule of the protocol is broken on purpose, and the explorer shows how.

A fault is planted in the production code for one test only, from here. The same scenario without the fault must be clean.
"""

from collections.abc import Callable
from math import inf
from typing import Any, NamedTuple

import pytest
from msgspec.structs import replace

from coatcheck.commands import Commands
from coatcheck.core import decide as deciding
from coatcheck.core import drafts
from coatcheck.core import merge as merging
from coatcheck.core.merge import MISSING, Changes, Merged
from coatcheck.core.ports import FENCED, GONE, SAVED, TAKEN, Changed, EndedAll, Outcome, Page, Terms
from coatcheck.core.record import Ended, Record, Renewal
from coatcheck.core.session import BaseSession, CookieAction, Standing
from coatcheck.lifecycle import Committed, Lifecycle
from coatcheck.stores.memory import MemoryStore
from coatcheck.testing.explorer import (
    ATTACKER,
    VICTIM,
    Drop,
    Faults,
    Happening,
    Pass,
    Scenario,
    Skew,
    World,
    explore,
)
from coatcheck.testing.explorer.database import Command, MemoryDatabase, suspend, suspending
from coatcheck.testing.explorer.requests import Fault

Patch = pytest.MonkeyPatch
LOST = Faults((Fault.REPLY_LOST, Fault.COMMAND_LOST))


def nothing(_: Patch) -> None:
    """No fault in the flows: it is in the store."""


# ------------------------------------------------------------------------------------------------- faults of the flows


def login_keeps_the_old_verifier(patch: Patch) -> None:
    rotated = drafts.rotated

    def fault(record: Record, verifier: str, now: float) -> Record:
        renewal = Renewal(previous=record.verifier, nonce="", at=now)
        return replace(rotated(record, verifier, now), renewal=renewal)

    patch.setattr(drafts, "rotated", fault)


def login_keeps_the_epoch(patch: Patch) -> None:
    rotated = drafts.rotated
    patch.setattr(
        drafts,
        "rotated",
        lambda record, verifier, now: replace(rotated(record, verifier, now), epoch=record.epoch),
    )


def previous_verifier_dies_unseen(patch: Patch) -> None:
    holding = drafts.holding

    def fault(record: Record, verifier: str, now: float) -> drafts.Holding:
        if record.renewal is not None and record.renewal.seen_at is None:
            record = replace(record, renewal=replace(record.renewal, seen_at=record.renewal.at))
        return holding(record, verifier, now)

    patch.setattr(drafts, "holding", fault)


def renewal_drops_the_previous_verifier(patch: Patch) -> None:
    renewed = drafts.renewed

    def fault(record: Record, verifier: str, nonce: str, now: float) -> tuple[Record, str]:
        following, successor = renewed(record, verifier, nonce, now)
        return replace(following, renewal=None, rotated_at=now), successor

    patch.setattr(drafts, "renewed", fault)


def superseded_is_unknown(patch: Patch) -> None:
    patch.setattr(drafts, "DETACHED_FOR", 0.0)


def login_takes_over_the_session(patch: Patch) -> None:
    decide = deciding.decide
    patch.setattr(
        "coatcheck.lifecycle.decide", lambda situation: decide(situation._replace(other_user=False))
    )


def a_retry_is_not_recognised(patch: Patch) -> None:
    async def fault(self: Commands, record: Record, expected: str, outcome: Outcome, now: float) -> Outcome:
        current = await self.store.load(record.key, now=now)
        return Changed(current) if isinstance(current, Record) else GONE

    patch.setattr(Commands, "recognise", fault)


def a_repeated_write_always_sends_its_cookie(patch: Patch) -> None:
    async def fault(self: Commands, record: Record, now: float) -> bool:
        return True

    patch.setattr(Commands, "lasts", fault)


def a_login_does_not_begin_anew(patch: Patch) -> None:
    gone = Lifecycle._gone

    async def fault(self: Lifecycle, session: BaseSession, now: float) -> Committed:
        session._login = None
        return await gone(self, session, now)

    patch.setattr(Lifecycle, "_gone", fault)


def a_cookie_for_a_gone_session(patch: Patch) -> None:
    gone = Lifecycle._gone

    async def fault(self: Lifecycle, session: BaseSession, now: float) -> Committed:
        record, verifier = session._record, session._verifier
        committed = await gone(self, session, now)
        if session._login is None and record is not None:
            session._record, session._verifier, session._owed = record, verifier, CookieAction.SEND
        return committed

    patch.setattr(Lifecycle, "_gone", fault)


def a_gone_session_begins_anew(patch: Patch) -> None:
    async def fault(self: Lifecycle, session: BaseSession, now: float) -> Committed:
        session._disown()
        return await self._create(session, now)

    patch.setattr(Lifecycle, "_gone", fault)


def logout_deletes_whatever_is_there(patch: Patch) -> None:
    delete = Commands.delete

    async def fault(self: Commands, key: str, now: float, token: str, expected: str | None) -> bool:
        return await delete(self, key, now, token, None)

    patch.setattr(Commands, "delete", fault)


def logout_gives_up_on_a_change(patch: Patch) -> None:
    async def fault(self: Lifecycle, record: Record, now: float) -> bool:
        return await self._commands.delete(record.key, now, self._ids.version(), record.version)

    patch.setattr(Lifecycle, "_end", fault)


Equal = Callable[[Any, Any], bool]


def _merge_with(patch: Patch, change: Callable[[Any, Changes, Any], Changes]) -> None:
    merge = merging.merge

    def fault(base: Any, mine: Changes, theirs: Any, resolvers: Any = None) -> Merged:
        return merge(base, change(base, mine, theirs), theirs, resolvers)

    patch.setattr("coatcheck.lifecycle.merge", fault)


def merge_forgets_theirs(patch: Patch) -> None:
    patch.setattr(
        "coatcheck.lifecycle.merge", lambda base, mine, theirs, _=None: Merged(merging.unopposed(base, mine))
    )


def a_dict_is_an_atom(patch: Patch) -> None:
    patch.setattr(merging, "three_way", lambda base, theirs, mine, path, conflicts, equal=None: mine)


def a_change_beats_a_delete(patch: Patch) -> None:
    three = merging.three_way

    def fault(
        base: Any, theirs: Any, mine: Any, path: str, conflicts: list[str], equal: Equal | None = None
    ) -> Any:
        return mine if theirs is MISSING else three(base, theirs, mine, path, conflicts, equal)

    patch.setattr(merging, "three_way", fault)


def clear_removes_what_was_loaded(patch: Patch) -> None:
    _merge_with(
        patch,
        lambda base, mine, theirs: (
            mine._replace(cleared=False, deletes=frozenset(base)) if mine.cleared else mine
        ),
    )


def conflicts_are_not_told(patch: Patch) -> None:
    merge = merging.merge
    patch.setattr("coatcheck.lifecycle.merge", lambda *given: merge(*given)._replace(conflicts=()))


def operations_write_their_estimate(patch: Patch) -> None:
    _merge_with(patch, lambda base, mine, theirs: mine._replace(sets={**mine.sets, **mine.estimates}, ops={}))


def dropped_operations_are_not_told(patch: Patch) -> None:
    merge = merging.merge
    patch.setattr("coatcheck.lifecycle.merge", lambda *given: merge(*given)._replace(dropped=()))


def take_believes_itself_first(patch: Patch) -> None:
    write = Commands.write

    async def fault(self: Commands, *given: Any) -> tuple[Outcome, bool]:
        await write(self, *given)
        return SAVED, True

    patch.setattr(Commands, "write", fault)


def a_login_began_when_it_arrived(patch: Patch) -> None:
    terms = Lifecycle._terms

    def fault(self: Lifecycle, session: BaseSession, now: float) -> Terms | None:
        given = terms(self, session, now)
        return None if given is None else replace(given, stopwatch=float)

    patch.setattr(Lifecycle, "_terms", fault)


def elapsed_is_measured_too_early(patch: Patch) -> None:
    terms = Lifecycle._terms

    def fault(self: Lifecycle, session: BaseSession, now: float) -> Terms | None:
        measured = self._monotonic() - session._began
        given = terms(self, session, now)
        return None if given is None else replace(given, stopwatch=lambda: measured)

    patch.setattr(Lifecycle, "_terms", fault)


def a_detached_request_stores(patch: Patch) -> None:
    decide = deciding.decide

    def fault(situation: Any) -> Any:
        if situation.standing is Standing.DETACHED:
            situation = situation._replace(standing=Standing.NEW)
        return decide(situation)

    patch.setattr("coatcheck.lifecycle.decide", fault)


def a_second_factor_begins_when_it_comes(patch: Patch) -> None:
    terms = Lifecycle._terms

    def fault(self: Lifecycle, session: BaseSession, now: float) -> Terms | None:
        if session._login is not None:
            session._login = session._login._replace(since=None)
        return terms(self, session, now)

    patch.setattr(Lifecycle, "_terms", fault)


def a_second_factor_begins_anew(patch: Patch) -> None:
    gone = Lifecycle._gone

    async def fault(self: Lifecycle, session: BaseSession, now: float) -> Committed:
        if session._login is not None:
            session._login = session._login._replace(goes_on=False)
        return await gone(self, session, now)

    patch.setattr(Lifecycle, "_gone", fault)


def a_first_factor_keeps_the_id(patch: Patch) -> None:
    decide = deciding.decide

    def fault(situation: Any) -> Any:
        decision = decide(situation)
        if decision.action is deciding.Action.ROTATE and situation.regenerate and not situation.login:
            return decide(situation._replace(regenerate=False, changed=True))
        return decision

    patch.setattr("coatcheck.lifecycle.decide", fault)


def a_pending_login_waits_for_ever(patch: Patch) -> None:
    patch.setattr("coatcheck.core.session.PENDING_FOR", inf)


# ------------------------------------------------------------------------------------------------- faults of the store


class Upserts(MemoryStore):
    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        outcome = await super().replace(record, expected=expected, now=now, may_shorten=may_shorten)
        if outcome is GONE:
            self._write(record, self._rows.get(record.key), now)
            return SAVED
        return outcome


class IgnoresTheVersion(MemoryStore):
    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        there = self._rows.get(record.key)
        expected = there.version if isinstance(there, Record) else expected
        return await super().replace(record, expected=expected, now=now, may_shorten=may_shorten)


class ForgetsItsVersions(MemoryStore):
    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        there = self._rows.get(record.key)
        if isinstance(there, Record) and there.version != expected:
            return Changed(there)
        return await super().replace(record, expected=expected, now=now, may_shorten=may_shorten)


class HidesTheEpoch(MemoryStore):
    """As if the flows did not compare it."""

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        outcome = await super().replace(record, expected=expected, now=now, may_shorten=may_shorten)
        if isinstance(outcome, Changed) and outcome.current is not None:
            return Changed(replace(outcome.current, epoch=record.epoch))
        return outcome


class ForgetsItsCreation(MemoryStore):
    async def create(self, record: Record, *, now: float) -> Outcome:
        return TAKEN if record.key in self._rows else await super().create(record, now=now)


class ForgetsWhoDeleted(MemoryStore):
    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        if isinstance(self._rows.get(key), Ended):
            return False
        return await super().delete(key, now=now, token=token, expected=expected)


class LeavesNoTombstone(MemoryStore):
    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        deleted = await super().delete(key, now=now, token=token, expected=expected)
        if isinstance(row := self._rows.get(key), Ended):
            self._drop(key, row)
        return deleted


class MovesDeadlinesBack(MemoryStore):
    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        return await super().replace(record, expected=expected, now=now, may_shorten=True)


class TouchesBack(MemoryStore):
    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        there = self._rows.get(key)
        if not isinstance(there, Record) or there.version != expected:
            return False
        self._write(replace(there, deadline=deadline, seen_at=seen_at), there, now)
        return True


class FencesInTheCallersClock(MemoryStore):
    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        fence = self._fences.get(record.user_id or "")
        if fence is not None and now - terms.elapsed <= fence != terms.own_fence:
            return FENCED
        return await super().admit(record, expected=expected, terms=replace_terms(terms), now=now)

    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        ended = await super().end_user(user_id, keep=keep, now=now, token=token)
        self._fences[user_id] = now
        return EndedAll(ended.count, now)


def replace_terms(terms: Terms) -> Terms:
    return replace(terms, stopwatch=lambda: -inf)


class FencesNobody(MemoryStore):
    def _fenced(self, user_id: str | None, terms: Terms) -> bool:
        return False


class FencesTheOneWhoRaisedIt(MemoryStore):
    def _fenced(self, user_id: str | None, terms: Terms) -> bool:
        return super()._fenced(user_id, replace(terms, own_fence=None))


class EndsAnyonesSession(MemoryStore):
    async def end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        return await self.delete(key, now=now, token=token)


class CountsItselfOut(MemoryStore):
    def _too_many(self, record: Record, terms: Terms, now: float) -> list[Record]:
        return super()._too_many(record, replace(terms, limit=terms.limit and terms.limit + 1), now)


class EvictsAnyone(MemoryStore):
    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        if terms.limit is not None:
            others = [r for r in self._rows.values() if isinstance(r, Record) and r.key != record.key]
            for other in others[terms.limit - 1 :]:
                self._end(other.key, other, now, record.version)
        return await super().admit(record, expected=expected, terms=terms, now=now)


class IndexesCreationsOnly(MemoryStore):
    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        outcome = await super().admit(record, expected=expected, terms=terms, now=now)
        if expected is not None and outcome is SAVED:
            self._strike(record.user_id or "", record.key)
        return outcome


class ListsAreAlsoMisled(MemoryStore):
    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        page = await super().of_user(user_id, now=now, cursor=cursor, limit=limit)
        others = [row for row in self._rows.values() if isinstance(row, Record) and row.user_id != user_id]
        return Page([*page.records, *others], page.cursor)


class Resurrects(MemoryStore):
    """Creates over a tombstone, so that a rotation can be a delete and a create."""

    async def create(self, record: Record, *, now: float) -> Outcome:
        if isinstance(row := self._rows.get(record.key), Ended):
            self._drop(record.key, row)
        return await super().create(record, now=now)


class _RotatesInTwo(suspending(Resurrects).__class__):  # type: ignore[misc]  # made at run time
    async def replace(self, record: Record, *, expected: str, now: float, may_shorten: bool = False) -> Any:
        if record.rotated_at != now:
            given = {"expected": expected, "now": now, "may_shorten": may_shorten}
            return await suspend(Command("replace", (record,), given))
        token = {"now": now, "token": record.version, "expected": expected}
        if not await suspend(Command("delete", (record.key,), token)):
            return GONE
        return await suspend(Command("create", (record,), {"now": now}))


class RotatesInTwo(MemoryDatabase):
    def store(self) -> Any:
        return _RotatesInTwo()

    def copy(self) -> "RotatesInTwo":
        return RotatesInTwo(super().copy()._store)


class SplitIndex(MemoryStore):
    """The index apart from the records, as where they live on different nodes: written first, healed by lists (18, 19)."""

    HEALS_BY = "entered"

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._entries: dict[tuple[str, str], float] = {}

    async def enter(self, user_id: str, key: str, *, now: float) -> None:
        self._entries[user_id, key] = now

    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        for (user, key), entered in list(self._entries.items()):
            row = self._rows.get(key)
            theirs = isinstance(row, Record) and row.user_id == user
            since = row.created_at if self.HEALS_BY == "record" and isinstance(row, Record) else entered
            if user == user_id and not theirs and now >= since + (60 if self.HEALS_BY == "entered" else 1):
                del self._entries[user, key]
        return await super().of_user(user_id, now=now, cursor=cursor, limit=limit)


class HealsByTheRecord(SplitIndex):
    HEALS_BY = "record"


class _EntersFirst(suspending(SplitIndex).__class__):  # type: ignore[misc]  # made at run time
    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Any:
        await suspend(Command("enter", (record.user_id, record.key), {"now": now}, aside=True))
        given = {"expected": expected, "terms": terms, "now": now}
        return await suspend(Command("admit", (record,), given))


class SplitDatabase(MemoryDatabase):
    def store(self) -> Any:
        return _EntersFirst()

    def may_change(self, command: Command) -> bool:
        return command.name == "of_user" or super().may_change(command)

    def copy(self) -> "SplitDatabase":
        twin = SplitDatabase(super().copy()._store)
        return twin

    def state(self) -> Any:
        return super().state(), tuple(sorted(vars(self._store)["_entries"].items()))

    def listed(self, user_id: str) -> frozenset[str]:
        return frozenset(key for user, key in vars(self._store)["_entries"] if user == user_id)


# --------------------------------------------------------------------------------------------------------- the table


class Planted(NamedTuple):
    """A fault, a scenario that meets it, and the rules of which the explorer must then report one."""

    rules: str
    scenario: Scenario
    flow: Callable[[Patch], None] = nothing
    store: type[MemoryStore] = MemoryStore
    database: type[MemoryDatabase] = MemoryDatabase
    sound: type[MemoryStore] = MemoryStore


def at(start: str, *names: str, happening: tuple[Happening, ...] = ()) -> Scenario:
    """These operations in one browser; "attacker's x" in another."""
    requests = tuple(
        (name.removeprefix("attacker's "), ATTACKER if name.startswith("attacker's ") else VICTIM)
        for name in names
    )
    return Scenario(start, requests, happening)


FAULTS: dict[str, Planted] = {
    "2 a login keeps the old verifier": Planted(
        "2", at("planted", "login", "attacker's read"), login_keeps_the_old_verifier
    ),
    "2 a login keeps the epoch": Planted("2", at("anonymous", "increment", "login"), login_keeps_the_epoch),
    "3 the previous verifier dies before its successor is seen": Planted(
        "3", at("renewal due", "read", "read", happening=(Drop(), Pass(11))), previous_verifier_dies_unseen
    ),
    "3 a renewal drops the previous verifier": Planted(
        "3", at("renewal due", "read", "set_a"), renewal_drops_the_previous_verifier
    ),
    "4 a superseded cookie is as none": Planted(
        "3/4", at("anonymous", "increment", "login"), superseded_is_unknown
    ),
    "4 an ended session is as none": Planted(
        "4", at("logged in", "increment", "logout"), store=LeavesNoTombstone
    ),
    "4 a detached request stores": Planted(
        "4", at("anonymous", "increment", "login"), a_detached_request_stores
    ),
    "5 a login takes over another user's session": Planted(
        "5", at("planted login", "login", "attacker's read"), login_takes_over_the_session
    ),
    "7 a retry is not recognised": Planted(
        "7",
        at("anonymous", "increment", "read", happening=(LOST,)),
        a_retry_is_not_recognised,
        ForgetsItsVersions,
    ),
    "7 upsert in place of replace": Planted("7", at("logged in", "increment", "logout"), store=Upserts),
    "7 the version is not compared": Planted(
        "1", at("anonymous", "increment", "increment"), store=IgnoresTheVersion
    ),
    "7 a repeated write sends a cookie that is superseded": Planted(
        "2",
        at("renewal due", "increment", "login", happening=(LOST,)),
        a_repeated_write_always_sends_its_cookie,
    ),
    "8 a creation is not recognised": Planted(
        "8", at("no cookie", "set_a", "read", happening=(LOST,)), store=ForgetsItsCreation
    ),
    "8 a deletion is not recognised": Planted(
        "8", at("anonymous", "logout", "read", happening=(LOST,)), store=ForgetsWhoDeleted
    ),
    "9 the epoch is not compared": Planted("2", at("anonymous", "increment", "login"), store=HidesTheEpoch),
    "9 a login does not begin anew": Planted(
        "27", at("anonymous", "regenerate", "login"), a_login_does_not_begin_anew
    ),
    "9 changes to a gone session begin a new one": Planted(
        "9", at("anonymous", "increment", "logout"), a_gone_session_begins_anew
    ),
    "9 a cookie sent for a gone session": Planted(
        "9", at("renewal due", "increment", "logout"), a_cookie_for_a_gone_session
    ),
    "10 a logout deletes whatever is there": Planted(
        "2/10/22", at("anonymous", "login", "logout"), logout_deletes_whatever_is_there
    ),
    "10 a logout gives up on a change": Planted(
        "2/10", at("logged in", "increment", "logout"), logout_gives_up_on_a_change
    ),
    "11 a write moves the deadline back": Planted(
        "11", at("logged in", "set_a", "set_b", happening=(Pass(61),)), store=MovesDeadlinesBack
    ),
    "11 a touch moves the deadline back": Planted(
        "11", at("logged in", "touch", "touch", happening=(Skew(-5),)), store=TouchesBack
    ),
    "13 the other's changes are forgotten": Planted(
        "1", at("anonymous", "set_a", "set_b"), merge_forgets_theirs
    ),
    "13 a dict is an atom": Planted("1", at("anonymous", "nested", "nested"), a_dict_is_an_atom),
    "13 a conflict is silent": Planted("14", at("anonymous", "set_b", "delete"), conflicts_are_not_told),
    "14 a change beats a clear": Planted("1", at("anonymous", "nested", "clear"), a_change_beats_a_delete),
    "14 a clear removes what was loaded": Planted(
        "1", at("logged in", "clear_and_set", "clear"), clear_removes_what_was_loaded
    ),
    "15 operations write their estimate": Planted(
        "1", at("anonymous", "increment", "increment"), operations_write_their_estimate
    ),
    "15 a dropped operation is silent": Planted(
        "15", at("anonymous", "increment", "delete"), dropped_operations_are_not_told
    ),
    "16 a take does not compare": Planted("16", at("anonymous", "take", "take"), take_believes_itself_first),
    "18 a login over an anonymous session is not indexed": Planted(
        "18", at("anonymous", "login", "read"), store=IndexesCreationsOnly
    ),
    "19 a list heals a login's entry away": Planted(
        "18",
        at("anonymous", "login", "list"),
        store=HealsByTheRecord,
        database=SplitDatabase,
        sound=SplitIndex,
    ),
    "20 a login began when it reached the store": Planted(
        "20", at("anonymous", "login", "end_all"), a_login_began_when_it_arrived
    ),
    "20 elapsed is measured before the way to the store": Planted(
        "20", at("anonymous", "login", "end_all"), elapsed_is_measured_too_early
    ),
    "20 the fence is in the caller's clock": Planted(
        "20", at("anonymous", "login", "end_all", happening=(Skew(5),)), store=FencesInTheCallersClock
    ),
    "20 a password change is caught by its own fence": Planted(
        "27", at("logged in", "change_password", "read"), store=FencesTheOneWhoRaisedIt
    ),
    "21 nobody asks the fence": Planted("20", at("anonymous", "login", "end_all"), store=FencesNobody),
    "22 a handle ends anyone's session": Planted(
        "2/10/22", at("planted login", "end_one", "attacker's read"), store=EndsAnyonesSession
    ),
    "22 a list shows others' sessions": Planted(
        "18/22", at("anonymous", "list", "read"), store=ListsAreAlsoMisled
    ),
    "22 the limit ends anyone's session": Planted(
        "2/10/22", at("no cookie", "login_other", "login_limited"), store=EvictsAnyone
    ),
    "23 the limit leaves one too many": Planted(
        "23", at("anonymous", "login_limited", "login_limited"), store=CountsItselfOut
    ),
    "56 a second factor begins when it comes": Planted(
        "20", at("factor pending", "complete_login", "end_all"), a_second_factor_begins_when_it_comes
    ),
    "56 a second factor begins anew": Planted(
        "56", at("factor pending", "complete_login", "logout"), a_second_factor_begins_anew
    ),
    "56 a first factor keeps the id": Planted(
        "56", at("planted", "begin_login", "attacker's complete_login"), a_first_factor_keeps_the_id
    ),
    "56 a pending login waits for ever": Planted(
        "56",
        at("factor pending", "complete_login", "read", happening=(Pass(3_600),)),
        a_pending_login_waits_for_ever,
    ),
    "rotation as delete and create": Planted(
        "2/10/22", at("anonymous", "regenerate", "increment"), store=Resurrects, database=RotatesInTwo
    ),
}


def world(store: type[MemoryStore], database: type[MemoryDatabase]) -> World:
    return World(lambda monotonic: database(store(monotonic=monotonic)))


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name: str, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]) -> None:
    planted = FAULTS[name]
    planted.flow(monkeypatch)
    violations = explore(world(planted.store, planted.database), planted.scenario).violations
    caught = [violation for violation in violations if violation.rule.startswith(planted.rules)]
    assert caught, [str(violation) for violation in violations]
    with capsys.disabled():
        print(f"\n{name}\n  {min(caught, key=lambda violation: len(violation.schedule))}")


@pytest.mark.parametrize("name", FAULTS)
def test_without_the_fault_there_is_nothing_to_catch(name: str) -> None:
    planted = FAULTS[name]
    database = MemoryDatabase if planted.database is RotatesInTwo else planted.database
    assert [str(v) for v in explore(world(planted.sound, database), planted.scenario).violations] == []
