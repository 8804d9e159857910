"""What a program begins with a final invoice, and what became of it. Approval is for people: it is not here."""

from uuid import UUID

from flask import g, jsonify, url_for
from flask.typing import ResponseReturnValue

from app.api import rendering
from app.api.blueprint import bp
from app.api.requests import read_body
from app.api.schemas import MovementSchema
from invoicing.drafts import get_invoice
from invoicing.movements import requests
from invoicing.movements.orders import subjects_of
from invoicing.movements.tables import Movement
from invoicing.provider import SyncState

PATH = "/customers/<uuid:customer_id>/invoices/<uuid:invoice_id>/movements"


@bp.post(PATH)
def add_movement(customer_id: UUID, invoice_id: UUID) -> ResponseReturnValue:
    """Begin one: 201; the same again: 200 with how far it is; its id with other content: 409."""
    wanted = read_body(MovementSchema())
    invoice = get_invoice(g.session, customer_id=customer_id, invoice_id=invoice_id).invoice
    is_known = g.session.get(Movement, (customer_id, wanted["id"])) is not None
    movement = requests.request_movement(
        g.session,
        customer_id=customer_id,
        invoice_id=invoice_id,
        movement_id=wanted["id"],
        kind=wanted["kind"],
        amount=wanted["amount"],
        options=wanted["options"],
        reason=wanted["reason"],
        actor=g.actor,
        provider=g.provider,
        settings=g.settings,
        now=g.now,
    )
    states = _states(movement)
    for subject in states:
        g.ring("operation", customer_id, subject)
    response = jsonify(rendering.movement(movement, invoice.currency, states=states.values()))
    response.status_code = 200 if is_known else 201
    response.headers["Location"] = url_for("api.show_movements", customer_id=customer_id, invoice_id=invoice_id)
    return response


@bp.get(PATH)
def show_movements(customer_id: UUID, invoice_id: UUID) -> ResponseReturnValue:
    """Everything that was begun with the invoice, in order, with how far the provider is."""
    invoice = get_invoice(g.session, customer_id=customer_id, invoice_id=invoice_id).invoice
    found = requests.movements_of(g.session, customer_id=customer_id, invoice_id=invoice_id)
    return jsonify(movements=[rendering.movement(row, invoice.currency, states=_states(row).values()) for row in found])


def _states(movement: Movement) -> dict[UUID, SyncState]:
    subjects = subjects_of(g.session, customer_id=movement.customer_id, movement_id=movement.id)
    found: dict[UUID, SyncState] = g.provider.operation_states(
        g.session, customer_id=movement.customer_id, subjects=subjects
    )
    return found
