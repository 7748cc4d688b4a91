"""One thing varied: each value is a contestant of its own, measured and verified as all are, less the bare one at the value."""

import json
from pathlib import Path

import pytest

from bench import command, concurrency, payload, sweep
from bench.apps.payload import cart
from bench.contestants import CONTESTANTS
from bench.report import Failure, Sample
from bench.rounds import Outcome, Plan

PEERS = ("starlette bare", "starlette coatcheck memory")
CHOSEN = [c for c in CONTESTANTS if c.peer in PEERS]


@pytest.mark.parametrize("octets", payload.OCTETS)
def test_a_cart_is_about_as_large_as_it_is_asked_for(octets: int) -> None:
    size = len(json.dumps(cart(octets), separators=(",", ":")))
    assert size == pytest.approx(octets, abs=40)


def test_what_is_added_is_over_the_bare_framework_at_the_same_value() -> None:
    samples = [
        Sample(f"{peer} @ {value}", "write", 0, cpu, 100.0)
        for peer, value, cpu in (
            ("starlette bare", 1, 50.0),
            ("starlette bare", 256, 80.0),
            ("starlette coatcheck memory", 1, 60.0),
            ("starlette coatcheck memory", 256, 100.0),
        )
    ]
    small = sweep.Sweep("concurrency", "connections", (1, 256), lambda s, v: s, ("added_cpu_us",), Plan())
    failures = [Failure("starlette coatcheck memory @ 256", "read", "it broke")]
    rows = sweep.summarised(small, CHOSEN, Outcome(samples, failures))
    added = {(row.peer, row.workload): row.added_cpu_us and row.added_cpu_us.median for row in rows}
    assert added["starlette coatcheck memory @ 1", "write"] == 10.0
    assert added["starlette coatcheck memory @ 256", "write"] == 20.0
    assert [sweep.placed(row)["at"] for row in rows] == [1, 256, 1, 256, 256]
    text = sweep.tables(small, rows)
    assert "write, added_cpu_us by connections" in text
    assert "FAILED starlette coatcheck memory @ 256, read: it broke" in text


def test_every_peer_is_a_contestant() -> None:
    assert set(sweep.PEERS) <= {c.peer for c in CONTESTANTS}


@pytest.mark.slow
@pytest.mark.parametrize("which", [payload.SWEEP, concurrency.SWEEP], ids=lambda s: s.name)
def test_it_runs(which: sweep.Sweep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sweep, "PEERS", (*PEERS, "express bare", "express express-session redis"))
    monkeypatch.setattr(command, "ROOM", tmp_path)
    short = sweep.Sweep(which.name, which.unit, which.values[:2], which.at, which.figures, which.plan)
    assert sweep.main(short, "", ["--quick"]) == 0
    rows = json.loads((tmp_path / f"{which.name}.part.json").read_text())["rows"]
    assert {(row["peer"], row["at"]) for row in rows} == {
        (peer, value) for peer in sweep.PEERS for value in which.values[:2]
    }
    assert all(row["cpu_us"] > 0 for row in rows)
