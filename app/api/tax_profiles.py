"""Where a customer is taxed, over HTTP."""

from uuid import UUID

from flask import g, jsonify
from flask.typing import ResponseReturnValue

from app.api import rendering
from app.api.blueprint import bp
from app.api.requests import read_body
from app.api.schemas import TaxProfileSchema
from invoicing.customers import get_customer
from invoicing.tax.profiles import TaxDetails, set_tax_profile, tax_profiles_of


@bp.put("/customers/<uuid:customer_id>/tax_profile")
def put_tax_profile(customer_id: UUID) -> ResponseReturnValue:
    """Write a version of the customer's tax profile: 201; the same again: 200, and nothing changes."""
    wanted = dict(read_body(TaxProfileSchema()))
    reason, valid_from = wanted.pop("reason"), wanted.pop("valid_from")
    profile, is_new = set_tax_profile(
        g.session,
        customer_id=customer_id,
        details=TaxDetails(**wanted),
        seller_country=g.settings.seller_country,
        valid_from=valid_from,
        reason=reason,
        actor=g.actor,
        now=g.now,
    )
    return jsonify(rendering.tax_profile(profile)), 201 if is_new else 200


@bp.get("/customers/<uuid:customer_id>/tax_profile")
def show_tax_profile(customer_id: UUID) -> ResponseReturnValue:
    """Every version of the customer's tax profile, the one written last first; none: not taxed."""
    get_customer(g.session, customer_id=customer_id)
    found = tax_profiles_of(g.session, customer_id=customer_id)
    return jsonify(tax_profiles=[rendering.tax_profile(profile) for profile in found])
