"""The endpoint that Stripe calls."""

from flask import Blueprint, current_app, g, jsonify, request
from flask.typing import ResponseReturnValue

from app.composition import Billing

bp = Blueprint("hooks", __name__, url_prefix="/webhooks")


@bp.post("/stripe")
def stripe() -> ResponseReturnValue:
    """Verify the signature on the raw bytes, store the event under its id, answer 200; a job handles it."""
    billing: Billing = current_app.extensions["billing"]
    event_id = billing.provider.receive(
        g.session, body=request.get_data(), signature=request.headers.get("Stripe-Signature", ""), now=g.now
    )
    g.ring("event", event_id)
    return jsonify(received=event_id)
