"""What requests do: every verb a handler has, each in the smallest form that can go wrong (PROTOCOL rule 30)."""

from typing import Final

from coatcheck.testing.explorer.requests import Handler, Operation

__all__ = ["CORE", "OPERATIONS"]

OPERATIONS: Final[dict[str, Operation]] = {}
"""By name, all of them."""


def _operation(*ends: str, limit: int | None = None, fails: bool = False):  # type: ignore[no-untyped-def]  # used below only
    def put(run):  # type: ignore[no-untyped-def]
        name = run.__name__.removeprefix("_")
        OPERATIONS[name] = Operation(name, run, frozenset(ends), limit, fails)
        return run

    return put
