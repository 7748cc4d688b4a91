"""Where a login is a series of steps, each step is where it is for a reason (PROTOCOL rules 18-23).

As in `test_planted_faults`: each reason is taken away, and the explorer must show what breaks; over the model of the scripts.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from coatcheck.core.ports import SAVED, EndedAll, Page, Terms
from coatcheck.core.record import Record
from coatcheck.stores import _redis_scripts as scripts
from coatcheck.stores import redis as store
from coatcheck.stores._redis_index import entries, packed_time
from coatcheck.stores._redis_record import login_at
from coatcheck.stores.redis import RedisSessions
from coatcheck.testing.explorer import (
    ATTACKER,
    VICTIM,
    Happening,
    Scenario,
    Skew,
    World,
    explore,
    redis_model,
)
from coatcheck.testing.explorer.redis import model

Patch = pytest.MonkeyPatch


# ------------------------------------------------------------------------------------------------- faults of the steps


def _client(patch: Patch, change: Callable[[Any, tuple[Any, ...], tuple[Any, ...]], Any]) -> None:
    """Let `change` say what a command's arguments become."""
    init = RedisSessions.__init__

    class Changing:
        scan: Any = None
        ask_all: Any = None
        watch: Any = None

        def __init__(self, client: Any) -> None:
            self._client = client

        async def run(self, script: Any, keys: Any, args: Any = ()) -> Any:
            return await self._client.run(script, keys, change(script, keys, args))

        async def all(self, script: Any, calls: Any) -> Any:
            return await self._client.all(
                script, [(keys, change(script, keys, args)) for keys, args in calls]
            )

    def fault(self: RedisSessions, client: Any, careful: Any, prefix: str, name: str) -> None:
        init(self, Changing(client), Changing(careful), prefix, name)

    patch.setattr(RedisSessions, "__init__", fault)


def _script(patch: Patch, script: scripts.Script, change: Callable[[Callable[[Any], Any], Any], Any]) -> None:
    """Let `change` do what a script does; it is given what the script does in truth."""
    truly = redis_model._SCRIPTS[script.name]
    patch.setitem(redis_model._SCRIPTS, script.name, lambda call: change(truly, call))


def the_record_before_its_entry(patch: Patch) -> None:
    admit = RedisSessions.admit

    async def fault(
        self: RedisSessions, record: Record, *, expected: str | None, terms: Terms, now: float
    ) -> Any:
        how = "create" if expected is None else "set"
        answer = await self._put(self._careful, record, how, expected or "", now, "keep")
        if not isinstance(answer, list):
            return self._refusal(answer, record, expected, now)
        return await admit(self, record, expected=expected, terms=terms, now=now)

    patch.setattr(RedisSessions, "admit", fault)


def whatever_is_dead_is_healed_at_once(patch: Patch) -> None:
    patch.setattr(store, "removable", lambda entry, found, clock: True)


def elapsed_before_the_servers_clock(patch: Patch) -> None:
    admit = RedisSessions.admit

    async def fault(
        self: RedisSessions, record: Record, *, expected: str | None, terms: Terms, now: float
    ) -> Any:
        elapsed = terms.elapsed
        terms = Terms(lambda: elapsed, terms.own_fence, terms.limit, terms.evict)
        return await admit(self, record, expected=expected, terms=terms, now=now)

    patch.setattr(RedisSessions, "admit", fault)


def the_fence_in_the_callers_clock(patch: Patch) -> None:
    def in_theirs(truly: Callable[[Any], Any], call: Any) -> Any:
        return truly(call._replace(micros=round(call.now * 1e6)))

    for script in (scripts.INDEX, scripts.ENTRIES):
        _script(patch, script, in_theirs)


def its_own_fence_is_as_any(patch: Patch) -> None:
    _client(patch, lambda script, _, args: (*args[:5], "", *args[6:]) if script is scripts.CONFIRM else args)


def nobody_looks_at_the_fence_again(patch: Patch) -> None:
    async def fault(self: RedisSessions, *given: Any) -> Any:
        return SAVED, []

    patch.setattr(RedisSessions, "_confirmed", fault)


def the_fence_is_not_compared(patch: Patch) -> None:
    _client(
        patch, lambda script, _, args: (*args[:4], "1e300", *args[5:]) if script is scripts.CONFIRM else args
    )


def the_fence_is_looked_at_first(patch: Patch) -> None:
    """Before the record is written, and not again: as in the check-then-act of many a login."""
    put, confirmed = RedisSessions._put, RedisSessions._confirmed

    async def fault(
        self: RedisSessions, record: Record, *, expected: str | None, terms: Terms, now: float
    ) -> Any:
        if record.user_id is not None:
            entry = (record.key, repr(record.ends_at), packed_time(login_at(record)))
            clock = await self._careful.run(
                scripts.INDEX, self._of(record.user_id), (packed_time(now), *entry)
            )
            began = repr(clock - terms.elapsed * 1e6)
            outcome, _ = await confirmed(self, record.user_id, (packed_time(now), *entry, began), terms, now)
            if outcome is not SAVED:
                return outcome
        how = "create" if expected is None else "set"
        answer = await put(self, self._careful, record, how, expected or "", now)
        return SAVED if answer == 1 else self._refusal(answer, record, expected, now)

    patch.setattr(RedisSessions, "admit", fault)


def a_fenced_login_stays(patch: Patch) -> None:
    async def fault(self: RedisSessions, record: Record, before: bytes | None, now: float) -> None:
        return None

    patch.setattr(RedisSessions, "_take_back", fault)


def a_fenced_login_takes_its_session_with_it(patch: Patch) -> None:
    take_back = RedisSessions._take_back

    async def fault(self: RedisSessions, record: Record, before: bytes | None, now: float) -> None:
        await take_back(self, record, b"", now)

    patch.setattr(RedisSessions, "_take_back", fault)


def whatever_is_there_is_taken_back(patch: Patch) -> None:
    def fault(truly: Callable[[Any], Any], call: Any) -> int:
        call.there[call.keys[0]] = call.args[2]
        return 1

    _script(patch, scripts.RESTORE, fault)


def anyones_session_is_ended(patch: Patch) -> None:
    _client(
        patch,
        lambda script, _, args: (
            (*args[:2], "any", *args[3:]) if script is scripts.END and args[2] == "user" else args
        ),
    )


def lists_show_others(patch: Patch) -> None:
    async def fault(
        self: RedisSessions, user_id: str, *, now: float, cursor: Any = None, limit: int = 100
    ) -> Page:
        _, _, pairs = await self._run(scripts.ENTRIES, self._of(user_id), (packed_time(now), ""))
        found = await self._found(entries(pairs), now)
        return Page([there for _, there in found if isinstance(there, Record)])

    patch.setattr(RedisSessions, "of_user", fault)


def the_limit_is_kept_before_the_record(patch: Patch) -> None:
    """Victims are chosen when the entry is written, and not again."""
    admit, evict = RedisSessions.admit, RedisSessions._evict

    async def fault(
        self: RedisSessions, record: Record, *, expected: str | None, terms: Terms, now: float
    ) -> Any:
        if terms.limit is not None and record.user_id is not None:
            clock, _, pairs = await self._careful.run(
                scripts.ENTRIES, self._of(record.user_id), (packed_time(now), "")
            )
            dead = await self._dead(record.user_id, entries(pairs), clock, now)
            others = [e for e in entries(pairs) if e not in dead and e.key != record.key]
            await evict(self, record.user_id, others[terms.limit - 1 :], record.version, now)
        terms = Terms(terms.stopwatch, terms.own_fence, None)
        return await admit(self, record, expected=expected, terms=terms, now=now)

    patch.setattr(RedisSessions, "admit", fault)


def the_limit_leaves_one_too_many(patch: Patch) -> None:
    _client(
        patch,
        lambda script, _, args: (
            (*args[:6], args[6] and args[6] + 1, *args[7:]) if script is scripts.CONFIRM else args
        ),
    )


def entries_go_before_their_records(patch: Patch) -> None:
    async def fault(self: RedisSessions, user_id: str, victims: Any, token: str, now: float) -> None:
        if victims:
            await self._heal(user_id, victims, now)
            whose = ("user", user_id)
            await self._careful.all(scripts.END, [self._end(v.key, now, token, whose) for v in victims])

    patch.setattr(RedisSessions, "_evict", fault)


def the_sessions_end_before_the_fence(patch: Patch) -> None:
    async def fault(self: RedisSessions, user_id: str, *, keep: Any, now: float, token: str) -> Any:
        _, _, pairs = await self._careful.run(scripts.ENTRIES, self._of(user_id), (packed_time(now), ""))
        theirs = [entry for entry in entries(pairs) if entry.key != keep]
        whose = ("user", user_id)
        await self._careful.all(scripts.END, [self._end(entry.key, now, token, whose) for entry in theirs])
        _, fence, _ = await self._careful.run(scripts.ENTRIES, self._of(user_id), (packed_time(now), "raise"))
        return EndedAll(len(theirs), fence / 1e6)

    patch.setattr(RedisSessions, "end_user", fault)


# --------------------------------------------------------------------------------------------------------- the table


class Planted(NamedTuple):
    """A fault, a scenario that meets it, and the rules of which the explorer must then report one."""

    rules: tuple[str, ...]
    scenario: Scenario
    fault: Callable[[Patch], None]


def at(start: str, *names: str, happening: tuple[Happening, ...] = ()) -> Scenario:
    """These operations in one browser; "attacker's x" in another."""
    requests = tuple(
        (name.removeprefix("attacker's "), ATTACKER if name.startswith("attacker's ") else VICTIM)
        for name in names
    )
    return Scenario(start, requests, happening)


FAULTS: dict[str, Planted] = {
    "18 the record before its entry": Planted(
        ("18",), at("anonymous", "login", "read"), the_record_before_its_entry
    ),
    "19 whatever is dead is healed at once": Planted(
        ("18",), at("anonymous", "login", "list"), whatever_is_dead_is_healed_at_once
    ),
    "20 elapsed is taken before the server's clock": Planted(
        ("20",), at("anonymous", "login", "end_all"), elapsed_before_the_servers_clock
    ),
    "20 the fence is in the caller's clock": Planted(
        ("20",), at("anonymous", "login", "end_all", happening=(Skew(5),)), the_fence_in_the_callers_clock
    ),
    "20 a password change is caught by its own fence": Planted(
        ("27",), at("logged in", "change_password", "read"), its_own_fence_is_as_any
    ),
    "21 nobody looks at the fence again": Planted(
        ("21",), at("anonymous", "login", "end_all"), nobody_looks_at_the_fence_again
    ),
    "21 the fence is not compared": Planted(
        ("20",), at("anonymous", "login", "end_all"), the_fence_is_not_compared
    ),
    "21 the fence is looked at before the record is written": Planted(
        ("20",), at("anonymous", "login", "end_all"), the_fence_is_looked_at_first
    ),
    "21 a fenced login stays": Planted(("21",), at("anonymous", "login", "end_all"), a_fenced_login_stays),
    "21 a fenced login takes its session with it": Planted(
        ("21",), at("anonymous", "login", "end_all"), a_fenced_login_takes_its_session_with_it
    ),
    "21 whatever is there is taken back": Planted(
        ("7",), at("anonymous", "login", "end_all"), whatever_is_there_is_taken_back
    ),
    "22 anyone's session is ended": Planted(
        ("2/10/22",), at("planted login", "end_one", "attacker's read"), anyones_session_is_ended
    ),
    "22 a list shows others' sessions": Planted(
        ("18/22",), at("anonymous", "login", "list"), lists_show_others
    ),
    "23 the limit is kept before the record is written": Planted(
        ("23",), at("no cookie", "login_limited", "login_limited"), the_limit_is_kept_before_the_record
    ),
    "23 the limit leaves one too many": Planted(
        ("23",), at("anonymous", "login_limited", "login_limited"), the_limit_leaves_one_too_many
    ),
    "23 entries go before their records": Planted(
        ("18",), at("no cookie", "login_limited", "login_limited"), entries_go_before_their_records
    ),
    "20 the sessions end before the fence is raised": Planted(
        ("20",), at("anonymous", "login", "end_all"), the_sessions_end_before_the_fence
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught(name: str, monkeypatch: Patch, capsys: pytest.CaptureFixture[str]) -> None:
    planted = FAULTS[name]
    planted.fault(monkeypatch)
    violations = explore(World(model), planted.scenario).violations
    caught = [violation for violation in violations if violation.rule.startswith(planted.rules)]
    assert caught, [str(violation) for violation in violations]
    with capsys.disabled():
        print(f"\n{name}\n  {min(caught, key=lambda violation: len(violation.schedule))}")


@pytest.mark.parametrize("name", FAULTS)
def test_without_the_fault_there_is_nothing_to_catch(name: str) -> None:
    assert [str(v) for v in explore(World(model), FAULTS[name].scenario).violations] == []
