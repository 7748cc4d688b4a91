"""The page of figures: made of results files and of nothing else; what is committed is of the same run."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from bench import docs, docs_parts
from bench.pages import filled, markdown
from bench.plot import Line, Panel, svg
from bench.plot_bars import Bar, Group, bars

HEAD: dict[str, Any] = {
    "machine": {"cpu": "C", "cores": 2, "system": "S", "python": "3.11", "load_average_at_start": 0.1},
    "versions": {"starlette": "1.0"},
}
FIGURES: dict[str, Any] = {
    "status": "ok",
    "cpu_us": 100.0,
    "rps": 900.0,
    "added_cpu_us": 40.0,
    "added_cpu_us_q1": 39.0,
}
FIGURES |= {"added_cpu_us_q3": 41.0}
OURS, THEIRS, BARE = "starlette coatcheck redis", "starlette starsessions redis", "starlette bare"


def compared(**words: Any) -> dict[str, Any]:
    return {"of": "added CPU", "ratio": 0.2, "ratio_to": THEIRS, "bar": 0.22} | words


def requests() -> dict[str, Any]:
    less = compared(of="requests a core", ratio=2.5, bar=3.0)
    return HEAD | {
        "rows": [
            FIGURES | {"peer": BARE, "workload": "write", "comparisons": []},
            FIGURES | {"peer": THEIRS, "workload": "write", "comparisons": [compared(ratio_to=THEIRS)]},
            FIGURES | {"peer": OURS, "workload": "write", "comparisons": [compared(), less]},
            {"peer": "flask coatcheck redis", "workload": "write", "status": "failed", "added_cpu_us": None},
        ]
    }


def sweep() -> dict[str, Any]:
    rows = [
        FIGURES | {"peer": peer, "workload": workload, "at": at, "added_cpu_us": added}
        for peer in (BARE, OURS)
        for workload in ("write", "read")
        for at, added in ((200, 40.0), (1_000, -1.0))
    ]
    return HEAD | {"rows": rows}


def latency() -> dict[str, Any]:
    figures: dict[str, Any] = {
        "p50": 1.0,
        "p99": 2.0,
        "p999": 3.0,
        "max": 4.0,
        "p99_min": 1.5,
        "p99_max": 2.5,
        "capacity": 1000,
    }
    rows = [
        figures | {"field": field, "peer": OURS, "workload": "write", "share": share, "rate": 1_000 * share}
        for field in ("ASGI and Node", "WSGI")
        for share in (0.25, 0.5)
    ]
    return HEAD | {"rows": rows}


def memory() -> dict[str, Any]:
    session = {"kind": "k", "objects": 700.0, "resident": 720.0, "json": 90.0, "bar": 1_000, "met": False}
    return HEAD | {
        "processes": [{"peer": OURS, "start": 30e6, "loaded": [31e6, 31e6], "reason": None}],
        "sessions": [session],
    }


def startup() -> dict[str, Any]:
    row = {
        "name": "coatcheck",
        "ms": 50.0,
        "ms_q1": 49.0,
        "ms_q3": 51.0,
        "cpu_ms": 48.0,
        "bar": 60,
        "met": True,
    }
    servers = [{"peer": OURS, "seconds": [0.5], "median": 0.5}]
    return HEAD | {"imports": [row], "modules": ["coatcheck", "msgspec"], "servers": servers}


RESULTS = {
    "requests": requests(),
    "latency": latency(),
    "payload": sweep(),
    "concurrency": sweep(),
    "memory": memory(),
    "startup": startup(),
}


def test_every_part_has_its_place_on_the_page_and_makes_tables_and_plots_of_results() -> None:
    page = docs.PAGE.read_text()
    assert set(RESULTS) == {part.name for part in docs.PARTS}
    for part in docs.PARTS:
        assert docs.begin(part) in page
        words = docs.words(part, RESULTS[part.name])
        assert (
            "Measured on 2 cores (C), S, Python 3.11, load average 0.1 at the start, Starlette 1.0." in words
        )
        assert "| ---" in words
        for plot in part.plots:
            assert f"![{plot.words}](_static/{docs.file_name(part, plot)})" in words
            assert ElementTree.fromstring(plot.draw(RESULTS[part.name])).tag.endswith("svg")


def test_bars_are_shown_met_and_missed_each_with_its_own_direction() -> None:
    words = docs_parts.requests_tables(RESULTS["requests"])
    assert f"| **{OURS}** | 40 | 39 to 41 | 10,000 | 0.20 | {THEIRS} | at most 0.22: met |" in words
    assert f"| 2.50 | {THEIRS}, requests | at least 3.00: **missed** |" in words
    assert "| **flask coatcheck redis** | failed |" in words
    # Its own reference has nobody to be compared with.
    assert f"| {THEIRS} | 40 | 39 to 41 | 10,000 |  |  |  |" in words


def test_the_page_is_written_from_whole_results_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "performance.md"
    page.write_text(docs.PAGE.read_text())
    monkeypatch.setattr(docs, "PAGE", page)
    monkeypatch.setattr(docs, "PLOTS", tmp_path)
    monkeypatch.setattr(docs, "ROOM", tmp_path)
    (tmp_path / "startup.part.json").write_text("{}")
    assert docs.main() == 0
    assert page.read_text().count("No figures of a whole run yet.") == len(docs.PARTS)
    assert list(tmp_path.glob("*.svg")) == []


@pytest.mark.parametrize("part", docs.PARTS, ids=lambda part: part.name)
def test_page_and_plots_are_of_the_committed_results(part: docs.Part) -> None:
    found = docs.results(part)
    assert docs.begin(part) + docs.words(part, found) in docs.PAGE.read_text()
    if found is not None:
        for plot in part.plots:
            assert (docs.PLOTS / docs.file_name(part, plot)).read_text() == plot.draw(found)


def test_only_what_is_between_the_marks_is_written_anew() -> None:
    page = "a\n<!-- x -->\nold\n<!-- end -->\nb\n"
    assert filled(page, "<!-- x -->\n", "new\n") == "a\n<!-- x -->\nnew\n<!-- end -->\nb\n"
    with pytest.raises(ValueError, match="no <!-- y -->"):
        filled(page, "<!-- y -->\n", "new\n")
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | ---: |\n| 1 | 2 |\n"


def test_bars_tell_ours_apart_by_more_than_colour_and_have_numbers() -> None:
    picture = bars(
        [Group("g & h", [Bar("ours", 10.0, True), Bar("theirs", 20.0), Bar("less", -1.0)])], title="t"
    )
    root = ElementTree.fromstring(picture)
    texts = {
        element.text: element.get("font-weight") for element in root.iter() if element.tag.endswith("text")
    }
    assert texts == {
        "g & h": "bold",
        "ours": "bold",
        "10": "bold",
        "theirs": None,
        "20": None,
        "less": None,
        "-1": None,
    }
    fills = [element.get("fill") for element in root.iter() if element.tag.endswith("rect")]
    assert fills[0] != "url(#others)" == fills[1]
    assert [e.get("width") for e in root.iter() if e.tag.endswith("rect")] == ["210.0", "420.0", "0.0"]


def test_a_legend_takes_the_lines_it_needs() -> None:
    names = ["starlette coatcheck memory", "starlette starsessions memory", "express express-session redis"]
    lines = [Line(name, [(1.0, 2.0), (10.0, 3.0)]) for name in names]
    root = ElementTree.fromstring(svg([Panel("p", lines)], x="x", y="y", note="n", title="t"))
    places = {
        e.text: (float(e.get("x", 0)), float(e.get("y", 0))) for e in root.iter() if e.tag.endswith("text")
    }
    width = float(str(root.get("viewBox")).split()[2])
    assert all(places[name][0] + 6 * len(name) < width for name in names)
    assert len({places[name] for name in names}) == 3
