"""One invoice or draft: the page, the lines with what stands behind them, its state at the provider."""

from uuid import UUID

from flask import abort, g, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue

from invoicing.drafts import get_invoice
from invoicing.history import record
from support_ui.access import actor, needs, wants_fragment
from support_ui.adjustments import INVOICE
from support_ui.invoice_page import answer, open_line, page_context
from support_ui.site import FRAGMENT, bp, refusal_text, say


@bp.get(INVOICE)
def invoice(customer_id: UUID, invoice_id: UUID) -> ResponseReturnValue:
    """Everything about one invoice."""
    return render_template("support/invoices/show.html", **page_context(customer_id, invoice_id))


@bp.get(f"{INVOICE}/lines/<uuid:line_id>")
def line(customer_id: UUID, invoice_id: UUID, line_id: UUID) -> ResponseReturnValue:
    """Why this line: the entries that add up to it, and the forms that correct it."""
    context = page_context(customer_id, invoice_id)
    context["opened"] = open_line(context["view"], line_id, before_seq=request.args.get("before", type=int))
    if context["opened"] is None:
        abort(404)
    if wants_fragment():
        return render_template("support/invoices/_line.html", **context), {FRAGMENT: "1"}
    return render_template("support/invoices/line.html", **context)


@bp.post(f"{INVOICE}/sync_retry")
@needs("agent")
def retry_sync(customer_id: UUID, invoice_id: UUID) -> ResponseReturnValue:
    """Make a parked or waiting sync due now, and note who asked."""
    invoice = get_invoice(g.session, customer_id=customer_id, invoice_id=invoice_id).invoice
    try:
        g.provider.retry(g.session, customer_id=customer_id, invoice_id=invoice_id, actor=actor(), now=g.now)
    except Exception as error:
        # The provider's refusals are classes of a room that this one must not import; what is none goes on.
        text = refusal_text(error)
        if text is None:
            raise
        g.session.rollback()
        say(text, "bad")
        return answer(customer_id, invoice_id, status=409)
    record(g.session, invoice, action="sync to be tried again", actor=actor(), now=g.now)
    g.ring("sync_now", customer_id, invoice_id)
    say("The sync is due now. A worker takes it up within moments.")
    return answer(customer_id, invoice_id)


@bp.get(f"{INVOICE}/hosted_page")
def hosted_page(customer_id: UUID, invoice_id: UUID) -> ResponseReturnValue:
    """On to the provider's own page for this invoice, by a fresh link."""
    # The link costs an HTTP call, and none is made inside a database transaction.
    g.session.commit()
    try:
        url = g.provider.hosted_invoice_url(customer_id=customer_id, invoice_id=invoice_id)
    except Exception as error:
        text = refusal_text(error)
        if text is None:
            raise
        say(f"The link could not be fetched: {text}", "bad")
        return redirect(url_for(".invoice", customer_id=customer_id, invoice_id=invoice_id), code=303)
    if url is None:
        say("This invoice has no page at the provider (yet).", "info")
        return redirect(url_for(".invoice", customer_id=customer_id, invoice_id=invoice_id), code=303)
    return redirect(url, code=303)
