"""The `coatcheck` command. Each command is one function; larger ones live in files of their own and are added to `main` here."""

import secrets
from typing import Final

import click

from coatcheck.tools.doctor.command import doctor
from coatcheck.tools.exempt import exempt
from coatcheck.tools.housekeeping import COMMANDS
from coatcheck.tools.migrate import migrate

_SECRET_BYTES: Final = 48
"""64 characters without padding; half as much again as the 32 bytes a secret must have."""


@click.group()
@click.version_option(package_name="coatcheck")
def main() -> None:
    """Server-side sessions: secrets, housekeeping, checks."""


@main.command()
def secret() -> None:
    """Print a strong secret, for `secret=` or SESSION_SECRET.

    To change it without signing anybody out, give both, the new one first, and drop the old one when the longest session is over.
    """
    click.echo(secrets.token_urlsafe(_SECRET_BYTES))


for command in (*COMMANDS, migrate, doctor, exempt):
    main.add_command(command)


if __name__ == "__main__":
    main()
