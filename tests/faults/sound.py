"""What tests of faults share: the application over both faces, work on it for the length of a fault, and the bars."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.faults.checker import Report
from tests.faults.site import asgi_site, wsgi_site
from tests.faults.workload import Work, at_work

__all__ = ["RECOVERED", "both_faces", "is_sound", "say", "under"]

RECOVERED: Final = 5.0
"""Seconds after there is a server again until every browser is served: the promise."""
GROWN: Final = 60_000_000
"""Octets that this process, visitors and all, may grow by during an outage: a heap of requests that pile up is larger."""


@asynccontextmanager
async def both_faces(store: Any, *, seed: int, **options: Any) -> AsyncIterator[Work]:
    """Visitors of one application, half of their requests on an event loop and half in threads. The store is closed after."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(
        ThreadPoolExecutor(64)
    )  # so that no request waits for a thread, only for the store
    try:
        async with at_work([asgi_site(store, **options), wsgi_site(store, **options)], seed=seed) as work:
            yield work
    finally:
        store.close()
        await store.aclose()


async def under(
    store: Any, hurt: Callable[[Work], Awaitable[float | None]], *, seed: int, **options: Any
) -> tuple[Report, float]:
    """Work, and what is done to the server meanwhile: `hurt` returns when it was well again (of time.monotonic; None: always).

    Returns the counts, and the seconds from then until every browser had been served.
    """
    async with both_faces(store, seed=seed, **options) as work:
        await work.more(300)
        before = _resident()
        well_at = await hurt(work)
        grown = _resident() - before
        took = 0.0 if well_at is None else await work.recovered(well_at)
        await work.more(300)
        report = await work.finish()
    assert grown < GROWN, f"{grown} octets more"
    return report, took


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def say(what: str, report: Report, took: float | None = None) -> None:
    """The line of figures of a test."""
    print(f"{what}: {report.line()}" + ("" if took is None else f"; recovered in {took:.1f} s"))


def is_sound(report: Report, *, may_lose: bool = False, may_break_off: bool = False) -> None:
    """Nobody is ever mixed up, every answer is a page or a 503, nothing happens twice. `may_lose`: as the setting allows.

    `may_break_off`: answers may be missing, since whoever gave them was killed.
    """
    others = {status: count for status, count in report.errors.items() if status or not may_break_off}
    assert (report.mixed, report.invented, others) == (0, 0, {}), report.line()
    if not may_lose:
        assert (report.lost, report.logged_out, report.undone, report.stale) == (0, 0, 0, 0), report.line()


def now() -> float:
    """Of the clock that `Work.recovered` takes."""
    return time.monotonic()
