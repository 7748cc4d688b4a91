"""How long a test that is not about time-outs waits for a server: as long as a busy machine needs."""

from typing import Final

from coatcheck import Outage

__all__ = ["PATIENT"]

PATIENT: Final = Outage(connect_timeout=30, command_timeout=30)
