"""Every contestant can be started and keeps what it is told, on real servers; and a slice of load is measured and verified."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from bench import load, visitors
from bench.contestants import CONTESTANTS, Contestant
from bench.databases import Databases, databases, placed
from bench.rounds import Outcome, Plan, Stand, one_workload
from bench.server import serving

PLAN = Plan(rounds=1, slices=2, seconds=0.1, sessions=4)
MEMORY = next(c for c in CONTESTANTS if c.peer == "starlette coatcheck memory")


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Databases]:
    with databases(tmp_path_factory.mktemp("databases"), core=PLAN.database_core) as ready:
        yield ready


@contextmanager
def stand(contestant: Contestant, folder: Path, url: str = "") -> Iterator[Stand]:
    with serving(contestant, folder, core=PLAN.server_core, url=url) as server:
        yield Stand(contestant, server, visitors.log_in(contestant, server.port, PLAN.sessions), folder)


@pytest.mark.parametrize("contestant", CONTESTANTS, ids=lambda c: c.peer)
def test_every_contestant_keeps_what_it_is_told(
    contestant: Contestant, rooms: Databases, tmp_path: Path
) -> None:
    url = rooms.fresh(contestant.database) if contestant.database else ""
    with stand(contestant, tmp_path, url) as there:
        # Whoever keeps nothing answers 1 whatever it is asked; of the others each login has been written to once.
        assert visitors.counters(there.server.port, there.cookies) == PLAN.sessions


def test_slices_are_measured_and_their_writes_found(tmp_path: Path) -> None:
    outcome = Outcome()
    with stand(MEMORY, tmp_path) as there:
        for workload in ("write", "read"):
            one_workload([there], workload, 7, PLAN, outcome)
    assert outcome.failures == []
    assert [(s.workload, s.round, s.piece) for s in outcome.samples] == [
        (workload, 7, piece) for workload in ("write", "read") for piece in (0, 1)
    ]
    assert all(sample.cpu_us > 0 and sample.rps > 0 for sample in outcome.samples)
    assert [sample.kept for sample in outcome.samples] == [1.0, 1.0, None, None]


def test_a_load_that_is_answered_by_errors_fails_its_contestant_only(tmp_path: Path) -> None:
    outcome = Outcome()
    with stand(MEMORY, tmp_path) as there:
        lua = tmp_path / "missing.lua"
        lua.write_text(load.script("/missing", there.cookies))
        with pytest.raises(load.LoadFailed, match="were not 2xx or 3xx"):
            load.run(f"http://127.0.0.1:{there.server.port}", lua, seconds=0.1, core=PLAN.load_core)
        stranger = Stand(MEMORY, there.server, ["session=stranger"] * PLAN.sessions, tmp_path)
        one_workload([stranger], "write", 0, PLAN, outcome)
    assert outcome.samples == []
    assert [(f.peer, f.workload) for f in outcome.failures] == [(MEMORY.peer, "write")]


def test_every_asking_gets_a_database_of_its_own(rooms: Databases) -> None:
    urls = {rooms.fresh(kind) for kind in ("redis", "postgres", "mongo") for _ in range(2)}
    assert len(urls) == 6
    assert placed("mongodb://127.0.0.1:1/x?replicaSet=rs0", "b3") == "mongodb://127.0.0.1:1/b3?replicaSet=rs0"
