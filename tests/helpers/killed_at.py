"""A process that kills itself at a given access to a folder."""

import os
import signal
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any


class KilledAt:
    """Count the accesses of this process to a folder; at the ``moment``-th, kill it.

    Attributes:
        seen: Number of accesses so far.
    """

    def __init__(self, moment: int, folder: Path, events: Collection[str]) -> None:
        self.moment, self.folder, self.events = moment, str(folder), events
        self.seen = 0
        sys.addaudithook(self._count)

    def _count(self, event: str, details: tuple[Any, ...]) -> None:
        if event in self.events and self.folder in repr(details):
            self.seen += 1
            if self.seen == self.moment:
                os.kill(os.getpid(), signal.SIGKILL)
