"""The TIME and the MONTH that commands take."""

from datetime import UTC, date, datetime

import click


class Instant(click.ParamType[datetime]):
    """ISO 8601 with a zone, as an aware UTC `datetime`.

    A time without a zone is refused, since it means another instant on another host; so is "now", since a command that
    is run again must be able to say the same time again.
    """

    name = "TIME"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            instant = value
        else:
            try:
                instant = datetime.fromisoformat(str(value))
            except ValueError:
                self.fail(f"{value!r} is no time. Write ISO 8601 with a zone, like 2025-07-01T00:00:00Z.", param, ctx)
        if instant.tzinfo is None:
            self.fail(f"{value!r} has no zone. Add one: {instant.isoformat()}Z is UTC.", param, ctx)
        return instant.astimezone(UTC)


class Month(click.ParamType[date]):
    """A calendar month such as 2025-06, as its first day."""

    name = "MONTH"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return date.fromisoformat(f"{value}-01")
        except ValueError:
            self.fail(f"{value!r} is no month. Write the year and the month, like 2025-06.", param, ctx)
