"""All that the documentation shows, one after the other, unattended: ``python -m bench.everything``, an hour and a half.

One that fails or misses a bar keeps none of the others from running; the exit code is the worst of all. At the end
``docs/performance.md`` is written from what was found.
"""

import sys
from collections.abc import Callable

from bench import __main__ as requests
from bench import command, concurrency, docs, latency, memory, payload, startup, sweep

COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "requests": lambda options: requests.main(["--all", *options]),
    "latency": latency.main,
    "payload": lambda options: sweep.main(payload.SWEEP, payload.__doc__, options),
    "concurrency": lambda options: sweep.main(concurrency.SWEEP, concurrency.__doc__, options),
    "memory": lambda options: memory.main(["--all", *options]),
    "startup": lambda options: startup.main(["--all", *options]),
}


def main(arguments: list[str] | None = None) -> int:
    """Run all, and write the page unless it was a quick run; return the worst exit code."""
    options = command.reader("bench.everything", __doc__).parse_args(arguments)
    codes = []
    for number, (name, run) in enumerate(COMMANDS.items()):
        print(f"\n[{number + 1}/{len(COMMANDS)}] {name}", flush=True)
        codes.append(run(["--quick"] if options.quick else []))
    if not options.quick:
        docs.main()
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
