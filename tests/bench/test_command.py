"""What commands share: results of a part are kept apart, and whoever is told to end leaves nothing running."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import command, docs, everything
from bench.__main__ import chosen, main, parser, planned
from bench.contestants import CONTESTANTS, CORE
from bench.rounds import Plan, expected_seconds


def test_results_of_a_part_are_not_where_the_documentation_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "ROOM", tmp_path)
    assert command.write("requests", {"rows": []}, whole=False).name == "requests.part.json"
    assert command.write("requests", {"rows": []}, whole=True).name == "requests.json"


def test_the_core_is_measured_unless_all_or_some_are_asked_for() -> None:
    assert chosen(parser().parse_args([])) == CORE
    assert chosen(parser().parse_args(["--all"])) == CONTESTANTS
    assert "falcon coatcheck redis" in [c.peer for c in chosen(parser().parse_args(["--only", "falcon"]))]


def test_who_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "nobody"]) == 2
    assert "starlette coatcheck redis" in capsys.readouterr().err


def test_the_core_takes_about_twenty_minutes() -> None:
    assert expected_seconds(CORE, Plan()) == pytest.approx(20 * 60, rel=0.2)
    assert expected_seconds(CORE, planned(parser().parse_args(["--quick"]))) < 5 * 60


def test_one_core_is_not_enough(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0})
    assert main(["--quick"]) == 2
    assert "two CPU cores" in capsys.readouterr().err


def test_whoever_is_told_to_end_stops_what_it_has_started() -> None:
    code = """
import subprocess, sys
from bench import command, docs, everything
def body():
    with subprocess.Popen(["sleep", "600"]) as child:
        try:
            print(child.pid, flush=True)
            child.wait()
        finally:
            child.terminate()
    return 0
sys.exit(command.run(body))
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        child = int(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 128 + signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(child, 0)


def test_everything_runs_though_one_misses_its_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[str, list[str]]] = []

    def saying(name: str, code: int) -> Callable[[list[str]], int]:
        def said(options: list[str]) -> int:
            heard.append((name, options))
            return code

        return said

    monkeypatch.setattr(everything, "COMMANDS", {"a": saying("a", 1), "b": saying("b", 0)})
    monkeypatch.setattr(docs, "main", lambda: heard.append(("docs", [])))
    assert everything.main([]) == 1
    assert everything.main(["--quick"]) == 1
    assert heard == [("a", []), ("b", []), ("docs", []), ("a", ["--quick"]), ("b", ["--quick"])]


def test_everything_is_all_that_the_documentation_shows() -> None:
    assert list(everything.COMMANDS) == [part.name for part in docs.PARTS]
