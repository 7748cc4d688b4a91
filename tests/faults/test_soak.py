"""Ten minutes of all faults at random: over both faces and transports, two clocks and killed workers, on one Redis behind a bad
network.

SOAK_SECONDS in the environment makes it shorter, SOAK_SEED repeats a run as far as the machine's timing lets it.
"""

import asyncio
import faulthandler
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from coatcheck.core.events import Event
from coatcheck.stores.redis import RedisStore
from servers import Server, redis
from servers.redis import cli
from tests.faults import figures
from tests.faults.checker import Report
from tests.faults.proxy import Fault, FaultProxy
from tests.faults.redis_stories import KEEPS
from tests.faults.site import SteppedClock, asgi_site, server_site, wsgi_site
from tests.faults.transports import BOTH
from tests.faults.workload import Work, at_work
from tests.web.servers import Server as Web
from tests.web.servers import uvicorn

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("SOAK_SECONDS", "600"))
SEED = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(1_000_000)))
LONGEST = 4.0
"""Seconds that one fault lasts at most."""
RECOVERY = 5.0
"""Seconds in which everybody is served again after a fault."""
NETWORK: dict[Fault, dict[str, float]] = {
    "delays": {"delay": 0.3},
    "drops": {},
    "resets": {"odds": 0.1},
    "closes": {"odds": 0.1},
    "halves": {"odds": 0.1},
    "hangs": {},
}


class Soak:
    """What can go wrong, and how it is put right. Each fault is a coroutine that returns when it has been put right."""

    def __init__(self, work: Work, store: Server, proxy: FaultProxy, web: Web, skewed: SteppedClock) -> None:
        self.work, self.store, self.proxy, self.web, self.skewed = work, store, proxy, web, skewed
        self.luck = random.Random(SEED)
        self.done: Counter[str] = Counter()
        self.slowest = (0.0, "")
        """The longest recovery, and after what."""
        self.faults: dict[str, Callable[[], Awaitable[None]]] = {
            "network": self.network, "cut": self.cut, "kill": self.kill, "stop": self.stop, "pause": self.pause,
            "worker": self.worker, "clock": self.clock, "forget": self.forget,
        }  # fmt: skip

    async def go_on(self) -> None:
        """One fault after the other until it is time."""
        until = time.monotonic() + SECONDS
        while time.monotonic() < until:
            name = self.luck.choice(list(self.faults))
            await self.faults[name]()
            self.done[name] += 1
            recovered = await self.work.recovered(time.monotonic())
            self.slowest = max(self.slowest, (recovered, name))
            await self.work.more(100)

    async def _lasts(self) -> None:
        until = time.monotonic() + self.luck.uniform(0.2, LONGEST)
        await self.work.until(lambda: time.monotonic() > until, "the fault to last")

    async def network(self) -> None:
        name = self.luck.choice(list(NETWORK))
        self.proxy.be(name, **NETWORK[name])
        await self._lasts()
        self.proxy.be("well")

    async def cut(self) -> None:
        self.proxy.cut()

    async def kill(self) -> None:
        await self._down(self.store.kill)

    async def stop(self) -> None:
        await self._down(self.store.stop)

    async def _down(self, how: Callable[[], None]) -> None:
        await asyncio.to_thread(how)
        await self._lasts()
        await asyncio.to_thread(self.store.start)

    async def pause(self) -> None:
        self.store.pause()
        try:
            await self._lasts()
        finally:
            self.store.resume()

    async def worker(self) -> None:
        """Another comes in its place, and the other one serves meanwhile."""
        listed = Path(f"/proc/{self.web.pid}/task/{self.web.pid}/children").read_text().split()
        served = set().union(*(site.workers for site in self.work.sites)) - {os.getpid()}
        if len(alive := served & {int(child) for child in listed}) == 2:
            os.kill(min(alive), signal.SIGKILL)

    async def clock(self) -> None:
        self.skewed.by = self.luck.choice([0.0, 0.5, -0.5, 60.0, -60.0, 3_700.0, -3_700.0])

    async def forget(self) -> None:
        await asyncio.to_thread(cli, self.store, "SCRIPT", "FLUSH")
        await asyncio.to_thread(cli, self.store, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


async def story(store: Server, proxy: FaultProxy, web: Web) -> tuple[Report, Soak, Counter[str]]:
    url, events = f"redis://127.0.0.1:{proxy.port}/0", Counter[str]()
    backends = [RedisStore.from_url(url, **options) for options in BOTH]

    def hear(event: Event) -> None:
        events[event.name] += 1  # and not into the log, which pytest would keep

    skewed = SteppedClock()
    sites = [
        asgi_site(backends[0], on_event=hear),
        asgi_site(backends[1], on_event=hear, clock=skewed.clock),
        wsgi_site(backends[0], on_event=hear),
        server_site(web.port),
    ]
    try:
        async with at_work(sites, seed=SEED) as work:
            soak = Soak(work, store, proxy, web, skewed)
            await work.more(300)
            await soak.go_on()
            return await work.finish(), soak, events
    finally:
        for backend in backends:
            await backend.aclose()


def test_ten_minutes_of_everything_at_random(tmp_path: Path) -> None:
    faulthandler.cancel_dump_traceback_later()  # pytest's, after ten minutes: this many are meant here
    print(f"\nSOAK_SEED={SEED} SOAK_SECONDS={SECONDS:.0f}")
    with redis(tmp_path / "redis", *KEEPS) as store, FaultProxy(store.port, seed=SEED) as proxy:
        env = {"STORE": f"redis://127.0.0.1:{proxy.port}/0", "STORE_OPTIONS": "{}"}
        with uvicorn("tests.faults.site:app", folder=tmp_path, env=env, options=["--workers", "2"]) as web:
            report, soak, events = asyncio.run(story(store, proxy, web))
    figures.keep(
        f"everything at random, {SECONDS / 60:.0f} min",
        "Redis",
        "one server, appendfsync always",
        report,
        recovered=soak.slowest[0],
        after=soak.slowest[1],
        faults=dict(soak.done),
        events=dict(events),
    )
    figures.sound(report, errors=(0,))
    assert soak.slowest[0] < RECOVERY, soak.slowest
