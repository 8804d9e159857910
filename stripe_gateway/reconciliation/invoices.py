"""Invoices: each of ours stands at Stripe once, with our number, total, customer and state."""

from decimal import Decimal
from uuid import UUID

from sqlalchemy import and_, or_, select, tuple_
from sqlalchemy.orm import Session

from invoicing.tables import Invoice
from stripe_gateway import amounts, outbox
from stripe_gateway.client import Json
from stripe_gateway.errors import NotThere, Refused
from stripe_gateway.ownership import Owner
from stripe_gateway.reconciliation import payments
from stripe_gateway.reconciliation.beliefs import Belief, belief_of, beliefs_of
from stripe_gateway.reconciliation.comparison import PAGE, Comparison
from stripe_gateway.recovery import final_problems
from stripe_gateway.tables import StripeSync

ENDED = ("void", "uncollectible")


def listed(work: Comparison, cursor: str | None) -> str | None:
    """A page of the invoices that were made at Stripe within the window."""
    page = work.page("invoices", cursor)
    compare(work, page.data)
    return page.after


def still_open(work: Comparison, cursor: str | None) -> str | None:
    """A page of those that are open there, however old."""
    return _of_status(work, "open", cursor)


def given_up(work: Comparison, cursor: str | None) -> str | None:
    """A page of those that are uncollectible there, however old: they can still be paid."""
    return _of_status(work, "uncollectible", cursor)


def _of_status(work: Comparison, status: str, cursor: str | None) -> str | None:
    if not work.place.is_open_ended:
        return None
    page = work.page("invoices", cursor, in_window=False, status=status)
    unseen = work.unseen([invoice["id"] for invoice in page.data])
    compare(work, [invoice for invoice in page.data if invoice["id"] in unseen])
    return page.after


def ours(work: Comparison, cursor: str | None) -> str | None:
    """A page of our own invoices that no list has shown: each is read by itself."""
    rows = _page_of_ours(work, cursor)
    wanted = work.unseen([sync.external_id for sync in rows if sync.external_id])
    for sync in rows:
        if sync.state != "done":
            work.count("pending")
        elif sync.external_id in wanted:
            examine(work, str(sync.external_id))
    if len(rows) < PAGE:
        return None
    return f"{rows[-1].customer_id} {rows[-1].invoice_id}"


def _page_of_ours(work: Comparison, cursor: str | None) -> list[StripeSync]:
    unsettled = or_(Invoice.state.in_(("final", "uncollectible")), StripeSync.external_status.in_(("open",)))
    in_window = StripeSync.done_at >= work.place.run.window_from
    if work.place.run.asked_to is not None:
        in_window = and_(in_window, StripeSync.done_at <= work.place.run.asked_to)
    query = (
        select(StripeSync)
        .join(Invoice, (Invoice.customer_id == StripeSync.customer_id) & (Invoice.id == StripeSync.invoice_id))
        .where(StripeSync.state != "canceled")
        .order_by(StripeSync.customer_id, StripeSync.invoice_id)
        .limit(PAGE)
    )
    if not work.is_full:
        query = query.where(or_(in_window, unsettled) if work.place.is_open_ended else in_window)
    if cursor is not None:
        after = tuple(UUID(part) for part in cursor.split())
        query = query.where(tuple_(StripeSync.customer_id, StripeSync.invoice_id) > after)
    with Session(work.engine, expire_on_commit=False) as session:
        return list(session.scalars(query))


def examine(work: Comparison, external_id: str) -> None:
    """Read one invoice and compare it."""
    try:
        compare(work, [work.client.read("invoices", external_id)])
    except NotThere:
        owner = work.owners([external_id]).get(external_id)
        belief = belief_of(work.engine, Owner(owner.customer_id, owner.invoice_id)) if owner else None  # type: ignore[arg-type]  # an invoice's owner names it
        if belief is not None and belief.sync.external_id == external_id:
            work.count("invoices")
            text = f"{belief.label} stood at Stripe as {external_id}, which is not there any more."
            work.differ("missing_at_stripe", external_id, text, owner=belief.owner)


def compare(work: Comparison, invoices: list[Json]) -> None:
    """Compare invoices as Stripe shows them with our side as it is now."""
    owners = _owners(work, invoices)
    beliefs = beliefs_of(work.engine, owners.values())
    customers = work.owners(invoice["customer"] for invoice in invoices)
    work.see(invoice["id"] for invoice in invoices)
    for invoice in invoices:
        owner = owners.get(invoice["id"])
        belief = beliefs.get(owner) if owner else None
        if belief is not None:
            _compare_one(work, belief, invoice)
        elif invoice["status"] in ("draft", "void"):
            continue  # nothing is collected by it
        elif (invoice.get("metadata") or {}).get("ledger_invoice_id"):
            named = invoice["metadata"]["ledger_invoice_id"]
            text = f"{invoice['id']} says it is our invoice {named}, which was never sent from here."
            whose = customers.get(invoice["customer"])
            work.differ("unknown_invoice", invoice["id"], text, customer_id=whose.customer_id if whose else None)
        elif invoice["customer"] in customers:
            text = (
                f"{invoice['id']} over {_money(invoice['total'], invoice)} was made there for {invoice['customer']}; "
                f"it is {invoice['status']}."
            )
            work.differ("foreign_invoice", invoice["id"], text, customer_id=customers[invoice["customer"]].customer_id)


def _owners(work: Comparison, invoices: list[Json]) -> dict[str, Owner]:
    """Our invoice behind each: what we know of the id decides, else our ids in its metadata."""
    known = work.owners(invoice["id"] for invoice in invoices)
    found = {}
    for invoice in invoices:
        row = known.get(invoice["id"])
        metadata = invoice.get("metadata") or {}
        if row is not None and row.invoice_id is not None:
            found[invoice["id"]] = Owner(row.customer_id, row.invoice_id)
            continue
        try:
            found[invoice["id"]] = Owner(UUID(metadata["ledger_customer_id"]), UUID(metadata["ledger_invoice_id"]))
        except (KeyError, ValueError):
            continue
    return found


def _compare_one(work: Comparison, belief: Belief, invoice: Json) -> None:
    sync = belief.sync
    is_the_one = sync.state == "done" and sync.external_id == invoice["id"]
    if invoice["status"] == "draft":
        if sync.state in ("done", "canceled") and not is_the_one:
            _remove_draft(work, belief, invoice["id"])
        return  # while a sync is under way a draft may be its own, whose answer was lost; it will find it
    if not is_the_one and invoice["status"] == "void":
        return  # an earlier attempt that was taken back
    if sync.state == "canceled" or (sync.state == "done" and not is_the_one):
        text = (
            f"{belief.label} stands at Stripe again as {invoice['id']} ({_money(invoice['total'], invoice)}, "
            f"{invoice['status']}); ours is {sync.external_id or 'void'}."
        )
        work.differ("duplicate_at_stripe", invoice["id"], text, owner=belief.owner)
        return
    if is_the_one:
        work.count("invoices")
    problems = final_problems(sync, invoice, customer=belief.customer or invoice["customer"])
    named = (invoice.get("metadata") or {}).get("ledger_invoice_id")
    if named != str(sync.invoice_id):
        problems.append(f"Its metadata name {named or 'no invoice'}, not {sync.invoice_id}.")
    if problems:
        text = f"{belief.label}, {invoice['id']}: {' '.join(problems)}"
        work.differ("invoice_differs", invoice["id"], text, owner=belief.owner)
        return
    _compare_status(work, belief, invoice)


def _remove_draft(work: Comparison, belief: Belief, draft: str) -> None:
    try:
        work.client.delete_draft(draft)
    except Refused as refusal:
        work.differ("orphan_draft", draft, f"{draft} belongs to nothing: {refusal}", owner=belief.owner)
        return
    text = f"{draft} was left over from {belief.label.lower()}; it was deleted."
    work.repair("orphan_draft", draft, text, lambda session: None, owner=belief.owner)  # noqa: ARG005 - only the note


def _compare_status(work: Comparison, belief: Belief, invoice: Json) -> None:
    sync, status = belief.sync, invoice["status"]
    if sync.state != "done" or status != sync.external_status:
        text = f"{belief.label} is {status} at Stripe; we had not heard of it."
        repaired = work.repair(
            "status_behind",
            invoice["id"],
            text,
            lambda session: outbox.confirm(session, sync.customer_id, sync.invoice_id, invoice, now=work.now),
            owner=belief.owner,
        )
        if not repaired:
            return
        if sync.state != "done":
            work.count("invoices")
    if amounts.from_minor(invoice["amount_paid"], invoice["currency"]) > belief.received:
        payments.compare_of(work, invoice["id"])
        belief = belief_of(work.engine, belief.owner) or belief
    if _agrees(belief, invoice):
        return
    # We read Stripe first: what we have done there since is no difference. Read it again, now that ours is known.
    if work.is_being_changed(belief.owner):
        work.count("pending")
        return
    try:
        fresh = work.client.read("invoices", invoice["id"])
    except NotThere:
        return  # the next run names it
    if not _agrees(belief, fresh):
        _name_state(work, belief, fresh)


def _agrees(belief: Belief, invoice: Json) -> bool:
    """Whether the states on both sides say the same."""
    if invoice["status"] == "paid" and _credited(invoice) > belief.amount_credited:
        return True  # a credit note did it, which is compared by itself
    return belief.state == {"open": "final"}.get(invoice["status"], invoice["status"])


def _credited(invoice: Json) -> Decimal:
    return amounts.from_minor(invoice.get("pre_payment_credit_notes_amount") or 0, invoice["currency"])


def _name_state(work: Comparison, belief: Belief, invoice: Json) -> None:
    status, state, external_id = invoice["status"], belief.state, invoice["id"]
    text = f"{belief.label} is {status} at Stripe and {'open' if state == 'final' else state} here."
    if status in ENDED:
        kind = f"{status}_at_stripe_only"
    elif state in ENDED:
        kind = f"{state}_here_only"
    elif status == "open":
        kind = "paid_here_only"
    elif invoice["amount_due"] == 0 and belief.sync.amount_due_minor > 0:
        kind = "paid_without_money"
        text = f"{belief.label} is paid at Stripe from a balance there, without money; here it is open."
    else:
        kind = "paid_outside_at_stripe"
        off = invoice.get("amount_paid_off_stripe") or invoice["amount_paid"]
        text = f"{belief.label} was marked at Stripe as paid outside, {_money(off, invoice)}; here it is open."
    work.differ(kind, external_id, text, owner=belief.owner)


def _money(amount_minor: int, invoice: Json) -> str:
    currency = invoice["currency"].upper()
    return f"{amounts.from_minor(amount_minor, currency)} {currency}"
