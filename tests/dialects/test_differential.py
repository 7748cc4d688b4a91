"""Random programs, run by the real express-session and by our dialect: they come to the same, save for what docs/node.md has."""

import json
import os
import subprocess
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Any, Final

import pytest

from coatcheck.dialects.express import Cookie
from tests.dialects.node import ROOM
from tests.dialects.programs import CANNOT, Program, Seen, Sent, made, ours

SEED: Final = int(os.environ.get("SEED", "20261126"))
RUN: Final = 500
IDS: Final = [f"id-{number:03}-" + "x" * 20 for number in range(200)]


def theirs(programs: Sequence[tuple[Program, list[Sent]]]) -> list[list[Any]]:
    """What the real one makes of them, in one run of Node."""
    lines = [
        json.dumps({
            "session": {**program.session, "ids": IDS}, "withoutTouch": program.without_touch, "express": True,
            "requests": [asdict(request) for request in sent],
        })
        for program, sent in programs
    ]  # fmt: skip
    done = subprocess.run(
        ["node", ROOM / "differential.mjs"],
        input="\n".join(lines),
        cwd=ROOM,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def difference(program: Program, sent: list[Sent], seen: list[Seen], real: list[Any]) -> str | None:
    """What differs first; None: nothing but what may."""
    for number, (mine, other) in enumerate(zip(seen, real, strict=True)):
        if mine.raised:  # rule 4.8: what could not be announced any more is refused by ours
            return None
        now = sent[number].now
        streams = ["write"] in program.requests[number].ops
        ours_, real_ = told(mine, now, streams=streams), told_by_node(other, now, streams=streams)
        for part, value in real_.items():
            if ours_.get(part) != value:
                return f"request {number}: {part}\n  ours {ours_.get(part)!r}\n  real {value!r}"
    return None


def told(seen: Seen, now: int, *, streams: bool) -> dict[str, Any]:
    return {
        "status": seen.status, "cookies": seen.cookies, "asked": once(seen.asked, streams=streams),
        "stored": living(seen.stored, now), **shown(seen.body, streams=streams),
    }  # fmt: skip


def told_by_node(outcome: Any, now: int, *, streams: bool) -> dict[str, Any]:
    return {
        "status": outcome["status"], "cookies": outcome["cookies"], "asked": once(outcome["asked"], streams=streams),
        "stored": living(outcome["stored"], now), **shown(outcome["body"], streams=streams),
    }  # fmt: skip


def living(stored: dict[str, str], now: int) -> dict[str, str]:
    """What is over is deleted when somebody looks, which ours does before it writes."""
    alive = {}
    for sid, text in stored.items():
        expires = Cookie.loaded(json.loads(text)["cookie"]).expires_at
        if expires is None or expires > now:
            alive[sid] = text
    return alive


def shown(body: Any, *, streams: bool) -> dict[str, Any]:
    if "error" in body:
        return {"error": body["error"]}
    results = [CANNOT if str(result).startswith("TypeError") else result for result in body["results"]]
    found = {"has": body["has"], "id": body["id"] if body["has"] else None}
    return found if streams else {**found, "results": results, "data": body["data"], "maxAge": body["maxAge"]}


def once(asked: list[list[Any]], *, streams: bool) -> list[list[Any]]:
    """Rule 5.1: what Node destroys twice in one request, ours does once. Rule 5.6: of a streamed response ours stores what there
    is when the headers leave, and again at the end what has changed since; Node all of it at the end.
    """
    kept: list[list[Any]] = []
    written: set[str] = set()
    for entry in asked:
        verb, sid = entry[0], entry[1]
        if verb == "set":
            written.add(sid)
        if streams and verb != "destroy":
            continue
        if (
            verb == "get" and sid in written
        ):  # what it has written itself, ours reads again before it writes over it
            continue
        if verb != "destroy" or entry not in kept:
            kept.append(entry)
    return kept


def run(programs: Sequence[Program]) -> list[str | None]:
    mine = [ours(program, IDS) for program in programs]
    real = theirs([(program, sent) for program, (sent, _) in zip(programs, mine, strict=True)])
    return [
        difference(program, sent, seen, other)
        for program, (sent, seen), other in zip(programs, mine, real, strict=True)
    ]


def shrunk(program: Program) -> tuple[Program, str]:
    """The smallest program found that still differs, and how."""
    worst = run([program])[0]
    assert worst is not None
    while True:
        smaller = list(_smaller(program))
        differing = [
            (one, found) for one, found in zip(smaller, run(smaller), strict=True) if found is not None
        ]
        if not differing:
            return program, worst
        program, worst = differing[0]


def _smaller(program: Program) -> Any:
    for index, request in enumerate(program.requests):
        if len(program.requests) > 1:
            yield replace(program, requests=program.requests[:index] + program.requests[index + 1 :])
        for at in range(len(request.ops)):
            less = replace(request, ops=request.ops[:at] + request.ops[at + 1 :])
            yield replace(program, requests=(*program.requests[:index], less, *program.requests[index + 1 :]))
        for plain in (
            replace(request, later=0),
            replace(request, cookie="jar"),
            replace(request, secure=False, forwarded=None),
        ):
            if plain != request:
                yield replace(
                    program, requests=(*program.requests[:index], plain, *program.requests[index + 1 :])
                )
    for name in ("rolling", "resave", "saveUninitialized"):
        if program.session[name]:
            yield replace(program, session={**program.session, name: False})
    for name in program.session["cookie"]:
        less_cookie = {key: value for key, value in program.session["cookie"].items() if key != name}
        yield replace(program, session={**program.session, "cookie": less_cookie})


def compared(seeds: Sequence[int]) -> None:
    programs = [made(seed) for seed in seeds]
    for seed, program, found in zip(seeds, programs, run(programs), strict=True):
        if found is not None:
            small, how = shrunk(program)
            pytest.fail(f"seed {seed}: {how}\n{small}")


def _named(first: int) -> str:
    return f"seeds-{first}-to-{first + RUN - 1}"


@pytest.mark.parametrize("first", [SEED], ids=_named)
def test_five_hundred_programs_come_to_the_same(first: int) -> None:
    compared(range(first, first + RUN))


@pytest.mark.slow
@pytest.mark.parametrize("first", range(SEED + RUN, SEED + RUN + 5_000, RUN), ids=_named)
def test_five_thousand_more_come_to_the_same(first: int) -> None:
    compared(range(first, first + RUN))
