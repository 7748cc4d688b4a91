"""Our changes on top of what another writer has stored meanwhile, key by key and into objects (PROTOCOL rules 13-17). Pure.

As `core/merge.py`, for JSON without tags: what only one side changed is as that side has it; a deletion beats a change; where
both changed one value, the later commit wins, and that is told.
"""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from coatcheck.core.merge import MISSING, Resolver, three_way
from coatcheck.dialects.express import plain

__all__ = ["Merged", "merge"]

Parts = Mapping[str, bytes]
_NO_RESOLVERS: Final[Mapping[str, Resolver]] = {}


class Merged(NamedTuple):
    """The outcome, and the dotted paths that both had changed."""

    parts: dict[str, bytes]
    conflicts: tuple[str, ...] = ()


def merge(
    base: Parts, mine: Parts, theirs: Parts, resolvers: Mapping[str, Resolver] = _NO_RESOLVERS
) -> Merged:
    """Both began at `base`; `resolvers` settle single keys in the application's own way: (base, theirs, mine) -> value."""
    parts: dict[str, bytes] = {}
    conflicts: list[str] = []
    for key in (*theirs, *(key for key in mine if key not in theirs)):
        was, there, ours = base.get(key), theirs.get(key), mine.get(key)
        part = there
        if _same(was, there):
            part = ours
        elif not _same(was, ours) and not _same(ours, there):
            part = _settled(key, was, there, ours, resolvers, conflicts)
        if part is not None:
            parts[key] = part
    return Merged(parts, tuple(conflicts))


def _settled(
    key: str,
    was: bytes | None,
    there: bytes | None,
    ours: bytes | None,
    resolvers: Mapping[str, Resolver],
    conflicts: list[str],
) -> bytes | None:
    base, theirs, mine = (MISSING if part is None else plain.load(part) for part in (was, there, ours))
    resolver = resolvers.get(key)
    value = (
        resolver(base, theirs, mine) if resolver else three_way(base, theirs, mine, key, conflicts, _equal)
    )
    if value is MISSING:
        return None
    plain.check(key, value)
    return plain.dump(value)


def _same(a: bytes | None, b: bytes | None) -> bool:
    """Whether two texts say the same, however they spell it."""
    if a is None or b is None:
        return a is b
    return a == b or plain.dump(plain.load(a)) == plain.dump(plain.load(b))


def _equal(a: Any, b: Any) -> bool:
    if a is MISSING or b is MISSING:
        return a is b
    return plain.dump(a) == plain.dump(b)
