"""Examples in a real Chromium, one of each kind: what its jar, its cache and its Back button make of our answers."""

import subprocess
from pathlib import Path

import pytest

from tests.demo.chromium import need_chromium
from tests.examples.running import running

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def tools() -> None:
    need_chromium()


@pytest.mark.usefixtures("tools")
@pytest.mark.parametrize("example", ["fastapi_app", "flask_app", "django_app", "aiohttp_app"])
def test_two_devices_in_a_browser(example: str, tmp_path: Path) -> None:
    with running(example, tmp_path) as server:
        url = f"http://localhost:{server.port}"
        done = subprocess.run(
            ["node", "browser.mjs", url, tmp_path], cwd=HERE, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, done.stdout + done.stderr + server.log.read_text()
