"""A customer's journal: every entry, the newest first."""

from datetime import UTC, datetime
from uuid import UUID

from flask import g, render_template, request
from flask.typing import ResponseReturnValue
from sqlalchemy import select

from invoicing import statements
from invoicing.customers import get_customer
from ledger.tables import PeriodRow
from support_ui.access import wants_fragment
from support_ui.evidence import signed
from support_ui.site import FRAGMENT, bp

PAGE = 100  # entries
PERIODS = 120  # ten years of months in the filter


@bp.get("/customers/<uuid:customer_id>/journal")
def journal(customer_id: UUID) -> ResponseReturnValue:
    """One page of entries, narrowed by `period` (its start), `item`, and by `price` and `used`, as a line of an invoice
    is, which links here; `before` is the seq to go on below."""
    customer = get_customer(g.session, customer_id=customer_id)
    start = _instant(request.args.get("period", ""))
    item = request.args.get("item", "").strip()[:200]
    price, used = request.args.get("price", type=UUID), _instant(request.args.get("used", ""))
    entries = statements.list_entries(
        g.session,
        customer_id=customer_id,
        period_start=start,
        item=item or None,
        price_id=price,
        usage_period_start=used,
        before_seq=request.args.get("before", type=int),
        limit=PAGE + 1,
    )
    periods = g.session.scalars(
        select(PeriodRow).where(PeriodRow.customer_id == customer_id).order_by(PeriodRow.start_at.desc()).limit(PERIODS)
    ).all()
    context = {
        "customer": customer,
        "entries": entries[:PAGE],
        "next_before": entries[PAGE - 1].seq if len(entries) > PAGE else None,
        "periods": periods,
        "period": start.isoformat() if start else "",
        "item": item,
        "price": price,
        "used": used.isoformat() if used else "",
        "signed": signed,
    }
    if wants_fragment():
        return render_template("support/customers/_journal.html", **context), {FRAGMENT: "1"}
    return render_template("support/customers/journal.html", **context)


def _instant(text: str) -> datetime | None:
    """A period's start as the filter sends it; None for anything else, since a filter is no form."""
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    return instant.astimezone(UTC) if instant.tzinfo else None
