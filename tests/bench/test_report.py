"""The bench's arithmetic: differences and ratios inside a slice, medians over slices, failures without figures."""

import subprocess
import sys

import pytest

from bench.__main__ import results
from bench.contestants import BARS, CONTESTANTS, CORE, REQUESTS_A_CORE, baseline_of, references_of, select
from bench.load import LoadFailed, parse, script
from bench.report import (
    Comparison,
    Failure,
    Figure,
    Row,
    Sample,
    as_json,
    differences,
    figure,
    ratios,
    summarise,
    table,
)
from bench.rounds import Outcome
from bench.server import cpu_clock, cpu_seconds, parse_stat
from bench.visitors import Wrong, verdict

BASELINES = {"f bare": "f bare", "f ours mem": "f bare", "f theirs mem": "f bare"}
REFERENCES = {"f ours mem": ["f theirs mem"], "f theirs mem": ["f theirs mem"]}
PROMISED = {("f ours mem", "f theirs mem", "write"): 0.25}


def samples(**cpu_by_peer: list[float]) -> list[Sample]:
    """One write sample a slice; ``ours=[...]`` becomes the peer ``f ours mem``."""
    names = {"bare": "f bare", "ours": "f ours mem", "theirs": "f theirs mem"}
    return [
        Sample(
            names[peer], "write", turn // 2, cpu, 1e6 / cpu, None if peer == "bare" else 1.0, piece=turn % 2
        )
        for peer, values in cpu_by_peer.items()
        for turn, cpu in enumerate(values)
    ]


def rows(measured: list[Sample], failures: list[Failure] | None = None) -> dict[str, Row]:
    found = summarise(measured, failures or [], baselines=BASELINES, references=REFERENCES, bars=PROMISED)
    return {row.peer: row for row in found}


def same(value: float) -> Figure:
    """What comes of one value, however often."""
    return Figure(value, value, value, value, value)


def test_figure_is_median_quartiles_and_extremes_and_nothing_of_nothing() -> None:
    assert figure([9.0, 1.0, 2.0]) == Figure(2.0, 1.5, 5.5, 1.0, 9.0)
    assert figure([7.0]) == same(7.0)
    assert figure([]) is None


def test_differences_and_ratios_use_only_slices_that_both_have() -> None:
    assert differences({0: 5.0, 1: 9.0}, {1: 4.0, 2: 1.0}) == {1: 5.0}
    assert ratios({0: 5.0, 1: 9.0}, {1: 3.0, 2: 1.0}) == {1: 3.0}


def test_ratio_skips_a_slice_whose_reference_added_nothing() -> None:
    assert ratios({0: 5.0, 1: 6.0, 2: 8.0}, {0: 0.0, 1: -3.0, 2: 2.0}) == {2: 4.0}


def test_added_cost_is_the_median_of_the_slices_differences_not_the_difference_of_medians() -> None:
    found = rows(samples(bare=[50.0, 100.0, 60.0], ours=[60.0, 115.0, 110.0]))
    # Per slice 10, 15, 50; of medians it would be 110 - 60 = 50.
    assert found["f ours mem"].added_cpu_us == Figure(15.0, 12.5, 32.5, 10.0, 50.0)
    assert found["f bare"].added_cpu_us == same(0.0)
    assert (found["f ours mem"].rounds, found["f ours mem"].slices) == (2, 3)


def test_ratio_is_taken_in_the_slice_so_that_a_slow_one_cancels_out() -> None:
    # The second slice ran on a machine half as fast.
    found = rows(samples(bare=[50.0, 100.0], ours=[60.0, 120.0], theirs=[90.0, 180.0]))
    assert found["f ours mem"].comparisons == (Comparison("f theirs mem", same(0.25), 0.25),)
    assert found["f theirs mem"].comparisons == (Comparison("f theirs mem", same(1.0)),)
    assert found["f bare"].comparisons == ()


def test_a_row_is_compared_with_each_of_its_references() -> None:
    measured = samples(bare=[50.0], ours=[60.0], theirs=[90.0])
    references = {"f ours mem": ["f theirs mem", "f ours mem", "nobody"]}
    found = summarise(measured, [], baselines=BASELINES, references=references, bars=PROMISED)
    ours = next(row for row in found if row.peer == "f ours mem")
    assert [(c.to, c.ratio and c.ratio.median, c.bar) for c in ours.comparisons] == [
        ("f theirs mem", 0.25, 0.25),
        ("f ours mem", 1.0, None),
        ("nobody", None, None),
    ]
    assert [line.split() for line in table([ours]).splitlines()[2:]] == [
        ["1.00", "1.00..1.00", "f", "ours", "mem"],
        ["-", "nobody"],
    ]
    assert [one["ratio_to"] for one in as_json(ours)["comparisons"]] == [
        "f theirs mem",
        "f ours mem",
        "nobody",
    ]


@pytest.mark.parametrize(("ours", "ratio", "word"), [(30.0, 3.0, "met"), (36.0, 2.5, "MISSED")])
def test_requests_a_core_are_whole_requests_and_their_bar_is_the_fewest(
    ours: float, ratio: float, word: str
) -> None:
    measured = samples(bare=[10.0, 20.0], ours=[ours, 2 * ours], theirs=[90.0, 180.0])
    fewest = {("f ours mem", "f theirs mem", "write"): 3.0, ("f ours mem", "f theirs mem", "read"): 3.0}
    found = summarise(
        measured, [], baselines=BASELINES, references=REFERENCES, bars={}, requests_a_core=fewest
    )
    row = next(row for row in found if row.peer == "f ours mem")
    added, requests = row.comparisons
    assert (added.of, added.met) == ("added CPU", None)
    assert requests == Comparison("f theirs mem", same(ratio), 3.0, "requests a core")
    assert table([row]).splitlines()[-1].split()[2:4] == [">=3.00", word]
    assert (
        as_json(row)["comparisons"][1] | {"of": "requests a core", "bar": 3.0, "ratio": ratio}
        == (as_json(row)["comparisons"][1])
    )


def test_who_failed_once_has_no_figures_and_the_others_keep_theirs() -> None:
    measured = samples(bare=[50.0, 50.0], ours=[60.0], theirs=[90.0, 90.0])
    found = rows(
        measured, [Failure("f ours mem", "write", "first"), Failure("f ours mem", "write", "second")]
    )
    assert found["f ours mem"] == Row("f ours mem", "write", reason="first")
    assert found["f theirs mem"].added_cpu_us == same(40.0)


def test_without_a_baseline_nothing_is_called_added() -> None:
    measured = samples(bare=[50.0], ours=[60.0])
    found = rows(measured, [Failure("f bare", "write", "no server")])
    assert found["f ours mem"].cpu_us == same(60.0)
    assert found["f ours mem"].added_cpu_us is None


def test_json_row_carries_the_names_the_results_promise() -> None:
    found = as_json(rows(samples(bare=[50.0], ours=[60.0], theirs=[90.0]))["f ours mem"])
    assert found["peer"] == "f ours mem"
    assert found["workload"] == "write"
    assert found["status"] == "ok"
    assert (found["cpu_us"], found["added_cpu_us"], found["ratio"]) == (60.0, 10.0, 0.25)
    assert found["rps"] == pytest.approx(16666.667)
    assert found["busy"] == 1.0
    failed = as_json(Row("f ours mem", "write", reason="it broke"))
    assert (failed["status"], failed["cpu_us"], failed["reason"]) == ("failed", None, "it broke")


@pytest.mark.parametrize(("ours", "word"), [(60.0, "met"), (61.0, "MISSED")])
def test_table_says_whether_the_bar_is_met(ours: float, word: str) -> None:
    text = table(list(rows(samples(bare=[50.0], ours=[ours], theirs=[90.0])).values()))
    assert f"0.25 {word}".split() == next(x for x in text.splitlines() if "ours" in x).split()[8:10]


def test_table_tells_why_a_row_failed() -> None:
    assert "FAILED f ours mem: no such module" in table([Row("f ours mem", "write", reason="no such module")])


SUMMARY = """Running 1s test @ http://127.0.0.1:1/write
  1 threads and 32 connections
  10123 requests in 1.00s, 1.39MB read
Requests/sec:  10101.50
Transfer/sec:      1.39MB
"""


def test_wrk_summary_is_read_with_its_errors() -> None:
    calm = parse(SUMMARY)
    assert (calm.requests, calm.rps, calm.refused, calm.socket_errors) == (10123, 10101.5, 0, 0)
    trouble = "  Socket errors: connect 1, read 2, write 0, timeout 4\n  Non-2xx or 3xx responses: 17\nRequests/sec:"
    bad = parse(SUMMARY.replace("Requests/sec:", trouble))
    assert (bad.refused, bad.socket_errors) == (17, 7)


def test_what_is_no_summary_is_refused() -> None:
    with pytest.raises(LoadFailed, match="not a summary"):
        parse("unable to connect to 127.0.0.1:1 Connection refused")


def test_script_names_every_session_once() -> None:
    text = script("/read", ["session=a", "session=b"])
    assert text.count("[==[session=a]==]") == text.count("[==[session=b]==]") == 1
    assert '"/read"' in text


def test_process_ticks_survive_a_command_with_spaces_and_parentheses() -> None:
    line = "42 (a) b (c) S 7 1 1 0 -1 4194560 100 0 0 0 11 22 33 44 20 0 1 0 5 6 7"
    assert parse_stat(line) == (7, 33 + 44)


def test_cpu_of_a_process_tree_counts_children_that_run_and_those_that_ended() -> None:
    spin = "import time\nwhile time.process_time() < 0.2: pass\n"
    tree = f"""
import subprocess, sys
subprocess.run([sys.executable, "-c", {spin!r}])
child = subprocess.Popen([sys.executable, "-c", {spin!r} + "print(1, flush=True)\\ninput()"], stdin=subprocess.PIPE)
input()
child.communicate(b"\\n")
"""
    with subprocess.Popen(
        [sys.executable, "-c", tree], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as root:
        assert root.stdout is not None
        root.stdout.readline()  # the second child has spun, and lives
        assert cpu_seconds(root.pid) >= 0.4
        assert cpu_clock(root.pid) < 0.2
        root.communicate(b"\n")
    assert cpu_clock(root.pid) == 0.0


def test_lost_writes_and_reads_that_move_a_counter_fail_the_row() -> None:
    server = next(c for c in CONTESTANTS if c.keeps == "server")
    client = next(c for c in CONTESTANTS if c.keeps == "client")
    assert verdict(server, "write", moved=95, requests=100) == 0.95
    assert verdict(server, "write", moved=132, requests=100) == 1.0
    assert verdict(client, "write", moved=0, requests=100) is None
    assert verdict(server, "read", moved=0, requests=100) is None
    with pytest.raises(Wrong, match="only 64 of 100"):
        verdict(server, "write", moved=64, requests=100)
    with pytest.raises(Wrong, match="without a write"):
        verdict(server, "read", moved=1, requests=100)


def test_names_are_unique_and_every_row_has_its_baseline_and_reference() -> None:
    assert len({c.peer for c in CONTESTANTS}) == len(CONTESTANTS)
    for contestant in CONTESTANTS:
        baseline = baseline_of(contestant, CONTESTANTS)
        assert baseline is not None
        assert baseline.server == contestant.server
        if contestant.framework == "starlette":
            assert references_of(contestant, CONTESTANTS)


def test_every_bar_is_of_a_comparison_that_is_made() -> None:
    made = {(c.peer, r.peer) for c in CONTESTANTS for r in references_of(c, CONTESTANTS)}
    assert {(peer, reference) for peer, reference, _ in [*BARS, *REQUESTS_A_CORE]} <= made


def test_every_bar_is_in_the_core_group_with_whom_it_is_over() -> None:
    core = {c.peer for c in CORE}
    assert all({peer, reference} <= core for peer, reference, _ in [*BARS, *REQUESTS_A_CORE])


@pytest.mark.parametrize(
    ("kind", "others"),
    [
        ("memory", ["starlette starsessions memory"]),
        ("sqlite", ["starlette starsessions memory"]),
        (
            "redis",
            ["starlette starsessions redis", "litestar builtin redis", "express express-session redis"],
        ),
        ("postgres", ["starlette starsessions redis", "express express-session postgres"]),
        ("mongo", ["starlette starsessions redis", "express express-session mongo"]),
        ("sqlalchemy", ["express express-session postgres"]),
        ("cookie", ["starlette cookie"]),
    ],
)
def test_ours_is_compared_on_the_same_kind_of_store(kind: str, others: list[str]) -> None:
    (ours,) = (c for c in CONTESTANTS if c.peer == f"starlette coatcheck {kind}")
    assert [c.peer for c in references_of(ours, CONTESTANTS)] == others


def test_selection_brings_references_along_and_everybodys_baseline() -> None:
    names = [c.peer for c in select("coatcheck*sqlite")]
    assert names == ["starlette bare", "starlette starsessions memory", "starlette coatcheck sqlite"]
    assert "express bare" in [c.peer for c in select("coatcheck*redis")]
    assert select("nobody") == []


def test_results_are_in_the_contestants_order_writes_first() -> None:
    chosen = select("coatcheck*memory")
    outcome = Outcome(
        failures=[Failure(c.peer, w, "no") for w in ("read", "write") for c in reversed(chosen)]
    )
    assert [(row.peer, row.workload) for row in results(outcome, chosen)] == [
        (c.peer, w) for w in ("write", "read") for c in chosen
    ]
