"""Three-way merge of two writers of one session. Pure (PROTOCOL rules 13-17).

Session data is a mapping of keys to encoded values ("parts"). `base` is what this request loaded, `theirs` is what is
stored now, `mine` is what this request did. Per key, and into dicts; lists and scalars are atoms:

    unchanged by one side      the other side's value
    changed by both, dicts     key by key, by these same rules
    changed by both, else      mine, because I commit later; reported as a conflict
    deleted by one side        deleted, whichever commits last: deleting is how people log out. What it beats is a
    conflict
    clear() by me              everything that is there now goes; what I set after it stays
    increment(), apply()       applied again, to the fresh value; where that raises: SessionConflict
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from coatcheck.core import codec
from coatcheck.errors import SessionConflict

__all__ = [
    "MISSING",
    "NO_CHANGES",
    "Changes",
    "Merged",
    "Op",
    "Parts",
    "Resolver",
    "merge",
    "own",
    "three_way",
    "unopposed",
]

Parts = Mapping[str, bytes | msgspec.Raw]
Resolver = Callable[[Any, Any, Any], Any]
"""(base, theirs, mine) -> the value to keep. Each is MISSING where the key was not there."""


class _Missing:
    """The absence of a value, apart from None."""

    def __repr__(self) -> str:
        return "MISSING"

    def __bool__(self) -> bool:
        return False


MISSING: Final[Any] = _Missing()


class Op(NamedTuple):
    """A change that is a function of the value: re-applied to what is there at commit (rule 15)."""

    function: Callable[[Any], Any]
    default: Any = MISSING
    """What to start from where there is no value; MISSING: then the operation is dropped."""


class Changes(NamedTuple):
    """What one request did to the data since it was loaded."""

    sets: Mapping[str, bytes] = {}
    deletes: frozenset[str] = frozenset()
    cleared: bool = False
    ops: Mapping[str, tuple[Op, ...]] = {}
    estimates: Mapping[str, bytes] = {}
    """What the operations gave on the loaded value: written as they are when nobody came between."""

    def __bool__(self) -> bool:
        return bool(self.sets or self.deletes or self.cleared or self.ops)


NO_CHANGES: Final = Changes()
"""The changes of a request that made none: it is this very object."""


class Merged(NamedTuple):
    """The outcome. `conflicts` and `dropped` are dotted paths, for events."""

    parts: Parts
    conflicts: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()


def unopposed(base: Parts, mine: Changes) -> Parts:
    """The new parts when nobody wrote in between: the usual case, without a comparison."""
    parts: dict[str, bytes | msgspec.Raw] = {} if mine.cleared else dict(base)
    for key in mine.deletes:
        parts.pop(key, None)
    parts.update(mine.sets)
    parts.update(mine.estimates)
    return parts


def own(base: Parts, mine: Changes) -> dict[str, bytes]:
    """Only what this request did itself, for a session that is not built on `base` (rules 5 and 9).

    A dict changed in place gives the entries that were changed; operations start from their default, or are dropped.
    """
    parts: dict[str, bytes] = {}
    for key, ops in mine.ops.items():
        value = _reapply(ops, None, key)
        if value is not MISSING:
            parts[key] = codec.encode(value, key)
    for key, encoded in mine.sets.items():
        was = base.get(key)
        value = (
            codec.decode(encoded) if was is None else _difference(codec.decode(was), codec.decode(encoded))
        )
        parts[key] = codec.encode(value, key)
    return parts


def _difference(was: Any, now: Any) -> Any:
    if type(was) is not dict or type(now) is not dict:
        return now
    return {
        key: _difference(was[key], value) if key in was else value
        for key, value in now.items()
        if key not in was or not _equal(was[key], value)
    }


def merge(
    base: Parts, mine: Changes, theirs: Parts, resolvers: Mapping[str, Resolver] | None = None
) -> Merged:
    """Put `mine` on top of `theirs`; both began at `base`. `resolvers` settle single keys in the application's own
    way.
    """
    parts: dict[str, bytes | msgspec.Raw] = {} if mine.cleared else dict(theirs)
    conflicts: list[str] = []
    for key in mine.deletes:
        there = parts.pop(key, None)
        if there is not None and not codec.same(base.get(key, b"null"), there):
            conflicts.append(key)
    dropped: list[str] = []
    for key, ops in mine.ops.items():
        fresh = _reapply(ops, parts.get(key), key)
        if fresh is MISSING:
            dropped.append(key)
        else:
            parts[key] = codec.encode(fresh, key)
    for key, value in mine.sets.items():
        if mine.cleared:
            parts[key] = value
        else:
            _settle(parts, key, base.get(key), value, (resolvers or {}).get(key), conflicts)
    return Merged(parts, tuple(conflicts), tuple(dropped))


def _reapply(ops: tuple[Op, ...], current: bytes | msgspec.Raw | None, key: str) -> Any:
    """What the operations make of the value that is there. Raises SessionConflict if one cannot be applied to it: another request
    put something there that it was not written for.
    """
    value = MISSING if current is None else codec.decode(current)
    for op in ops:
        if value is MISSING and op.default is not MISSING:
            value = codec.decode(codec.encode(op.default, ""))  # a copy: the function may change it in place
        if value is not MISSING:
            try:
                value = op.function(value)
            except Exception as error:
                raise SessionConflict((key,)) from error
    return value


def _settle(
    parts: dict[str, bytes | msgspec.Raw],
    key: str,
    was: bytes | msgspec.Raw | None,
    mine: bytes,
    resolver: Resolver | None,
    conflicts: list[str],
) -> None:
    """Set `key` to `mine` in `parts` (theirs), as far as the rules allow."""
    there = parts.get(key)
    if (was is None and there is None) or (was is not None and there is not None and codec.same(was, there)):
        parts[key] = mine
    elif there is not None and codec.same(mine, there):
        pass
    else:
        values = [MISSING if part is None else codec.decode(part) for part in (was, there, mine)]
        base, theirs, ours = values
        value = resolver(base, theirs, ours) if resolver else three_way(base, theirs, ours, key, conflicts)
        if value is MISSING:
            parts.pop(key, None)
        else:
            parts[key] = codec.encode(value, key)


def three_way(
    base: Any,
    theirs: Any,
    mine: Any,
    path: str,
    conflicts: list[str],
    equal: Callable[[Any, Any], bool] | None = None,
) -> Any:
    """One value under the rules at the top; all three are decoded, MISSING stands for absence. `equal` tells what counts as one
    value, where that is not equal and of the same types all the way down.
    """
    same = equal or _equal
    if same(mine, theirs) or same(theirs, base):
        return mine
    if same(mine, base):
        return theirs
    if mine is MISSING or theirs is MISSING:
        conflicts.append(path)
        return MISSING
    if type(mine) is dict and type(theirs) is dict:
        before = base if type(base) is dict else {}
        keys = [
            *theirs,
            *(key for key in mine if key not in theirs),
            *(k for k in before if k not in theirs and k not in mine),
        ]
        merged = {
            key: three_way(
                before.get(key, MISSING),
                theirs.get(key, MISSING),
                mine.get(key, MISSING),
                f"{path}.{key}",
                conflicts,
                equal,
            )
            for key in keys
        }
        return {key: value for key, value in merged.items() if value is not MISSING}
    conflicts.append(path)
    return mine


def _equal(a: Any, b: Any) -> bool:
    """Equal and of the same types all the way down: 1, 1.0 and True are three different values."""
    if a is MISSING or b is MISSING:
        return a is b
    return codec.same(codec.encode(a, ""), codec.encode(b, ""))
