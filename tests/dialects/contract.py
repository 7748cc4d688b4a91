"""The contract of `ExpressStore` as tests: one suite for every store of the Node world, on both faces.

    PLACE = Place(open=lambda: ConnectRedis.from_url(…, prefix=…))

    @pytest.mark.parametrize("face", FACES)
    @pytest.mark.parametrize("sentence", SENTENCES, ids=named)
    def test_contract(sentence, face): keep(sentence, face, PLACE)

Each sentence is one small function. What differs between the stores (who counts the time, how exactly, whether there is a touch)
is said by their `Place`. The clock starts at the real time: a server may delete by its own what has expired by its own.
"""

from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from typing import Any, Final

from coatcheck.dialects.express.plain import load
from coatcheck.dialects.express.ports import (
    GONE,
    SAVED,
    TAKEN,
    Changed,
    Entry,
    ExpressStore,
    Lists,
    Outcome,
    Prunes,
)
from tests.dialects.rig import FACES, HOUR, WRITERS, Place, Rig, data, iso, on

__all__ = ["FACES", "SENTENCES", "Place", "Rig", "keep", "named"]

ROUNDS: Final = 5
NASTY: Final[dict[str, Any]] = {
    "text": "é \u2028 𝄞 \\ \" '",
    "list": [1, 2.5, None, True, {}],
    "nested": {"cookie": {"a": []}},
}
Sentence = Callable[[Rig], Awaitable[None]]
SENTENCES: Final[list[Sentence]] = []


def sentence(function: Sentence) -> Sentence:
    SENTENCES.append(function)
    return function


def named(function: Any) -> str:
    """The name of a sentence, for pytest."""
    return str(function.__name__)


def keep(sentence: Sentence, face: str, place: Place) -> None:
    """Have a store keep a sentence."""
    on(face, place, lambda store: sentence(Rig(store, face, place)))


# --------------------------------------------------------------------------------------------------------- get and create


@sentence
async def what_nobody_wrote_is_not_there(rig: Rig) -> None:
    assert await rig.get(rig.sid()) is None


@sentence
async def what_is_created_is_there_as_it_was(rig: Rig) -> None:
    sid = await rig.made(**NASTY)
    entry = await rig.holds(sid, **NASTY)
    cookie = load(entry.text)["cookie"]
    assert (cookie["originalMaxAge"], cookie["path"], cookie["httpOnly"]) == (3_600_000, "/", True)
    assert cookie["expires"] == iso(rig.now + HOUR)
    rig.ends_in(entry, HOUR)


@sentence
async def an_entry_shows_nothing_of_what_it_holds(rig: Rig) -> None:
    entry = await rig.lives(await rig.made(secret="sesame"))
    assert "sesame" not in repr(entry)


@sentence
async def a_create_writes_over_nothing(rig: Rig) -> None:
    sid = await rig.made(n=1)
    assert await rig.create(sid, n=2) is TAKEN
    await rig.holds(sid, n=1)


@sentence
async def of_several_creates_one_is_saved(rig: Rig) -> None:
    sid, numbers = rig.sid(), count()

    async def create(store: ExpressStore, wait: Callable[[], None]) -> tuple[int, Outcome]:
        n = next(numbers)
        await store.get(sid, now=rig.now)  # connected before it counts
        wait()
        text = rig.text(HOUR, n=n)
        return n, await store.create(sid, text, expires=rig.end(HOUR), now=rig.now)

    answers = await rig.together(create)
    saved = [n for n, outcome in answers if outcome is SAVED]
    assert len(saved) == 1
    assert [outcome for _, outcome in answers].count(TAKEN) == WRITERS - 1
    await rig.holds(sid, n=saved[0])


# ---------------------------------------------------------------------------------------------------------------- replace


@sentence
async def a_replace_writes_over_what_was_read(rig: Rig) -> None:
    sid = await rig.made(n=1)
    read = await rig.lives(sid)
    assert await rig.replace(sid, read, 2 * HOUR, **NASTY) is SAVED
    rig.ends_in(await rig.holds(sid, **NASTY), 2 * HOUR)


@sentence
async def a_replace_by_the_same_is_saved(rig: Rig) -> None:
    """Some servers answer that no row was changed."""
    sid = await rig.made(n=1)
    read = await rig.lives(sid)
    end = rig.end(HOUR)
    assert await rig.store.replace(sid, read.text, over=read, expires=end, now=rig.now) is SAVED
    assert (await rig.holds(sid, n=1)).text == read.text


@sentence
async def a_replace_shortens_a_life_too(rig: Rig) -> None:
    sid = await rig.made(n=1)
    assert await rig.replace(sid, await rig.lives(sid), 600, n=2) is SAVED
    rig.ends_in(await rig.holds(sid, n=2), 600)


@sentence
async def a_replace_over_something_else_changes_nothing(rig: Rig) -> None:
    sid = await rig.made(n=1)
    read = await rig.lives(sid)
    assert await rig.replace(sid, read, n=2) is SAVED
    outcome = await rig.replace(sid, read, n=3)
    assert isinstance(outcome, Changed)
    entry = await rig.holds(sid, n=2)
    if outcome.current is not None:
        assert data(outcome.current.text) == {"n": 2}
        assert await rig.replace(sid, outcome.current, n=4) is SAVED
        entry = await rig.holds(sid, n=4)
    rig.ends_in(entry, HOUR)


@sentence
async def a_replace_after_a_touch_is_saved(rig: Rig) -> None:
    """A touch changes nothing that another request has read."""
    sid = await rig.made(n=1)
    read = await rig.lives(sid)
    rig.later(60, sid)
    await rig.touch(sid, n=1)
    assert await rig.replace(sid, read, n=2) is SAVED
    await rig.holds(sid, n=2)


@sentence
async def nothing_destroyed_is_written_back_to_life(rig: Rig) -> None:
    sid = await rig.made(n=1)
    read = await rig.lives(sid)
    assert await rig.store.destroy(sid)
    assert await rig.replace(sid, read, n=2) is GONE
    assert await rig.get(sid) is None


@sentence
async def nothing_expired_is_written_back_to_life(rig: Rig) -> None:
    sid = await rig.made(n=1)
    read = await rig.lives(sid)
    rig.later(HOUR + 2, sid)
    if rig.place.ends:
        assert await rig.replace(sid, read, n=2) is GONE
        assert await rig.get(sid) is None


@sentence
async def several_writers_lose_nothing(rig: Rig) -> None:
    """All read the same, then all write: one is saved, the others are told, and write over what they then read."""
    sid, numbers = await rig.made(who=[]), count()

    async def add(store: ExpressStore, wait: Callable[[], None]) -> None:
        n = next(numbers)
        for _ in range(ROUNDS):
            wait()
            read = await store.get(sid, now=rig.now)
            wait()
            while not await _added(rig, store, sid, read, n):
                read = await store.get(sid, now=rig.now)

    await rig.together(add)
    assert sorted(data((await rig.lives(sid)).text)["who"]) == sorted(list(range(WRITERS)) * ROUNDS)


async def _added(rig: Rig, store: ExpressStore, sid: str, read: Entry | None, n: int) -> bool:
    assert read is not None
    text = rig.text(HOUR, who=[*data(read.text)["who"], n])
    outcome = await store.replace(sid, text, over=read, expires=rig.end(HOUR), now=rig.now)
    assert outcome is SAVED or isinstance(outcome, Changed)
    return outcome is SAVED


@sentence
async def what_is_destroyed_among_writers_stays_destroyed(rig: Rig) -> None:
    for _ in range(ROUNDS):
        sid, numbers = await rig.made(n=0), count()

        async def write(store: ExpressStore, wait: Callable[[], None], sid: str = sid) -> Outcome | bool:
            read = await store.get(sid, now=rig.now)
            n = next(numbers)  # noqa: B023  # all of this round have ended before the next begins
            wait()
            if n == 0 or read is None:
                return await store.destroy(sid)
            text = rig.text(HOUR, n=n)
            return await store.replace(sid, text, over=read, expires=rig.end(HOUR), now=rig.now)

        answers = await rig.together(write)
        assert answers.count(True) == 1
        assert await rig.get(sid) is None


# ----------------------------------------------------------------------------------------------------------------- expiry


@sentence
async def what_is_past_its_end_is_not_there(rig: Rig) -> None:
    if not rig.place.ends:
        return
    sid = await rig.made(600, n=1)
    rig.later(590, sid)
    await rig.holds(sid, n=1)
    rig.later(12, sid)
    assert await rig.get(sid) is None


@sentence
async def without_an_end_the_default_of_the_store_counts(rig: Rig) -> None:
    sid = await rig.made(None, n=1)
    entry = await rig.holds(sid, n=1)
    rig.ends_in(entry, rig.place.default)
    assert await rig.replace(sid, entry, 600, n=2) is SAVED
    assert await rig.replace(sid, await rig.lives(sid), None, n=3) is SAVED
    rig.ends_in(await rig.holds(sid, n=3), rig.place.default)
    assert load((await rig.lives(sid)).text)["cookie"]["expires"] is None


@sentence
async def a_touch_moves_the_end_and_leaves_the_body(rig: Rig) -> None:
    sid = await rig.made(n=1)
    before = await rig.lives(sid)
    rig.later(600, sid)
    await rig.touch(sid, 2 * HOUR, n=2)  # `n` is not to be written
    after = await rig.holds(sid, n=1)
    assert after.text == before.text
    rig.ends_in(after, 2 * HOUR if rig.store.touches else HOUR - 600)


@sentence
async def a_touched_session_outlives_what_its_body_says(rig: Rig) -> None:
    """Wire formats 1.6, rule 1: the body is stale after a touch, and whoever believes it logs people out."""
    if rig.store.touches:
        sid = await rig.made(600, n=1)
        rig.later(590, sid)
        await rig.touch(sid, 600, n=1)
        rig.later(590, sid)
        await rig.holds(sid, n=1)


@sentence
async def a_touch_of_nothing_makes_nothing(rig: Rig) -> None:
    sid = rig.sid()
    await rig.touch(sid, n=1)
    assert await rig.get(sid) is None


@sentence
async def a_touch_does_not_bring_back_what_was_destroyed(rig: Rig) -> None:
    sid = await rig.made(n=1)
    await rig.store.destroy(sid)
    await rig.touch(sid, n=1)
    assert await rig.get(sid) is None


# ---------------------------------------------------------------------------------------------------------------- destroy


@sentence
async def a_destroy_says_whether_there_was_something(rig: Rig) -> None:
    sid = await rig.made(n=1)
    other = await rig.made(n=2)
    assert await rig.store.destroy(sid) is True
    assert await rig.get(sid) is None
    assert await rig.store.destroy(sid) is False
    await rig.holds(other, n=2)


@sentence
async def a_destroyed_id_may_begin_anew(rig: Rig) -> None:
    sid = await rig.made(n=1)
    await rig.store.destroy(sid)
    assert await rig.create(sid, n=2) is SAVED
    await rig.holds(sid, n=2)


# ------------------------------------------------------------------------------------------------------- lists and pruning


async def walked(store: Lists, now: float, limit: int) -> list[Sequence[str]]:
    """The steps of a whole walk."""
    steps, cursor = [], None
    while True:
        step = await store.names(now=now, cursor=cursor, limit=limit)
        steps.append(step.sids)
        if (cursor := step.cursor) is None:
            return steps


@sentence
async def lists_know_every_session(rig: Rig) -> None:
    store = rig.store
    if isinstance(store, Lists) and rig.place.alone:
        sids = {await rig.made(n=n) for n in range(25)}
        for limit in (10, 1000):
            steps = await walked(store, rig.now, limit)
            assert {sid for step in steps for sid in step} >= sids
        assert await store.length(now=rig.now) >= 25
        before = await store.length(now=rig.now)
        await store.destroy(sids.pop())
        assert await store.length(now=rig.now) == before - 1


@sentence
async def clear_leaves_nothing(rig: Rig) -> None:
    store = rig.store
    if isinstance(store, Lists) and rig.place.alone:
        sids = [await rig.made(n=n) for n in range(25)]
        await store.clear()
        assert await store.length(now=rig.now) == 0
        assert [await rig.get(sid) for sid in sids] == [None] * 25
        assert [list(step) for step in await walked(store, rig.now, 1000)] == [[]]
        await store.clear()


@sentence
async def pruning_takes_what_is_over_and_nothing_else(rig: Rig) -> None:
    store = rig.store
    if isinstance(store, Prunes) and rig.place.alone:
        while await store.prune(now=rig.now):
            pass
        old = [await rig.made(600, n=n) for n in range(5)]
        young = [await rig.made(n=n) for n in range(5)]
        rig.later(602, *old, *young)
        assert await store.prune(now=rig.now, limit=3) == 3
        assert await store.prune(now=rig.now) == 2
        assert await store.prune(now=rig.now) == 0
        for sid in young:
            await rig.lives(sid)
