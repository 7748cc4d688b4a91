"""Users at work on stores that lie: the workload asks what brings each lie out, and the checker counts it."""

import asyncio
import random
from typing import Any

import msgspec
import pytest

from coatcheck.core.ports import SAVED, EndedAll, Outcome
from coatcheck.core.record import Ended, Expired, Record
from coatcheck.errors import ReplyLost, StoreUnavailable
from coatcheck.stores.memory import MemoryStore
from tests.faults import figures
from tests.faults.checker import Report
from tests.faults.site import asgi_site, wsgi_site
from tests.faults.workload import at_work

LUCK = random.Random(1)


class Forgetful(MemoryStore):
    """Now and then acknowledges a write and does not write."""

    async def replace(self, record: Record, **how: Any) -> Outcome:
        return SAVED if LUCK.random() < 0.05 else await super().replace(record, **how)


class Sentimental(MemoryStore):
    """Acknowledges ends, and keeps the session."""

    async def delete(self, key: str, **how: Any) -> bool:
        return True

    async def end_user(self, user_id: str, **how: Any) -> EndedAll:
        return EndedAll(0, 0.0)


class Confused(MemoryStore):
    """Now and then gives out somebody else's record under one's own key."""

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        mine = await super().load(key, now=now)
        other = LUCK.choice(list(self._rows.values())) if self._rows else None
        if isinstance(mine, Record) and isinstance(other, Record) and LUCK.random() < 0.02:
            return msgspec.structs.replace(other, key=key, verifier=mine.verifier)
        return mine


class Deserted(MemoryStore):
    """Loses whole sessions."""

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        if LUCK.random() < 0.005:
            await self.delete(key, now=now, token="nobody's")
        return await super().load(key, now=now)


class Stammering(MemoryStore):
    """Does not lie: its answers are lost now and then, after it has carried out what it was asked, or it cannot be reached."""

    async def replace(self, record: Record, **how: Any) -> Outcome:
        outcome = await super().replace(record, **how)
        if LUCK.random() < 0.2:
            raise ReplyLost("no answer")
        return outcome

    async def load(self, key: str, *, now: float) -> Record | Ended | Expired | None:
        if LUCK.random() < 0.05:
            raise StoreUnavailable("not reached")
        return await super().load(key, now=now)


async def worked(store: MemoryStore) -> Report:
    async with at_work([asgi_site(store), wsgi_site(store)], seed=2) as work:
        await work.more(1_000)
        return await work.finish()


@pytest.mark.parametrize(
    ("kind", "damage"),
    [
        (Forgetful, {"lost", "stale"}),
        (Sentimental, {"undone"}),
        (Confused, {"mixed"}),
        (Deserted, {"logged_out", "lost", "stale"}),
    ],
)
def test_a_lie_is_found_out(kind: type[MemoryStore], damage: set[str]) -> None:
    report = asyncio.run(worked(kind()))
    names = ("lost", "logged_out", "undone", "mixed", "stale", "invented")
    found = {name for name in names if getattr(report, name)}
    # Whoever was shown another's session cannot be followed any further.
    assert found >= damage if kind is Confused else found == damage, report.line()
    with pytest.raises(AssertionError):
        figures.sound(report)


@pytest.mark.parametrize("kind", [MemoryStore, Stammering])
def test_where_there_is_none_nothing_is_found(kind: type[MemoryStore]) -> None:
    report = asyncio.run(worked(kind()))
    figures.sound(report)
    assert report.acknowledged > 1_000
    assert (report.refusals > 0) == (kind is Stammering)
