"""What the demo keeps between two runs, all in one folder that only its owner can read: accounts, sessions, the secrets."""

import os
import secrets
from pathlib import Path
from typing import NamedTuple

__all__ = ["State", "prepare"]


class State(NamedTuple):
    """Where everything is."""

    secret: Path
    keys: Path
    sessions: Path
    users: Path


def prepare(folder: Path) -> State:
    """Make the folder (mode 0700) and the secrets (mode 0600) if they are not there yet. Raises OSError if that fails."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.chmod(0o700)
    state = State(folder / "secret", folder / "token-key", folder / "sessions.db", folder / "users.db")
    for secret in (state.secret, state.keys):
        if not secret.exists():
            _write_secret(secret)
        secret.chmod(0o600)
    return state


def _write_secret(path: Path) -> None:
    """Whole or not at all: two demos started at once agree on one secret, and none ever reads half of it."""
    draft = path.with_name(f"{path.name}.{os.getpid()}")
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(secrets.token_urlsafe(48) + "\n")
    try:
        os.link(draft, path)
    except FileExistsError:
        pass  # the other one was first
    finally:
        draft.unlink()
