"""A change of prices: drafted by one person, compared with what last month cost, published by another."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from invoicing.errors import InvoicingError
from invoicing.prices.catalogue import SecondPersonNeeded, hold_book
from invoicing.prices.content import PriceContent, canonical, content_from_json, content_to_json
from invoicing.prices.publishing import sort_out, write_content
from invoicing.prices.tables import PriceChange
from ledger.books import NAMESPACE

MAX_TITLE = 200  # characters
MAX_ACTOR = 200  # characters


class ChangeNotFound(InvoicingError):
    """There is no such change of prices. Look at the list: billing prices changes."""

    code = "unknown_price_change"


class ChangeDecided(InvoicingError):
    """This change was decided already. Draft another one."""

    code = "price_change_decided"


class NothingNew(InvoicingError):
    """The price book has all of these prices already: there is nothing to change."""

    code = "nothing_new"


class BadChange(InvoicingError):
    """A change has a title and an author, of 1 to 200 printable characters each."""

    code = "bad_price_change"


@dataclass(frozen=True, slots=True)
class ChangeView:
    """A change of prices. `published` and `withdrawn` ones say who decided; `content` is what was drafted."""

    id: UUID
    title: str
    state: str
    content: PriceContent
    created_at: datetime
    created_by: str
    decided_at: datetime | None
    decided_by: str | None


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of a set of prices: how many were published, how many drafted, how many were known already."""

    published: int
    drafted: int
    known: int
    change_id: UUID | None


def draft_change(session: Session, *, content: PriceContent, title: str, actor: str, now: datetime) -> ChangeView:
    """Write new prices down without publishing them. The same draft again changes nothing. The caller commits.

    Raises:
        PriceRefused: some prices are not acceptable beside those that are published; all reasons are named.
        NothingNew: all of them are published already.
        BadChange: title or author is missing or too long.
    """
    if not _is_line(title, MAX_TITLE) or not _is_line(actor, MAX_ACTOR):
        raise BadChange(BadChange.__doc__)
    hold_book(session)
    found = sort_out(session, content, now=now)
    if not found.first.prices and not found.changing.prices and not found.zones:
        raise NothingNew(NothingNew.__doc__)
    return _draft(session, content, title=title, actor=actor, now=now)


def load_content(
    session: Session, *, content: PriceContent, title: str, publish: bool, actor: str, now: datetime
) -> Loaded:
    """Bring a set of prices into the book: what is known stays, the rest becomes a draft. The caller commits.

    With `publish`, the first prices of an item in a currency are published at once; what changes published ones is
    drafted in any case. A second call changes nothing.

    Raises:
        PriceRefused: some prices are not acceptable; all reasons are named, with their places.
        BadChange: title or author is missing or too long.
    """
    if not _is_line(title, MAX_TITLE) or not _is_line(actor, MAX_ACTOR):
        raise BadChange(BadChange.__doc__)
    hold_book(session)
    found = sort_out(session, content, now=now)
    drafted = found.changing
    if publish:
        write_content(session, found.first, actor=actor, now=now)
    elif found.first.prices or found.zones:
        drafted = content
    if not drafted.prices:
        return Loaded(len(found.first.prices), 0, len(found.known), None)
    change = _draft(session, drafted, title=title, actor=actor, now=now)
    published = len(found.first.prices) if publish else 0
    new = len(found.first.prices) + len(found.changing.prices)
    return Loaded(published, new - published, len(found.known), change.id)


def publish_change(session: Session, *, change_id: UUID, actor: str, now: datetime) -> ChangeView:
    """Publish a draft, as a second person: from now on its prices rate. The caller commits.

    The draft is held against the book as it is now. By whoever published it before, it answers the same again.

    Raises:
        ChangeNotFound: there is none.
        ChangeDecided: it was withdrawn, or published by somebody else.
        SecondPersonNeeded: `actor` drafted it.
        PriceRefused: its prices do not fit the book any more, or usage since their start is rated already.
    """
    hold_book(session)
    change = _lock(session, change_id)
    if change.state == "published" and change.decided_by == actor:
        return view_of(change)
    _require_draft(change)
    if change.created_by == actor:
        raise SecondPersonNeeded(
            f"{actor} drafted this change: a second person publishes it. Ask a colleague to compare and publish it."
        )
    found = sort_out(session, content_from_json(change.content), now=now)
    change.state, change.decided_at, change.decided_by = "published", now, actor
    session.flush()
    for part in (found.first, found.changing):
        write_content(session, part, actor=change.created_by, now=now, change_id=change.id)
    return view_of(change)


def withdraw_change(session: Session, *, change_id: UUID, actor: str, now: datetime) -> ChangeView:
    """Put a draft away, by anybody. A second call changes nothing. The caller commits.

    Raises:
        ChangeNotFound: there is none.
        ChangeDecided: it was published.
    """
    change = _lock(session, change_id)
    if change.state == "withdrawn":
        return view_of(change)
    _require_draft(change)
    change.state, change.decided_at, change.decided_by = "withdrawn", now, actor
    session.flush()
    return view_of(change)


def get_change(session: Session, *, change_id: UUID) -> ChangeView:
    """One change.

    Raises:
        ChangeNotFound: there is none.
    """
    change = session.get(PriceChange, change_id)
    if change is None:
        raise ChangeNotFound(f"There is no change of prices {change_id}. Look at the list: billing prices changes.")
    return view_of(change)


def list_changes(session: Session, *, state: str | None = None, limit: int = 100) -> list[ChangeView]:
    """Changes, the newest first; `state` (drafted, published, withdrawn) narrows the list."""
    query = select(PriceChange).order_by(PriceChange.created_at.desc(), PriceChange.id).limit(limit)
    if state is not None:
        query = query.where(PriceChange.state == state)
    return [view_of(change) for change in session.scalars(query)]


def view_of(change: PriceChange) -> ChangeView:
    """A change as others see it."""
    return ChangeView(
        id=change.id,
        title=change.title,
        state=change.state,
        content=content_from_json(change.content),
        created_at=change.created_at,
        created_by=change.created_by,
        decided_at=change.decided_at,
        decided_by=change.decided_by,
    )


def _draft(session: Session, content: PriceContent, *, title: str, actor: str, now: datetime) -> ChangeView:
    """The one open draft of this content: written now, unless it is there. One that was withdrawn is not taken up."""
    spelled = canonical(content)
    ids: Sequence[UUID] = [uuid5(NAMESPACE, f"price change\x1f{number}\x1f{spelled}") for number in range(100)]
    known = {change.id: change for change in session.scalars(select(PriceChange).where(PriceChange.id.in_(ids)))}
    for key in ids:
        if key in known and known[key].state != "withdrawn":
            return view_of(known[key])
        if key not in known:
            values = {"id": key, "title": title, "content": content_to_json(content)}
            session.execute(insert(PriceChange).values(**values, created_at=now, created_by=actor))
            return view_of(session.get_one(PriceChange, key))
    raise ChangeDecided("This was drafted and withdrawn a hundred times. Draft something else.")


def _lock(session: Session, change_id: UUID) -> PriceChange:
    change = session.get(PriceChange, change_id, with_for_update=True, populate_existing=True)
    if change is None:
        raise ChangeNotFound(f"There is no change of prices {change_id}. Look at the list: billing prices changes.")
    return change


def _require_draft(change: PriceChange) -> None:
    if change.state != "drafted":
        raise ChangeDecided(
            f"This change was {change.state} by {change.decided_by} at {change.decided_at}. Draft another one."
        )


def _is_line(given: str, longest: int) -> bool:
    return bool(given.strip()) and len(given) <= longest and given.isprintable()
