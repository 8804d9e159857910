"""Finding a customer, and the page that says how they stand."""

from decimal import Decimal
from uuid import UUID, uuid4

from flask import abort, g, render_template, request, url_for
from flask.typing import ResponseReturnValue

from invoicing import drafts, statements
from invoicing.credit.grants import GRANTABLE, grant_credit
from invoicing.credit.refills import refill_of
from invoicing.customers import get_customer, search_customers
from invoicing.early_bills import early_bills_of, threshold_of
from invoicing.errors import InvoicingError
from invoicing.explaining import words
from invoicing.explaining.of_line import charge_of_row, explain_row
from invoicing.plans.catalogue import PlanTerms, list_plans
from invoicing.subscriptions import subscription_at, subscriptions_of
from invoicing.tables import Invoice
from invoicing.tax.profiles import profile_at
from ledger.accounts import CREDITS_GOODWILL
from ledger.balances import balances
from support_ui.access import actor, needs, wants_fragment
from support_ui.agreements import agreed_with
from support_ui.credit import credits_of, end_of
from support_ui.evidence import signed
from support_ui.forms import FIELD_OF_CODE, ON_FORM, Form, Grant, read_form
from support_ui.home import parked_of
from support_ui.site import FRAGMENT, answer_form, bp, say
from support_ui.wording import MAIN_ACCOUNTS

FOUND = 50
RECENT_ENTRIES = 12
INVOICES = 60  # five years of months
EARLY_BILLS = 10
PARTS = 10  # rows of each breakdown on the page


@bp.get("/customers")
def customer_search() -> ResponseReturnValue:
    """Customers by name, e-mail, external id, invoice number or id."""
    query = request.args.get("q", "").strip()[:200]
    found = search_customers(g.session, query=query, limit=FOUND + 1)
    context = {"query": query, "found": found[:FOUND], "is_cut": len(found) > FOUND}
    if wants_fragment():
        return render_template("support/customers/_results.html", **context), {FRAGMENT: "1"}
    return render_template("support/customers/index.html", **context)


@bp.get("/customers/<uuid:customer_id>")
def customer(customer_id: UUID) -> ResponseReturnValue:
    """How one customer stands: balances, this period, invoices, credits, the latest entries."""
    return render_template("support/customers/show.html", **_context(customer_id))


@bp.get("/customers/<uuid:customer_id>/current/<uuid:row_id>")
def current_row(customer_id: UUID, row_id: UUID) -> ResponseReturnValue:
    """Why a row of the period so far is what it is."""
    found = get_customer(g.session, customer_id=customer_id)
    period = statements.current_period(g.session, customer_id=customer_id, now=g.now)
    charge = explain_row(g.session, period, row_id=row_id)
    if charge is None:  # the period it belonged to is over, or all of it was taken back
        abort(404)
    return render_template("support/customers/row.html", customer=found, period=period, charge=charge, said=words)


@bp.post("/customers/<uuid:customer_id>/credits")
@needs("agent")
def grant(customer_id: UUID) -> ResponseReturnValue:
    """Give goodwill or promotional credit. The form's own id makes a double click one grant."""
    form = read_form(Grant, name="grant")
    if form.is_valid:
        try:
            last_day = form.values.pop("last_day")
            given = grant_credit(
                g.session,
                customer_id=customer_id,
                actor=actor(),
                now=g.now,
                expires_at=end_of(last_day) if last_day else None,
                **form.values,
            )
        except InvoicingError as error:
            g.session.rollback()
            form.refuse(str(error), at=FIELD_OF_CODE.get(error.code, ON_FORM))
        else:
            if given.created_at == g.now:
                say("The credit is granted.")
            else:
                say("This credit was granted already; it was not granted twice.", "info")
            form = Form("grant")
    return answer_form(
        page="support/customers/show.html",
        fragment="support/customers/_credits.html",
        status=422 if form.errors else 200,
        context=_context(customer_id, form=form),
        done_at=url_for(".customer", customer_id=customer_id) + "#credits",
    )


def _context(customer_id: UUID, *, form: Form | None = None) -> dict[str, object]:
    found = get_customer(g.session, customer_id=customer_id)
    held = balances(g.session, customer_id=customer_id)
    period = statements.current_period(g.session, customer_id=customer_id, now=g.now)
    others = [
        statement
        for statement in statements.unbilled_periods(g.session, customer_id=customer_id)
        if statement.start != period.start
    ]
    invoices = drafts.list_invoices(g.session, customer_id=customer_id, limit=INVOICES)
    entries = statements.list_entries(g.session, customer_id=customer_id, limit=RECENT_ENTRIES)
    return {
        "customer": found,
        "main_balances": [(code, held.get(code, Decimal(0))) for code in MAIN_ACCOUNTS],
        "other_balances": [(code, amount) for code, amount in held.items() if code not in MAIN_ACCOUNTS],
        "period": period,
        "other_periods": others,
        "parts_shown": PARTS,
        "row_ids": [charge_of_row(period, row).row_id for row in period.items],
        "invoices": invoices,
        "syncs": g.provider.sync_states(g.session, [(customer_id, invoice.id) for invoice in invoices]),
        "drafts_total": _drafts_total(invoices),
        "parked": parked_of(g.session, customer_id),
        "plan_now": subscription_at(g.session, customer_id=customer_id, at=g.now),
        "plans_held": subscriptions_of(g.session, customer_id=customer_id),
        "plans_offered": _plans_offered(found.currency),
        "agreed": agreed_with(g.session, found, now=g.now),
        "early_bills": early_bills_of(g.session, customer_id=customer_id, limit=EARLY_BILLS),
        "threshold": threshold_of(g.session, customer_id=customer_id),
        "credits": credits_of(g.session, customer_id=customer_id, now=g.now),
        "top_up_id": uuid4(),
        "refill": refill_of(g.session, customer_id=customer_id),
        "tax_profile": profile_at(g.session, customer_id=customer_id, at=g.now),
        "entries": entries,
        "signed": signed,
        "form": form,
        "grant_id": (form.typed.get("grant_id") if form and form.errors else None) or uuid4(),
        "default_credit": CREDITS_GOODWILL,
        "grantable": GRANTABLE,
    }


def _plans_offered(currency: str) -> list[PlanTerms]:
    """What a customer of this currency can have now: of each plan and interval the version that holds."""
    newest = {
        (terms.plan, terms.interval): terms
        for terms in list_plans(g.session)
        if terms.currency == currency and terms.valid_from <= g.now
    }
    return sorted(newest.values(), key=lambda terms: (terms.fee, terms.plan))


def _drafts_total(invoices: list[Invoice]) -> dict[UUID, Decimal]:
    """The exact totals of those invoices that are drafts, and so have none of their own yet."""
    totals: dict[UUID, Decimal] = {}
    for invoice in invoices:
        if invoice.state == "draft":
            lines = drafts.lines_of(g.session, customer_id=invoice.customer_id, invoice_id=invoice.id)
            totals[invoice.id] = sum((line.amount for line in lines), Decimal(0))
    return totals
