"""Start: what an import costs beyond nothing, what it brings, and a server's first answer."""

import json
from pathlib import Path

import pytest

from bench import command, startup


def test_an_import_costs_what_it_takes_beyond_nothing_turn_by_turn() -> None:
    times = {
        startup.NOTHING: [(0.010, 0.010), (0.030, 0.012), (0.010, 0.010)],
        "coatcheck": [(0.050, 0.040), (0.080, 0.052), (0.049, 0.040)],
    }
    nothing, ours = startup.import_rows(times)
    assert (nothing["ms"], nothing["bar"], nothing["met"]) == (10.0, None, None)
    assert ours["ms"] == pytest.approx(40.0)
    assert ours["cpu_ms"] == pytest.approx(30.0)
    assert ours["met"] is True
    times["coatcheck"] = [(0.110, 0.1)] * 3
    missed = startup.import_rows(times)
    assert missed[1]["met"] is False
    assert "60 MISSED" in startup.import_table(missed)


def test_importing_coatcheck_brings_no_driver_and_no_framework() -> None:
    brought = startup.modules("import coatcheck")
    assert "coatcheck" in brought
    assert startup.strangers(brought) == []


def test_a_driver_that_is_brought_is_found_also_in_the_standard_library() -> None:
    brought = startup.modules("import coatcheck, sqlite3, redis")
    assert startup.strangers(brought) == ["hiredis", "redis", "sqlite3"]
    assert "MISSED" in startup.brought_table(brought)


def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "ROOM", tmp_path)
    monkeypatch.setattr(startup, "IMPORTS", {startup.NOTHING: "pass", "msgspec": "import msgspec"})
    assert startup.main(["--quick"]) == 0
    found = json.loads((tmp_path / "startup.part.json").read_text())
    assert [row["name"] for row in found["imports"]] == [startup.NOTHING, "msgspec"]
    assert all(row["reason"] is None and row["median"] > 0 for row in found["servers"])
