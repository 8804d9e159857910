"""Explanations as JSON, for the command and the API alike: exact amounts are text, times end in Z."""

from decimal import Decimal
from typing import Any

from app.api.rendering import instant, number
from invoicing.explaining.answers import (
    BalanceExplained,
    Calculation,
    EntryExplained,
    Explained,
    InvoiceExplained,
    LineExplained,
    Owner,
)
from invoicing.tables import Invoice
from ledger.explain import Explanation, Part
from ledger.selections import Anything, Selection
from ledger.tables import Entry, PeriodRow


def explained(found: Explained) -> dict[str, Any]:
    """Whatever was explained; `kind` says which of the shapes it is."""
    if isinstance(found, EntryExplained):
        return {"kind": "entry", **entry_explained(found)}
    if isinstance(found, LineExplained):
        return {"kind": "line", **_line(found)}
    if isinstance(found, InvoiceExplained):
        return {"kind": "invoice", **_invoice(found)}
    return {"kind": "balance", **_balance(found)}


def entry_explained(found: EntryExplained) -> dict[str, Any]:
    """One entry with its cause and everything around it."""
    story = found.story
    return {
        "customer": _owner(found.owner),
        "entry": entry(story.entry),
        "cause": found.cause,
        "placement": found.placement,
        "period": _period(story.period),
        "usage_period": _period(story.usage_period),
        "legs": [entry(leg) for leg in story.legs],
        "leg_count": story.leg_count,
        "reverses": None if story.reverses is None else entry(story.reverses),
        "reversed_by": None if story.reversed_by is None else entry(story.reversed_by),
        "document": None
        if story.document is None
        else {
            "id": str(story.document.id),
            "kind": story.document.kind,
            "created_at": instant(story.document.created_at),
        },
        "sealed": None
        if story.sealed is None
        else {
            "first_seq": story.sealed.first_seq,
            "last_seq": story.sealed.last_seq,
            "sealed_at": instant(story.sealed.sealed_at),
        },
        "invoice": _invoice_named(found.invoice),
        "line_id": None if found.line is None else str(found.line.id),
        "calculation": _calculation(found.calculation, story.entry.amount),
        "adjustment": _adjustment(found),
        "payment": _payment(found),
        "grant": None
        if found.grant is None
        else {"id": str(found.grant.id), "actor": found.grant.actor, "reason": found.grant.reason},
    }


def entry(row: Entry) -> dict[str, Any]:
    """One row of the journal, every column of it."""
    return {
        "id": str(row.id),
        "customer_id": str(row.customer_id),
        "transaction_id": str(row.transaction_id),
        "seq": row.seq,
        "kind": row.kind,
        "debit_account": row.debit_account,
        "credit_account": row.credit_account,
        "amount": number(row.amount),
        "quantity": number(row.quantity),
        "item": row.item,
        "price_id": _id(row.price_id),
        "effective_at": instant(row.effective_at),
        "recorded_at": instant(row.recorded_at),
        "period_start": instant(row.period_start),
        "usage_period_start": instant(row.usage_period_start),
        "document_id": _id(row.document_id),
        "reverses_id": _id(row.reverses_id),
        "labels": row.labels,
        "actor": row.actor,
        "reason": row.reason,
        "digest": bytes(row.digest).hex(),
    }


def _line(found: LineExplained) -> dict[str, Any]:
    line = found.line
    return {
        "customer": _owner(found.owner),
        "invoice": _invoice_named(found.invoice),
        "line": {
            "id": str(line.id),
            "position": line.position,
            "description": line.description,
            "item": line.item,
            "quantity": number(line.quantity),
            "amount": number(line.amount),
            "rounded": number(line.rounded),
            "taxes": [
                {"title": tax.title, "amount": number(tax.amount), "inclusive": tax.inclusive} for tax in found.taxes
            ],
        },
        "calculation": _calculation(found.calculation, line.amount),
        "explanation": None if found.explanation is None else _explanation(found.explanation),
        "correction": None if found.correction is None else entry_explained(found.correction),
    }


def _invoice(found: InvoiceExplained) -> dict[str, Any]:
    invoice = found.view.invoice
    return {
        "customer": _owner(found.owner),
        "invoice": {
            **(_invoice_named(invoice) or {}),
            "exact_total": number(found.view.exact_total),
            "tax": number(invoice.tax),
            "tax_included": number(invoice.tax_included),
            "total": number(invoice.total),
            "credits_applied": number(invoice.credits_applied),
            "amount_due": number(invoice.amount_due),
            "amount_paid": number(invoice.amount_paid),
        },
        "lines": [
            {
                "id": str(line.id),
                "description": line.description,
                "amount": number(line.amount),
                "rounded": number(line.rounded),
            }
            for line in found.view.lines
        ],
        "history": [
            {"at": instant(row.at), "actor": row.actor, "action": row.action, "reason": row.reason}
            for row in found.view.history
        ],
        "parts": [{"title": part.title, **_explanation(part.explanation)} for part in found.parts],
    }


def _balance(found: BalanceExplained) -> dict[str, Any]:
    return {
        "customer": _owner(found.owner),
        "account": found.account,
        "explanation": _explanation(found.explanation),
    }


def _explanation(found: Explanation) -> dict[str, Any]:
    return {
        "selection": _selection(found.selection),
        "total": number(found.total),
        "quantity": number(found.quantity),
        "count": found.count,
        "by_item": [_part(part) for part in found.by_item],
        "by_day": [_part(part) for part in found.by_day],
        "by_contra_account": [_part(part) for part in found.by_contra],
        "entries": [entry(row) for row in found.entries],
        "next_after": found.next_after,
    }


def _part(part: Part) -> dict[str, Any]:
    return {
        "key": None if part.key is None else str(part.key),
        "amount": number(part.amount),
        "quantity": number(part.quantity),
        "entries": part.entries,
    }


def _selection(selection: Selection) -> dict[str, Any]:
    """Only the filters that narrow; null is a filter too."""
    given = {name: getattr(selection, name) for name in Selection.__dataclass_fields__}
    return {
        name: value.isoformat() if hasattr(value, "isoformat") else None if value is None else str(value)
        for name, value in given.items()
        if not isinstance(value, Anything)
    }


def _owner(owner: Owner) -> dict[str, Any]:
    return {
        "id": str(owner.customer_id),
        "external_id": owner.external_id,
        "name": owner.name,
        "currency": owner.currency,
        "time_zone": owner.time_zone,
    }


def _calculation(found: Calculation | None, amount: Decimal) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "price_id": str(found.price_id),
        "item": found.item,
        "unit": found.unit,
        "unit_amount": number(found.unit_amount),
        "valid_from": instant(found.valid_from),
        "valid_until": instant(found.valid_until),
        "published_by": found.published_by,
        "quantity": number(found.quantity),
        "product": number(found.product),
        "is_the_amount": found.product == amount,
    }


def _invoice_named(invoice: Invoice | None) -> dict[str, Any] | None:
    if invoice is None:
        return None
    return {
        "id": str(invoice.id),
        "number": invoice.number,
        "state": invoice.state,
        "period_start": instant(invoice.period_start),
        "period_end": instant(invoice.period_end),
    }


def _period(period: PeriodRow | None) -> dict[str, Any] | None:
    if period is None:
        return None
    return {
        "start": instant(period.start_at),
        "end": instant(period.end_at),
        "state": period.state,
        "closed_at": instant(period.closed_at),
    }


def _adjustment(found: EntryExplained) -> dict[str, Any] | None:
    adjustment = found.adjustment
    if adjustment is None:
        return None
    return {
        "id": str(adjustment.id),
        "kind": adjustment.kind,
        "description": adjustment.description,
        "reason": adjustment.reason,
        "actor": adjustment.actor,
        "created_at": instant(adjustment.created_at),
        "approved_by": adjustment.approved_by,
        "approved_at": instant(adjustment.approved_at),
        "undone_by": adjustment.undone_by,
        "undone_at": instant(adjustment.undone_at),
        "undo_reason": adjustment.undo_reason,
    }


def _payment(found: EntryExplained) -> dict[str, Any] | None:
    payment = found.payment
    if payment is None:
        return None
    return {
        "provider": payment.provider,
        "external_id": payment.external_id,
        "amount": number(payment.amount),
        "applied": number(payment.applied),
        "received_at": instant(payment.received_at),
    }


def _id(value: object) -> str | None:
    return None if value is None else str(value)
