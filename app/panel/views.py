"""The customer's billing pages under /billing. Whoever is looking sees one customer: the one the link was made for."""

from uuid import UUID, uuid4

import structlog
from flask import Blueprint, Response, abort, g, make_response, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from app.panel import format as formats
from app.panel import sessions
from app.panel.charts import chart_days
from app.panel.credit import buy_credit, credit_page, end_refills, refill_credit
from app.panel.current import BREAKDOWNS, By, CurrentPage, current_page, owed_now, parts, top_of
from app.panel.downloads import invoice_csv, period_csv
from app.panel.early import pay_early
from app.panel.invoice_pages import invoice_page, invoice_rows, line_page
from app.panel.links import LinkError, begin_session, claim_link, close_session
from app.panel.price_page import price_page
from app.panel.sessions import Visitor
from invoicing.drafts import InvoiceNotFound
from invoicing.errors import InvoicingError
from invoicing.explaining import words
from invoicing.explaining.of_line import explain_row
from invoicing.manual.provider import MANUAL
from invoicing.statements import current_period

log = structlog.get_logger()

bp = Blueprint(
    "panel",
    __name__,
    url_prefix=sessions.PATH,
    template_folder="templates",
    static_folder="static",
    static_url_path="/static",
)

SHOWN_INVOICES = 12  # on the first page; all of them have a page of their own

_OPEN_TO_ALL = frozenset({"panel.open_link", "panel.claim", "panel.static"})


@bp.context_processor
def _for_templates() -> dict[str, object]:
    return {"fmt": formats, "visitor": g.get("visitor"), "section": g.get("panel_section")}


@bp.before_request
def _recognise_visitor() -> ResponseReturnValue | None:
    """Find out whose pages these are, before any view reads anything."""
    g.visitor = None
    if request.endpoint in _OPEN_TO_ALL:
        return None
    g.visitor = sessions.visitor_of(
        request, g.session, panel_engine=g.billing.panel_engine, secret_key=g.config.secret_key, now=g.now
    )
    if g.visitor is not None:
        return None
    if request.headers.get("HX-Request") == "true":
        # The page that polls is still open in a tab; reloading it shows the whole message instead of a piece of one.
        return "", 200, {"HX-Refresh": "true"}
    heading, text = "Your billing session is over", "Go back to the platform and open billing again from there."
    return render_template("panel/message.html", heading=heading, text=text), 401


@bp.teardown_request
def _close_reader(_: BaseException | None) -> None:
    visitor: Visitor | None = g.pop("visitor", None)
    if visitor is not None:
        visitor.reader.close()


@bp.after_request
def _keep_private(response: Response) -> Response:
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    if request.endpoint != "panel.static":
        response.headers["Cache-Control"] = "no-store"
    return response


@bp.errorhandler(LinkError)
def _link_refused(error: LinkError) -> ResponseReturnValue:
    return render_template("panel/message.html", heading="This link does not open", text=str(error)), 410


@bp.errorhandler(InvoiceNotFound)
@bp.errorhandler(404)
def _not_found(_error: Exception) -> ResponseReturnValue:
    # The same answer for another customer's invoice as for one that never was.
    page = render_template(
        "panel/message.html",
        heading="Not found",
        text="There is no such page in your billing. It may be an old link.",
        back=url_for(".current"),
        back_label="To billing",
    )
    return page, 404


@bp.get("/open/<token>")
def open_link(token: str) -> ResponseReturnValue:
    """A page with one button. Looking at it, as previewers of links do, uses nothing up."""
    return render_template("panel/open.html", token=token)


@bp.post("/open/<token>")
def claim(token: str) -> ResponseReturnValue:
    """Use the link up and begin the session."""
    link = claim_link(g.session, token=token, now=g.now)
    response = make_response(redirect(url_for(".current"), code=303))
    is_secure = request.is_secure or g.config.public_url.startswith("https:")
    key = begin_session(g.session, link)
    sessions.remember(response, key, secret_key=g.config.secret_key, is_secure=is_secure)
    log.info("panel opened", customer_id=str(link.customer_id))
    return response


@bp.post("/leave")
def leave() -> ResponseReturnValue:
    """End the session, here and wherever else its cookie is."""
    visitor = _visitor()
    close_session(g.session, key=visitor.key)
    visitor.reader.close()
    g.visitor = None
    response = make_response(
        render_template(
            "panel/message.html",
            heading="You left billing",
            text="To come back, open billing from the platform again.",
            back=visitor.return_url,
            back_label="Back to the platform",
        )
    )
    sessions.forget(response)
    return response


@bp.get("/")
def current() -> ResponseReturnValue:
    """This period so far, what is owed now, and the latest invoices."""
    return render_template("panel/current.html", **_current_context())


@bp.get("/current")
def current_part() -> ResponseReturnValue:
    """The part of the first page that refreshes itself."""
    return render_template("panel/_current.html", **_current_context())


@bp.post("/bill-now")
def bill_this_now() -> ResponseReturnValue:
    """Pay early: what was used so far becomes an invoice now. The form names the period, so two clicks make one."""
    visitor = _visitor()
    try:
        invoice_id = pay_early(
            g.session,
            visitor.customer,
            period_start=request.form.get("period_start", ""),
            provider=g.provider,
            settings=g.settings,
            now=g.now,
        )
    except InvoicingError as refusal:
        g.session.rollback()
        return _unavailable(str(refusal), back=url_for(".current"), status=409)
    g.ring("sync_now", visitor.customer.customer_id, invoice_id)
    return redirect(url_for(".invoice", invoice_id=invoice_id), code=303)


@bp.get("/current/<uuid:row_id>")
def current_row(row_id: UUID) -> ResponseReturnValue:
    """Why one row of this period so far is what it is."""
    g.panel_section = "current"
    reader, customer = _visitor().reader, _visitor().customer
    statement = current_period(reader, customer_id=customer.customer_id, now=g.now)
    charge = explain_row(reader, statement, row_id=row_id, for_staff=False)
    if charge is None:  # the period it belonged to is over, or all of it was taken back
        abort(404)
    return render_template("panel/row.html", charge=charge, words=words)


@bp.get("/breakdown")
def breakdown() -> ResponseReturnValue:
    """This period broken down, every row."""
    by, page = _asked_by(), _current_page()
    g.panel_section = "current"
    return render_template("panel/breakdown.html", page=page, by=by, rows=parts(page.statement, by))


@bp.get("/breakdown.csv")
def breakdown_csv() -> ResponseReturnValue:
    """The same as CSV, exact."""
    by, page = _asked_by(), _current_page()
    name = f"usage-{formats.first_day(page.statement.start, page.statement.time_zone).isoformat()}-by-{by}.csv"
    return _csv(period_csv(page.statement, parts(page.statement, by), by), name)


@bp.get("/prices")
def prices() -> ResponseReturnValue:
    """What this customer pays for each item."""
    g.panel_section = "prices"
    page = price_page(_visitor().reader, _visitor().customer, now=g.now)
    return render_template("panel/prices.html", page=page)


@bp.get("/credit")
def credit() -> ResponseReturnValue:
    """What is left of the customer's credit, until when, and forms to buy more, now or by itself."""
    return _credit_page()


@bp.post("/credit")
def buy() -> ResponseReturnValue:
    """Buy credit: its invoice opens. The form has an id of its own, so two clicks buy once."""
    visitor = _visitor()
    try:
        bought = buy_credit(
            g.session,
            visitor.customer,
            amount=request.form.get("amount", ""),
            top_up_id=request.form.get("top_up_id", ""),
            provider=g.provider,
            now=g.now,
        )
    except InvoicingError as refusal:
        g.session.rollback()
        return _credit_page(refused={"buy": str(refusal)}), 422
    if bought.finalized_at == g.now:
        g.ring("sync_now", visitor.customer.customer_id, bought.id)
    return redirect(url_for(".invoice", invoice_id=bought.id), code=303)


@bp.post("/credit/refill")
def refill() -> ResponseReturnValue:
    """Have credit refilled by itself, otherwise than before, or no more. What was said last counts."""
    customer = _visitor().customer
    try:
        if "off" in request.form:
            end_refills(g.session, customer, provider=g.provider, now=g.now)
        else:
            below, amount = request.form.get("below", ""), request.form.get("refill_amount", "")
            refill_credit(g.session, customer, below=below, amount=amount, provider=g.provider, now=g.now)
    except InvoicingError as refusal:
        g.session.rollback()
        return _credit_page(refused={"refill": str(refusal)}), 422
    return redirect(url_for(".credit", _anchor="refill"), code=303)


@bp.get("/invoices")
def invoices() -> ResponseReturnValue:
    """All invoices, the newest first."""
    g.panel_section = "invoices"
    return render_template("panel/invoices.html", rows=invoice_rows(_visitor().reader, _visitor().customer))


@bp.get("/invoices/<uuid:invoice_id>")
def invoice(invoice_id: UUID) -> ResponseReturnValue:
    """One invoice: lines, credits, payments, state."""
    g.panel_section = "invoices"
    visitor = _visitor()
    return render_template(
        "panel/invoice.html",
        page=invoice_page(visitor.reader, visitor.customer, invoice_id=invoice_id),
        bank_details=g.config.bank_details,
    )


@bp.get("/invoices/<uuid:invoice_id>/lines.csv")
def invoice_csv_file(invoice_id: UUID) -> ResponseReturnValue:
    """The invoice's lines as CSV."""
    visitor = _visitor()
    page = invoice_page(visitor.reader, visitor.customer, invoice_id=invoice_id)
    number = page.invoice.number or page.invoice.period_start.date().isoformat()
    return _csv(invoice_csv(visitor.customer, page.invoice, page.lines, page.taxes), f"invoice-{number}.csv")


@bp.get("/invoices/<uuid:invoice_id>/lines/<uuid:line_id>")
def line(invoice_id: UUID, line_id: UUID) -> ResponseReturnValue:
    """What stands behind one line: by day, by app, by region."""
    g.panel_section = "invoices"
    visitor = _visitor()
    page = line_page(visitor.reader, visitor.customer, invoice_id=invoice_id, line_id=line_id)
    days = page.by_day
    chart = chart_days(days, first=min(days), last=max(days), today=max(days)) if len(days) > 1 else None
    title = invoice_page(visitor.reader, visitor.customer, invoice_id=invoice_id).row.title
    return render_template("panel/line.html", page=page, chart=chart, invoice_id=invoice_id, title=title, words=words)


@bp.get("/invoices/<uuid:invoice_id>/payment")
def pay(invoice_id: UUID) -> ResponseReturnValue:
    """On to Stripe's own page of this invoice, where it is paid or looked at."""
    visitor = _visitor()
    customer = visitor.customer
    # Found through the customer first: the provider is never asked about an invoice that is not the visitor's.
    page = invoice_page(visitor.reader, customer, invoice_id=invoice_id)
    back = url_for(".invoice", invoice_id=invoice_id)
    if not page.is_at_provider:
        return _unavailable("There is nothing to pay on this invoice.", back=back, status=404)
    _end_transactions()
    try:
        url = g.provider.hosted_invoice_url(customer_id=customer.customer_id, invoice_id=invoice_id)
    except Exception:  # whatever kept Stripe from answering, the visitor gets a way back
        log.exception("no hosted invoice page", customer_id=str(customer.customer_id), invoice_id=str(invoice_id))
        url = None
    if url is None:
        return _unavailable("Stripe's page for this invoice is not ready. Try again in a few minutes.", back=back)
    return redirect(url, code=303)


@bp.get("/payment-methods")
def payment_methods() -> ResponseReturnValue:
    """On to Stripe's portal, where payment methods are managed."""
    customer_id = _visitor().customer.customer_id
    back = url_for(".current")
    if _visitor().customer.provider == MANUAL:
        return _unavailable("You pay by bank transfer: there is no payment method to manage.", back=back, status=404)
    _end_transactions()
    try:
        url = g.provider.portal_url(customer_id=customer_id, return_url=g.config.public_url + back)
    except Exception:  # whatever kept Stripe from answering, the visitor gets a way back
        log.exception("no customer portal", customer_id=str(customer_id))
        return _unavailable("Stripe does not answer right now. Try again in a few minutes.", back=back)
    return redirect(url, code=303)


def _visitor() -> Visitor:
    visitor: Visitor | None = g.visitor
    if visitor is None:
        abort(401)
    return visitor


def _credit_page(refused: dict[str, str] | None = None) -> str:
    """The page, with what was typed if a form of it was refused: by the form's name, why."""
    g.panel_section = "credit"
    return render_template(
        "panel/credit.html",
        page=credit_page(_visitor().reader, _visitor().customer, now=g.now),
        top_up_id=uuid4(),
        refused=refused or {},
        typed=request.form,
    )


def _end_transactions() -> None:
    """None stays open while another host answers."""
    g.session.commit()
    _visitor().reader.commit()


def _asked_by() -> By:
    asked = request.args.get("by", "item")
    return next((by for by in BREAKDOWNS if by == asked), "item")


def _current_page() -> CurrentPage:
    return current_page(_visitor().reader, _visitor().customer, now=g.now)


def _current_context() -> dict[str, object]:
    g.panel_section = "current"
    by, page = _asked_by(), _current_page()
    rows = invoice_rows(_visitor().reader, _visitor().customer)
    top, others = top_of(parts(page.statement, by))
    return {
        "page": page,
        "by": by,
        "top": top,
        "others": others,
        "invoices": rows,
        "owed": owed_now(rows),
        "shown_invoices": SHOWN_INVOICES,
    }


def _unavailable(text: str, *, back: str, status: int = 503) -> ResponseReturnValue:
    page = render_template(
        "panel/message.html", heading="Not available right now", text=text, back=back, back_label="Back"
    )
    return page, status


def _csv(text: str, name: str) -> Response:
    response = make_response(text)
    response.headers["Content-Type"] = "text/csv; charset=utf-8"
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response
