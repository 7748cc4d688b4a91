"""What must hold, said again without the code that is to keep it: DESIGN section 1 and PROTOCOL rules 2-11, 13-16, 20-23.

Every oracle looks at one step (the world before, what was done, the world after) or at a world that is over, and yields
what is wrong as "rule: what happened". They know the rules and what each handler did, in its own words; of lifecycle,
merge and store they know nothing.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from coatcheck.core.ids import Ticket, digest
from coatcheck.core.ports import TOMBSTONE
from coatcheck.core.record import Ended, Record
from coatcheck.core.session import CookieAction, Standing
from coatcheck.testing.explorer.database import Provisional, Row
from coatcheck.testing.explorer.operations import OPERATIONS, OTHER_DEVICE
from coatcheck.testing.explorer.requests import Change, Operation, Trace
from coatcheck.testing.explorer.world import (
    ATTACKER,
    USERS,
    VICTIM,
    Faults,
    Node,
    Pass,
    Scenario,
    Skew,
    Step,
)

__all__ = ["applied", "at_the_end", "of_step", "standing"]

OVERLAP: Final = 10.0
DETACHED: Final = 60.0
PENDING: Final = 600.0


# ---------------------------------------------------------------------------------- the data, after a change (rules 13-17)


class Applied(NamedTuple):
    """What data must become, and whether somebody's change had to give way."""

    data: dict[str, Any]
    conflict: bool = False
    dropped: bool = False


class _Missing:
    pass


_GONE: Final = _Missing()


def applied(current: Mapping[str, Any], base: Mapping[str, Any], changes: tuple[Change, ...]) -> Applied:
    """`changes`, made by a request that had loaded `base`, on top of what is `current` when it commits."""
    # Deep enough: only dicts are changed in place, and there is one level of them.
    data: dict[str, Any] = {
        key: dict(value) if type(value) is dict else value for key, value in current.items()
    }
    was: Mapping[str, Any] = base
    conflict = dropped = False
    for verb, *words in changes:
        key = words[0] if words else ""
        if verb == "clear":
            data, was = {}, {}
        elif verb == "set":
            conflict |= _set(data, was, key, words[1])
        elif verb == "in":
            if key in data:
                conflict |= _set(data[key], was.get(key, {}), words[1], words[2])
            else:
                conflict = True
        elif verb == "del":
            conflict |= key in data and data[key] != was.get(key)
            data.pop(key, None)
        elif verb == "append":
            data[key] = [*data.get(key, []), words[1]]
        elif key in data or key not in was:
            data[key] = data.get(key, 0) + 1
        else:
            dropped = True
    return Applied(data, conflict, dropped)


def _set(data: dict[str, Any], was: Mapping[str, Any], key: str, value: Any) -> bool:
    """Assign, unless the other side deleted the key. Returns whether two changes met."""
    there, before = data.get(key, _GONE), was.get(key, _GONE)
    if there is _GONE and before is not _GONE:
        return True
    data[key] = value
    return bool(there != before and there != value)


def own(trace: Trace) -> dict[str, Any]:
    """What a session holds that this request makes of its own changes only (rules 5 and 9)."""
    changes = tuple(
        c for c in trace.changes if not (c[0] == "inc" and c[1] in trace.base and not _cleared(trace))
    )
    after_clear = changes[max((i for i, c in enumerate(changes) if c[0] == "clear"), default=-1) + 1 :]
    started: dict[str, Any] = {c[1]: {} for c in after_clear if c[0] == "in"}
    return applied(started, {}, after_clear).data


def _cleared(trace: Trace) -> bool:
    return ("clear",) in trace.changes


def _data(record: Record) -> dict[str, Any]:
    return msgspec.json.decode(record.data)  # type: ignore[no-any-return]  # an object, always


# --------------------------------------------------------------------------------------- what a cookie stands for (rules 3, 4)


def standing(ticket: Ticket | None, row: Record | Ended | None, now: float) -> Standing:
    """What a request that carries this ticket finds."""
    if ticket is None or row is None or (isinstance(row, Record) and row.deadline <= now):
        return Standing.NEW
    if isinstance(row, Ended):
        return Standing.DETACHED if now < row.at + TOMBSTONE else Standing.NEW
    proof, renewal = digest(ticket.verifier), row.renewal
    if proof == row.verifier:
        return Standing.LIVE
    superseded = [] if row.rotated_at is None else [row.rotated_at]
    if renewal is not None:
        over = renewal.at if renewal.seen_at is None else renewal.seen_at + OVERLAP
        if proof == renewal.previous and (renewal.seen_at is None or now < over):
            return Standing.LIVE
        superseded.append(over)
    return Standing.DETACHED if any(now < at + DETACHED for at in superseded) else Standing.NEW


# ------------------------------------------------------------------------------------------------------------ of one step


def of_step(scenario: Scenario, step: Step) -> Iterator[str]:
    """Everything that one step may have broken."""
    index = step.choice.request
    before, after = step.before, step.after
    if after.database is not before.database:
        yield from _of_rows(scenario, step)
        yield from _of_index(scenario, after)
    if index is None:
        if step.command is not None and step.command.fences is not None:
            yield from _ended_all(step, step.command.fences, None)
        return
    was, now = before.requests[index].trace, after.requests[index].trace
    if was.standing is None and now.standing is not None:
        yield from _found(scenario, step, now)
    if was.fence != now.fence and now.ended_all is not None:
        yield from _ended_all(step, *now.ended_all)
    if not was.finished and now.finished:
        yield from _finished(scenario, step, now)


def _of_rows(scenario: Scenario, step: Step) -> Iterator[str]:
    before, after = step.before.database.rows(), step.after.database.rows()
    held, holds = step.before.database.provisional(), step.after.database.provisional()
    trace = _trace(step)
    when = step.before.wall
    if trace is not None and step.choice.request is not None:
        when = trace.now or step.after.requests[step.choice.request].trace.left_at
    for key in before.keys() | after.keys():
        was, now = before.get(key), after.get(key)
        decided = key in held and key not in holds
        if was is now:
            if decided and isinstance(now, Record):
                yield from _fenced(step, now)  # a login is for good from here on
        elif decided and not isinstance(now, Ended):
            if isinstance(was, Record) and was.deadline > when:
                yield from _taken_back(step, key, now, held[key])
        elif isinstance(now, Record):
            if isinstance(was, Record) and was.deadline > when:
                yield from _changed(scenario, step, was, now)
            else:
                yield from _created(step, now, was)
        elif isinstance(was, Record) and was.deadline > when:
            if now is None:
                yield f"4: {_who(step)} ended session {was.key} without a tombstone"
            if not _may_end(scenario, step, was):
                yield f"2/10/22: {_who(step)} ended session {was.key} of {was.user_id}, which was not its to end"


def _taken_back(step: Step, key: str, now: Row | None, held: Provisional) -> Iterator[str]:
    """A login that may not be leaves what was there before it (rule 21)."""
    trace = _trace(step)
    if trace is None or not trace.drew(held.version):
        yield f"21: {_who(step)} took back a login to session {key} that was not its own"
    elif now != held.before:
        yield f"21: {_who(step)} took back its login to session {key}, and left {now} in place of {held.before}"


def _who(step: Step) -> str:
    return "the administrator" if step.choice.request is None else f"request {step.choice.request + 1}"


def _trace(step: Step) -> Trace | None:
    """The request whose command this was, as it was when it sent it."""
    return None if step.choice.request is None else step.before.requests[step.choice.request].trace


def _operation(scenario: Scenario, index: int) -> Operation:
    return OPERATIONS[scenario.requests[index][0]]


def _created(step: Step, now: Record, was: Row | None) -> Iterator[str]:
    trace = _trace(step)
    # A login that was taken back never was: after a lost reply it is tried once more.
    again = was is None and now.key in step.after.database.provisional() and now.version in step.before.ever
    if now.key in step.before.ever and not again:
        yield f"7: session {now.key}, which had ended, is stored again by {_who(step)}"
        return
    if trace is None or not trace.drew(now.key):
        yield f"locator: {_who(step)} adopted the id {now.key}"
        return
    twins = [key for key in step.before.ever if trace.drew(key) and step.before.live(key) is not None]
    if twins:
        yield f"8: {_who(step)} stored its new session twice, as {twins[0]} and {now.key}"
    if trace.goes_on:
        yield f"56: a second factor began session {now.key}; it may only go on with the first one's"
    if trace.standing is Standing.DETACHED and trace.login is None and not trace.begun:
        yield f"4: a detached request stored session {now.key}"
    if trace.standing is Standing.LIVE and trace.login is None and not trace.logout:
        yield f"9: {_who(step)} stored changes to a session that is gone as session {now.key}"
    if now.user_id != trace.login:
        yield f"5: the new session {now.key} is of {now.user_id}, the login was of {trace.login}"
    if _data(now) != own(trace):
        yield f"9: the new session {now.key} holds {_data(now)}, the request's own changes were {own(trace)}"
    yield from _fenced(step, now)


def _fenced(step: Step, now: Record) -> Iterator[str]:
    """A login that was begun before its user's sessions were all ended; unless it may yet be taken back."""
    index = step.choice.request
    if now.key in step.after.database.provisional() or (step.command is not None and step.command.undecided):
        return
    if index is not None and now.user_id is not None and step.before.is_fenced(index, now.user_id):
        yield f"20: {_who(step)} logged {now.user_id} in, though it began before all their sessions were ended"


def _changed(scenario: Scenario, step: Step, was: Record, now: Record) -> Iterator[str]:
    """A record was written over a living one."""
    trace = _trace(step)
    if was.user_id is not None and now.user_id != was.user_id:
        yield f"5: session {now.key} passed from {was.user_id} to {now.user_id}"
    if trace is None:
        yield f"22: the administrator changed session {now.key}"
        return
    if now.epoch < was.epoch:
        yield f"2: the epoch of session {now.key} went back from {was.epoch} to {now.epoch}"
    if now.version == was.version:
        yield from _touched(was, now)
        return
    yield from _deadlines(was, now, trace)
    if trace.epoch != was.epoch or trace.loaded is None or trace.loaded.key != was.key:
        yield f"9: {_who(step)} had loaded epoch {trace.epoch} and wrote over epoch {was.epoch} of {now.key}"
        return
    if any(map(trace.drew_for_this_write, was.versions)):
        yield f"7: {_who(step)} applied its changes to {now.key} twice"
    yield from _verifiers(was, now)
    yield from _factors(scenario, step, was, now, trace)
    yield from _wrote(step, was, now, trace)
    if now.authenticated_at != was.authenticated_at:
        yield from _fenced(step, now)


def _factors(scenario: Scenario, step: Step, was: Record, now: Record, trace: Trace) -> Iterator[str]:
    """A pending login is of who proved the first factor: for ten minutes, until it is one or all its user's sessions ended."""
    if trace.begun:
        if now.pending is None or now.epoch == was.epoch:
            yield f"56: {_who(step)} proved a first factor, and session {now.key} has no pending login, or its old id"
    elif trace.login is None:
        if now.pending != was.pending:
            yield f"56: {_who(step)} proved nothing, and changed the pending login of {now.key}"
    elif now.pending is not None:
        yield f"56: {_who(step)} logged in, and the login of {now.key} is still pending"
    if not trace.goes_on:
        return
    pending = was.pending
    if pending is None or pending.user_id != now.user_id or trace.now - pending.at >= PENDING:
        yield f"56: {_who(step)} completed a login of {now.user_id}; pending was {pending}"
        return
    undecided = now.key in step.after.database.provisional() or (
        step.command is not None and step.command.undecided
    )
    stepped = any(isinstance(happening, Skew) for happening in scenario.happenings)
    ended = any(user == now.user_id and at >= pending.at for user, at in step.before.raised)
    if ended and not undecided and not stepped:
        yield f"20: {_who(step)} completed a login of {now.user_id} that began before all their sessions were ended"


def _touched(was: Record, now: Record) -> Iterator[str]:
    if now.deadline < was.deadline or now.seen_at < was.seen_at:
        yield f"11: a touch of {now.key} moved its deadline or its last sight back"
    if msgspec.structs.replace(now, deadline=was.deadline, seen_at=was.seen_at) != was:
        yield f"11: a touch of {now.key} changed more than its deadline"


def _deadlines(was: Record, now: Record, trace: Trace) -> Iterator[str]:
    anew = trace.login is not None
    if now.deadline < was.deadline and not (trace.may_shorten or anew):
        yield f"11: a write moved the deadline of {now.key} back by {was.deadline - now.deadline:g} s"
    if now.seen_at < was.seen_at and not (trace.may_shorten or anew):
        yield f"11: a write moved the last sight of {now.key} back by {was.seen_at - now.seen_at:g} s"
    if (now.ends_at != was.ends_at and not anew) or now.created_at != was.created_at:
        yield f"6: a write that is no login moved the absolute timeout of {now.key}"


def _verifiers(was: Record, now: Record) -> Iterator[str]:
    if now.epoch > was.epoch:
        if now.verifier == was.verifier or now.renewal is not None:
            yield f"2: session {now.key} changed its epoch and keeps an old verifier"
    elif now.user_id != was.user_id or now.authenticated_at != was.authenticated_at:
        yield f"2: a login did not raise the epoch of session {now.key}"
    elif now.verifier != was.verifier and (now.renewal is None or now.renewal.previous != was.verifier):
        yield f"3: a renewal of {now.key} does not keep the previous verifier"


def _wrote(step: Step, was: Record, now: Record, trace: Trace) -> Iterator[str]:
    wanted = applied(_data(was), trace.base, trace.changes)
    if _data(now) != wanted.data:
        yield (
            f"1/13-15: {_who(step)} had loaded {dict(trace.base)}, did {list(trace.changes)}, found {_data(was)} "
            f"and left {_data(now)} in place of {wanted.data}"
        )


def _may_end(scenario: Scenario, step: Step, was: Record) -> bool:
    """Whether whoever moved may end this session (rules 5, 10, 22, 23)."""
    if step.choice.request is None:
        return step.command is not None and step.command.fences == was.user_id
    trace, operation = _trace(step), _operation(scenario, step.choice.request)
    assert trace is not None
    loaded = trace.loaded is not None and (trace.loaded.key, trace.user) == (was.key, was.user_id)
    ours = USERS[scenario.requests[step.choice.request][1]]
    return (
        ("own" in operation.ends and loaded)
        or ("other" in operation.ends and loaded and was.user_id is not None and trace.login != was.user_id)
        or ("user" in operation.ends and was.user_id in ("alice", ours))
        or ("others" in operation.ends and was.user_id == trace.user and not loaded)
        or (
            "handle" in operation.ends
            and was.user_id == "alice"
            and was.key in (_locator(trace), OTHER_DEVICE)
        )
        or ("oldest" in operation.ends and was.user_id == trace.login)
        # A login that it has just written, and that may not be (rule 21).
        or trace.drew_for_this_write(was.version)
    )


def _locator(trace: Trace) -> str | None:
    return trace.ticket.locator if trace.ticket else None


def _of_index(scenario: Scenario, node: Node) -> Iterator[str]:
    """The index never misses a session that lives (rule 18).

    Once time has passed, the entry of a login that is not decided yet may have been healed away (rule 19): it is added again
    together with the look at the fence (rule 21).
    """
    undecided = node.database.provisional() if _has_passed(scenario, node) else {}
    living: dict[str, set[str]] = {}
    for key in node.database.rows():
        record = node.live(key)
        if record is not None and record.user_id is not None and key not in undecided:
            living.setdefault(record.user_id, set()).add(key)
    for user, keys in living.items():
        if missed := keys - node.database.listed(user):
            yield f"18/19: the index of {user} misses {sorted(missed)}"


def _has_passed(scenario: Scenario, node: Node) -> bool:
    return any(isinstance(h, Pass) and h not in node.left for h in scenario.happenings)


def _ended_all(step: Step, user: str, kept: str | None) -> Iterator[str]:
    """Whoever ended all sessions of a user is told so: now none lives that was begun before."""
    held = step.after.database.provisional()
    for key in step.after.database.rows():
        record = step.after.live(key)
        if record is None or record.user_id != user or key == kept or key in held:
            continue
        if not _is_younger(step, record, user):
            yield f"20: session {key} of {user} survived the end of them all"


def _is_younger(step: Step, record: Record, user: str) -> bool:
    """Whether it is of a login that was begun after the fence."""
    return any(
        i != step.choice.request
        and (user, step.choice.request) not in step.after.fenced[i]
        and any(map(state.trace.drew, record.versions))
        for i, state in enumerate(step.after.requests)
    )


# ------------------------------------------------------------------------------------------------- what a request was shown


def _found(scenario: Scenario, step: Step, trace: Trace) -> Iterator[str]:
    """What the handler found must be what its cookie stands for."""
    row = step.before.database.rows().get(trace.ticket.locator) if trace.ticket else None
    wanted = standing(trace.ticket, row, trace.left_at)
    if trace.standing is not wanted:
        yield f"3/4: {_who(step)} found its session {trace.standing and trace.standing.value}, must be {wanted.value}"
    elif wanted is Standing.LIVE and isinstance(row, Record):
        if trace.loaded is None or trace.loaded != row:
            yield f"{_who(step)} was shown something else than what is stored"
    elif trace.loaded is not None:
        yield f"4: {_who(step)} was shown a session that is not its own"
    assert step.choice.request is not None
    if scenario.requests[step.choice.request][1] == ATTACKER and _is_the_victims(trace.loaded):
        yield f"2/5: the attacker's request {step.choice.request + 1} reads the victim's session"


def _is_the_victims(record: Record | None) -> bool:
    return record is not None and (record.user_id == "alice" or "alice" in str(_data(record).get("who")))


# -------------------------------------------------------------------------------------------------- what a request ended with


def _finished(scenario: Scenario, step: Step, trace: Trace) -> Iterator[str]:
    index = step.choice.request
    assert index is not None
    yield from _cookies(step, trace)
    if trace.error is not None:
        yield from _failed(scenario, step, trace)
        return
    for key, held in step.after.database.provisional().items():
        if trace.drew(held.version):
            yield f"21: {_who(step)} is over, and its login to session {key} is neither in force nor taken back"
    if trace.login is not None:
        yield from _logged_in(step, trace, index)
    elif trace.logout:
        yield from _logged_out(step, trace)
    elif not _operation(scenario, index).fails and trace.standing is Standing.LIVE:
        yield from _kept(step, trace)
    if trace.seen is not None and trace.seen != trace.base:
        yield f"{_who(step)} read {trace.seen}, stored is {dict(trace.base)}"
    if trace.listed is not None:
        yield from _listed(scenario, step, trace, trace.listed)


def _listed(scenario: Scenario, step: Step, trace: Trace, listed: frozenset[str]) -> Iterator[str]:
    """A list shows what lives. What came or went while it was being made may be on it, or not."""
    index = step.choice.request
    assert index is not None
    always, ever = step.before.watched[index] or (frozenset(), frozenset())
    if trace.now == trace.left_at == step.before.wall:
        always = ever = frozenset(_alices(step.after, trace.now))
    elif any(isinstance(happening, (Pass, Skew)) for happening in scenario.happenings):
        return
    if wrong := (always - listed) | (listed - ever):
        yield f"18/22: the list of alice's sessions is wrong about {sorted(wrong)}"


def _alices(node: Node, now: float | None = None) -> set[str]:
    return {
        key for key in node.database.rows() if (r := node.live(key, now)) is not None and r.user_id == "alice"
    }


def _failed(scenario: Scenario, step: Step, trace: Trace) -> Iterator[str]:
    """Nobody sees an error unless the store failed, or the handler asked to be told (`save`, `reload`)."""
    told = trace.error in ("SessionGone", "LoginRefused")
    if not told and not any(isinstance(h, Faults) for h in scenario.happenings):
        yield f"2: {_who(step)} ended with {trace.error}"
    there = None if trace.loaded is None else step.after.database.rows().get(trace.loaded.key)
    written = isinstance(there, Record) and trace.drew_for_this_write(there.version)
    if written and trace.error == "StoreUnavailable":
        yield f"7: {_who(step)} is told that nothing was sent, and its session was written over"


def _cookies(step: Step, trace: Trace) -> Iterator[str]:
    if trace.sent is not None:
        record = step.after.live(trace.sent.locator, trace.now)
        if record is None:
            # One that this request made itself may be ended by others while it still has the old one to end (rule 5).
            made = trace.drew(trace.sent.locator) and trace.sent.locator in step.after.ever
            if not made and step.command is not None and not step.command.aside:
                yield f"9: {_who(step)} sends a cookie for session {trace.sent.locator}, which is gone"
        elif standing(trace.sent, record, trace.now) is not Standing.LIVE:
            yield f"2: {_who(step)} sends a cookie that does not open session {record.key}"
    detached = trace.standing is Standing.DETACHED and trace.login is None and not trace.begun
    if trace.action is not CookieAction.NONE and detached:
        yield f"4: {_who(step)} is detached and {trace.action.value}s a cookie"
    if trace.action is CookieAction.CLEAR and (
        trace.ticket is None or step.after.live(trace.ticket.locator, trace.now) is not None
    ):
        yield f"10: {_who(step)} clears the cookie of a session that lives"


def _logged_in(step: Step, trace: Trace, index: int) -> Iterator[str]:
    revoked = trace.was_told("login.revoked")
    if trace.sent is None and not revoked and _was_written(step, trace):
        return  # it was, and somebody ended it before the store could answer
    if revoked or trace.sent is None:
        if trace.goes_on and trace.was_told("session.gone"):
            return  # what it was to go on with has ended, or was completed by another
        ended = trace.goes_on and any(user == trace.login for user, _ in step.after.raised)
        if not (revoked and (ended or step.after.is_fenced(index, trace.login))):
            yield f"27: the login of {trace.login} in request {index + 1} ended in no session"
        return
    record = step.after.live(trace.sent.locator, trace.now)
    if record is not None and record.user_id != trace.login:
        yield f"5: the login of {trace.login} ended in a session of {record.user_id}"
    same = record is not None and trace.loaded is not None and record.key == trace.loaded.key
    if same and record is not None and trace.loaded is not None and record.epoch <= trace.loaded.epoch:
        yield f"2: the login of {trace.login} did not raise the epoch"


def _logged_out(step: Step, trace: Trace) -> Iterator[str]:
    if trace.standing is not Standing.LIVE or trace.loaded is None:
        return
    record = step.after.live(trace.loaded.key, trace.now)
    if record is not None and record.user_id == trace.user:
        yield f"2/10: {_who(step)} logged out, and session {record.key} lives"
    row = step.after.database.rows().get(trace.loaded.key)
    if isinstance(row, Ended) and trace.drew(row.token) and trace.action is CookieAction.NONE:
        yield f"8: {_who(step)} ended session {row.key} and leaves the browser its cookie"


def _was_written(step: Step, trace: Trace) -> bool:
    """Whether the write under way was carried out, whatever became of it since."""
    return any(trace.drew_for_this_write(version) for version in step.after.ever if ".v" in version)


def _kept(step: Step, trace: Trace) -> Iterator[str]:
    """Acknowledged: so the changes are there, or it was said why not (rules 7, 9, 15)."""
    if trace.loaded is None:  # it was ended by this very request
        return
    record = step.after.live(trace.loaded.key, trace.now)
    gone = record is None or record.epoch != trace.epoch
    if trace.was_told("session.gone"):
        if not gone:
            yield f"1: {_who(step)} says that session {trace.loaded.key} is gone, and drops its changes; it lives"
        return
    if not trace.changes or _was_written(step, trace):
        return
    if record is None or gone:
        yield f"9: {_who(step)} lost its changes and did not say so"
        return
    wanted = applied(_data(record), trace.base, trace.changes)
    if wanted.data != _data(record):
        yield f"1: {_who(step)} was acknowledged, and its changes {list(trace.changes)} are not there"
    if wanted.conflict and not trace.was_told("session.conflict"):
        yield f"14: {_who(step)} lost an assignment and did not say so (session.conflict)"
    if wanted.dropped and not trace.was_told("session.dropped"):
        yield f"15: {_who(step)} lost an operation and did not say so (session.dropped)"


# ---------------------------------------------------------------------------------------------------------- when all is over


def at_the_end(scenario: Scenario, node: Node, copied: Ticket | None) -> Iterator[str]:
    """What must hold when every response has arrived.

    `copied` is the cookie that the jar held at the start, in an attacker's hands.
    """
    traces = [state.trace for state in node.requests]
    yield from _taken_once(traces)
    yield from _stay_logged_out(node, traces)
    yield from _stay_ended(node, traces)
    yield from _old_cookies(scenario, node, traces, copied)
    yield from _limit(scenario, node)
    if not node.overtaken() and ATTACKER not in (actor for _, actor in scenario.requests):
        yield from _jar(scenario, node, traces)


def _taken_once(traces: list[Trace]) -> Iterator[str]:
    taken = [value for trace in traces for value in trace.taken]
    if len(taken) > len(set(taken)):
        yield f"16: taken more than once: {taken}"


def _stay_logged_out(node: Node, traces: list[Trace]) -> Iterator[str]:
    """A logout stays a logout (DESIGN 1), whatever comes after it.

    Except of a session that was nobody's and just then seemed to be a login's: once that is taken back it is there again.
    """
    refused = any(event.name in ("login.revoked", "login.refused") for t in traces for event in t.events)
    for i, trace in enumerate(traces):
        if trace.user is None and refused:
            continue
        if not trace.logout or trace.error is not None or trace.loaded is None:
            continue
        record = node.live(trace.loaded.key)
        if trace.standing is Standing.LIVE and record is not None and record.user_id == trace.user:
            yield f"2/10: request {i + 1} logged out, and in the end session {record.key} lives"


def _stay_ended(node: Node, traces: list[Trace]) -> Iterator[str]:
    """No login survives the end of all its user's sessions, if it began before that (rule 20)."""
    kept = [trace.ended_all for trace in traces if trace.ended_all is not None]
    for i, trace in enumerate(traces):
        if trace.sent is None or not node.is_fenced(i, trace.login) or any(t.error for t in traces):
            continue
        record = node.live(trace.sent.locator)
        ours = record is not None and (record.user_id, record.epoch) == (trace.login, trace.sent_epoch)
        if ours and (trace.login, trace.sent.locator) not in kept:
            yield f"20: the login of {trace.login} in request {i + 1} outlives the end of all their sessions"


def _old_cookies(scenario: Scenario, node: Node, traces: list[Trace], copied: Ticket | None) -> Iterator[str]:
    """No cookie of an earlier epoch opens anything, and none in the attacker's hands opens the victim's session (rules 2, 5)."""
    known = [(trace.sent, trace.sent_epoch, i) for i, trace in enumerate(traces) if trace.sent is not None]
    if copied is not None:
        known.append(
            (copied, 1 if scenario.start in ("logged in", "renewal due", "planted login") else 0, -1)
        )
    for ticket, epoch, i in known:
        record = node.live(ticket.locator)
        if record is None or standing(ticket, record, node.wall) is not Standing.LIVE:
            continue
        if record.epoch != epoch:
            yield f"2: a cookie of epoch {epoch} still opens {record.key}, now of epoch {record.epoch}"
        stolen = i < 0 and scenario.start.startswith("planted")
        if (stolen or (i >= 0 and scenario.requests[i][1] == ATTACKER)) and _is_the_victims(record):
            yield f"2/5: a cookie in the attacker's hands opens the victim's session {record.key}"


def _limit(scenario: Scenario, node: Node) -> Iterator[str]:
    """Alice has two sessions elsewhere; as long as only limited logins came, at most three in all (rule 23).

    One that failed half way may leave one too many until the next.
    """
    logins = [OPERATIONS[name] for name, _ in scenario.requests if "login" in name or "password" in name]
    if not logins or not all(operation.limit for operation in logins):
        return
    failed = any(state.trace.error is not None and state.trace.login for state in node.requests)
    if len(_alices(node)) > 3 and not failed:
        yield f"23: {len(_alices(node))} sessions of alice, the limit is 3"


def _jar(scenario: Scenario, node: Node, traces: list[Trace]) -> Iterator[str]:
    """What the browser is left with, once every response arrived in its order (rules 3, 4, 9, 10, 27)."""
    if any(traces[i].found is None or traces[i].sent_epoch != _epoch(traces[i]) for i in node.dropped):
        return  # the answer that brought a new session or epoch was lost: nothing can help
    if any(trace.error is not None for trace in traces):
        return  # an answer that only says that the store has failed carries no cookie
    ticket = dict(node.jars)[VICTIM]
    record = None if ticket is None else node.live(ticket.locator)
    if record is not None and standing(ticket, record, node.wall) is not Standing.LIVE:
        yield f"3: the browser is left with a cookie that no longer opens session {record.key}, which lives"
    for i in node.told:
        sent = traces[i].sent
        theirs = node.live(sent.locator) if sent is not None and traces[i].login is not None else None
        if theirs is None or theirs.user_id != traces[i].login or i in node.dropped:
            continue
        last = traces[node.told[-1]]
        if last.sent is not None and node.live(last.sent.locator) is None:
            continue
        # Who came without a session, or logged out of one, may make a new one: it cannot know of the login. And what an earlier
        # `save()` decided is older than it looks (rule 25).
        known_before = last.ticket is not None and last.standing is not Standing.NEW
        known_before = (
            known_before
            and not last.logout
            and not last.owed
            and not _rotated_first(last, traces[i])
            # Who typed a password just then wants to be somebody else.
            and not last.begun
        )
        # Nor can a login that came without a session know of one made meanwhile.
        known_before = known_before and traces[i].standing is not Standing.NEW
        if (record is None or record.user_id is None) and known_before:
            yield f"4/27: request {i + 1} logged in, its session lives, and the browser is left without it"


def _rotated_first(last: Trace, login: Trace) -> bool:
    """Whether the login had to begin anew because of what `last` did to its session: then the cookie of `last` is older."""
    if last.found is None or login.sent is None:
        return False
    return (
        last.sent_epoch > last.found.epoch
        and _locator(login) == last.found.key
        and login.sent.locator != last.found.key
    )


def _epoch(trace: Trace) -> int | None:
    return trace.found.epoch if trace.found is not None else None
