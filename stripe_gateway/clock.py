"""The clock of one run."""

import time
from datetime import datetime, timedelta


class RunClock:
    """The clock of one run: the `now` it was given, moving on by the monotonic clock."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._mono = time.monotonic()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=time.monotonic() - self._mono)
