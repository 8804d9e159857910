"""Time zones, by their IANA names."""

from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from ledger.errors import LedgerError


class UnknownTimeZone(LedgerError):
    """This is no time zone that we know. Use an IANA name such as Europe/Berlin."""

    code = "unknown_time_zone"


@lru_cache(maxsize=1)
def zone_names() -> frozenset[str]:
    """The IANA names. A host's own files, such as `localtime` or those with leap seconds, are none of them."""
    return frozenset(available_timezones() - {"localtime", "Factory"})


@lru_cache(maxsize=1024)
def zone(name: str) -> ZoneInfo:
    """The IANA zone of this name.

    Raises:
        UnknownTimeZone: there is none.
    """
    # A file system that ignores case would find europe/berlin too; another host, or Postgres, might not.
    if name in zone_names():
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            pass  # named in the index, but its file is missing or damaged
    raise UnknownTimeZone(f"{name!r} is no time zone that we know. Use an IANA name such as Europe/Berlin.")
