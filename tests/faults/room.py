"""A disk that can be full: a small file system of its own for one server process, which goes with it.

    python -m tests.faults.room FOLDER 2m uvicorn ...

The process sees FOLDER as an empty tmpfs of this size, in a mount namespace that nobody else is in, so nothing is left behind.
For root that is a matter of course; anybody else needs a kernel that lets users make namespaces. From outside the files are
seen through /proc: see `Room`.
"""

import errno
import os
import shutil
import sys
from pathlib import Path

__all__ = ["Room"]

_MOUNTED = 'mount -t tmpfs -o size="$1",mode=0700 none "$0" && shift && exec "$@"'


class Room:
    """The folder of such a process, as its neighbours reach it."""

    def __init__(self, pid: int, folder: Path) -> None:
        self._inside = Path(f"/proc/{pid}/root") / folder.relative_to("/")
        self._ballast = self._inside / "ballast"

    def fill(self) -> None:
        """Take up all the room there is, to the last octet."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for piece in (65_536, 4096, 1):
                try:
                    while ballast.write(bytes(piece)) == piece:
                        pass
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise

    def clear(self) -> None:
        """Give it back."""
        self._ballast.unlink()

    def copy(self, name: str, to: Path) -> Path:
        """A copy of an SQLite file, with its log. (Its own path leads elsewhere when SQLite resolves the links in it.)"""
        for tail in ("", "-wal"):
            if (self._inside / f"{name}{tail}").exists():
                shutil.copy(self._inside / f"{name}{tail}", to / f"{name}{tail}")
        return to / name


def _main(folder: str, size: str, *command: str) -> None:
    whose = [] if os.geteuid() == 0 else ["--map-root-user"]
    words = ["unshare", *whose, "--mount", "sh", "-ec", _MOUNTED, folder, size]
    os.execvp("unshare", [*words, sys.executable, "-m", *command])


if __name__ == "__main__":
    _main(*sys.argv[1:])
