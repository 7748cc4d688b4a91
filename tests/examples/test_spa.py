"""The cross-origin example in a real Chromium, with each transport: log in, call, refresh in two tabs, log out, watch it die."""

import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from servers.running import Server as Process
from servers.running import free_port, listens
from tests.demo.chromium import need_chromium
from tests.web.servers import ROOT, uvicorn

HERE = Path(__file__).parent


@pytest.fixture(scope="module", autouse=True)
def tools() -> None:
    need_chromium()


def static(stack: ExitStack, folder: Path) -> str:
    """Serve a folder; the address, by the name that the cookies go by."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "http.server",
        str(port),
        "--bind",
        "127.0.0.1",
        "--directory",
        str(folder),
    ]
    process = Process(f"http://127.0.0.1:{port}", port, folder, command, lambda server: listens(server.port))
    process.start()
    stack.callback(process.stop)
    return f"http://localhost:{port}"


@pytest.mark.parametrize("transport", ["memory", "cookie"])
def test_a_page_of_another_origin(transport: str, tmp_path: Path) -> None:
    pages, evil = tmp_path / "pages", tmp_path / "evil"
    shutil.copytree(ROOT / "examples" / "spa", pages)
    evil.mkdir()
    (evil / "index.html").write_text("<!doctype html><title>Evil</title>")
    with ExitStack() as stack:
        page = static(stack, pages)
        env = {**os.environ, "PAGE": page, "TRANSPORT": transport}
        server = stack.enter_context(uvicorn("examples.spa.api:app", folder=tmp_path, env=env))
        api = f"http://localhost:{server.port}"
        script = (pages / "app.js").read_text()
        (pages / "app.js").write_text(script.replace("http://localhost:8001", api))
        command = ["node", "spa.mjs", page, api, transport, static(stack, evil)]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stdout + done.stderr + server.log.read_text()
        assert "Traceback" not in server.log.read_text()
