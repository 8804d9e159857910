"""Where a customer is taxed: its versions on the customer's page, and the form that writes one."""

from datetime import UTC, datetime, time
from uuid import UUID

from flask import g, render_template, url_for
from flask.typing import ResponseReturnValue

from invoicing.customers import get_customer
from invoicing.tax.ids import FORMS, title_of
from invoicing.tax.profiles import (
    STATUSES,
    TaxDetails,
    TaxProfileRefused,
    closed_through,
    profile_at,
    set_tax_profile,
    tax_profiles_of,
)
from invoicing.tax.tables import TaxProfile
from support_ui.access import actor, needs
from support_ui.forms import ON_FORM, Form, TaxPlace, read_form
from support_ui.site import answer_form, bp, say
from support_ui.wording import TAX_STATUSES


@bp.get("/customers/<uuid:customer_id>/tax")
def tax_profile(customer_id: UUID) -> ResponseReturnValue:
    """How the customer is taxed, since when, and every version before."""
    return render_template("support/customers/tax.html", **_context(customer_id))


@bp.post("/customers/<uuid:customer_id>/tax")
@needs("agent")
def change_tax_profile(customer_id: UUID) -> ResponseReturnValue:
    """Write a version of the tax profile. A double click writes one."""
    form = read_form(TaxPlace, name="tax")
    if form.is_valid:
        day = form.values["valid_from"]
        try:
            _, is_new = set_tax_profile(
                g.session,
                customer_id=customer_id,
                details=TaxDetails(
                    country=form.values["country"],
                    state=form.values["state"] or None,
                    tax_id=form.values["tax_id"] or None,
                    tax_id_type=form.values["tax_id_type"] or None,
                    status=form.values["status"] or None,
                    legal_note=form.values["legal_note"] or None,
                ),
                seller_country=g.settings.seller_country,
                valid_from=None if day is None else datetime.combine(day, time(), UTC),
                reason=form.values["reason"],
                actor=actor(),
                now=g.now,
            )
        except TaxProfileRefused as error:
            g.session.rollback()
            for field, _, message in error.problems:
                form.refuse(message, at=field if field in TaxPlace().fields else ON_FORM)
        else:
            say("The tax profile is written." if is_new else "This counts already; nothing was changed.")
            form = Form("tax")
    return answer_form(
        page="support/customers/tax.html",
        fragment="support/customers/_tax.html",
        status=422 if form.errors else 200,
        context=_context(customer_id, form=form),
        done_at=url_for(".tax_profile", customer_id=customer_id),
    )


def _context(customer_id: UUID, *, form: Form | None = None) -> dict[str, object]:
    current: TaxProfile | None = profile_at(g.session, customer_id=customer_id, at=g.now)
    return {
        "customer": get_customer(g.session, customer_id=customer_id),
        "current": current,
        "versions": tax_profiles_of(g.session, customer_id=customer_id),
        "closed_through": closed_through(g.session, customer_id=customer_id),
        "status_choices": [("", "As the rules say"), *((status, TAX_STATUSES[status]) for status in STATUSES)],
        "tax_id_choices": [("", "None"), *((kind, title_of(kind)) for kind in FORMS)],
        "title_of": title_of,
        "form": form,
    }
