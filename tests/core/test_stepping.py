"""Running a coroutine to its end without an event loop, and the guard's own words where that cannot be."""

import asyncio
from typing import Any

import pytest

from coatcheck.core.stepping import run_now
from coatcheck.errors import WrongFace


async def answer(value: Any) -> Any:
    return value


async def nested(depth: int) -> int:
    return 1 + await nested(depth - 1) if depth else 0


@pytest.mark.parametrize("value", [None, 42, StopIteration("as a value")])
def test_the_result_comes_back(value: Any) -> None:
    assert run_now(answer(value)) is value


def test_through_any_number_of_awaits() -> None:
    assert run_now(nested(100)) == 100


def test_exceptions_come_as_they_are() -> None:
    async def fail() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run_now(fail())


def test_inside_a_running_loop_too() -> None:
    async def main() -> Any:
        return run_now(answer(42))

    assert asyncio.run(main()) == 42


def test_what_has_to_wait_is_told_what_is_wrong_and_what_to_do() -> None:
    cleaned = []

    async def waits() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            cleaned.append(True)

    with pytest.raises(WrongFace, match=r"awaiting client was used from the sync face.*AsyncSessionManager"):
        run_now(waits())
    assert cleaned == [True]


def test_the_guard_keeps_its_word_though_the_flow_holds_on() -> None:
    """A flow that awaits in `finally`, or swallows GeneratorExit, would make Python complain of something else."""

    async def stubborn() -> None:
        while True:
            try:
                await asyncio.sleep(0)
            except GeneratorExit:
                await asyncio.sleep(0)

    with pytest.raises(WrongFace, match="awaiting client"):
        run_now(stubborn())
