"""Days and times of day as people type them into forms."""

from datetime import date, time

from ledger.entries import EARLIEST, LATEST


def read_day(text: str) -> date | None:
    """The day that `text` writes in ISO 8601, if entries can lie on it; None for anything else."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    # The last year is left out, so that a day and the one after it are moments in every time zone.
    return day if EARLIEST.year <= day.year < LATEST.year else None


def read_clock(text: str) -> time | None:
    """The time of day that `text` writes in ISO 8601; None for anything else, and for one with a zone of its own."""
    try:
        clock = time.fromisoformat(text)
    except ValueError:
        return None
    return clock if clock.tzinfo is None else None
