"""The demo in a real Chromium: what a newcomer clicks, and axe's verdict on every page."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.chromium import need_chromium
from tests.demo.running import Demo

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def tools() -> None:
    need_chromium()


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with Demo(tmp_path_factory.mktemp("demo") / "state") as running:
        yield running
    assert "Traceback" not in running.output
    assert "Warning" not in running.output


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize(
    "scenario", ["accessibility", "keyboard", "visits", "account", "cart", "devices", "inspector", "tokens"]
)
def test_in_the_browser(demo: Demo, scenario: str) -> None:
    done = subprocess.run(
        ["node", "browser.mjs", demo.url, scenario], cwd=HERE, capture_output=True, text=True, timeout=180
    )
    assert done.returncode == 0, done.stdout + done.stderr
