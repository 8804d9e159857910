"""Lists with Stripe's cursors: newest first, `starting_after`, `ending_before`, `limit`, `has_more`."""

from __future__ import annotations

import json
from typing import Any

from .errors import Json, invalid, missing
from .views import view
from .world import Call

DEFAULT_LIMIT = 10
_BOUNDS = {"gt": ">", "gte": ">=", "lt": "<", "lte": "<="}


def list_objects(
    call: Call,
    kind: str,
    *,
    url: str,
    filters: dict[str, str],
    spans: dict[str, str] | None = None,
    oldest_first: bool = False,
) -> Json:
    """One page of a kind. `filters` maps parameters that were sent to columns that must equal them.

    `spans` maps parameters with bounds (gt, gte, lt, lte) to columns that must lie within; `created` always does.
    """
    clauses = ["kind = ?", "deleted = 0"]
    values: list[Any] = [kind]
    for name, column in filters.items():
        if call.params.get(name) is not None:
            clauses.append(f"{column} = ?")
            values.append(call.params[name])
    for name, column in (spans or {}).items():
        for word, bound in (call.params.get(name) or {}).items():
            clauses.append(f"{column} {_BOUNDS[word]} ?")
            values.append(bound)
    rows, has_more = page_of(
        call, table="objects", clauses=clauses, values=values, noun=kind, oldest_first=oldest_first
    )
    data = [view(call.world, json.loads(row[1])) for row in rows]
    return {"object": "list", "data": data, "has_more": has_more, "url": url}


def page_of(
    call: Call,
    *,
    table: str,
    clauses: list[str],
    values: list[Any],
    noun: str,
    oldest_first: bool = False,
) -> tuple[list[tuple[Any, ...]], bool]:
    """The (seq, body) rows of one page in the list's order, and whether more follow in the asked direction."""
    params = call.params
    clauses, values = list(clauses), list(values)
    for word, bound in (params.get("created") or {}).items():
        clauses.append(f"created {_BOUNDS[word]} ?")
        values.append(bound)
    after, before = params.get("starting_after"), params.get("ending_before")
    if after and before:
        raise invalid("You cannot pass both starting_after and ending_before.", param="ending_before")
    # Walking towards the start of the list reads it backwards and turns the page round at the end.
    backwards = before is not None
    rising = oldest_first != backwards
    cursor = after or before
    if cursor:
        clauses.append(f"seq {'>' if rising else '<'} ?")
        values.append(_seq(call, table, cursor, noun, "ending_before" if backwards else "starting_after"))
    limit = params.get("limit", DEFAULT_LIMIT)
    column = "data" if table == "objects" else "body"
    found = call.world.store.rows(
        f"SELECT seq, {column} FROM {table} WHERE {' AND '.join(clauses)}"  # noqa: S608 - only literals of this package are joined
        f" ORDER BY seq {'ASC' if rising else 'DESC'} LIMIT ?",
        *values,
        limit + 1,
    )
    page = found[:limit]
    return (page[::-1] if backwards else page), len(found) > limit


def _seq(call: Call, table: str, object_id: str, noun: str, param: str) -> int:
    found = call.world.store.rows(f"SELECT seq FROM {table} WHERE id = ?", object_id)  # noqa: S608 - one of two literals
    if not found:
        raise missing(noun, object_id, param=param)
    return int(found[0][0])
