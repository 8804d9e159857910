"""When cron does what: every so often, or at a time of the day, from environment variables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from app.config import ConfigError

DEFAULTS = {
    "sweep": "10s",
    "sync": "1m",
    "renew": "5m",
    "close": "10m",
    "thresholds": "5m",
    "finalize": "10m",
    "credits": "1h",
    "refill": "10m",
    "letters": "1m",
    "catch_up": "10m",
    "reconcile": "03:30",
    "seal": "1m",
}
"""Each job's time unless its variable, such as BILLING_CRON_CLOSE, says another."""

_UNITS = {"s": 1, "m": 60, "h": 3600}
_EVERY = re.compile(r"([1-9][0-9]{0,5})([smh])")
_DAILY = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
OFF = "off"


@dataclass(frozen=True, slots=True)
class Times:
    """When a job is due: every `every`, or daily at `at_minute` minutes after midnight UTC."""

    every: timedelta | None = None
    at_minute: int | None = None

    def first(self, now: datetime) -> datetime:
        """The first time at or after the process's start: what runs every so often begins at once."""
        return now if self.every is not None else self.after(now)

    def after(self, instant: datetime) -> datetime:
        """The next time after `instant`."""
        if self.every is not None:
            return instant + self.every
        midnight = instant.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        due = midnight + timedelta(minutes=self.at_minute or 0)
        return due if due > instant else due + timedelta(days=1)


def read_timetable(env: Mapping[str, str]) -> dict[str, Times]:
    """The jobs that run, each with its times; one that is "off" is left out.

    Raises:
        ConfigError: a variable is neither an interval (30s, 10m, 1h), a time of day (03:30, UTC) nor off.
    """
    found = {}
    for job, default in DEFAULTS.items():
        variable = f"BILLING_CRON_{job.upper()}"
        text = (env.get(variable) or default).strip().lower()
        if text == OFF:
            continue
        if every := _EVERY.fullmatch(text):
            found[job] = Times(every=timedelta(seconds=int(every[1]) * _UNITS[every[2]]))
        elif daily := _DAILY.fullmatch(text):
            found[job] = Times(at_minute=int(daily[1]) * 60 + int(daily[2]))
        else:
            raise ConfigError(f"{variable} is {text!r}. Use an interval (30s, 10m, 1h), a time in UTC (03:30), or off.")
    return found
