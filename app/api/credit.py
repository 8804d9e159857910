"""Credit over HTTP: give it, sell it in advance, look at what is left, take it back, have it refilled."""

from uuid import UUID

from flask import g, jsonify, url_for
from flask.typing import ResponseReturnValue

from app.api import rendering
from app.api.blueprint import bp
from app.api.requests import read_body
from app.api.schemas import CreditSchema, RefillSchema, RevocationSchema, TopUpSchema
from invoicing.credit.endings import revoke_credit
from invoicing.credit.grants import grant_credit
from invoicing.credit.lots import lots_of
from invoicing.credit.refills import refill_of, set_refill
from invoicing.credit.top_ups import top_up
from invoicing.customers import get_customer


@bp.post("/customers/<uuid:customer_id>/credits")
def add_credit(customer_id: UUID) -> ResponseReturnValue:
    """Give promotional or goodwill credit: 201; the same id and details again: 200; with other details: 409."""
    wanted = dict(read_body(CreditSchema()))
    given = grant_credit(
        g.session, customer_id=customer_id, grant_id=wanted.pop("id"), **wanted, actor=g.actor, now=g.now
    )
    return jsonify(rendering.credit_grant(given)), 201 if given.created_at == g.now else 200


@bp.get("/customers/<uuid:customer_id>/credits")
def show_credits(customer_id: UUID) -> ResponseReturnValue:
    """What is left of the customer's credit, in the order in which it is used."""
    customer = get_customer(g.session, customer_id=customer_id)
    lots = lots_of(g.session, customer_id=customer_id)
    return jsonify(
        customer_id=str(customer_id),
        currency=customer.currency,
        credits=[rendering.credit_lot(lot) for lot in lots],
    )


@bp.post("/customers/<uuid:customer_id>/credits/<uuid:credit_id>/revocation")
def add_revocation(customer_id: UUID, credit_id: UUID) -> ResponseReturnValue:
    """Take back what is left of a credit: 201; again: 200 with what was taken back then."""
    wanted = read_body(RevocationSchema())
    use = revoke_credit(g.session, customer_id=customer_id, grant_id=credit_id, **wanted, actor=g.actor, now=g.now)
    body = {
        "credit_id": str(use.grant_id),
        "amount": rendering.number(use.amount),
        "reason": use.reason,
        "revoked_at": rendering.instant(use.at),
    }
    return jsonify(body), 201 if use.at == g.now else 200


@bp.post("/customers/<uuid:customer_id>/top_ups")
def add_top_up(customer_id: UUID) -> ResponseReturnValue:
    """Sell prepaid credit by an invoice that is final at once: 201; the same id and details again: 200."""
    wanted = dict(read_body(TopUpSchema()))
    invoice = top_up(
        g.session,
        customer_id=customer_id,
        top_up_id=wanted.pop("id"),
        **wanted,
        provider=g.provider,
        actor=g.actor,
        now=g.now,
    )
    is_new = invoice.finalized_at == g.now
    if is_new:
        g.ring("sync_now", customer_id, invoice.id)
    response = jsonify(rendering.invoice(invoice))
    response.status_code = 201 if is_new else 200
    response.headers["Location"] = url_for("api.show_invoice", customer_id=customer_id, invoice_id=invoice.id)
    return response


@bp.put("/customers/<uuid:customer_id>/refill")
def put_refill(customer_id: UUID) -> ResponseReturnValue:
    """Buy `amount` of prepaid credit whenever less than `threshold` is left; both null: no more."""
    wanted = read_body(RefillSchema())
    set_refill(g.session, customer_id=customer_id, **wanted, provider=g.provider, actor=g.actor, now=g.now)
    return show_refill(customer_id)


@bp.get("/customers/<uuid:customer_id>/refill")
def show_refill(customer_id: UUID) -> ResponseReturnValue:
    """The customer's refills; both amounts are null if there are none."""
    customer = get_customer(g.session, customer_id=customer_id)
    rule = refill_of(g.session, customer_id=customer_id)
    return jsonify(
        customer_id=str(customer_id),
        currency=customer.currency,
        threshold=rendering.number(rule.threshold if rule else None),
        amount=rendering.number(rule.amount if rule else None),
    )
