"""Sessions in the cookie itself, in a real Chromium: several cookies, fewer, none."""

import subprocess
from pathlib import Path

from tests.demo.chromium import need_chromium
from tests.web.servers import uvicorn

HERE = Path(__file__).parent


def test_a_browser_keeps_shrinks_and_forgets_a_session_of_several_cookies(tmp_path: Path) -> None:
    need_chromium()
    with uvicorn("tests.web.cookie_app:app", folder=tmp_path) as server:
        url = f"http://localhost:{server.port}"
        done = subprocess.run(
            ["node", "cookie_browser.mjs", url], cwd=HERE, capture_output=True, text=True, timeout=180
        )
        assert done.returncode == 0, done.stdout + done.stderr
