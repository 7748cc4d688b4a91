"""The event-loop heartbeat: it tells a stall from a free loop, and its quantiles are nearest rank."""

import asyncio
import time
from pathlib import Path

import pytest

from bench.stall import busy, heartbeat, quantile, stalls, waiting_inline


def test_quantile_is_nearest_rank() -> None:
    values = [4.0, 1.0, 3.0, 2.0]
    assert [quantile(values, share) for share in (0.0, 0.5, 0.51, 0.99, 1.0)] == [1.0, 2.0, 3.0, 4.0, 4.0]
    with pytest.raises(ValueError, match="no values"):
        quantile([], 0.5)


def test_heartbeat_sees_a_loop_that_is_held_up() -> None:
    async def held_up() -> list[float]:
        stop = asyncio.Event()
        beat = asyncio.create_task(heartbeat(stop))
        await asyncio.sleep(0)  # let it begin its first sleep
        busy_until = time.perf_counter() + 0.05
        while time.perf_counter() < busy_until:
            pass
        stop.set()
        return await beat

    assert max(asyncio.run(held_up())) >= 0.045


def test_waiting_for_a_locked_file_inline_stalls_the_loop(tmp_path: Path) -> None:
    path = tmp_path / "busy.db"
    with busy(path, hold=0.1, rest=0.05):
        late = asyncio.run(stalls(waiting_inline, path, 0.3))
    assert max(late) >= 0.05
