"""Runs: where a comparison begins, where it stands after each page, and what the last complete one covered."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy import Engine, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from stripe_gateway.errors import GatewayError
from stripe_gateway.reconciliation.report import COUNTED
from stripe_gateway.reconciliation.tables import StripeReconciliation, StripeSeen
from stripe_gateway.recovery import LISTED_BEFORE
from stripe_gateway.tables import StripeCustomer

OVERLAP = timedelta(days=1)
"""How far before the last complete run's beginning the next one looks: clocks differ, and lists lag a little."""

SEEN_FORGOTTEN_AT_ONCE = 10_000


class ReconciliationTakenOver(GatewayError):
    """Another process went on with this comparison; it is at work now. Wait for it, or look at what it reports."""

    code = "reconcile_taken_over"


class WindowIsEmpty(GatewayError):
    """The time to compare from has to be before the time to compare to."""

    code = "reconcile_window"


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person or cron wants compared. Both times belong to Stripe's clock: when an object was made there.

    Without times: what was made since the last complete run, and everything that is not settled here. `is_full`:
    everything since the first customer.
    """

    created_from: datetime | None = None
    created_to: datetime | None = None
    is_full: bool = False

    @property
    def moves_the_mark(self) -> bool:
        """Whether a complete run like this covers everything up to its beginning."""
        return self.created_from is None and self.created_to is None


@dataclass(slots=True)
class Place:
    """Where this process is in a run. Every change is stored under the fence that it holds."""

    run: StripeReconciliation
    stage: str = ""
    resumed: bool = False
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def created_from(self) -> int:
        """From when on Stripe's lists are read, in Unix seconds, inclusive."""
        return int(self.run.window_from.timestamp())

    @property
    def created_to(self) -> int | None:
        """Until when, inclusive; None: to the end."""
        return None if self.run.asked_to is None else int(self.run.asked_to.timestamp())

    @property
    def is_open_ended(self) -> bool:
        """Whether the run reaches the present, so that everything unsettled belongs to it, however old."""
        return self.run.asked_to is None

    @property
    def is_unbounded(self) -> bool:
        """Whether the run, with the runs before it, has read every movement of the balance."""
        return self.run.asked_from is None and self.run.asked_to is None

    def count(self, name: str, number: int = 1) -> None:
        """Count objects that were compared."""
        assert name in COUNTED, name  # noqa: S101 - a word that no report would show
        self.counts[name] = self.counts.get(name, 0) + number


def begin(engine: Engine, asked: Asked, *, first_stage: str, now: datetime) -> Place | None:
    """Go on with the run that stopped, if it is of the same kind; else begin one. None: there is nothing to compare.

    Raises:
        WindowIsEmpty: it begins after it ends.
    """
    if asked.created_from and asked.created_to and asked.created_from >= asked.created_to:
        raise WindowIsEmpty(f"{asked.created_from:%Y-%m-%d %H:%M} is not before {asked.created_to:%Y-%m-%d %H:%M}.")
    with Session(engine, expire_on_commit=False) as session, session.begin():
        left = session.scalars(
            select(StripeReconciliation).where(StripeReconciliation.state == "running").with_for_update()
        ).one_or_none()
        if left is not None:
            # Whoever was at it finds its fence gone after the page it is at, and stops.
            left.fence += 1
            if (left.is_full, left.asked_from, left.asked_to) == (asked.is_full, asked.created_from, asked.created_to):
                session.flush()
                return Place(left, stage=left.stage, resumed=True, counts=dict(left.counts))
            left.state = "given_up"
            session.flush()
        window_from = asked.created_from or _window_from(session, asked)
        if window_from is None:
            return None
        run = StripeReconciliation(
            id=uuid4(),
            is_full=asked.is_full,
            asked_from=asked.created_from,
            asked_to=asked.created_to,
            window_from=window_from,
            stage=first_stage,
            cursor=None,
            state="running",
            counts={},
            fence=1,
            started_at=now,
            progressed_at=now,
        )
        session.add(run)
        session.flush()
        return Place(run, stage=first_stage)


def _window_from(session: Session, asked: Asked) -> datetime | None:
    oldest = session.scalar(select(func.min(StripeCustomer.created_at)))
    if oldest is None:
        return None
    first: datetime = oldest - LISTED_BEFORE
    if asked.is_full:
        return first
    mark = last_mark(session)
    return first if mark is None else max(first, mark - OVERLAP)


def last_mark(session: Session) -> datetime | None:
    """Up to when everything was compared: when the last complete run without a window of its own began."""
    marked: datetime | None = session.scalar(
        select(func.max(StripeReconciliation.started_at)).where(
            StripeReconciliation.state == "done",
            StripeReconciliation.asked_from.is_(None),
            StripeReconciliation.asked_to.is_(None),
        )
    )
    return marked


def note(session: Session, place: Place, *, stage: str, cursor: str | None, seen: Iterable[str], now: datetime) -> None:
    """Store that everything before this stage and cursor is compared. The caller commits.

    Raises:
        ReconciliationTakenOver: another process went on with the run; nothing is written.
    """
    _change(session, place, stage=stage, cursor=cursor, counts=place.counts, progressed_at=now)
    place.stage = stage
    rows = [{"run_id": place.run.id, "external_id": external_id} for external_id in sorted(set(seen))]
    if rows:
        session.execute(insert(StripeSeen).on_conflict_do_nothing(), rows)


def finish(engine: Engine, place: Place, *, now: datetime) -> None:
    """Store that the run is complete, and forget which objects it has seen.

    Raises:
        ReconciliationTakenOver: another process went on with the run.
    """
    with Session(engine) as session, session.begin():
        _change(session, place, state="done", finished_at=now, counts=place.counts, progressed_at=now)
    while True:
        with Session(engine) as session, session.begin():
            # Also those of runs that were given up.
            some = (
                select(StripeSeen.run_id, StripeSeen.external_id)
                .join(StripeReconciliation, StripeReconciliation.id == StripeSeen.run_id)
                .where(StripeReconciliation.state != "running")
                .limit(SEEN_FORGOTTEN_AT_ONCE)
                .subquery()
            )
            gone = session.execute(
                delete(StripeSeen).where(
                    StripeSeen.run_id == some.c.run_id, StripeSeen.external_id == some.c.external_id
                )
            )
            if gone.rowcount == 0:  # type: ignore[attr-defined]  # a DELETE's result has one
                return


def _change(session: Session, place: Place, **values: object) -> None:
    written = session.scalars(
        update(StripeReconciliation)
        .where(StripeReconciliation.id == place.run.id, StripeReconciliation.fence == place.run.fence)
        .where(StripeReconciliation.state == "running")
        .values(**values)
        .returning(StripeReconciliation.id)
    ).one_or_none()
    if written is None:
        raise ReconciliationTakenOver("Another process went on with this comparison. Nothing is lost; let it finish.")


Progress = Callable[[Place], None]
"""Told after every page."""
