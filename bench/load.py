"""The load: wrk on its own core, sending the sessions' cookies in turn."""

import re
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path

CONNECTIONS = 32
LONGEST = 3600


class LoadFailed(Exception):
    """wrk could not run, or the server answered something other than success."""


@dataclass(frozen=True)
class Load:
    """What wrk counted: completed requests, requests per second, answers of 400 and above, socket errors."""

    requests: int
    rps: float
    refused: int
    socket_errors: int


def script(path: str, cookies: list[str]) -> str:
    """Return the Lua script that sends GET ``path`` with each cookie in turn.

    The requests are built once, so that wrk stays faster than any server here. More sessions than connections
    means that two requests of one session hardly ever meet: conflicts are not what is measured.
    """
    quoted = ",\n".join(f"  [==[{cookie}]==]" for cookie in cookies)
    return f"""local cookies = {{
{quoted}
}}
local requests, turn = {{}}, 0
function init(args)
  for i, cookie in ipairs(cookies) do
    requests[i] = wrk.format("GET", "{path}", {{["Cookie"] = cookie}})
  end
end
function request()
  turn = turn % #requests + 1
  return requests[turn]
end
"""


def run(url: str, lua: Path, *, seconds: float, core: int, connections: int = CONNECTIONS) -> Load:
    """Load ``url`` for ``seconds`` from ``core``, over so many connections.

    Raises:
        LoadFailed: wrk ended with an error, answers were not 2xx or 3xx, or sockets failed.
    """
    options = f"--threads 1 --connections {connections} --duration {LONGEST}s --timeout 10s --script".split()
    command = ["taskset", "-c", str(core), "wrk", *options, str(lua), url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)  # it counts whole seconds; at Ctrl-C it stops and sums up
            out, err = process.communicate(timeout=30)
    if process.returncode != 0:
        raise LoadFailed(f"wrk: {err.strip() or out.strip()}")
    load = parse(out)
    if load.refused:
        raise LoadFailed(f"{load.refused} of {load.requests} answers were not 2xx or 3xx")
    if not load.requests:
        raise LoadFailed(f"no request was answered within {seconds:g} s")
    if load.socket_errors:
        raise LoadFailed(f"{load.socket_errors} socket errors in {load.requests} requests")
    return load


def parse(output: str) -> Load:
    """Read wrk's summary.

    Raises:
        LoadFailed: it is not one.
    """
    requests = re.search(r"^\s*(\d+) requests in ", output, re.MULTILINE)
    rps = re.search(r"^Requests/sec:\s*([\d.]+)", output, re.MULTILINE)
    if requests is None or rps is None:
        raise LoadFailed(f"not a summary of wrk: {output[:200]!r}")
    refused = re.search(r"Non-2xx or 3xx responses:\s*(\d+)", output)
    errors = re.search(r"Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)", output)
    return Load(
        requests=int(requests[1]),
        rps=float(rps[1]),
        refused=int(refused[1]) if refused else 0,
        socket_errors=sum(int(count) for count in errors.groups()) if errors else 0,
    )
