"""What a client has for each event loop."""

import asyncio

from coatcheck.stores._loops import take_ended


def test_only_what_ended_is_taken() -> None:
    ended, running = asyncio.new_event_loop(), asyncio.new_event_loop()
    ended.close()
    lines: dict[asyncio.AbstractEventLoop, str] = {ended: "ended", running: "running"}
    assert take_ended(lines) == ["ended"]
    assert lines == {running: "running"}
    running.close()


def test_another_threads_loop_may_come_meanwhile() -> None:
    """Several threads, each with a loop, on one store: going through the dict itself raised "changed size during iteration"."""
    lines: dict[asyncio.AbstractEventLoop, str] = {}
    newcomer = asyncio.new_event_loop()

    class Overtaken(asyncio.SelectorEventLoop):
        def is_closed(self) -> bool:
            lines[newcomer] = "new"
            return super().is_closed()

    loops = [Overtaken(), Overtaken()]
    lines.update(dict.fromkeys(loops, "old"))
    assert take_ended(lines) == []
    assert len(lines) == 3
    for loop in (*loops, newcomer):
        loop.close()
