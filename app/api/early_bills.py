"""Billing before the period ends, over HTTP: now, or whenever a spending threshold is reached."""

from uuid import UUID

from flask import g, jsonify, url_for
from flask.typing import ResponseReturnValue

from app.api import rendering
from app.api.blueprint import bp
from app.api.requests import FieldsRefused, read_body
from app.api.schemas import EarlyBillSchema, ThresholdSchema
from invoicing.customers import get_customer
from invoicing.drafts import get_invoice
from invoicing.early_bills import CAUSES, bill_now, set_threshold, threshold_of


@bp.post("/customers/<uuid:customer_id>/early_bills")
def add_early_bill(customer_id: UUID) -> ResponseReturnValue:
    """Close the current period now: 201 with its draft; the same `period_start` again: 200 with that bill."""
    wanted = read_body(EarlyBillSchema())
    if wanted["cause"] not in CAUSES:
        raise FieldsRefused([("cause", "bad_cause", f"Give one of {', '.join(CAUSES)}.")])
    bill = bill_now(g.session, customer_id=customer_id, **wanted, actor=g.actor, settings=g.settings, now=g.now)
    invoice = get_invoice(g.session, customer_id=customer_id, invoice_id=bill.invoice_id).invoice
    response = jsonify(rendering.invoice(invoice))
    response.status_code = 201 if bill.created_at == g.now else 200
    response.headers["Location"] = url_for("api.show_invoice", customer_id=customer_id, invoice_id=bill.invoice_id)
    return response


@bp.put("/customers/<uuid:customer_id>/spending_threshold")
def put_threshold(customer_id: UUID) -> ResponseReturnValue:
    """From `amount` unbilled on the customer is billed at once; null lifts it. The same again changes nothing."""
    wanted = read_body(ThresholdSchema())
    set_threshold(g.session, customer_id=customer_id, **wanted, actor=g.actor, now=g.now)
    return show_threshold(customer_id)


@bp.get("/customers/<uuid:customer_id>/spending_threshold")
def show_threshold(customer_id: UUID) -> ResponseReturnValue:
    """The customer's spending threshold; `amount` is null if there is none."""
    customer = get_customer(g.session, customer_id=customer_id)
    row = threshold_of(g.session, customer_id=customer_id)
    amount = rendering.number(row.amount if row else None)
    return jsonify(customer_id=str(customer_id), currency=customer.currency, amount=amount)
