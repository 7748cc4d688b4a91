"""A Redis that answers, and refuses: no memory left, a replica now, a password it did not have, a script that does not end."""

import asyncio
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from servers import Server, redis
from servers.redis import cli
from servers.running import binary
from tests.faults import figures
from tests.faults.checker import Report
from tests.faults.redis_stories import redis_at_work
from tests.faults.transports import TRANSPORTS

pytestmark = [pytest.mark.slow, pytest.mark.parametrize("transport", TRANSPORTS)]


def set_to(name: str, bad: str, good: str) -> tuple[Callable[[Server], None], Callable[[Server], None]]:
    """A setting of the running server."""
    return lambda server: _say(server, "CONFIG", "SET", name, bad), lambda server: _say(
        server, "CONFIG", "SET", name, good
    )


def _say(server: Server, *words: str) -> None:
    cli(server, *words)


def ask_for_a_password(server: Server) -> None:
    cli(server, "CONFIG", "SET", "requirepass", "sesame")  # this connection of the client's is in already
    cli(server, "--no-auth-warning", "-a", "sesame", "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def ask_for_none(server: Server) -> None:
    cli(server, "--no-auth-warning", "-a", "sesame", "CONFIG", "SET", "requirepass", "")


class Endless:
    """A script that does not end."""

    process: "subprocess.Popen[bytes]"

    def run(self, server: Server) -> None:
        cli(server, "CONFIG", "SET", "busy-reply-threshold", "100")
        command = [binary("redis-cli"), "-p", str(server.port), "EVAL", "while true do end", "0"]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def kill(self, server: Server) -> None:
        cli(server, "SCRIPT", "KILL")
        self.process.wait(30)


ENDLESS = Endless()
FAULTS: dict[str, tuple[Callable[[Server], None], Callable[[Server], None]]] = {
    "no memory left (OOM)": set_to("maxmemory", "1", "0"),
    "a replica now (READONLY)": (
        lambda server: _say(server, "REPLICAOF", "127.0.0.1", "1"),
        lambda server: _say(server, "REPLICAOF", "NO", "ONE"),
    ),
    "a password (NOAUTH)": (ask_for_a_password, ask_for_none),
    "a script that does not end (BUSY)": (ENDLESS.run, ENDLESS.kill),
}


async def story(server: Server, transport: dict[str, Any], fault: str) -> tuple[Report, float]:
    hurt, heal = FAULTS[fault]
    async with redis_at_work(server.url, transport) as work:
        await work.more(300)
        well = 0.0
        for _ in range(2):
            await asyncio.to_thread(hurt, server)
            await work.hurt(100)
            await asyncio.to_thread(heal, server)
            well = time.monotonic()
            await work.more(200)
        recovered = await work.recovered(well)
        return await work.finish(), recovered


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_server_refuses_is_an_error_in_time(
    tmp_path: Path, transport: dict[str, Any], fault: str
) -> None:
    with redis(tmp_path) as server:
        report, recovered = asyncio.run(story(server, transport, fault))
    figures.keep(fault, "Redis", "one server", report, recovered=recovered)
    figures.sound(
        report, errors=(500,) if "NOAUTH" in fault else ()
    )  # a wrong password is no outage, but a mistake
    assert recovered < 5
