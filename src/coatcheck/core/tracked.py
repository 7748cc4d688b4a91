"""A dict that remembers what changed. Pure.

What was loaded stays encoded until it is read; what was read and could be changed in place, or was assigned, is
encoded again at commit and compared (PROTOCOL rule 17).
"""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any, Final, Self

from msgspec import Raw

from coatcheck.core import codec
from coatcheck.core.merge import MISSING, NO_CHANGES, Changes, Op, Parts
from coatcheck.core.typed import Schema
from coatcheck.errors import ConfigurationError, CorruptRecord, UnstorableValue

__all__ = ["IMMUTABLE", "Tracked"]

FLASHES: Final = "_flashes"
"""Where flash messages live: the key and the shape that Flask uses."""
IMMUTABLE: Final = frozenset({str, int, float, bool, type(None)})
"""Types whose values cannot change in place."""


_CONTAINERS: Final = frozenset({dict, list})
_decode: Final = codec.quick_decode
_UNREADABLE: Final = (*codec.MALFORMED, CorruptRecord)
_BRACKETS: Final = b"{["
"""What a container begins with, encoded."""


def _add(amount: float) -> Callable[[Any], Any]:
    return lambda value: value + amount


class Tracked(MutableMapping[str, Any]):
    """The data of a session: keys are text, values what the codec stores."""

    # Class-level defaults instead of __init__: untouched data cost nothing.
    _base: dict[str, Raw] | None = None
    _view: dict[str, Raw] | None = None
    """The base, as long as it may be used as it is; None: ask `_open`."""
    _committed: Parts | None = None
    """What was committed, while it has not been made the base yet."""
    _meant = False
    """Whether this request did anything but read and assign."""
    _held = False
    """Whether the handler may hold a value that can change in place."""
    _written: Mapping[str, bytes] = {}
    """What containers were encoded to at the last look, so that the ones in the handler's hands can be told from
    stale ones.
    """
    _live: dict[str, Any]
    _pending: dict[str, bytes | None]
    """Keys to look at when committing. Encoded: assigned, and cannot change in place. b"": assigned, to be encoded
    then. None: only read, but it may have been changed in place."""
    _deletes: frozenset[str] = frozenset()
    _cleared = False
    _ops: dict[str, tuple[Op, ...]] | None = None
    _forced = False
    _typed: Any = None
    _typed_before: dict[str, bytes] | None = None

    # ---- what a session adds

    @abstractmethod
    def _open(self) -> dict[str, Raw]:
        """The data as loaded; every access comes through here."""

    @abstractmethod
    def _change(self) -> None:
        """Raise if nothing may change any more."""

    @abstractmethod
    def _invalid(self, error: CorruptRecord) -> dict[str, Raw]:
        """What is stored cannot be read: begin anew, with nothing."""

    @abstractmethod
    def _is_stored(self) -> bool:
        """Whether others may have added to what is stored."""

    @property
    def _schema(self) -> Schema | None:
        return None

    # ---- reading

    def __getitem__(self, key: str) -> Any:
        value = self.get(key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def get(self, key: str, default: Any = None) -> Any:
        base = self._view
        if base is None:
            base = self._open()
        live = self._live
        if key in live:
            return live[key]
        part = base.get(key)
        if part is None or (self._meant and (self._cleared or key in self._deletes)):
            return default
        try:
            value = _decode(part)
            if type(value) in _CONTAINERS:
                value = codec.finished(value, bytes(part))
                self._pending[key], self._held = None, True
        except _UNREADABLE:
            try:
                value = codec.decode(part)
            except CorruptRecord as error:
                self._invalid(error)
                return default
            if type(value) not in IMMUTABLE:
                self._pending[key], self._held = None, True
        live[key] = value
        return value

    def __contains__(self, key: object) -> bool:
        base = self._open()
        return key in self._live or (key in base and not self._cleared and key not in self._deletes)

    def __iter__(self) -> Iterator[str]:
        """The keys. Who asks for them goes on to the values: so one that cannot be read ends the session here (checklist
        112), and not with a KeyError half way through `items()`.
        """
        for key in self._keys():
            self.get(key)
        return iter(self._keys())

    def _keys(self) -> list[str]:
        base = self._open()
        kept = () if self._cleared else tuple(key for key in base if key not in self._deletes)
        return [*kept, *(key for key in self._live if key not in kept)]

    def __len__(self) -> int:
        return len(self._keys())

    def __bool__(self) -> bool:
        return bool(self._keys())

    def __eq__(self, other: object) -> bool:
        return dict(self) == (dict(other) if isinstance(other, Tracked) else other)

    __hash__ = None  # type: ignore[assignment]  # mutable, as a dict

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self))

    def copy(self) -> dict[str, Any]:
        """What is in the session now, as a dict of its own."""
        return dict(self)

    def __or__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**self, **other}

    def __ror__(self, other: Mapping[str, Any]) -> dict[str, Any]:
        return {**other, **self}

    def __ior__(self, other: Mapping[str, Any]) -> Self:
        self.update(other)
        return self

    # ---- changing

    def __setitem__(self, key: str, value: Any) -> None:
        self._change()
        if type(key) is not str:
            raise UnstorableValue(f"session[{key!r}]: a key must be a str, not {type(key).__name__}")
        encoded: bytes | None = codec.encode(value, key)
        live, pending = self._live, self._pending
        if type(value) not in IMMUTABLE:
            # What was read, changed in place and put back is still a change of what was read.
            encoded = None if live.get(key) is value and pending.get(key) is None else b""
            self._held = True
        live[key], pending[key] = value, encoded
        if self._meant and self._ops:  # `_meant` first: the class's own `_ops` is dear to look up
            self._ops.pop(key, None)

    def __delitem__(self, key: str) -> None:
        self._change()
        if key not in self:
            raise KeyError(key)
        self._forget(key)
        if key in self._open():
            self._deletes |= {key}
            self._meant = True

    def popitem(self) -> tuple[str, Any]:
        """Remove the key that was added last and return it with its value, as a dict does."""
        keys = list(self)
        if not keys:
            raise KeyError("popitem(): the session is empty")
        return keys[-1], self.pop(keys[-1])

    def _forget(self, key: str) -> None:
        self._live.pop(key, None)
        self._pending.pop(key, None)
        if self._ops:
            self._ops.pop(key, None)

    def clear(self) -> None:
        """Remove everything that is there when this request commits, also what other requests add meanwhile."""
        self._change()
        self._live.clear()
        self._pending.clear()
        self._ops, self._typed = None, None
        self._cleared, self._deletes, self._meant = True, frozenset(), True

    def increment(self, key: str, by: float = 1, *, default: float = MISSING) -> Any:
        """Add `by` to a number, exactly once, whatever other requests do at the same time.

        Returns the local estimate; the committed value is there after `save()`. A missing key counts from 0 (or
        `default`); one that another request deleted meanwhile stays deleted, with an event, unless `default` is
        given.
        """
        if default is MISSING and key not in self:
            default = 0
        return self.apply(key, _add(by), default=default)

    def apply(self, key: str, function: Callable[[Any], Any], *, default: Any = MISSING) -> Any:
        """Change a value by a function of it, exactly once: `function` is called again on the fresh value if another
        request was first.

        `function` gets a copy and returns the new value; it must not depend on anything else that changes. Returns
        the local estimate. Raises KeyError if the key is missing and there is no `default`.
        """
        self._change()
        op = Op(function, default)
        earlier = (self._ops or {}).get(key, ())
        if self._assigned(key):
            value = self[key] = function(codec.decode(codec.encode(self[key], key)))
            return value
        value = function(self._operand(key, default))
        if key in self._deletes:  # what is stored under it is nothing to this request any more
            self[key] = value
            return value
        estimate = codec.encode(value, key)
        self._ops, self._meant = {**(self._ops or {}), key: (*earlier, op)}, True
        self._live[key], self._pending[key], self._held = value, estimate, True
        return value

    def _operand(self, key: str, default: Any) -> Any:
        """A fresh copy of what `function` works on, so that it may change it in place."""
        estimate = self._pending.get(key) or self._open().get(key)
        if key not in self:
            if default is MISSING:
                raise KeyError(key)
            estimate = codec.encode(default, key)
        assert estimate is not None
        try:
            return codec.decode(estimate)
        except CorruptRecord as error:
            self._invalid(error)
        return self._operand(key, default)

    def _assigned(self, key: str) -> bool:
        """Whether this request gave the key a value of its own, so that an operation on it is part of that
        assignment.
        """
        if self._ops and key in self._ops:  # its outcome, changed in place since, is an assignment
            return codec.encode(self._live[key], key) != self._pending[key]
        if self._cleared or key in self._deletes:
            return key in self._live
        return key in self._pending and key in self._changes().sets

    def _overrides(self, key: str) -> bool:
        """Whether what is stored under the key is nothing to this request any more: it was deleted here, or replaced."""
        return self._cleared or key in self._deletes or self._assigned(key)

    def flash(self, message: str, category: str = "message") -> None:
        """Leave a message for the next page that shows `flashes()`."""
        self.apply(FLASHES, lambda queue: [*queue, (category, message)], default=[])

    def flashes(self) -> list[tuple[str, str]]:
        """The messages left so far, as (category, message), and forget them. At least once: `take("_flashes")` shows
        them at most once.
        """
        queue = self.get(FLASHES)
        if not queue:
            return []
        del self[FLASHES]
        return [(category, message) for category, message in queue]

    # ---- typed sessions

    @property
    def data(self) -> Any:
        """The session as an object of the configured `schema`; changing its fields changes the session. Keys the
        schema does not know are kept (rolling deploys). Raises SchemaMismatch if what is stored does not fit.
        """
        if self._schema is None:
            raise ConfigurationError(
                "session.data needs schema=…: a msgspec.Struct, a dataclass or a pydantic model"
            )
        if self._typed is None:
            self._typed = self._schema.load(dict(self))
            self._typed_before = self._typed_fields()
            self._view = None  # whoever reads a key must see the fields
            self._meant = self._held = True
        return self._typed

    def _typed_fields(self) -> dict[str, bytes]:
        assert self._schema is not None
        return {key: codec.encode(value, key) for key, value in self._schema.dump(self._typed).items()}

    def _write_typed_back(self) -> None:
        before, self._typed_before = self._typed_before or {}, self._typed_fields()
        for key, encoded in self._typed_before.items():
            if before.get(key) != encoded:
                value = self._live[key] = codec.decode(encoded)
                self._pending[key] = encoded if type(value) in IMMUTABLE else b""
                if self._ops:
                    self._ops.pop(key, None)

    # ---- for the commit

    def _has_changes(self) -> bool:
        return self._base is not None and (self._forced or bool(self._changes()))

    def _changes(self) -> Changes:
        """What this request did to the data, compared with what was loaded."""
        if self._committed is not None:
            self._catch_up()
        if self._typed is not None:
            self._write_typed_back()
        pending = self._pending
        if not self._cleared and not self._deletes and not self._ops:
            plain = (
                {key: bytes(part) for key, part in self._sets(self._base or {}).items()} if pending else {}
            )
            return Changes(plain) if plain else NO_CHANGES
        base: Mapping[str, Raw] = {} if self._cleared else (self._base or {})
        sets: dict[str, bytes] = {}
        ops = dict(self._ops or {})
        estimates: dict[str, bytes] = {}
        self._written = written = {}
        for key, encoded in self._pending.items():
            now = encoded
            if not now or key in ops:
                now = written[key] = self._encoded(key, base)
            if key in ops and now == encoded:
                estimates[key] = now
                continue
            ops.pop(key, None)  # the estimate was changed in place: the operation has become an assignment
            was = base.get(key)
            if was is None or (now != bytes(was) and (now[0] not in _BRACKETS or not _alike(now, was))):
                sets[key] = now
        # A session that is not stored has nothing that others could have added: to clear it is no change.
        cleared = self._cleared and self._is_stored()
        changes = Changes(sets, self._deletes - self._pending.keys(), cleared, ops, estimates)
        return changes if changes else NO_CHANGES

    def _assigned_parts(self) -> dict[str, Raw] | None:
        """The session's data with what this request assigned; None if nothing changed, or if it did more than that."""
        base = self._view
        if base is None or self._meant:
            return None
        parts: dict[str, Raw] | None = None
        self._written = written = {}
        for key, encoded in self._pending.items():
            if not encoded:
                encoded = written[key] = self._encoded(key, base)
            now, was = Raw(encoded), base.get(key)
            if was is None or (now != was and (encoded[0] not in _BRACKETS or not _alike(encoded, was))):
                if parts is None:
                    parts = base.copy()
                parts[key] = now
        return parts

    def _sets(self, base: Mapping[str, Raw]) -> dict[str, Raw]:
        """Keys assigned, or containers changed in place: what the usual request does, and nothing else."""
        sets: dict[str, Raw] = {}
        self._written = written = {}
        for key, encoded in self._pending.items():
            if not encoded:
                encoded = written[key] = self._encoded(key, base)
            now, was = Raw(encoded), base.get(key)
            if was is None or (now != was and (encoded[0] not in _BRACKETS or not _alike(encoded, was))):
                sets[key] = now
        return sets

    def _encoded(self, key: str, base: Mapping[str, Raw]) -> bytes:
        """The bytes of a value that may have been changed in place. Raises UnstorableValue."""
        try:
            return codec.encode(self._live[key], key)
        except UnstorableValue:
            # Another writer's JSON may hold what we would not write, such as 10**25 + 1. To read it changes nothing.
            was = base.get(key)
            if was is None or repr(codec.decode(was)) != repr(self._live[key]):  # 1, 1.0 and True are equal
                raise
            return bytes(was)

    def _catch_up(self) -> None:
        """Take what was committed for the new base. Values the handler holds stay the same objects."""
        parts, self._committed = self._committed, None
        if parts is None or self._base is None:
            return
        for key, value in list(self._live.items()):
            if type(value) in IMMUTABLE or key not in parts or bytes(parts[key]) != self._written.get(key):
                del self._live[key]
        self._base, self._view, self._pending = codec.raw(parts), None, dict.fromkeys(self._live)
        self._deletes, self._cleared, self._ops = frozenset(), False, None


def _alike(ours: bytes, stored: Raw) -> bool:
    """Are these two containers, spelled differently, one value? Other writers (jsonb, Node) spell them so (rule 17)."""
    try:
        return codec.same(ours, stored)
    except CorruptRecord:
        return False
