"""Catching up: Stripe's own list of events, read so that an event whose delivery was lost is handled all the same.

Stripe gives up delivering after three days, an endpoint may be switched off, a database restored to yesterday. So the
list is read every few minutes, from an hour before the newest event that we saw: what we have changes nothing, what we
missed is stored as if it had been delivered. Stripe lists the last 30 days only; after a longer silence the objects
themselves are compared (reconciliation), and the list is read from its end.

The list comes newest first. A window is read page by page downwards, each page stored in one transaction with how far
the window is; only when its end is reached does the cursor move. So a run may die anywhere: the next one goes on there.

Source: https://docs.stripe.com/webhooks/process-undelivered-events
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import Engine, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from stripe_gateway import handlers, webhooks
from stripe_gateway.client import PAGE, Client, Json
from stripe_gateway.errors import BadEvent, LeaseLost, Refused
from stripe_gateway.tables import StripeCursor, StripeCustomer

OVERLAP = timedelta(hours=1)
"""How far before the newest event the next window begins: an event may show in the list later than its time says."""

LISTED_FOR = timedelta(days=30)
GONE_AFTER = LISTED_FOR - OVERLAP
"""After so long without a complete look, events may have left the list that we never saw."""

TYPES_AT_ONCE = 20  # of one call; https://docs.stripe.com/api/events/list


class Compared(Protocol):
    """What a comparison of the objects themselves found."""

    @property
    def repaired(self) -> Sequence[Any]:
        """Differences that it mended."""
        ...

    @property
    def unexplained(self) -> Sequence[Any]:
        """Differences that a person must look at."""
        ...


@dataclass(slots=True)
class CatchUpReport:
    """What one run read. `missed` events were stored now; `known` ones stood in the inbox already.

    `gone_since`: since when events were lost for good, if so; then `repaired` and `unexplained` count what comparing
    the objects found.
    """

    pages: int = 0
    missed: int = 0
    known: int = 0
    gone_since: datetime | None = None
    repaired: int = 0
    unexplained: int = 0
    problems: list[str] = field(default_factory=list)


def groups() -> dict[str, list[str]]:
    """The event types that we act on, in named groups of at most 20."""
    types = sorted(handlers.HANDLERS)
    return {
        f"events-{start // TYPES_AT_ONCE + 1}": types[start : start + TYPES_AT_ONCE]
        for start in range(0, len(types), TYPES_AT_ONCE)
    }


def caught_up_to(session: Session) -> datetime | None:
    """Up to when everything that Stripe listed is stored, by our clock: of the group that is furthest behind.

    Before a group's first complete look that is when our first customer stood at Stripe; None if nobody stands there,
    so that there is nothing to miss. Read-only.
    """
    checked = {row.name: row.checked_at for row in session.scalars(select(StripeCursor))}
    first = session.scalar(select(func.min(StripeCustomer.created_at)))
    stands = [checked.get(name) or first for name in groups()]
    return min((at for at in stands if at is not None), default=None)


def catch_up(
    engine: Engine,
    client: Client,
    *,
    now: datetime,
    reconcile: Callable[[], Compared],
    progress: Callable[[CatchUpReport], None] | None = None,
    page: int = PAGE,
) -> CatchUpReport:
    """Store every event that Stripe lists and we do not have. Safe to run twice, at once, and to be killed.

    Commits page by page. Handles nothing: what is stored is due, as after a delivery. `reconcile` compares the objects,
    and is called only if events may be gone for good.

    Raises:
        CallFailed: Stripe could not be asked; the next run goes on where this one stood.
    """
    run = _Run(engine, client, now=now, progress=progress, page=page)
    names = groups()
    since = run.gone_since(list(names))
    if since is not None:
        # The objects first, the cursor after them: killed in between, the next run compares them again.
        run.report.gone_since = since
        found = reconcile()
        run.report.repaired, run.report.unexplained = len(found.repaired), len(found.unexplained)
        if found.unexplained:
            run.report.problems.append(f"{len(found.unexplained)} differences remain: run `billing stripe reconcile`")
    for name, types in names.items():
        run.read(name, types)
    return run.report


@dataclass(slots=True)
class _Tally:
    """One page: what of it was stored."""

    missed: int = 0
    known: int = 0
    problems: list[str] = field(default_factory=list)


class _Run:
    def __init__(
        self,
        engine: Engine,
        client: Client,
        *,
        now: datetime,
        progress: Callable[[CatchUpReport], None] | None,
        page: int,
    ) -> None:
        self._engine = engine
        self._client = client
        self._now = now
        self._progress = progress
        self._page = page
        self.report = CatchUpReport()

    def gone_since(self, names: Sequence[str]) -> datetime | None:
        """Since when events may be gone, by our clock: only durations count here, so it need not agree with Stripe's.

        Before our first customer at Stripe there was nothing about which an event could have told us.
        """
        with Session(self._engine) as session:
            rows = {row.name: row for row in session.scalars(select(StripeCursor).where(StripeCursor.name.in_(names)))}
            first = session.scalar(select(func.min(StripeCustomer.created_at)))
        stands = [self._stands_at(rows.get(name)) or first for name in names]
        gone = [at for at in stands if at is not None and at < self._now - GONE_AFTER]
        return min(gone, default=None)

    def _stands_at(self, row: StripeCursor | None) -> datetime | None:
        """Up to when nothing is missing from this group, or will be once its window is read to the end."""
        if row is None:
            return None
        began_at = row.window_began_at
        return began_at if began_at is not None and self._is_fresh(row) else row.checked_at

    def _is_fresh(self, row: StripeCursor) -> bool:
        return row.window_began_at is not None and row.window_began_at >= self._now - GONE_AFTER

    def read(self, name: str, types: list[str]) -> None:
        """Read one group's window to its end."""
        row = self._begin(name, types)
        try:
            while row.window_began_at is not None:
                row = self._turn_page(row)
                if self._progress:
                    self._progress(self.report)
        except LeaseLost:
            return  # a later run reads this group now, from where we stood

    def _begin(self, name: str, types: list[str]) -> StripeCursor:
        """Take the group over, and begin a window unless one is under way. Commits."""
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            session.execute(insert(StripeCursor).values(name=name).on_conflict_do_nothing())
            row = session.get_one(StripeCursor, name, with_for_update=True)
            row.fence += 1
            if row.window_types != types or not self._is_fresh(row):
                # After a deploy that acts on further types, their older events are wanted too.
                whole = not set(types) <= set(row.types) or row.checked_at is None or row.read_to is None
                stale = row.checked_at is not None and row.checked_at < self._now - GONE_AFTER
                row.window_types, row.window_began_at = types, self._now
                row.window_from = None if whole or stale or row.read_to is None else row.read_to - OVERLAP
                row.window_newest = row.page_after = None
            return row

    def _turn_page(self, row: StripeCursor) -> StripeCursor:
        """Ask for the window's next page and store it, with how far the window is. One call, then one transaction."""
        try:
            page = self._client.list_events(
                types=row.window_types or [],
                created_from=int(row.window_from.timestamp()) if row.window_from else None,
                after=row.page_after,
                limit=self._page,
            )
        except Refused:
            if row.page_after is None:
                raise
            # The event at which the window stood has left the list since. What it listed before, we have.
            return self._write(row, page_after=None)
        events: list[Json] = page["data"]
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            tally = _store(session, events, now=self._now)
            newest = max([row.window_newest, *map(_created, events)], key=_or_earliest, default=None)
            if page["has_more"] and events:
                written = _fenced(session, row, window_newest=newest, page_after=str(events[-1]["id"]))
            else:
                written = _fenced(session, row, **self._finished(row, newest))
        self._count(tally)
        return written

    def _count(self, tally: _Tally) -> None:
        self.report.pages += 1
        self.report.missed += tally.missed
        self.report.known += tally.known
        self.report.problems += tally.problems

    def _finished(self, row: StripeCursor, newest: datetime | None) -> dict[str, object]:
        """The cursor's values once its window is read to the end: neither of its times ever goes back."""
        return {
            "types": row.window_types,
            "read_to": max([row.read_to, newest], key=_or_earliest),
            "checked_at": max([row.checked_at, row.window_began_at], key=_or_earliest),
            "window_types": None,
            "window_from": None,
            "window_newest": None,
            "window_began_at": None,
            "page_after": None,
        }

    def _write(self, row: StripeCursor, **values: object) -> StripeCursor:
        with Session(self._engine, expire_on_commit=False) as session, session.begin():
            return _fenced(session, row, **values)


def _store(session: Session, events: Sequence[Json], *, now: datetime) -> _Tally:
    tally = _Tally()
    for event in events:
        try:
            webhooks.check_shape(event)
        except BadEvent as refusal:
            tally.problems.append(f"event {str(event.get('id'))[:80]} of Stripe's list was not stored: {refusal}")
            continue
        # The SDK reads decimals as Decimal; on the wire they are texts.
        text = json.dumps(event, default=str, separators=(",", ":"))
        if webhooks.store(session, event, text=text, now=now, source=webhooks.LIST):
            tally.missed += 1
        else:
            tally.known += 1
    return tally


def _created(event: Json) -> datetime | None:
    created = event.get("created")
    return datetime.fromtimestamp(created, tz=UTC) if isinstance(created, int) else None


def _or_earliest(instant: datetime | None) -> datetime:
    return instant or datetime.min.replace(tzinfo=UTC)


def _fenced(session: Session, row: StripeCursor, **values: object) -> StripeCursor:
    """Move the cursor, if no later run took it over. The caller commits.

    Raises:
        LeaseLost: one did; what this transaction stored is stored by it, or will be.
    """
    statement = (
        update(StripeCursor)
        .where(StripeCursor.name == row.name, StripeCursor.fence == row.fence)
        .values(**values)
        .returning(StripeCursor)
        .execution_options(populate_existing=True)
    )
    written = session.scalars(statement).one_or_none()
    if written is None:
        raise LeaseLost("Another process reads the list of events now; it goes on from what is stored.")
    return written
