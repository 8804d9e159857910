"""Arrays as Postgres spells them: one text, made once, that every statement about the same rows is sent with."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID


def spell_array(values: Iterable[UUID | datetime]) -> str:
    """The array for a parameter such as `CAST(:ids AS uuid[])`.

    The driver would spell the list anew for each statement, element by element. Neither an id nor an aware instant
    holds a character that an array would have to quote.
    """
    return "{" + ",".join(map(str, values)) + "}"
