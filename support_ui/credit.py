"""A customer's credit: what is left of each lot, taking one back, and selling credit in advance."""

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

from flask import g, redirect, url_for
from flask.typing import ResponseReturnValue
from sqlalchemy import select
from sqlalchemy.orm import Session

from invoicing.credit.endings import revoke_credit
from invoicing.credit.lots import grants_left, lots_of
from invoicing.credit.top_ups import top_up
from invoicing.errors import InvoicingError
from invoicing.tables import CreditGrant
from ledger.money import plain
from support_ui.access import actor, needs
from support_ui.forms import Form, RevokeCredit, SellCredit, read_form
from support_ui.site import bp, say

SHOWN = 50


@dataclass(frozen=True, slots=True)
class ShownCredit:
    """A lot as the page shows it; without `grant` it is what its account holds beyond all grants."""

    account: str
    grant: CreditGrant | None
    remaining: Decimal
    is_paid: bool
    is_disputed: bool
    is_over: bool
    """Whether its time is over: it may pay only for periods that ended before."""

    @property
    def can_be_revoked(self) -> bool:
        return self.grant is not None and self.is_paid and not self.is_disputed and self.remaining > 0


def end_of(day: date) -> datetime:
    """The instant at which a day is over, in UTC: a credit whose last day it is pays for periods that end by then."""
    return datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1)


def credits_of(session: Session, *, customer_id: UUID, now: datetime) -> list[ShownCredit]:
    """What is left, in the order in which it is used, then what is used up, the newest first."""
    left = lots_of(session, customer_id=customer_id)
    known = {lot.id for lot in left}
    empty = [
        lot
        for lot in grants_left(session, customer_id=customer_id, also_empty=True)
        if lot.id not in known and lot.created_at is not None
    ]
    empty.sort(key=lambda lot: str(lot.created_at), reverse=True)
    lots = [*left, *empty][:SHOWN]
    grants = {
        grant.id: grant
        for grant in session.scalars(
            select(CreditGrant).where(
                CreditGrant.customer_id == customer_id, CreditGrant.id.in_([lot.id for lot in lots if lot.id])
            )
        )
    }
    return [
        ShownCredit(
            account=lot.account,
            grant=grants.get(lot.id) if lot.id else None,
            remaining=lot.remaining,
            is_paid=lot.is_paid,
            is_disputed=lot.is_disputed,
            is_over=lot.expires_at is not None and lot.expires_at <= now,
        )
        for lot in lots
    ]


@bp.post("/customers/<uuid:customer_id>/credits/<uuid:credit_id>/revocation")
@needs("agent")
def revoke(customer_id: UUID, credit_id: UUID) -> ResponseReturnValue:
    """Take back what is left of a credit. A double click takes it back once."""
    form = read_form(RevokeCredit, name="revoke")
    if form.is_valid:
        try:
            use = revoke_credit(
                g.session, customer_id=customer_id, grant_id=credit_id, actor=actor(), now=g.now, **form.values
            )
        except InvoicingError as error:
            _refuse(form, error)
        else:
            say(f"{plain(use.amount)} of the credit are taken back.")
    return _back(customer_id, form)


@bp.post("/customers/<uuid:customer_id>/top-ups")
@needs("agent")
def sell(customer_id: UUID) -> ResponseReturnValue:
    """Sell prepaid credit: the invoice opens. The form's own id makes a double click one sale."""
    form = read_form(SellCredit, name="sell")
    if form.is_valid:
        try:
            invoice = top_up(
                g.session, customer_id=customer_id, provider=g.provider, actor=actor(), now=g.now, **form.values
            )
        except InvoicingError as error:
            _refuse(form, error)
        else:
            if invoice.finalized_at == g.now:
                g.ring("sync_now", customer_id, invoice.id)
            say("The credit is sold. It can be used once this invoice is paid.")
            return redirect(url_for(".invoice", customer_id=customer_id, invoice_id=invoice.id), code=303)
    return _back(customer_id, form)


def _refuse(form: Form, error: InvoicingError) -> None:
    g.session.rollback()
    form.refuse(str(error))


def _back(customer_id: UUID, form: Form) -> ResponseReturnValue:
    for messages in form.errors.values():
        for message in messages:
            say(message, "bad")
    return redirect(url_for(".customer", customer_id=customer_id, _anchor="credits"), code=303)
