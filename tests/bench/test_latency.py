"""Latency at fixed rates: the rate is a share of what the slowest can do, and percentiles are of all rounds together."""

import json
from pathlib import Path

import pytest

from bench import arrivals, command, latency
from bench.arrivals import Timed
from bench.contestants import CONTESTANTS
from bench.latency import FIELDS, Field, Length, row_of, rows_of, table, undisturbed
from bench.rounds import Plan

OURS, THEIRS = "flask coatcheck redis", "flask flask-session redis"


def a_field() -> Field:
    one = Field([c for c in CONTESTANTS if c.peer in (OURS, THEIRS)])
    for peer, rps in ((OURS, 1_000.0), (THEIRS, 400.0)):
        for workload in ("write", "read"):
            one.capacity[peer, workload] = rps
            for share in latency.SHARES:
                one.rounds[peer, workload, share] = [
                    Timed([0.001] * 99 + [0.050], [0.0001]),
                    Timed([0.002] * 100, [0.0003]),
                ]
    return one


def test_everybody_gets_a_share_of_what_the_slowest_can_do() -> None:
    one = a_field()
    assert one.rate("write", 0.25) == 100.0
    one.failures[THEIRS] = "it broke"
    assert {row["peer"] for row in rows_of("f", one)} == {OURS}


def test_percentiles_are_of_all_rounds_and_the_99th_has_its_spread() -> None:
    row = row_of("f", a_field(), OURS, "write", 0.5)
    assert (row["p50"], row["p99"], row["p999"], row["max"]) == (1.0 + 1.0, 2.0, 50.0, 50.0)
    assert (row["p99_min"], row["p99_max"]) == (1.0, 2.0)
    assert (row["rate"], row["capacity"], row["requests"]) == (200, 1000, 200)
    text = table(rows_of("WSGI", a_field()))
    assert "WSGI, write, 200 a second (50% of the least capacity)" in text
    assert "1.00..2.00" in text


def test_a_load_whose_generator_was_held_up_is_done_again_but_not_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bad, good = Timed([0.5], [0.5]), Timed([0.1], [0.0001])
    answers = iter([bad, good, bad, bad, bad, bad])
    monkeypatch.setattr(arrivals, "sent", lambda order, core: next(answers))
    order = arrivals.Order(1, "/", ["a=1"], 1.0, 1.0)
    assert undisturbed(order, Plan(), Length()) is good
    assert undisturbed(order, Plan(), Length(attempts=3)) is bad
    assert next(answers) is bad


def test_the_fields_are_of_contestants_there_are() -> None:
    names = {c.peer for c in CONTESTANTS}
    assert all(peer in names for peers in FIELDS.values() for peer in peers)


@pytest.mark.slow
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(latency, "FIELDS", {"ASGI": ("starlette coatcheck redis",), "WSGI": (OURS,)})
    monkeypatch.setattr(command, "ROOM", tmp_path)
    assert latency.main(["--quick"]) == 0
    found = json.loads((tmp_path / "latency.part.json").read_text())
    assert len(found["rows"]) == 2 * 2 * len(latency.SHARES)
    assert all(0 < row["p50"] <= row["p99"] <= row["p999"] <= row["max"] for row in found["rows"])
    assert "starlette coatcheck redis" in capsys.readouterr().out
