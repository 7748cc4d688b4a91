"""A transcript in the docs is what a shell says: each command is run against the application that the page names.

<!-- transcript: examples.tokens_api:app -->
```console
$ curl -s localhost:8000/…
what it prints
```
"""

import re
import subprocess
from pathlib import Path

import pytest

from tests.web.servers import ROOT, uvicorn

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"^<!-- transcript: (?P<app>[\w.:]+) -->\n```console\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL
)
FOUND = [(page, block["app"], block["text"]) for page in PAGES for block in BLOCK.finditer(page.read_text())]
MARK = "--- the next command ---"


def test_both_are_looked_at() -> None:
    assert {page.name for page, _, _ in FOUND} == {"README.md", "tokens.md"}


@pytest.mark.parametrize(("page", "app", "text"), FOUND, ids=[page.name for page, _, _ in FOUND])
def test_a_transcript_is_true(page: Path, app: str, text: str, tmp_path: Path) -> None:
    steps = [step.partition("\n") for step in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]]
    commands, expected = [command for command, _, _ in steps], [said.strip() for _, _, said in steps]
    with uvicorn(app, folder=tmp_path) as server:
        script = f"\necho; echo '{MARK}'\n".join(commands).replace(
            "localhost:8000", f"localhost:{server.port}"
        )
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, timeout=120, check=False
        )
    said = [part.strip().replace("\r", "") for part in done.stdout.split(MARK)]
    assert said == expected, done.stderr
