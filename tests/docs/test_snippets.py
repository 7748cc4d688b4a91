"""Every example of the README and the docs that says it runs, runs: the words cannot drift away from the code.

In Markdown, an HTML comment right before a fenced python block asks for it:

    <!-- run -->            run this block in a fresh module
    <!-- run: continued --> run it in the module of the block before, which must be in the same file

or, where the block speaks of something that its reader has already,

    <!-- run
    app = FastAPI()
    -->

and an HTML comment right after a block that runs holds what readers need not see, but must be true:

    <!-- check
    assert client.get("/").json() == {"visits": 1}
    -->

A block with neither is prose, and `PROSE` says why. Line numbers in a traceback are those of the page.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
SECRET = "snippets-only-Zt3xk0VbX1qv8m2LwP5rYd7NfQ9sHc4G"

BLOCK = re.compile(
    r"^<!-- run(?P<continued>: continued)?(?: -->|\n(?P<given>.*?)^-->)\n+"
    r"```python\n(?P<code>.*?)^```\n"
    r"(?:\n*<!-- check\n(?P<check>.*?)^-->)?",
    re.MULTILINE | re.DOTALL,
)
MARKS = re.compile(r"^ *<!-- *(?:run|check)\b", re.MULTILINE)
SHOWN = re.compile(r"^ *```python\n(?P<code>.*?)^ *```$", re.MULTILINE | re.DOTALL)

PROSE = {
    "class Store(Protocol):": "signatures, without a body",
    "RedisStore(client)": "clients of four databases: tests/stores/ has them all",
    "PostgresStore(asyncpg_pool)": "likewise",
    'COATCHECK = {"STORE": ..., "IDENTITY"': "two files in one block: tests/web/djangos/ has them",
    "session = SessionStore()  # from coatcheck.django.engine": "a browser of Selenium's: likewise",
    'clock = "SELECT DATEDIFF_BIG(MICROSECOND': "a database that we do not test on, as the page says",
}
"""How a block begins that does not run, and why not."""


@dataclass
class Snippet:
    """One module's worth of blocks: a block that runs, and those that continue it."""

    page: Path
    line: int
    parts: list[tuple[int, str]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The place in the docs, as pytest shows it."""
        return f"{self.page.relative_to(ROOT) if ROOT in self.page.parents else self.page}:{self.line}"

    def run(self) -> None:
        """Execute the parts in one module, as if they were a file of their own."""
        module = ModuleType("snippet")
        module.__file__ = str(self.page)
        sys.modules["snippet"] = module  # frameworks look up annotations and root paths by module name
        try:
            for line, code in self.parts:
                exec(compile("\n" * (line - 1) + code, self.page, "exec"), module.__dict__)
        finally:
            del sys.modules["snippet"]


def snippets(page: Path, text: str) -> list[Snippet]:
    """The blocks of a page that say they run, in order, continued ones joined to their first."""
    found: list[Snippet] = []
    for match in BLOCK.finditer(text):
        if not match["continued"]:
            found.append(Snippet(page, _line(text, match.start("code"))))
        found[-1].parts += _parts(text, match)
    return found


def _parts(text: str, match: re.Match[str]) -> Iterator[tuple[int, str]]:
    if match["given"] is None:
        yield _line(text, match.start("code")), match["code"]
    else:
        between = text.count("\n", match.end("given"), match.start("code"))
        yield _line(text, match.start("given")), match["given"] + "\n" * between + match["code"]
    if match["check"] is not None:
        yield _line(text, match.start("check")), match["check"]


def _line(text: str, offset: int) -> int:
    return text.count("\n", 0, offset) + 1


SNIPPETS = [snippet for page in PAGES for snippet in snippets(page, page.read_text())]


@pytest.mark.parametrize("snippet", SNIPPETS, ids=lambda snippet: snippet.name)
def test_an_example_of_the_docs_runs(
    snippet: Snippet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """In an empty directory, with the settings that the pages speak of in the environment; a Redis is a real one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SESSION_SECRET", SECRET)
    monkeypatch.setenv("FLASK_SECRET_KEY", SECRET)
    monkeypatch.setenv("QUART_SECRET_KEY", SECRET)
    monkeypatch.setenv("FLASK_SESSION_STORE", "sqlite:///sessions.db")
    for setting, server in (("REDIS_URL", "redis_server"), ("DATABASE_URL", "postgres_server")):
        if any(setting in code for _, code in snippet.parts):
            monkeypatch.setenv(setting, request.getfixturevalue(server).url)
    snippet.run()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_mark_belongs_to_a_block(page: Path) -> None:
    """A mistyped mark would quietly turn a tested example into prose."""
    text = page.read_text()
    marks = len(MARKS.findall(text))
    assert marks == sum(len(snippet.parts) for snippet in snippets(page, text))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_nothing_is_shown_that_does_not_run(page: Path) -> None:
    text = page.read_text()
    runs = {match.start("code") for match in BLOCK.finditer(text)}
    shown = {match.start("code"): match["code"] for match in SHOWN.finditer(text)}
    assert [
        code for start, code in shown.items() if start not in runs and not code.startswith((*PROSE,))
    ] == []


def test_the_readme_shows_fastapi_and_flask() -> None:
    """The two examples of the first screen are among those that run, in a dozen lines each."""
    first = {
        word: snippet.parts[0][1]
        for word in ("fastapi", "flask")
        for snippet in snippets(ROOT / "README.md", (ROOT / "README.md").read_text())
        if f"coatcheck.{word}" in snippet.parts[0][1]
    }
    assert set(first) == {"fastapi", "flask"}
    assert {word: len(code.split("\n")) - 1 <= 12 for word, code in first.items()} == {
        "fastapi": True,
        "flask": True,
    }


def test_a_failing_check_fails() -> None:
    """The machinery itself: continued blocks share a module, and a false check is an error with the page's line."""
    page = (
        "# Page\n\n<!-- run -->\n```python\nx = 1\n```\n\n"
        "<!-- run: continued -->\n```python\nx += 1\n```\n<!-- check\nassert x == 3\n-->\n"
    )
    (snippet,) = snippets(Path("page.md"), page)
    assert [line for line, _ in snippet.parts] == [5, 10, 13]
    with pytest.raises(AssertionError) as failure:
        snippet.run()
    assert failure.traceback[-1].lineno == 13 - 1


def test_what_a_block_is_given_is_there_and_moves_no_line() -> None:
    page = "# Page\n\n<!-- run\nx = 1\n-->\n```python\nassert x == 2\n```\n"
    (snippet,) = snippets(Path("page.md"), page)
    with pytest.raises(AssertionError) as failure:
        snippet.run()
    assert failure.traceback[-1].lineno == 7 - 1
