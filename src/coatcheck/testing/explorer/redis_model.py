"""The scripts of the Redis store once more, in Python: on a dict in place of a server, some ten times as fast.

`tests/testing/test_redis_model.py` holds the model to the scripts: the same commands, the same replies, the same keys afterwards.
Left out is what nobody can tell in the hour after a deadline: the times to live.
"""

from collections.abc import Callable, Mapping, Sequence
from math import inf
from struct import pack, unpack_from
from typing import Any, Final, NamedTuple, cast

from coatcheck.stores import _redis_scripts as scripts
from coatcheck.stores._redis_scripts import Script

__all__ = ["Beside", "Index", "Keys", "Value", "carry_out"]

Index = frozenset[tuple[str, float]]
Beside = tuple[tuple[str, bytes], ...]
Value = bytes | Index | Beside
"""A string, a sorted set, a hash in the order of its fields: as values that can be compared."""
Keys = dict[str, Value]
"""What a server holds."""

SLACK: Final = 3600.0


def carry_out(
    there: Mapping[str, Value], script: Script, keys: Sequence[str], args: Sequence[Any], micros: int
) -> tuple[Any, Keys]:
    """The reply to a command at that time of the server's clock, and what is there afterwards."""
    after = dict(there)
    reply = _SCRIPTS[script.name](_Call(after, tuple(keys), tuple(map(_octets, args)), micros))
    return reply, after


def _octets(arg: Any) -> bytes:
    return arg if type(arg) is bytes else str(arg).encode()


class _Call(NamedTuple):
    """One command, as a script sees it."""

    there: Keys
    keys: tuple[str, ...]
    args: tuple[bytes, ...]
    micros: int

    @property
    def now(self) -> float:
        return float(unpack_from(">d", self.args[0])[0])


# ------------------------------------------------------------------------------------------------------- one record


class _Look(NamedTuple):
    """What is at the record's key: R, E, ? or nothing."""

    kind: str
    whole: bytes = b""
    deadline: float = 0.0
    seen: float = 0.0
    ends: float = 0.0
    version: bytes = b""
    user: bytes | None = None


def _string(call: _Call) -> bytes:
    value = call.there.get(call.keys[0], b"")
    assert isinstance(value, bytes)
    return value


def _look(call: _Call) -> _Look:
    """As `look` of the scripts; the whole value is at hand here."""
    whole = _string(call)
    kind = whole[:1]
    if kind == b"":
        return _Look("")
    if kind == b"R" and len(whole) >= 29:
        deadline, seen, ends, vlen, ulen = unpack_from(">dddHH", whole, 1)
        if not deadline <= call.now:
            user = None if ulen == 0xFFFF else whole[29 + vlen : 29 + vlen + ulen]
            return _Look("R", whole, deadline, seen, ends, whole[29 : 29 + vlen], user)
    elif kind == b"E" and len(whole) >= 9:
        if unpack_from(">d", whole, 1)[0] + 60 > call.now:
            return _Look("E", whole)
    else:
        return _Look("?", whole)
    del call.there[call.keys[0]]
    return _Look("")


def _get(call: _Call) -> Any:
    return call.there.get(call.keys[0])


def _put(call: _Call) -> Any:
    _, how, expected, value, *keep = call.args
    there = _look(call)
    if how == b"create":
        if there.kind:
            return there.whole
    elif not there.kind:
        return None
    elif there.kind != "R" or there.version != expected:
        return there.whole
    due, seen_at, latest = unpack_from(">ddd", value, 1)
    if how == b"replace" and (there.deadline > due or there.seen > seen_at):
        due, seen_at = min(max(there.deadline, due), latest), max(there.seen, seen_at)
        value = b"R" + pack(">dd", due, seen_at) + value[17:]
    call.there[call.keys[0]] = value
    return [there.whole] if keep == [b"keep"] else 1


def _touch(call: _Call) -> int:
    _, expected, deadline, seen_at = call.args
    there = _look(call)
    if there.kind != "R" or there.version != expected:
        return 0
    due, seen = min(max(there.deadline, float(deadline)), there.ends), max(there.seen, float(seen_at))
    call.there[call.keys[0]] = b"R" + pack(">dd", due, seen) + there.whole[17:]
    return 1


def _end(call: _Call) -> int:
    _, token, whose, which = call.args[:4]
    there = _look(call)
    if there.kind == "E":
        return 1 if there.whole[9:] == token else 2
    if not there.kind:
        return 0
    if whose == b"version" and (there.kind != "R" or there.version != which):
        return 0
    if whose == b"user" and (there.kind != "R" or there.user != which):
        return 0
    call.there[call.keys[0]] = b"E" + pack(">d", call.now) + token
    return 1


def _purge(call: _Call) -> int:
    was_record = _string(call)[:1] == b"R"
    return int(was_record and _look(call).kind != "R")


def _forget(call: _Call) -> int:
    return int(not _look(call).kind)


def _restore(call: _Call) -> int:
    _, version, before = call.args
    there = _look(call)
    if there.kind != "R" or there.version != version:
        return 0
    if before:
        call.there[call.keys[0]] = before
    else:
        del call.there[call.keys[0]]
    return 1


# ---------------------------------------------------------------------------------------------------------- one user


def _index(call: _Call) -> dict[str, float]:
    return dict(cast(Index, call.there.get(call.keys[0], frozenset())))


def _beside(call: _Call) -> dict[str, bytes]:
    return dict(cast(Beside, call.there.get(call.keys[1], ())))


def _write(call: _Call, index: dict[str, float], beside: dict[str, bytes]) -> None:
    for key in call.keys[:2]:
        call.there.pop(key, None)
    if index:
        call.there[call.keys[0]] = frozenset(index.items())
    if beside:
        call.there[call.keys[1]] = tuple(sorted(beside.items()))


def _trim(call: _Call, index: dict[str, float], beside: dict[str, bytes]) -> None:
    over = sorted((ends, key) for key, ends in index.items() if ends <= call.now - SLACK)
    for _, key in over[:100]:
        del index[key]
        beside.pop(key, None)


def _state(entry: bytes) -> bytes:
    return entry[:1]


def _written(entry: bytes) -> float:
    return float(unpack_from(">d", entry, 1)[0])


def _login_at(entry: bytes) -> float:
    return float(unpack_from(">d", entry, 9)[0])


def _enter(call: _Call) -> int:
    _, key, ends, login_at = call.args
    index, beside, name = _index(call), _beside(call), key.decode()
    state = b"c" if _state(beside.get(name, b"")) == b"c" else b"p"
    _trim(call, index, beside)
    index[name] = max(index.get(name, -inf), float(ends))
    beside[name] = state + pack(">d", call.micros) + login_at
    _write(call, index, beside)
    return call.micros


def _fence(call: _Call) -> bytes:
    value = call.there.get(call.keys[2], b"")
    assert isinstance(value, bytes)
    return value


def _confirm(call: _Call) -> list[Any]:
    _, key, ends, login_at, began, own, limit_, full, verified, *pairs = call.args
    limit, raised, name = int(limit_), _fence(call), key.decode()
    if raised and float(began) <= float(raised) and raised != own:
        return [b"fenced"]
    index, beside = _index(call), _beside(call)
    victims: dict[str, bytes] = {}
    if 0 < limit <= len(index):
        dead = dict(zip(pairs[::2], pairs[1::2], strict=True))
        live: list[tuple[float, str, bytes]] = []
        for other, entry in beside.items():
            if other == name or dead.get(other.encode()) == entry:
                continue
            if _state(entry) == b"v":
                victims[other] = entry
            elif _state(entry) == b"c" or call.micros - _written(entry) > 60_000_000:
                live.append((_login_at(entry), other, entry))
        if len(live) >= limit:
            if verified != b"verified":
                return [b"verify", call.micros, _flat(beside)]
            if full != b"evict":
                return [b"full"]
            for _, other, entry in sorted(live)[: len(live) - limit + 1]:
                victims[other] = beside[other] = b"v" + entry[1:]
    index[name] = max(index.get(name, -inf), float(ends))
    beside[name] = b"c" + pack(">d", call.micros) + login_at
    _write(call, index, beside)
    return [b"saved", _flat(victims)]


def _flat(beside: Mapping[str, bytes]) -> list[bytes]:
    return [part for key, entry in sorted(beside.items()) for part in (key.encode(), entry)]


def _entries(call: _Call) -> list[Any]:
    raised = 0
    if call.args[1] == b"raise":
        before = _fence(call)
        raised = call.micros
        if before and int(before) >= raised:
            raised = int(before) + 1
        call.there[call.keys[2]] = b"%d" % raised
    index, beside = _index(call), _beside(call)
    _trim(call, index, beside)
    _write(call, index, beside)
    return [call.micros, raised, _flat(beside)]


def _heal(call: _Call) -> int:
    index, beside = _index(call), _beside(call)
    for key, entry in zip(call.args[1::2], call.args[2::2], strict=True):
        name = key.decode()
        if beside.get(name) == entry:
            index.pop(name, None)
            del beside[name]
    _write(call, index, beside)
    return 1


_SCRIPTS: Final[Mapping[str, Callable[[_Call], Any]]] = {
    scripts.LOAD.name: _get,
    scripts.PUT.name: _put,
    scripts.TOUCH.name: _touch,
    scripts.END.name: _end,
    scripts.PURGE.name: _purge,
    scripts.FORGET.name: _forget,
    scripts.RESTORE.name: _restore,
    scripts.INDEX.name: _enter,
    scripts.CONFIRM.name: _confirm,
    scripts.ENTRIES.name: _entries,
    scripts.HEAL.name: _heal,
}
