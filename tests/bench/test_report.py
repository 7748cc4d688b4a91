"""The bench's arithmetic: differences and ratios inside a round, medians over rounds, failures without figures."""

import pytest

from bench.contestants import CONTESTANTS, baseline_of, reference_of, select
from bench.load import LoadFailed, parse, script
from bench.report import Failure, Figure, Row, Sample, as_json, differences, figure, ratios, summarise, table
from bench.server import parse_stat
from bench.visitors import Wrong, verdict

BASELINES = {"f bare": "f bare", "f ours mem": "f bare", "f theirs mem": "f bare"}
REFERENCES = {"f ours mem": "f theirs mem", "f theirs mem": "f theirs mem"}
BARS = {("f ours mem", "write"): 0.25}


def samples(**cpu_by_peer: list[float]) -> list[Sample]:
    """One write sample a round; ``ours=[...]`` becomes the peer ``f ours mem``."""
    names = {"bare": "f bare", "ours": "f ours mem", "theirs": "f theirs mem"}
    return [
        Sample(names[peer], "write", turn, cpu, rps=1e6 / cpu, kept=None if peer == "bare" else 1.0)
        for peer, values in cpu_by_peer.items()
        for turn, cpu in enumerate(values)
    ]


def rows(measured: list[Sample], failures: list[Failure] | None = None) -> dict[str, Row]:
    found = summarise(measured, failures or [], baselines=BASELINES, references=REFERENCES, bars=BARS)
    return {row.peer: row for row in found}


def test_figure_is_median_and_extremes_and_nothing_of_nothing() -> None:
    assert figure([9.0, 1.0, 2.0]) == Figure(2.0, 1.0, 9.0)
    assert figure([]) is None


def test_differences_and_ratios_use_only_rounds_that_both_have() -> None:
    assert differences({0: 5.0, 1: 9.0}, {1: 4.0, 2: 1.0}) == {1: 5.0}
    assert ratios({0: 5.0, 1: 9.0}, {1: 3.0, 2: 1.0}) == {1: 3.0}


def test_ratio_skips_a_round_whose_reference_added_nothing() -> None:
    assert ratios({0: 5.0, 1: 6.0, 2: 8.0}, {0: 0.0, 1: -3.0, 2: 2.0}) == {2: 4.0}


def test_added_cost_is_the_median_of_the_rounds_differences_not_the_difference_of_medians() -> None:
    found = rows(samples(bare=[50.0, 100.0, 60.0], ours=[60.0, 115.0, 110.0]))
    # Per round 10, 15, 50; of medians it would be 110 - 60 = 50.
    assert found["f ours mem"].added_cpu_us == Figure(15.0, 10.0, 50.0)
    assert found["f bare"].added_cpu_us == Figure(0.0, 0.0, 0.0)


def test_ratio_is_taken_in_the_round_so_that_a_slow_round_cancels_out() -> None:
    # The second round ran on a machine half as fast.
    found = rows(samples(bare=[50.0, 100.0], ours=[60.0, 120.0], theirs=[90.0, 180.0]))
    assert found["f ours mem"].ratio == Figure(0.25, 0.25, 0.25)
    assert found["f ours mem"].ratio_to == "f theirs mem"
    assert found["f theirs mem"].ratio == Figure(1.0, 1.0, 1.0)
    assert found["f bare"].ratio is None


def test_who_failed_once_has_no_figures_and_the_others_keep_theirs() -> None:
    measured = samples(bare=[50.0, 50.0], ours=[60.0], theirs=[90.0, 90.0])
    found = rows(
        measured, [Failure("f ours mem", "write", "first"), Failure("f ours mem", "write", "second")]
    )
    assert found["f ours mem"] == Row("f ours mem", "write", reason="first", bar=0.25)
    assert found["f theirs mem"].added_cpu_us == Figure(40.0, 40.0, 40.0)


def test_without_a_baseline_nothing_is_called_added() -> None:
    measured = samples(bare=[50.0], ours=[60.0])
    found = rows(measured, [Failure("f bare", "write", "no server")])
    assert found["f ours mem"].cpu_us == Figure(60.0, 60.0, 60.0)
    assert found["f ours mem"].added_cpu_us is None


def test_json_row_carries_the_names_the_results_promise() -> None:
    found = as_json(rows(samples(bare=[50.0], ours=[60.0], theirs=[90.0]))["f ours mem"])
    assert found["peer"] == "f ours mem"
    assert found["workload"] == "write"
    assert found["status"] == "ok"
    assert (found["cpu_us"], found["added_cpu_us"], found["ratio"]) == (60.0, 10.0, 0.25)
    assert found["rps"] == pytest.approx(16666.667)
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
    assert parse_stat(line) == (7, 11 + 22 + 33 + 44)


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
        assert reference_of(contestant, CONTESTANTS) is not None


def test_selection_brings_baseline_and_reference_along() -> None:
    names = [c.peer for c in select("coatcheck*sqlite")]
    assert names == ["starlette bare", "starlette starsessions memory", "starlette coatcheck sqlite"]
    assert select("nobody") == []
