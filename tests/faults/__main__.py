"""`python -m tests.faults [pytest's arguments]`: run the fault tests and print the table of docs/faults.md.

`python -m tests.faults -k redis` runs some of them; FAULTS_FIGURES names a file to keep the figures in, which is only added to.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.faults.figures import FILE, table


def main() -> int:
    """Returns what pytest returned."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(os.environ.get(FILE) or Path(folder) / "figures")
        command = [sys.executable, "-m", "pytest", "tests/faults", "-s", *sys.argv[1:]]
        code = subprocess.run(command, env={**os.environ, FILE: str(file)}, check=False).returncode
        rows = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []
    print(table(rows))
    return code


if __name__ == "__main__":
    sys.exit(main())
