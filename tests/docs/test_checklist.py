"""docs/checklist.md lists every line of the security checklist: what it is about, and the tests that show it, by their names.

The page's tables are made from the names, axes.py and advisories.py. After a change: `python -m tests.docs.test_checklist`.
"""

import ast
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.docs.advisories import ADVISORIES, ASVS
from tests.docs.axes import AXES, EVERYWHERE, REASONS

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "checklist.md"
LINES = range(1, 213)
MARKS = {
    name: (f"<!-- {name}: made from the names of the tests -->", f"<!-- {name}: end -->")
    for name in ("checklist", "asvs", "advisories")
}
NAME = re.compile(r"test_(?:line_)?0*(\d{1,3})_(?:0*(\d{1,3})_)?([a-z].+)")
SENTENCES = ROOT / "src" / "coatcheck" / "testing" / "sentences"
WORDS = {
    "core": "a rule of the core",
    "store": "every store",
    "adapter": "every framework",
    "page": "pages and examples",
    "duty": "the application's duty",
    "none": "not offered",
}


def axes() -> dict[int, str]:
    """Line -> what it is about."""
    return {line: axis for axis, text in AXES.items() for line in _numbers(text)}


def _numbers(text: str) -> Iterator[int]:
    for piece in text.split():
        first, _, last = piece.partition("-")
        yield from range(int(first), int(last or first) + 1)


@cache
def functions(file: Path) -> frozenset[str]:
    """The names of the functions of a file."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds))


def shown() -> dict[int, list[str]]:
    """Line -> what its tests show, as sentences, in the order of the files."""
    found: dict[int, list[str]] = defaultdict(list)
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(file.read_text()).body:
            named = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and NAME.fullmatch(node.name)
            if named:
                for line in filter(None, named.groups()[:2]):
                    found[int(line)].append(named[3].replace("_", " "))
    return dict(sorted(found.items()))


def everywhere(line: int) -> list[tuple[str, str]]:
    """(file, function) of the tests of every store or framework that show this line."""
    return [
        (file, name) for file, _, name in (ref.partition(":") for ref in EVERYWHERE.get(line, "").split())
    ]


def checklist() -> list[str]:
    """The lines of the tables of lines."""
    axis, sentences = axes(), shown()
    counts = Counter(axis.values())
    summary = [f"| {WORDS[name]} | {counts[name]} |" for name in AXES]
    rows = [
        f"| {line} | {WORDS[axis[line]]} | {_evidence(line, sentences.get(line, []))} |" for line in LINES
    ]
    head = ["| it is about | lines |", "|---|---|", *summary, f"| in all | {sum(counts.values())} |"]
    return [*head, "", "| line | about | what shows it |", "|---|---|---|", *rows]


def asvs() -> list[str]:
    """The lines of the table of ASVS 5.0 chapter 7."""
    rows = [f"| {item} | {what} | {_standing(lines)} |" for item, (what, lines) in ASVS.items()]
    return ["| ASVS | asks for | lines |", "|---|---|---|", *rows]


def advisories() -> list[str]:
    """The lines of the table of advisories."""
    rows = [
        f"| {name} | {what.replace('|', chr(92) + '|')} | {_standing(lines)} |"
        for name, what, lines in ADVISORIES
    ]
    return ["| advisory | what went wrong there | lines here |", "|---|---|---|", *rows]


def _standing(lines: str) -> str:
    axis = axes()
    notes = {"duty": " (your duty)", "none": " (not offered)"}
    return ", ".join(f"{line}{notes.get(axis[line], '')}" for line in _numbers(lines))


def tables(page: str) -> str:
    """The page with its tables as they must be."""
    for name, made in {"checklist": checklist, "asvs": asvs, "advisories": advisories}.items():
        begin, end = MARKS[name]
        page = page[: page.index(begin)] + "\n".join([begin, "", *made(), "", ""]) + page[page.index(end) :]
    return page


def _evidence(line: int, sentences: list[str]) -> str:
    said = list(dict.fromkeys(sentences))
    beyond = list(dict.fromkeys(name.replace("_", " ") for _, name in everywhere(line)))
    if beyond:
        said.append(f"*{WORDS[axes()[line]]}:* " + "; ".join(beyond))
    return "; ".join([REASONS[line], *said] if line in REASONS else said)


def test_every_line_is_about_one_thing() -> None:
    assert sorted(line for text in AXES.values() for line in _numbers(text)) == list(LINES)


def test_the_page_lists_what_the_tests_show() -> None:
    assert PAGE.read_text() == tables(PAGE.read_text()), "python -m tests.docs.test_checklist"


def test_every_item_and_advisory_stands_on_lines_that_exist() -> None:
    assert len(ASVS) == 19
    named = [lines for *_, lines in [*ADVISORIES, *ASVS.values()]]
    assert all({*_numbers(lines)} <= {*LINES} and lines for lines in named)


def test_every_line_is_shown_or_has_its_reason() -> None:
    """What is not ours to do, or not done, says why; everything else is shown by a test."""
    axis, sentences = axes(), shown()
    assert {line for line, name in axis.items() if name in ("duty", "none")} == REASONS.keys()
    assert [
        line for line in LINES if line not in REASONS and line not in sentences and line not in EVERYWHERE
    ] == []


def test_what_every_store_and_framework_must_do_is_shown_there() -> None:
    assert [
        line for line, name in axes().items() if name in ("store", "adapter") and not everywhere(line)
    ] == []


@pytest.mark.parametrize("line", EVERYWHERE)
def test_every_test_that_is_named_exists(line: int) -> None:
    sentences = frozenset().union(*map(functions, SENTENCES.glob("*.py")))
    for file, name in everywhere(line):
        there = sentences if file == "contract" else functions(ROOT / "tests" / file)
        assert (name if file == "contract" else f"test_{name}") in there, f"{file}:{name}"


if __name__ == "__main__":
    PAGE.write_text(tables(PAGE.read_text()))
