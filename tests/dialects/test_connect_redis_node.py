"""connect-redis's sessions with the real connect-redis on the other side: for each option, in both directions, to the second."""

import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from secrets import token_urlsafe
from typing import Any, Final

import pytest

from coatcheck.dialects.express.plain import load
from coatcheck.dialects.express.ports import GONE, SAVED, TAKEN, Changed
from servers import Server
from tests.dialects.connect_redis_help import (
    MINUTES,
    NOW,
    NOW_MS,
    OPTIONS,
    Sides,
    change,
    end,
    rewritten,
    signed,
    text,
)
from tests.dialects.rig import FACES, data, iso
from tests.stores.redis_help import raw


@pytest.fixture(scope="module")
def all_sides(redis_server: Server) -> Iterator[Callable[[str], Sides]]:
    """One application for each set of options, started when the first test asks for it; in a database of its own."""
    started: dict[str, Sides] = {}

    def sides(name: str) -> Sides:
        if name not in started:
            url = redis_server.url.removesuffix("0") + str(5 + list(OPTIONS).index(name))
            started[name] = Sides(url, OPTIONS[name])
        return started[name]

    yield sides
    for one in started.values():
        one.node.stop()


CASES: Final = [
    ("plain", "blocking"), ("plain", "awaiting"), ("prefix", "awaiting"), ("no prefix", "blocking"), ("ttl", "awaiting"),
    ("ttl function", "blocking"), ("disable_ttl", "awaiting"), ("disable_touch", "blocking"), ("serializer", "awaiting"),
    ("all", "blocking"), ("all", "awaiting"),
]  # fmt: skip
for_all_options = pytest.mark.parametrize(("sides", "face"), CASES, indirect=["sides"])


@pytest.fixture
def sides(request: pytest.FixtureRequest, all_sides: Callable[[str], Sides]) -> Sides:
    return all_sides(request.param)


@pytest.fixture
def plain(all_sides: Callable[[str], Sides]) -> Sides:
    return all_sides("plain")


# ------------------------------------------------------------------------------------------------- there and back again


@for_all_options
def test_node_begins_and_python_goes_on(sides: Sides, face: str) -> None:
    first = sides.node.run(["set", ["n"], 1], ["set", ["keep"], 500], ["set", ["who"], "Zoë 𝄞"], now=NOW_MS)
    sid = first.body["id"]

    async def go_on(store: Any) -> None:
        read = await store.get(sid, now=NOW)
        assert data(read.text) == {"n": 1, "keep": 500, "who": "Zoë 𝄞"}
        assert load(read.text)["cookie"]["originalMaxAge"] == MINUTES
        assert await change(store, sid, n=2) is SAVED

    sides.python(face, go_on)
    assert sides.node.run(cookie=first.cookie).data == {"n": 2, "keep": 500, "who": "Zoë 𝄞"}
    assert sides.node.run(["set", ["n"], 3], cookie=first.cookie).data["n"] == 3
    assert data(sides.python(face, lambda store: store.get(sid, now=NOW)).text)["n"] == 3


@for_all_options
def test_python_begins_and_node_goes_on(sides: Sides, face: str) -> None:
    sid = token_urlsafe(24)
    made = text(n=1)
    assert sides.python(face, lambda store: store.create(sid, made, expires=end(), now=NOW)) is SAVED
    read = sides.python(face, lambda store: store.get(sid, now=NOW))
    assert read.text == made
    answer = sides.node.run(["get", "n"], ["set", ["n"], 2], cookie=signed(sid), now=NOW_MS)
    assert (answer.body["id"], answer.body["results"]) == (sid, [1, None])

    async def too_late(store: Any) -> Any:
        return await store.replace(sid, text(n=9), over=read, expires=end(), now=NOW)

    outcome = sides.python(face, too_late)
    assert isinstance(outcome, Changed)
    assert outcome.current is not None
    assert data(outcome.current.text) == {"n": 2, "keep": 500}
    assert sides.python(face, lambda store: store.create(sid, text(), expires=end(), now=NOW)) is TAKEN
    assert sides.node.run(cookie=signed(sid), now=NOW_MS).data["n"] == 2


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("seed", range(3))
def test_a_random_course_of_both_sides(plain: Sides, face: str, seed: int) -> None:
    """Both begin, read, change, touch and end the same sessions in turn; all the while both see what a dict would hold."""
    choose, there = random.Random(seed), dict[str, int | None]()
    for n in range(60):
        sid = choose.choice([*there, None])
        by_node, verb = choose.random() < 0.5, choose.choice(["read", "change", "touch", "end", "begin"])
        if sid is None or verb == "begin":
            begin = _begun_by_node if by_node else _begun_by_python
            there[begin(plain, face, n)] = n
        elif by_node:
            there[sid] = _by_node(plain, verb, sid, there[sid], n)
        else:
            there[sid] = plain.python(face, partial(_by_python, verb, sid, there[sid], n))
    assert None in there.values()


def _begun_by_node(sides: Sides, _face: str, n: int) -> str:
    return str(sides.node.run(["set", ["n"], n], now=NOW_MS).body["id"])


def _begun_by_python(sides: Sides, face: str, n: int) -> str:
    sid = token_urlsafe(24)
    assert sides.python(face, lambda store: store.create(sid, text(n=n), expires=end(), now=NOW)) is SAVED
    return sid


def _by_node(sides: Sides, verb: str, sid: str, was: int | None, n: int) -> int | None:
    programs: dict[str, list[Any]] = {"change": [["set", ["n"], n]], "end": [["destroy"]]}
    ops = programs.get(verb, [])
    answer = sides.node.run(["get", "n"], *(ops if was is not None else []), cookie=signed(sid), now=NOW_MS)
    assert answer.body["results"][0] == was
    return {"change": n, "end": None}.get(verb, was) if was is not None else None


async def _by_python(verb: str, sid: str, was: int | None, n: int, store: Any) -> int | None:
    read = await store.get(sid, now=NOW)
    assert (None if read is None else data(read.text)["n"]) == was
    if verb == "touch":
        await store.touch(sid, text(n=n), expires=end(), now=NOW)
    elif verb == "end":
        assert await store.destroy(sid) is (was is not None)
        return None
    elif verb == "change" and was is not None:
        assert await change(store, sid, n=n) is SAVED
        return n
    return was


def test_octets_are_those_that_node_writes(plain: Sides, redis_server: Server) -> None:
    """What Python writes anew of what it read is what Node wrote, octet for octet."""
    first = plain.node.run(
        ["set", ["n"], [1, 2.5, None, {"é": '\u2028 \\ " 𝄞'}]], ["set", ["keep"], 1], now=NOW_MS
    )
    read = plain.python("blocking", lambda store: store.get(first.body["id"], now=NOW))
    assert rewritten(read) == read.text


@for_all_options
def test_what_either_side_ends_is_ended(sides: Sides, face: str) -> None:
    first = sides.node.run(["set", ["keep"], 500], now=NOW_MS)
    sid = first.body["id"]
    assert sides.python(face, lambda store: store.destroy(sid)) is True
    gone = sides.node.run(cookie=first.cookie)
    assert (gone.data, gone.body["id"] != sid) == ({}, True)

    second = sides.node.run(["set", ["keep"], 500], now=NOW_MS)
    sid = second.body["id"]
    read = sides.python(face, lambda store: store.get(sid, now=NOW))
    sides.node.run(["destroy"], cookie=second.cookie)

    async def too_late(store: Any) -> None:
        assert await store.get(sid, now=NOW) is None
        assert await store.replace(sid, text(), over=read, expires=end(), now=NOW) is GONE
        await store.touch(sid, text(), expires=end(), now=NOW)
        assert await store.destroy(sid) is False

    sides.python(face, too_late)
    assert sides.node.run(cookie=second.cookie).data == {}


@for_all_options
def test_either_side_regenerates(sides: Sides, face: str) -> None:
    first = sides.node.run(["set", ["keep"], 500], now=NOW_MS)
    second = sides.node.run(["regenerate"], ["set", ["keep"], 501], cookie=first.cookie)
    old, new = first.body["id"], second.body["id"]
    mine = token_urlsafe(24)

    async def regenerate(store: Any) -> None:
        assert await store.get(old, now=NOW) is None
        assert data((await store.get(new, now=NOW)).text) == {"keep": 501}
        assert await store.destroy(new) is True
        assert await store.create(mine, text(n=1), expires=end(), now=NOW) is SAVED

    sides.python(face, regenerate)
    assert sides.node.run(cookie=second.cookie).data == {}
    assert sides.node.run(cookie=signed(mine)).data == {"keep": 500, "n": 1}


def test_a_session_lives_by_its_key_and_not_by_its_body(plain: Sides) -> None:
    """Wire formats 1.6, rule 1: Node has touched it for a day, and the body says that it ended long ago."""
    first = plain.node.run(["set", ["n"], 1], now=NOW_MS)
    day = NOW_MS + 86_400_000
    plain.node.run(cookie=first.cookie, now=day)
    read = plain.python("blocking", lambda store: store.get(first.body["id"], now=day / 1000))
    assert load(read.text)["cookie"]["expires"] == iso((NOW_MS + MINUTES) / 1000)
    assert 0 < read.expires - day / 1000 <= MINUTES / 1000


# ----------------------------------------------------------------------------------------------------- to the second


def effects(server: Server, database: int, work: Callable[[], Any]) -> tuple[Any, list[tuple[str, str, str]]]:
    """What changes reach a database meanwhile, as the server sees them: verb, key and seconds ('': for ever)."""
    seen: list[tuple[str, str, str]] = []
    with raw(server) as client, client.monitor() as monitor:
        answer = work()
        client.echo("that was all")
        for said in monitor.listen():
            command = said["command"]
            if command == "ECHO that was all":
                return answer, seen
            verb = command.split(" ")[0].upper()
            if said["db"] != database or verb not in ("SET", "EXPIRE", "DEL"):
                continue
            key, rest = re.fullmatch(r"(.*?[\w-]{32})(?: (.*))?", command[len(verb) + 1 :]).groups()  # type: ignore[union-attr]  # it matches
            seconds = rest if verb == "EXPIRE" else (re.findall(r" EX (-?\d+)$", rest or "") or [""])[0]
            seen.append((verb, key, seconds))
    raise AssertionError("the server stopped")


LIVES: Final = (None, 1, 999, 1_000, 1_001, 60_500, MINUTES, MINUTES + 1, 31_536_000_000, 0, -1, -5_000)


@for_all_options
def test_ends_agree_to_the_second(sides: Sides, face: str, redis_server: Server) -> None:
    """For the same session both sides give Redis the same command, SET, DEL or EXPIRE, with the same seconds."""
    for life in LIVES:
        for keep in (500, 0) if callable(sides.options.get("ttl")) else (500,):
            _agree(sides, face, redis_server, life, keep)


def _agree(sides: Sides, face: str, server: Server, life: int | None, keep: int) -> None:
    now = NOW_MS + random.Random(f"{life} {keep}").randrange(10**9)
    ops: list[Any] = [["set", ["keep"], keep], ["maxAge", life]]
    first, theirs = effects(server, sides.database, lambda: sides.node.run(*ops, now=now))
    node, mine = first.body["id"], token_urlsafe(24)
    if theirs[0][0] == "DEL":  # connect-redis deletes what nobody has written
        assert theirs[0][1] == sides.key(node)
        expected = []
    else:
        expected = [(verb, key.replace(node, mine), seconds) for verb, key, seconds in theirs]
    written = text(life, now, keep=keep)

    def create(store: Any) -> Any:
        return store.create(mine, written, expires=end(life, now), now=now / 1000)

    outcome, ours = effects(server, sides.database, lambda: sides.python(face, create))
    assert (outcome, ours) == (SAVED, expected), life
    if not expected:
        return

    async def replace(store: Any) -> Any:
        read = await store.get(mine, now=now / 1000)
        return await store.replace(mine, written, over=read, expires=end(life, now), now=now / 1000)

    outcome, ours = effects(server, sides.database, lambda: sides.python(face, replace))
    assert (outcome, ours) == (SAVED, expected), life
    later = now + 400
    _, theirs = effects(server, sides.database, lambda: sides.node.run(cookie=first.cookie, now=later))
    touched = text(life, later, keep=keep)

    def touch(store: Any) -> Any:
        return store.touch(mine, touched, expires=end(life, later), now=later / 1000)

    _, ours = effects(server, sides.database, lambda: sides.python(face, touch))
    assert ours == [(verb, key.replace(node, mine), seconds) for verb, key, seconds in theirs], life
    assert bool(ours) == (not sides.options.get("disable_ttl") and not sides.options.get("disable_touch"))
    sides.node.run(["destroy"], cookie=first.cookie)


@for_all_options
def test_a_replace_by_what_has_no_time_left_deletes_as_node_does(
    sides: Sides, face: str, redis_server: Server
) -> None:
    def gone(sid: str) -> bool:
        with raw(redis_server, db=sides.database) as client:
            return not client.exists(sides.key(sid))

    first = sides.node.run(["set", ["keep"], 500], now=NOW_MS)
    sides.node.run(["maxAge", -1], ["set", ["keep"], 0], cookie=first.cookie)
    assert gone(first.body["id"])
    second = sides.node.run(["set", ["keep"], 500], now=NOW_MS)
    sid = second.body["id"]

    async def replace(store: Any) -> Any:
        read = await store.get(sid, now=NOW)
        return await store.replace(sid, text(-1, keep=0), over=read, expires=end(-1), now=NOW)

    assert sides.python(face, replace) is SAVED
    assert gone(sid)
