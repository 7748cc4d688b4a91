"""The table of docs/faults.md: one row a fault, store and setting, with the worst of what was run several times."""

import json
from pathlib import Path

import pytest

from tests.faults import figures
from tests.faults.checker import Report

GOOD = Report(0, 0, 0, 0, 0, 0, 1_234, 5, 6, {}, 11, 1.26, 2.5)
BAD = Report(7, 1, 2, 0, 3, 0, 900, 5, 6, {}, 0, 0.0, 0.5, ("lost: session s",), 1)


def test_what_is_kept_comes_out_as_a_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(figures.FILE, str(tmp_path / "figures"))
    figures.keep("killed", "Redis", "always", GOOD, recovered=1.04)
    figures.keep("killed", "Redis", "always", BAD)
    figures.keep("delays", "Redis", "always", BAD)
    said = capsys.readouterr().out
    assert "killed, Redis, always: lost 0, " in said
    assert "; back after 1.0 s" in said
    assert "lost: session s" in said
    rows = [json.loads(line) for line in (tmp_path / "figures").read_text().splitlines()]
    assert figures.table(rows).splitlines()[2:] == [
        "| delays | Redis, always | 900 | 7 | 1 | 1 (+1) | 0 | 0.5 |  |  |",
        "| killed | Redis, always | 1,234 | 7 | 1 | 1 (+1) | 0 | 2.5 | 1.0 | 1.3 |",
    ]


def test_nothing_is_kept_unless_a_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(figures.FILE, raising=False)
    monkeypatch.chdir(tmp_path)
    figures.keep("killed", "Redis", "always", GOOD)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "report",
    [
        BAD,
        Report(0, 0, 0, 0, 0, 0, 9, 0, 0, {500: 1}, 0, 0.0, 0.5),
        Report(0, 0, 0, 0, 0, 0, 9, 0, 0, {}, 1, figures.WITHIN, 0.5),
        Report(0, 0, 0, 0, 0, 1, 9, 0, 0, {}, 0, 0.0, 0.5),
    ],
)
def test_what_is_not_sound_is_an_error_that_says_why(report: Report) -> None:
    figures.sound(GOOD)
    with pytest.raises(AssertionError, match="acknowledged"):
        figures.sound(report)
