"""docs/security.md lists every line of the security checklist: the tests that show it, by their names, or what is still open.

The table of what is shown is made from the names. After a change: `python -m tests.docs.test_checklist` writes it anew.
"""

import ast
import re
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "security.md"
LINES = range(1, 213)
BEGIN, END = "<!-- checklist: made from the names of the tests -->", "<!-- checklist: end -->"
NAME = re.compile(r"test_(?:line_)?0*(\d+)_(.+)")


def shown() -> dict[int, list[str]]:
    """Line -> what its tests show, as sentences, in the order of the files."""
    found: dict[int, list[str]] = defaultdict(list)
    for file in [
        *sorted((ROOT / "tests" / "security").glob("test_*.py")),
        *sorted((ROOT / "tests" / "docs").glob("test_*.py")),
    ]:
        for node in ast.parse(file.read_text()).body:
            name = NAME.fullmatch(node.name) if isinstance(node, ast.FunctionDef) else None
            if name is not None:
                found[int(name[1])].append(name[2].replace("_", " "))
    return dict(sorted(found.items()))


def table() -> str:
    """The table as the page must have it."""
    rows = [f"| {line} | {'; '.join(sentences)} |" for line, sentences in shown().items()]
    return "\n".join([BEGIN, "", "| line | what the tests show |", "|---|---|", *rows, "", END])


def still_open() -> dict[int, str]:
    """Line -> what the page says is missing; `91-104` is fourteen lines."""
    section = PAGE.read_text().partition("\n## Still open\n")[2].partition("\n## ")[0]
    found: dict[int, str] = {}
    for first, last, phrase in re.findall(r"^\| (\d+)(?:-(\d+))? \| (.+?) \|$", section, re.MULTILINE):
        for line in range(int(first), int(last or first) + 1):
            assert line not in found, f"line {line} is listed twice"
            found[line] = phrase
    return found


def test_the_page_lists_what_the_tests_show() -> None:
    page = PAGE.read_text()
    assert page[page.index(BEGIN) : page.index(END) + len(END)] == table(), (
        "python -m tests.docs.test_checklist"
    )


def test_no_line_is_forgotten() -> None:
    assert sorted({*shown(), *still_open()}) == list(LINES)


def test_a_line_that_is_shown_in_part_says_so() -> None:
    """What is listed in both places begins with "the rest:", and nothing else does."""
    both = shown().keys() & still_open().keys()
    assert {line for line, phrase in still_open().items() if phrase.startswith("the rest:")} == both


if __name__ == "__main__":
    text = PAGE.read_text()
    PAGE.write_text(text[: text.index(BEGIN)] + table() + text[text.index(END) + len(END) :])
