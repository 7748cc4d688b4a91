"""What the fault tests of databases share: both faces of a store at work for the length of a fault, and the bars."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from coatcheck.core.stepping import run_now
from tests.faults.checker import Report
from tests.faults.site import Site, asgi_site, wsgi_site
from tests.faults.workload import Work, at_work

__all__ = ["RECOVERED", "is_honest", "now", "set_up", "under"]

RECOVERED: Final = 5.0
"""Seconds after there is a server again until every browser is served: the promise."""
GROWN: Final = 60_000_000
"""Octets that this process, visitors and all, may grow by during an outage: a heap of requests that pile up is larger."""


def set_up(store: Any) -> Any:
    """The store, with its tables or indexes made."""
    run_now(store.blocking().setup())
    return store


async def under(
    store: Any,
    hurt: Callable[[Work], Awaitable[float]],
    *,
    seed: int,
    faces: Sequence[Callable[[Any], Site]] = (asgi_site, wsgi_site),
) -> tuple[Report, float]:
    """Visitors of one application, half of their requests on an event loop and half in threads, and what is done to the server
    meanwhile: `hurt` returns when it was well again (`now()`).

    Returns the counts, and the seconds from then until every browser had been served. The store is closed.
    """
    loop = asyncio.get_running_loop()
    loop.set_default_executor(
        ThreadPoolExecutor(64)
    )  # so that no request waits for a thread, only for the store
    try:
        async with at_work([face(store) for face in faces], seed=seed) as work:
            await work.more(300)
            before = _resident()
            well_at = await hurt(work)
            grown = _resident() - before
            took = await work.recovered(well_at)
            await work.more(300)
            report = await work.finish()
    finally:
        store.close()
        await store.aclose()
    assert grown < GROWN, f"{grown} octets more"
    return report, took


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def is_honest(report: Report) -> None:
    """Where a setting may lose what was acknowledged: still nobody is mixed up, and each answer is a page or a 503."""
    assert (report.mixed, report.errors) == (0, {}), report.line()


def now() -> float:
    """Of the clock that `Work.recovered` takes."""
    return time.monotonic()
