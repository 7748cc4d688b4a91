"""Octets that lead further into the code: atheris (libFuzzer) in a process of its own, one target at a time.

    python -m fuzz.guided cookie-reader REPORT [options and folders of libFuzzer]

is that process; `run` starts it and reads what came of it. The seeds in tests/data/fuzz are never written to.
"""

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["SEEDS", "Guided", "available", "run"]

SEEDS = Path(__file__).resolve().parents[1] / "tests" / "data" / "fuzz"
PATIENCE = 300.0
"""Seconds beside its time: a busy machine takes long to start it. An input that hangs is told by libFuzzer, after 20."""


@dataclass(frozen=True)
class Guided:
    """What came of a run."""

    executions: int
    edges: int
    """Branches of coatcheck's that were taken."""
    features: int
    """Branches, and how often each: what libFuzzer steers by."""
    slowest: float
    """Seconds of CPU that the slowest input took, under instrumentation."""
    slowest_input: str
    finding: str = ""
    """What was raised, and the input that raises it; "" if every promise held."""


def available() -> bool:
    """Whether atheris is there: it has no build for every system."""
    return find_spec("atheris") is not None


def run(name: str, seconds: float, folder: Path, *, seed: int) -> Guided:
    """Fuzz one target. `folder` keeps the inputs that led further, and those that broke a promise."""
    corpus = folder / name
    corpus.mkdir(parents=True, exist_ok=True)
    report = folder / f"{name}.json"
    report.unlink(missing_ok=True)
    options = [
        f"-max_total_time={max(1, round(seconds))}",
        f"-seed={seed or 1}",
        "-timeout=20",
        "-print_final_stats=1",
    ]
    command = [
        sys.executable,
        "-m",
        "fuzz.guided",
        name,
        str(report),
        *options,
        f"-artifact_prefix={folder}/{name}-",
    ]
    done = subprocess.run(
        [*command, str(corpus), str(SEEDS / name)], capture_output=True, text=True, errors="replace", check=False,
        timeout=seconds + PATIENCE,
    )  # fmt: skip
    return _read(done.stdout + done.stderr, done.returncode, report)


def _read(said: str, code: int, report: Path) -> Guided:
    slow: dict[str, Any] = (
        json.loads(report.read_text()) if report.exists() else {"seconds": 0.0, "input": ""}
    )
    covered = re.findall(r"cov: (\d+) ft: (\d+)", said)
    executed = re.search(r"stat::number_of_executed_units: (\d+)", said)
    edges, features = map(int, covered[-1]) if covered else (0, 0)
    count = int(executed[1]) if executed else 0
    return Guided(count, edges, features, slow["seconds"], slow["input"], _finding(said) if code else "")


def _finding(said: str) -> str:
    """What was raised, and the last words. Between them a long input may be spelt out twice."""
    begins = max(said.find("=== Uncaught Python exception"), 0)
    return f"{said[begins : begins + 1500]}\n…\n{said[-1500:]}"


def _main() -> None:
    name, report, *options = sys.argv[1:]
    import atheris

    with atheris.instrument_imports(include=["coatcheck"]):
        from fuzz.octets import OCTETS
    target, slowest = OCTETS[name].check, 0.0

    def one(data: bytes) -> None:
        nonlocal slowest
        began = time.process_time()
        target(data)
        took = time.process_time() - began
        if (
            took > slowest * 1.1
        ):  # libFuzzer ends the process without a word: so it is written down as it comes
            slowest = took
            Path(report).write_text(
                json.dumps({"seconds": took, "input": repr(data[:60]), "length": len(data)})
            )

    atheris.Setup([sys.argv[0], *options], one)
    atheris.Fuzz()


if __name__ == "__main__":
    _main()
