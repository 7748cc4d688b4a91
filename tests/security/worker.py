"""A worker process of its own, over the same file: `python -m tests.security.worker FILE TARGET COOKIE`.

It loads the session, says so, waits for a line, lets the handler write, and prints what the browser would get.
"""

import sys
from pathlib import Path

from tests.security.rig import Site


def main() -> None:
    file, target, cookie = sys.argv[1:]
    site = Site("wsgi", "sqlite", Path(file))
    pending, gate = site.held("GET", target, cookie.encode())
    print("loaded", flush=True)
    sys.stdin.readline()
    gate.open()
    response = pending.result()
    print(response.status, len(response.cookies), flush=True)
    site.close()


if __name__ == "__main__":
    main()
