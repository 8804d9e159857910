"""Customers over HTTP: create, look up, balances, invoices, a link into their panel."""

from decimal import Decimal
from uuid import UUID

from flask import g, jsonify, request, url_for
from flask.typing import ResponseReturnValue

from app.api import rendering
from app.api.blueprint import bp
from app.api.requests import FieldsRefused, load_fields, read_body
from app.api.schemas import CustomerQuery, CustomerSchema, ListQuery, MomentQuery, PanelSessionSchema
from app.panel.links import LINK_TTL, create_link
from invoicing.customers import create_customer, customer_id_for, customers_by_id, get_customer
from invoicing.drafts import get_invoice, list_invoices
from invoicing.movements.credit_notes import credit_notes_of
from invoicing.movements.disputes import disputes_of
from invoicing.movements.refunds import refunds_of
from invoicing.settling import assess
from invoicing.statements import current_period
from ledger.balances import balances
from ledger.time_machine import balances_at

MAX_LIST = 1_000


@bp.post("/customers")
def add_customer() -> ResponseReturnValue:
    """Create a customer: 201; the same again: 200; the same external id with other details: 409."""
    details = read_body(CustomerSchema())
    view, created = create_customer(g.session, **details, actor=g.actor, now=g.now)
    response = jsonify(rendering.customer(view))
    response.status_code = 201 if created else 200
    response.headers["Location"] = url_for("api.show_customer", customer_id=view.customer_id)
    return response


@bp.get("/customers")
def find_customers() -> ResponseReturnValue:
    """The customer with the platform's id `external_id`, as a list of one or none."""
    query = load_fields(CustomerQuery(), request.args.to_dict())
    found = customers_by_id(g.session, customer_ids=[customer_id_for(query["external_id"])])
    return jsonify(customers=[rendering.customer(view) for view in found.values()])


@bp.get("/customers/<uuid:customer_id>")
def show_customer(customer_id: UUID) -> ResponseReturnValue:
    """One customer."""
    return jsonify(rendering.customer(get_customer(g.session, customer_id=customer_id)))


@bp.get("/customers/<uuid:customer_id>/balance")
def show_balance(customer_id: UUID) -> ResponseReturnValue:
    """Every account's balance, and what is unbilled in the current period."""
    statement = current_period(g.session, customer_id=customer_id, now=g.now)
    accounts = balances(g.session, customer_id=customer_id)
    return jsonify(rendering.balance(customer_id, statement=statement, accounts=accounts, as_of=g.now))


@bp.get("/customers/<uuid:customer_id>/balances")
def show_balances(customer_id: UUID) -> ResponseReturnValue:
    """Every account's balance at a past moment: what took effect before, and was known at, the times in the query."""
    moment = load_fields(MomentQuery(), request.args.to_dict())
    customer = get_customer(g.session, customer_id=customer_id)
    accounts = balances_at(g.session, customer_id=customer_id, **moment)
    return jsonify(rendering.balances(customer, accounts=accounts, **moment))


@bp.get("/customers/<uuid:customer_id>/invoices")
def show_invoices(customer_id: UUID) -> ResponseReturnValue:
    """The customer's invoices, the newest first, drafts included."""
    get_customer(g.session, customer_id=customer_id)
    found = list_invoices(g.session, customer_id=customer_id, limit=_limit())
    return jsonify(invoices=[rendering.invoice(invoice) for invoice in found])


@bp.get("/customers/<uuid:customer_id>/invoices/<uuid:invoice_id>")
def show_invoice(customer_id: UUID, invoice_id: UUID) -> ResponseReturnValue:
    """One invoice with its lines, payments, and what happened after it was final."""
    key = {"customer_id": customer_id, "invoice_id": invoice_id}
    view = get_invoice(g.session, **key)
    is_draft = view.invoice.state == "draft"
    return jsonify(
        rendering.invoice_view(
            view,
            draft_tax=assess(g.session, view.invoice, view.lines).on_top if is_draft else Decimal(0),
            notes=credit_notes_of(g.session, **key),
            refunds=refunds_of(g.session, **key),
            disputes=disputes_of(g.session, **key),
        )
    )


@bp.post("/customers/<uuid:customer_id>/panel_sessions")
def add_panel_session(customer_id: UUID) -> ResponseReturnValue:
    """A link that opens the customer's billing panel once, soon. The body may be left out."""
    has_body = bool(request.content_length) or "Transfer-Encoding" in request.headers
    return_url = read_body(PanelSessionSchema())["return_url"] if has_body else None
    get_customer(g.session, customer_id=customer_id)
    token = create_link(g.session, customer_id=customer_id, return_url=return_url, now=g.now)
    url = f"{g.config.public_url}/billing/open/{token}"
    return jsonify(url=url, expires_at=rendering.instant(g.now + LINK_TTL)), 201


def _limit() -> int:
    text = load_fields(ListQuery(), request.args.to_dict()).get("limit", "100")
    if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_LIST:
        raise FieldsRefused([("limit", "bad_limit", f"Give a whole number from 1 to {MAX_LIST}.")])
    return int(text)
