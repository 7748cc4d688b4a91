"""Chromium among the sites of `places.py`, over HTTPS: what came of each scenario of `csrf.mjs`."""

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.browser.tls import certificate
from tests.demo.chromium import need_chromium
from tests.web.servers import uvicorn

HERE = Path(__file__).parent
PATIENCE = 300


def driven(folder: Path, scenarios: Sequence[str]) -> dict[str, Any]:
    """Run these scenarios, one after the other, in one browser."""
    need_chromium()
    key, made = certificate(folder)
    tls = ["--ssl-keyfile", str(key), "--ssl-certfile", str(made)]
    with uvicorn("tests.browser.places:app", folder=folder, options=tls) as server:
        done = subprocess.run(
            ["node", "csrf.mjs", str(server.port), *scenarios],
            cwd=HERE,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr + server.log.read_text()
    results: dict[str, Any] = json.loads(done.stdout)
    return results
