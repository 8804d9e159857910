"""The clock of one run, and Stripe's way of writing instants."""

import time
from datetime import UTC, datetime, timedelta


class RunClock:
    """The clock of one run: the `now` it was given, moving on by the monotonic clock."""

    def __init__(self, start: datetime) -> None:
        self._start = start
        self._mono = time.monotonic()

    def now(self) -> datetime:
        return self._start + timedelta(seconds=time.monotonic() - self._mono)


def instant(unix_s: int) -> datetime:
    """An instant as Stripe writes it: whole seconds since 1970."""
    return datetime.fromtimestamp(unix_s, tz=UTC)
