"""The contract is not vacuous: each of these stores breaks one sentence, and that sentence finds it out."""

import asyncio
import threading
from collections.abc import Callable

import pytest
from msgspec.structs import replace as changed

from coatcheck.core.ports import FENCED, GONE, SAVED, Changed, EndedAll, Notice, Outcome, Page, Terms
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.errors import WrongFace
from coatcheck.stores.memory import MemoryStore
from coatcheck.testing import ContractBroken, StoreContract
from coatcheck.testing.rig import SENTENCES, Mode
from coatcheck.testing.sentences import watches


class Upserts(MemoryStore):
    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        outcome = await super().replace(record, expected=expected, now=now, may_shorten=may_shorten)
        if outcome is GONE:
            with self._lock:
                self._write(record, self._rows.get(record.key), now)
            return SAVED
        return outcome


class IgnoresTheVersion(MemoryStore):
    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        there = await self.load(record.key, now=now)
        expected = there.version if isinstance(there, Record) else expected
        return await super().replace(record, expected=expected, now=now, may_shorten=may_shorten)


class ForgetsItsOwnWrites(MemoryStore):
    async def create(self, record: Record, *, now: float) -> Outcome:
        there = await self.load(record.key, now=now)
        return await super().create(changed(record, versions=("x",)) if there else record, now=now)

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        there = await self.load(record.key, now=now)
        if isinstance(there, Record) and there.version != expected:
            return Changed(there)
        return await super().replace(record, expected=expected, now=now, may_shorten=may_shorten)


class WritesARetryAgain(MemoryStore):
    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        there = await self.load(record.key, now=now)
        if isinstance(there, Record) and record.version in there.versions:
            expected = there.version
        return await super().replace(record, expected=expected, now=now, may_shorten=may_shorten)


class RemembersTheLastVersionOnly(MemoryStore):
    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        last = changed(record, versions=record.versions[:2])
        return await super().replace(last, expected=expected, now=now, may_shorten=may_shorten)


class MovesDeadlinesBack(MemoryStore):
    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        return await super().replace(record, expected=expected, now=now, may_shorten=True)


class NeverShortens(MemoryStore):
    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        return await super().replace(record, expected=expected, now=now)


class AnswersTheWrongRecordInChanged(MemoryStore):
    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        outcome = await super().replace(record, expected=expected, now=now, may_shorten=may_shorten)
        return Changed(record) if isinstance(outcome, Changed) else outcome


class CreatesOverWhatIsThere(MemoryStore):
    async def create(self, record: Record, *, now: float) -> Outcome:
        with self._lock:
            self._write(record, self._live(record.key, now), now)
        return SAVED


class CreatesOverTombstones(MemoryStore):
    async def create(self, record: Record, *, now: float) -> Outcome:
        with self._lock:
            there = self._rows.get(record.key)
            if isinstance(there, Ended):
                self._drop(record.key, there)
        return await super().create(record, now=now)


class TouchMovesTheVersion(MemoryStore):
    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        moved = await super().touch(key, deadline=deadline, seen_at=seen_at, expected=expected, now=now)
        if isinstance(there := self._rows.get(key), Record) and moved:
            self._rows[key] = changed(there, versions=("touched", *there.versions))
        return moved


class TouchIgnoresTheVersion(MemoryStore):
    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        if isinstance(there := self._rows.get(key), Record):
            expected = there.version
        return await super().touch(key, deadline=deadline, seen_at=seen_at, expected=expected, now=now)


class TouchMovesBackAndBeyond(MemoryStore):
    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        with self._lock:
            there = self._live(key, now)
            if not isinstance(there, Record) or there.version != expected:
                return False
            self._write(changed(there, deadline=deadline, seen_at=seen_at), there, now)
            return True


class ForgetsTombstones(MemoryStore):
    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        deleted = await super().delete(key, now=now, token=token, expected=expected)
        with self._lock:
            if isinstance(there := self._rows.get(key), Ended):
                self._drop(key, there)
        return deleted


class KeepsTombstonesTooLong(MemoryStore):
    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        there = self._rows.get(key)
        return there if isinstance(there, Ended) else await super().load(key, now=now)


class TombstonesBeginEarlier(MemoryStore):
    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        return await super().delete(key, now=now - 30, token=token, expected=expected)


class DeleteIgnoresExpected(MemoryStore):
    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        return await super().delete(key, now=now, token=token)


class DeleteForgetsItsToken(MemoryStore):
    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        if isinstance(self._rows.get(key), Ended):
            return False
        return await super().delete(key, now=now, token=token, expected=expected)


class NeverExpires(MemoryStore):
    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        return self._rows.get(key)


class WritesToTheExpired(MemoryStore):
    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        return await super().replace(record, expected=expected, now=now - 2_000, may_shorten=may_shorten)


class TakesTheLivingForExpired(MemoryStore):
    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        found = await super().load(key, now=now)
        return Expired(key) if isinstance(found, Record) and found.deadline <= now + 0.5 else found


class TakesTheUnknownForExpired(MemoryStore):
    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        return await super().load(key, now=now) or Expired(key)


class TakesTheDeletedForExpired(MemoryStore):
    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        known = key in self._rows
        return await super().load(key, now=now) or (Expired(key) if known else None)


class TellsOfAnotherDeadline(MemoryStore):
    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        found = await super().load(key, now=now)
        return changed(found, why="idle") if isinstance(found, Expired) else found


class TellsOfAnotherUser(MemoryStore):
    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        found = await super().load(key, now=now)
        return changed(found, user_id="eve") if isinstance(found, Expired) else found


class RevivesWhenTheClockStepsBack(MemoryStore):
    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        there = self._rows.get(key)
        return (
            None if isinstance(there, Record) and there.deadline <= now else await super().load(key, now=now)
        )


class ComparesWithTheServersClock(MemoryStore):
    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        return await super().load(key, now=now + 86_400 * 365)


class RoundsTimes(MemoryStore):
    async def create(self, record: Record, *, now: float) -> Outcome:
        return await super().create(changed(record, seen_at=round(record.seen_at, 6)), now=now)


class TakesDataForText(MemoryStore):
    async def create(self, record: Record, *, now: float) -> Outcome:
        return await super().create(
            changed(record, data=record.data.decode(errors="replace").encode()), now=now
        )


class FoldsTheCaseOfKeys(MemoryStore):
    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        rows = {row.key.casefold(): row for row in self._rows.values()}
        return rows.get(key.casefold())


class FoldsTheCaseOfUsers(MemoryStore):
    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        same = [user for user in self._users if user.strip().casefold() == user_id.strip().casefold()]
        return Page([record for user in same for record in self._of(user, now)])


class ReplacesInTwoSteps(MemoryStore):
    """Looks, lets another task or thread look too, then writes."""

    def __init__(self) -> None:
        super().__init__()
        self._second = threading.Event()
        self._looked = 0

    async def replace(
        self, record: Record, *, expected: str, now: float, may_shorten: bool = False
    ) -> Outcome:
        there = await self.load(record.key, now=now)
        if not isinstance(there, Record):
            return GONE
        if there.version != expected:
            return Changed(there)
        await self._let_another_look()
        return await IgnoresTheVersion.replace(self, record, expected=expected, now=now)  # type: ignore[arg-type]  # borrowed

    async def _let_another_look(self) -> None:
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            self._looked += 1
            if self._looked > 1:
                self._second.set()
            self._second.wait(timeout=5)
        else:
            await asyncio.sleep(0)


class Suspends(MemoryStore):
    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        await asyncio.sleep(0)
        return await super().load(key, now=now)


class RaisesForTheUnknown(MemoryStore):
    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        if key not in self._rows:
            raise KeyError(key)
        return await super().load(key, now=now)


class IgnoresTheFence(MemoryStore):
    def _fenced(self, user_id: str | None, terms: Terms) -> bool:
        return False


class FencesInTheCallersClock(MemoryStore):
    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        self._clock = lambda: now
        return await super().admit(record, expected=expected, terms=terms, now=now)

    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        self._clock = lambda: now
        return await super().end_user(user_id, keep=keep, now=now, token=token)


class FencesEveryone(MemoryStore):
    def _fenced(self, user_id: str | None, terms: Terms) -> bool:
        return bool(self._fences) and super()._fenced(next(reversed(self._fences)), terms)


class IgnoresItsOwnFence(MemoryStore):
    def _fenced(self, user_id: str | None, terms: Terms) -> bool:
        return super()._fenced(user_id, Terms(stopwatch=terms.stopwatch))


class RaisesTheSameFenceTwice(MemoryStore):
    def __init__(self) -> None:
        ticks = iter(n // 8 / 1000 for n in range(10_000_000))
        super().__init__(monotonic=lambda: next(ticks))

    def _raise_fence(self, user_id: str) -> float:
        self._fences[user_id] = self._clock()
        return self._fences[user_id]


class WritesWhatItFences(MemoryStore):
    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        outcome = await super().admit(record, expected=expected, terms=terms, now=now)
        if outcome is FENCED:
            with self._lock:
                self._write(record, self._live(record.key, now), now)
        return outcome


class IndexMissesALogin(MemoryStore):
    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        outcome = await super().admit(record, expected=expected, terms=terms, now=now)
        if outcome is SAVED and expected is not None:
            self._strike(record.user_id or "", record.key)
        return outcome


class HealsAwayWhatIsStillNeeded(MemoryStore):
    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        page = await super().of_user(user_id, now=now, cursor=cursor, limit=limit)
        self._users.pop(user_id, None)
        return page


class ListsTheWrongWayRound(MemoryStore):
    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        page = await super().of_user(user_id, now=now, cursor=cursor, limit=limit)
        return Page(page.records[::-1], page.cursor)


class PagesForEver(MemoryStore):
    async def of_user(self, user_id: str, *, now: float, cursor: str | None = None, limit: int = 100) -> Page:
        return await super().of_user(user_id, now=now, limit=limit)


class LimitCountsItself(MemoryStore):
    def _too_many(self, record: Record, terms: Terms, now: float) -> list[Record]:
        return super()._too_many(changed(record, key="another"), terms, now)


class LimitEndsTheNewest(MemoryStore):
    def _too_many(self, record: Record, terms: Terms, now: float) -> list[Record]:
        count = len(super()._too_many(record, terms, now))
        others = [other for other in self._of(record.user_id or "", now) if other.key != record.key]
        return sorted(others, key=lambda other: -(other.authenticated_at or 0))[:count]


class NeverFull(MemoryStore):
    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        return await super().admit(record, expected=expected, terms=changed(terms, evict=True), now=now)


class EndUserSparesNobody(MemoryStore):
    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        return await super().end_user(user_id, keep=None, now=now, token=token)


class EndsSessionsOfOthers(MemoryStore):
    async def end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        return await self.delete(key, now=now, token=token)


class SweepsTheLiving(MemoryStore):
    async def sweep(self, *, now: float, limit: int = 1000) -> int:
        return await super().sweep(now=now + 3_600, limit=limit)


class SweepsWithoutLimit(MemoryStore):
    async def sweep(self, *, now: float, limit: int = 1000) -> int:
        return await super().sweep(now=now, limit=1_000_000)


class CountsTheDead(MemoryStore):
    async def count(self, *, now: float) -> int:
        return len(self._rows)


class TellsOfTheExpired(MemoryStore):
    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        known = key in self._rows
        found = await super().load(key, now=now)
        if not isinstance(found, Record | Ended) and known:
            self._tell_of(key)
        return found


class TellsOfTheKept(MemoryStore):
    async def end_user(self, user_id: str, *, keep: str | None, now: float, token: str) -> EndedAll:
        if keep is not None:
            self._tell_of(keep)
        return await super().end_user(user_id, keep=keep, now=now, token=token)


class TellsOfWhatItDoesNotEnd(MemoryStore):
    async def delete(self, key: str, *, now: float, token: str, expected: str | None = None) -> bool:
        ended = await super().delete(key, now=now, token=token, expected=expected)
        if not ended:
            self._tell_of(key)
        return ended


class TellsTwice(MemoryStore):
    def _tell_of(self, *keys: str) -> None:
        super()._tell_of(*keys, *keys)


class TellsOfWhatIsWritten(MemoryStore):
    async def touch(self, key: str, *, deadline: float, seen_at: float, expected: str, now: float) -> bool:
        self._tell_of(key)
        return await super().touch(key, deadline=deadline, seen_at=seen_at, expected=expected, now=now)


class EndsOnesOfOthersAloud(MemoryStore):
    async def end_one(self, user_id: str, key: str, *, now: float, token: str) -> bool:
        ended = await super().end_one(user_id, key, now=now, token=token)
        if not ended:
            self._tell_of(key)
        return ended


class TellsOfTheRefused(MemoryStore):
    async def admit(self, record: Record, *, expected: str | None, terms: Terms, now: float) -> Outcome:
        outcome = await super().admit(record, expected=expected, terms=terms, now=now)
        if outcome is not SAVED:
            self._tell_of(record.key)
        return outcome


class WatchesOnWhenStopped(MemoryStore):
    def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
        super().watch(tell)
        return lambda: None


class BeginsByLosing(MemoryStore):
    def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
        tell(Notice("lost"))
        return super().watch(tell)


class TellsFromAThread(MemoryStore):
    def _tell_of(self, *keys: str) -> None:
        thread = threading.Thread(target=super()._tell_of, args=keys)
        thread.start()
        thread.join()


class TellsNothing(MemoryStore):
    def _tell_of(self, *keys: str) -> None: ...


class StaysSilent(MemoryStore):
    def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
        return lambda: None


class SaysOnceOnlyThatItWatches(MemoryStore):
    def watch(self, tell: Callable[[Notice], None]) -> Callable[[], None]:
        tell(Notice("watching"))
        return lambda: None


CAUGHT: list[tuple[Callable[[], MemoryStore], str]] = [
    (Upserts, "replace_over_nothing_is_gone"),
    (Upserts, "replace_over_a_tombstone_is_gone"),
    (Upserts, "a_delete_among_writers_stays_deleted"),
    (IgnoresTheVersion, "replace_over_another_version_is_changed"),
    (IgnoresTheVersion, "a_hundred_increments_lose_nothing"),
    (IgnoresTheVersion, "of_many_replaces_over_one_version_one_is_saved"),
    (ForgetsItsOwnWrites, "replace_again_with_the_same_version_is_saved"),
    (ForgetsItsOwnWrites, "create_again_with_the_same_version_is_saved"),
    (WritesARetryAgain, "replace_again_does_not_undo_a_later_write"),
    (RemembersTheLastVersionOnly, "replace_again_does_not_undo_a_later_write"),
    (MovesDeadlinesBack, "replace_never_moves_times_back"),
    (NeverShortens, "replace_may_shorten_when_told_so"),
    (AnswersTheWrongRecordInChanged, "replace_over_another_version_is_changed"),
    (CreatesOverWhatIsThere, "create_over_a_live_record_is_taken"),
    (CreatesOverWhatIsThere, "create_again_does_not_undo_a_later_write"),
    (CreatesOverWhatIsThere, "of_many_creates_one_is_saved"),
    (CreatesOverTombstones, "create_over_a_tombstone_is_taken"),
    (TouchMovesTheVersion, "touch_moves_times_and_no_version"),
    (TouchIgnoresTheVersion, "touch_over_another_version_is_refused"),
    (TouchMovesBackAndBeyond, "touch_only_moves_forward"),
    (TouchMovesBackAndBeyond, "touch_never_passes_the_absolute_deadline"),
    (ForgetsTombstones, "delete_leaves_a_tombstone"),
    (KeepsTombstonesTooLong, "delete_leaves_a_tombstone"),
    (TombstonesBeginEarlier, "a_tombstone_outlasts_the_deadline"),
    (DeleteIgnoresExpected, "delete_with_expected_deletes_that_version_only"),
    (DeleteIgnoresExpected, "of_a_replace_and_a_delete_over_one_version_one_wins"),
    (DeleteForgetsItsToken, "delete_again_with_the_same_token_is_true"),
    (NeverExpires, "a_record_is_gone_at_its_deadline"),
    (WritesToTheExpired, "replace_over_an_expired_record_is_gone"),
    (TakesTheLivingForExpired, "a_record_is_gone_at_its_deadline"),
    (TakesTheUnknownForExpired, "load_of_an_unknown_key_is_none"),
    (TakesTheDeletedForExpired, "delete_leaves_a_tombstone"),
    (TellsOfAnotherDeadline, "load_may_tell_what_is_expired_from_what_is_not_there"),
    (TellsOfAnotherUser, "load_may_tell_what_is_expired_from_what_is_not_there"),
    (RevivesWhenTheClockStepsBack, "load_of_an_expired_record_is_for_good"),
    (ComparesWithTheServersClock, "what_was_created_comes_back_equal"),
    (RoundsTimes, "what_was_created_comes_back_equal"),
    (TakesDataForText, "data_is_bytes_of_any_kind"),
    (FoldsTheCaseOfKeys, "keys_are_case_sensitive_and_opaque"),
    (FoldsTheCaseOfUsers, "user_ids_are_opaque"),
    (ReplacesInTwoSteps, "of_many_replaces_over_one_version_one_is_saved"),
    (RaisesForTheUnknown, "load_of_an_unknown_key_is_none"),
    (IgnoresTheFence, "a_login_begun_before_the_fence_is_refused"),
    (IgnoresTheFence, "no_login_begun_before_an_end_user_survives_it"),
    (FencesInTheCallersClock, "the_fence_is_in_the_stores_own_clock"),
    (FencesEveryone, "a_login_begun_after_the_fence_is_admitted"),
    (IgnoresItsOwnFence, "a_request_passes_its_own_fence"),
    (RaisesTheSameFenceTwice, "a_request_does_not_pass_a_later_fence"),
    (WritesWhatItFences, "a_login_begun_before_the_fence_is_refused"),
    (IndexMissesALogin, "admit_replaces_and_indexes"),
    (HealsAwayWhatIsStillNeeded, "of_user_stays_right_after_healing"),
    (ListsTheWrongWayRound, "of_user_lists_the_newest_login_first"),
    (PagesForEver, "of_user_pages_give_each_session_once"),
    (LimitCountsItself, "the_limit_counts_live_sessions_without_itself"),
    (LimitEndsTheNewest, "the_limit_ends_the_oldest_logins"),
    (NeverFull, "the_limit_refuses_when_told_not_to_evict"),
    (NeverFull, "parallel_logins_are_refused_at_the_limit"),
    (EndUserSparesNobody, "end_user_keeps_the_one_it_is_told_to"),
    (EndsSessionsOfOthers, "end_one_ends_only_the_users_own"),
    (SweepsTheLiving, "sweep_deletes_the_expired_only"),
    (SweepsWithoutLimit, "sweep_keeps_to_its_limit"),
    (CountsTheDead, "count_is_how_many_live"),
    (BeginsByLosing, "a_watch_first_says_that_it_watches"),
    (TellsTwice, "a_watch_tells_of_a_delete"),
    (TellsOfWhatItDoesNotEnd, "a_watch_tells_of_a_delete"),
    (TellsOfWhatIsWritten, "a_watch_does_not_tell_of_what_lives_on"),
    (TellsOfTheExpired, "a_watch_does_not_tell_of_what_expires"),
    (EndsOnesOfOthersAloud, "a_watch_tells_of_an_end_one"),
    (TellsOfTheKept, "a_watch_tells_of_an_end_user"),
    (TellsOfTheRefused, "a_watch_tells_of_an_eviction"),
    (WatchesOnWhenStopped, "a_watch_that_is_stopped_tells_nothing"),
]


@pytest.mark.parametrize("mode", ["blocking", "awaiting"])
@pytest.mark.parametrize(("store", "name"), CAUGHT)
def test_a_broken_store_is_found_out_by(store: Callable[[], MemoryStore], name: str, mode: Mode) -> None:
    [sentence] = [one for one in StoreContract.sentences(modes=[mode]) if one.name == name]
    with pytest.raises(ContractBroken) as caught:
        StoreContract(store).run(sentence)
    message = str(caught.value)
    assert f"{name} ({mode})" in message
    assert sentence.text in message


@pytest.mark.parametrize("mode", ["blocking", "awaiting"])
@pytest.mark.parametrize(
    ("store", "name"),
    [
        (TellsNothing, "a_watch_tells_of_a_delete"),
        (TellsNothing, "a_watch_tells_of_all_that_are_ended_at_once"),
        (StaysSilent, "a_watch_first_says_that_it_watches"),
        (SaysOnceOnlyThatItWatches, "a_watch_says_again_that_it_works"),
    ],
)
def test_a_notice_that_does_not_come_is_given_up(
    store: Callable[[], MemoryStore], name: str, mode: Mode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watches, "PATIENCE", 0.05)
    [sentence] = [one for one in StoreContract.sentences(modes=[mode]) if one.name == name]
    with pytest.raises(ContractBroken, match="did not come within"):
        StoreContract(store).run(sentence)


def test_who_tells_from_another_thread_is_found_out() -> None:
    [blocking, awaiting] = [
        one for one in StoreContract.sentences() if one.name == "a_watch_tells_on_its_event_loop"
    ]
    StoreContract(TellsFromAThread).run(blocking)
    with pytest.raises(ContractBroken, match="threads"):
        StoreContract(TellsFromAThread).run(awaiting)


def test_crowds_find_lost_touches() -> None:
    # In threads it is a matter of luck; as tasks they take turns.
    name = "touches_among_writers_take_nothing_back"
    [sentence] = [one for one in StoreContract.sentences(modes=["awaiting"]) if one.name == name]
    with pytest.raises(ContractBroken, match="the deadline: expected"):
        StoreContract(MovesDeadlinesBack).run(sentence)


def test_a_store_that_suspends_cannot_be_blocking() -> None:
    [blocking, awaiting] = [
        one for one in StoreContract.sentences() if one.name == "load_of_an_unknown_key_is_none"
    ]
    StoreContract(Suspends).run(awaiting)
    with pytest.raises(ContractBroken, match="awaiting client") as caught:
        StoreContract(Suspends).run(blocking)
    assert isinstance(caught.value.__cause__, WrongFace)


def test_the_message_has_what_was_asked_and_what_came() -> None:
    with pytest.raises(ContractBroken) as caught:
        StoreContract(MovesDeadlinesBack).run()
    assert str(caught.value) == (
        "replace_never_moves_times_back (blocking)\n"
        "  the contract: A slow writer that read before a touch takes neither the deadline nor seen_at back.\n"
        "  the store:    load: the record differs: seen_at expected 1700000300.0, got 1700000000.0; "
        "deadline expected 1700001300.0, got 1700001000.0"
    )


def test_an_ability_that_is_lacking_is_said() -> None:
    class Five:
        """A store with the five verbs only."""

        def __init__(self) -> None:
            store = MemoryStore()
            self.load, self.create, self.replace = store.load, store.create, store.replace
            self.touch, self.delete = store.touch, store.delete

        def blocking(self) -> "Five":
            return self

        awaiting = blocking

    ran = StoreContract(Five).run()
    assert {sentence.needs for sentence in ran} == {()}
    assert {sentence.mode for sentence in ran} == {"blocking", "awaiting"}
    [lists, *_] = [
        one for one in StoreContract.sentences() if one.name == "of_user_lists_the_newest_login_first"
    ]
    with pytest.raises(
        ContractBroken, match=r"Five does not have the ability ByUser; sentences\(without=\[ByUser\]\)"
    ):
        StoreContract(Five).run(lists)


def test_sentences_have_names_of_their_own_and_say_something() -> None:
    names = [sentence.name for sentence in SENTENCES]
    assert len(names) == len(set(names))
    assert all(sentence.text for sentence in SENTENCES)


class Closes(MemoryStore):
    closed: list[str]  # set anew by each test

    def close(self) -> None:
        self.closed.append("close")


class AlsoAwaits(Closes):
    async def aclose(self) -> None:
        self.closed.append("aclose")


@pytest.mark.parametrize(
    ("store", "expected"), [(Closes, ["close", "close"]), (AlsoAwaits, ["close", "aclose"])]
)
def test_what_can_be_closed_is_closed(store: type[Closes], expected: list[str]) -> None:
    store.closed = []
    StoreContract(store).run(*StoreContract.sentences()[:2])
    assert store.closed == expected
